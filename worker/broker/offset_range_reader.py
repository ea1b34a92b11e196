# Reads ranges of offsets with a consumer that joins no group: a topic's partitions, where each ends, the first offset at or after a
# time, and the committed records of a range.
#
# For whatever reads a topic back, in the worker (partition_restore.py) and for the command line (command_history.py and others).
# They decide how far to read, and what a record means.

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, TopicPartition, errors

from worker.broker import kafka_private_parts
from worker.broker.client_config import reader_arguments
from worker.broker.error_mapping import sentence, unreachable
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from worker.broker.options import KafkaOptions

CLOCKS_APART: Final = 120.0
"""Seconds. A partition's outcomes are in the order of their publication; the clocks of workers that took turns may differ by this."""
READ_SECONDS: Final = 30.0
"""How long a broker may return nothing although there is something to read."""
FETCH_BYTES: Final = 1024 * 1024
"""A lookup may run beside a worker, within its pod's memory limit; a compressed megabyte holds thousands of outcomes."""
FETCH_WAIT_MS: Final = 20
"""How long a broker keeps a fetch that finds nothing. A range is read to its end, and kafka-python fetches beyond it ahead of time;
the next partition's fetch then waits for that answer."""
POLL_MS: Final = 500
POLL_RECORDS: Final = 5_000


def open_reader(options: KafkaOptions, purpose: str, **changes: Any) -> KafkaConsumer:
    """
    Open a consumer that joins no group, for a lookup beside the worker. Raises BrokerError if Kafka cannot be reached.

    ``purpose`` is a word for its client id; ``changes`` are arguments that differ from a reader's.
    """
    arguments = {
        **reader_arguments(options),
        "client_id": f"{options.client_name}-{purpose}",
        "fetch_max_bytes": FETCH_BYTES,
        "max_partition_fetch_bytes": FETCH_BYTES,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        **changes,
    }
    try:
        return kafka_private_parts.open_client(KafkaConsumer, arguments, options.secrets_for("common"))
    except errors.KafkaError as exc:
        raise unreachable(options.bootstrap_servers, exc) from exc


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Tell what Kafka refuses in one sentence. Raises BrokerError."""
    try:
        yield
    except errors.KafkaError as exc:
        raise BrokerError(f"{what} cannot be read: {sentence(exc)}") from exc


def partitions_of(reader: KafkaConsumer, topic: str) -> list[Any]:
    """Return the partitions of a topic, in order. Raises BrokerError if there are none to be seen."""
    partitions = reader.partitions_for_topic(topic)
    if not partitions:
        raise BrokerError(
            f"there is no topic {topic}, or this user may not read it: see `moderation-worker topics create`, or grant Read on it"
        )
    return [TopicPartition(topic, partition) for partition in sorted(partitions)]


def ends(reader: KafkaConsumer, tps: Sequence[Any], until: float | None = None) -> dict[Any, int]:
    """Return where each partition ends, or where to stop in it: behind everything written before ``until``."""
    found = {tp: int(end) for tp, end in reader.end_offsets(tps).items()}
    return found if until is None else begins_since(reader, tps, until + CLOCKS_APART, found)


def begins_since(
    reader: KafkaConsumer, tps: Sequence[Any], since: float, ends: Mapping[Any, int]
) -> dict[Any, int]:
    """Return where in each partition the records written at or after ``since`` begin, or its end if there are none."""
    firsts = first_since(reader, tps, since)
    return {tp: ends[tp] if first is None else min(first, ends[tp]) for tp, first in firsts.items()}


def first_since(reader: KafkaConsumer, tps: Sequence[Any], since: float) -> dict[Any, int | None]:
    """Return each partition's first offset written at or after ``since`` (seconds since 1970); None where there is none."""
    found = reader.offsets_for_times({tp: max(0, round(since * 1000)) for tp in tps})
    return {tp: None if (at := found[tp]) is None else int(at.offset) for tp in tps}


def batches(reader: KafkaConsumer, tp: Any, begin: int, end: int) -> Iterator[list[Any]]:
    """
    Yield the committed records from ``begin`` up to ``end`` in order, as they arrive. Reassigns the reader.

    Raises BrokerError if the broker returns nothing for ``READ_SECONDS``, and kafka-python's own errors.
    """
    reader.assign([tp])
    reader.seek(tp, begin)
    progressed = time.monotonic()
    while (position := reader.position(tp)) < end:
        batch = reader.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS).get(tp, ())
        yield [record for record in batch if record.offset < end]
        if reader.position(tp) != position:
            progressed = time.monotonic()
        elif time.monotonic() - progressed > READ_SECONDS:
            raise BrokerError(f"{tp.topic}[{tp.partition}] returns nothing from offset {position} on")


def all_batches(
    reader: KafkaConsumer, begins: Mapping[Any, int], ends: Mapping[Any, int]
) -> Iterator[list[Any]]:
    """Yield the committed records from ``begins`` up to ``ends``, one partition after the other, each in order."""
    for tp, begin in begins.items():
        if begin < ends[tp]:
            yield from batches(reader, tp, begin, ends[tp])
