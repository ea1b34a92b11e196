# What Kafka tells of commands: the outcome topic read backwards, the newest first, and what still waits in the command topic.
#
# For a person who asks. No group is joined, nothing is written, and no more is kept than is returned. What an outcome or
# a command must hold to be shown is decided by the caller.

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, TopicPartition, errors
from msgspec import Struct

from worker.broker import offset_ranges
from worker.broker.client_config import reader_arguments
from worker.broker.kafka_patches import known_topic_id, opened
from worker.domain.progress.commit_metadata import decode, label
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

    from worker.broker.options import KafkaOptions

    Wanted = Callable[[bytes], bool]
    """Whether a record's value is one of those asked for."""
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
        written_at: Seconds since 1970, by its writer's clock.

    """

    topic: str
    partition: int
    offset: int
    written_at: float
    value: bytes

    @property
    def place(self) -> str:
        """Where it stands; of a command, this is its outcome_id."""
        return f"{self.topic}-{self.partition}-{self.offset}"


class WaitingCommand(Struct, frozen=True):
    """
    One command without an outcome when it was asked for.

    Attributes:
        ahead: How many records its partition's oldest open command is before it; that one and all between may be open.

    """

    record: Found
    ahead: int


class Begun(Struct, frozen=True):
    """What the group had done with one partition at a moment: everything below ``position``, and above it what ``bits`` tells."""

    position: int
    bits: int = 0

    def is_done(self, offset: int) -> bool:
        """Whether that record was finished."""
        return offset < self.position or bool(self.bits >> (offset - self.position) & 1)


class OutcomeReader:
    """One look at the topics, over a connection of its own. A context manager. Raises BrokerError when Kafka refuses."""

    def __init__(self, options: KafkaOptions, progress: Progress = lambda _count, _back_to: None) -> None:
        self._options = options
        self._progress = progress
        self._read = 0
        arguments = {
            **reader_arguments(options),
            "client_id": f"{options.client_name}-history",
            "fetch_max_bytes": FETCH_BYTES,
            "max_partition_fetch_bytes": FETCH_BYTES,
        }
        try:
            self._reader = opened(KafkaConsumer, arguments)
        except errors.KafkaError as exc:
            raise BrokerError(f"Kafka cannot be reached at {options.bootstrap_servers}: {exc}") from exc

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
            raise BrokerError(f"{self._options.outcome_topic} cannot be read: {exc!r}") from exc

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
            raise BrokerError(f"the commits of {self._options.group_id} cannot be read: {exc!r}") from exc
        return {
            place.partition: self._begun(place, commit, int(starts[place])) for place, commit in told.items()
        }

    def waiting(self, begun: Mapping[int, Begun], wanted: Wanted, limit: int) -> Sequence[WaitingCommand]:
        """The commands that are wanted and were not done when ``begun`` was asked, oldest first, at most ``limit``."""
        topic = self._options.command_topic
        begins = {TopicPartition(topic, partition): each.position for partition, each in begun.items()}
        found: list[WaitingCommand] = []
        try:
            for record in self._records(begins, offset_ranges.ends(self._reader, list(begins))):
                if len(found) == limit:
                    break
                if wanted(record.value or b"") and not begun[record.partition].is_done(record.offset):
                    ahead = record.offset - begun[record.partition].position
                    found.append(WaitingCommand(_found(record), ahead))
        except errors.KafkaError as exc:
            raise BrokerError(f"{topic} cannot be read: {exc!r}") from exc
        return sorted(found, key=lambda each: each.record.written_at)

    def _begun(self, place: Any, commit: Any, start: int) -> Begun:
        if commit is None:
            return Begun(start)
        whose = label(place.topic, known_topic_id(self._reader, place.topic), place.partition)
        bits = decode(commit.metadata or "", whose, commit.offset) or 0
        position = max(commit.offset, start)
        return Begun(position, bits >> (position - commit.offset))

    def _newest(self, records: Iterator[Any], wanted: Wanted, limit: int) -> list[Found]:
        found = (_found(record) for record in records if record.value is not None and wanted(record.value))
        return heapq.nlargest(limit, found, key=lambda each: (each.written_at, each.offset))

    def _records(self, begins: Mapping[Any, int], ends: Mapping[Any, int]) -> Iterator[Any]:
        """The committed records from ``begins`` up to ``ends``, each partition's in order."""
        for place, begin in begins.items():
            if begin >= ends[place]:
                continue
            for batch in offset_ranges.batches(self._reader, place, begin, ends[place]):
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
    return Found(record.topic, record.partition, record.offset, record.timestamp / 1000, record.value)
