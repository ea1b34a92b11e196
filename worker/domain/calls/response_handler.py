# What an answer means for the call, its members, its target and its endpoint.
#
# Every request ends here: either its call goes on (after a backoff), or the call is over and its verdict's method settles the
# members: here, in bisection_handler.py or in halt_handler.py. What is sent next is decided in scheduler.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.calls.bisection_handler import BisectionHandler
from worker.domain.calls.halt_handler import HaltHandler
from worker.domain.contract.error_codes import (
    BRIEF_ATTEMPTS,
    RetryBudget,
    Verdict,
    is_foreign,
    is_platform,
    remedy,
)
from worker.domain.contract.outcomes import AttemptRecord, cut
from worker.domain.contract.timestamps import rfc3339
from worker.domain.effects import RetryCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.calls.endpoint_state import EndpointState
    from worker.domain.calls.in_flight_call import InFlightCall
    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.effects import AttemptResult, EffectQueue
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import MemberTask
    from worker.domain.wall_clock import WallClock

LONGEST_PAUSE: Final = 60.0
"""Seconds. A longer Retry-After is taken for a mistake."""
UNKNOWN_TARGETS: Final = 2
"""An unlisted code in the platform's own ranges, got by this many targets with no success between, is the app's configuration's fault."""


class ResponseHandler:
    """
    Draws the consequences of an answer, or of the lack of one.

    Attributes:
        bisections: Searches for members at fault.

    """

    def __init__(
        self,
        settings: EngineSettings,
        clock: WallClock,
        ordering: MemberOrdering,
        scheduler: Scheduler,
        effects: EffectQueue,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._ordering = ordering
        self._scheduler = scheduler
        self._effects = effects
        self._halts = HaltHandler(scheduler)
        self.bisections = BisectionHandler(ordering, scheduler)
        self._by_verdict: dict[Verdict, Callable[[InFlightCall, AttemptResult, float], None]] = {
            Verdict.DONE: self._done,
            Verdict.RETRY: self._requeue_or_fail,
            Verdict.TRANSPORT: self._requeue_or_fail,
            Verdict.THROTTLE: self._requeue,
            Verdict.THROTTLE_APP: self._requeue,
            Verdict.RESIGN: self._requeue,
            Verdict.UNSENT: self._requeue,
            Verdict.LOCKED: self._halts.locked,
            Verdict.FATAL: self._halts.fatal,
            Verdict.FORBIDDEN: self._forbidden,
            Verdict.REFUSED: self._refused,
            Verdict.MEMBER: self.bisections.refused,
            Verdict.AMBIGUOUS: self.bisections.refused,
            Verdict.UNKNOWN: self._unknown,
        }

    def attempt_finished(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        """Record the request's end; then let the call go on, or close it."""
        if result.verdict is Verdict.UNSENT:
            call.endpoint.return_permit(call)
        else:
            self._ended(call, result, now)
        verdict = result.verdict
        if verdict.retry_budget is RetryBudget.ALWAYS or verdict is Verdict.LOCKED:  # for no member's fault
            for task in call.tasks:
                task.restart_clock()
        if self._is_worth_another(call, result, now) and self._scheduler.keep_wanted(call, now):
            call.endpoint.back_off(call, now)
            self._effects.ask_for(RetryCall(call.call_id))
            return
        endpoint = call.endpoint
        of_app = endpoint.app.probe is call
        self._scheduler.close(call, now)
        if call.is_probe:
            self._halts.probed(call, result, now, of_app=of_app)
            if endpoint.breaker.is_tripped:
                self._probed_open(endpoint, result, now)
        if call.tasks:  # with nobody left in it, the call shows nothing
            self._by_verdict[result.verdict](call, result, now)

    def check_held(self, now: float) -> None:
        """Check, as time has passed, whether it has become clear whose fault a refusal is."""
        for endpoint in self._scheduler.endpoints.values():
            if endpoint.held:
                self._halts.check(endpoint, now)

    def _is_worth_another(self, call: InFlightCall, result: AttemptResult, now: float) -> bool:
        endpoint, retry_budget = call.endpoint, result.verdict.retry_budget
        if (
            retry_budget is RetryBudget.NEVER
            or call.is_probe
            or endpoint.only_probes_may_go
            or call.target.held_at is not None
        ):
            return False
        if retry_budget is RetryBudget.BRIEFLY:
            return call.number < BRIEF_ATTEMPTS
        if retry_budget is RetryBudget.WITHIN_ATTEMPTS:
            return not any(self._is_spent(task, endpoint, now) for task in call.tasks)
        return True

    # Every attempt

    def _ended(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        endpoint, target, verdict = call.endpoint, call.target, result.verdict
        throttled = verdict.slows
        endpoint.request_ended(call, now, accepted=not throttled)
        self._record(call, result)
        if throttled:
            self._throttled(endpoint, result, now)
        if verdict.proves_life:
            self._proved_alive(call, result, now)
        elif verdict.is_failure:
            target.suspect()
            if endpoint.breaker.failed(result, target.name, call.tasks, now):
                self._log_outage(endpoint, result)
                self._scheduler.cancel_waiting(endpoint, now)
        elif verdict is Verdict.UNKNOWN and result.error_code is not None:
            call.doubt(result.ended_at)
            if is_platform(result.error_code):
                endpoint.app.note_unknown_code(result.error_code, target.name, UNKNOWN_TARGETS)

    def _log_outage(self, endpoint: EndpointState, result: AttemptResult) -> None:
        status = result.http_status
        self._scheduler.log(
            "breaker.opened",
            "warning",
            endpoint,
            error_code=result.error_code,
            error=result.error,
            http_status=status,
            reason=cut(result.error_info) or None,
            remedy=remedy(None, status) if is_foreign(result.verdict, status) else None,
        )

    def _record(self, call: InFlightCall, result: AttemptResult) -> None:
        """List the attempt in the outcome of every command that it carried."""
        attempt = AttemptRecord(
            call_id=call.call_id,
            endpoint=call.endpoint.name,
            sent_at=rfc3339(self._clock.wall(result.sent_at)),
            elapsed_ms=round((result.ended_at - result.sent_at) * 1000, 1),
            members=len(call.tasks),
            request_id=result.request_id,
            http_status=result.http_status,
            error_code=result.error_code,
            error_info=cut(result.error_info) or None,
            error=result.error,
        )
        sent_at, ended_at = result.sent_at, result.ended_at
        for task in call.tasks:
            task.command.record_attempt(attempt, sent_at, ended_at)
            for follower in task.followers or ():
                follower.command.record_attempt(attempt, sent_at, ended_at)
            if result.end_unknown:
                self._ordering.ended_unknown(task, ended_at)

    def _throttled(self, endpoint: EndpointState, result: AttemptResult, now: float) -> None:
        of_app = result.verdict is Verdict.THROTTLE_APP
        for slowed in endpoint.app.endpoints if of_app else (endpoint,):
            slowed.limiter.throttled(now)
        if result.retry_after is not None:
            endpoint.retry_after.shut_until(now + min(result.retry_after, LONGEST_PAUSE))

    def _proved_alive(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        """Note that the endpoint did its work: it lives."""
        endpoint, target = call.endpoint, call.target
        target.trust()
        endpoint.app.proved_alive()
        self._note_life(endpoint, result, now)
        if result.verdict is Verdict.DONE:
            target.took_effect()
            endpoint.took_effect(result.sent_at)
            if endpoint.held or endpoint.halt.gate.is_shut:
                self._halts.succeeded(endpoint, target, result, now)

    def _probed_open(self, endpoint: EndpointState, result: AttemptResult, now: float) -> None:
        """Judge the probe of an open breaker. Any answer of Tencent's own shows that the endpoint lives."""
        if result.verdict is Verdict.UNSENT:
            endpoint.breaker.probe_unsent(now)
        elif result.verdict.is_failure:
            endpoint.breaker.probe_failed(now)
        else:
            self._note_life(endpoint, result, now)

    def _note_life(self, endpoint: EndpointState, result: AttemptResult, now: float) -> None:
        """Note an answer of the endpoint's own, and log it if that closes the breaker."""
        if endpoint.breaker.succeeded(result, now):
            self._scheduler.log("breaker.closed", "info", endpoint)

    # The last attempt

    def _done(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        for task in call.tasks:
            if task.goes_alone:
                call.endpoint.app.refused_users.accepted(call.target.name, task.user)
            self._ordering.applied(task, result.request_id, now)
        call.endpoint.queue.learn(call.target.queue, good=len(call.tasks))
        if call.bisection is not None:
            self.bisections.worked(call, call.bisection, now)

    def _requeue(self, call: InFlightCall, _: AttemptResult, now: float) -> None:
        """Put the tasks back into their queue, whatever attempts they have left: nothing was wrong with the call."""
        self._scheduler.give_back(call, now)

    def _requeue_or_fail(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        """Make no further attempt for now: fail the tasks whose attempts are used up, and put the others back into their queue."""
        endpoint = call.endpoint
        spent = (
            []
            if endpoint.only_probes_may_go
            else [each for each in call.tasks if self._is_spent(each, endpoint, now)]
        )
        self._scheduler.give_back(call, now, all_but=spent)
        for task in spent:
            self.bisections.fail(task, result, now)

    def _is_spent(self, task: MemberTask, endpoint: EndpointState, now: float) -> bool:
        if task.counted_attempts >= self._settings.max_attempts:
            return True
        limit = self._settings.give_up_after
        return (
            limit is not None
            and task.give_up_clock_from is not None
            and endpoint.give_up_clock(now) - task.give_up_clock_from > limit
        )

    def _forbidden(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        if self._halts.hold_unless_at_fault(call, result, now):
            self._refused(call, result, now)

    def _refused(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        self._scheduler.give_back(call, now, all_but=call.tasks)
        for task in call.tasks:
            self.bisections.fail(task, result, now)

    def _unknown(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        """
        Judge an unlisted code that a call got again and again. Whose fault it is becomes known when a later request to the endpoint
        is applied: until then the target is held. Then a code of the platform's own ranges refuses the call, and for any other the
        member at fault is searched for. A code of the platform's ranges that several targets got halts the app.
        """
        code, endpoint = result.error_code, call.endpoint
        of_platform = code is not None and is_platform(code)
        targets = endpoint.app.unknown_codes.get(code, ()) if code is not None else ()
        if of_platform and (len(targets) >= UNKNOWN_TARGETS or endpoint.is_halted):
            self._halts.fatal(call, result, now)
        elif call.number < BRIEF_ATTEMPTS and not endpoint.halt.gate.is_shut:
            # It was a probe of the breaker or the app, or an outage or a halt came between: its other attempts are still to come.
            self._scheduler.give_back(call, now)
        elif self._halts.hold_unless_at_fault(
            call, result, now, is_shown=call.effect_before > _doubted_since(call)
        ):
            if of_platform:
                self._refused(call, result, now)
            else:
                self.bisections.refused(call, result, now)


def _doubted_since(call: InFlightCall) -> float:
    """Return after which instant an applied request must have been sent to show that an unlisted code is no outage."""
    bisection = call.bisection
    if bisection is not None and bisection.began_with.verdict is Verdict.UNKNOWN:
        return bisection.began_with.ended_at
    assert call.doubted_at is not None
    return call.doubted_at
