# One EndpointState for each (app, endpoint): its queue, its permits, its health, its calls. One InFlightCall for each call that is not
# over. One AppState for what all lanes of an app share.
#
# State and questions about it; scheduler.py sends, response_handler.py draws the consequences.

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from worker.domain.calls.breaker import Breaker, ConfigHalt
from worker.domain.calls.endpoint_queue import EndpointQueue
from worker.domain.contract.codes import is_foreign, remedy
from worker.domain.contract.outcomes import cut
from worker.domain.effects import Halt

if TYPE_CHECKING:
    from worker.domain.calls.bisection import Bisection
    from worker.domain.calls.rate_limiter import RateLimiter
    from worker.domain.calls.target_queue import TargetQueue
    from worker.domain.progress.open_commands import MemberTask

NEVER = float("inf")


class CallState(Enum):
    """What a call is doing."""

    ASKING = "asking"
    """It waits for a permit."""
    OUT = "out"
    """A request of it is on its way."""
    BACKING_OFF = "backing off"
    """Its last attempt has ended; it waits to ask for another permit."""


class InFlightCall:
    """
    One call that is not over.

    Attributes:
        number: How many tries it has had.
        search: The search that it is a half of.
        doubted_at: When the first of its tries that got a code of no table had ended; None: none did.
        probe: It tests whether a breaker may close or a halt is fixed: one try only.

    """

    __slots__ = ("call_id", "doubted_at", "lane", "members", "number", "phase", "probe", "search", "target")

    def __init__(
        self, call_id: str, lane: EndpointState, target: TargetQueue, members: list[MemberTask]
    ) -> None:
        self.call_id = call_id
        self.lane = lane
        self.target = target
        self.members = members
        self.search: Bisection[MemberTask] | None = None
        self.doubted_at: float | None = None
        self.number = 0
        self.phase = CallState.ASKING
        self.probe = False

    def __repr__(self) -> str:
        return f"<InFlightCall {self.call_id} to {self.target.name}, {len(self.members)} members, {self.phase.value}>"


class AppState:
    """
    What all lanes of one app share.

    Attributes:
        halts: The app's halt: a wrong key, plan or region concerns all its endpoints.
        probe: The call that tests whether it is fixed.
        locked_until: Too many bad signatures: nothing goes until then.
        unknown_codes: Codes of no table but of the platform's ranges -> targets that got them, with no success between; as
            many as are needed to tell whose fault it is.

    """

    __slots__ = ("halts", "lanes", "locked_until", "name", "probe", "unknown_codes")

    def __init__(self, name: str) -> None:
        self.name = name
        self.lanes: list[EndpointState] = []
        self.halts = ConfigHalt()
        self.probe: InFlightCall | None = None
        self.locked_until = 0.0
        self.unknown_codes: dict[int, set[str]] = {}


class EndpointState:
    """
    One (app, endpoint).

    Attributes:
        asking: Calls that wait for a permit: retries, and halves of searches. They go before new batches.
        flights: Calls that are not over.
        halts: The endpoint's own halt: no permission for several targets.
        probe: The call that tests whether the breaker may close or the endpoint's halt is fixed.
        paused_until: Tencent asked to wait until then.
        probed_at: When it last was probed, for taking turns.
        held: The targets that were refused, it is not clear by whose fault, and are held.
        passed_at: When the latest of the requests that were applied was sent.
        wake_at: When to look again, if nothing happens before.

    """

    __slots__ = (
        "app", "asking", "breaker", "endpoint", "flights", "halts", "held", "passed_at", "paused_until", "permits", "probe", "probed_at",
        "queue", "wake_at",
    )  # fmt: skip

    def __init__(self, app: AppState, endpoint: str, permits: RateLimiter, per_call: int) -> None:
        self.app = app
        self.endpoint = endpoint
        self.permits = permits
        self.queue = EndpointQueue(per_call)
        self.breaker = Breaker()
        self.halts = ConfigHalt()
        self.asking: deque[InFlightCall] = deque()
        self.flights: dict[str, InFlightCall] = {}
        self.held: dict[str, TargetQueue] = {}
        self.probe: InFlightCall | None = None
        self.passed_at = float("-inf")
        self.paused_until = 0.0
        self.probed_at = 0.0
        self.wake_at = NEVER

    @property
    def halted_by(self) -> Halt | None:
        """The halt that stops this lane, of its app or its own."""
        return self.app.halts.current or self.halts.current

    @property
    def is_blocked(self) -> bool:
        """Nothing goes but probes."""
        return self.breaker.is_open or self.halted_by is not None

    @property
    def impostor(self) -> Halt | None:
        """What answers in Tencent's place, if that is why the breaker is open: an outage that waiting does not end."""
        cause = self.breaker.cause
        if cause is None or not is_foreign(cause.verdict, cause.http_status):
            return None
        reason = cut(cause.error_info) or f"HTTP {cause.http_status}"
        what_to_do = remedy(None, cause.http_status)
        return Halt(self.app.name, self.endpoint, None, reason, what_to_do, self.breaker.open_since)

    def clock(self, now: float) -> float:
        """Seconds that stand still while nothing but probes may go."""
        return (
            now
            - self.breaker.stood_still(now)
            - self.halts.stood_still(now)
            - self.app.halts.stood_still(now)
        )

    def bound(self, now: float) -> int:
        """How many requests of one target may be out: an eighth of the permits, so that a hanging room cannot take them all."""
        return max(2, self.permits.granted(now) // 8)

    def rebound(self, target: TargetQueue, now: float) -> None:
        """The target's calls have changed: whether another may leave."""
        blocked = (
            target.held_at is not None
            or target.out >= self.bound(now)
            or (target.suspect and target.calls > 0)
        )  # fmt: skip
        self.queue.block(target, blocked=blocked)

    def forget_idle(self, now: float) -> None:
        """Forgets the held targets that have nothing left to send: they expired, or a later command made them needless."""
        for target in [target for target in self.held.values() if not target.has_work]:
            self.release(target, now)

    def release(self, held: TargetQueue, now: float) -> None:
        """The target is held no longer."""
        held.held_at = None
        held.refused_probes = 0
        del self.held[held.name]
        self.rebound(held, now)

    def limited_by(self, now: float) -> str:
        """What keeps the waiting members from going."""
        if not self.queue.waiting and not self.asking:
            return "nothing"
        if self.halted_by is not None:
            return "halt"
        if self.breaker.is_open:
            return "breaker"
        if self.permits.free(now) <= 0:
            return "throttle" if self.permits.factor(now) < 1.0 else "quota"
        return "throttle" if now < max(self.paused_until, self.app.locked_until) else "target"

    def __repr__(self) -> str:
        return f"<EndpointState {self.app.name} {self.endpoint}, {self.queue!r}, {len(self.flights)} calls>"
