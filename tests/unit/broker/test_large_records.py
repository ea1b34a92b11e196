# Records and batches that are small on the wire and enormous when unpacked: replaced by size and hash, in little memory, and
# never a reason for their partition to stop.

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
import zlib
from time import process_time
from typing import TYPE_CHECKING, Any, Final

import lz4.frame
import pytest
import zstandard
from kafka import TopicPartition
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import calc_crc32c, encode_varint
from snappy import snappy

from worker.broker import bounded_record_batches, kafka_private_parts
from worker.broker.bounded_record_batches import KEPT_BYTES, KEPT_HEADERS
from worker.domain.contract.raw_records import OmittedBytes, OmittedHeaders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CODECS: Final = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
HUNDREDS: Final = 100 * 1024 * 1024
MEBIBYTE: Final = 1024 * 1024
LITTLE: Final = 12 * MEBIBYTE


def varint(number: int) -> bytes:
    """As Kafka writes a number."""
    written = bytearray()
    encode_varint(number, written.append)
    return bytes(written)


def zeros(size: int) -> Iterator[bytes]:
    """This many zeros, in pieces."""
    for at in range(0, size, MEBIBYTE):
        yield bytes(min(MEBIBYTE, size - at))


def part(size: int) -> Iterator[bytes]:
    """Return a key or value of this many zeros."""
    yield varint(size)
    yield from zeros(size)


def record(place: int, *body: bytes, size: int | None = None, more: Iterable[bytes] = ()) -> Iterator[bytes]:
    """
    A record at that place of its batch. ``body`` begins with its key; ``more`` follows it, and makes it ``size`` bytes long.
    """
    start = b"\x00" + varint(0) + varint(place) + b"".join(body)
    yield varint(len(start) + (size or 0)) + start
    yield from more


def small(place: int) -> Iterator[bytes]:
    """A record like most."""
    return record(place, varint(1), b"k", varint(2), b"v%d" % place, varint(0))


def xerial(pieces: Iterable[bytes]) -> bytes:
    """Snappy as Java frames it."""
    blocks = [snappy.compress(piece) for piece in pieces]
    return (
        b"\x82SNAPPY\x00"
        + struct.pack("!ii", 1, 1)
        + b"".join(struct.pack("!i", len(each)) + each for each in blocks)
    )


def packed(codec: str, pieces: Iterable[bytes]) -> bytes:
    """The pieces, compressed one after another."""
    if codec == "snappy":
        return xerial(pieces)
    writers: dict[str, Any] = {
        "gzip": lambda: zlib.compressobj(wbits=31),
        "lz4": lambda: lz4.frame.LZ4FrameCompressor(block_linked=False),
        "zstd": lambda: zstandard.ZstdCompressor().compressobj(),
    }
    out = io.BytesIO()
    if codec == "none":
        out.writelines(pieces)
        return out.getvalue()
    writer = writers[codec]()
    if codec == "lz4":
        out.write(writer.begin())
    for piece in pieces:
        out.write(writer.compress(piece))
    out.write(writer.flush())
    return out.getvalue()


def batch(codec: str, count: int, payload: bytes) -> bytes:
    """Return a batch of this many records at the offsets from 100 on."""
    head = struct.Struct(">hiqqqhii").pack(CODECS[codec], count - 1, 1000, 1000, -1, -1, -1, count)
    body = head + payload
    crc = calc_crc32c(body)
    return struct.pack(">qiibI", 100, len(body) + 9, 0, 2, crc) + body


def read(written: bytes) -> list[Any]:
    """What is read of the batch."""
    kafka_private_parts.install_replacements()
    found = MemoryRecords(written).next_batch()
    assert found.validate_crc()
    return list(found)


def in_little_memory(written: bytes) -> list[Any]:
    """The same, in little memory."""
    tracemalloc.start()
    try:
        found = read(written)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < LITTLE + 3 * len(written), f"{peak / MEBIBYTE:.0f} MiB"
    return found


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_value_that_unpacks_to_hundreds_of_megabytes_is_replaced_by_size_and_hash(codec: str) -> None:
    """One such record ends each replica that gets its partition, one after the other."""
    bomb = record(1, varint(1), b"k", varint(HUNDREDS), size=HUNDREDS + 1, more=[*zeros(HUNDREDS), varint(0)])
    found = in_little_memory(batch(codec, 3, packed(codec, [*small(0), *bomb, *small(2)])))

    assert [(each.offset, each.key) for each in found] == [(100, b"k"), (101, b"k"), (102, b"k")]
    assert [found[0].value, found[2].value] == [b"v0", b"v2"]
    value = found[1].value
    assert isinstance(value, OmittedBytes)
    digest = hashlib.sha256()
    for piece in zeros(HUNDREDS):
        digest.update(piece)
    assert (value, value.size, value.sha256) == (b"", HUNDREDS, digest.hexdigest())


@pytest.mark.parametrize("codec", CODECS)
def test_a_key_that_is_too_large_is_omitted_and_the_rest_of_its_record_kept(codec: str) -> None:
    size = KEPT_BYTES + 1
    rest = varint(1) + b"v" + varint(1) + varint(1) + b"h" + varint(1) + b"1"
    bomb = record(0, varint(size), size=size + len(rest), more=[*zeros(size), rest])
    (found,) = read(batch(codec, 1, packed(codec, bomb)))

    assert isinstance(found.key, OmittedBytes)
    assert found.key.size == size
    assert (found.value, found.headers) == (b"v", [("h", b"1")])


@pytest.mark.parametrize("codec", CODECS)
def test_headers_are_counted_by_what_they_take_in_memory(codec: str) -> None:
    """Some thousand empty headers are a few kilobytes on the wire, and two megabytes in memory."""
    count = KEPT_HEADERS
    headers = (varint(1) + b"h" + varint(-1)) * count
    start = varint(-1) + varint(1) + b"v" + varint(count)
    many = record(0, start, size=len(headers), more=[headers])
    (found,) = read(batch(codec, 1, packed(codec, many)))

    headers_read: Any = found.headers
    assert isinstance(headers_read, OmittedHeaders)
    assert list(headers_read) == []
    assert headers_read.size == count
    one = b"\x00\x00\x00\x01h\xff\xff\xff\xff"
    assert headers_read.sha256 == hashlib.sha256(one * count).hexdigest()
    assert (found.key, found.value) == (None, b"v")


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_of_millions_of_headers_none_is_looked_at(codec: str) -> None:
    """
    Ten kilobytes on the wire held the poll thread for nine seconds, a megabyte for a quarter of an hour: in each replica in turn.
    """
    count = 5_000_000
    headers = (varint(0) + varint(-1)) * count
    start = varint(-1) + varint(1) + b"v" + varint(count)
    many = record(1, start, size=len(headers), more=[headers])
    written = batch(codec, 3, packed(codec, [*small(0), *many, *small(2)]))
    began = process_time()
    found = read(written)

    assert process_time() - began < 2.0
    assert [each.value for each in found] == [b"v0", b"v", b"v2"]
    headers_read: Any = found[1].headers
    assert isinstance(headers_read, OmittedHeaders)
    assert (headers_read.size, headers_read.sha256) == (len(headers), hashlib.sha256(headers).hexdigest())


@pytest.mark.parametrize("codec", CODECS)
def test_a_large_record_within_the_bound_is_kept_whole(codec: str) -> None:
    value, name = bytes(range(256)) * 4_000, "grüße".encode()
    rest = varint(2) + varint(len(name)) + name + varint(3) + b"one" + varint(2) + b"\xff\xfe" + varint(-1)
    large = record(0, varint(1), b"k", varint(len(value)), size=len(value) + len(rest), more=[value, rest])
    (found,) = read(batch(codec, 1, packed(codec, large)))

    assert (found.key, found.value) == (b"k", value)
    assert found.headers == [("grüße", b"one"), ("??", None)]
    assert (found.offset, found.timestamp) == (100, 1000)


@pytest.mark.parametrize("codec", CODECS)
def test_a_large_batch_of_small_records_is_read_whole(codec: str) -> None:
    count = 60_000
    value = b'{"command_id": "c", "action": "group.ban_group_member"}' * 4
    pieces = (
        b"".join(record(place, varint(-1), varint(len(value)), value, varint(0))) for place in range(count)
    )
    found = read(batch(codec, count, packed(codec, pieces)))

    assert [each.offset for each in found] == list(range(100, 100 + count))
    assert {each.value for each in found} == {value}


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_that_cannot_be_unpacked_is_reported_and_its_partition_goes_on(codec: str) -> None:
    """Whoever wrote it, no replica could ever read on."""
    payload = packed(codec, [*small(0), *small(1)])[:-13]
    found = read(batch(codec, 2, payload))

    last = found[-1]
    assert isinstance(last.value, OmittedBytes)
    assert (last.value.size, last.value.sha256) == (len(payload), hashlib.sha256(payload).hexdigest())
    assert "cannot be read" in str(last.value.why)
    left = 2 - (len(found) - 1)
    assert last.offset == 102 - left
    assert last.headers == [("x-batch-records", b"%d" % left), ("x-batch-last-offset", b"101")]


def test_a_batch_that_never_ends_is_given_up_at_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_record_batches, "BATCH_BYTES", 32 * MEBIBYTE)
    bomb = record(1, varint(-1), varint(HUNDREDS), size=HUNDREDS + 1, more=[*zeros(HUNDREDS), varint(0)])
    found = read(batch("zstd", 3, packed("zstd", [*small(0), *bomb, *small(2)])))

    assert [(each.offset, each.value) for each in found] == [(100, b"v0"), (101, b"")]
    assert found[1].headers == [("x-batch-records", b"2"), ("x-batch-last-offset", b"102")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xff\xff\xff\x0f" + b"nothing",  # raw snappy that claims four gigabytes
        b"\x82SNAPPY\x00" + struct.pack("!iii", 1, 1, 1 << 30),
    ],
)
def test_snappy_that_claims_more_than_it_can_hold_is_given_no_memory(payload: bytes) -> None:
    (found,) = in_little_memory(batch("snappy", 1, payload))

    assert isinstance(found.value, OmittedBytes)


def test_zstd_that_asks_for_a_large_window_is_given_none() -> None:
    writer = zstandard.ZstdCompressor(level=22).compressobj()
    payload = b"".join(writer.compress(piece) for piece in zeros(MEBIBYTE)) + writer.flush()
    (found,) = in_little_memory(batch("zstd", 1, payload))

    assert isinstance(found.value, OmittedBytes)
    assert "memory" in str(found.value.why)


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_what_a_producer_wrote_as_several_frames_is_one_batch(codec: str) -> None:
    payload = packed(codec, small(0)) + packed(codec, small(1)) + (b"\x00" * 8 if codec == "gzip" else b"")

    assert [each.value for each in read(batch(codec, 2, payload))] == [b"v0", b"v1"]


EMPTY_FRAMES: Final = {
    "gzip": packed("gzip", []),
    "snappy": struct.pack("!i", 1) + snappy.compress(b""),
    "lz4": packed("lz4", []),
}


@pytest.mark.parametrize("codec", EMPTY_FRAMES)
def test_a_megabyte_of_empty_frames_is_given_up_soon(codec: str) -> None:
    """Each takes a decoder of its own: they held the poll thread for 0.8 s a megabyte."""
    frame = EMPTY_FRAMES[codec]
    payload = packed(codec, small(0)) + frame * (MEBIBYTE // len(frame))
    found = read(batch(codec, 3, payload))

    assert found[0].value == b"v0"
    assert isinstance(found[1].value, OmittedBytes)
    assert "too many frames" in str(found[1].value.why)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4"])
def test_a_frame_for_each_record_is_read_whole(codec: str) -> None:
    """No client writes so, but one that flushes after each record may."""
    count = 5_000
    values = [hashlib.sha512(b"%d" % place).digest() for place in range(count)]
    frames = [
        packed(codec, record(place, varint(-1), varint(64), value, varint(0)))
        for place, value in enumerate(values)
    ]
    payload = b"".join(
        frame[16 if codec == "snappy" and place else 0 :] for place, frame in enumerate(frames)
    )
    found = read(batch(codec, count, payload))

    assert [each.value for each in found] == values


def test_snappy_without_a_frame_is_read() -> None:
    payload = snappy.compress(b"".join([*small(0), *small(1)]))

    assert [each.value for each in read(batch("snappy", 2, payload))] == [b"v0", b"v1"]


@pytest.mark.parametrize(
    "written",
    [
        b"".join(small(0)) + varint(-3),
        b"".join(small(0)) + varint(70_000) + b"\x00" * 100,
        b"".join(small(0)) + varint(8) + b"\x00\x00\x02\x01\x01\x05",
    ],
)
def test_records_that_are_malformed_are_reported_and_their_partition_goes_on(written: bytes) -> None:
    found = read(batch("none", 2, written))

    assert [each.offset for each in found] == [100, 101]
    assert isinstance(found[1].value, OmittedBytes)


def test_a_poll_takes_no_more_than_its_bytes_and_always_one() -> None:
    """500 records of a megabyte would be half a gigabyte, from some kilobytes on the wire."""
    kafka_private_parts.install_replacements()
    size = 700_000
    large = [b"".join(record(place, varint(-1), varint(size), bytes(size), varint(0))) for place in range(5)]
    records = MemoryRecords(batch("zstd", 5, packed("zstd", large)))
    fetcher: Any = kafka_private_parts.BoundedFetcher
    part = fetcher.PartitionRecords(100, TopicPartition("t", 0), records)

    assert [len(part.take(500)) for _ in range(4)] == [2, 1, 1, 1]


def test_old_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from kafka.errors import CorruptRecordError  # noqa: PLC0415
    from kafka.record import legacy_records  # noqa: PLC0415

    kafka_private_parts.install_replacements()
    monkeypatch.setattr(kafka_private_parts, "OLD_BATCH_BYTES", 2 * MEBIBYTE)
    old: Any = legacy_records
    assert old.gzip_decode(packed("gzip", zeros(MEBIBYTE))) == bytes(MEBIBYTE)
    with pytest.raises(CorruptRecordError):
        old.gzip_decode(packed("gzip", zeros(3 * MEBIBYTE)))


def test_the_class_is_still_what_kafka_python_reads_batches_with() -> None:
    assert issubclass(bounded_record_batches.BoundedRecordBatch, DefaultRecordBatch)
