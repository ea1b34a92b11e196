# When commands expire: those with a last moment, the next one first.
#
# What becomes of an expired command is decided in member_ordering.py. A last moment may be a year away, so a finished command must
# not be kept until then.

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.domain.progress.open_commands import OpenCommand

FEW: Final = 64
"""Stale entries that are not worth tidying up."""


class DeadlineHeap:
    """The open commands that have a last moment. Instants are seconds since 1970."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, OpenCommand]] = []
        self._sequence = count()
        self._done = 0

    def add(self, command: OpenCommand, last_moment: float) -> None:
        """Add a new command."""
        heapq.heappush(self._heap, (last_moment, next(self._sequence), command))

    def count_finished(self) -> None:
        """Count a command that is emitted or dropped. Once half of the commands here are, forget these."""
        self._done += 1
        if self._done > len(self._heap) // 2 + FEW:
            self._done = 0
            self._heap = [each for each in self._heap if not each[2].emitted and not each[2].dropped]
            heapq.heapify(self._heap)

    def due(self, wall: float) -> Iterator[OpenCommand]:
        """Hand out the commands whose last moment is over."""
        while self._heap and self._heap[0][0] < wall:
            yield heapq.heappop(self._heap)[2]

    @property
    def next(self) -> float | None:
        """The earliest last moment; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._heap)

    def __repr__(self) -> str:
        return f"<DeadlineHeap {len(self)}, next at {self.next}>"
