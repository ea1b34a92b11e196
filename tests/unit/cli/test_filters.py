# What `outcomes` is asked for: which outcomes and which waiting commands match, and since when.

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from worker.broker.batch_search import contains
from worker.cli.filters import Filters, parse_time
from worker.domain.contract.command_decoding import CommandDecoder
from worker.domain.contract.outcomes import Outcome, Result, ResultStatus, Source, Status, Worker
from worker.domain.engine_settings import EngineSettings
from worker.printable_text import is_utf8, plain

NOW = 1_800_000_000.0


class Sent(Struct):
    """A record of the command topic."""

    value: bytes | None
    headers: list[tuple[str, bytes | None]] = []
    partition: int = 0
    offset: int = 0
    key: bytes | None = None


DECODER = CommandDecoder(EngineSettings("commands", 6, {"main": "admin"}, "main", Worker("w", "0")))


def asks(asked: Filters, value: bytes | None, *headers: tuple[str, bytes | None]) -> bool:
    """Whether a command that waits is meant, as the worker reads it."""
    return asked.matches_command(DECODER.decode(Sent(value, list(headers))))


def outcome(**changes: Any) -> bytes:
    fields = {
        "outcome_id": "moderation.commands-3-7",
        "command_id": "ban-1",
        "status": "succeeded",
        "group_id": "group-42",
        "results": [{"user_id": "user-1", "status": "applied"}, {"user_id": "üser-2", "status": "applied"}],
        "request_ids": ["Id-1", "Id-2"],
    }
    return json.dumps(fields | changes, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "asked",
    [
        {"command_id": "ban-1"},
        {"user": "user-1"},
        {"user": "üser-2"},
        {"target": "group-42"},
        {"request_id": "Id-2"},
        {"outcome_id": "moderation.commands-3-7"},
        {"user": "user-1", "target": "group-42"},
    ],
    ids=str,
)
def test_an_outcome_is_meant_by_each_trait_that_it_has(asked: dict[str, str]) -> None:
    assert Filters.of(**asked).matches_outcome(outcome())


@pytest.mark.parametrize(
    "asked",
    [
        {"command_id": "ban-10"},
        {"command_id": "an-1"},
        {"command_id": "user-1"},
        {"user": "ban-1"},
        {"user": "group-42"},
        {"target": "user-1"},
        {"request_id": "Id-3"},
        {"outcome_id": "moderation.commands-3"},
        {"user": "user-1", "target": "group-43"},
    ],
    ids=str,
)
def test_a_text_in_another_field_or_that_is_only_a_part_of_one_means_nothing(asked: dict[str, str]) -> None:
    assert not Filters.of(**asked).matches_outcome(outcome())


def test_a_rejected_outcome_is_found_by_a_user_that_its_command_named() -> None:
    rejected = outcome(status="rejected", results=[], user_ids=["user-9"])

    assert Filters.of(user="user-9").matches_outcome(rejected)
    assert not Filters.of(user="user-1").matches_outcome(rejected)


def test_a_room_is_a_target_as_well() -> None:
    assert Filters.of(target="room-7").matches_outcome(outcome(group_id=None, room_id="room-7"))


def test_an_id_with_quotes_is_found_as_it_is_written() -> None:
    assert Filters.of(command_id='a"b').matches_outcome(outcome(command_id='a"b'))


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'"ban-1"', b"\xff", b"[" * 100_000])
def test_what_is_no_outcome_is_not_meant_and_not_an_error(value: bytes) -> None:
    asked = Filters.of(command_id="ban-1")

    assert not asked.matches_outcome(value)
    assert not asks(asked, value)


@pytest.mark.parametrize(
    "changes", [{"results": ["user-1"]}, {"results": "user-1"}, {"results": None, "issuer": "user-1"}]
)
def test_another_programs_record_ends_no_search(changes: dict[str, Any]) -> None:
    """It would hide every older outcome behind a traceback."""
    assert not Filters.of(user="user-1").matches_outcome(outcome(**changes))


@pytest.mark.parametrize("count", [-1, 101, 10**30])
def test_a_count_that_no_command_of_ours_has_is_another_programs(count: int) -> None:
    """Added up, it ended `undo` in a traceback."""
    assert Filters(fields=("results_omitted",)).read(outcome(results_omitted=count)) is None


def test_an_outcome_without_its_own_id_is_none() -> None:
    assert not Filters.of(command_id="ban-1").matches_outcome(b'{"command_id":"ban-1"}')


def test_a_command_is_found_in_whatever_way_it_is_written() -> None:
    escaped = b'{ "command_id" :"\\u0062an-1", "user_ids": ["user-1"] , "room_id":"room-7", "action":"live.unban_member"}'

    assert asks(Filters.of(command_id="ban-1"), escaped)
    assert asks(Filters.of(user="user-1", target="room-7"), escaped)
    assert not asks(Filters.of(user="user-2"), escaped)


def test_a_cloud_event_that_waits_is_found_by_the_id_in_its_header() -> None:
    """It was said never to have come: only the record's value was looked at."""
    value = b'{"user_ids":["user-1"],"room_id":"room-7","action":"live.unban_member"}'
    asked = Filters.of(command_id="event-1", user="user-1")

    assert asks(asked, value, ("ce_specversion", b"1.0"), ("ce_id", b"event-1"))
    assert not asks(asked, value, ("ce_id", b"event-2"))
    assert asks(Filters.of(command_id="event-1"), b"no JSON", ("ce_id", b"event-1")), "to be rejected by it"


def test_a_text_that_is_not_utf_8_is_known() -> None:
    assert is_utf8("üser")
    assert not is_utf8("user\udcff")


def test_users_that_are_no_list_are_nobody() -> None:
    assert not asks(Filters.of(user="user-1"), b'{"command_id":"a","user_ids":7}')


@pytest.mark.parametrize("trait", ["request_id", "outcome_id"])
def test_a_command_that_waits_has_no_request_yet(trait: str) -> None:
    asked = Filters.of(**{trait: "x"})

    assert not asked.can_match_waiting
    assert not asks(asked, b'{"command_id":"x","request_ids":["x"]}')


def test_a_question_says_what_was_asked() -> None:
    assert str(Filters.of(command_id="a\x1b", user="u")) == "command id a� and user u"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("24h", 86_400), ("7d", 604_800), ("0s", 0)]
)
def test_a_span_is_counted_back_from_now(text: str, seconds: int) -> None:
    assert parse_time(text, NOW) == NOW - seconds


def test_a_time_is_that_time() -> None:
    assert parse_time("2027-01-15T09:00:00+01:00", NOW) == NOW


@pytest.mark.parametrize(
    "text", ["", "yesterday", "24", "h", "-1h", "1.5h", "2027-01-15", "2027-01-15T08:00:00"]
)
def test_any_other_text_is_refused_with_what_to_give(text: str) -> None:
    with pytest.raises(ValueError, match="give 90s, 30m, 24h or 7d"):
        parse_time(text, NOW)


def test_what_would_move_a_cursor_is_replaced() -> None:
    assert plain("a\x1b[31m\nb\u202e") == "a�[31m�b�"


@pytest.mark.parametrize(
    ("asked", "is_meant"),
    [
        ({"status": ("failed", "succeeded")}, True),
        ({"status": "failed"}, False),
        ({"issuer": "spam", "status": "succeeded"}, True),
        ({"issuer": "other", "status": "succeeded"}, False),
        ({"error_code": "10019"}, True),
        ({"error_code": "1001"}, False),
        ({"error_code": "not_json"}, True),
        ({"error_code": "missing_field"}, True),
        ({"app": "main", "action": "group.ban_group_member"}, True),
    ],
    ids=str,
)
def test_an_outcome_has_one_of_the_values_of_every_trait(asked: dict[str, Any], is_meant: bool) -> None:
    value = outcome(
        issuer="spam",
        app="main",
        action="group.ban_group_member",
        results=[{"user_id": "u", "status": "failed", "error_code": 10019}],
        error={"code": "not_json", "message": "…", "also": [{"code": "missing_field", "message": "…"}]},
    )
    filters = Filters.of(**asked)

    assert filters.matches_outcome(value) is is_meant
    assert contains(value, filters.terms) or not is_meant


TEXTS = st.text(min_size=1, max_size=20)


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=3), st.integers(0, 99_999))
def test_the_bytes_that_are_looked_for_are_in_each_outcome_that_matches(
    target: str, issuer: str, users: list[str], code: int
) -> None:
    """What lacks them is never decoded: an outcome that they missed would be lost to every search."""
    made = Outcome(
        outcome_id="commands-0-0",
        command_id=target,
        status=Status.FAILED,
        source=Source("commands", 0, 0),
        worker=Worker("w", "0"),
        received_at="2025-01-01T00:00:00.000Z",
        finished_at="2025-01-01T00:00:00.000Z",
        queued_ms=0.0,
        attempts=1,
        group_id=target,
        issuer=issuer,
        results=[Result(user, ResultStatus.FAILED, None, code) for user in users],
    )
    value = msgspec.json.encode(made)
    asked: list[dict[str, Any]] = [{"target": target}, {"issuer": issuer}, {"command_id": target}]
    asked += [{"user": user, "error_code": str(code)} for user in users]

    for each in asked:
        filters = Filters.of(**each)
        assert filters.matches_outcome(value)
        assert contains(value, filters.terms)


def test_of_many_values_no_bytes_are_looked_for() -> None:
    """Each would be looked for in every batch: 5,000 ids took ten seconds for 10,000 outcomes."""
    many = [f"ban-{number}" for number in range(5_000)]

    assert Filters.of(command_id=many, issuer="detector").terms == [[b'"detector"']]
    assert len(Filters.of(command_id=many[:40]).terms[0]) == 40


def test_what_waits_matches_the_status_waiting_and_no_other() -> None:
    value = b'{"command_id":"a","user_ids":["user-1"],"room_id":"room-7","action":"live.unban_member","issuer":"i"}'

    assert asks(Filters.of(status="waiting", issuer="i", action="live.unban_member"), value)
    assert Filters.of(status="waiting").can_match_waiting
    assert not Filters.of(status="failed").can_match_waiting
    assert not Filters.of(error_code="10019").can_match_waiting
    assert not Filters(until=NOW).can_match_waiting
