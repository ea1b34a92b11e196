# A record of the command topic, before anything of it is understood.
#
# What it means is decided in command_decoding.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


def place_of(topic: str, partition: int, offset: int) -> str:
    """Return what a record is called wherever it is named; of a command it is the outcome_id."""
    return f"{topic}-{partition}-{offset}"


class Record(Protocol):
    """One record of the command topic, as the consumer has it: it is never copied."""

    @property
    def partition(self) -> int:
        """Of the command topic."""

    @property
    def offset(self) -> int:
        """Within the partition; offsets have gaps."""

    @property
    def key(self) -> bytes | None:
        """The target's id, or whatever always sends one member to one partition."""

    @property
    def value(self) -> bytes | None:
        """The command, as JSON."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """In order, repeated names included."""


class OmittedBytes(bytes):
    """
    What stands in for a key or value that is too large to be kept: empty, with size and hash of what it was.

    Attributes:
        size: Its bytes.
        sha256: In hexadecimal.
        why: A sentence, if it is for another reason.

    """

    size: int
    sha256: str
    why: str | None

    def __new__(cls, size: int, sha256: str, why: str | None = None) -> Self:
        """Make it of what is known of it."""
        made = super().__new__(cls)
        made.size, made.sha256, made.why = size, sha256, why
        return made


class OmittedHeaders(list[tuple[str, bytes | None]]):
    """
    What stands in for headers that are too large to be kept: empty, with size and hash of what they were.

    Attributes:
        size: Bytes of their names and values, or of what was hashed.
        sha256: In hexadecimal, of all of them as a dead letter counts them (dead_letter_encoding.py); of more than some thousands, as
            Kafka's format has them.

    """

    def __init__(self, size: int, sha256: str) -> None:
        super().__init__()
        self.size = size
        self.sha256 = sha256
