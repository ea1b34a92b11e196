# From results to finished offsets: commands whose tasks all have results are emitted, in an order that is safe if the worker crashes
# at any point, then gathered into transactions, and finished when their transaction is committed.
#
# One transaction at a time. What a result is, is decided elsewhere; an offset is finished in Partition.finish.

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.domain.effects import OutgoingOutcome, Transaction
from worker.domain.memory_budget import outcome_bytes, share
from worker.domain.progress.open_commands import OpenCommand
from worker.domain.progress.outcome_building import (
    dead_letter_of,
    known_from,
    outcome_of,
    rejection_outcome,
    traceparent_of,
)
from worker.domain.progress.partitioned_budget import PartitionedBudget

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.effects import OffsetCommit
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.dedupe import MemberKey
    from worker.domain.progress.open_commands import OpenRecord, RejectedRecord
    from worker.domain.progress.partitions import Partition

PER_TRANSACTION: Final = 1000
"""The most records in one transaction: measured, 1,000 cost 26 ms, and nothing is gained beyond."""
PER_TRANSACTION_BYTES: Final = 8 * 1024 * 1024
"""The most bytes that the records of one transaction hold in memory, about as many as on the wire: a slow link must pass them in time."""
SLOW_SECONDS: Final = 2.5
"""A transaction that took longer is followed by one of half the size: brokers end those that are older than 10 s."""
TRIAL_SECONDS: Final = 10.0
"""Between two trials, whether the dead-letter topic takes records again; each may hold up publishing for some seconds."""
ASIDE: Final = 0.75
"""
The share of the room for results that may be taken by results that wait for a gap or for the dead-letter topic. The rest is always
there for results that can be published.
"""
MAX_UNPUBLISHED: Final = 5_000
"""With this many results waiting to be published, no further call is made."""


@dataclass(frozen=True, slots=True, eq=False)
class _RunningTransaction:
    """
    The transaction that is being published.

    Attributes:
        records: The records whose results are in it, in order.
        anchored: The partitions that it commits even without an outcome of theirs.
        commits: What it commits for each partition.
        is_trial: Whether it holds only the first held-back record, to test whether its dead letter is accepted.

    """

    records: list[OpenRecord]
    anchored: set[Partition]
    commits: dict[Partition, OffsetCommit]
    is_trial: bool


class Outbox:
    """
    The results that wait to be published or are being published, in the order of their emission.

    ``take_transaction`` takes the next ones, then ``committed`` or ``aborted`` answers for them.

    Attributes:
        max_unpublished: See ``MAX_UNPUBLISHED``.
        bytes_used: The bytes in memory of the outcomes that are not committed.

    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._emitted: deque[OpenRecord] = deque()
        # So far above the oldest open record that the bitmap cannot hold them.
        self._far: list[OpenRecord] = []
        # Waiting until their dead letters are accepted.
        self._held_back: list[OpenRecord] = []
        self._waiting_members: set[MemberKey] = set()  # of the held-back commands: their later ones wait, too
        self._holding_back = False
        self._trial_is_due = False
        self._trial_at = 0.0
        self._max_records = PER_TRANSACTION
        self._under_way: _RunningTransaction | None = None
        self._in_transaction = 0  # how many records are in `_under_way`
        self._anchors: set[Partition] = set()
        self.max_unpublished = MAX_UNPUBLISHED
        self._limit = share("results", settings.memory_budget)
        self._aside = PartitionedBudget(int(self._limit * ASIDE))  # the results in `_far` and `_held_back`
        self.bytes_used = 0

    @property
    def unpublished(self) -> int:
        """How many records have a result that is not committed."""
        return len(self._emitted) + len(self._far) + len(self._held_back) + self._in_transaction

    @property
    def is_full(self) -> bool:
        """
        Whether so many results wait to be published that no further call should be made.

        Results that wait for the gap below them to close do not count: closing it may need a call. Nor do those that wait for the
        dead-letter topic: the gap that they leave bounds them.
        """
        waiting = len(self._emitted) + self._in_transaction
        aside = self._aside.bytes_used
        room = self._limit - min(aside, self._aside.limit) if aside else self._limit
        return waiting >= self.max_unpublished or self.bytes_used - aside >= room

    def takes_more_of(self, partition: Partition) -> bool:
        """Return whether there is room for the results of further commands of the partition, so that these may be admitted."""
        return not self.is_full and (not self._aside.bytes_used or self._aside.takes_more_of(partition))

    def share_out(self, partitions: Iterable[Partition]) -> None:
        """Divide the room for results that are put aside among these partitions, which are ours now."""
        self._aside.share_out(partitions)

    # New results

    def emit(self, completed: Iterable[OpenCommand], now: float, wall: float) -> list[OpenCommand]:
        """
        Emit each command once all earlier ones that share a member with it are emitted, and then those that waited only for it.
        Return all emitted.
        """
        emitted = []
        ready = deque(completed)
        while ready:
            command = ready.popleft()
            if command.may_be_emitted:
                outcome = outcome_of(command, self._settings, now, wall)
                command.emit(outcome, outcome_bytes(outcome))
                self.bytes_used += command.outcome_size
                self._emitted.append(command)
                emitted.append(command)
                if command.successors is not None:
                    ready.extend(command.release_successors())
        return emitted

    def reject(self, rejected: RejectedRecord, now: float, wall: float) -> None:
        """Emit a record that was rejected."""
        outcome = rejection_outcome(rejected, self._settings, now, wall)
        rejected.emit(outcome, outcome_bytes(outcome))
        self.bytes_used += rejected.outcome_size
        self._emitted.append(rejected)

    def anchor(self, partition: Partition) -> None:
        """
        Let the next transaction commit the partition's position, even without an outcome of it.

        Where nothing was ever committed, a restart before the first outcome would choose another beginning. And after the last
        record there may be transaction markers, which would be reported as lag for ever.
        """
        self._anchors.add(partition)

    # Transactions

    def take_transaction(self, now: float) -> Transaction | None:
        """Take the next transaction; None if there is nothing to publish, or one is under way."""
        if self._under_way is not None or not (self._emitted or self._anchors or self._trial_is_due):
            return None
        trial = self._take_trial() if self._trial_is_due else []
        self._trial_is_due = False
        records = trial or self._take()
        if not records and not self._anchors:
            return None
        anchored, self._anchors = self._anchors, set()
        outcomes, dead_letters = [], []
        finishing: dict[Partition, list[int]] = {partition: [] for partition in anchored}
        for record in records:
            finishing.setdefault(record.partition, []).append(record.offset)
            if record.outcome is not None:
                outcomes.append(
                    OutgoingOutcome(
                        record.partition.number, record.key, record.outcome, traceparent_of(record)
                    )
                )
            letter = dead_letter_of(record, self._settings.topic)
            if letter is not None:
                dead_letters.append(letter)
        commits = {partition: partition.propose(offsets, now) for partition, offsets in finishing.items()}
        self._under_way = _RunningTransaction(records, anchored, commits, bool(trial))
        self._in_transaction = len(records)
        return Transaction(
            outcomes, dead_letters, {partition.number: commit for partition, commit in commits.items()}
        )

    def committed(self, wall: float, seconds: float = 0.0) -> list[OpenRecord]:
        """Finish the records of the transaction: it is committed, and took ``seconds``. Return those that were not dropped."""
        done = self._end()
        self._resize(len(done.records), too_slow=seconds > SLOW_SECONDS)
        finished = [record for record in done.records if not record.dropped]
        self.bytes_used -= sum([record.outcome_size for record in done.records])
        by_partition: dict[Partition, list[OpenRecord]] = {}
        for record in finished:
            by_partition.setdefault(record.partition, []).append(record)
        for partition, committed in by_partition.items():
            partition.finish(committed, [known_from(record, wall) for record in committed])
        for partition, commit in done.commits.items():
            partition.committed(commit)
        self._requeue_near()
        if done.is_trial:
            self._holding_back = False
            # Before the near ones: of two commands that share a member, the held-back one is the earlier.
            self._requeue_held_back()
        for record in finished:
            if isinstance(record, OpenCommand):
                record.unlink()
        return finished

    def aborted(self, *, took_too_long: bool = False, dead_letters_refused: bool = False) -> None:
        """
        Keep the results of the transaction, which was not committed: they are published again, first and in the same order.

        ``took_too_long``: the next transaction is half as large. ``dead_letters_refused``: only dead letters were refused, so results
        that need one are held back until a trial succeeds (``schedule_trial``).
        """
        failed = self._end()
        if took_too_long:
            self._resize(len(failed.records), too_slow=True)
        kept = [record for record in failed.records if not record.dropped]
        self.bytes_used -= sum(record.outcome_size for record in failed.records if record.dropped)
        if failed.is_trial:
            self._keep_held_back([*kept, *self._held_back])
            self._count_aside(kept)
        else:
            # Reconsider held-back results too, after this transaction's, which came first.
            self._requeue_held_back()
            self._emitted.extendleft(reversed(kept))
        self._holding_back = self._holding_back or dead_letters_refused
        self._anchors |= {partition for partition in failed.anchored if not partition.is_gone}

    def schedule_trial(self, now: float) -> None:
        """Let the next transaction be a trial, from time to time: the first held-back record alone."""
        if self._held_back and self._under_way is None and now >= self._trial_at:
            self._trial_at = now + TRIAL_SECONDS
            self._trial_is_due = True

    def stranded(self) -> list[OpenRecord]:
        """
        Return results in closing partitions that wait for a gap nobody here will close: the partition has no other open records, so
        those below were dropped.
        """
        by_partition: dict[Partition, list[OpenRecord]] = {}
        for record in self._far:
            if record.partition.is_closing:
                by_partition.setdefault(record.partition, []).append(record)
        return [
            record
            for partition, far in by_partition.items()
            if len(far) == len(partition.open_records)
            for record in far
        ]

    def forget_dropped(self) -> None:
        """Forget the results of dropped records."""
        here = (*self._emitted, *self._far, *self._held_back)
        self.bytes_used -= sum(record.outcome_size for record in here if record.dropped)
        self._uncount_aside([record for record in (*self._far, *self._held_back) if record.dropped])
        self._emitted = deque(record for record in self._emitted if not record.dropped)
        self._far = [record for record in self._far if not record.dropped]
        self._keep_held_back([record for record in self._held_back if not record.dropped])
        self._trial_is_due = self._trial_is_due and bool(self._held_back)
        self._anchors = {partition for partition in self._anchors if not partition.is_gone}

    def _take_trial(self) -> list[OpenRecord]:
        """Take the first held-back record. Those that the bitmap cannot hold are moved to ``_far``, as in ``_take``."""
        near: list[OpenRecord] = []
        for record in self._held_back:
            (near if record.partition.offsets.fits(record.offset) else self._far).append(record)
        self._keep_held_back(near[1:])
        self._uncount_aside(near[:1])
        return near[:1]

    def _take(self) -> list[OpenRecord]:
        """Take the next records. Those that the bitmap cannot hold, or that must wait for the dead-letter topic, are put aside."""
        taken: list[OpenRecord] = []
        size = 0
        while self._emitted and len(taken) < self._max_records and size < PER_TRANSACTION_BYTES:
            record = self._emitted.popleft()
            if not record.partition.offsets.fits(record.offset):
                self._far.append(record)
                self._count_aside([record])
            elif self._holding_back and self._must_wait(record):
                self._held_back.append(record)
                self._waiting_members.update(_members_of(record))
                self._count_aside([record])
            else:
                taken.append(record)
                size += record.size + record.outcome_size
        return taken

    def _must_wait(self, record: OpenRecord) -> bool:
        """
        Return whether the record must wait for the dead-letter topic: it has a dead letter, or shares a member with an earlier record
        that waits, and that one must be finished first.
        """
        needs_letter = dead_letter_of(record, self._settings.topic) is not None
        return needs_letter or any(key in self._waiting_members for key in _members_of(record))

    def _end(self) -> _RunningTransaction:
        under_way, self._under_way = self._under_way, None
        self._in_transaction = 0
        assert under_way is not None, "no transaction is under way"
        return under_way

    def _resize(self, records: int, *, too_slow: bool) -> None:
        """Halve the limit after a slow transaction. Raise it by a quarter after a full one that was fast enough."""
        if too_slow:
            self._max_records = max(1, min(records, self._max_records) // 2)
        elif records >= self._max_records:
            self._max_records = min(PER_TRANSACTION, self._max_records + max(1, self._max_records // 4))

    def _requeue_near(self) -> None:
        """
        Queue records of ``_far`` again, before all others, if the bitmap can hold them now: together with what is queued of their
        partitions, by offset.
        """
        near: list[OpenRecord] = []
        far: list[OpenRecord] = []
        for record in self._far:
            (near if record.partition.offsets.fits(record.offset) else far).append(record)
        if not near:
            return
        self._far = far
        self._uncount_aside(near)
        # Commands of one partition that share a member: as they came. Earlier ones may have become near before, and wait since a small
        # transaction left them behind. The order between partitions does not matter.
        partitions = {record.partition for record in near}
        near += [record for record in self._emitted if record.partition in partitions]
        near.sort(key=lambda record: record.offset)
        self._emitted = deque([*near, *(each for each in self._emitted if each.partition not in partitions)])

    def _requeue_held_back(self) -> None:
        """Queue the held-back records again, before all others."""
        self._emitted.extendleft(reversed(self._held_back))
        self._uncount_aside(self._held_back)
        self._keep_held_back([])

    def _keep_held_back(self, records: list[OpenRecord]) -> None:
        """Hold back these records and no others."""
        self._held_back = records
        self._waiting_members = {key for record in records for key in _members_of(record)}

    def _count_aside(self, records: Iterable[OpenRecord]) -> None:
        """Count the results of records that were added to ``_far`` or ``_held_back``."""
        for record in records:
            self._aside.add(record.partition, record.outcome_size)

    def _uncount_aside(self, records: Iterable[OpenRecord]) -> None:
        """Count the results of records no longer that were removed from ``_far`` or ``_held_back``."""
        for record in records:
            self._aside.add(record.partition, -record.outcome_size)

    def __repr__(self) -> str:
        return f"<Outbox {len(self._emitted)} emitted, {len(self._far)} far ahead, {self._in_transaction} in a transaction>"


def _members_of(record: OpenRecord) -> list[MemberKey]:
    return [task.member_queue.key for task in record.tasks] if isinstance(record, OpenCommand) else []
