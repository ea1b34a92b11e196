# The table of actions: the name of each, its endpoint, and the fields that it needs.
#
# Adding an endpoint is adding a row. Nothing else in the code may branch on an action's name; spelling_suggestions.py takes names
# apart, to guess. Not here: how a command is read (command_decoding.py), what an answer means (error_codes.py).

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.domain.contract.parameters import MemberInfo, Parameters

USER_ID_BYTES: Final = 32
TARGET_BYTES: Final = 48
REASON_BYTES: Final = 1000
NAME_CARD_BYTES: Final = 32
CUSTOM_INFO_BYTES: Final = 60


EVERYTHING: Final = "*"
"""Of ``Action.changed_elsewhere``: the whole state."""


class TargetField(StrEnum):
    """The field of a command that names the group or room."""

    GROUP = "group_id"
    ROOM = "room_id"


class ActionKind(StrEnum):
    """
    Whether repeating an action changes anything.

    A STATE (ban, unban, update) repeated leaves the same state. An EVENT (kick) happens once more each time.
    """

    STATE = "state"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Action:
    """
    One row of the table.

    Attributes:
        name: What a command calls it.
        endpoint: ``<service>/<command>`` in Tencent's URL; the quota is counted per endpoint and app.
        target: The field of a command that names the target.
        target_key: The field of Tencent's body that names the target.
        members_key: The field of Tencent's body with the members.
        members_per_call: The most members that one call may carry (the endpoint's page).
        kind: State or event.
        undone_by: The actions that undo this one and that it undoes.
        takes: The parameters that a command of this action may have.
        needs: The parameters that it must have; of a nested tuple, exactly one.
        changed_elsewhere: The part of its state that others change as well: ``EVERYTHING``, or fields of ``member_info``. There an
            effect that was applied a moment ago may hold no longer, so a repeat of it is sent.
        reason_key: The field of Tencent's body with the ``reason``.
        source: The title of Tencent's page.

    """

    name: str
    endpoint: str
    target: TargetField
    target_key: str
    members_key: str
    members_per_call: int
    kind: ActionKind
    takes: tuple[str, ...]
    needs: tuple[str | tuple[str, ...], ...]
    source: str
    undone_by: tuple[str, ...] = ()
    changed_elsewhere: tuple[str, ...] = ()
    reason_key: str = "Reason"

    def is_changed_elsewhere(self, info: MemberInfo | None) -> bool:
        """Return whether anybody but this worker changes the state that a command sets; ``info`` is the command's ``member_info``."""
        names = self.changed_elsewhere
        return bool(names) and any(name == EVERYTHING or getattr(info, name) is not None for name in names)

    def body(self, target: str, users: Sequence[str], parameters: Parameters) -> bytes:
        """
        Return the JSON body of one call. It is never empty, as Tencent demands.

        Tencent knows no end of a ban: ``Command.body`` has turned it into a duration.
        """
        fields: dict[str, Any] = {self.target_key: target}
        if parameters.member_info is None:
            fields[self.members_key] = users
        else:
            fields[self.members_key] = _member_info(users[0], parameters.member_info)
        if parameters.duration is not None:
            fields["Duration"] = parameters.duration
        if parameters.reason is not None:
            fields[self.reason_key] = parameters.reason
        return msgspec.json.encode(fields)


def _member_info(user: str, info: MemberInfo) -> dict[str, str]:
    fields = {"Member_Account": user}
    if info.name_card is not None:
        fields["NameCard"] = info.name_card
    if info.role is not None:
        fields["Role"] = info.role
    if info.custom_info is not None:
        fields["CustomInfo"] = info.custom_info
    return fields


ACTIONS: Final[dict[str, Action]] = {
    row.name: row
    for row in (
        Action(
            name="group.ban_group_member",
            endpoint="group_open_http_svc/ban_group_member",
            target=TargetField.GROUP,
            target_key="GroupId",
            members_key="Members_Account",
            members_per_call=20,
            kind=ActionKind.STATE,
            undone_by=("group.unban_group_member",),
            takes=("duration", "banned_until", "reason"),
            needs=(("duration", "banned_until"),),
            reason_key="Description",
            source="Banning Group Members",
        ),
        Action(
            name="group.unban_group_member",
            endpoint="group_open_http_svc/unban_group_member",
            target=TargetField.GROUP,
            target_key="GroupId",
            members_key="Members_Account",
            members_per_call=20,
            kind=ActionKind.STATE,
            undone_by=("group.ban_group_member",),
            takes=(),
            needs=(),
            source="Unbanning Group Members",
        ),
        Action(
            name="live.unban_member",
            endpoint="live_engine_http_srv/unban_member",
            target=TargetField.ROOM,
            target_key="RoomId",
            members_key="MemberList_Account",
            members_per_call=20,
            kind=ActionKind.STATE,
            changed_elsewhere=(EVERYTHING,),  # the ban that it lifts never comes through here
            takes=(),
            needs=(),
            source="Lifting a Member's Ban",
        ),
        Action(
            name="room.kick_user_out",
            endpoint="room_engine_http_srv/kick_user_out",
            target=TargetField.ROOM,
            target_key="RoomId",
            members_key="MemberList_Account",
            members_per_call=20,
            kind=ActionKind.EVENT,
            takes=("reason",),
            needs=("reason",),
            source="Remove Room Member",
        ),
        Action(
            name="room.update_room_member_info",
            endpoint="room_engine_http_srv/update_room_member_info",
            target=TargetField.ROOM,
            target_key="RoomId",
            members_key="MemberInfo",
            members_per_call=1,
            kind=ActionKind.STATE,
            changed_elsewhere=("name_card",),  # users set their own
            takes=("member_info",),
            needs=("member_info",),
            source="Update the Room Member Information",
        ),
    )
}


def per_call(rows: Iterable[Action]) -> dict[str, int]:
    """Return the most members that one call to each endpoint may carry, on which all its actions agree."""
    most: dict[str, int] = {}
    for row in rows:
        said = most.setdefault(row.endpoint, row.members_per_call)
        assert said == row.members_per_call, (
            f"{row.name} has {row.members_per_call} members per call, another action of {row.endpoint} has {said}"
        )
    return most


MEMBERS_PER_CALL: Final = per_call(ACTIONS.values())
"""By endpoint."""
ENDPOINTS: Final = tuple(MEMBERS_PER_CALL)
