# What leaves next: at a free permit a retry or a half of a search, else the next batch; while an endpoint is down or
# halted, one probe at a time.
#
# Here permits are taken and bodies are built, at each try anew: members whose time is over leave the call, durations
# are computed. What an answer means is decided in response_handler.py.

from __future__ import annotations

from itertools import count
from math import ceil
from typing import TYPE_CHECKING

from worker.domain.calls.endpoint_state import NEVER, AppState, CallState, EndpointState, InFlightCall
from worker.domain.calls.probing import next_probe
from worker.domain.calls.rate_limiter import RateLimiter, slice_of
from worker.domain.contract.actions import ACTIONS
from worker.domain.effects import Attempt, CancelCall, GrantPermit, LogEvent, StartCall
from worker.domain.progress.open_commands import TaskState, expired

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.calls.bisection import Bisection
    from worker.domain.calls.target_queue import TargetQueue
    from worker.domain.clock import Clock
    from worker.domain.contract.actions import Action
    from worker.domain.effects import Effect
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import MemberTask
    from worker.domain.progress.outbox import Outbox
    from worker.domain.rules import Rules
    from worker.domain.snapshots import Counts


class Scheduler:
    """
    All lanes, and the calls that are not over.

    Attributes:
        effects: What shall happen in the world, since the engine last looked.

    """

    __slots__ = (
        "_call_prefix",
        "_clock",
        "_counts",
        "_ledger",
        "_lines",
        "_numbers",
        "_rules",
        "apps",
        "effects",
        "flights",
    )

    def __init__(
        self,
        rules: Rules,
        clock: Clock,
        lines: MemberOrdering,
        ledger: Outbox,
        counts: Counts,
        call_prefix: str,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._lines = lines
        self._ledger = ledger
        self._counts = counts
        self._call_prefix = call_prefix
        self._numbers = count(1)
        self.effects: list[Effect] = []
        self.flights: dict[str, InFlightCall] = {}
        self.apps = {name: self._app(name) for name in rules.apps}

    def _app(self, name: str) -> AppState:
        app = AppState(name)
        per_call = {action.endpoint: action.members_per_call for action in ACTIONS.values()}
        for endpoint, members in per_call.items():
            permits = RateLimiter(self._rules.window, window_from_send=self._rules.window_from_send)
            app.lanes.append(EndpointState(app, endpoint, permits, members))
        return app

    @property
    def lanes(self) -> Iterable[EndpointState]:
        """Every (app, endpoint)."""
        return (lane for app in self.apps.values() for lane in app.lanes)

    def lane(self, app: str, action: Action) -> EndpointState:
        """Where a command goes."""
        return next(lane for lane in self.apps[app].lanes if lane.endpoint == action.endpoint)

    def own(self, partitions: Iterable[int]) -> None:
        """The partitions that this replica works on have changed, and with them its slices of the quota."""
        rules = self._rules
        numbers = list(partitions)
        for lane in self.lanes:
            limit = rules.calls_per_second.get(lane.endpoint, rules.default_calls_per_second)
            lane.permits.own(sum(slice_of(limit, number, rules.partitions) for number in numbers))

    def pump(self, now: float) -> None:
        """Lets everything go that may go now."""
        for app in self.apps.values():
            for lane in app.lanes:
                lane.wake_at = NEVER
                if lane.queue.waiting or lane.asking:
                    self._pump(lane, now)

    def asked(self, flight: InFlightCall) -> None:
        """The call waits for a permit."""
        flight.phase = CallState.ASKING
        flight.lane.asking.append(flight)

    def open(
        self,
        lane: EndpointState,
        target: TargetQueue,
        members: list[MemberTask],
        search: Bisection[MemberTask] | None = None,
    ) -> InFlightCall:
        """A new call with these members. It has no permit yet."""
        flight = InFlightCall(f"{self._call_prefix}-{next(self._numbers)}", lane, target, members)
        flight.search = search
        for member in members:
            member.state = TaskState.CALLED
        target.calls += 1
        lane.flights[flight.call_id] = self.flights[flight.call_id] = flight
        return flight

    def close(self, flight: InFlightCall, now: float) -> None:
        """The call is over."""
        lane, target = flight.lane, flight.target
        del self.flights[flight.call_id]
        del lane.flights[flight.call_id]
        if lane.probe is flight:
            lane.probe = None
        if lane.app.probe is flight:
            lane.app.probe = None
        target.calls -= 1
        lane.rebound(target, now)

    def requeue(self, lane: EndpointState, members: Iterable[MemberTask], now: float) -> None:
        """The members go back to their queue, as they are."""
        for member in members:
            if self._is_wanted(member, now):
                lane.queue.put(member, now)

    def rest(self, lane: EndpointState, members: Iterable[MemberTask], now: float) -> None:
        """The same for members that a search has left untested: they wait until it ends."""
        lane.queue.rest([member for member in members if self._is_wanted(member, now)])

    def back(self, flight: InFlightCall, now: float, all_but: Iterable[MemberTask] = ()) -> None:
        """
        The call is over without a verdict on its members, but for some of them: the others go back to their queue, and
        so do all suspects of its search.
        """
        members = flight.members if flight.search is None else self.end_search(flight)
        kept = set(all_but)
        self.requeue(flight.lane, [member for member in members if member not in kept], now)

    def notice(self, event: str, level: str, lane: EndpointState, **fields: object) -> None:
        """Something about an endpoint that an operator may want to know."""
        where = {"app": lane.app.name, "endpoint": lane.endpoint}
        self.effects.append(LogEvent(event, level, where | fields))

    def _is_wanted(self, member: MemberTask, now: float) -> bool:
        """Whether the member, which was in a call, is still to be sent. If not, it leaves its line here."""
        if member.work.dropped:
            self._lines.abandon(member, now)
        elif self._lines.is_over(member, now):
            self._lines.settle(member, expired(member), now)
        else:
            return True
        return False

    def recall(self, lane: EndpointState, now: float) -> None:
        """Calls that wait hold no permit and no connection: their members go back to their queue at once."""
        for flight in list(lane.flights.values()):
            if flight.phase in _WAITS:
                self._take_back(flight, now)

    def recall_target(self, lane: EndpointState, target: TargetQueue, now: float) -> None:
        """The same for the calls of one target."""
        for flight in list(lane.flights.values()):
            if flight.phase in _WAITS and flight.target is target:
                self._take_back(flight, now)

    def end_search(self, flight: InFlightCall) -> list[MemberTask]:
        """The search that the call is a half of goes no further. Returns all its suspects; those that rested may go again."""
        search = flight.search
        assert search is not None
        flight.search = None
        flight.lane.queue.wake(search.untested)
        return search.suspects

    def _take_back(self, flight: InFlightCall, now: float) -> None:
        self._counts.recalled += 1
        if flight.phase is CallState.ASKING:
            flight.lane.asking.remove(flight)
        if flight.number:
            self.effects.append(CancelCall(flight.call_id))
        self.close(flight, now)
        self.back(flight, now)

    def _pump(self, lane: EndpointState, now: float) -> None:
        paused_until = max(lane.paused_until, lane.app.locked_until)
        if now < paused_until:
            lane.wake_at = paused_until
            return
        if self._ledger.is_full:
            return  # what is published wakes it
        if lane.is_blocked:
            self._probe(lane, now)
            return
        free = lane.permits.free(now)
        while free > 0:
            flight = self._next_asking(lane, now)
            if flight is None:
                batch = lane.queue.take(now, self._rules.max_wait)
                if not batch:
                    break
                command = batch[0].work.command
                flight = self.open(lane, lane.queue.target(command.target), batch)
            free -= self._send(flight, now)
        if free <= 0:
            lane.wake_at = lane.permits.next_return() or NEVER

    def _next_asking(self, lane: EndpointState, now: float) -> InFlightCall | None:
        bound = lane.bound(now)
        for flight in lane.asking:
            target = flight.target
            if target.out < (1 if target.suspect else bound) and target.held_at is None:
                lane.asking.remove(flight)
                return flight
        return None

    def _probe(self, lane: EndpointState, now: float) -> None:
        """Sends the one probe that may go, if it is due."""
        target = next_probe(lane, now)
        if target is None:
            return
        target.probed_at = lane.probed_at = now
        flight = self.open(lane, target, lane.queue.take_of(target))
        flight.probe = True
        if lane.app.halts.current is not None:
            lane.app.probe = flight
            halts = lane.app.halts
        else:
            lane.probe = flight
            halts = lane.halts
        if not self._send(flight, now):
            lane.wake_at = now
        elif halts.current is not None:
            halts.probed(now)

    def _send(self, flight: InFlightCall, now: float) -> bool:
        """
        Takes a permit and lets the call's next try go, with those of its members whose time is not over.

        Returns False if none is left: then the call is over.
        """
        lane = flight.lane
        if any(
            member.work.dropped or self._lines.is_over(member, now) for member in flight.members
        ) and not self._leave_those_over(flight, now):
            return False
        flight.number += 1
        flight.phase = CallState.OUT
        lane.permits.take(now)
        flight.target.out += 1
        lane.rebound(flight.target, now)
        for member in flight.members:
            if member.started_at is None:
                member.started_at = lane.clock(now)
            self._lines.sent(member)
        send = Attempt(
            flight.call_id,
            flight.number,
            lane.app.name,
            lane.endpoint,
            self._body(flight, now),
            len(flight.members),
            flight.probe and lane.app.halts.current is not None,
        )
        self.effects.append(StartCall(send) if flight.number == 1 else GrantPermit(send))
        return True

    def _leave_those_over(self, flight: InFlightCall, now: float) -> bool:
        """Members that are dropped or whose time is over leave the call. Returns whether any is left."""
        if flight.search is not None:
            self.back(flight, now, all_but=flight.members)
        flight.members = [member for member in flight.members if self._is_wanted(member, now)]
        if not flight.members:
            if flight.number:
                self.effects.append(CancelCall(flight.call_id))
            self.close(flight, now)
        return bool(flight.members)

    def _body(self, flight: InFlightCall, now: float) -> bytes:
        command = flight.members[0].work.command
        duration = command.duration
        if command.banned_until is not None:
            duration = ceil(command.banned_until - self._clock.wall(now))
        return command.action.body(
            command.target,
            [member.user for member in flight.members],
            duration=duration,
            reason=command.reason,
            member_info=command.member_info,
        )


_WAITS = frozenset({CallState.ASKING, CallState.BACKING_OFF})
