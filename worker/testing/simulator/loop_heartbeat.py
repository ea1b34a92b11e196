# The loop's pulse: how long the simulator was away at the longest.
#
# A stall makes its stamps late: a run in which the simulator stalled says nothing about anybody's rate.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

BEAT_SECONDS: Final = 0.005
"""Between two beats: short beside the stalls that matter (tens of milliseconds), cheap at 200 a second."""


class LoopHeartbeat:
    """
    Beats in a loop, and remembers its longest delay.

    Attributes:
        longest: Seconds by which a beat came too late, at most.
        longest_at: When that beat came, on the clock given; None before the first late beat.

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
        """Begin to beat."""
        self._due = self._clock() + BEAT_SECONDS
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    def stop(self) -> None:
        """Stop beating."""
        if self._timer is not None:
            self._timer.cancel()

    def forget(self) -> None:
        """Begin the measure anew."""
        self.longest = 0.0
        self.longest_at = None

    def _beat(self) -> None:
        now = self._clock()
        late = now - self._due
        if late > self.longest:
            self.longest, self.longest_at = late, now
        self._due = now + BEAT_SECONDS
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)
