# How one outcome, or one waiting command, is shown to a person.

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from worker.broker.command_history import SearchGaps, WaitingCommand
from worker.broker.options import KafkaOptions
from worker.cli import watch
from worker.cli.filters import Filters
from worker.cli.outcome_formatting import (
    CALLS_SHOWN,
    TOO_DEEP,
    USERS_SHOWN,
    format_nothing_found,
    format_outcome,
    format_waiting,
    json_line,
    outcome_in,
    waiting_report,
)
from worker.cli.watch import one_line
from worker.domain.contract.command_decoding import CommandDecoder
from worker.domain.contract.outcomes import (
    AttemptRecord,
    Outcome,
    OutcomeError,
    RecordProblem,
    Result,
    ResultStatus,
    Source,
    Status,
    Worker,
)
from worker.domain.engine_settings import EngineSettings


def outcome(*results: Result, **changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "outcome_id": "commands-3-7",
        "command_id": "kick-1",
        "status": Status.SUCCEEDED,
        "source": Source("commands", 3, 7),
        "worker": Worker("w", "1"),
        "received_at": "2027-01-15T08:00:00.000Z",
        "finished_at": "2027-01-15T08:00:01.500Z",
        "queued_ms": 1_234.4,
        "attempts": 1,
        "action": "room.kick_user_out",
        "room_id": "room-7",
        "results": list(results),
    }
    built: dict[str, Any] = msgspec.to_builtins(Outcome(**(whole | changes)))
    return built


def call(number: int, **changes: Any) -> AttemptRecord:
    whole: dict[str, Any] = {
        "call_id": f"c-{number}",
        "endpoint": "room_engine_http_srv/kick_user_out",
        "sent_at": "2027-01-15T08:00:01.000Z",
        "elapsed_ms": 31.6,
        "members": 2,
        "http_status": 200,
        "error_code": 0,
    }
    return AttemptRecord(**(whole | changes))


def applied(user: str, request_id: str | None = None) -> Result:
    return Result(user, ResultStatus.APPLIED, request_id)


def test_the_first_line_says_when_what_and_where() -> None:
    first, *_ = format_outcome(outcome(applied("u"))).splitlines()

    assert first == "2027-01-15T08:00:01.500Z  succeeded  room.kick_user_out  room room-7"


def test_users_that_fared_alike_stand_together_with_their_request_id() -> None:
    text = format_outcome(outcome(applied("a", "Id-1"), applied("b", "Id-2"), applied("c", "Id-1")))

    assert "users       a, c: applied by RequestId Id-1\n" in text
    assert "users       b: applied by RequestId Id-2" in text


def test_of_many_users_the_first_are_named_and_the_rest_is_counted() -> None:
    text = format_outcome(outcome(*(applied(f"u{number}") for number in range(USERS_SHOWN + 3))))

    assert f"u{USERS_SHOWN - 1} and 3 more: applied" in text
    assert f"u{USERS_SHOWN}," not in text


def test_asked_for_one_user_only_that_one_is_shown() -> None:
    text = format_outcome(outcome(applied("a"), applied("b")), user="b")

    assert "users       b: applied" in text
    assert "a:" not in text


def test_a_failure_says_code_text_and_that_it_was_inferred() -> None:
    failed = Result("u", ResultStatus.FAILED, "Id-1", 70107, "not imported", inferred=True)

    text = format_outcome(outcome(failed))

    assert "u: failed by RequestId Id-1 (70107 not imported), inferred" in text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Result("u", ResultStatus.DUPLICATE, duplicate_of="commands-3-1"), "duplicate (duplicate of commands-3-1)"),
        (
            Result("u", ResultStatus.SUPERSEDED, superseded_by="commands-3-9"),
            "superseded (superseded by commands-3-9)",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_another_command_that_explains_a_result_is_named(result: Result, text: str) -> None:
    assert f"u: {text}" in format_outcome(outcome(result))


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (ResultStatus.FAILED, "an earlier attempt without an answer may have taken effect"),
        (ResultStatus.CANCELLED, "cancelled by alice: it went mad"),
        (ResultStatus.SIMULATED, "its time was over: it would have expired"),
    ],
)
def test_what_no_code_of_tencent_explains_is_explained_by_its_text(status: ResultStatus, why: str) -> None:
    """Of a command that succeeded for others this is the only place where it is said."""
    lines = format_outcome(outcome(Result("u", status, error_info=why), status=Status.PARTIALLY_SUCCEEDED))
    assert f"u: {status.value} ({why})" in lines


def test_a_rejection_says_field_and_remedy() -> None:
    fault = OutcomeError("unknown_field", "did you mean 'reason'?", "raeson")

    text = format_outcome(outcome(status=Status.REJECTED, error=fault))

    assert "error       unknown_field in raeson: did you mean 'reason'?" in text


def test_a_rejection_for_several_reasons_says_each() -> None:
    further = (
        RecordProblem("empty", "user_ids[1] must not be empty", "user_ids[1]"),
        RecordProblem("not_json", "\x1b[2J"),
    )
    fault = OutcomeError("unknown_field", "did you mean 'reason'?", "raeson", further)

    text = format_outcome(outcome(status=Status.REJECTED, error=fault))

    assert "also        empty in user_ids[1]: user_ids[1] must not be empty" in text
    assert "\x1b" not in text


def test_each_call_is_shown_by_time_endpoint_id_and_answer() -> None:
    calls = [
        call(1, request_id="Id-1", members=1),
        call(2, http_status=404, error_code=None),
        call(3, http_status=None, error_code=None, error="timeout"),
    ]

    text = format_outcome(outcome(applied("u"), calls=calls, calling_ms=70.0))

    assert "room_engine_http_srv/kick_user_out  Id-1  with 1 member, 32 ms: HTTP 200, code 0\n" in text
    assert "room_engine_http_srv/kick_user_out  c-3  with 2 members, 32 ms: timeout" in text
    assert "room_engine_http_srv/kick_user_out  c-2  with 2 members, 32 ms: HTTP 404\n" in text
    assert "queued 1,234 ms, calls took 70 ms" in text


def test_a_call_in_shadow_is_shown_as_one_that_was_not_sent() -> None:
    shared = call(2, http_status=None, error_code=None, elapsed_ms=0.0)
    simulated = Result("u", ResultStatus.SIMULATED)

    text = format_outcome(outcome(simulated, status=Status.SIMULATED, calls=[shared]))

    assert "c-2  with 2 members, 0 ms: not sent" in text
    assert "None" not in text


def test_of_many_calls_the_first_are_shown_and_the_rest_is_counted() -> None:
    calls = [call(number) for number in range(CALLS_SHOWN + 2)]

    text = format_outcome(outcome(applied("u"), calls=calls, calls_omitted=40))

    assert text.count("    call  ") == CALLS_SHOWN
    assert "calls       and 42 more" in text


def test_no_text_from_outside_can_move_the_cursor() -> None:
    nasty = "\x1b[2J\r\n"
    fault = OutcomeError(nasty, nasty, nasty)
    results = (Result(nasty, ResultStatus.FAILED, nasty, 1, nasty),)

    text = format_outcome(
        outcome(
            *results, command_id=nasty, room_id=nasty, issuer=nasty, calls=[call(1, error=nasty)], error=fault
        )
    )

    assert "\x1b" not in text
    assert "\r" not in text
    assert all(line.startswith("    ") for line in text.splitlines()[1:])


def test_an_outcome_of_another_version_is_shown_as_far_as_it_goes() -> None:
    assert "command     old-1" in format_outcome({"command_id": "old-1", "status": "forgotten", "new": [1]})


def waits(ahead: int = 0, timestamp: int = 1_800_000_000_250, **changes: Any) -> dict[str, Any]:
    """The report of a command that waits."""
    value = {"command_id": "late-1", "action": "group.unban_group_member", "group_id": "g", "user_ids": ["u"]}
    found: Any = SimpleNamespace(
        topic="commands", partition=3, offset=7, timestamp=timestamp, key=None, value=json.dumps(value | changes).encode(), headers=[],
    )  # fmt: skip
    read = CommandDecoder(EngineSettings("commands", 6, {"main": "admin"}, "main", Worker("w", "0"))).decode(
        found
    )
    return waiting_report(read, WaitingCommand(found, ahead))


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (0, "it is the oldest open command of its partition"),
        (1_234, "the oldest open command of its partition is 1,234 before it"),
    ],
)
def test_a_command_that_waits_says_since_when_and_behind_what(ahead: int, text: str) -> None:
    assert format_waiting(waits(ahead)).splitlines() == [
        "no outcome yet  group.unban_group_member  group g",
        "    command     late-1 (commands-3-7)",
        f"    since       2027-01-15T08:00:00.250Z; {text}",
    ]


@pytest.mark.parametrize(
    "timestamp", [-1, -(2**63), 1_800_000_000_250_000, 1_800_000_000_250_000_000, 2**63 - 1]
)
def test_a_timestamp_in_another_unit_is_shown_as_unknown(timestamp: int) -> None:
    """Producers write micro- and nanoseconds there, and -1; it ended with a traceback, and no command was shown."""
    report = waits(timestamp=timestamp)

    assert "written_at" not in report
    assert "since       an unknown time" in format_waiting(report)


def test_a_command_held_by_a_transaction_says_since_which_offset() -> None:
    text = format_waiting({**waits(4), "held_from": 5})

    assert "held by a transaction that is open since offset 5 of its partition" in text


def test_a_command_that_waits_is_json_with_a_status_of_its_own() -> None:
    assert waits(2) == {
        "status": "waiting",
        "outcome_id": "commands-3-7",
        "command_id": "late-1",
        "action": "group.unban_group_member",
        "group_id": "g",
        "user_ids": ("u",),
        "written_at": "2027-01-15T08:00:00.250Z",
        "ahead": 2,
        "source": {"topic": "commands", "partition": 3, "offset": 7},
    }
    assert "waiting" not in {status.value for status in Status}


def test_a_record_that_will_be_rejected_waits_as_far_as_it_can_be_read() -> None:
    report = waits(duration="soon")

    assert (report["command_id"], report["group_id"]) == ("late-1", "g")


@pytest.mark.parametrize(
    "strange",
    [
        {"queued_ms": "soon"},
        {"calls": 7},
        {"calls": [7]},
        {"error": "an error"},
        {"results": ["u"]},
        {"results": [{"user_id": "u", "error_info": 7, "error_code": []}]},
        {"calls_omitted": "many", "calls": []},
        {"queued_ms": None},
        {"queued_ms": 10**400},
        {"calls": [{"elapsed_ms": -(10**400)}]},
        {"calling_ms": float("nan")},
    ],
    ids=str,
)
def test_an_outcome_that_another_program_wrote_is_shown_and_ends_nothing(strange: dict[str, Any]) -> None:
    assert "strange-1" in format_outcome({"outcome_id": "a-0-0", "command_id": "strange-1", **strange})


@pytest.mark.parametrize("place", ["status", "results", "calls", "error", "finished_at"])
def test_an_outcome_that_is_nested_without_end_is_reported_and_ends_nothing(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    outcome = {"outcome_id": "a-0-0", place: nested}
    monkeypatch.setattr(watch, "outcome_in", lambda _: outcome)

    assert format_outcome(outcome) == TOO_DEEP
    one_line(b"", 80)


TOPICS = KafkaOptions("localhost:1", "g", "commands", "outcomes", "letters", "asker")
ALL_SEEN = SearchGaps(older=False, deleted=False, skipped={})


@pytest.mark.parametrize(
    ("unseen", "expected"),
    [
        (SearchGaps(older=True, deleted=False, skipped={}), "outcomes has older outcomes, which were not searched"),
        (SearchGaps(older=False, deleted=True, skipped={}), "outcomes has deleted outcomes because of their age"),
        (SearchGaps(older=False, deleted=False, skipped={2: (5, 9)}), "commands[2] has lost the commands at offsets 5 to 8"),
    ],
)  # fmt: skip
def test_a_command_never_came_only_where_everything_was_looked_at(unseen: SearchGaps, expected: str) -> None:
    asked = Filters.of(command_id="a")

    assert "it never came" in format_nothing_found(asked, "24h", ALL_SEEN, TOPICS, with_waiting=True)
    partly = format_nothing_found(asked, "24h", unseen, TOPICS, with_waiting=True)
    assert expected in partly
    assert "it never came" not in partly
    by_request = format_nothing_found(Filters.of(request_id="r"), "24h", ALL_SEEN, TOPICS, with_waiting=False)
    assert "came" not in by_request
    assert "waits" not in by_request


@pytest.mark.parametrize(
    ("traits", "with_waiting", "expected"),
    [
        ({"command_id": "c", "status": "waiting"}, True, "outcomes were not looked at"),
        ({"status": "waiting"}, True, "outcomes were not looked at"),
        ({"command_id": "c", "status": ("waiting", "failed")}, True, "and no such command waits"),
        ({"command_id": "c", "status": "failed"}, False, "what waits was not looked at"),
        ({"command_id": "c"}, False, "what waits was not looked at"),
    ],
)
def test_of_a_question_about_a_part_it_is_not_said_that_nothing_came(
    traits: dict[str, Any], with_waiting: bool, expected: str
) -> None:
    """With --status the command may have another one, and with --until what waits is not looked at."""
    said = format_nothing_found(Filters.of(**traits), "24h", ALL_SEEN, TOPICS, with_waiting=with_waiting)

    assert said.endswith(expected)


def test_where_only_waiting_commands_are_looked_for_no_outcomes_are_talked_of() -> None:
    """After "outcomes were not looked at" it said that older ones had not been searched, and to give a longer --since."""
    gaps = SearchGaps(older=True, deleted=True, skipped={})

    said = format_nothing_found(Filters.of(status="waiting"), "24h", gaps, TOPICS, with_waiting=True)

    assert said == "no command of status waiting; outcomes were not looked at"


def test_where_kafka_may_have_deleted_the_command_that_is_said() -> None:
    """Read or not, it left no trace once the group went on behind it: "it never came" was said of it."""
    gaps = SearchGaps(older=False, deleted=False, skipped={}, commands_deleted=True)

    said = format_nothing_found(Filters.of(user="u"), "24h", gaps, TOPICS, with_waiting=True)

    assert "or Kafka deleted it before it was read (event offset.out_of_range)" in said


def test_the_users_a_rejected_command_named_are_shown() -> None:
    """It has no results, and was found by a user that it named."""
    whole = outcome(status=Status.REJECTED, user_ids=("user-1", "user-2"))

    assert "users       user-1, user-2: nothing was sent" in format_outcome(whole)
    assert "users       user-2: nothing was sent" in format_outcome(whole, ["user-2"])


@pytest.mark.parametrize("strange", [b'"\xff"', b"1e999"])
def test_what_another_program_wrote_into_an_outcome_is_shown_all_the_same(strange: bytes) -> None:
    """A question decodes only the fields that it needs: the others may hold anything."""
    value = b'{"outcome_id":"commands-0-1","junk":' + strange + b"}"
    assert Filters().matches_outcome(value)

    assert "commands-0-1" in format_outcome(outcome_in(value))
    assert "commands-0-1" in one_line(value, 80)
    assert '"outcome_id":"commands-0-1"' in json_line(value)


def test_as_json_an_outcome_is_as_it_is_but_for_what_a_terminal_would_obey() -> None:
    assert json_line('{"a":"é\u202e"}'.encode()) == '{"a":"é\\u202e"}'
