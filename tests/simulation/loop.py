# Virtual time: what is to happen when, and one source of chance. A history is a function of its seed.
#
# Nothing here knows what the events are about.

from __future__ import annotations

import heapq
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

START: Final = 1_000.0
WALL: Final = 1_900_000_000.0
"""Seconds since 1970, when the virtual clock shows 0."""


class Event:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("at", "cancelled", "what")

    def __init__(self, at: float, what: Callable[[], None]) -> None:
        self.at = at
        self.what = what
        self.cancelled = False

    def cancel(self) -> None:
        """It will not happen."""
        self.cancelled = True


class VirtualClock:
    """The time of one history, and its chance."""

    def __init__(self, seed: int) -> None:
        self.now = START
        self.chance = Random(seed)
        self._events: list[tuple[float, int, Event]] = []
        self._order = count()

    @property
    def wall(self) -> float:
        """Now, in seconds since 1970."""
        return self.now + WALL

    def at(self, when: float, what: Callable[[], None]) -> Event:
        """Lets it happen then, after all that was asked for the same instant before."""
        event = Event(max(when, self.now), what)
        heapq.heappush(self._events, (event.at, next(self._order), event))
        return event

    def after(self, delay: float, what: Callable[[], None]) -> Event:
        """Lets it happen this many seconds from now."""
        return self.at(self.now + delay, what)

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """Lets time pass until then, or until it is done. Returns whether it is done."""
        while self._events and self._events[0][0] <= until:
            at, _, event = heapq.heappop(self._events)
            if event.cancelled:
                continue
            self.now = at
            event.what()
            if done is not None and done():
                return True
        self.now = max(self.now, until)
        return done is not None and done()

    def jitter(self, least: float, most: float) -> float:
        """A random delay; one in twenty is ten times as long."""
        delay = self.chance.uniform(least, most)
        return delay * 10 if self.chance.random() < 0.05 else delay
