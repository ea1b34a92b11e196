# From the monotonic clock, which all rules go by, to seconds since 1970, which commands and outcomes carry, and back.
#
# The core reads no clock: whoever runs it says now and then what time it is.

from __future__ import annotations


class WallClock:
    """Translates instants between the two. ``set`` it at least every second, so that a stepped system clock is followed."""

    def __init__(self, now: float, wall: float) -> None:
        self._epoch = wall - now

    def set(self, now: float, wall: float) -> None:
        """Set it: ``now`` on the monotonic clock is ``wall`` in seconds since 1970."""
        self._epoch = wall - now

    def wall(self, now: float) -> float:
        """Return a monotonic instant in seconds since 1970."""
        return now + self._epoch

    def monotonic(self, wall: float) -> float:
        """Return an instant in seconds since 1970 on the monotonic clock."""
        return wall - self._epoch
