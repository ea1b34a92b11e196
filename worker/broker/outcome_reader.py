# What Kafka tells of commands: the outcome topic read backwards, the newest first, and what still waits in the command topic.
#
# For a person who asks. No group is joined, nothing is written, and no more is kept than is returned. What an outcome or
# a command must hold to be shown is decided by the caller.

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, TopicPartition, errors
from msgspec import Struct

from worker.broker import offset_ranges
from worker.broker.client_config import reader_arguments
from worker.broker.error_mapping import sentence, unreachable
from worker.broker.kafka_patches import known_topic_id, opened
from worker.domain.progress.commit_metadata import decode, label
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from worker.broker.options import KafkaOptions
    from worker.domain.contract.records import Record

    Wanted = Callable[[bytes], bool]
    """Whether the value of an outcome's record is one of those asked for."""
    WantedCommand = Callable[[Record], bool]
    """The same of a command's record."""
    Progress = Callable[[int, float], None]
    """Told how many records were read so far, and back to which time (seconds since 1970)."""

FIRST_STEP: Final = 60.0
"""Seconds. The first look back; each further one goes back twice as far as the one before."""
FETCH_BYTES: Final = 1024 * 1024
"""It may run beside a worker, within the memory of its pod; compressed, a megabyte holds thousands of outcomes."""


class Found(Struct, frozen=True):
    """
    One record that was asked for.

    Attributes:
        timestamp: As its writer gave it: milliseconds since 1970, if it keeps to Kafka's rule; -1 for none.

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
        """Where it stands; of a command, this is its outcome_id."""
        return f"{self.topic}-{self.partition}-{self.offset}"


class WaitingCommand(Struct, frozen=True):
    """
    One command without an outcome when it was asked for.

    Attributes:
        ahead: How many records its partition's oldest open command is before it; that one and all between may be open.
        held_from: The offset from which a transaction that is still open holds up its partition, and so this command;
            None where nobody but the worker is waited for.

    """

    record: Found
    ahead: int
    held_from: int | None = None


class Begun(Struct, frozen=True):
    """
    What the group had done with one partition at a moment: everything below ``position``, and above it what ``bits`` tells.

    Attributes:
        committed: Below ``position`` where commands have been deleted that were not done.

    """

    position: int
    committed: int
    bits: int = 0

    def is_done(self, offset: int) -> bool:
        """Whether that record was finished."""
        return offset < self.position or bool(self.bits >> (offset - self.position) & 1)


class Unseen(Struct, frozen=True):
    """
    What a search could not look at, although it may have been there.

    Attributes:
        older: Whether there are outcomes from before the time that was looked back to.
        deleted: Whether outcomes have been deleted for their age.
        skipped: The commands that were deleted before the group had done them: partition -> first offset and the one after
            the last.

    """

    older: bool
    deleted: bool
    skipped: Mapping[int, tuple[int, int]]


class OutcomeReader:
    """One look at the topics, over a connection of its own. A context manager. Raises BrokerError when Kafka refuses."""

    def __init__(self, options: KafkaOptions, progress: Progress = lambda _count, _back_to: None) -> None:
        self._options = options
        self._progress = progress
        self._read = 0
        self._reader = self._opened({})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close(autocommit=False)

    def __repr__(self) -> str:
        return f"<OutcomeReader of {self._options.outcome_topic}, {self._read} records read>"

    def outcomes(self, wanted: Wanted, since: float, limit: int) -> Iterator[Found]:
        """
        The outcomes that are wanted, the newest first, at most ``limit`` and none written before ``since``.

        It goes back in steps of time over all partitions at once, so the newest are told before the oldest are read.
        """
        try:
            places = self._places(self._options.outcome_topic)
            ends = offset_ranges.ends(self._reader, places)
            step, now = FIRST_STEP, time.time()
            begin = now
            while limit and begin > since:
                begin = max(since, begin - step)
                step *= 2
                begins = self._since(places, begin, ends)
                newest = self._newest(self._records(begins, ends), wanted, limit)
                self._progress(self._read, begin)
                yield from newest
                limit -= len(newest)
                ends = begins
        except errors.KafkaError as exc:
            raise self._unreadable(self._options.outcome_topic, exc) from exc

    def begun(self) -> Mapping[int, Begun]:
        """
        What the group has done so far in each partition. Take it before ``outcomes``, and give it to ``waiting``.

        Else a command could end between the two and be told by neither.
        """
        try:
            places = self._places(self._options.command_topic)
            starts = self._reader.beginning_offsets(places)
            told = {place: self._reader.committed(place, metadata=True) for place in places}
        except errors.KafkaError as exc:
            raise self._unreadable(f"the commits of {self._options.group_id}", exc) from exc
        return {
            place.partition: self._begun(place, commit, int(starts[place])) for place, commit in told.items()
        }

    def waiting(
        self, begun: Mapping[int, Begun], wanted: WantedCommand, limit: int
    ) -> Sequence[WaitingCommand]:
        """
        The commands that are wanted and were not done when ``begun`` was asked, oldest first, at most ``limit``.

        Last come those that the worker is not given yet: they are behind a transaction that their producer has not ended.
        """
        topic = self._options.command_topic
        begins = {TopicPartition(topic, partition): each.position for partition, each in begun.items()}
        try:
            stable = offset_ranges.ends(self._reader, list(begins))
            found: list[WaitingCommand] = []
            for record in self._records(begins, stable):
                if len(found) == limit:
                    break
                if wanted(record) and not begun[record.partition].is_done(record.offset):
                    ahead = record.offset - begun[record.partition].position
                    found.append(WaitingCommand(_found(record), ahead))
            found.sort(key=lambda each: each.record.timestamp)
            return [*found, *self._held(begun, stable, wanted, limit - len(found))]
        except errors.KafkaError as exc:
            raise self._unreadable(topic, exc) from exc

    def _held(
        self, begun: Mapping[int, Begun], stable: Mapping[Any, int], wanted: WantedCommand, limit: int
    ) -> Iterator[WaitingCommand]:
        reader = self._opened({"isolation_level": "read_uncommitted"})
        try:
            all_ends = offset_ranges.ends(reader, list(stable))
            for record in self._records(stable, all_ends, reader):
                if limit == 0:
                    return
                if wanted(record):
                    limit -= 1
                    place = TopicPartition(record.topic, record.partition)
                    ahead = record.offset - begun[record.partition].position
                    yield WaitingCommand(_found(record), ahead, stable[place])
        finally:
            reader.close(autocommit=False)

    def unseen(self, since: float, begun: Mapping[int, Begun]) -> Unseen:
        """What ``outcomes`` back to ``since``, and ``waiting``, could not look at."""
        topic = self._options.outcome_topic
        try:
            places = self._places(topic)
            ends = offset_ranges.ends(self._reader, places)
            starts = self._reader.beginning_offsets(places)
            firsts = self._since(places, since, ends)
        except errors.KafkaError as exc:
            raise self._unreadable(topic, exc) from exc
        return Unseen(
            older=any(int(starts[place]) < firsts[place] for place in places),
            deleted=any(int(starts[place]) > 0 for place in places),
            skipped={
                partition: (each.committed, each.position)
                for partition, each in begun.items()
                if each.committed < each.position
            },
        )

    def _opened(self, changes: Mapping[str, Any]) -> KafkaConsumer:
        arguments = {
            **reader_arguments(self._options),
            "client_id": f"{self._options.client_name}-history",
            "fetch_max_bytes": FETCH_BYTES,
            "max_partition_fetch_bytes": FETCH_BYTES,
            **changes,
        }
        try:
            return opened(KafkaConsumer, arguments)
        except errors.KafkaError as exc:
            raise unreachable(self._options.bootstrap_servers, exc) from exc

    def _unreadable(self, what: str, error: errors.KafkaError) -> BrokerError:
        return BrokerError(f"{what} cannot be read: {sentence(error)}")

    def _begun(self, place: Any, commit: Any, start: int) -> Begun:
        if commit is None:
            return Begun(start, 0)
        whose = label(place.topic, known_topic_id(self._reader, place.topic), place.partition)
        bits = decode(commit.metadata or "", whose, commit.offset) or 0
        position = max(commit.offset, start)
        return Begun(position, commit.offset, bits >> (position - commit.offset))

    def _newest(self, records: Iterator[Any], wanted: Wanted, limit: int) -> list[Found]:
        found = (_found(record) for record in records if record.value is not None and wanted(record.value))
        return heapq.nlargest(limit, found, key=lambda each: (each.timestamp, each.offset))

    def _records(
        self, begins: Mapping[Any, int], ends: Mapping[Any, int], reader: KafkaConsumer | None = None
    ) -> Iterator[Any]:
        """The committed records from ``begins`` up to ``ends``, each partition's in order."""
        for place, begin in begins.items():
            if begin >= ends[place]:
                continue
            for batch in offset_ranges.batches(reader or self._reader, place, begin, ends[place]):
                self._read += len(batch)
                yield from batch

    def _places(self, topic: str) -> list[Any]:
        partitions = self._reader.partitions_for_topic(topic)
        if not partitions:
            raise BrokerError(f"there is no topic {topic}, or this user may not read it")
        return [TopicPartition(topic, partition) for partition in sorted(partitions)]

    def _since(self, places: Sequence[Any], since: float, ends: Mapping[Any, int]) -> dict[Any, int]:
        """Where in each partition the records of ``since`` and later begin; nowhere beyond ``ends``."""
        firsts = offset_ranges.first_since(self._reader, places, since)
        return {
            place: ends[place] if first is None else min(first, ends[place])
            for place, first in firsts.items()
        }


def _found(record: Any) -> Found:
    return Found(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        record.headers,
    )
