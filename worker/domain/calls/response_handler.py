# What an answer means for the call, its members, its target and its endpoint.
#
# Every request ends here: either its call goes on (after a backoff), or the call is over and its verdict's method settles the
# members: here, in bisection_handler.py or in halt_handler.py. What leaves next is scheduler.py's business.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.calls.bisection_handler import BisectionHandler
from worker.domain.calls.endpoint_state import CallState
from worker.domain.calls.halt_handler import HaltHandler
from worker.domain.contract.actions import ActionKind
from worker.domain.contract.codes import Again, Verdict, is_foreign, is_platform, remedy
from worker.domain.contract.outcomes import AttemptRecord, cut
from worker.domain.contract.times import rfc3339
from worker.domain.effects import RetryCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.calls.endpoint_state import EndpointState, InFlightCall
    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.clock import Clock
    from worker.domain.effects import AttemptResult
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import MemberTask
    from worker.domain.rules import Rules
    from worker.domain.snapshots import Counts

LONGEST_PAUSE: Final = 60.0
"""A Retry-After of more is taken for a mistake."""
UNKNOWN_TRIES: Final = 3
"""How often a code of no table is tried before it is believed."""
UNKNOWN_TARGETS: Final = 2
"""Such a code of the platform's own ranges, from so many targets with no success between, is the app's configuration's fault."""


class ResponseHandler:
    """Draws the consequences of what Tencent, or the lack of an answer, says."""

    __slots__ = ("_by_verdict", "_clock", "_dispatch", "_halting", "_lines", "_rules", "_searching")

    def __init__(
        self, rules: Rules, clock: Clock, lines: MemberOrdering, dispatch: Scheduler, counts: Counts
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._lines = lines
        self._dispatch = dispatch
        self._searching = BisectionHandler(lines, dispatch, counts)
        self._halting = HaltHandler(dispatch)
        self._by_verdict: dict[Verdict, Callable[[InFlightCall, AttemptResult, float], None]] = {
            Verdict.DONE: self._done,
            Verdict.RETRY: self._gave_up,
            Verdict.TRANSPORT: self._gave_up,
            Verdict.THROTTLE: self._gave_up,
            Verdict.THROTTLE_APP: self._gave_up,
            Verdict.RESIGN: self._gave_up,
            Verdict.UNSENT: self._gave_up,
            Verdict.LOCKED: self._halting.locked,
            Verdict.FATAL: self._halting.fatal,
            Verdict.FORBIDDEN: self._forbidden,
            Verdict.REFUSED: self._refused,
            Verdict.MEMBER: self._searching.refused,
            Verdict.AMBIGUOUS: self._searching.refused,
            Verdict.UNKNOWN: self._unknown,
        }

    def attempt_finished(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        """Record the request's end; then let the call go on, or close it."""
        lane, target = flight.lane, flight.target
        target.out -= 1
        if try_.verdict is Verdict.UNSENT:
            lane.permits.untake()
        else:
            self._ended(flight, try_, now)
        if self._is_worth_another(flight, try_, now):
            flight.phase = CallState.BACKING_OFF
            lane.rebound(target, now)
            self._dispatch.effects.append(RetryCall(flight.call_id))
        else:
            self._close(flight, try_, now)

    def _close(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        """The call is over, with its last try."""
        lane = flight.lane
        of_app = lane.app.probe is flight
        self._dispatch.close(flight, now)
        if flight.probe:
            self._halting.probed(flight, try_, now, of_app=of_app)
            if lane.breaker.is_open:
                self._probed_open(lane, try_, now)
        self._by_verdict[try_.verdict](flight, try_, now)

    def check_held(self, now: float) -> None:
        """Time has passed: it may have become clear whose fault a lack of permission is."""
        for lane in self._dispatch.lanes:
            if lane.held:
                self._halting.check(lane, now)

    def _is_worth_another(self, flight: InFlightCall, try_: AttemptResult, now: float) -> bool:
        lane = flight.lane
        if flight.probe or lane.is_blocked or flight.target.held_at is not None:
            return False
        if all(member.work.dropped for member in flight.members):
            return False
        again = try_.verdict.again
        if again is Again.BRIEFLY:
            return flight.number < UNKNOWN_TRIES
        if again is Again.WITHIN_ATTEMPTS:
            return not any(self._is_spent(member, lane, now) for member in flight.members)
        return again is Again.ALWAYS

    # Every try

    def _ended(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        lane, target = flight.lane, flight.target
        throttled = try_.verdict.slows
        lane.permits.answered(now, accepted=not throttled)
        self._record(flight, try_)
        if throttled:
            self._throttled(lane, try_, now)
        if try_.verdict.answered:
            self._answered_well(flight, try_, now)
        elif try_.verdict.is_failure:
            target.suspect = True
            was_open = lane.breaker.is_open
            lane.breaker.failed(try_, target.name, flight.members, now)
            if lane.breaker.is_open and not was_open:
                self._tell_of_outage(lane, try_)
                self._dispatch.recall(lane, now)
        elif try_.verdict is Verdict.UNKNOWN and try_.error_code is not None:
            flight.doubted_at = try_.ended_at if flight.doubted_at is None else flight.doubted_at
            if is_platform(try_.error_code):
                targets = lane.app.unknown_codes.setdefault(try_.error_code, set())
                if len(targets) < UNKNOWN_TARGETS:
                    targets.add(target.name)

    def _tell_of_outage(self, lane: EndpointState, try_: AttemptResult) -> None:
        status = try_.http_status
        self._dispatch.notice(
            "breaker.opened",
            "warning",
            lane,
            error_code=try_.error_code,
            error=try_.error,
            http_status=status,
            reason=cut(try_.error_info) or None,
            remedy=remedy(None, status) if is_foreign(try_.verdict, status) else None,
        )

    def _record(self, flight: InFlightCall, try_: AttemptResult) -> None:
        """The try stands in the outcome of every command that it carried."""
        call_try = AttemptRecord(
            call_id=flight.call_id,
            endpoint=flight.lane.endpoint,
            sent_at=rfc3339(self._clock.wall(try_.sent_at)),
            elapsed_ms=round((try_.ended_at - try_.sent_at) * 1000, 1),
            members=len(flight.members),
            request_id=try_.request_id,
            http_status=try_.http_status,
            error_code=try_.error_code,
            error_info=cut(try_.error_info) or None,
            error=try_.error,
        )
        for member in flight.members:
            member.work.tried(call_try, try_.sent_at, try_.ended_at)
            for rider in member.riders or ():
                rider.work.tried(call_try, try_.sent_at, try_.ended_at)
            if try_.end_unknown:
                self._lines.ended_unknown(member, try_.ended_at)

    def _throttled(self, lane: EndpointState, try_: AttemptResult, now: float) -> None:
        lanes = lane.app.lanes if try_.verdict is Verdict.THROTTLE_APP else [lane]
        for each in lanes:
            each.permits.throttled(now)
        if try_.retry_after is not None:
            lane.paused_until = max(lane.paused_until, now + min(try_.retry_after, LONGEST_PAUSE))

    def _answered_well(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        """The endpoint did its work: it lives."""
        lane, target = flight.lane, flight.target
        target.suspect = False
        lane.app.unknown_codes.clear()
        self._closes_breaker(lane, try_, now)
        if try_.verdict is Verdict.DONE:
            target.alone = None
            lane.passed_at = max(lane.passed_at, try_.sent_at)
            self._halting.succeeded(lane, target, try_, now)

    def _probed_open(self, lane: EndpointState, try_: AttemptResult, now: float) -> None:
        """A probe of an open breaker has ended. Any answer of Tencent's own shows that the endpoint lives."""
        if try_.verdict.is_failure or try_.verdict is Verdict.UNSENT:
            lane.breaker.probe_failed(now)
        else:
            self._closes_breaker(lane, try_, now)

    def _closes_breaker(self, lane: EndpointState, try_: AttemptResult, now: float) -> None:
        if lane.breaker.succeeded(try_, now):
            self._dispatch.notice("breaker.closed", "info", lane)

    # The last try

    def _done(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        for member in flight.members:
            self._lines.applied(member, try_.request_id, self._keep(member, now), now)
        flight.lane.queue.learn(flight.target, good=len(flight.members))
        self._searching.passed(flight, now)

    def _keep(self, member: MemberTask, now: float) -> float:
        """
        For how long a repeat of this effect needs no call: never for an event or for what others change as well, at most a tenth
        of a ban's duration.
        """
        command = member.work.command
        action = command.action
        if action.kind is ActionKind.EVENT or command.duration == 0:
            return 0.0
        if action.is_changed_elsewhere(command.member_info) and not self._rules.all_effects:
            return 0.0
        keep = self._rules.effect_window
        if command.duration is not None:
            keep = min(keep, command.duration / 10)
        if command.banned_until is not None:
            keep = min(keep, (command.banned_until - self._clock.wall(now)) / 10)
        return keep

    def _gave_up(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        """No further try for now: those whose tries are used up have failed, the others go back."""
        lane = flight.lane
        spent = (
            [] if lane.is_blocked else [each for each in flight.members if self._is_spent(each, lane, now)]
        )
        self._dispatch.back(flight, now, all_but=spent)
        for member in spent:
            self._searching.fail(member, try_, now)

    def _is_spent(self, member: MemberTask, lane: EndpointState, now: float) -> bool:
        if member.attempts >= self._rules.max_attempts:
            return True
        limit = self._rules.give_up_after
        return (
            limit is not None
            and member.started_at is not None
            and lane.clock(now) - member.started_at > limit
        )

    def _forbidden(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        if self._halting.doubted(flight, try_, now):
            self._refused(flight, try_, now)

    def _refused(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        self._dispatch.back(flight, now, all_but=flight.members)
        for member in flight.members:
            self._searching.fail(member, try_, now)

    def _unknown(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        """
        A code of no table, again and again. Nobody knows whose fault it is until something of the endpoint passes that was sent
        after it: until then the target is held. Then one of the platform's own ranges refuses the call, and any other is searched
        for like a member's. Of the platform's ranges and from several targets it halts the app.
        """
        code, lane = try_.error_code, flight.lane
        of_platform = code is not None and is_platform(code)
        targets = lane.app.unknown_codes.get(code, ()) if code is not None else ()
        if of_platform and (len(targets) >= UNKNOWN_TARGETS or lane.halted_by is not None):
            self._halting.fatal(flight, try_, now)
        elif flight.number < UNKNOWN_TRIES and lane.halts.current is None:
            # A breaker's or app's probe, or an outage or a halt came between: the other tries are yet to come.
            self._dispatch.back(flight, now)
        elif self._halting.doubted(flight, try_, now, is_shown=lane.passed_at > _doubted_since(flight)):
            (self._refused if of_platform else self._searching.refused)(flight, try_, now)


def _doubted_since(flight: InFlightCall) -> float:
    """Since when something must have been sent, and passed, to show that a code of no table is no outage."""
    search = flight.search
    if search is not None and search.began_with.verdict is Verdict.UNKNOWN:
        return search.began_with.ended_at
    assert flight.doubted_at is not None
    return flight.doubted_at
