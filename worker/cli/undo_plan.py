# Plans an undo: the commands that reverse what some outcomes say was applied, and why the rest is left out.
#
# Values in, values out: outcomes and waiting commands are read, and commands sent, by undo.py. What an action's opposite is
# comes from the table of actions. A ban is lifted; what it replaced is not restored. The id of each command is made of what it
# undoes, so that the same undo sent twice is carried out once.

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from worker.cli import last_command_per_user
from worker.cli.filters import FEW
from worker.cli.last_command_per_user import (
    CommandMoment,
    LastCommandPerUser,
    TargetMember,
    moment_of,
    target_in,
)
from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.field_checks import USERS
from worker.domain.contract.outcomes import HOLDS, STATUSES, ResultStatus
from worker.domain.contract.timestamps import instant_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.domain.contract.command_decoding import Command

FIELDS: Final = (*last_command_per_user.FIELDS, "finished_at", "parameters")
"""The fields of an outcome that are needed to undo it."""
TOUCHED: Final = "a later command touched them"
UNANSWERED: Final = "nobody knows whether it was applied: their call had no answer"
UNLISTED: Final = "their outcome does not list them: Kafka took only a very small record"
OVER: Final = "it is over by itself"
APPLYING: Final = frozenset(status for status, row in STATUSES.items() if row.applies)
REPEATING: Final = HOLDS - {ResultStatus.APPLIED}


class LastApplied(Struct, frozen=True):
    """
    The latest effect on a user among those that are to be undone.

    Attributes:
        over_at: When it ends by itself (seconds since 1970); None: not, or not known.

    """

    action: str
    moment: CommandMoment
    over_at: float | None = None


class UndoCommand(Struct, frozen=True):
    """One command that undoes effects on users of one target, at most as many as a command may name."""

    command_id: str
    action: str
    app: str | None
    field: str
    target: str
    users: tuple[str, ...]

    def value(self, issuer: str, issued_at: str, note: dict[str, str]) -> bytes:
        """Return the command as it is sent."""
        fields: dict[str, Any] = {"command_id": self.command_id, "action": self.action}
        if self.app is not None:
            fields["app"] = self.app
        fields |= {self.field: self.target, "user_ids": self.users, "issuer": issuer, "issued_at": issued_at}
        return msgspec.json.encode(fields | {"metadata": {"undo": note}})


class UndoPlan(Struct, frozen=True):
    """
    What would be sent.

    Attributes:
        applied: How many effects were found: one for each user of each target.
        left_out: For how many of them nothing is sent, by the reason.

    """

    commands: tuple[UndoCommand, ...]
    applied: int
    left_out: Counter[str]

    @property
    def users(self) -> int:
        """How many effects are undone."""
        return sum(len(command.users) for command in self.commands)


def opposite_of(action: str) -> str | None:
    """Return the action that undoes another one and needs nothing that its outcomes do not tell; None if there is none."""
    row = ACTIONS.get(action)
    return next((name for name in (() if row is None else row.undone_by) if not ACTIONS[name].needs), None)


def sample_undo() -> UndoCommand:
    """Return a sample command, by which an operator's issuer and reason are checked before anything is read."""
    action = next(opposite for opposite in map(opposite_of, ACTIONS) if opposite is not None)
    return UndoCommand("undo", action, None, ACTIONS[action].target.value, "target", ("user",))


def why_not(action: str) -> str:
    """Return why an action cannot be undone."""
    row = ACTIONS.get(action)
    if row is None:
        return f"{action} is no action of this version"
    if not row.undone_by:
        return f"{action} cannot be undone"
    return (
        f"{action} cannot be undone: nobody knows the {' or '.join(_needs(row.undone_by[0]))} that it ended"
    )


def _needs(action: str) -> Iterator[str]:
    for need in ACTIONS[action].needs:
        yield from (need,) if isinstance(need, str) else need


class UndoPlanner:
    """Collects first what was applied, then what touched the same users, and returns the plan."""

    def __init__(self, users: frozenset[str] | None = None) -> None:
        self._users = users
        self._applied: dict[TargetMember, LastApplied] = {}
        self._unanswered: dict[TargetMember, CommandMoment] = {}
        self._unlisted = 0
        self._repetitions: set[str] = set()
        self._last_commands = LastCommandPerUser((), events=False)

    def __repr__(self) -> str:
        return f"<UndoPlanner {len(self._applied)} effects>"

    def __len__(self) -> int:
        return len(self._applied.keys() | self._unanswered.keys()) + self._unlisted

    def see_applied(self, view: Any) -> None:
        """Take note of what an outcome says was applied: not what held already, and not what another command's call did."""
        named, moment = target_in(view), moment_of(view)
        if named is None or moment is None or view.action is None:
            return
        can_be_undone = opposite_of(view.action) is not None
        if can_be_undone and any(result.status in REPEATING for result in view.results):
            self._repetitions.add(view.outcome_id)
        if view.results_omitted and view.status in APPLYING:
            self._unlisted += view.results_omitted
        applied = LastApplied(view.action, moment, _over_at(view))
        for result in view.results:
            if self._users and result.user_id not in self._users:
                continue
            member = TargetMember(view.app, *named, result.user_id)
            if result.status == ResultStatus.APPLIED:
                known = self._applied.get(member, applied)
                self._applied[member] = applied if moment.is_after(known.moment) else known
            elif can_be_undone and _is_unanswered(result):
                self._unanswered[member] = moment

    @property
    def terms(self) -> list[list[bytes]]:
        """The bytes that an outcome about these users has: their targets, if those are few."""
        targets = {member.target for member in (*self._applied, *self._unanswered)}
        return [[msgspec.json.encode(target) for target in sorted(targets)]] if len(targets) <= FEW else []

    def watch_found_users(self) -> None:
        """Watch for later commands for the users that were found. Call it after the last ``see_applied``, before the two below."""
        self._last_commands = LastCommandPerUser((*self._applied, *self._unanswered), events=False)

    def see_outcome(self, view: Any) -> None:
        """Take note of an outcome written since. One that merely repeats what is being undone does not count as a later decision."""
        if view.outcome_id not in self._repetitions:
            self._last_commands.see_outcome(view)

    def see_waiting(self, command: Command, moment: CommandMoment) -> None:
        """Take note of a command that has no outcome yet."""
        self._last_commands.see_waiting(command, moment)

    def plan(self, now: float) -> UndoPlan:
        """Return what would be sent: per target and action, in the order in which the effects came."""
        left_out: Counter[str] = Counter({UNLISTED: self._unlisted} if self._unlisted else {})
        for member in self._unanswered.keys() - self._applied.keys():
            touch = self._last_commands[member]
            is_touched = touch is not None and touch.is_after(self._unanswered[member])
            left_out[TOUCHED if is_touched else UNANSWERED] += 1
        groups: defaultdict[tuple[str, str | None, str, str], list[tuple[CommandMoment, str]]] = defaultdict(
            list
        )
        for member, applied in self._applied.items():
            opposite = opposite_of(applied.action)
            reason = self._reason(member, applied, opposite, now)
            if opposite is None or reason is not None:
                left_out[reason or why_not(applied.action)] += 1
                continue
            group = (opposite, member.app, member.field, member.target)
            groups[group].append((applied.moment, member.user))
        commands = [
            _undo_command(group, batch)
            for group, effects in groups.items()
            for batch in batched(sorted(effects), USERS)
        ]
        return UndoPlan(tuple(commands), len(self), left_out)

    def _reason(
        self, member: TargetMember, applied: LastApplied, opposite: str | None, now: float
    ) -> str | None:
        touch = self._last_commands[member]
        if opposite is None:
            return why_not(applied.action)
        if touch is not None and touch.is_after(applied.moment):
            return TOUCHED
        return OVER if applied.over_at is not None and applied.over_at <= now else None


def _is_unanswered(result: Any) -> bool:
    """Return whether a result says that no answer came, which is all that is known: Tencent's refusals have a code."""
    return bool(result.status == ResultStatus.FAILED) and result.error_code is None


def batched(
    effects: list[tuple[CommandMoment, str]], max_size: int
) -> Iterator[list[tuple[CommandMoment, str]]]:
    """Yield them in lists of at most ``max_size``."""
    return (effects[at : at + max_size] for at in range(0, len(effects), max_size))


def _undo_command(
    group: tuple[str, str | None, str, str], effects: list[tuple[CommandMoment, str]]
) -> UndoCommand:
    action, app, field, target = group
    undone = [f"{moment.outcome_id} {user}" for moment, user in effects]
    digest = hashlib.sha256("\n".join((action, app or "", field, target, *undone)).encode()).hexdigest()
    users = tuple(dict.fromkeys(user for _, user in effects))
    return UndoCommand(f"undo-{digest[:32]}", action, app, field, target, users)


def _over_at(view: Any) -> float | None:
    """Return when the effect of a ban ends by itself. A duration of 0 has no known meaning."""
    parameters = view.parameters if isinstance(view.parameters, dict) else {}
    duration, until = parameters.get("duration"), parameters.get("banned_until")
    try:
        if isinstance(until, str):
            return instant_of(until)
        return instant_of(view.finished_at) + duration if isinstance(duration, int) and duration > 0 else None
    except (ValueError, OverflowError):  # such a duration is not the worker's
        return None
