# What is sent next: at a free permit a retry or a half of a bisection, else the next batch; while an endpoint is down or halted, one
# probe at a time.
#
# Here permits are taken and bodies are built, for each attempt: expired members are removed from the call, durations are computed.
# What an answer means is decided in response_handler.py.

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from worker.domain.calls.endpoint_state import AppState, EndpointState
from worker.domain.calls.in_flight_call import InFlightCall
from worker.domain.calls.lending_router import LendingRouter, lane_of
from worker.domain.calls.probe_choice import choose_probe
from worker.domain.calls.rate_limiter import RateLimiter, quota_slice
from worker.domain.calls.shadow_calls import ShadowCalls
from worker.domain.contract.actions import MEMBERS_PER_CALL
from worker.domain.effects import AllowAttempt, Attempt, CancelWaitingCall, LogEvent, StartCall
from worker.domain.progress.member_ordering import TaskChange, expired_result
from worker.domain.state_transitions import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.calls.bad_member_search import Bisection
    from worker.domain.calls.target_state import TargetState
    from worker.domain.effects import EffectQueue
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import EndpointKey, MemberTask
    from worker.domain.runaway_guards import GuardCounters
    from worker.domain.wall_clock import WallClock


class Scheduler:
    """
    All endpoints, and the calls that are not over.

    Attributes:
        apps: By name.
        calls: By id.
        endpoints: By (app, endpoint).
        recalled: Waiting calls since the start that were ended by an outage, a halt or a held target.
        lending: The messages of lending permits.

    """

    def __init__(
        self,
        settings: EngineSettings,
        clock: WallClock,
        ordering: MemberOrdering,
        effects: EffectQueue,
        guards: GuardCounters,
        call_prefix: str,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._ordering = ordering
        self._effects = effects
        self._call_prefix = call_prefix
        self._numbers = count(1)
        self._guards = guards
        self._shadow_calls = ShadowCalls(clock, ordering, call_prefix)
        self.recalled = 0
        self.calls: dict[str, InFlightCall] = {}
        self.apps: dict[str, AppState] = {}
        self.endpoints: dict[EndpointKey, EndpointState] = {}
        for name in settings.apps:
            app = self.apps[name] = AppState(name)
            for endpoint, members in MEMBERS_PER_CALL.items():
                limiter = RateLimiter(
                    settings.window,
                    window_from_send=settings.window_from_send,
                    lane=lane_of(settings, name, endpoint),
                    name=f"{settings.worker.name}/{call_prefix}",
                )
                state = EndpointState(app, endpoint, limiter, members, settings)
                app.add(state)
                self.endpoints[state.key] = state
        self.lending = LendingRouter(settings, self.endpoints, effects)

    def use_slices(self, partitions: Iterable[int]) -> None:
        """Use these partitions' slices of the quota, and no others."""
        settings, numbers = self._settings, list(partitions)
        for endpoint in self.endpoints.values():
            limit = settings.calls_per_second.get(endpoint.name, settings.default_calls_per_second)
            endpoint.limiter.set_share(
                sum(quota_slice(limit, number, settings.partitions) for number in numbers)
            )

    def permits_cover_in_flight(self, now: float) -> bool:
        """Return whether ``RateLimiter.permits_cover_in_flight`` is true on every endpoint."""
        return all(endpoint.limiter.permits_cover_in_flight(now) for endpoint in self.endpoints.values())

    def may_soon_cover_in_flight(self, now: float) -> bool:
        """Return whether ``permits_cover_in_flight`` may soon be true."""
        return all(endpoint.limiter.may_soon_cover_in_flight(now) for endpoint in self.endpoints.values())

    def seconds_until_covered(self, now: float) -> float:
        """Return the longest ``RateLimiter.seconds_until_covered`` of all endpoints. ``permits_cover_in_flight`` must be true."""
        return max(
            (endpoint.limiter.seconds_until_covered(now) for endpoint in self.endpoints.values()), default=0.0
        )

    # What is sent

    def note_catching_up(self, now: float) -> None:
        """Note that the worker is catching up: further records follow at once, and may fill batches that are not full."""
        for endpoint in self.endpoints.values():
            endpoint.wait_to_fill(now)

    def apply_changes(self, now: float) -> bool:
        """Queue tasks that became ready, and remove those that need no permit any more. Return whether any became ready."""
        any_ready = False
        withdrawn: dict[EndpointState, list[MemberTask]] = {}
        for change, task in self._ordering.take_changes():
            endpoint = self.endpoints[task.command.endpoint]
            if change is TaskChange.WITHDRAWN:
                withdrawn.setdefault(endpoint, []).append(task)
                continue
            if withdrawn:
                _withdraw(withdrawn)
            if change is TaskChange.READY:
                endpoint.put(task, now)
                any_ready = True
            elif change is TaskChange.HURRIED:
                endpoint.hurry(task)
            else:
                endpoint.queue.note_started(task)
        if withdrawn:
            _withdraw(withdrawn)
        return any_ready

    def pump(self, now: float, *, outbox_has_room: bool) -> bool:
        """
        Send all that may be sent now, but nothing more once a guard trips: its order is to be enforced first. ``outbox_has_room``: not
        too many results wait to be published.

        Return whether tasks became ready meanwhile, perhaps of an endpoint that had its turn already: pump once more.
        """
        any_ready = False
        for endpoint in self.endpoints.values():
            endpoint.set_wake_at(None)
            if endpoint.shadow_queue.waiting and outbox_has_room:
                self._shadow_calls.pump(endpoint, now)
                any_ready |= self.apply_changes(now)
            if endpoint.queue.waiting or endpoint.awaiting_permit:
                any_ready |= self._pump(endpoint, now, outbox_has_room=outbox_has_room)
                if self._guards.tripped:
                    endpoint.set_wake_at(now)
                    del self.endpoints[endpoint.key]
                    self.endpoints[endpoint.key] = endpoint  # next time the others come first
                    return any_ready
            if endpoint.shadow_queue.waiting and outbox_has_room:
                endpoint.look_again_for_shadow(now)
            if endpoint.limiter.borrower.is_active:
                self.lending.speak(endpoint, now)
        return any_ready

    def _pump(self, endpoint: EndpointState, now: float, *, outbox_has_room: bool) -> bool:
        blocked_until = endpoint.blocked_until
        if now < blocked_until:
            endpoint.set_wake_at(blocked_until)
            return False
        if not outbox_has_room:
            return False  # the end of a transaction wakes it
        if endpoint.only_probes_may_go:
            self._probe(endpoint, now)
            return self.apply_changes(now)
        any_ready = False
        free = endpoint.sendable_now(now)
        while free > 0:
            call = endpoint.next_awaiting(now) if endpoint.awaiting_permit else None
            if call is None:
                batch = endpoint.next_batch(now)
                if not batch:
                    break
                call = self.begin(endpoint, endpoint.target(batch[0].command.spec.target), batch)
            if self._send(call, now):
                free -= 1
            any_ready |= self.apply_changes(now)
            if self._guards.tripped:
                return any_ready
        if free <= 0 and (endpoint.queue.waiting or endpoint.awaiting_permit):
            if endpoint.limiter.free(now) > 0:
                endpoint.set_wake_at(endpoint.paced_until)
            else:
                self.lending.wait_for_permit(endpoint, now)
        return any_ready

    def _probe(self, endpoint: EndpointState, now: float) -> None:
        """Send the one probe that may be sent, if it is due."""
        choice = choose_probe(endpoint, now)
        if choice.search_failed:
            endpoint.search_failed(now)
        elif choice.target is None:
            endpoint.set_wake_at(choice.look_again_at)
        else:
            batch = endpoint.take_probe(choice.target)
            call = self.begin(endpoint, choice.target, batch, is_probe=True)
            halt = endpoint.halt_to_probe
            endpoint.begin_probe(call, now)
            if not self._send(call, now):
                endpoint.set_wake_at(now)
            elif halt.gate.is_shut:
                halt.probe_sent(now)

    def _send(self, call: InFlightCall, now: float) -> bool:
        """
        Take a permit and send the call's next attempt, with those of its tasks that are still to be sent.

        Return False if no task is left: then the call is over.
        """
        endpoint, ordering = call.endpoint, self._ordering
        if not self.keep_wanted(call, now):
            self._end_waiting(call, now)
            return False
        endpoint.take_permit(call, now)
        at = endpoint.give_up_clock(now)
        if self._settings.guards:
            self._guards.sent([task.command.spec for task in call.tasks if not task.was_sent], now)
        for task in call.tasks:
            ordering.sent(task, at)
        attempt = Attempt(
            call.call_id,
            call.number,
            endpoint.app.name,
            endpoint.name,
            call.target.name,
            self._body(call, now),
            len(call.tasks),
            call.is_probe and endpoint.app.halt.gate.is_shut,
        )
        self._effects.ask_for(StartCall(attempt) if call.number == 1 else AllowAttempt(attempt))
        return True

    def _body(self, call: InFlightCall, now: float) -> bytes:
        return call.tasks[0].command.spec.body([task.user for task in call.tasks], self._clock.wall(now))

    # Calls

    def begin(
        self,
        endpoint: EndpointState,
        target: TargetState,
        tasks: list[MemberTask],
        bisection: Bisection[MemberTask] | None = None,
        *,
        is_probe: bool = False,
    ) -> InFlightCall:
        """Begin a call with these tasks. It has no permit yet."""
        for task in tasks:
            if task.state is not TaskState.CALLED:
                task.move_to(TaskState.CALLED)
        call_id = f"{self._call_prefix}-{next(self._numbers)}"
        call = InFlightCall(call_id, endpoint, target, tasks, bisection, is_probe=is_probe)
        self.calls[call_id] = call
        endpoint.begin(call)
        return call

    def close(self, call: InFlightCall, now: float) -> None:
        """Forget a call that is over."""
        del self.calls[call.call_id]
        call.endpoint.close(call, now)

    def give_back(self, call: InFlightCall, now: float, all_but: Iterable[MemberTask] = ()) -> None:
        """
        Return to their queue the tasks of a call that ended without a verdict on them, and all suspects of its bisection; but not the
        tasks ``all_but``.
        """
        tasks = call.tasks if call.bisection is None else self.end_bisection(call)
        kept = set(all_but)
        self.requeue(call.endpoint, [task for task in tasks if task not in kept], now)

    def requeue(self, endpoint: EndpointState, tasks: Iterable[MemberTask], now: float) -> None:
        """Put tasks back into their queue."""
        for task in tasks:
            if self._is_wanted(task, now):
                task.move_to(TaskState.WAITING)
                endpoint.put(task, now)

    def rest(self, endpoint: EndpointState, tasks: Iterable[MemberTask], now: float) -> None:
        """Put tasks that a bisection has left untested back into their queue: they wait until it ends."""
        wanted = [task for task in tasks if self._is_wanted(task, now)]
        for task in wanted:
            task.move_to(TaskState.WAITING)
        endpoint.rest(wanted)

    def end_bisection(self, call: InFlightCall) -> list[MemberTask]:
        """End the bisection that the call is a half of, and let its resting tasks be sent. Return its suspects."""
        bisection = call.end_bisection()
        assert bisection is not None
        call.endpoint.queue.wake(bisection.untested)
        return bisection.suspects

    def keep_wanted(self, call: InFlightCall, now: float) -> bool:
        """
        Remove tasks from the call that are not to be sent any more: dropped, withheld, expired. Return whether any is left.

        What is removed is settled or returned to its member queue. If the call is a half of a bisection, that ends then.
        """
        ordering = self._ordering
        for task in call.tasks:
            command = task.command
            if (
                command.dropped
                or command.policy.withholds
                or (command.last_moment is not None and ordering.is_expired(task, now))
            ):
                if call.bisection is not None:
                    # The search ends: its other suspects wait again.
                    self.give_back(call, now, all_but=call.tasks)
                call.keep([each for each in call.tasks if self._is_wanted(each, now)])
                break
        return bool(call.tasks)

    def cancel_waiting(self, endpoint: EndpointState, now: float, target: TargetState | None = None) -> None:
        """
        End the waiting calls of the endpoint, or of one target: they hold no permit and no connection. Their tasks are put back into
        their queue at once.
        """
        for call in endpoint.waiting_calls(target):
            self.recalled += 1
            self._end_waiting(call, now)
            self.give_back(call, now)

    def take_back_unwanted(self, now: float) -> None:
        """
        Remove tasks that are not to be sent any more from waiting calls, and end the calls without a task left. The followers of the
        others are regrouped.
        """
        for endpoint in self.endpoints.values():
            for call in endpoint.waiting_calls():
                for task in call.tasks:
                    self._ordering.regroup(task)
                if not self.keep_wanted(call, now):
                    self._end_waiting(call, now)

    def _end_waiting(self, call: InFlightCall, now: float) -> None:
        """Close a call that waits. If it has a task of the loop, that ends."""
        if call.number:
            self._effects.ask_for(CancelWaitingCall(call.call_id))
        self.close(call, now)

    def log(self, event: str, level: str, endpoint: EndpointState, **fields: object) -> None:
        """Log something about an endpoint that an operator may want to know."""
        where = {"app": endpoint.app.name, "endpoint": endpoint.name}
        self._effects.ask_for(LogEvent(event, level, where | fields))

    def _is_wanted(self, task: MemberTask, now: float) -> bool:
        """Return whether the task, which was in a call, is still to be sent. If not, settle it or return it to its member queue."""
        self._ordering.regroup(task)
        if task.command.dropped:
            self._ordering.abandon(task, now)
        elif self._ordering.is_expired(task, now):
            self._ordering.settle(task, expired_result(task), now)
        elif task.command.policy.withholds:
            self._ordering.stop(task, now)
        else:
            return True
        return False


def _withdraw(withdrawn: dict[EndpointState, list[MemberTask]]) -> None:
    """Remove these tasks from their endpoints' queues, and clear ``withdrawn``."""
    for endpoint, tasks in withdrawn.items():
        endpoint.remove(tasks)
    withdrawn.clear()
