# Judges the history of one user in one group or room: what the commands asked for, in order, against what the API did.
#
# Pure. The API's log does not say which command caused a request, so the check goes the other way round: can the
# commands, in their order, explain the effects in theirs? If not, which promise was broken?

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.testing.checker.contract import BANS, IN_PLACE, NEVER_CALLED, TRIED, UPDATE, CommandedEffect
from worker.testing.checker.evidence import ViolationKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.testing.checker.evidence import Interruption

LATE_EFFECT: Final = 3.0
"""How long after a crash the last requests of the process may still take effect: the API's own budget, in seconds."""
ROUNDING: Final = 15.0
"""How far the end of a ban, computed from its duration when it was read, may differ from the commanded end, in seconds:
rounding up, and the time that the attempt was in flight."""


@dataclass(frozen=True, slots=True)
class CommandForUser:
    """
    What one command asks for this user, and what its outcome reports.

    Attributes:
        status: The status of this user's result; "" without an outcome.
        attempts: The requests that the outcome lists; None if it does not list all.
        published: When its outcome was published, in seconds since 1970.
        request_id: The RequestId of the decisive request, where the API gives one.
        repeats: Whether a record with the same command_id was carried out before, so that this one asks for nothing.
        name: Its name in messages.
        succeeded: Those of ``attempts`` that were answered with a success. One command has at most one that carried this user.

    """

    effect: CommandedEffect
    status: str
    attempts: frozenset[tuple[str, str]] | None = frozenset()
    published: float = inf
    repeats: bool = False
    request_id: str | None = None
    name: str = ""
    succeeded: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class ObservedEffect:
    """One effect of the API on this user, at this time."""

    effect: CommandedEffect
    at: float


def matches(part: CommandedEffect, did: CommandedEffect, at: float) -> bool:
    """Return whether an effect read at ``at`` is what the command asked for."""
    if (part.action, part.reason, part.info) != (did.action, did.reason, did.info):
        return False
    if part.until is not None:
        return did.duration is not None and abs(at + did.duration - part.until) < ROUNDING
    return part.duration == did.duration


def judge(
    parts: Sequence[CommandForUser],
    effects: Sequence[ObservedEffect],
    interruptions: Sequence[Interruption] = (),
) -> Iterator[tuple[ViolationKind, str]]:
    """Yield what is wrong with this user's history. ``parts`` and ``effects`` are each in order."""
    asked = [did for did in effects if any(matches(part.effect, did.effect, did.at) for part in parts)]
    if len(asked) < len(effects):
        strange = next(did for did in effects if did not in asked)
        yield ViolationKind.UNASKED, f"{strange.effect} at {strange.at:.3f}"
    slots = _slots(parts)
    if not _explains(slots, asked, interruptions):
        yield _what_fails(slots, asked, interruptions), _described(parts, effects)
    if not _end_is_right(parts, effects):
        yield ViolationKind.WRONG_STATE, _described(parts, effects)


@dataclass(slots=True)
class _Slot:
    """Consecutive commands with one effect, and how often it may and must have happened in their place."""

    effect: CommandedEffect
    published: float
    groups: list[frozenset[tuple[str, str]]] = field(default_factory=list)
    attempts: frozenset[tuple[str, str]] = frozenset()
    refused: frozenset[tuple[str, str]] = frozenset()
    commands: int = 0
    at_least: int = 0
    at_most: float = 0

    def add(self, part: CommandForUser) -> None:
        """Add a command. Commands that are ``applied`` and share a request need only one effect between them."""
        self.published = max(self.published, part.published)
        if part.attempts is None or part.status == "":
            self.at_most = inf
        attempts = part.attempts or frozenset()
        self.attempts |= attempts
        self.refused |= attempts - part.succeeded  # it may have taken effect nevertheless
        self.commands += 1
        self.at_most = max(self.at_most, min(len(self.attempts), self.commands + len(self.refused)))
        if part.status != "applied":
            return
        own = attempts if part.request_id is None else attempts | {("RequestId", part.request_id)}
        if not own and self.groups:
            return  # the decisive request is unknown: it may be any that is counted already
        touching = [group for group in self.groups if group & own]
        self.groups = [group for group in self.groups if not group & own] + [own.union(*touching)]
        self.at_least = len(self.groups)


def _slots(parts: Sequence[CommandForUser]) -> list[_Slot]:
    slots: list[_Slot] = []
    last: _Slot | None = None
    for part in parts:
        idle = part.status in NEVER_CALLED or (
            not part.attempts and part.attempts is not None and part.status in TRIED
        )
        if idle:
            slots.append(_Slot(part.effect, part.published))
            continue
        if last is None or last.effect != part.effect:
            last = _Slot(part.effect, part.published)
            slots.append(last)
        last.add(part)
    return slots


class _Explanation(NamedTuple):
    """One way to explain the effects so far."""

    slot: int  # the slot of the last one; -1: there was none
    times: int  # how many were in it since it was entered
    had: tuple[int, ...]  # how many of its required effects each slot has had

    def times_with(self, slot: int, most: float, *, can_restart: bool) -> int | None:
        """Return how many effects this slot explains with one more, at most ``most``; None if it cannot be its turn."""
        times = self.times + 1 if slot == self.slot else 1
        if slot >= self.slot and times <= most:
            return times
        return 1 if can_restart else None  # a new owner of the partition has started over

    def extended(self, slot: int, times: int, wanted: int) -> _Explanation:
        """Return it with one more effect, explained by this slot, which requires ``wanted``."""
        had = (*self.had[:slot], min(self.had[slot] + 1, wanted), *self.had[slot + 1 :])
        return _Explanation(slot, times, had)


def _explains(
    slots: Sequence[_Slot],
    effects: Sequence[ObservedEffect],
    interruptions: Sequence[Interruption],
    *,
    any_number: bool = False,
    may_miss: bool = False,
) -> bool:
    # Take the effects one by one, and keep every way to explain those so far.
    wanted = tuple(0 if may_miss else slot.at_least for slot in slots)
    explanations = {_Explanation(-1, 0, (0,) * len(slots))}
    previous: float | None = None
    for did in effects:
        can_be_lost = [_may_be_undone(slot, did.at, interruptions) for slot in slots]
        reached = set()
        for index, slot in enumerate(slots):
            if not matches(slot.effect, did.effect, did.at):
                continue
            most = inf if any_number or can_be_lost[index] else slot.at_most
            can_restart = previous is not None and _may_come_again(slot, previous, did.at, interruptions)
            for before in explanations:
                times = before.times_with(index, most, can_restart=can_restart)
                left_behind = range(max(before.slot, 0), index)
                is_complete = all(before.had[one] >= wanted[one] or can_be_lost[one] for one in left_behind)
                if times is not None and is_complete:
                    reached.add(before.extended(index, min(times, len(effects)), wanted[index]))
        explanations = reached
        previous = did.at
    return any(each.had == wanted for each in explanations)


def _may_be_undone(slot: _Slot, at: float, interruptions: Sequence[Interruption]) -> bool:
    # Its outcome comes from a new owner of the partition, who cannot report what the first one did or did not do.
    return any(at < one.end + LATE_EFFECT and slot.published > one.begin for one in interruptions)


def _may_come_again(slot: _Slot, previous: float, at: float, interruptions: Sequence[Interruption]) -> bool:
    # Between these two effects its partition may have got a new owner, who starts over with what was not published.
    return any(
        previous < one.end + LATE_EFFECT and one.begin < at and slot.published > one.begin
        for one in interruptions
    )


def _what_fails(
    slots: Sequence[_Slot], effects: Sequence[ObservedEffect], interruptions: Sequence[Interruption]
) -> ViolationKind:
    if _explains(slots, effects, interruptions, any_number=True):
        return ViolationKind.EXECUTED_AGAIN
    if _explains(slots, effects, interruptions, may_miss=True):
        return ViolationKind.NOT_EXECUTED
    return ViolationKind.OUT_OF_ORDER


State = dict[str, CommandedEffect | ObservedEffect | str | None]
"""The bans of a user and the texts of its member information, each by name: as commanded, or as applied."""


def _end_is_right(parts: Sequence[CommandForUser], effects: Sequence[ObservedEffect]) -> bool:
    states: list[State] = [{}]
    for part in parts:
        then = [_after(state, part.effect, part.effect) for state in states]
        if part.status in IN_PLACE or (part.status == "duplicate" and not part.repeats):
            states = then
        elif part.status == "" or (part.status in TRIED and part.attempts != frozenset()):
            states += [state for state in then if state not in states]
    end: State = {}
    for did in effects:
        end = _after(end, did.effect, did)
    return any(_agree(state, end) for state in states)


def _after(state: State, effect: CommandedEffect, ban: CommandedEffect | ObservedEffect) -> State:
    """Return the state that an effect leaves; if it sets a ban, then this one."""
    if effect.action in BANS:
        name, is_set = BANS[effect.action]
        return {**state, name: ban if is_set else None}
    if effect.action == UPDATE and effect.info is not None:
        info = effect.info
        given = {"card": info.name_card, "role": info.role, "custom": info.custom_info}
        return {**state, **{name: value for name, value in given.items() if value is not None}}
    return state


def _agree(wanted: State, real: State) -> bool:
    return wanted.keys() == real.keys() and all(
        matches(value, did.effect, did.at)
        if isinstance(value, CommandedEffect) and isinstance(did := real[name], ObservedEffect)
        else value == real[name]
        for name, value in wanted.items()
    )


def _described(parts: Sequence[CommandForUser], effects: Sequence[ObservedEffect]) -> str:
    asked = ", ".join(f"{part.name} {_short(part.effect)} {part.status or 'no outcome'}" for part in parts)
    did = ", ".join(f"{_short(did.effect)} at {did.at:.3f}" for did in effects)
    return f"commanded: {asked or 'nothing'}; done: {did or 'nothing'}"


def _short(effect: CommandedEffect) -> str:
    return effect.action.partition(".")[2] + (
        f" for {effect.duration} s" if effect.duration is not None else ""
    )
