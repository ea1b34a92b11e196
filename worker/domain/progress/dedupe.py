# Which commands were carried out already: command ids (kept per partition, restored from the outcome topic) and effects (the last
# one of each member, for a minute). Both are bounded by memory and by age, the ids by count as well.
#
# Ids of this process and restored ones are both remembered by `CommandIds.remember`, so they cannot disagree. What becomes of a repeat
# is decided in member_ordering.py.

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from msgspec import Struct

from worker.domain.contract.outcomes import (
    DONE_FOR_ID,
    DONE_FOR_SHADOW_ID,
    REMEMBERED,
    HashedUserSet,
    Outcome,
    RememberedCommandId,
)
from worker.domain.contract.parameters import NO_PARAMETERS, effect_of
from worker.domain.contract.timestamps import instant_of
from worker.domain.memory_budget import APPLIED_BYTES, ID_BYTES, texts_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.contract.command_decoding import Command
    from worker.domain.contract.parameters import EffectKey

MemberKey = tuple[str, str, str]
"""(app, target, user): order is kept for each of these, across actions and services."""


def fingerprint(app: str, target: str, users: Iterable[str], effect: EffectKey) -> int:
    """Return a number for everything that a command id stands for. Such numbers are only compared within this process."""
    return hash((app, target, frozenset(users), effect))


def fingerprint_of(command: Command) -> int:
    """Return the fingerprint of a command."""
    return fingerprint(command.app, command.target, command.users, command.effect)


def known_of(value: bytes) -> RememberedCommandId | None:
    """Return what one record of the outcome topic says of its command id; None if nothing (it was rejected, or is not ours)."""
    try:
        return remembered(_decoder.decode(value))
    except (ValueError, RecursionError):
        return None


def remembered(outcome: Outcome) -> RememberedCommandId | None:
    """
    Return what an outcome says of its command id; None for that of a rejected record, whose id stands for nothing, of a command in
    shadow, and for an outcome so short that it does not say what its id stands for.
    """
    if outcome.status not in REMEMBERED or outcome.results_omitted:
        return None
    parameters = outcome.parameters or NO_PARAMETERS
    until = None if parameters.banned_until is None else instant_of(parameters.banned_until)
    stands_for = fingerprint(
        outcome.app or "",
        outcome.target or "",
        [result.user_id for result in outcome.results],
        effect_of(outcome.action or "", parameters, until),
    )
    return known_id(outcome, stands_for, instant_of(outcome.finished_at))


def known_id(outcome: Outcome, stands_for: int, at: float, *, name: str | None = None) -> RememberedCommandId:
    """
    Return what an outcome, made or read, says of its command id. ``stands_for`` is the command's fingerprint, ``at`` when the command
    finished, in seconds since 1970, ``name`` the name that is remembered in place of the id, of a command that was in shadow.
    """
    results, settled = outcome.results, DONE_FOR_ID if name is None else DONE_FOR_SHADOW_ID
    done: list[str] = []
    others: list[str] = []
    of_one = results[0].duplicate_of if results else None
    for result in results:
        is_done = result.status in settled or result.duplicate_of is not None
        (done if is_done else others).append(result.user_id)
        if result.duplicate_of != of_one:
            of_one = None
    return RememberedCommandId(
        command_id=name or outcome.command_id,
        fingerprint=stands_for,
        outcome_id=of_one or outcome.outcome_id,
        done=HashedUserSet.of(done, others) if others else None,
        at=at,
    )


_decoder: Final = msgspec.json.Decoder(Outcome)


class CommandIdBudget:
    """
    The memory that the ids of all partitions take together.

    When that is too much, a partition forgets its oldest ids: the one that has just learned an id if it has more than its part, else
    the one that has most.

    Attributes:
        bytes_used: The bytes of all ids.
        forgotten: Ids since the start that were forgotten early.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.forgotten = 0
        self._parts: list[CommandIds] = []
        self.bytes_used = 0

    def join(self, ids: CommandIds) -> None:
        """Count a partition's ids from now on."""
        self._parts.append(ids)

    def remove(self, ids: CommandIds) -> None:
        """Count a partition's ids no longer: it is gone."""
        self._parts.remove(ids)
        self.bytes_used -= ids.bytes_used

    def count(self, size: int) -> None:
        """Count further bytes; a negative ``size`` frees them."""
        self.bytes_used += size

    def make_fit(self, newest: CommandIds) -> None:
        """Forget ids until the rest fits: ``newest`` has just learned one."""
        while self.bytes_used > self._limit:
            if newest.bytes_used * len(self._parts) > self._limit:
                forgetting = newest
            else:
                forgetting = max(self._parts, key=lambda ids: ids.bytes_used)
            forgetting.forget_oldest()
            self.forgotten += 1


class CommandIds:
    """
    The command ids of one partition, bounded by the number of outcomes, by their age and by the memory of all ids.

    Attributes:
        bytes_used: Their bytes in memory.

    """

    def __init__(self, window: float, max_records: int, memory: CommandIdBudget) -> None:
        self._window = window
        self._max_records = max_records
        self._memory = memory
        self._by_id: dict[str, RememberedCommandId] = {}
        self._oldest_first: deque[RememberedCommandId | None] = deque()
        self.bytes_used = 0
        memory.join(self)

    def remember(self, known: RememberedCommandId | None) -> None:
        """
        Remember what one outcome record says. None: it says nothing. It takes a place all the same, because the restoration counts
        records.
        """
        self._oldest_first.append(known)
        if known is not None:
            self._by_id[known.command_id] = known
            size = known_bytes(known)
            self.bytes_used += size
            self._memory.count(size)
        if len(self._oldest_first) > self._max_records:
            self.forget_oldest()
        self._memory.make_fit(self)

    def find(self, command_id: str, wall: float) -> RememberedCommandId | None:
        """Return what is known of the id at ``wall`` (seconds since 1970); None if nothing is."""
        known = self._by_id.get(command_id)
        if known is None or known.at < wall - self._window:
            return None
        return known

    def expire(self, wall: float) -> None:
        """Forget outcome records that are older than the window."""
        oldest = wall - self._window
        while self._oldest_first and ((known := self._oldest_first[0]) is None or known.at < oldest):
            self.forget_oldest()

    def forget_oldest(self) -> None:
        """Forget the oldest outcome record."""
        known = self._oldest_first.popleft()
        if known is not None:
            size = known_bytes(known)
            self.bytes_used -= size
            self._memory.count(-size)
            if self._by_id.get(known.command_id) is known:
                del self._by_id[known.command_id]

    def close(self) -> None:
        """Forget everything: the partition is gone."""
        self._memory.remove(self)

    def __len__(self) -> int:
        return len(self._by_id)


def known_bytes(known: RememberedCommandId) -> int:
    """Return the bytes of a known id in memory."""
    users = 0 if known.done is None else known.done.size
    return ID_BYTES + texts_bytes(known.command_id, known.outcome_id) + users


def applied_bytes(member: MemberKey, state: AppliedState) -> int:
    """Return the bytes of an applied state in memory."""
    return APPLIED_BYTES + texts_bytes(member[2], state.outcome_id, state.request_id or "")


class PartitionAssignment(Protocol):
    """The time in which a partition is ours."""

    @property
    def is_gone(self) -> bool:
        """Whether it is over."""


class AppliedState(Struct, frozen=True, gc=False):
    """
    The last effect that was applied to a member.

    Attributes:
        what: The action and those of its parameters that make the state. Compared for equality.
        at: When the call was answered (monotonic).
        keep: For how many seconds a repeat of it needs no call.
        during: The assignment in which it was carried out. Once that is over, the state is not known any more.

    """

    what: object
    at: float
    keep: float
    outcome_id: str
    request_id: str | None
    during: PartitionAssignment


class AppliedStates:
    """
    The last effect of each member, for as long as a repeat of it needs no call; bounded by memory.

    Attributes:
        bytes_used: Their bytes in memory.
        forgotten: States since the start that were forgotten early.

    """

    def __init__(self, limit: int) -> None:
        self._by_member: OrderedDict[MemberKey, AppliedState] = OrderedDict()
        self._limit = limit
        self.forgotten = 0
        self.bytes_used = 0

    def applied(self, member: MemberKey, state: AppliedState) -> None:
        """Note the member's state."""
        self.forget(member)
        self._by_member[member] = state
        self.bytes_used += applied_bytes(member, state)
        while self.bytes_used > self._limit:
            self.forget(next(iter(self._by_member)))
            self.forgotten += 1

    def forget(self, member: MemberKey) -> None:
        """Forget the member's state, if it is known."""
        state = self._by_member.pop(member, None)
        if state is not None:
            self.bytes_used -= applied_bytes(member, state)

    def find(self, member: MemberKey, what: object, now: float) -> AppliedState | None:
        """Return the member's state if it makes a command with this effect needless now; else None."""
        state = self._by_member.get(member)
        if state is None or state.what != what or now >= state.at + state.keep:
            return None
        return state

    def expire(self, now: float, longest: float) -> None:
        """Forget states older than ``longest``, the most seconds that any is kept."""
        while self._by_member:
            member, state = next(iter(self._by_member.items()))
            if state.at > now - longest:
                return
            self.forget(member)

    def __len__(self) -> int:
        return len(self._by_member)
