# Reads the dead-letter topic: every record written in a given time, as a dead letter or as no letter of ours.
#
# No group is joined, nothing is written, and no more is kept than one batch. What is done with a letter is the caller's to decide.

from __future__ import annotations

from contextlib import closing
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from worker.broker.offset_range_reader import all_batches, begins_since, open_reader, partitions_of, reading
from worker.broker.offset_range_reader import ends as ends_of
from worker.domain.contract.dead_letter_decoding import NotADeadLetter, ParsedDeadLetter, read_letter
from worker.domain.contract.raw_records import place_of

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
    topic, count = options.dead_letter_topic, 0
    first, last = since * 1000, inf if until is None else until * 1000
    with closing(open_reader(options, "letters")) as reader, reading(topic):
        tps = partitions_of(reader, topic)
        ends = ends_of(reader, tps, until)
        for batch in all_batches(reader, begins_since(reader, tps, since, ends), ends):
            count += len(batch)
            progress(count, since)
            yield from (_found(record) for record in batch if first <= record.timestamp < last)


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
