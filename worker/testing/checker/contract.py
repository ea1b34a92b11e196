# What the checker and the demo know of the message contract, written a second time on purpose: the actions, their
# endpoints, and the content of an outcome. It serves to judge the worker, so it must not share a table with it.
#
# No I/O, no load, no verdicts: those are in topic_reader.py, the demo's scenario.py and evidence_check.py.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

BAN: Final = "group.ban_group_member"
UNBAN: Final = "group.unban_group_member"
LIVE_UNBAN: Final = "live.unban_member"
KICK: Final = "room.kick_user_out"
UPDATE: Final = "room.update_room_member_info"

ENDPOINTS: Final = {
    BAN: "group_open_http_svc/ban_group_member",
    UNBAN: "group_open_http_svc/unban_group_member",
    LIVE_UNBAN: "live_engine_http_srv/unban_member",
    KICK: "room_engine_http_srv/kick_user_out",
    UPDATE: "room_engine_http_srv/update_room_member_info",
}
ACTIONS: Final = {endpoint: action for action, endpoint in ENDPOINTS.items()}
assert len(ACTIONS) == len(ENDPOINTS), (
    "two actions of one endpoint: _effect of simulator_log.py must tell them apart by the body"
)
TARGET_FIELDS: Final = {
    action: "group_id" if action.startswith("group.") else "room_id" for action in ENDPOINTS
}
BANS: Final = {BAN: ("ban", True), UNBAN: ("ban", False), LIVE_UNBAN: ("live", False)}
"""Which ban of a user an action sets (True) or lifts. A kick leaves no state that could be wrong; an update sets what it names."""
STATES: Final = frozenset({*BANS, UPDATE})
"""Actions of which a repeat may be needless. Any other is an event, which only a copy of its own command repeats."""
REQUEST_ID_ENDPOINTS: Final = frozenset(
    endpoint for endpoint in ENDPOINTS.values() if not endpoint.startswith("group_open_http_svc/")
)
"""Endpoints whose answers carry a RequestId."""

ADMINISTRATOR: Final = "administrator"
"""The administrator in whose name the worker calls: never the target of a command."""
MEMBERS_PER_CALL: Final = 20
QUOTA: Final = 200
"""Requests in any rolling second, per endpoint and app."""
NO_ACCOUNT: Final = frozenset({10019, 70107})
"""The codes for a user that does not exist."""
NOT_IN_ROOM: Final = 100005

IN_PLACE: Final = frozenset({"applied", "already_applied"})
"""Results after which the command's own effect holds."""
SETTLED: Final = IN_PLACE | {"duplicate", "superseded"}
"""Results that complete a command_id: a copy carried out later would undo what came after it."""
NEVER_CALLED: Final = frozenset({"rejected", "duplicate", "superseded", "cancelled", "simulated"})
"""Statuses and results for which no request is ever sent."""
TRIED: Final = frozenset({"failed", "expired"})
"""Results that do not prove an effect, and do not exclude one."""
ORDERED: Final = frozenset({"cancelled", "simulated"})
"""Results that only an operator's order explains."""
REFERRING: Final = {"duplicate": "duplicate_of", "superseded": "superseded_by"}
"""Results that name another outcome, and the field that does."""
MAY_REFER: Final = frozenset({"simulated"})
"""Results that may name another outcome in either field."""
REPEATED: Final = frozenset({"duplicate", "simulated"})
"""Results that a command may have for a user for whom its id is settled already."""
REMEMBERED: Final = 5_000
"""After so many more outcomes of its partition a command_id need not be known any more: ``dedupe.restore_records``, by default."""
DEAD_LETTERED: Final = frozenset({"rejected", "failed", "cancelled"})
"""Statuses with a dead letter."""
UNDONE: Final = ("failed", "cancelled", "simulated", "expired")
"""Results after which the command's effect does not hold. If all of its results are such, the first of these is its status."""


class SeenMemberInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an update sets."""

    name_card: str | None = None
    role: str | None = None
    custom_info: str | None = None


@dataclass(frozen=True, slots=True)
class CommandedEffect:
    """
    What a command wants done to each of its members, or what a request did.

    Attributes:
        until: The end of a ban commanded by its end, in seconds since 1970. Its request carries a duration instead.

    """

    action: str
    duration: int | None = None
    until: float | None = None
    reason: str | None = None
    info: SeenMemberInfo | None = None


def undoes(later: CommandedEffect, earlier: CommandedEffect) -> bool:
    """Return whether ``earlier`` is needless if ``later`` comes after it. A ban with an end may expire unsent, so it undoes nothing."""
    if later.until is not None:
        return False
    if later.info is not None and earlier.info is not None:
        pairs = (
            (getattr(later.info, name), getattr(earlier.info, name)) for name in later.info.__struct_fields__
        )
        return all(new is not None or old is None for new, old in pairs)
    own, its = BANS.get(later.action), BANS.get(earlier.action)
    return own is not None and its is not None and own[0] == its[0]


class SeenResult(msgspec.Struct, frozen=True):
    """One member's part of an outcome."""

    user_id: str
    status: str
    request_id: str | None = None
    error_code: int | None = None
    inferred: bool = False
    duplicate_of: str | None = None
    superseded_by: str | None = None


class SeenAttempt(msgspec.Struct, frozen=True):
    """One HTTP request, as an outcome lists it."""

    call_id: str
    endpoint: str
    sent_at: str
    members: int
    request_id: str | None = None
    http_status: int | None = None
    error_code: int | None = None
    error: str | None = None


class SeenError(msgspec.Struct, frozen=True):
    """Why a command was rejected, failed or was cancelled."""

    code: str
    message: str
    field: str | None = None


class SeenOutcome(msgspec.Struct, frozen=True):
    """The part of an outcome that is judged."""

    outcome_id: str
    command_id: str
    status: str
    action: str | None = None
    group_id: str | None = None
    room_id: str | None = None
    metadata: dict[str, Any] | None = None
    results: list[SeenResult] = []
    request_ids: list[str] = []
    calls: list[SeenAttempt] = []
    calls_omitted: int = 0
    duplicate_of: str | None = None
    superseded_by: str | None = None
    error: SeenError | None = None


def outcome_id(topic: str, partition: int, offset: int) -> str:
    """Return the id that the outcome of this record must have."""
    return f"{topic}-{partition}-{offset}"


def status_of(results: Iterable[str]) -> str:
    """Return the status that a command must have, given those of its results."""
    found = {"succeeded" if status in IN_PLACE else status for status in results}
    if len(found) == 1:
        return found.pop()
    undone = [status for status in UNDONE if status in found]
    if len(undone) == len(found):
        return undone[0]
    return "partially_succeeded" if undone else "succeeded"
