# Records that kafka-python cannot read as it is: they must not stop a partition.

from __future__ import annotations

import struct
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import IsolationLevel
from kafka.consumer.subscription_state import SubscriptionState
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from kafka.record.util import calc_crc32c
from kafka.structs import TopicPartition

from worker.broker import kafka_private_parts

GOOD = "traceparent"


def written(*names: bytes) -> bytes:
    """A batch of three records, the middle one with these header names, which kafka-python would not write."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=65_536)
    stand_ins = [chr(ord("A") + number) * len(name) for number, name in enumerate(names)]
    headers = [(name, b"1" if number else None) for number, name in enumerate(stand_ins)]
    for number in range(3):
        builder.append(
            timestamp=1000,
            key=b"k",
            value=b"v%d" % number,
            headers=headers if number == 1 else [(GOOD, b"0")],
        )
    builder.close()
    batch = bytes(builder.buffer())
    for stand_in, name in zip(stand_ins, names, strict=True):
        batch = batch.replace(stand_in.encode(), name)
    return batch


def read(batch: bytes) -> list[tuple[bytes, list[tuple[str, Any]]]]:
    kafka_private_parts.install_replacements()
    records = MemoryRecords(batch).next_batch()
    return [(record.value, record.headers) for record in records]


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        ([b"gr\xfc\xdfe"], ["gr??e"]),
        ([b"first", "grüße".encode(), b"\xff\xfe"], ["first", "grüße", "??"]),
        ([b"\x80\x80", b"\xc3"], ["??", "?"]),
    ],
)
def test_a_header_whose_name_is_not_utf8_does_not_make_its_batch_unreadable(
    names: list[bytes], seen: list[str]
) -> None:
    """One such record would stop its partition for every replica, for ever."""
    before, strange, after = read(written(*names))

    assert [name for name, _ in strange[1]] == seen
    assert [value for _, value in strange[1]] == [None, b"1", b"1"][: len(names)]
    assert (before, after) == ((b"v0", [(GOOD, b"0")]), (b"v2", [(GOOD, b"0")]))
    assert strange[0] == b"v1"


@pytest.mark.parametrize("codec", ["GZIP", "SNAPPY", "LZ4", "ZSTD"])
def test_a_batch_in_any_of_kafkas_compressions_can_be_read(codec: str) -> None:
    """The producers choose it. One that cannot be read would end each replica that gets the partition."""
    number = getattr(DefaultRecordBatchBuilder, f"CODEC_{codec}")
    builder = MemoryRecordsBuilder(magic=2, compression_type=number, batch_size=65_536)
    builder.append(timestamp=1000, key=b"k", value=b"v" * 1000, headers=[])
    builder.close()

    assert read(bytes(builder.buffer())) == [(b"v" * 1000, [])]


class Fetched:
    """What came from one partition, as kafka-python keeps it until a poll takes it."""

    def __init__(self, partition: int, batch: bytes) -> None:
        self.topic_partition = TopicPartition("commands", partition)
        self.fetched_offset = 0
        self.batch = batch


def fetcher_of(*fetched: Fetched) -> Any:
    """Return the fetcher of a consumer that has these partitions, and has fetched this."""
    kafka_private_parts.install_replacements()
    subscriptions: Any = SubscriptionState()
    subscriptions.assign_from_user([each.topic_partition for each in fetched])
    for each in fetched:
        subscriptions.seek(each.topic_partition, 0)
    kind: Any = kafka_private_parts.BoundedFetcher
    fetcher = object.__new__(kind)
    fetcher.config = {"max_poll_records": 500}
    fetcher._subscriptions = subscriptions
    fetcher._sensors = fetcher._next_in_line_exception_metadata = fetcher._next_partition_records = None
    fetcher._paused_completed_fetches, fetcher._paused_partition_records = {}, {}
    fetcher._completed_fetches = deque(fetched)
    fetcher._parse_fetched_data = lambda each: kind.PartitionRecords(
        0, each.topic_partition, MemoryRecords(each.batch)
    )
    return fetcher


def test_a_damaged_batch_never_keeps_a_poll_from_ending() -> None:
    """
    kafka-python keeps its error for the next poll, and forgets it if the partition is paused by then. What is left of the fetch
    yields nothing, and must not be asked for more without end.
    """
    sound = written()
    damaged = bytearray(sound)
    damaged[-3] ^= 0xFF
    fetcher = fetcher_of(Fetched(0, sound), Fetched(1, bytes(damaged)))
    places = list(fetcher._subscriptions.assignment)

    first, _ = fetcher.fetched_records()
    for place in places:
        fetcher._subscriptions.pause(place)
    assert fetcher.fetched_records() == ({}, False)
    for place in places:
        fetcher._subscriptions.resume(place)
    polling = threading.Thread(target=fetcher.fetched_records, daemon=True)
    polling.start()
    polling.join(5.0)

    assert [place.partition for place in first] == [0]
    assert not polling.is_alive()


def emptied_marker(offset: int) -> bytes:
    """What compaction leaves where a transaction's marker stood, if it was the last that its producer wrote: a batch without records."""
    transactional_control = 0b110000
    body = struct.pack(">hiqqqhii", transactional_control, 0, -1, -1, 7, 1, -1, 0)
    after_length = struct.pack(">ibI", 0, 2, calc_crc32c(body)) + body
    return struct.pack(">qi", offset, len(after_length)) + after_length


@pytest.mark.parametrize("is_searched", [False, True])
def test_a_marker_that_was_compacted_away_does_not_keep_a_topic_from_being_read(is_searched: bool) -> None:
    """kafka-python raised a RuntimeError: each replica that got the partition ended, until Kafka deleted that segment."""
    kafka_private_parts.install_replacements()
    consumer: Any = SimpleNamespace(_fetcher=SimpleNamespace())
    kafka_private_parts.scan(consumer, () if is_searched else None)
    records = MemoryRecords(emptied_marker(0) + written())
    part = consumer._fetcher.PartitionRecords(
        0, TopicPartition("outcomes", 0), records, isolation_level=IsolationLevel.READ_COMMITTED
    )

    taken = part.take()

    assert len(taken) == (1 if is_searched else 3)
