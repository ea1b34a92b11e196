# What a record of the command topic means, as far as its effects can be seen from outside.
#
# Nothing is asked of the engine here but the table of actions, for where a command goes.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.tencent import BAN, KICK, LIVE_UNBAN, UNBAN, UPDATE
from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.timestamps import instant_of

if TYPE_CHECKING:
    from tests.simulation.kafka import Record
    from tests.simulation.tencent import Request

TOPIC: Final = "moderation.commands"


@dataclass(frozen=True, slots=True)
class Commanded:
    """A record of the command topic, and what it means; ``fields`` is None for garbage."""

    record: Record
    at: float
    fields: dict[str, Any] | None
    readable_id: str | None
    is_valid: bool

    @property
    def outcome_id(self) -> str:
        """The outcome_id that its outcome must have."""
        return f"{TOPIC}-{self.record.partition}-{self.record.offset}"

    @property
    def target(self) -> str:
        """Its group or room."""
        assert self.fields is not None
        target: str = self.fields.get("group_id") or self.fields["room_id"]
        return target


def endpoint_of(commanded: Commanded) -> str:
    """Where the command goes."""
    assert commanded.fields is not None
    return ACTIONS[commanded.fields["action"]].endpoint


def matches(commanded: Commanded, request: Request) -> bool:
    """Whether the request may have carried the command's effect."""
    fields = commanded.fields
    assert fields is not None
    if endpoint_of(commanded) != request.endpoint:
        return False
    parameters = dict(request.parameters)
    if request.endpoint == BAN:
        if "banned_until" in fields:
            ends_at = request.sent_wall + parameters["Duration"]
            return bool(-0.01 <= ends_at - instant_of(fields["banned_until"]) < 1.01)
        return bool(parameters["Duration"] == fields["duration"])
    if request.endpoint == KICK:
        return bool(parameters["Reason"])
    return request.endpoint != UPDATE or bool(parameters == info_of(commanded))


def leaves_nothing_of(earlier: Commanded, later: Commanded) -> bool:
    """Whether the later command alone leaves what both would, whatever becomes of time."""
    fields = later.fields
    assert fields is not None
    if "not_after" in fields or "banned_until" in fields:
        return False
    endpoints = {endpoint_of(earlier), endpoint_of(later)}
    if endpoints == {UPDATE}:
        return len(info_of(later)) == 3
    return endpoints <= {BAN, UNBAN} or endpoints == {LIVE_UNBAN}


def info_of(commanded: Commanded) -> dict[str, Any]:
    assert commanded.fields is not None
    names = {"name_card": "NameCard", "role": "Role", "custom_info": "CustomInfo"}
    return {names[name]: value for name, value in commanded.fields["member_info"].items()}


def users_of(commanded: Commanded) -> list[str]:
    assert commanded.fields is not None
    users: list[str] = commanded.fields["user_ids"]
    return users
