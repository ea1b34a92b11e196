# Whether an endpoint lives, and whether the configuration is right: breaker, halts, and when to probe.
#
# An outage is not poison and a wrong key fails no command: while either lasts, nothing goes but one probe at a time.
# Here it is decided *whether and when* something may go; what goes is scheduler.py's business.

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import structs

from worker.domain.contract.codes import Verdict

if TYPE_CHECKING:
    from worker.domain.effects import AttemptResult, Halt
    from worker.domain.progress.open_commands import MemberTask

FAILURES_TO_OPEN: Final = 5
"""
So many failures in a row, with no answer between that shows life, are an outage. At 1 % of transient codes and the whole quota
two in a row come by chance every minute, five not once in a year.
"""
TARGETS_TO_OPEN: Final = 2
"""Retry codes are among those failures where so many targets got them in that row: of one target alone they are its own."""
FIRST_PROBE: Final = 0.2
SLOWEST_PROBE: Final = 5.0
"""Seconds between the probes of an open breaker: doubling from the first to the slowest."""
MAX_UNCOUNTED: Final = 1000
"""Failures that are remembered until a success shows that they count; in an outage they never will."""


class Breaker:
    """
    The breaker of one (app, endpoint).

    Closed, everything may go. It opens on an outage; then one probe at a time goes, and the first answer closes it.
    While it is open, attempts are not counted and the time to give up stands still.

    Attributes:
        cause: The latest failure while it is open; None when it is closed.

    """

    __slots__ = (
        "_codes",
        "_interval",
        "_open_since",
        "_retry_targets",
        "_silences",
        "_stood_still",
        "_uncounted",
        "cause",
        "opened",
        "probe_at",
    )

    def __init__(self) -> None:
        self.probe_at = 0.0
        self.opened = 0
        self._open_since: float | None = None
        self._stood_still = 0.0
        self._interval = FIRST_PROBE
        self.cause: AttemptResult | None = None
        self._silences = 0
        self._codes = 0
        self._retry_targets: set[str] = set()
        self._uncounted: deque[tuple[float, list[MemberTask]]] = deque(maxlen=MAX_UNCOUNTED)

    @property
    def is_open(self) -> bool:
        """Whether only probes may go."""
        return self._open_since is not None

    @property
    def failures(self) -> int:
        """How many failures in a row speak for an outage."""
        return self._silences + (self._codes if len(self._retry_targets) >= TARGETS_TO_OPEN else 0)

    @property
    def open_since(self) -> float:
        """When it opened; it must be open."""
        assert self._open_since is not None
        return self._open_since

    def stood_still(self, now: float) -> float:
        """For how many seconds it has been open, all told."""
        return self._stood_still + (0.0 if self._open_since is None else now - self._open_since)

    def failed(self, try_: AttemptResult, target: str, members: list[MemberTask], now: float) -> None:
        """A try had no usable answer, or a retry code. Opens the breaker when that makes an outage."""
        if self.is_open:
            self.cause = try_
            return
        if try_.verdict is Verdict.TRANSPORT:
            self._silences += 1
        else:
            self._codes += 1
            if len(self._retry_targets) < TARGETS_TO_OPEN:
                self._retry_targets.add(target)
        if try_.verdict is Verdict.RETRY and len(self._retry_targets) < TARGETS_TO_OPEN:
            _count(members)  # one target's own, so far
        else:
            self._uncounted.append((try_.ended_at, members))
        if self.failures >= FAILURES_TO_OPEN:
            self.cause = try_
            self.opened += 1
            self.probe_at = now + FIRST_PROBE
            self._open_since = now
            self._interval = FIRST_PROBE
            self._uncounted.clear()  # they were the outage, not the members

    def probe_failed(self, now: float) -> None:
        """The probe had no success: the next one goes later."""
        self._interval = min(self._interval * 2, SLOWEST_PROBE)
        self.probe_at = now + self._interval

    def succeeded(self, try_: AttemptResult, now: float) -> bool:
        """
        A try was answered: the endpoint lives. Failures of tries that ended before this one was sent count as attempts now.

        Returns whether this closed the breaker.
        """
        self._silences = self._codes = 0
        self._retry_targets.clear()
        uncounted = self._uncounted
        while uncounted and uncounted[0][0] <= try_.sent_at:
            _count(uncounted.popleft()[1])
        if self._open_since is None:
            return False
        self._stood_still += now - self._open_since
        self._open_since = self.cause = None
        return True

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.is_open else 'closed'}, {self.failures} failures>"


def _count(members: list[MemberTask]) -> None:
    for member in members:
        member.attempts += 1


QUICK_PROBES: Final = 5
QUICK_INTERVAL: Final = 1.0
SLOW_INTERVAL: Final = 30.0
"""A halt is probed every second at first, for a slip that is fixed at once, then every half minute."""


class ConfigHalt:
    """
    One halt, of an app or of an endpoint: why, and when to probe.

    Attributes:
        current: Why it is halted; None when it is not.
        probe_at: When the next probe may go.
        fresh_probe_at: When it may go with a target that was not refused yet: sooner, so that those that are refused by
            their own fault do not hold up the others.
        look_at: When to look for such a target again, if none has come.
        resumed_at: When it last was fixed: answers to what was sent before say nothing any more.

    """

    __slots__ = (
        "_probes",
        "_since",
        "_stood_still",
        "current",
        "fresh_probe_at",
        "look_at",
        "probe_at",
        "resumed_at",
    )

    def __init__(self) -> None:
        self.current: Halt | None = None
        self.probe_at = 0.0
        self.fresh_probe_at = 0.0
        self.look_at = 0.0
        self.resumed_at = float("-inf")
        self._probes = 0
        self._since = 0.0
        self._stood_still = 0.0

    def halt(self, why: Halt, now: float) -> bool:
        """Halt, or stay halted after a probe that was refused. Returns whether this is new."""
        is_new = self.current is None
        if is_new:
            self._probes = 0
            self._since = now
            self.probe_at = now + QUICK_INTERVAL
            self.fresh_probe_at = now
        self.current = structs.replace(why, since=self._since)
        return is_new

    def probed(self, now: float) -> None:
        """A probe is sent."""
        self._probes += 1
        self.probe_at = now + (QUICK_INTERVAL if self._probes < QUICK_PROBES else SLOW_INTERVAL)
        self.fresh_probe_at = now + QUICK_INTERVAL

    def looked(self, now: float) -> None:
        """There is no target that was not refused yet: looks again in a while."""
        self.look_at = min(now + QUICK_INTERVAL, self.probe_at)

    def resume(self, now: float) -> bool:
        """It is fixed. Returns whether it was halted."""
        if self.current is None:
            return False
        self._stood_still += now - self._since
        self.current = None
        self.resumed_at = now
        return True

    def stood_still(self, now: float) -> float:
        """For how many seconds it has been halted, all told."""
        return self._stood_still + (0.0 if self.current is None else now - self._since)
