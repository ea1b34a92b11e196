# The state of groups, rooms and their members, and how each call changes it.
#
# Pure: values in, the time as an argument, dictionaries inside. Whether a call may change anything is decided before,
# in decision.py.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.testing.simulator.endpoint_specs import MEMBER_FIELDS, ChangeKind

if TYPE_CHECKING:
    from collections.abc import Iterable

_INFO = tuple(rule.name for rule in MEMBER_FIELDS if rule.name != "Member_Account")


@dataclass(frozen=True, slots=True)
class StateChange:
    """
    What one request does to the state when it takes effect.

    Attributes:
        seq: The request's number in the log.
        app: The SDKAppID.
        change: The kind of change.
        target: The group or room.
        users: The users affected.
        parameters: The request's other fields.

    """

    seq: int
    app: int
    change: ChangeKind
    target: str
    users: tuple[str, ...]
    parameters: dict[str, Any]


@dataclass(slots=True)
class GroupBan:
    """A ban in a group, on the simulator's clock."""

    since: float
    until: float
    description: str | None
    seq: int


@dataclass(slots=True)
class GroupBans:
    """A group: its bans, and the request that last unbanned each user."""

    bans: dict[str, GroupBan] = field(default_factory=dict)
    unbanned: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class RoomMember:
    """
    One user of a room.

    Attributes:
        kicks: How often the user was kicked.
        kicked_at: When the user was last kicked and left the room; None while in it.
        reason: The reason of the last kick.
        info: NameCard, Role and CustomInfo, if they were set.
        seq: The last request that changed any of it.

    """

    kicks: int = 0
    kicked_at: float | None = None
    reason: str | None = None
    info: dict[str, str] = field(default_factory=dict)
    seq: int = 0


@dataclass(slots=True)
class RoomState:
    """A room: the members that some call has changed, and the live service's bans (user -> end)."""

    members: dict[str, RoomMember] = field(default_factory=dict)
    live_bans: dict[str, float] = field(default_factory=dict)
    live_unbanned: dict[str, int] = field(default_factory=dict)


class ChatState:
    """All groups and rooms of all apps. A target or user that no call has changed has no entry, but exists."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, str], GroupBans] = {}
        self._rooms: dict[tuple[int, str], RoomState] = {}

    def __repr__(self) -> str:
        return f"<ChatState {len(self._groups)} groups, {len(self._rooms)} rooms>"

    def groups(self, app: int) -> list[str]:
        """Return the groups of an app that a call has changed."""
        return [group for owner, group in self._groups if owner == app]

    def apply(self, effect: StateChange, now: float) -> None:
        """Apply the change of one request."""
        key = (effect.app, effect.target)
        match effect.change:
            case ChangeKind.BAN:
                self._ban(self._groups.setdefault(key, GroupBans()), effect, now)
            case ChangeKind.UNBAN:
                group = self._groups.setdefault(key, GroupBans())
                for user in effect.users:
                    group.bans.pop(user, None)
                    group.unbanned[user] = effect.seq
            case ChangeKind.LIVE_UNBAN:
                room = self._rooms.setdefault(key, RoomState())
                for user in effect.users:
                    room.live_bans.pop(user, None)
                    room.live_unbanned[user] = effect.seq
            case ChangeKind.KICK:
                self._kick(self._rooms.setdefault(key, RoomState()), effect, now)
            case ChangeKind.UPDATE:
                self._update(self._rooms.setdefault(key, RoomState()), effect)

    def is_in_room(self, app: int, room: str, user: str, now: float, rejoin_after: float) -> bool:
        """Return whether a user is in a room: not kicked, or kicked at least ``rejoin_after`` seconds ago (0: never back)."""
        known = self._rooms.get((app, room))
        member = known.members.get(user) if known else None
        if member is None or member.kicked_at is None:
            return True
        return rejoin_after > 0 and now - member.kicked_at >= rejoin_after

    def ban_live(self, app: int, room: str, users: Iterable[str], until: float) -> None:
        """Ban users in a live room, as the service's own clients would: the endpoints here include only the unban."""
        bans = self._rooms.setdefault((app, room), RoomState()).live_bans
        for user in users:
            bans[user] = until

    def rejoin(self, app: int, room: str, users: Iterable[str]) -> None:
        """Return kicked users to a room, as their clients would."""
        known = self._rooms.get((app, room))
        for user in users:
            member = known.members.get(user) if known else None
            if member is not None:
                member.kicked_at = None

    def shown(self, app: int, target: str, now: float, epoch: float) -> dict[str, Any]:
        """Return everything known of one id, as group and as room. ``epoch`` converts this clock to seconds since 1970."""
        group = self._groups.get((app, target))
        room = self._rooms.get((app, target))
        return {
            "target": target,
            "group": _show_group(group, now, epoch) if group else None,
            "room": _show_room(room, now, epoch) if room else None,
        }

    def targets(self, app: int) -> dict[str, list[str]]:
        """Return the ids of all groups and rooms that some call has changed."""
        return {
            "groups": self.groups(app),
            "rooms": [target for owner, target in self._rooms if owner == app],
        }

    @staticmethod
    def _ban(group: GroupBans, effect: StateChange, now: float) -> None:
        # The meaning of a Duration of 0 is not documented; taken literally, the ban is over at once.
        until = now + effect.parameters["Duration"]
        description = effect.parameters.get("Description")
        for user in effect.users:
            group.bans[user] = GroupBan(now, until, description, effect.seq)
            group.unbanned.pop(user, None)

    @staticmethod
    def _kick(room: RoomState, effect: StateChange, now: float) -> None:
        for user in effect.users:
            member = room.members.setdefault(user, RoomMember())
            member.kicks += 1
            member.kicked_at = now
            member.reason = effect.parameters["Reason"]
            member.seq = effect.seq

    @staticmethod
    def _update(room: RoomState, effect: StateChange) -> None:
        given = effect.parameters["MemberInfo"]
        for user in effect.users:
            member = room.members.setdefault(user, RoomMember())
            member.info.update({name: given[name] for name in _INFO if name in given})
            member.seq = effect.seq


def _show_group(group: GroupBans, now: float, epoch: float) -> dict[str, Any]:
    return {
        "bans": {
            user: {
                "banned": now < ban.until,
                "since": round(ban.since + epoch, 6),
                "until": round(ban.until + epoch, 6),
                "description": ban.description,
                "seq": ban.seq,
            }
            for user, ban in group.bans.items()
        },
        "unbanned": dict(group.unbanned),
    }


def _show_room(room: RoomState, now: float, epoch: float) -> dict[str, Any]:
    return {
        "live_bans": {
            user: {"banned": now < until, "until": round(until + epoch, 6)}
            for user, until in room.live_bans.items()
        },
        "live_unbanned": dict(room.live_unbanned),
        "members": {
            user: {
                "kicks": member.kicks,
                "kicked_at": None if member.kicked_at is None else round(member.kicked_at + epoch, 6),
                "reason": member.reason,
                "info": dict(member.info),
                "seq": member.seq,
            }
            for user, member in room.members.items()
        },
    }
