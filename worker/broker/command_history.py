# What Kafka tells of commands: the outcome topic read backwards, newest first, and the commands that still wait.
#
# For `moderation-worker outcomes`, `undo` and `dead-letters replay`. No group is joined, nothing is written, and no more is kept
# than is returned. The caller decides which outcomes and commands match.

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping
from contextlib import closing
from itertools import chain, islice
from math import inf
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition
from msgspec import Struct

from worker.broker.kafka_private_parts import known_topic_id
from worker.broker.offset_range_reader import (
    CLOCKS_APART,
    all_batches,
    begins_since,
    open_reader,
    partitions_of,
    reading,
)
from worker.broker.offset_range_reader import ends as ends_of
from worker.broker.topic_search import search
from worker.domain.contract.raw_records import place_of
from worker.domain.progress.commit_metadata import decode, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from kafka import KafkaConsumer

    from worker.broker.batch_search import SearchTerms
    from worker.broker.options import KafkaOptions
    from worker.broker.topic_search import BatchMatches
    from worker.domain.contract.raw_records import Record

    Wanted = Callable[[bytes], bool]
    """Returns whether the value of an outcome record matches."""
    WantedCommand = Callable[[Record], bool]
    """Returns whether a command record matches."""
    Progress = Callable[[int, float], None]
    """Called with the number of records read so far, and the time (seconds since 1970) back to which they were read."""

FIRST_STEP: Final = 60.0
"""Seconds of the first step back; each further step is twice as long as the one before."""
PROGRESS_SECONDS: Final = 0.2


class WaitingCommand(Struct, frozen=True):
    """
    One command that had no outcome at the time of the lookup.

    Attributes:
        ahead: The offsets from its partition's oldest open command to this one; the records between may be open too.
        held_from: The offset from which an open transaction of a producer holds up its partition, and so this command; None
            if only the worker is awaited.

    """

    record: Any
    ahead: int
    held_from: int | None = None

    @property
    def place(self) -> str:
        """Where its record is, as the outcome will name it."""
        return place_of(self.record.topic, self.record.partition, self.record.offset)


class FinishedOffsets(Struct, frozen=True):
    """
    What the group had done in one partition at a moment: everything below ``position``, and above it the offsets of ``bits``.

    Attributes:
        committed: The committed offset. It is below ``position`` if undone commands have been deleted.

    """

    position: int
    committed: int
    bits: int = 0

    def is_done(self, offset: int) -> bool:
        """Return whether that record was finished."""
        return offset < self.position or bool(self.bits >> (offset - self.position) & 1)


class SearchGaps(Struct, frozen=True):
    """
    What a lookup could not search, although it may have existed.

    Attributes:
        older: Whether there are outcomes from before the time that was searched back to.
        deleted: Whether outcomes have been deleted because of their age.
        skipped: Commands that were deleted before the group had done them: partition -> first offset, and the one after the
            last.
        commands_deleted: Whether commands of the time that was searched may have been deleted, read or not.

    """

    older: bool
    deleted: bool
    skipped: Mapping[int, tuple[int, int]]
    commands_deleted: bool = False


class CommandHistory:
    """The topics' commands and outcomes, over its own connection, as a context manager. Its methods raise BrokerError if Kafka refuses."""

    def __init__(self, options: KafkaOptions, progress: Progress = lambda _count, _back_to: None) -> None:
        self._options = options
        self._progress = progress
        self._read = 0
        self._reader = open_reader(options, "history")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close(autocommit=False)

    def __repr__(self) -> str:
        return f"<CommandHistory of {self._options.outcome_topic}, {self._read} records read>"

    @property
    def outcome_topic(self) -> str:
        """The topic whose outcomes are read."""
        return self._options.outcome_topic

    def outcomes(
        self,
        wanted: Wanted,
        since: float,
        limit: int,
        *,
        until: float | None = None,
        terms: SearchTerms = (),
    ) -> Iterator[bytes]:
        """
        Yield at most ``limit`` matching outcomes, newest first, written at or after ``since`` and before ``until`` (since 1970).

        It goes back in time over all partitions at once, step by step, so the newest are yielded before the oldest are read.
        What lacks the ``terms`` is not looked at: see batch_search.py.
        """
        with reading(self.outcome_topic):
            tps = partitions_of(self._reader, self.outcome_topic)
            ends = ends_of(self._reader, tps, until)
            step, now = FIRST_STEP, time.time()
            begin = now if until is None else min(now, until + CLOCKS_APART)
            while limit and begin > since:
                begin = max(since, begin - step)
                step *= 2
                begins = begins_since(self._reader, tps, begin, ends)
                batches = self._search(begins, ends, since, until, terms, begin)
                newest = heapq.nlargest(limit, _matching(batches, wanted), key=itemgetter(0, 1))
                self._progress(self._read, begin)
                yield from (value for _, _, value in newest)
                limit -= len(newest)
                ends = begins

    def every_outcome(
        self, since: float, *, until: float | None = None, terms: SearchTerms = ()
    ) -> Iterator[list[bytes]]:
        """Yield the values of all outcomes of that time that have the ``terms``, in lists; each partition's in order."""
        with reading(self.outcome_topic):
            tps = partitions_of(self._reader, self.outcome_topic)
            ends = ends_of(self._reader, tps, until)
            begins = begins_since(self._reader, tps, since, ends)
            for batch in self._search(begins, ends, since, until, terms, since):
                yield [value for _, _, value in batch.records if value is not None]

    def _search(
        self,
        begins: Mapping[Any, int],
        ends: Mapping[Any, int],
        since: float,
        until: float | None,
        terms: SearchTerms,
        back_to: float,
    ) -> Iterator[BatchMatches]:
        times = since * 1000, inf if until is None else until * 1000
        shown = time.monotonic()
        for batch in search(self._reader, begins, ends, terms, times):
            self._read += batch.read
            if (now := time.monotonic()) - shown > PROGRESS_SECONDS:
                shown = now
                self._progress(self._read, back_to)
            yield batch

    def group_progress(self) -> Mapping[int, FinishedOffsets]:
        """
        Return what the group has done so far in each partition. Call it before ``outcomes``, and pass the result to ``waiting``.

        In the other order a command could finish between the two and appear in neither.
        """
        with reading(f"the commits of {self._options.group_id}"):
            tps = partitions_of(self._reader, self._options.command_topic)
            starts = self._reader.beginning_offsets(tps)
            commits = {tp: self._reader.committed(tp, metadata=True) for tp in tps}
        return {
            tp.partition: self._partition_progress(tp, commit, int(starts[tp]))
            for tp, commit in commits.items()
        }

    def waiting(
        self, group_progress: Mapping[int, FinishedOffsets], wanted: WantedCommand, limit: int
    ) -> Sequence[WaitingCommand]:
        """
        Return at most ``limit`` matching commands that were not done when ``group_progress`` was called, oldest first.

        Commands that the worker cannot read yet come last: they are behind a transaction that a producer has not ended.
        """
        begins = self._begins(group_progress)
        with reading(self._options.command_topic):
            stable = ends_of(self._reader, list(begins))
            # The oldest of each partition first, so that those of one partition do not hide older ones of another.
            of_each = (
                self._open(self._reader, group_progress, {tp: begin}, stable) for tp, begin in begins.items()
            )
            oldest = [
                record
                for batches in of_each
                for record in islice(filter(wanted, chain.from_iterable(batches)), limit)
            ]
            oldest = sorted(oldest, key=attrgetter("timestamp"))[:limit]
            behind = filter(wanted, chain.from_iterable(self._behind_transactions(group_progress, stable)))
            return [
                *(WaitingCommand(each, _ahead(each, group_progress)) for each in oldest),
                *(
                    WaitingCommand(each, _ahead(each, group_progress), stable[_place(each)])
                    for each in islice(behind, limit - len(oldest))
                ),
            ]

    def unfinished(self) -> Iterator[list[Record]]:
        """
        Yield the command records that the group had not finished at the beginning, batch by batch, partition by partition.

        Those that the worker cannot read yet come last, since a producer's transaction before them is open. A batch may be empty,
        so that a caller can stop in between.
        """
        group_progress = self.group_progress()
        begins = self._begins(group_progress)
        with reading(f"the topic {self._options.command_topic}"):
            stable = ends_of(self._reader, list(begins))
            yield from self._open(self._reader, group_progress, begins, stable)
            yield from self._behind_transactions(group_progress, stable)

    def _begins(self, group_progress: Mapping[int, FinishedOffsets]) -> dict[Any, int]:
        topic = self._options.command_topic
        return {TopicPartition(topic, partition): each.position for partition, each in group_progress.items()}

    def _open(
        self,
        reader: KafkaConsumer,
        group_progress: Mapping[int, FinishedOffsets],
        begins: Mapping[Any, int],
        ends: Mapping[Any, int],
    ) -> Iterator[list[Any]]:
        for batch in all_batches(reader, begins, ends):
            yield [record for record in batch if not group_progress[record.partition].is_done(record.offset)]

    def _behind_transactions(
        self, group_progress: Mapping[int, FinishedOffsets], stable: Mapping[Any, int]
    ) -> Iterator[list[Any]]:
        """Yield what is behind a transaction that a producer has not ended, which the worker cannot read yet."""
        begins = {tp: max(begin, stable[tp]) for tp, begin in self._begins(group_progress).items()}
        with closing(open_reader(self._options, "history", isolation_level="read_uncommitted")) as reader:
            yield from self._open(reader, group_progress, begins, ends_of(reader, list(begins)))

    def search_gaps(self, since: float, group_progress: Mapping[int, FinishedOffsets]) -> SearchGaps:
        """Return what ``outcomes`` back to ``since``, and ``waiting``, could not search although it may have existed."""
        starts, firsts = self._starts_and_firsts(self._options.outcome_topic, since)
        command_starts, command_firsts = self._starts_and_firsts(self._options.command_topic, since)
        return SearchGaps(
            older=any(starts[tp] < firsts[tp] for tp in starts),
            deleted=any(starts.values()),
            skipped={
                partition: (each.committed, each.position)
                for partition, each in group_progress.items()
                if each.committed < each.position
            },
            # Where what is kept begins with an older command, all of that time is kept.
            commands_deleted=any(0 < start >= command_firsts[tp] for tp, start in command_starts.items()),
        )

    def _starts_and_firsts(self, topic: str, since: float) -> tuple[dict[Any, int], dict[Any, int]]:
        """Return where in each partition what is kept begins, and where what was written at or after ``since`` does."""
        with reading(topic):
            tps = partitions_of(self._reader, topic)
            ends = ends_of(self._reader, tps)
            starts = self._reader.beginning_offsets(tps)
            return {tp: int(starts[tp]) for tp in tps}, begins_since(self._reader, tps, since, ends)

    def _partition_progress(self, tp: Any, commit: Any, start: int) -> FinishedOffsets:
        if commit is None:
            return FinishedOffsets(start, 0)
        expected_label = label(tp.topic, known_topic_id(self._reader, tp.topic), tp.partition)
        bits = decode(commit.metadata or "", expected_label, commit.offset) or 0
        position = max(commit.offset, start)
        return FinishedOffsets(position, commit.offset, bits >> (position - commit.offset))


def _matching(batches: Iterator[BatchMatches], wanted: Wanted) -> Iterator[tuple[int, int, bytes]]:
    for batch in batches:
        for offset, timestamp, value in batch.records:
            if value is not None and wanted(value):
                yield timestamp, offset, value


def _place(record: Any) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)


def _ahead(record: Any, group_progress: Mapping[int, FinishedOffsets]) -> int:
    position: int = record.offset - group_progress[record.partition].position
    return position
