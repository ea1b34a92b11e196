# What the tests of the domain's values share: a record, the settings of a worker with two apps, one command of each action.
#
# Holds no tests, and decides nothing.

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.outcomes import Worker
from worker.domain.contract.rejections import Rejected
from worker.domain.engine_settings import EngineSettings

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A record as the consumer has it."""

    value: bytes | None
    key: bytes | None = b"key"
    headers: Headers = ()
    partition: int = 3
    offset: int = 42


SETTINGS: Final = EngineSettings(
    topic="moderation.commands",
    partitions=8,
    apps={"main": "administrator", "second": "root"},
    default_app="main",
    worker=Worker("worker-0", "1.0"),
    protected_users=frozenset({"moderator"}),
)
DECODER: Final = CommandDecoder(SETTINGS)

BAN: Final[dict[str, Any]] = {
    "command_id": "c-1",
    "action": "group.ban_group_member",
    "group_id": "@TGS#aJRGC4MH6",
    "user_ids": ["brennanli3", "brennanli12"],
    "duration": 3600,
    "reason": "you are banned because of irregularities",
}
UNBAN: Final[dict[str, Any]] = {
    "command_id": "c-2",
    "action": "group.unban_group_member",
    "group_id": "@TGS#aJRGC4MH6",
    "user_ids": ["brennanli3", "brennanli12"],
}
LIVE_UNBAN: Final[dict[str, Any]] = {
    "command_id": "c-3",
    "action": "live.unban_member",
    "room_id": "test",
    "user_ids": ["user1", "user2"],
}
KICK: Final[dict[str, Any]] = {
    "command_id": "c-4",
    "action": "room.kick_user_out",
    "room_id": "room-test",
    "user_ids": ["user1"],
    "reason": "you are kicked because of irregularities",
}
UPDATE: Final[dict[str, Any]] = {
    "command_id": "c-5",
    "action": "room.update_room_member_info",
    "room_id": "room-test",
    "user_ids": ["user4"],
    "member_info": {"name_card": "jack", "role": "Admin", "custom_info": "custom info"},
}
EVERYTHING: Final[dict[str, Any]] = {
    **BAN,
    "app": "second",
    "not_after": "2030-01-01T00:00:00Z",
    "issued_at": "2029-12-31T23:59:58.123+01:00",
    "issuer": "detector-7: text",
    "metadata": {"score": 0.97, "labels": ["spam", {"url": "https://example.com"}], "none": None},
}
ONE_OF_EACH: Final = (BAN, UNBAN, LIVE_UNBAN, KICK, UPDATE)


def without(command: dict[str, Any], *names: str) -> dict[str, Any]:
    """The command without these fields."""
    return {name: value for name, value in command.items() if name not in names}


def encoded(command: object) -> bytes:
    """As Python's own encoder writes it by default: blanks, and escapes for all that is not ASCII."""
    return json.dumps(command).encode()


def decode(value: object, headers: Headers = ()) -> Command | Rejected:
    """What becomes of a record with this value: bytes and None as they are, all else as JSON."""
    return DECODER.decode(
        Record(value if isinstance(value, bytes | None) else encoded(value), headers=headers)
    )


def command(value: object, headers: Headers = ()) -> Command:
    """The same, of a record that must be a command."""
    decoded = decode(value, headers)
    assert isinstance(decoded, Command), decoded
    return decoded


def rejected(value: object, headers: Headers = ()) -> Rejected:
    """The same, of a record that must be refused."""
    decoded = decode(value, headers)
    assert isinstance(decoded, Rejected), decoded
    return decoded
