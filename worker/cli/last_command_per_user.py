# Which command touched a user last: what `undo` and `dead-letters replay` ask before they act on a user again.
#
# Values in, values out. A command touches a user if it changed what holds for that user, or found it so: its result is applied,
# already_applied, duplicate or superseded, or it still waits. One that failed, expired or was cancelled has changed nothing. On one
# partition offsets say which is later; between partitions the times of receipt do, as far as clocks agree.

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from worker.domain.contract.actions import ACTIONS, ActionKind
from worker.domain.contract.outcomes import DONE_FOR_ID
from worker.domain.contract.raw_records import place_of
from worker.domain.contract.timestamps import instant_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.domain.contract.command_decoding import Command

FIELDS: Final = (
    "command_id",
    "status",
    "action",
    "app",
    "group_id",
    "room_id",
    "results",
    "results_omitted",
    "error",
    "source",
    "received_at",
)
"""The fields of an outcome that are needed here."""


TargetKey = tuple[str | None, str, str]
"""App, field and id of a group or room."""


class TargetMember(NamedTuple):
    """One user of one group or room of one app; ``field`` tells a group from a room of the same id."""

    app: str | None
    field: str
    target: str
    user: str


class CommandMoment(NamedTuple):
    """When a command came: its place, and the time of its receipt (seconds since 1970)."""

    topic: str
    partition: int
    offset: int
    at: float

    def is_after(self, other: CommandMoment) -> bool:
        """Return whether it came later."""
        if (self.topic, self.partition) == (other.topic, other.partition):
            return self.offset > other.offset
        return self.at > other.at

    @property
    def outcome_id(self) -> str:
        """The outcome_id of the command."""
        return place_of(self.topic, self.partition, self.offset)


class LastCommand(NamedTuple):
    """A command that touched a user, or will: it waits. One that is ``unlisted`` touched somebody of its group or room."""

    moment: CommandMoment
    command_id: str
    waits: bool = False
    unlisted: bool = False

    def is_after(self, moment: CommandMoment) -> bool:
        """Return whether it is later than a finished command: what waits is, as a user's commands finish in order."""
        return self.waits or self.moment.is_after(moment)


def moment_of(view: Any) -> CommandMoment | None:
    """Return when an outcome's command came; None if that cannot be read."""
    try:
        source = msgspec.json.decode(view.source)
        return CommandMoment(
            str(source["topic"]),
            int(source["partition"]),
            int(source["offset"]),
            instant_of(view.received_at),
        )
    except (TypeError, KeyError, ValueError, RecursionError):
        return None


def target_in(view: Any) -> tuple[str, str] | None:
    """Return the field that names an outcome's target, and the target; None if it names none."""
    if view.group_id is not None:
        return "group_id", view.group_id
    return None if view.room_id is None else ("room_id", view.room_id)


def members_of(command: Command) -> Iterable[TargetMember]:
    """Return the users of a command."""
    return (
        TargetMember(command.app, command.action.target.value, command.target, user) for user in command.users
    )


def sets_a_state(action: str | None) -> bool:
    """Return whether an action leaves a state behind. A kick does not."""
    row = ACTIONS.get(action or "")
    return row is None or row.kind is ActionKind.STATE


class LastCommandPerUser:
    """The latest command that touched each of some users; with ``events``, kicks too, which leave no state behind."""

    def __init__(self, members: Iterable[TargetMember], *, events: bool) -> None:
        self._latest: defaultdict[TargetKey, dict[str, LastCommand | None]] = defaultdict(dict)
        for member in members:
            self._latest[member[:3]][member.user] = None
        self._events = events

    def __repr__(self) -> str:
        return f"<LastCommandPerUser of {len(self)} users>"

    def __len__(self) -> int:
        return sum(map(len, self._latest.values()))

    def __iter__(self) -> Iterator[TargetMember]:
        return (TargetMember(*target, user) for target, users in self._latest.items() for user in users)

    def __getitem__(self, member: TargetMember) -> LastCommand | None:
        return self._latest[member[:3]][member.user]

    def see_outcome(self, view: Any, standing_at: CommandMoment | None = None) -> None:
        """
        Take note of what an outcome's command touched; ``standing_at`` is used in place of when it came.

        Of a million outcomes most touched none of the users.
        """
        named = target_in(view)
        users = None if named is None else self._latest.get((view.app, *named))
        if not users:
            return
        found = [
            result.user_id
            for result in view.results
            if result.user_id in users and result.status in DONE_FOR_ID
        ]
        if found and (self._events or sets_a_state(view.action)):
            moment = standing_at or moment_of(view)
            if moment is not None:
                _see(users, found, LastCommand(moment, view.command_id or ""))

    def see_waiting(self, command: Command, moment: CommandMoment, *, waits: bool = True) -> None:
        """Take note of a command that has no outcome yet. Without ``waits`` only what came before ``moment`` is before it."""
        if self._events or sets_a_state(command.action.name):
            users = self._latest.get((command.app, command.action.target.value, command.target), {})
            found = [user for user in command.users if user in users]
            _see(users, found, LastCommand(moment, command.command_id, waits=waits))


def _see(users: dict[str, LastCommand | None], found: Iterable[str], touch: LastCommand) -> None:
    for user in found:
        latest = users[user]
        if latest is None or (not latest.waits and touch.is_after(latest.moment)):
            users[user] = touch
