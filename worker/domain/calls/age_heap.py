# Waiting items, the oldest first: a heap whose entries become stale when the age of their item changes, and are thrown away later.
#
# The age of an item is an attribute of the item itself (``waiting_since``), so an item can be in one AgeHeap only.

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

    class Aged(Hashable, Protocol):
        """
        Attributes:
            waiting_since: Since when it waits; None if it does not wait.

        """

        @property
        def waiting_since(self) -> float | None:
            """Since when it waits."""

        def set_waiting_since(self, since: float | None) -> None:
            """Note since when it waits. Only ``AgeHeap`` may call it."""


T = TypeVar("T", bound="Aged")

FEW: Final = 64
"""Stale entries that are not worth tidying up."""


class AgeHeap(Generic[T]):
    """The waiting items. Every change costs the logarithm of their number, and there are hardly more stale entries than items."""

    __slots__ = ("_heap", "_waiting")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._waiting = 0

    def set(self, item: T, since: float | None, sequence: int) -> None:
        """
        Note since when the item waits; None if it does not wait. Of items of one age the one with the lowest ``sequence`` is the first;
        no two calls may have the same.
        """
        if item.waiting_since == since:
            return
        self._waiting += (since is not None) - (item.waiting_since is not None)
        item.set_waiting_since(since)
        if since is None:
            return
        heapq.heappush(self._heap, (since, sequence, item))
        if len(self._heap) > 2 * self._waiting + FEW:
            valid = {entry[2]: entry for entry in self._heap if entry[2].waiting_since == entry[0]}
            self._heap = list(valid.values())
            heapq.heapify(self._heap)

    def oldest(self) -> T | None:
        """Return the item that has waited longest; None if none waits."""
        while self._heap:
            since, _, item = self._heap[0]
            if item.waiting_since == since:
                return item
            heapq.heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._heap)

    def __repr__(self) -> str:
        return f"<AgeHeap of {self._waiting}>"
