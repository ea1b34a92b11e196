# The history of one user in one room: what the commands asked for, in their order, against what the API did.
#
# Pure. The API's log does not say for which command a request was made, so the question is asked the other way round:
# can the effects be explained, one after the other, by the commands in their order? If not, what is it that fails?

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from worker.testing.checker.contract import BAN, IN_PLACE, LIVE_UNBAN, UNBAN, UPDATE, CommandedEffect
from worker.testing.checker.evidence import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.testing.checker.evidence import Interruption

LATE_EFFECT: Final = 3.0
"""So long after a crash the dead process's last requests may still take effect: the API's own budget, in seconds."""
ROUNDING: Final = 15.0
"""How far a ban's end, counted from when it was read, may lie from the end that was commanded: rounding up, and the time
that a try was on its way."""


@dataclass(frozen=True, slots=True)
class Wish:
    """
    One command's part for this user, and what its outcome says of it.

    Attributes:
        status: Of this user's result; "" when there is no outcome.
        tries: The requests that the outcome lists; None when it does not list all.
        published: When its outcome was published, seconds since 1970.
        request_id: Of the request that decided, where the API gives one.
        repeats: A record with the same command_id was carried out before, so that this one asks for nothing.
        name: For the message.

    """

    effect: CommandedEffect
    status: str
    tries: frozenset[tuple[str, str]] | None = frozenset()
    published: float = inf
    repeats: bool = False
    request_id: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """One effect that the API had on this user."""

    effect: CommandedEffect
    at: float


def matches(wish: CommandedEffect, did: CommandedEffect, at: float) -> bool:
    """Whether an effect read at ``at`` is what the command asked for."""
    if (wish.action, wish.reason, wish.info) != (did.action, did.reason, did.info):
        return False
    if wish.until is not None:
        return did.duration is not None and abs(at + did.duration - wish.until) < ROUNDING
    return wish.duration == did.duration


def judge(
    wishes: Sequence[Wish], effects: Sequence[Applied], breaks: Sequence[Interruption] = ()
) -> Iterator[tuple[Violation, str]]:
    """What is wrong with this user's history. ``wishes`` and ``effects`` are each in their order."""
    asked = [did for did in effects if any(matches(wish.effect, did.effect, did.at) for wish in wishes)]
    if len(asked) < len(effects):
        strange = next(did for did in effects if did not in asked)
        yield Violation.UNASKED, f"{strange.effect} at {strange.at:.3f}"
    slots = _slots(wishes)
    if not _explains(slots, asked, breaks):
        yield _what_fails(slots, asked, breaks), _told(wishes, effects)
    if not _end_is_right(wishes, effects):
        yield Violation.WRONG_STATE, _told(wishes, effects)


@dataclass(slots=True)
class _Slot:
    """Neighbouring commands with one effect: how often it may, and must, have happened in their place."""

    effect: CommandedEffect
    published: float
    groups: list[frozenset[tuple[str, str]]] = field(default_factory=list)
    tries: frozenset[tuple[str, str]] = frozenset()
    at_least: int = 0
    at_most: float = 0

    def add(self, wish: Wish) -> None:
        """One more command. Those that say ``applied`` and share a request need one effect together."""
        self.published = max(self.published, wish.published)
        if wish.tries is None or wish.status == "":
            self.at_most = inf
        tries = wish.tries or frozenset()
        self.tries |= tries
        self.at_most = max(self.at_most, len(self.tries))
        if wish.status != "applied":
            return
        own = tries if wish.request_id is None else tries | {("RequestId", wish.request_id)}
        if not own and self.groups:
            return  # which of its requests decided is not told: it may have been any that is counted
        touching = [group for group in self.groups if group & own]
        self.groups = [group for group in self.groups if not group & own] + [own.union(*touching)]
        self.at_least = len(self.groups)


_WITHOUT_CALL: Final = frozenset({"duplicate", "superseded", "rejected"})


def _slots(wishes: Sequence[Wish]) -> list[_Slot]:
    slots: list[_Slot] = []
    last: _Slot | None = None
    for wish in wishes:
        idle = wish.status in _WITHOUT_CALL or (
            not wish.tries and wish.tries is not None and wish.status in {"failed", "expired"}
        )
        if idle:
            slots.append(_Slot(wish.effect, wish.published))
            continue
        if last is None or last.effect != wish.effect:
            last = _Slot(wish.effect, wish.published)
            slots.append(last)
        last.add(wish)
    return slots


def _explains(
    slots: Sequence[_Slot],
    effects: Sequence[Applied],
    breaks: Sequence[Interruption],
    *,
    any_number: bool = False,
    may_miss: bool = False,
) -> bool:
    # Plays the effects through the slots and keeps every place where the play may stand: the slot, the effects in it since
    # it was entered, and how many each slot had of those that it must have.
    wanted = tuple(0 if may_miss else slot.at_least for slot in slots)
    states = {(-1, 0, (0,) * len(slots))}
    previous: float | None = None
    for did in effects:
        reached = set()
        for index, slot in enumerate(slots):
            if not matches(slot.effect, did.effect, did.at):
                continue
            unheard = _may_be_undone(slot, did.at, breaks)
            redone = previous is not None and _may_come_again(slot, previous, did.at, breaks)
            for at, count, had in states:
                number = count + 1 if index == at else 1
                if not (any_number or number <= slot.at_most or unheard):
                    if not redone:
                        continue
                    number = 1
                if index < at and not redone:
                    continue
                passed = range(max(at, 0), index)
                if all(
                    had[one] >= wanted[one] or _may_be_undone(slots[one], did.at, breaks) for one in passed
                ):
                    more = (*had[:index], min(had[index] + 1, wanted[index]), *had[index + 1 :])
                    reached.add((index, min(number, len(effects)), more))
        states = reached
        previous = did.at
    return any(had == wanted for _, _, had in states)


def _may_be_undone(slot: _Slot, at: float, breaks: Sequence[Interruption]) -> bool:
    # Its outcome tells of a second life: what there was, or was not, in the first one nobody has told.
    return any(at < one.end + LATE_EFFECT and slot.published > one.begin for one in breaks)


def _may_come_again(slot: _Slot, previous: float, at: float, breaks: Sequence[Interruption]) -> bool:
    # Between these two effects its partition may have got a new owner, who begins with what was not published.
    return any(
        previous < one.end + LATE_EFFECT and one.begin < at and slot.published > one.begin for one in breaks
    )


def _what_fails(
    slots: Sequence[_Slot], effects: Sequence[Applied], breaks: Sequence[Interruption]
) -> Violation:
    if _explains(slots, effects, breaks, any_number=True):
        return Violation.EXECUTED_AGAIN
    if _explains(slots, effects, breaks, may_miss=True):
        return Violation.NOT_EXECUTED
    return Violation.OUT_OF_ORDER


State = dict[str, CommandedEffect | str | None]


def _end_is_right(wishes: Sequence[Wish], effects: Sequence[Applied]) -> bool:
    states: list[State] = [{}]
    for wish in wishes:
        if wish.status in IN_PLACE or (wish.status == "duplicate" and not wish.repeats):
            states = [_after(state, wish.effect) for state in states]
        elif wish.status == "" or (wish.status in {"failed", "expired"} and wish.tries != frozenset()):
            states += [
                _after(state, wish.effect) for state in states if _after(state, wish.effect) not in states
            ]
    end: State = {}
    at = 0.0
    for did in effects:
        end = _after(end, did.effect)
        if did.effect.action == BAN:
            at = did.at
    return any(_same(state, end, at) for state in states)


def _after(state: State, effect: CommandedEffect) -> State:
    # A kick is an event: it leaves nothing behind that could be wrong.
    if effect.action in {BAN, UNBAN}:
        return {**state, "ban": effect if effect.action == BAN else None}
    if effect.action == LIVE_UNBAN:
        return {**state, "live": None}
    if effect.action == UPDATE and effect.info is not None:
        info = effect.info
        told = {"card": info.name_card, "role": info.role, "custom": info.custom_info}
        return {**state, **{name: value for name, value in told.items() if value is not None}}
    return state


def _same(wished: State, real: State, banned_at: float) -> bool:
    ban, real_ban = wished.get("ban"), real.get("ban")
    if isinstance(ban, CommandedEffect) and isinstance(real_ban, CommandedEffect):
        return matches(ban, real_ban, banned_at) and _rest(wished) == _rest(real)
    return wished == real


def _rest(state: State) -> State:
    return {name: value for name, value in state.items() if name != "ban"}


def _told(wishes: Sequence[Wish], effects: Sequence[Applied]) -> str:
    asked = ", ".join(f"{wish.name} {_short(wish.effect)} {wish.status or 'no outcome'}" for wish in wishes)
    did = ", ".join(f"{_short(did.effect)} at {did.at:.3f}" for did in effects)
    return f"commanded: {asked or 'nothing'}; done: {did or 'nothing'}"


def _short(effect: CommandedEffect) -> str:
    return effect.action.partition(".")[2] + (
        f" for {effect.duration} s" if effect.duration is not None else ""
    )
