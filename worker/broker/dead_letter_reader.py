# Reads the dead-letter topic: every record written in a given time, as a dead letter or as no letter of ours.
#
# No group is joined, nothing is written, and no more is kept than one batch. What is done with a letter is the caller's to decide.

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from kafka import errors
from msgspec import Struct

from worker.broker import offset_range_reader
from worker.broker.command_history import CLOCKS_APART
from worker.broker.error_mapping import sentence
from worker.domain.contract.dead_letter_decoding import NotADeadLetter, ParsedDeadLetter, read_letter
from worker.domain.contract.raw_records import place_of
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.broker.options import KafkaOptions


class DeadLetterRecord(Struct, frozen=True):
    """
    One record of the dead-letter topic.

    Attributes:
        timestamp: Milliseconds since 1970.
        headers: All of the record's, ours included.

    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    letter: ParsedDeadLetter | NotADeadLetter

    @property
    def place(self) -> str:
        """Topic, partition and offset of the record itself."""
        return place_of(self.topic, self.partition, self.offset)


def dead_letters(
    options: KafkaOptions,
    since: float,
    until: float | None = None,
    progress: Callable[[int, float], None] = lambda _count, _back_to: None,
) -> Iterator[DeadLetterRecord]:
    """
    Yield the records that were written at or after ``since`` and before ``until`` (seconds since 1970), each partition's in order.

    Raises BrokerError if Kafka cannot be reached, or refuses.
    """
    reader = offset_range_reader.open_reader(options, "letters")
    topic, count = options.dead_letter_topic, 0
    first, last = since * 1000, inf if until is None else until * 1000
    try:
        tps = offset_range_reader.partitions_of(reader, topic)
        ends = offset_range_reader.ends(reader, tps)
        begins = offset_range_reader.first_since(reader, tps, since)
        stops = {} if until is None else offset_range_reader.first_since(reader, tps, until + CLOCKS_APART)
        for tp in tps:
            begin, stop = begins[tp], stops.get(tp)
            end = ends[tp] if stop is None else min(stop, ends[tp])
            if begin is None or begin >= end:
                continue
            for batch in offset_range_reader.batches(reader, tp, begin, end):
                count += len(batch)
                progress(count, since)
                yield from (_found(record) for record in batch if first <= record.timestamp < last)
    except errors.KafkaError as exc:
        raise BrokerError(f"{topic} cannot be read: {sentence(exc)}") from exc
    finally:
        reader.close(autocommit=False)


def _found(record: Any) -> DeadLetterRecord:
    return DeadLetterRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=record.headers,
        letter=read_letter(record.key, record.value, record.headers),
    )
