# Bad records of every kind that the contract names: what a broken producer, a typo or a stranger on the topic sends.
#
# One row each: what is wrong, the record, and the field that the rejection must name. None of them may be carried out.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.testing.checker.contract import ADMINISTRATOR, BAN, KICK, UNBAN, UPDATE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

MEGABYTE: Final = 1_000_000
"""Bytes: about what a broker accepts by default (1,048,588 with the overhead)."""

Bad = tuple[str, bytes | None, bytes | None, str | None, str | None]
"""What is wrong, key, value, the command_id if it is readable, the field to be named (None: any)."""

_ban: Final[dict[str, Any]] = {"action": BAN, "user_ids": ["someone"], "duration": 60}

REPLACED: Final[tuple[tuple[str, dict[str, Any], str], ...]] = (
    ("an unknown field", {"durration": 60}, "durration"),
    ("an unknown action", {"action": "group.ban_everybody"}, "action"),
    ("an action that is no text", {"action": 7}, "action"),
    ("an app that is not configured", {"app": "nobody-knows"}, "app"),
    ("users that are no list", {"user_ids": "someone"}, "user_ids"),
    ("a user that is no text", {"user_ids": [42]}, "user_ids"),
    ("an empty list of users", {"user_ids": []}, "user_ids"),
    ("an empty user", {"user_ids": ["fine", ""]}, "user_ids"),
    ("101 users", {"user_ids": [f"user-{number}" for number in range(101)]}, "user_ids"),
    ("a user of 33 bytes in 11 characters", {"user_ids": ["用" * 11]}, "user_ids"),
    ("the administrator itself", {"user_ids": [ADMINISTRATOR]}, "user_ids"),
    ("a duration that is a text", {"duration": "60"}, "duration"),
    ("a duration with a fraction", {"duration": 1.5}, "duration"),
    ("a negative duration", {"duration": -1}, "duration"),
    ("a duration beyond 32 bits", {"duration": 4_294_967_296}, "duration"),
    ("a reason of 1,002 bytes", {"reason": "过" * 334}, "reason"),
    ("both targets", {"room_id": "live-001"}, "room_id"),
    ("the field of another action", {"member_info": {"role": "Admin"}}, "member_info"),
    ("a not_after that is no time", {"not_after": "tomorrow"}, "not_after"),
    ("metadata that is no object", {"metadata": ["x"]}, "metadata"),
    ("metadata of more than 4 KiB", {"metadata": {"text": "x" * 5000}}, "metadata"),
    ("a group id of 49 bytes", {"group_id": "g" * 49}, "group_id"),
    ("a group id that is empty", {"group_id": ""}, "group_id"),
    ("a kick without a reason", {"action": KICK, "group_id": None, "room_id": "live-001", "duration": None}, "reason"),
    ("a kick with an empty reason",
        {"action": KICK, "group_id": None, "room_id": "live-001", "duration": None, "reason": ""}, "reason"),
    ("an update of nothing",
        {"action": UPDATE, "group_id": None, "room_id": "live-001", "duration": None, "member_info": {}}, "member_info"),
    ("a role that does not exist",
        {"action": UPDATE, "group_id": None, "room_id": "live-001", "duration": None, "member_info": {"role": "King"}},
        "member_info"),
    ("an unban with a duration", {"action": UNBAN}, "duration"),
    ("a room where a group is needed", {"group_id": None, "room_id": "live-001"}, "room_id"),
    ("no target at all", {"group_id": None}, "group_id"),
    ("no action", {"action": None}, "action"),
    ("no users", {"user_ids": None}, "user_ids"),
    ("neither a duration nor an end", {"duration": None}, "duration"),
    ("a duration and an end", {"banned_until": "2040-01-01T00:00:00Z"}, "banned_until"),
    ("an end that is no time", {"duration": None, "banned_until": "2040-13-45"}, "banned_until"),
)  # fmt: skip
"""What is wrong; what replaces the fields of a good ban (None: the field is left out); the field at fault."""

WITHOUT_ID: Final[tuple[tuple[str, Callable[[str], bytes | None]], ...]] = (
    ("no value at all", lambda _target: None),
    ("an empty value", lambda _target: b""),
    ("no JSON", lambda _target: b"ban them all!"),
    ("JSON that ends too early", lambda _target: b'{"command_id": "cut", "act'),
    ("no UTF-8", lambda _target: b'{"command_id": "\xff\xfe"}'),
    ("a list", lambda _target: b'["command"]'),
    ("a number", lambda _target: b"42"),
    ("no command_id", lambda target: msgspec.json.encode({**_ban, "group_id": target})),
    (
        "a command_id that is no text",
        lambda target: msgspec.json.encode({**_ban, "group_id": target, "command_id": 5}),
    ),
    (
        "an empty command_id",
        lambda target: msgspec.json.encode({**_ban, "group_id": target, "command_id": ""}),
    ),
)
"""What is wrong, and the value: records without a readable command_id."""


def malformed(count: int, targets: Sequence[str], draw: random.Random) -> list[Bad]:
    """Return ``count`` bad records: every kind once before any comes twice, the one of a megabyte only once."""
    makers = [*(_replaced(*row) for row in REPLACED), *(_without_id(*row) for row in WITHOUT_ID)]
    records = [_megabyte(draw.choice(targets))] if count > len(makers) else []
    while len(records) < count:
        draw.shuffle(makers)
        for make in makers[: count - len(records)]:
            records.append(make(draw.choice(targets), f"bad-{len(records):05}"))
    draw.shuffle(records)
    return records


def _replaced(label: str, fields: dict[str, Any], at: str) -> Callable[[str, str], Bad]:
    def make(target: str, command_id: str) -> Bad:
        body = {"command_id": command_id, **_ban, "group_id": target, **fields}
        value = msgspec.json.encode({name: value for name, value in body.items() if value is not None})
        return label, target.encode(), value, command_id, at

    return make


def _without_id(label: str, value: Callable[[str], bytes | None]) -> Callable[[str, str], Bad]:
    return lambda target, _command_id: (label, target.encode(), value(target), None, None)


def _megabyte(target: str) -> Bad:
    body = {"command_id": "bad-megabyte", **_ban, "group_id": target, "reason": ""}
    filler = MEGABYTE - len(msgspec.json.encode(body))
    return (
        "a megabyte",
        target.encode(),
        msgspec.json.encode({**body, "reason": "x" * filler}),
        "bad-megabyte",
        "reason",
    )
