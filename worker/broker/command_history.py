# What Kafka tells of commands: the outcome topic read backwards, newest first, and the commands that still wait.
#
# For `moderation-worker outcomes`, `undo` and `dead-letters replay`. No group is joined, nothing is written, and no more is kept
# than is returned. The caller decides which outcomes and commands match.

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition, errors
from msgspec import Struct

from worker.broker import offset_range_reader
from worker.broker.error_mapping import sentence
from worker.broker.kafka_private_parts import known_topic_id
from worker.broker.topic_search import search
from worker.domain.contract.raw_records import place_of
from worker.domain.progress.commit_metadata import decode, label
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
CLOCKS_APART: Final = 120.0
"""Seconds. A partition's outcomes are in the order of their publication; the clocks of workers that took turns may differ by this."""
PROGRESS_SECONDS: Final = 0.2


class FoundOutcome(Struct, frozen=True):
    """
    One outcome record that matched.

    Attributes:
        timestamp: As its producer set it: milliseconds since 1970.

    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes

    @property
    def place(self) -> str:
        """Topic, partition and offset."""
        return place_of(self.topic, self.partition, self.offset)


class FoundCommand(Struct, frozen=True):
    """
    One command record that matched.

    Attributes:
        timestamp: As its producer set it: milliseconds since 1970, if it keeps to Kafka's rule; -1 for none.

    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    @property
    def place(self) -> str:
        """Topic, partition and offset, which is also its outcome_id."""
        return place_of(self.topic, self.partition, self.offset)


class WaitingCommand(Struct, frozen=True):
    """
    One command that had no outcome at the time of the lookup.

    Attributes:
        ahead: The offsets from its partition's oldest open command to this one; the records between may be open too.
        held_from: The offset from which an open transaction of a producer holds up its partition, and so this command; None
            if only the worker is awaited.

    """

    record: FoundCommand
    ahead: int
    held_from: int | None = None


class PartitionProgress(Struct, frozen=True):
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
        self._reader = offset_range_reader.open_reader(options, "history")

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
    ) -> Iterator[FoundOutcome]:
        """
        Yield at most ``limit`` matching outcomes, newest first, written at or after ``since`` and before ``until`` (since 1970).

        It goes back in time over all partitions at once, step by step, so the newest are yielded before the oldest are read.
        What lacks the ``terms`` is not looked at: see batch_search.py.
        """
        try:
            tps = offset_range_reader.partitions_of(self._reader, self._options.outcome_topic)
            ends = self._ends(tps, until)
            step, now = FIRST_STEP, time.time()
            begin = now if until is None else min(now, until + CLOCKS_APART)
            while limit and begin > since:
                begin = max(since, begin - step)
                step *= 2
                begins = self._since(tps, begin, ends)
                newest = heapq.nlargest(
                    limit,
                    self._matching(self._search(begins, ends, since, until, terms, begin), wanted),
                    key=lambda each: (each.timestamp, each.offset),
                )
                self._progress(self._read, begin)
                yield from newest
                limit -= len(newest)
                ends = begins
        except errors.KafkaError as exc:
            raise self._unreadable(self._options.outcome_topic, exc) from exc

    def every_outcome(
        self, since: float, *, until: float | None = None, terms: SearchTerms = ()
    ) -> Iterator[list[bytes]]:
        """Yield the values of all outcomes of that time that have the ``terms``, in lists; each partition's in order."""
        try:
            tps = offset_range_reader.partitions_of(self._reader, self._options.outcome_topic)
            ends = self._ends(tps, until)
            begins = self._since(tps, since, ends)
            for batch in self._search(begins, ends, since, until, terms, since):
                yield [value for _, _, value in batch.records if value is not None]
        except errors.KafkaError as exc:
            raise self._unreadable(self._options.outcome_topic, exc) from exc

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

    def _matching(self, batches: Iterator[BatchMatches], wanted: Wanted) -> Iterator[FoundOutcome]:
        for batch in batches:
            for offset, timestamp, value in batch.records:
                if value is not None and wanted(value):
                    yield FoundOutcome(batch.topic, batch.partition, offset, timestamp, value)

    def _ends(self, tps: Sequence[Any], until: float | None) -> dict[Any, int]:
        """Return where in each partition to stop: behind everything written before ``until``."""
        ends = offset_range_reader.ends(self._reader, tps)
        return ends if until is None else self._since(tps, until + CLOCKS_APART, ends)

    def group_progress(self) -> Mapping[int, PartitionProgress]:
        """
        Return what the group has done so far in each partition. Call it before ``outcomes``, and pass the result to ``waiting``.

        In the other order a command could finish between the two and appear in neither.
        """
        try:
            tps = offset_range_reader.partitions_of(self._reader, self._options.command_topic)
            starts = self._reader.beginning_offsets(tps)
            commits = {tp: self._reader.committed(tp, metadata=True) for tp in tps}
        except errors.KafkaError as exc:
            raise self._unreadable(f"the commits of {self._options.group_id}", exc) from exc
        return {
            tp.partition: self._partition_progress(tp, commit, int(starts[tp]))
            for tp, commit in commits.items()
        }

    def waiting(
        self, group_progress: Mapping[int, PartitionProgress], wanted: WantedCommand, limit: int
    ) -> Sequence[WaitingCommand]:
        """
        Return at most ``limit`` matching commands that were not done when ``group_progress`` was called, oldest first.

        Commands that the worker cannot read yet come last: they are behind a transaction that a producer has not ended.
        """
        topic = self._options.command_topic
        begins = {
            TopicPartition(topic, partition): each.position for partition, each in group_progress.items()
        }
        try:
            stable = offset_range_reader.ends(self._reader, list(begins))
            # The oldest of each partition first, so that those of one partition do not hide older ones of another.
            of_each = (self._waiting_in(tp, begins[tp], stable[tp], group_progress, wanted) for tp in begins)
            found = [each for waiting in of_each for each in islice(waiting, limit)]
            found.sort(key=lambda each: each.record.timestamp)
            del found[limit:]
            return [
                *found,
                *self._waiting_behind_transactions(group_progress, stable, wanted, limit - len(found)),
            ]
        except errors.KafkaError as exc:
            raise self._unreadable(topic, exc) from exc

    def _waiting_in(
        self,
        tp: Any,
        begin: int,
        end: int,
        group_progress: Mapping[int, PartitionProgress],
        wanted: WantedCommand,
    ) -> Iterator[WaitingCommand]:
        progress = group_progress[tp.partition]
        for record in self._records({tp: begin}, {tp: end}):
            if wanted(record) and not progress.is_done(record.offset):
                yield WaitingCommand(_found(record), record.offset - progress.position)

    def _waiting_behind_transactions(
        self,
        group_progress: Mapping[int, PartitionProgress],
        stable: Mapping[Any, int],
        wanted: WantedCommand,
        limit: int,
    ) -> Iterator[WaitingCommand]:
        reader = offset_range_reader.open_reader(self._options, "history", isolation_level="read_uncommitted")
        try:
            all_ends = offset_range_reader.ends(reader, list(stable))
            for record in self._records(stable, all_ends, reader):
                if limit == 0:
                    return
                if wanted(record):
                    limit -= 1
                    tp = TopicPartition(record.topic, record.partition)
                    ahead = record.offset - group_progress[record.partition].position
                    yield WaitingCommand(_found(record), ahead, stable[tp])
        finally:
            reader.close(autocommit=False)

    def search_gaps(self, since: float, group_progress: Mapping[int, PartitionProgress]) -> SearchGaps:
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
        try:
            tps = offset_range_reader.partitions_of(self._reader, topic)
            ends = offset_range_reader.ends(self._reader, tps)
            starts = self._reader.beginning_offsets(tps)
            return {tp: int(starts[tp]) for tp in tps}, self._since(tps, since, ends)
        except errors.KafkaError as exc:
            raise self._unreadable(topic, exc) from exc

    def _unreadable(self, what: str, error: errors.KafkaError) -> BrokerError:
        return BrokerError(f"{what} cannot be read: {sentence(error)}")

    def _partition_progress(self, tp: Any, commit: Any, start: int) -> PartitionProgress:
        if commit is None:
            return PartitionProgress(start, 0)
        expected_label = label(tp.topic, known_topic_id(self._reader, tp.topic), tp.partition)
        bits = decode(commit.metadata or "", expected_label, commit.offset) or 0
        position = max(commit.offset, start)
        return PartitionProgress(position, commit.offset, bits >> (position - commit.offset))

    def _records(
        self, begins: Mapping[Any, int], ends: Mapping[Any, int], reader: KafkaConsumer | None = None
    ) -> Iterator[Any]:
        """Yield the committed records from ``begins`` up to ``ends``, each partition's in order."""
        for tp, begin in begins.items():
            if begin >= ends[tp]:
                continue
            for batch in offset_range_reader.batches(reader or self._reader, tp, begin, ends[tp]):
                self._read += len(batch)
                yield from batch

    def _since(self, tps: Sequence[Any], since: float, ends: Mapping[Any, int]) -> dict[Any, int]:
        """Return where in each partition the records written at or after ``since`` begin, or its end if there are none."""
        firsts = offset_range_reader.first_since(self._reader, tps, since)
        return {tp: ends[tp] if first is None else min(first, ends[tp]) for tp, first in firsts.items()}


def _found(record: Any) -> FoundCommand:
    return FoundCommand(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
