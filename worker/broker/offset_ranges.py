# Spans of partitions: where they begin and end, and the committed records in them, read by a consumer that has joined no group.
#
# For those who read back (restore.py, outcome_reader.py). What a record holds, and how far back to go, is theirs to say.

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kafka import KafkaConsumer

READ_SECONDS: Final = 30.0
"""The longest that a broker may give nothing while there is something to read."""
POLL_MS: Final = 500
POLL_RECORDS: Final = 5_000


def ends(reader: KafkaConsumer, places: Sequence[Any]) -> dict[Any, int]:
    """Where each partition ends: for a reader of committed records, before the first transaction that is open."""
    return {place: int(end) for place, end in reader.end_offsets(places).items()}


def first_since(reader: KafkaConsumer, places: Sequence[Any], since: float) -> dict[Any, int | None]:
    """In each partition the first offset that was written at or after ``since``, in seconds since 1970; None if there is none."""
    told = reader.offsets_for_times({place: max(0, round(since * 1000)) for place in places})
    return {place: None if (at := told[place]) is None else int(at.offset) for place in places}


def batches(reader: KafkaConsumer, place: Any, begin: int, end: int) -> Iterator[list[Any]]:
    """
    The committed records from ``begin`` up to ``end``, in order, as they come. The reader is assigned to nothing else meanwhile.

    Raises BrokerError when the broker gives nothing for too long, and kafka-python's own errors.
    """
    reader.assign([place])
    reader.seek(place, begin)
    heard = time.monotonic()
    while (position := reader.position(place)) < end:
        batch = reader.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS).get(place, ())
        yield [record for record in batch if record.offset < end]
        if reader.position(place) != position:
            heard = time.monotonic()
        elif time.monotonic() - heard > READ_SECONDS:
            raise BrokerError(f"{place.topic}[{place.partition}] gives nothing from offset {position}")
