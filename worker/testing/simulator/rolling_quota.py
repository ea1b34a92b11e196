# Counts requests in a rolling second: those that the quota admitted, and the highest count so far.
#
# Pure: the timestamp of each request is an argument, taken where it was read from the socket.

from __future__ import annotations

from collections import deque
from typing import Final

SECOND: Final = 1.0
"""The length of the window: the pages state the limit per second."""


class RollingSecond:
    """
    The timestamps of one rolling second: those in ``(now - 1 s, now]``.

    Attributes:
        highest: The highest count so far.
        highest_at: When that count was first reached, on the clock of the timestamps.

    """

    __slots__ = ("_stamps", "highest", "highest_at")

    def __init__(self) -> None:
        self._stamps: deque[float] = deque()
        self.highest = 0
        self.highest_at: float | None = None

    def __repr__(self) -> str:
        return f"<RollingSecond {len(self._stamps)} now, {self.highest} at most>"

    def count(self, now: float) -> int:
        """Return the number of timestamps in the second that ends now."""
        stamps = self._stamps
        while stamps and now - stamps[0] >= SECOND:
            stamps.popleft()
        return len(stamps)

    def add(self, now: float) -> None:
        """Add a timestamp, not older than the last."""
        count = self.count(now) + 1
        self._stamps.append(now)
        if count > self.highest:
            self.highest = count
            self.highest_at = now

    def forget(self) -> None:
        """Reset the highest count. The timestamps stay, so the quota is not affected."""
        self.highest = 0
        self.highest_at = None


class EndpointRequests:
    """The requests of one app to one endpoint: all that were read, and those that the quota admitted."""

    __slots__ = ("admitted", "read")

    def __init__(self) -> None:
        self.read = RollingSecond()
        self.admitted = RollingSecond()

    def admit(self, now: float, limit: int) -> bool:
        """
        Count one more request and return True, or return False if the quota is used up.

        A refused request does not count against the quota: the pages do not say that it does, and a client far over
        the limit would otherwise never be served again.
        """
        if self.admitted.count(now) >= limit:
            return False
        self.admitted.add(now)
        return True
