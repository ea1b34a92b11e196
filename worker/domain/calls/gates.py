# Gates: a shut gate keeps an endpoint from sending. Each kind is a row of one table that says what follows while it is shut.
#
# An outage is not poison and a wrong key fails no command: while either lasts, only one probe at a time is sent. Whether a gate shuts
# or opens is decided by the breaker (here) and by halt_handler.py; what is sent, by scheduler.py.

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from msgspec import structs

from worker.domain.contract.error_codes import FailureScope

if TYPE_CHECKING:
    from worker.domain.effects import AttemptResult, HaltReason
    from worker.domain.engine_snapshot import LimitedBy
    from worker.domain.progress.open_commands import MemberTask


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What follows while a gate is shut."""

    name: str
    limited_by: LimitedBy  # the word of the metric for what keeps the endpoint's members from being sent
    is_probed: bool  # one attempt at a time is let through, to find out whether it may open
    # a drain or a handover waits for the tasks behind it; else they are given up at once
    holds_up_drain: bool
    stops_clock: bool  # the time to give up (``retry.give_up_after_seconds``) stands still


class GateKind(Enum):
    """The kinds, in the order in which they are reported."""

    CONFIG_HALT = GatePolicy(
        "configuration halt", "halt", is_probed=True, holds_up_drain=False, stops_clock=True
    )
    """The configuration is refused: the worker is not ready, and says why."""
    OUTAGE = GatePolicy("outage", "breaker", is_probed=True, holds_up_drain=False, stops_clock=True)
    """The endpoint gives no usable answer."""
    SIGNATURE_LOCKOUT = GatePolicy(
        "signature lockout", "throttle", is_probed=False, holds_up_drain=True, stops_clock=False
    )
    """Too many bad signatures: Tencent refuses every request of the app for a minute."""
    RETRY_AFTER = GatePolicy(
        "retry after", "throttle", is_probed=False, holds_up_drain=True, stops_clock=False
    )
    """An answer asked to wait."""


class SendGate:
    """
    One gate of an endpoint, or of all endpoints of an app: open, shut, or shut until a time.

    Attributes:
        policy: What follows while it is shut.
        is_shut: It is shut until somebody opens it.
        until: When it opens by itself; it may be in the past.

    """

    def __init__(self, kind: GateKind) -> None:
        self.policy: GatePolicy = kind.value
        self.is_shut = False
        self.until = 0.0
        self._shut_since = 0.0
        self._shut_for = 0.0

    def shut(self, now: float) -> bool:
        """Shut it until ``open``. Return whether it was open."""
        if self.is_shut:
            return False
        self.is_shut = True
        self._shut_since = now
        return True

    def shut_until(self, until: float) -> None:
        """Shut it until then, or longer if it is shut longer already."""
        self.until = max(self.until, until)

    def open(self, now: float) -> bool:
        """Open it. Return whether it was shut."""
        if not self.is_shut:
            return False
        self.is_shut = False
        self._shut_for += now - self._shut_since
        return True

    @property
    def shut_since(self) -> float:
        """When it was shut; it must be shut."""
        assert self.is_shut
        return self._shut_since

    def blocks(self, now: float) -> bool:
        """Return whether it is shut now, so that at most probes are let through."""
        return self.is_shut or now < self.until

    def shut_for(self, now: float) -> float:
        """Return for how many seconds it has been shut, in total."""
        return self._shut_for + (now - self._shut_since if self.is_shut else 0.0)

    def __repr__(self) -> str:
        return f"<SendGate {self.policy.name}, {'shut' if self.is_shut else f'open from {self.until}'}>"


# The breaker

FAILURES_TO_OPEN: Final = 5
"""
This many failures in a row, with no answer between that proves life, are an outage. At 1 % of transient codes and the full quota
two in a row come by chance every minute, five not once in a year.
"""
TARGETS_TO_OPEN: Final = 2
"""Retry codes count among those failures if this many targets got them in that row: codes of one target alone are its own matter."""
FIRST_PROBE: Final = 0.2
SLOWEST_PROBE: Final = 5.0
"""Seconds between the probes of an open breaker: doubled from the first to the slowest."""
MAX_UNCOUNTED: Final = 1000
"""Failures that are remembered until a success shows that they count; in an outage they never will."""


class CircuitBreaker:
    """
    The breaker of one (app, endpoint), and its gate.

    While it is closed, all calls may be sent. An outage opens it, which shuts the gate; then one probe at a time is sent, and the first
    answer closes it. While it is open, attempts are not counted and the time to give up stands still.

    Attributes:
        cause: The latest failure while it is open; None when it is closed.
        probe_at: When the next probe may be sent.
        openings: How often it has opened.

    """

    def __init__(self) -> None:
        self.gate = SendGate(GateKind.OUTAGE)
        self.cause: AttemptResult | None = None
        self.probe_at = 0.0
        self.openings = 0
        self._interval = FIRST_PROBE
        self._silences = 0
        self._codes = 0
        self._retry_targets: set[str] = set()
        self._uncounted: deque[tuple[float, list[MemberTask]]] = deque(maxlen=MAX_UNCOUNTED)

    @property
    def is_tripped(self) -> bool:
        """Whether it is open: only probes may be sent."""
        return self.gate.is_shut

    @property
    def failures(self) -> int:
        """How many failures in a row speak for an outage."""
        return self._silences + (self._codes if len(self._retry_targets) >= TARGETS_TO_OPEN else 0)

    def failed(self, result: AttemptResult, target: str, tasks: list[MemberTask], now: float) -> bool:
        """Note an attempt without a usable answer, or with a retry code. Return whether it opens the breaker: an outage."""
        if self.is_tripped:
            self.cause = result
            return False
        is_of_endpoint = result.verdict.fails is FailureScope.ENDPOINT
        if is_of_endpoint:
            self._silences += 1
        else:
            self._codes += 1
            if len(self._retry_targets) < TARGETS_TO_OPEN:
                self._retry_targets.add(target)
        if not is_of_endpoint and len(self._retry_targets) < TARGETS_TO_OPEN:
            _count(tasks)  # so far the failure is one target's own matter
        else:
            self._uncounted.append((result.ended_at, tasks))
        if self.failures < FAILURES_TO_OPEN:
            return False
        self.cause = result
        self.openings += 1
        self.probe_at = now + FIRST_PROBE
        self._interval = FIRST_PROBE
        self._uncounted.clear()  # these failures were the outage's, not their members'
        return self.gate.shut(now)

    def probe_failed(self, now: float) -> None:
        """Delay the next probe: this one has failed."""
        self._interval = min(self._interval * 2, SLOWEST_PROBE)
        self.probe_at = now + self._interval

    def probe_unsent(self, now: float) -> None:
        """Plan another probe: this one was not sent after all, so it says nothing."""
        self.probe_at = now + self._interval

    def succeeded(self, result: AttemptResult, now: float) -> bool:
        """
        Note that an attempt was answered: the endpoint lives. Failures that ended before it was sent count as attempts from now on.

        Return whether this closes the breaker.
        """
        self._silences = self._codes = 0
        self._retry_targets.clear()
        uncounted = self._uncounted
        while uncounted and uncounted[0][0] <= result.sent_at:
            _count(uncounted.popleft()[1])
        if not self.gate.open(now):
            return False
        self.cause = None
        return True

    def __repr__(self) -> str:
        return f"<CircuitBreaker {'open' if self.is_tripped else 'closed'}, {self.failures} failures>"


def _count(tasks: list[MemberTask]) -> None:
    for task in tasks:
        task.count_attempt()


# A halt

QUICK_PROBES: Final = 5
QUICK_INTERVAL: Final = 1.0
SLOW_INTERVAL: Final = 30.0
"""Seconds. A halt is probed every second at first, for a slip that is corrected at once, then every half minute."""


class ConfigHalt:
    """
    The halt of an app or of one endpoint for its configuration, and its gate: why, and when to probe.

    Attributes:
        reason: Why it is halted; None if it is not.
        probe_at: When the next probe may be sent.
        fresh_probe_at: When the next probe may be sent to a target that was not refused yet: sooner, so that targets that are refused by
            their own fault do not hold up the others.
        search_at: When to search for such a target again, if none has come.
        resumed_at: When it was last resumed: answers to requests sent before say nothing any more.

    """

    def __init__(self) -> None:
        self.gate = SendGate(GateKind.CONFIG_HALT)
        self.reason: HaltReason | None = None
        self.probe_at = 0.0
        self.fresh_probe_at = 0.0
        self.search_at = 0.0
        self.resumed_at = float("-inf")
        self._probes = 0
        self._since = 0.0

    def begin(self, why: HaltReason, now: float) -> bool:
        """Halt, or stay halted after a probe that was refused. Return whether this is new."""
        is_new = self.gate.shut(now)
        if is_new:
            self._probes = 0
            self._since = now
            self.probe_at = now + QUICK_INTERVAL
            self.fresh_probe_at = now
        self.reason = structs.replace(why, since=self._since)
        return is_new

    def probe_sent(self, now: float) -> None:
        """Plan the probes after the one that is sent now. A fresh target's probe, which is sent sooner, takes no other target's turn."""
        self.fresh_probe_at = now + QUICK_INTERVAL
        if now < self.probe_at:
            return
        self._probes += 1
        self.probe_at = now + (QUICK_INTERVAL if self._probes < QUICK_PROBES else SLOW_INTERVAL)

    def probe_unsent(self, now: float) -> None:
        """Plan another probe soon: this one was not sent after all, so it says nothing."""
        self.probe_at = min(self.probe_at, now + QUICK_INTERVAL)

    def search_failed(self, now: float) -> None:
        """Search again in a while: all targets were refused."""
        self.search_at = min(now + QUICK_INTERVAL, self.probe_at)

    def resume(self, now: float) -> bool:
        """Resume: the cause is corrected. Return whether it was halted."""
        if not self.gate.open(now):
            return False
        self.reason = None
        self.resumed_at = now
        return True
