# Permits: how many requests one replica may send, so that all replicas together never exceed the quota.
#
# Each partition of the command topic owns a fixed slice of an endpoint's quota, and a replica uses the slices of the partitions that it
# owns, less the permits that it has lent, and those that others have lent to it (replica_lending.py). A permit comes back one second
# after the answer to its request. The server sees a request before it answers it, so no rolling second on the server holds more requests
# than there are permits.
#
# Permits are counted and never distinguished. A request is started only while fewer are taken than there are own and usable borrowed ones.
# Lenders must not use, meanwhile, as many permits as the own ones do not cover.

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.domain.calls.replica_lending import Borrower, Lender

if TYPE_CHECKING:
    from worker.domain.calls.replica_lending import LoanGrant, LoanRequest, LoanReturn

THROTTLED_SHARE: Final = 0.95
"""On a throttle code the ceiling becomes this share of the requests that were accepted in the last second."""
RECOVERY_PER_SECOND: Final = 0.01
"""The ceiling rises by this share of the owned permits a second. With both, simulated at a true limit of 120 of 200:
98 % used, 0.3 % throttled; halving with additive recovery used 78 %."""
HEADROOM: Final = 4
"""A lender keeps a quarter of the permits that it has used in the last second free, and one more: so its own commands do not wait."""
NEVER: Final = float("inf")


def quota_slice(limit: int, partition: int, partitions: int) -> int:
    """Return the permits that belong to one partition; over all partitions they add up to the limit exactly."""
    return limit * (partition + 1) // partitions - limit * partition // partitions


class Permit(NamedTuple):
    """
    The permit that one request has taken. Permits are not distinguished: this says only until when there is certainly one.

    Attributes:
        until: When its lease ends, if it is borrowed; infinity if it is owned.
        losses: How often slices were lost before it was taken: if another slice is lost after that, this permit may be lost.

    """

    until: float
    losses: int


class RateLimiter:
    """
    The permits of one (app, endpoint) in this replica. ``lane`` names them among all replicas that lend to each other, and
    ``name`` this replica.

    Attributes:
        borrower, lender: The permits that others have lent, and those that are lent to others.
        owned: The permits of all slices that this replica uses.
        out: Requests in flight: sent and not answered yet.

    """

    def __init__(self, window: float, *, window_from_send: bool, lane: str = "", name: str = "") -> None:
        self.borrower = Borrower(lane, name)
        self.lender = Lender(lane, name)
        self.owned = 0
        self.out = 0
        self._losses = 0
        self._window = window
        self._window_from_send = window_from_send
        self._returns: deque[tuple[float, bool]] = deque()
        # How many of `_returns` were accepted: not refused for the number of requests. With permits that count from the sending on, all
        # of them: their answers are still to come.
        self._accepted = 0
        # None: never throttled, or recovered.
        self._ceiling: float | None = None
        self._ceiling_at = 0.0
        self._lowered_at = float("-inf")

    def set_share(self, permits: int) -> None:
        """Own this many permits from now on: the slices of this replica have changed."""
        self._losses += permits < self.owned
        self.owned = permits

    def free(self, now: float) -> int:
        """Return how many requests may be sent now; never negative."""
        self._expire(now)
        return max(0, self.granted(now) - self.out - len(self._returns))

    def own(self, now: float) -> int:
        """Return how many permits are owned and not lent."""
        return max(0, self.owned - self.lender.lent(now))

    def total(self, now: float) -> int:
        """Return how many permits there are, own and borrowed."""
        return self.own(now) + self.borrower.usable(now)

    def granted(self, now: float) -> int:
        """Return how many permits may be used: the total, or fewer while throttled."""
        total = self.total(now)
        if self._ceiling is None:
            return total
        ceiling = self._ceiling + RECOVERY_PER_SECOND * self.owned * (now - self._ceiling_at)
        if ceiling >= total:
            self._ceiling = None
            return total
        return max(1, int(ceiling))

    def factor(self, now: float) -> float:
        """Return the share of the permits that throttling leaves."""
        total = self.total(now)
        return self.granted(now) / total if total else 1.0

    def used(self, now: float) -> int:
        """Return how many permits are taken: by requests in flight, and by those answered less than a window ago."""
        self._expire(now)
        return self.out + len(self._returns)

    def acquire(self, now: float) -> Permit:
        """Take a permit for one request, which is sent only while the permit ``is_good``."""
        if self._window_from_send:
            self._returns.append((now + self._window, True))
            self._accepted += 1
        else:
            self.out += 1
        until = NEVER if self.used(now) <= self.own(now) else self.borrower.lease_ends(now)
        return Permit(until, self._losses)

    def is_good(self, permit: Permit, now: float) -> bool:
        """
        Return whether the request that took the permit may be sent: no slice was lost since, and its lease has not ended; or there
        still is a permit for each request that has taken one.
        """
        is_certain = now < permit.until and permit.losses == self._losses
        return is_certain or self.used(now) <= self.total(now)

    def release(self) -> None:
        """Return a permit at once: its request was not sent after all."""
        if not self._window_from_send:
            self.out -= 1
        # Else the permit comes back by itself, if it has not yet: the refusal may be older than the window.

    def request_ended(self, now: float, *, accepted: bool) -> None:
        """Let a permit come back one window later: its request was answered, or failed."""
        if self._window_from_send:
            return
        self.out -= 1
        self._returns.append((now + self._window, accepted))
        self._accepted += accepted
        if accepted and self._ceiling is not None and now - self._lowered_at < 1.0:
            self._see_accepted(now)

    def throttled(self, now: float) -> None:
        """Lower the ceiling, at most once a second: Tencent says that there are too many requests."""
        self._expire(now)
        if now - self._lowered_at < 1.0:
            return
        self._ceiling = max(1.0, THROTTLED_SHARE * min(self._accepted, self.granted(now)))
        self._ceiling_at = self._lowered_at = now

    def _see_accepted(self, now: float) -> None:
        """Raise the ceiling by acceptances after the first refusal of a burst, until its second is over."""
        self._expire(now)
        seen = THROTTLED_SHARE * min(self._accepted, self.total(now))
        if self._ceiling is not None and seen > self._ceiling:
            self._ceiling, self._ceiling_at = seen, now

    def next_return(self) -> float | None:
        """Return when the next permit comes back by itself; None: only an answer can bring one."""
        return self._returns[0][0] if self._returns else None

    def permits_cover_in_flight(self, now: float) -> bool:
        """
        Return whether the requests in flight and the loans fit into the permits that are owned. With permits that count from the sending
        on, requests in flight are not counted: then they never do.
        """
        return self.may_soon_cover_in_flight(now) and self.out + self.lender.lent(now) <= self.owned

    def may_soon_cover_in_flight(self, now: float) -> bool:
        """Return whether ``permits_cover_in_flight`` may soon be true, as requests are answered. Loans come back too late for that."""
        return not self._window_from_send and self.lender.lent(now) <= self.owned

    def seconds_until_covered(self, now: float) -> float:
        """
        Return the seconds until the permits that are owned also cover the requests answered less than a window ago, beside those in
        flight and the loans (``permits_cover_in_flight``, which must be true).

        Of 100 owned permits, evenly used, 33 have just gone: the 33 that come back first do so within 0.33 s. Until then none of the
        67 that remain is taken again. Borrowed permits may be taken, and their lender keeps them aside until they are back.
        """
        assert self.permits_cover_in_flight(now)
        lacking = self.used(now) + self.lender.lent(now) - self.owned
        return self._returns[lacking - 1][0] - now if lacking > 0 else 0.0

    # Lending

    def hungry(self, calls: int) -> None:
        """Note that ``calls`` calls wait for a permit, unless this replica is throttled: then more permits would not help."""
        if self._ceiling is None:
            self.borrower.need(calls)

    def lending_message(self, now: float) -> LoanRequest | LoanReturn | None:
        """Return the message to the lenders that is due; None if none is."""
        return self.borrower.message(now, max(0, self.used(now) - self.own(now)))

    def lend(self, request: LoanRequest, now: float, *, waiting: int, may_lend: bool) -> LoanGrant | None:
        """
        Set aside for another replica the permits that it keeps, and those that it wants as far as they are idle here. Return the
        grant, or None.

        ``waiting``: how many calls wait here for a permit. ``may_lend``: the own slices are certainly not another replica's yet.
        """
        used = self.used(now)
        idle = self.owned - used - used // HEADROOM - 1 - waiting
        return self.lender.requested(request, now, idle if may_lend and self._ceiling is None else 0)

    def _expire(self, now: float) -> None:
        returns = self._returns
        while returns and returns[0][0] <= now:
            _, accepted = returns.popleft()
            self._accepted -= accepted

    def __repr__(self) -> str:
        return f"<RateLimiter {self.out} out, {len(self._returns)} returning, {self.owned} owned>"
