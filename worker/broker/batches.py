# Kafka's record batches, read within bounds: unpacked a piece at a time, a record that is too large told by size and hash,
# and what no decoder can read told as one record, so that its partition goes on.
#
# Put in the place of kafka-python's class by kafka_patches.py. What becomes of a record that was not read is decided in
# domain/contract/commands.py.

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

from worker.broker.unpacking import PIECE, UnpackError, unpacked
from worker.domain.contract.records import Omitted, OmittedHeaders
from worker.domain.memory import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT_BYTES: Final = 2 * 1024 * 1024
"""The most of one record that is kept. No command is as long, and Kafka takes half of it by default."""
BATCH_BYTES: Final = 1024 * 1024 * 1024
"""The most that is unpacked of one batch: a thousand times what Kafka takes by default, and some seconds of work."""
SMALL: Final = 16 * 1024
"""Bytes. A record that is no longer is read by kafka-python."""
VARINT: Final = 10
"""The longest length of anything."""
_NO_ASCII: Final = bytes(range(128)) + b"?" * 128


class BoundedBatch(DefaultRecordBatch):
    """
    A batch of records, read one after another.

    A header's name that is not UTF-8 (producers in C or Go take any bytes, and so does Kafka) makes kafka-python call the
    batch corrupt: here each of its bytes that is no ASCII is a "?".
    """

    _pieces: Iterator[bytes] | None = None
    _packed: bytes = b""
    _gone: int = 0
    _last: int | None = None

    def _maybe_uncompress(self) -> None:
        if not self._decompressed and self.compression_type != self.CODEC_NONE:
            self._packed = bytes(self._buffer[self._pos :])
            self._pieces = unpacked(self.compression_type, self._packed)
            self._buffer, self._pos = bytearray(), 0
        self._decompressed = True

    def __next__(self) -> Any:
        if self._next_record_index >= self._num_records:
            raise StopIteration
        try:
            record = self._read_msg()
        except UnpackError as exc:
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
            raise UnpackError("it ends in the middle")
        theirs: Any = super()
        try:
            return theirs._read_msg()  # noqa: SLF001
        except UnicodeDecodeError:
            _remedy_header_names(self._buffer, self._pos)
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
        headers = self._headers(kept)
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
        return Omitted(size, digest.hexdigest())

    def _headers(self, kept: int) -> list[tuple[str, bytes | None]]:
        """Hashed as a dead letter tells them: each name and value after its length in four bytes."""
        headers: list[tuple[str, bytes | None]] = []
        digest = hashlib.sha256()
        size = 0
        count = self._varint()
        if count < 0:
            raise CorruptRecordError(f"{count} headers")
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
                raise UnpackError("it ends in the middle")
            self._pos += len(piece)
            size -= len(piece)
            yield piece

    def _fill(self, size: int) -> None:
        """So many bytes of what comes next are in the buffer, or all that there are."""
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
                raise UnpackError(f"it unpacks to more than {BATCH_BYTES} bytes")

    def _rest(self, why: str) -> DefaultRecord:
        """What of the batch cannot be read, as one record in the place of the first of it."""
        packed = self._packed or bytes(self._buffer)
        left = self._num_records - self._next_record_index
        offset = self.base_offset if self._last is None else self._last + 1
        self._next_record_index = self._num_records
        self._pieces, self._buffer, self._pos = None, bytearray(), 0
        value = Omitted(
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


def _remedy_header_names(buffer: bytearray, pos: int) -> None:
    """Makes the header names of the record that begins at ``pos`` readable: each byte of a broken one that is no ASCII is a "?"."""
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
