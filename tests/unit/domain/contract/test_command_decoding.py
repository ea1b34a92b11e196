# What is a command: each field as it arrives, up to its limit.
#
# Refusals are in test_rejections.py, the headers in test_cloudevent_envelope.py, the fuzzing in test_command_decoding_fuzzed.py.

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tests.unit.domain.samples import (
    BAN,
    DECODER,
    EVERYTHING,
    ONE_OF_EACH,
    UPDATE,
    command,
    encoded,
    rejected,
    without,
)
from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.parameters import MemberInfo, Parameters


@pytest.mark.parametrize("value", ONE_OF_EACH, ids=lambda value: value["action"])
def test_a_command_of_each_action_is_read(value: dict[str, Any]) -> None:
    read = command(value)

    assert (read.command_id, read.action, read.app) == (value["command_id"], ACTIONS[value["action"]], "main")
    assert read.target == value.get("group_id", value.get("room_id"))
    assert read.users == tuple(value["user_ids"])
    assert (read.parameters.duration, read.parameters.reason) == (value.get("duration"), value.get("reason"))


def test_every_field_arrives() -> None:
    assert command(EVERYTHING) == Command(
        command_id="c-1",
        action=ACTIONS["group.ban_group_member"],
        app="second",
        target="@TGS#aJRGC4MH6",
        users=("brennanli3", "brennanli12"),
        parameters=Parameters(duration=3600, reason=BAN["reason"]),
        banned_until=None,
        effect=("group.ban_group_member", 3600, None, BAN["reason"], None),
        not_after=datetime(2030, 1, 1, tzinfo=UTC).timestamp(),
        issued_at="2029-12-31T23:59:58.123+01:00",
        issuer="detector-7: text",
        metadata={"score": 0.97, "labels": ["spam", {"url": "https://example.com"}], "none": None},
    )


def test_an_update_arrives() -> None:
    assert command(UPDATE).parameters.member_info == MemberInfo(
        name_card="jack", role="Admin", custom_info="custom info"
    )


def test_an_absent_field_of_an_update_differs_from_an_empty_one() -> None:
    assert command({**UPDATE, "member_info": {"custom_info": ""}}).parameters.member_info == MemberInfo(
        custom_info=""
    )


def test_repeated_users_count_once_and_keep_their_order() -> None:
    assert command({**BAN, "user_ids": ["b", "a", "b", "c", "a"]}).users == ("b", "a", "c")


def test_a_hundred_users_are_allowed() -> None:
    users = [f"user-{number}" for number in range(100)]

    assert command({**BAN, "user_ids": users}).users == tuple(users)


@pytest.mark.parametrize("duration", [0, 1, 2**32 - 1])
def test_every_duration_of_32_bits_is_passed_through(duration: int) -> None:
    assert command({**BAN, "duration": duration}).parameters.duration == duration


@pytest.mark.parametrize(
    "limit",
    [
        {"duration": 0},
        {"duration": 2**32 - 1},
        {"user_ids": [f"user-{number}" for number in range(100)]},
        {"user_ids": ["x" * 32]},
        {"group_id": "x" * 48},
        {"reason": "x" * 1000},
        {"reason": ""},
        {"metadata": {"a": "x" * 4088}},
    ],
    ids=["shortest", "longest", "users", "user", "group", "reason", "no-reason", "metadata"],
)
def test_what_is_at_its_limit_passes_the_careful_path_too(limit: dict[str, Any]) -> None:
    """A colon that is written as an escape is what the fast path leaves to it."""
    value = encoded({**BAN, **limit, "issuer": "detector:7"})

    assert command(value.replace(b"detector:7", b"detector\\u003a7")) == command(value)


def test_an_empty_reason_of_a_ban_is_passed_through() -> None:
    assert command({**BAN, "reason": ""}).parameters.reason == ""


def test_a_reason_may_have_several_lines() -> None:
    assert command({**BAN, "reason": "one\ntwo\t\x7f"}).parameters.reason == "one\ntwo\t\x7f"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("command_id", "é" * 64),
        ("group_id", "语" * 16),
        ("user_ids", ["😀" * 8]),
        ("reason", "é" * 500),
        ("issuer", "x" * 256),
        ("metadata", {"a": "x" * 4088}),
        ("metadata", {"a": "é" * 2044}),
    ],
)
def test_a_field_may_have_exactly_as_many_bytes_as_allowed(name: str, value: object) -> None:
    """Bytes of UTF-8, however the JSON was written: with or without escapes."""
    plain = json.dumps({**BAN, name: value}, ensure_ascii=False).encode()

    assert command({**BAN, name: value}) == command(plain)


def test_blanks_in_metadata_do_not_count() -> None:
    metadata = b'{"a":' + b" " * 5000 + b"1}"

    assert command(encoded(BAN)[:-1] + b',"metadata":' + metadata + b"}").metadata == {"a": 1}


@pytest.mark.parametrize("size", [1, 2000])
def test_a_field_given_twice_inside_metadata_is_nobodys_business(size: int) -> None:
    value = encoded(BAN)[:-1] + b',"metadata":{"a":{"b":1,"b":"%b"}}}' % (b"x" * size)

    assert command(value).metadata == {"a": {"b": "x" * size}}


@pytest.mark.parametrize("leaf", [b"1", b'"%b"' % (b"x" * 2000), b'["a",{"b":[]}]'])
def test_metadata_may_be_as_deep_as_allowed_and_no_deeper(leaf: bytes) -> None:
    """The depth is that of objects and lists; what is in the innermost one is no level of its own."""
    levels = 32 - leaf.count(b"[") - leaf.count(b"{")

    def nested(depth: int) -> bytes:
        return encoded(BAN)[:-1] + b',"metadata":' + b'{"a":' * depth + leaf + b"}" * (depth + 1)

    assert command(nested(levels)).metadata is not None
    assert rejected(nested(levels + 1)).code == "too_deep"


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2030-01-01T00:00:00Z", 1893456000.0),
        ("2030-01-01t00:00:00z", 1893456000.0),
        ("2030-01-01T01:00:00+01:00", 1893456000.0),
        ("2029-12-31T18:30:00-05:30", 1893456000.0),
        ("2030-01-01T00:00:00.25Z", 1893456000.25),
        ("2030-01-01T00:00:00.123456789Z", 1893456000.123456),
        ("2029-12-31T23:59:60Z", 1893455999.0),
        ("1969-12-31T23:59:59Z", -1.0),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
        ("2106-02-07T06:28:15Z", 4294967295.0),
    ],
)
def test_the_end_of_a_ban_is_kept_as_written_and_as_seconds(text: str, instant: float) -> None:
    """RFC 3339 whole: small letters, fractions of any length, offsets, leap seconds."""
    read = command({**without(BAN, "duration"), "banned_until": text})

    assert (read.banned_until, read.parameters.banned_until) == (instant, text)


def test_issued_at_is_passed_through_whatever_it_says() -> None:
    """It decides nothing, so it is no reason to let a ban go."""
    assert command({**BAN, "issued_at": "yesterday"}).issued_at == "yesterday"


@pytest.mark.parametrize(
    ("banned_until", "not_after", "last"),
    [(None, None, None), (None, 50.0, 50.0), (100.0, None, 99.0), (100.0, 50.0, 50.0), (100.0, 200.0, 99.0)],
)
def test_a_try_must_leave_before_its_deadline_and_a_second_before_a_bans_end(
    banned_until: float | None, not_after: float | None, last: float | None
) -> None:
    read = msgspec.structs.replace(command(BAN), banned_until=banned_until, not_after=not_after)

    assert read.last_moment == last


def test_a_decoder_tells_what_it_knows() -> None:
    assert repr(DECODER) == "<CommandDecoder 2 apps, default 'main'>"
