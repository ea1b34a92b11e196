# Kafka's record batches, read within bounds: unpacked piece by piece, with size and hash in place of a record that is too
# large, and one record in place of whatever no decoder can read, so that the partition goes on.
#
# kafka_private_parts.py replaces kafka-python's class with this one. What happens to a record that was not read is decided in
# domain/contract/command_decoding.py.

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

from worker.broker.decompression import PIECE, DecompressionError, decompressed
from worker.domain.contract.raw_records import OmittedBytes, OmittedHeaders
from worker.domain.memory_budget import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT_BYTES: Final = 2 * 1024 * 1024
"""The most bytes of one record that are kept. No command is this long, and Kafka accepts half of it by default."""
KEPT_HEADERS: Final = KEPT_BYTES // HEADER_BYTES
"""The most headers of one record that are looked at: more are never kept, however small they are."""
BATCH_BYTES: Final = 1024 * 1024 * 1024
"""The most that one batch may unpack to: a thousand times what Kafka accepts by default, and some seconds of CPU."""
SMALL: Final = 16 * 1024
"""Bytes. Records up to this length are left to kafka-python."""
VARINT: Final = 10
"""Bytes that the longest varint takes."""
_NO_ASCII: Final = bytes(range(128)) + b"?" * 128


class BoundedRecordBatch(DefaultRecordBatch):
    """
    A batch of records, read one after another.

    kafka-python calls a batch corrupt if the name of a header is not UTF-8, though Kafka and producers in C or Go accept any
    bytes. Here each byte of such a name that is not ASCII becomes a "?".
    """

    _pieces: Iterator[bytes] | None = None
    _packed: bytes = b""
    _gone: int = 0
    _last: int | None = None

    def payload(self, max_bytes: int) -> bytes | None:
        """Return all records as one piece of bytes, unpacked; None if that is longer than ``max_bytes``, or cannot be unpacked."""
        if self.compression_type == self.CODEC_NONE:
            return bytes(self._buffer[self._pos :])
        pieces: list[bytes] = []
        size = 0
        try:
            for piece in decompressed(self.compression_type, bytes(self._buffer[self._pos :])):
                pieces.append(piece)
                size += len(piece)
                if size > max_bytes:
                    return None
        except DecompressionError:
            return None
        return b"".join(pieces)

    def _maybe_uncompress(self) -> None:
        if not self._decompressed and self.compression_type != self.CODEC_NONE:
            self._packed = bytes(self._buffer[self._pos :])
            self._pieces = decompressed(self.compression_type, self._packed)
            self._buffer, self._pos = bytearray(), 0
        self._decompressed = True

    def __next__(self) -> Any:
        if self._next_record_index >= self._num_records:
            raise StopIteration
        try:
            record = self._read_msg()
        except DecompressionError as exc:
            return self._rest(str(exc))
        except (ValueError, IndexError, CorruptRecordError) as exc:
            return self._rest(f"it is malformed: {exc}")
        self._next_record_index += 1
        self._last = record.offset
        return record

    next = __next__

    def _read_msg(self, *_: Any) -> Any:
        self._fill(VARINT)
        length, pos = decode_varint(self._buffer, self._pos)
        if length < 0:
            raise CorruptRecordError(f"a length of {length}")
        if length > SMALL:
            self._pos = pos
            return self._read_large(length)
        whole = pos - self._pos + length
        self._fill(whole)
        if len(self._buffer) - self._pos < whole:
            raise DecompressionError("it ends in the middle")
        theirs: Any = super()
        try:
            return theirs._read_msg()  # noqa: SLF001
        except UnicodeDecodeError:
            _repair_header_names(self._buffer, self._pos)
            return theirs._read_msg()  # noqa: SLF001

    def _read_large(self, length: int) -> DefaultRecord:
        end = self._at + length
        self._varint()  # attributes
        delta = self._varint()
        timestamp = (
            self.max_timestamp
            if self.timestamp_type == self.LOG_APPEND_TIME
            else self.first_timestamp + delta
        )
        offset = self.base_offset + self._varint()
        kept = KEPT_BYTES
        key = self._part(kept)
        kept -= len(key or b"")
        value = self._part(kept)
        kept -= len(value or b"")
        headers = self._headers(kept, end)
        if self._at != end:
            raise CorruptRecordError(f"a record of {length} bytes ends at {self._at - end + length}")
        return DefaultRecord(length, offset, timestamp, self.timestamp_type, key, value, headers)

    def _part(self, kept: int) -> bytes | None:
        size = self._varint()
        if size < 0:
            return None
        if size <= kept:
            return b"".join(self._pieces_of(size))
        digest = hashlib.sha256()
        for piece in self._pieces_of(size):
            digest.update(piece)
        return OmittedBytes(size, digest.hexdigest())

    def _headers(self, kept: int, end: int) -> list[tuple[str, bytes | None]]:
        """
        Read the headers, hashed as in a dead letter: each name and value preceded by its length in four bytes.

        More than could ever be kept are hashed as they came: ten kilobytes on the wire may be five million of them, and to
        look at each takes seconds.
        """
        headers: list[tuple[str, bytes | None]] = []
        digest = hashlib.sha256()
        size = 0
        count = self._varint()
        if count < 0:
            raise CorruptRecordError(f"{count} headers")
        if count > KEPT_HEADERS:
            size = end - self._at
            for piece in self._pieces_of(size):
                digest.update(piece)
            return OmittedHeaders(size, digest.hexdigest())
        for _ in range(count):
            kept -= HEADER_BYTES
            parts: list[bytes | None] = []
            for _ in ("name", "value"):
                length = self._varint()
                digest.update((length if length >= 0 else 0xFFFFFFFF).to_bytes(4, "big"))
                size += max(0, length)
                kept -= max(0, length)
                pieces = []
                for piece in self._pieces_of(max(0, length)):
                    digest.update(piece)
                    if kept >= 0:
                        pieces.append(piece)
                parts.append(None if length < 0 else b"".join(pieces))
            if kept >= 0:
                name, value = parts
                headers.append((_readable(name or b""), value))
            else:
                headers.clear()
        return headers if kept >= 0 else OmittedHeaders(size, digest.hexdigest())

    @property
    def _at(self) -> int:
        return self._gone + self._pos

    def _varint(self) -> int:
        self._fill(VARINT)
        number, self._pos = decode_varint(self._buffer, self._pos)
        return int(number)

    def _pieces_of(self, size: int) -> Iterator[bytes]:
        while size > 0:
            self._fill(1)
            piece = bytes(self._buffer[self._pos : self._pos + min(size, PIECE)])
            if not piece:
                raise DecompressionError("it ends in the middle")
            self._pos += len(piece)
            size -= len(piece)
            yield piece

    def _fill(self, size: int) -> None:
        """Unpack until the buffer holds ``size`` unread bytes, or all that are left."""
        if self._pieces is None or len(self._buffer) - self._pos >= size:
            return
        self._gone += self._pos
        del self._buffer[: self._pos]
        self._pos = 0
        while len(self._buffer) < size:
            piece = next(self._pieces, None)
            if piece is None:
                self._pieces = None
                return
            self._buffer += piece
            if self._gone + len(self._buffer) > BATCH_BYTES:
                raise DecompressionError(f"it unpacks to more than {BATCH_BYTES} bytes")

    def _rest(self, why: str) -> DefaultRecord:
        """Return one record in place of everything from here to the end of the batch, at the offset of the first."""
        packed = self._packed or bytes(self._buffer)
        left = self._num_records - self._next_record_index
        offset = self.base_offset if self._last is None else self._last + 1
        self._next_record_index = self._num_records
        self._pieces, self._buffer, self._pos = None, bytearray(), 0
        value = OmittedBytes(
            len(packed), hashlib.sha256(packed).hexdigest(), f"the batch cannot be read from here on: {why}"
        )
        headers = [("x-batch-records", b"%d" % left), ("x-batch-last-offset", b"%d" % self.last_offset)]
        return DefaultRecord(
            len(packed), offset, self.max_timestamp, self.timestamp_type, None, value, headers
        )


def _readable(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.translate(_NO_ASCII).decode()


def _repair_header_names(buffer: bytearray, pos: int) -> None:
    """Replace each non-ASCII byte by "?", in the header names that are not UTF-8, in the record that begins at ``pos``."""
    for _ in ("length", "attributes", "time", "offset"):
        _, pos = decode_varint(buffer, pos)
    for _ in ("key", "value"):
        size, pos = decode_varint(buffer, pos)
        pos += max(0, size)
    count, pos = decode_varint(buffer, pos)
    for _ in range(count):
        size, pos = decode_varint(buffer, pos)
        name = bytes(buffer[pos : pos + size])
        try:
            name.decode()
        except UnicodeDecodeError:
            buffer[pos : pos + size] = name.translate(_NO_ASCII)
        pos += size
        size, pos = decode_varint(buffer, pos)
        pos += max(0, size)
