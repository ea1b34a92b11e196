# A record of the command topic, before it is decoded (command_decoding.py).

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from typing import Self


def place_of(topic: str, partition: int, offset: int) -> str:
    """Return the name of a record, wherever it is named; it is also the outcome_id of its outcome."""
    return f"{topic}-{partition}-{offset}"


class Record(Protocol):
    """One record of the command topic, as the consumer has it: it is never copied."""

    @property
    def partition(self) -> int:
        """The partition of the command topic."""

    @property
    def offset(self) -> int:
        """The offset within the partition; offsets have gaps."""

    @property
    def key(self) -> bytes | None:
        """The target's id, or another key that always sends one member to one partition."""

    @property
    def value(self) -> bytes | None:
        """The command, as JSON."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """The headers in order, repeated names included."""


class BareRecord(Struct, frozen=True):
    """A command's bytes as the decoder takes a record: where they are, or will be, need not be known."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    key: bytes | None = None
    partition: int = 0
    offset: int = 0


class OmittedBytes(bytes):
    """
    Stands in for a key or value that is too large to be kept: empty, with the size and hash of the original.

    Attributes:
        size: The bytes of the original.
        sha256: The hash of the original, in hexadecimal.
        why: Another reason than its size why it was not kept, as a sentence.

    """

    size: int
    sha256: str
    why: str | None

    def __new__(cls, size: int, sha256: str, why: str | None = None) -> Self:
        """Make one of the size and hash of the original."""
        made = super().__new__(cls)
        made.size, made.sha256, made.why = size, sha256, why
        return made


class OmittedHeaders(list[tuple[str, bytes | None]]):
    """
    Stands in for headers that are too large to be kept: empty, with the size and hash of the originals.

    Attributes:
        size: The bytes of their names and values, or of the hashed bytes.
        sha256: The hash of all of them as a dead letter counts them (dead_letter_encoding.py), or, of more than some thousands, in Kafka's
            format; in hexadecimal.

    """

    def __init__(self, size: int, sha256: str) -> None:
        super().__init__()
        self.size = size
        self.sha256 = sha256
