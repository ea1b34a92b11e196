# Measures the longest stall of the simulator's event loop.
#
# A stall makes timestamps late, so a run in which the simulator stalled proves nothing about request rates.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

BEAT_SECONDS: Final = 0.005
"""Between two beats: short compared with the stalls that matter (tens of milliseconds), cheap at 200 a second."""


class LoopHeartbeat:
    """
    Schedules a beat again and again, and records the longest delay.

    Attributes:
        longest: The longest delay of a beat, in seconds.
        longest_at: When that beat came, on the given clock; None before the first late beat.

    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.longest = 0.0
        self.longest_at: float | None = None
        self._loop = loop
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def __repr__(self) -> str:
        return f"<LoopHeartbeat longest stall {self.longest * 1000:.1f} ms>"

    def start(self) -> None:
        """Start beating."""
        self._due = self._clock() + BEAT_SECONDS
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    def stop(self) -> None:
        """Stop beating."""
        if self._timer is not None:
            self._timer.cancel()

    def forget(self) -> None:
        """Reset the longest delay."""
        self.longest = 0.0
        self.longest_at = None

    def _beat(self) -> None:
        now = self._clock()
        late = now - self._due
        if late > self.longest:
            self.longest, self.longest_at = late, now
        self._due = now + BEAT_SECONDS
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)
