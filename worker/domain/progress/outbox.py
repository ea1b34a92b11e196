# From results to finished offsets: commands whose members all have results are emitted, in an order that a crash at any
# point leaves right, gathered into transactions, and finished when a transaction is committed.
#
# An offset is finished in exactly one place: `committed`. What a result is, is decided elsewhere.

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from worker.domain.effects import Outgoing, Transaction
from worker.domain.memory import outcome_bytes, share
from worker.domain.progress.outcome_building import (
    dead_letter_of,
    known_of,
    outcome_of,
    traceparent_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.effects import OffsetCommit
    from worker.domain.progress.dedupe import MemberKey
    from worker.domain.progress.open_commands import OpenCommand, Partition
    from worker.domain.rules import Rules

PER_TRANSACTION: Final = 1000
"""The most commands in one transaction: measured, 1,000 records cost 26 ms, and nothing is gained beyond."""
PER_TRANSACTION_BYTES: Final = 8 * 1024 * 1024
"""The most memory that its commands hold, which is about what their records take: a slow link must pass them in time."""
SLOW_SECONDS: Final = 2.5
"""A transaction that took longer is followed by one of half the size: brokers end those that are older than 10 s."""
PROBE_SECONDS: Final = 10.0
"""How often it is looked whether dead letters can be written again; each look may hold up publishing for some seconds."""
MAX_UNPUBLISHED: Final = 5_000
"""Above so many results that cannot be published, no further call is made: what is done must be told first."""


class Outbox:
    """
    The results on their way to Kafka, in the order of their emission.

    One transaction at a time: ``transaction`` takes it, then ``committed`` or ``aborted`` answers for it.

    Attributes:
        held: What the outcomes that are not committed take in memory.

    """

    __slots__ = (
        "_anchoring",
        "_anchors",
        "_commits",
        "_emitted",
        "_far",
        "_far_held",
        "_held",
        "_holding",
        "_limit",
        "_most",
        "_probe_at",
        "_probing",
        "_rules",
        "_taken",
        "_under_way",
        "held",
        "max_unpublished",
    )

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._emitted: deque[OpenCommand] = deque()
        self._far: list[OpenCommand] = []
        self._held: list[OpenCommand] = []
        self._holding = False
        self._probing = False
        self._probe_at = 0.0
        self._most = PER_TRANSACTION
        self._taken: list[OpenCommand] = []
        self._under_way = False
        self._anchors: set[Partition] = set()
        self._anchoring: set[Partition] = set()
        self._commits: dict[Partition, OffsetCommit] = {}
        self.max_unpublished = MAX_UNPUBLISHED
        self._limit = share("results", rules.memory_budget)
        self._far_held = 0
        self.held = 0

    @property
    def unpublished(self) -> int:
        """How many commands have an outcome that is not committed."""
        return len(self._emitted) + len(self._far) + len(self._held) + len(self._taken)

    @property
    def is_full(self) -> bool:
        """
        Whether so much could be published and is not that nothing new should be done.

        What only waits for the gap below it to close does not count: closing it may need a call. Nor does what waits for the
        dead-letter topic: the gap that it leaves bounds it.
        """
        waiting = len(self._emitted) + len(self._taken)
        return waiting >= self.max_unpublished or self.held - self._far_held >= self._limit

    @property
    def takes_more(self) -> bool:
        """Whether further commands may be admitted, whose results would come to those that are here."""
        return not self.is_full and self.held < self._limit

    def emit(self, works: Iterable[OpenCommand], now: float, wall: float) -> list[OpenCommand]:
        """
        The commands have all their results. Each is emitted once every earlier command that shares a member with it is;
        with it, those are emitted that only waited for it. Returns those emitted.
        """
        emitted = []
        ready = deque(works)
        while ready:
            work = ready.popleft()
            if work.left or work.waits or work.emitted or work.dropped:
                continue
            work.emitted = True
            work.outcome = outcome_of(work, self._rules, now, wall)
            work.outcome_size = outcome_bytes(work.outcome)
            self.held += work.outcome_size
            self._emitted.append(work)
            emitted.append(work)
            ready.extend(self.release(work))
        return emitted

    def release(self, work: OpenCommand) -> list[OpenCommand]:
        """Nothing needs to wait for this command any more. Returns those that may be emitted now."""
        followers, work.followers = work.followers, None
        if followers is None:
            return []
        freed = []
        for follower in followers:
            follower.waits -= 1
            if not follower.waits and not follower.left:
                freed.append(follower)
        return freed

    def transaction(self) -> Transaction | None:
        """What shall be published next, in one transaction; None if there is nothing, or one is under way."""
        if self._under_way or not (self._emitted or self._anchors or self._probing):
            return None
        works = self._take_probe() or self._take()
        if not works and not self._anchors:
            return None
        self._under_way = True
        outcomes = [
            Outgoing(work.partition.number, work.key, work.outcome, traceparent_of(work))
            for work in works
            if work.outcome is not None
        ]
        dead_letters = [
            letter for work in works if (letter := dead_letter_of(work, self._rules.topic)) is not None
        ]
        self._taken = works
        self._anchoring, self._anchors = self._anchors, set()
        self._commits = {partition: partition.offsets.propose(()) for partition in self._anchoring}
        self._commits |= _commits(works)
        commits = {partition.number: commit for partition, commit in self._commits.items()}
        return Transaction(outcomes, dead_letters, commits)

    def committed(self, wall: float, seconds: float = 0.0) -> list[OpenCommand]:
        """
        The transaction is committed: its offsets are finished, its command ids known. Returns its commands.

        ``seconds`` is how long it took.
        """
        works, self._taken = self._taken, []
        self._under_way = False
        self._resize(len(works), too_slow=seconds > SLOW_SECONDS)
        if self._probing:
            self._probing = self._holding = False
            self._emitted.extendleft(reversed(self._held))
            self._held.clear()
        self._anchoring.clear()
        self.held -= sum(work.outcome_size for work in works)
        finished: dict[Partition, list[int]] = {}
        for work in works:
            if not work.dropped:
                finished.setdefault(work.partition, []).append(work.offset)
        for partition, offsets in finished.items():
            partition.offsets.finish(offsets)
        for partition, commit in self._commits.items():
            partition.offsets.committed(commit)
        self._commits = {}
        self._approach()
        for work in works:
            if work.dropped:
                continue
            partition = work.partition
            del partition.works[work.offset]
            if work.outcome is not None:
                partition.ids.remember(known_of(work, wall))
            if work.rejected is None and partition.by_id.get(work.command.command_id) is work:
                del partition.by_id[work.command.command_id]
            work.let_go()
        return works

    def aborted(self, *, aged: bool = False, letters: bool = False) -> None:
        """
        The transaction was not committed: its results go again, first and in the same order.

        ``aged``: it took too long, so the next one is half as large. ``letters``: only its dead letters were refused, so what
        needs one is held back until ``probe``.
        """
        works, self._taken = self._taken, []
        if aged:
            self._resize(len(works), too_slow=True)
        if self._probing:
            self._probing = False
            self._held[:0] = [work for work in works if not work.dropped]
            works = [work for work in works if work.dropped]
        self._holding = self._holding or letters
        self._under_way = False
        self._anchors |= {partition for partition in self._anchoring if not partition.gone}
        self._anchoring.clear()
        self.held -= sum(work.outcome_size for work in works if work.dropped)
        self._emitted.extendleft(work for work in reversed(works) if not work.dropped)

    def probe(self, now: float) -> None:
        """Lets the first of what is held back for its dead letter try again, alone, from time to time."""
        if self._held and not self._under_way and now >= self._probe_at:
            self._probe_at = now + PROBE_SECONDS
            self._probing = True

    def anchor(self, partition: Partition) -> None:
        """
        The next transaction commits where the partition stands, even without an outcome of it.

        Where nothing was ever committed, a restart before the first outcome would choose another beginning. And behind the last
        record may be markers of transactions, which would be told as lag for ever.
        """
        self._anchors.add(partition)

    def forget_dropped(self) -> None:
        """Forgets the results of dropped commands."""
        self.held -= sum(
            work.outcome_size for work in (*self._emitted, *self._far, *self._held) if work.dropped
        )
        self._emitted = deque(work for work in self._emitted if not work.dropped)
        self._far = [work for work in self._far if not work.dropped]
        self._held = [work for work in self._held if not work.dropped]
        self._probing = self._probing and bool(self._held or self._under_way)
        self._measure_far()
        self._anchors = {partition for partition in self._anchors if not partition.gone}

    def _take(self) -> list[OpenCommand]:
        """The next commands. Those whose offset is so far above the gap that the bitmap could not tell of it are put aside."""
        works: list[OpenCommand] = []
        size = 0
        held = {member.line.key for work in self._held for member in work.members}
        while self._emitted and len(works) < self._most and size < PER_TRANSACTION_BYTES:
            work = self._emitted.popleft()
            if not work.partition.offsets.fits(work.offset):
                self._far.append(work)
            elif self._holding and self._must_wait(work, held):
                self._held.append(work)
                held.update(member.line.key for member in work.members)
            else:
                works.append(work)
                size += work.size + work.outcome_size
        self._measure_far()
        return works

    def _must_wait(self, work: OpenCommand, held: set[MemberKey]) -> bool:
        """
        Whether it waits for the dead-letter topic: it has a dead letter, or shares a member with an earlier one that waits,
        which may not be finished after it.
        """
        needs_letter = dead_letter_of(work, self._rules.topic) is not None
        return needs_letter or any(member.line.key in held for member in work.members)

    def _take_probe(self) -> list[OpenCommand]:
        return [self._held.pop(0)] if self._probing else []

    def _resize(self, commands: int, *, too_slow: bool) -> None:
        """Halves the size of transactions after one that was too slow; a quarter more after one that was full and was not."""
        if too_slow:
            self._most = max(1, min(commands, self._most) // 2)
        elif commands >= self._most:
            self._most = min(PER_TRANSACTION, self._most + max(1, self._most // 4))

    def _approach(self) -> None:
        """A gap may have closed: what was put aside because of it goes before all others."""
        if self._far:
            near = [work for work in self._far if work.partition.offsets.fits(work.offset)]
            self._far = [work for work in self._far if not work.partition.offsets.fits(work.offset)]
            self._emitted.extendleft(reversed(near))
            self._measure_far()

    def _measure_far(self) -> None:
        self._far_held = sum(work.outcome_size for work in (*self._far, *self._held))

    def __repr__(self) -> str:
        return f"<Outbox {len(self._emitted)} emitted, {len(self._far)} far ahead, {len(self._taken)} in a transaction>"


def _commits(works: list[OpenCommand]) -> dict[Partition, OffsetCommit]:
    finishing: dict[Partition, set[int]] = {}
    for work in works:
        finishing.setdefault(work.partition, set()).add(work.offset)
    return {partition: partition.offsets.propose(offsets) for partition, offsets in finishing.items()}
