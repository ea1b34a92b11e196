# Decompresses batches piece by piece, so that only one piece is in memory however much a megabyte unpacks to. All of
# Kafka's compressions.
#
# Bytes in, bytes out. What the pieces become, and how much of them is kept, is decided in bounded_record_batches.py.

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import lz4.frame
import zstandard
from snappy import snappy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE: Final = 64 * 1024
"""Bytes: the most that is unpacked at once, except a block of snappy, and how much a decoder is fed at once."""
FIRST_PIECE: Final = 512
"""Bytes that a frame is fed first: what it leaves of a piece is copied, so small frames need small pieces. Then twice as many, and so on."""
FEW_FRAMES: Final = 64
FRAME_BYTES: Final = 48
"""
A batch may have FEW_FRAMES frames, or blocks of snappy, and one more for each FRAME_BYTES packed bytes. Kafka's clients write one
frame for each batch, or blocks of a kilobyte and more (56 bytes of zeros). An empty frame has 7 to 20 bytes and costs microseconds:
unlimited, a megabyte of them held the poll thread for 0.8 s.
"""
ZSTD_WINDOW: Final = 8 * 1024 * 1024
"""Bytes of the window that every decoder should support (RFC 8878). A frame may demand gigabytes."""
SNAPPY_RATIO: Final = 64
"""A snappy block can hold about 21 times its size at most. The decoder allocates whatever a block claims, so claims are limited."""
XERIAL: Final = b"\x82SNAPPY\x00"
XERIAL_HEADER: Final = 16
"""Java's framing of snappy: this magic and two versions, then blocks, each preceded by its length in four bytes."""
LONGEST_VARINT: Final = 5
GZIP_FRAMING: Final = 31
"""zlib's ``wbits`` for the largest window in gzip's framing."""


class DecompressionError(Exception):
    """The bytes are not valid for the compression, or demand more memory than is allowed."""


def decompressed(codec: int, packed: bytes) -> Iterator[bytes]:
    """Yield the pieces of what Kafka's compression of that number packed, in order. Raises DecompressionError if it cannot go on."""
    try:
        yield from _CODECS[codec](packed)
    except DecompressionError:
        raise
    except Exception as exc:
        raise DecompressionError(f"{type(exc).__name__}: {exc}") from exc


class _FrameAllowance:
    """How many frames, or blocks, a batch may still have."""

    def __init__(self, packed: bytes) -> None:
        self._left = FEW_FRAMES + len(packed) // FRAME_BYTES

    def use_one(self) -> None:
        """Use one up. Raises DecompressionError if none is left: they are too many for the batch's size."""
        self._left -= 1
        if self._left < 0:
            raise DecompressionError("it has too many frames for its size")


class _Input:
    """The packed bytes, fed to a decoder in pieces: it copies its unused input at each step."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._at = 0
        self._next = FIRST_PIECE
        self._frame_allowance = _FrameAllowance(packed)

    def begin_frame(self) -> bool:
        """Return whether another frame begins here, and not only padding. Raises DecompressionError if there are too many."""
        if self._packed[self._at : self._at + 1] in (b"", b"\x00") and self._is_over:
            return False
        self._frame_allowance.use_one()
        self._next = FIRST_PIECE
        return True

    def take(self) -> bytes:
        """Return the next piece. Raises DecompressionError at the end: the packed data is incomplete."""
        piece = self._packed[self._at : self._at + self._next]
        if not piece:
            raise DecompressionError("it ends in the middle")
        self._at += len(piece)
        self._next = min(PIECE, 2 * self._next)
        return piece

    def give_back(self, unused: bytes) -> None:
        """Take back the end of the last piece, which belongs to the next frame."""
        self._at -= len(unused)

    @property
    def _is_over(self) -> bool:
        rest = self._packed[self._at : self._at + PIECE]
        return not rest.strip(b"\x00")


def _gzip(packed: bytes) -> Iterator[bytes]:
    given = _Input(packed)
    while given.begin_frame():
        member = zlib.decompressobj(GZIP_FRAMING)
        piece = b""
        while not member.eof:
            more = member.unconsumed_tail or (b"" if len(piece) == PIECE else given.take())
            piece = member.decompress(more, PIECE)
            yield piece
        given.give_back(member.unused_data)


def _lz4(packed: bytes) -> Iterator[bytes]:
    given = _Input(packed)
    while given.begin_frame():
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
    block_allowance = _FrameAllowance(packed)
    at = XERIAL_HEADER
    while at < len(packed):
        block_allowance.use_one()
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
        raise DecompressionError(f"a block of {len(block)} bytes claims to hold {claimed}")
    whole = snappy.uncompress(block)
    for at in range(0, len(whole), PIECE):
        yield whole[at : at + PIECE]


_CODECS: Final[dict[int, Callable[[bytes], Iterator[bytes]]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
"""The decoders, by Kafka's number of the compression."""
