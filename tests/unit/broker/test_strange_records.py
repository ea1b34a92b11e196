# Records that kafka-python cannot read as it is: they must not stop a partition.

from __future__ import annotations

from typing import Any

import pytest
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from worker.broker import kafka_private_parts

GOOD = "traceparent"


def written(*names: bytes) -> bytes:
    """
    A batch of three records, the middle one with these header names, which kafka-python would not write.
    """
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
    """
    One such record would stop its partition for every replica, for ever.
    """
    before, strange, after = read(written(*names))

    assert [name for name, _ in strange[1]] == seen
    assert [value for _, value in strange[1]] == [None, b"1", b"1"][: len(names)]
    assert (before, after) == ((b"v0", [(GOOD, b"0")]), (b"v2", [(GOOD, b"0")]))
    assert strange[0] == b"v1"


@pytest.mark.parametrize("codec", ["GZIP", "SNAPPY", "LZ4", "ZSTD"])
def test_a_batch_in_any_of_kafkas_compressions_can_be_read(codec: str) -> None:
    """
    The producers choose it. One that cannot be read would end each replica that gets the partition.
    """
    number = getattr(DefaultRecordBatchBuilder, f"CODEC_{codec}")
    builder = MemoryRecordsBuilder(magic=2, compression_type=number, batch_size=65_536)
    builder.append(timestamp=1000, key=b"k", value=b"v" * 1000, headers=[])
    builder.close()

    assert read(bytes(builder.buffer())) == [(b"v" * 1000, [])]
