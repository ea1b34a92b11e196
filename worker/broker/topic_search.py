# Searches a range of a topic: all its partitions at once, batch by batch, committed records only.
#
# Over a consumer that has joined no group. How a batch is searched is in batch_search.py; what matches, and how far to go, is
# decided by the caller (command_history.py, dead_letter_reader.py).

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from worker.broker import kafka_private_parts
from worker.broker.batch_search import ScannedRecords, contains
from worker.broker.offset_range_reader import POLL_MS, READ_SECONDS
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kafka import KafkaConsumer

    from worker.broker.batch_search import SearchTerms

BATCHES: Final = 64
"""The most batches that one poll returns. What they hold is bounded by what is fetched at once."""


class BatchMatches(Struct, frozen=True):
    """
    The records that match in one batch: offset, timestamp (milliseconds since 1970) and value of each, in order.

    Attributes:
        read: How many records were searched.

    """

    topic: str
    partition: int
    records: list[tuple[int, int, bytes | None]]
    read: int


def search(
    reader: KafkaConsumer,
    begins: Mapping[Any, int],
    ends: Mapping[Any, int],
    terms: SearchTerms,
    times: tuple[float, float],
) -> Iterator[BatchMatches]:
    """
    Yield what matches between ``begins`` and ``ends``, batch by batch, each partition's in order. Reassigns the reader.

    A record matches if it was written in ``times`` (milliseconds since 1970, the end exclusive) and has the ``terms``, if any.
    Raises BrokerError if the brokers return nothing for ``READ_SECONDS``, and kafka-python's own errors.
    """
    positions = {tp: begin for tp, begin in begins.items() if begin < ends[tp]}
    kafka_private_parts.scan(reader, terms)
    try:
        _assign(reader, positions)
        progressed = time.monotonic()
        while positions:
            found = reader.poll(timeout_ms=POLL_MS, max_records=BATCHES)
            for tp, batches in found.items():
                for batch in batches:
                    yield _matches_in(tp, batch, (begins[tp], ends[tp]), terms, times)
            now, before = time.monotonic(), positions
            # Markers and aborted records move a position and return nothing, so all are asked where nothing came.
            positions = before | {tp: reader.position(tp) for tp in found or before}
            if positions != before:
                progressed = now
            elif now - progressed > READ_SECONDS:
                tp = min(positions)
                raise BrokerError(
                    f"{tp.topic}[{tp.partition}] returns nothing from offset {positions[tp]} on"
                )
            if any(position >= ends[tp] for tp, position in positions.items()):
                # A partition at its end is given up, not paused: kafka-python may keep what a poll left of a paused one for ever.
                positions = {tp: position for tp, position in positions.items() if position < ends[tp]}
                _assign(reader, positions)
    finally:
        kafka_private_parts.scan(reader, None)


def _assign(reader: KafkaConsumer, positions: Mapping[Any, int]) -> None:
    reader.assign(list(positions))
    for tp, position in positions.items():
        reader.seek(tp, position)


def _matches_in(
    tp: Any, batch: Any, offsets: tuple[int, int], terms: SearchTerms, times: tuple[float, float]
) -> BatchMatches:
    values = batch.value
    if not isinstance(values, ScannedRecords):  # one record of an old format
        matches = contains(values or b"", terms)
        values = ScannedRecords([(batch.offset, batch.timestamp, values)] if matches else [])
        values.read = 1
    (begin, end), (first, last) = offsets, times
    records = [each for each in values if begin <= each[0] < end and first <= each[1] < last]
    return BatchMatches(tp.topic, tp.partition, records, values.read)
