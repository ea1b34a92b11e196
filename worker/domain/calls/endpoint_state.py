# One EndpointState for each (app, endpoint): its queue, its permits, its gates, its calls (in_flight_call.py) and the states of its
# targets (target_state.py). One AppState for what all endpoints of an app share.
#
# They keep their own books, and whether a target may begin another call is computed whenever its calls change. What is sent is decided
# in scheduler.py, what an answer means in response_handler.py.

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

from worker.domain.calls.endpoint_queue import EndpointQueue
from worker.domain.calls.gates import CircuitBreaker, ConfigHalt, GateKind, SendGate
from worker.domain.calls.recently_refused_users import RecentlyRefusedUsers
from worker.domain.calls.target_state import TargetState
from worker.domain.contract.error_codes import is_foreign, remedy
from worker.domain.contract.outcomes import cut
from worker.domain.effects import HaltReason
from worker.domain.state_transitions import CallState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.calls.in_flight_call import InFlightCall
    from worker.domain.calls.rate_limiter import RateLimiter
    from worker.domain.effects import AttemptResult
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.engine_snapshot import LimitedBy
    from worker.domain.progress.open_commands import EndpointKey, MemberTask

NEVER = float("inf")
PACE = 1.5
"""While an endpoint is saturated, requests are sent evenly, at this many times its permits a second. A permit comes back a second after
the answer, so requests that are sent together come together again in each second; such a burst asks for more CPU than there is, and its permits
wait. Measured with a backlog of single-member bans on one core: 3,590 members a second in bursts, 3,800 evenly."""
SLOWEST_PACE = 300.0
"""Requests a second. A core can always send as many, so a replica with few permits would only lose by waiting."""
TIMER_GRAIN = 0.002
"""Seconds. A request that is late by no more does not delay the next ones: the loop's timers are no finer."""
PACED_SECONDS = 0.1
"""A saturated endpoint that sent within this time is limited by its quota, though a permit may be free until the next request is due."""
FILL_SECONDS = 0.1
"""
While the worker catches up, and permits are plenty, a batch that is not full waits this long for tasks that fill it. A worker at the
limit of its core reads the next records within as long. Measured with five endpoints at once: 16.9 members a call, and 14.1 without.
"""
LONG_WAIT = 1.0
"""Seconds. A request that has waited longer for its connection is not sent if an order withholds one of its commands meanwhile."""


class AppState:
    """
    What all endpoints of one app share.

    Attributes:
        halt: The app's halt: a wrong key, plan or region concerns all its endpoints.
        lockout: Shut while Tencent refuses every request, after too many bad signatures.
        probe: The call that tests whether the cause of the halt is corrected.
        refused_users: The users that were refused lately.
        unknown_codes: Unlisted code in the platform's ranges → targets that got it since the last success, only as many as are
            needed.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.endpoints: list[EndpointState] = []
        self.halt = ConfigHalt()
        self.lockout = SendGate(GateKind.SIGNATURE_LOCKOUT)
        self.probe: InFlightCall | None = None
        self.refused_users = RecentlyRefusedUsers()
        self.unknown_codes: dict[int, set[str]] = {}

    def add(self, endpoint: EndpointState) -> None:
        """Take an endpoint in."""
        self.endpoints.append(endpoint)

    def note_unknown_code(self, code: int, target: str, most: int) -> None:
        """Note that a target got an unlisted code. At most ``most`` targets are kept of each."""
        targets = self.unknown_codes.setdefault(code, set())
        if len(targets) < most:
            targets.add(target)

    def proved_alive(self) -> None:
        """Note that an endpoint of the app did its work."""
        if self.unknown_codes:
            self.unknown_codes.clear()


class EndpointState:
    """
    One (app, endpoint).

    Attributes:
        awaiting_permit: Calls that wait for a permit: retries, and halves of bisections. They are sent before new batches.
        calls: Calls that are not over.
        halt: The endpoint's own halt: no permission for several targets.
        shadow_queue: The tasks in shadow. They wait for permits, and for nothing else.
        retry_after: Shut while Tencent asked to wait.
        gates: Its gates and the app's, the one to be reported first.
        probe: The call that tests whether the breaker may close or the cause of the endpoint's halt is corrected.
        probed_at: When it was last probed, for taking turns.
        held: Held targets: refused, and it is not clear by whose fault.
        ended: Targets of which a call ended since the last ``forget_idle``.
        last_applied_sent_at: When the latest of the requests that were applied was sent.
        fresh_task_came: Whether a task has come for a target never held since the last search for a probe found none.
        paced_until: While it is saturated, no request is sent before then.
        filling_until: Until then a batch may wait for tasks that fill it, unless the endpoint is saturated.
        wake_at: When to look again, if no event comes before.

    """

    def __init__(
        self, app: AppState, name: str, limiter: RateLimiter, per_call: int, settings: EngineSettings
    ) -> None:
        self.app = app
        self.name = name
        self.key: EndpointKey = app.name, name
        self.limiter = limiter
        self.queue = EndpointQueue(per_call, settings)
        self.shadow_queue = EndpointQueue(per_call, settings)
        self.breaker = CircuitBreaker()
        self.halt = ConfigHalt()
        self.retry_after = SendGate(GateKind.RETRY_AFTER)
        self.gates = (app.halt.gate, self.halt.gate, self.breaker.gate, app.lockout, self.retry_after)
        self._probed_gates = [gate for gate in self.gates if gate.policy.is_probed]
        self._timed_gates = [gate for gate in self.gates if not gate.policy.is_probed]
        self.targets: dict[str, TargetState] = {}
        self.awaiting_permit: deque[InFlightCall] = deque()
        self.calls: dict[str, InFlightCall] = {}
        self.held: dict[str, TargetState] = {}
        self.ended: dict[str, None] = {}
        self.probe: InFlightCall | None = None
        self.last_applied_sent_at = float("-inf")
        self.probed_at = 0.0
        self.fresh_task_came = False
        self.paced_until = 0.0
        self.filling_until = 0.0
        self.wake_at = NEVER

    # Its gates

    @property
    def only_probes_may_go(self) -> bool:
        """Whether only probes may be sent, until an answer opens the gate."""
        return any(gate.is_shut for gate in self._probed_gates)

    @property
    def is_skipped_by_drain(self) -> bool:
        """Whether a drain or a handover does not wait for tasks behind its gates."""
        return any(gate.is_shut and not gate.policy.holds_up_drain for gate in self.gates)

    @property
    def is_halted(self) -> bool:
        """Whether it, or its app, is halted for its configuration."""
        return self.app.halt.gate.is_shut or self.halt.gate.is_shut

    @property
    def impostor(self) -> HaltReason | None:
        """A halt that says what answers in Tencent's place, if the breaker is open for that: waiting does not end such an outage."""
        cause = self.breaker.cause
        if cause is None or not is_foreign(cause.verdict, cause.http_status):
            return None
        reason = cut(cause.error_info) or f"HTTP {cause.http_status}"
        what_to_do = remedy(None, cause.http_status)
        return HaltReason(self.app.name, self.name, None, reason, what_to_do, self.breaker.gate.shut_since)

    @property
    def blocked_until(self) -> float:
        """When the last of the gates that open by themselves opens; in the past if none of them is shut."""
        return max([gate.until for gate in self._timed_gates])

    def give_up_clock(self, now: float) -> float:
        """Return a clock that stands still while a clock-stopping gate is shut."""
        return now - sum(gate.shut_for(now) for gate in self.gates if gate.policy.stops_clock)

    def limited_by(self, now: float) -> LimitedBy:
        """Return what keeps the waiting members from being sent."""
        if not self.queue.waiting and not self.awaiting_permit:
            return "nothing"
        shut = next((gate for gate in self.gates if gate.is_shut), None)
        if shut is not None:
            return shut.policy.limited_by
        is_paced = now < self.paced_until + PACED_SECONDS and self.is_saturated(now)
        if is_paced or self.limiter.free(now) <= 0:
            if self.limiter.factor(now) < 1.0:
                return "throttle"
            return "lent" if self.limiter.lender.lent(now) else "quota"
        closed = next((gate for gate in self.gates if gate.blocks(now)), None)
        if closed is not None:
            return closed.policy.limited_by
        return "nothing" if self.is_filling(now) and self.queue.oldest_normal_since is not None else "target"

    # Its permits

    def is_saturated(self, now: float) -> bool:
        """Return whether more tasks wait than a second's permits can carry."""
        return self.queue.waiting > self.queue.per_call * self.limiter.granted(now)

    def sendable_now(self, now: float) -> int:
        """Return how many requests may be sent at once: as many as there are permits, but only at its pace while it is saturated."""
        free = self.limiter.free(now)
        if free <= 0 or not self.is_saturated(now):
            return free
        if now < self.paced_until:
            return 0
        return min(free, 1 + int(min(now - self.paced_until, TIMER_GRAIN) / self._interval(now)))

    def _interval(self, now: float) -> float:
        """Return the seconds between two requests while it is saturated."""
        return 1.0 / max(SLOWEST_PACE, PACE * self.limiter.granted(now))

    # Its targets

    def target(self, name: str) -> TargetState:
        """Return the state of the target."""
        target = self.targets.get(name)
        if target is None:
            target = self.targets[name] = TargetState(self.queue.target(name))
        return target

    def took_effect(self, sent_at: float) -> None:
        """Note that a request which was sent then was applied."""
        self.last_applied_sent_at = max(self.last_applied_sent_at, sent_at)

    @property
    def sendable_targets(self) -> Iterable[TargetState]:
        """The targets that have tasks to send, blocked or not, to be probed."""
        return (target for target in self.targets.values() if target.queue.is_sendable)

    def hold(self, target: TargetState, refusal: AttemptResult, now: float, *, of_probe: bool) -> None:
        """Hold the target until it is known whose fault the refusal is."""
        target.hold(refusal, of_probe=of_probe)
        self.held[target.name] = target
        self.update_blocked(target, now)

    def release(self, target: TargetState, now: float, *, at_fault: bool = False) -> None:
        """Release the held target; ``at_fault``: because it was shown to be at fault itself."""
        target.release(now if at_fault else None)
        del self.held[target.name]
        self.update_blocked(target, now)

    def release_idle_held(self, now: float) -> None:
        """Release the held targets without tasks: these expired, say, or a later command superseded them."""
        for target in [target for target in self.held.values() if not target.has_work]:
            self.release(target, now)

    def forget_idle(self) -> None:
        """Forget idle targets, after ``release_idle_held``. Only those are visited whose queue was emptied or whose call ended lately."""
        candidates = dict.fromkeys(chain(self.queue.take_emptied(), self.ended))
        self.ended.clear()
        idle = [name for name in candidates if name in self.targets and self.targets[name].is_idle]
        for name in idle:
            del self.targets[name]
        self.queue.forget(idle)
        self.shadow_queue.forget(self.shadow_queue.take_emptied())

    def update_blocked(self, target: TargetState, now: float) -> None:
        """Compute whether the target may begin another call: its calls or its state have changed."""
        self.queue.set_blocked(target.queue, blocked=target.is_blocked(self.max_out_per_target(now)))

    def max_out_per_target(self, now: float) -> int:
        """Return how many requests of one target may be in flight: an eighth of the permits, at least two, so that none takes them all."""
        return max(2, self.limiter.granted(now) // 8)

    # Its tasks

    def put(self, task: MemberTask, now: float) -> None:
        """Queue a task that waits for a permit."""
        if task.command.policy.simulates:
            self.shadow_queue.put(task, now)
            return
        target = task.command.spec.target
        task.set_goes_alone(goes_alone=self.app.refused_users.are_likely(target, task.user, now))
        if self.queue.put(task, now) and self.target(target).is_fresh:
            self.fresh_task_came = True

    def remove(self, tasks: Iterable[MemberTask]) -> None:
        """Remove tasks that are not to be sent any more."""
        queued: list[MemberTask] = []
        in_shadow: list[MemberTask] = []
        for task in tasks:
            (in_shadow if task.command.policy.simulates else queued).append(task)
        self.queue.remove(*queued)
        self.shadow_queue.remove(*in_shadow)

    def hurry(self, task: MemberTask) -> None:
        """Make a waiting task urgent."""
        (self.shadow_queue if task.command.policy.simulates else self.queue).hurry(task)

    def rest(self, tasks: list[MemberTask]) -> None:
        """Queue tasks that a bisection has left untested: they wait until it ends."""
        if tasks and self.queue.rest(tasks) and self.target(tasks[0].command.spec.target).is_fresh:
            self.fresh_task_came = True

    def wait_to_fill(self, now: float) -> None:
        """Let batches that are not full wait a moment: further records may fill them."""
        self.filling_until = now + FILL_SECONDS

    def is_filling(self, now: float) -> bool:
        """Return whether batches wait to be filled: not while permits are scarce, for then they fill by themselves."""
        return now < self.filling_until and not self.is_saturated(now)

    def next_batch(self, now: float) -> list[MemberTask]:
        """Hand out the next batch; empty if none may be sent now."""
        patience = FILL_SECONDS if self.is_filling(now) else 0.0
        batch = self.queue.take(now, patience)
        if patience and not batch and (since := self.queue.oldest_normal_since) is not None:
            self.set_wake_at(since + patience)
        return batch

    # Its calls

    def may_still_send(self, call: InFlightCall, now: float) -> bool:
        """
        Return whether the call's attempt may still be sent: its permit is still good, and, if it has waited longer than ``LONG_WAIT``,
        no order withholds one of its commands.
        """
        if now > call.permitted_at + LONG_WAIT and any(task.command.policy.withholds for task in call.tasks):
            return False
        return self.limiter.is_good(call.permit, now)

    def begin(self, call: InFlightCall) -> None:
        """Take in a new call."""
        call.target.call_opened()
        self.calls[call.call_id] = call

    def close(self, call: InFlightCall, now: float) -> None:
        """Forget a call that is over."""
        if call.state is CallState.AWAITING_PERMIT and call in self.awaiting_permit:
            self.awaiting_permit.remove(call)
        call.move_to(CallState.CLOSED)
        del self.calls[call.call_id]
        if self.probe is call:
            self.probe = None
        if self.app.probe is call:
            self.app.probe = None
        call.target.call_closed()
        self.ended[call.target.name] = None
        self.update_blocked(call.target, now)

    def request_permit(self, call: InFlightCall) -> None:
        """Let a call wait for a permit. It is sent before new batches."""
        if call.state is CallState.BACKING_OFF:
            call.move_to(CallState.AWAITING_PERMIT)
        self.awaiting_permit.append(call)

    def next_awaiting(self, now: float) -> InFlightCall | None:
        """Hand out the first call that waits for a permit and may be sent; None if there is none."""
        bound = self.max_out_per_target(now)
        for call in self.awaiting_permit:
            if call.target.has_room(bound):
                self.awaiting_permit.remove(call)
                return call
        return None

    def take_permit(self, call: InFlightCall, now: float) -> None:
        """Take a permit for the call's next attempt."""
        call.begin_attempt(self.limiter.acquire(now), now)
        call.target.request_sent()
        self.paced_until = min(max(self.paced_until, now - TIMER_GRAIN), now) + self._interval(now)
        self.update_blocked(call.target, now)

    def return_permit(self, call: InFlightCall) -> None:
        """Return the call's permit at once: its request was not sent after all."""
        call.target.request_ended()
        self.limiter.release()

    def request_ended(self, call: InFlightCall, now: float, *, accepted: bool) -> None:
        """Let the call's permit come back in a second: its request has ended."""
        call.target.request_ended()
        self.limiter.request_ended(now, accepted=accepted)

    def back_off(self, call: InFlightCall, now: float) -> None:
        """Let a call wait before its next attempt."""
        call.move_to(CallState.BACKING_OFF)
        self.update_blocked(call.target, now)

    def waiting_calls(self, target: TargetState | None = None) -> list[InFlightCall]:
        """Return the calls, of one target or of all, that hold neither a permit nor a connection."""
        return [call for call in self.calls.values() if call.waits and target in (None, call.target)]

    # Its probes

    def take_probe(self, target: TargetState) -> list[MemberTask]:
        """
        Hand out a batch of the target for a probe. It is half as large after each refused probe: a batch that is refused for one of
        its members, or for its size, passes in the end.
        """
        return self.queue.take_of(target.queue, self.queue.per_call >> target.refused_probes)

    @property
    def halt_to_probe(self) -> ConfigHalt:
        """The halt that a probe tests: the app's if that is shut, else its own, shut or not."""
        return self.app.halt if self.app.halt.gate.is_shut else self.halt

    def begin_probe(self, call: InFlightCall, now: float) -> None:
        """Note the probe that is about to be sent."""
        self.probed_at = now
        call.target.probed(now)
        if self.halt_to_probe is self.app.halt:
            self.app.probe = call
        else:
            self.probe = call

    # Time

    def wake_by(self, at: float) -> None:
        """Look again at ``at``, or before."""
        self.wake_at = min(self.wake_at, at)

    def look_again_for_shadow(self, now: float) -> None:
        """Look again when tasks in shadow may get a permit: when one comes back, or, if one is free, at the pace of requests."""
        if self.limiter.free(now) > 0:
            self.wake_by(max(self.paced_until, now + self._interval(now)))
        else:
            returns_at = self.limiter.next_return()
            self.wake_by(NEVER if returns_at is None else returns_at)

    def set_wake_at(self, at: float | None) -> None:
        """Replace ``wake_at``; None: only an event can change anything."""
        self.wake_at = NEVER if at is None else at

    def search_failed(self, now: float) -> None:
        """Search for a target to probe again when a fresh task comes, or in a while: no target is worth a probe now."""
        self.fresh_task_came = False
        self.halt.search_failed(now)
        self.wake_at = self.halt.search_at

    def __repr__(self) -> str:
        return f"<EndpointState {self.app.name} {self.name}, {self.queue!r}, {len(self.calls)} calls>"
