# A record of the command topic, before anything of it is understood.
#
# What it means is decided in commands.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


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
