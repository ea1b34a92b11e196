# What a compressed batch holds, a piece at a time: however much a megabyte becomes when it is unpacked, no more of it is in
# memory than a piece. All of Kafka's compressions.
#
# Bytes in, bytes out. What is made of the pieces, and how much of them is kept, is decided in batches.py.

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import lz4.frame
import zstandard
from snappy import snappy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE: Final = 64 * 1024
"""Bytes: the most that is unpacked at once, but for a block of snappy; and how much is given to a decoder at once."""
ZSTD_WINDOW: Final = 8 * 1024 * 1024
"""What each decoder should be able to keep (RFC 8878). A frame may ask for gigabytes."""
SNAPPY_RATIO: Final = 64
"""No block of snappy can hold more than some 21 times its size; one that claims more would get the memory for it first."""
XERIAL: Final = b"\x82SNAPPY\x00"
XERIAL_HEADER: Final = 16
"""Java's framing of snappy: this magic and two versions, then blocks, each after its length in four bytes."""
LONGEST_VARINT: Final = 5
GZIP_FRAMING: Final = 31
"""zlib's number for a whole window in gzip's framing."""


class UnpackError(Exception):
    """The bytes are not what the compression says, or ask for more memory than is given."""


def unpacked(codec: int, packed: bytes) -> Iterator[bytes]:
    """What is packed by Kafka's compression of that number, in order. Raises UnpackError where it cannot go on."""
    try:
        yield from _CODECS[codec](packed)
    except UnpackError:
        raise
    except Exception as exc:
        raise UnpackError(f"{type(exc).__name__}: {exc}") from exc


class _Input:
    """The packed bytes, given out in pieces: a decoder copies what it has not used yet, at each step."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._at = 0

    def take(self) -> bytes:
        """The next piece. Raises UnpackError at the end: what was packed goes on beyond it."""
        piece = self._packed[self._at : self._at + PIECE]
        if not piece:
            raise UnpackError("it ends in the middle")
        self._at += len(piece)
        return piece

    def give_back(self, unused: bytes) -> None:
        """So much of the last piece belongs to what follows."""
        self._at -= len(unused)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left but padding."""
        rest = self._packed[self._at : self._at + PIECE]
        return not rest.strip(b"\x00")


def _gzip(packed: bytes) -> Iterator[bytes]:
    given = _Input(packed)
    while not given.is_over:
        member = zlib.decompressobj(GZIP_FRAMING)
        piece = b""
        while not member.eof:
            more = member.unconsumed_tail or (b"" if len(piece) == PIECE else given.take())
            piece = member.decompress(more, PIECE)
            yield piece
        given.give_back(member.unused_data)


def _lz4(packed: bytes) -> Iterator[bytes]:
    given = _Input(packed)
    while not given.is_over:
        frame = lz4.frame.LZ4FrameDecompressor()
        while not frame.eof:
            yield frame.decompress(given.take() if frame.needs_input else b"", PIECE)
        given.give_back(frame.unused_data or b"")


def _zstd(packed: bytes) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    with decoder.stream_reader(packed, read_across_frames=True) as reader:
        while piece := reader.read(PIECE):
            yield piece


def _snappy(packed: bytes) -> Iterator[bytes]:
    if not packed.startswith(XERIAL):
        yield from _block(packed)
        return
    at = XERIAL_HEADER
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4], "big")
        at += 4
        yield from _block(packed[at : at + size])
        at += size


def _block(block: bytes) -> Iterator[bytes]:
    claimed = 0
    for place, byte in enumerate(block[:LONGEST_VARINT]):
        claimed |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    if claimed > SNAPPY_RATIO * len(block):
        raise UnpackError(f"a block of {len(block)} bytes claims to hold {claimed}")
    whole = snappy.uncompress(block)
    for at in range(0, len(whole), PIECE):
        yield whole[at : at + PIECE]


_CODECS: Final[dict[int, Callable[[bytes], Iterator[bytes]]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
"""By Kafka's number of the compression."""
