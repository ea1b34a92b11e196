# Halts in progress: which answers halt an app or an endpoint, and which let it go on.
#
# When a probe may be sent is decided in gates.py, to which target in probe_choice.py. No command fails for a halt.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.error_codes import LOCK_SECONDS, VERDICTS, Verdict, is_platform, remedy
from worker.domain.contract.outcomes import cut
from worker.domain.effects import HaltReason

if TYPE_CHECKING:
    from worker.domain.calls.endpoint_state import EndpointState
    from worker.domain.calls.in_flight_call import InFlightCall
    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.calls.target_state import TargetState
    from worker.domain.effects import AttemptResult

HELD_FOR: Final = 5.0
"""Seconds. When a single target has been held for this long, and no other has passed, it is the endpoint's fault."""
HELD_TARGETS: Final = 2
"""This many targets held, with no success between, are the endpoint's fault and not their own."""
PROOF_FOR: Final = 5.0
"""Seconds. How long a proof that a target itself is at fault stays valid: after that the configuration may have changed."""


class HaltHandler:
    """Halts an app or endpoint that is misconfigured, and lets it go on when that is corrected."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def locked(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        """Send nothing of the app for a while: Tencent locks it out after too many bad signatures."""
        endpoint = call.endpoint
        endpoint.app.lockout.shut_until(now + LOCK_SECONDS)
        self._scheduler.log(
            "app.locked", "error", endpoint, error_code=result.error_code, seconds=LOCK_SECONDS
        )
        self._scheduler.give_back(call, now)

    def fatal(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        """Halt the app: it is misconfigured. Answers to requests sent before it was corrected say nothing any more."""
        app = call.endpoint.app
        if result.sent_at >= app.halt.resumed_at:
            reason, what_to_do = _reason(result), remedy(result.error_code, result.http_status)
            halt = HaltReason(app.name, None, result.error_code, reason, what_to_do, now)
            if app.halt.begin(halt, now):
                self._log("app.halted", call.endpoint, halt)
                for endpoint in app.endpoints:
                    self._scheduler.cancel_waiting(endpoint, now)
        self._scheduler.give_back(call, now)

    def hold_unless_at_fault(
        self, call: InFlightCall, result: AttemptResult, now: float, *, is_shown: bool = False
    ) -> bool:
        """
        Judge a refusal that may be the target's fault or the endpoint's: no permission, a gateway on the way, an unlisted code. The
        target is held until it is known whose fault it is.

        Return whether it is known to be the target's own (``is_shown`` is one way to know): then nothing was done here.
        """
        endpoint, target = call.endpoint, call.target
        proven_at = None
        if not endpoint.is_halted:
            if is_shown:
                return True
            proven_at = _proven_at(target, result, now)
            if proven_at is not None and result.sent_at >= proven_at:
                return True
        if result.sent_at < (endpoint.halt.resumed_at if proven_at is None else proven_at):
            # It was in flight when the fault was shown, or the configuration corrected: try its tasks once more.
            self._scheduler.give_back(call, now)
            return False
        endpoint.hold(target, result, now, of_probe=call.is_probe)
        self._scheduler.give_back(call, now)
        self._scheduler.cancel_waiting(endpoint, now, target)
        if endpoint.halt.gate.is_shut:
            self._halt(endpoint, result, now)
        else:
            self.check(endpoint, now)
        return False

    def check(self, endpoint: EndpointState, now: float) -> None:
        """
        Halt the endpoint if it has become clear that the refusals are not its targets' fault. Targets that were shown to be at fault
        before are no witnesses against it.
        """
        if endpoint.halt.gate.is_shut:
            return
        # Tasks that have just expired or become ready decide which targets are idle.
        self._scheduler.apply_changes(now)
        endpoint.release_idle_held(now)
        if not endpoint.held:
            return
        held = endpoint.held.values()
        oldest = min(target.held_at for target in held if target.held_at is not None)
        witnesses = sum(target.at_fault_since is None for target in held)
        if witnesses >= HELD_TARGETS or now >= oldest + HELD_FOR:
            self._halt(endpoint, next(iter(held)).refusal, now)

    def succeeded(
        self, endpoint: EndpointState, target: TargetState, result: AttemptResult, now: float
    ) -> None:
        """
        Draw the conclusion from a success of one target: targets that were refused before it was sent were refused by their own fault.
        Their members are tried once more, and refused if that is refused, so that a fault corrected meanwhile costs nobody. For an
        unlisted code a success of the same target counts, too: the code is one of its members' fault.
        """
        for held in list(endpoint.held.values()):
            assert held.held_at is not None
            is_after = result.sent_at > held.held_at
            if held is target or is_after:
                at_fault = is_after and (held is not target or _is_unlisted(held.refusal))
                endpoint.release(held, now, at_fault=at_fault)
        if not endpoint.held:
            self._resume(endpoint, now)

    def probed(self, call: InFlightCall, result: AttemptResult, now: float, *, of_app: bool) -> None:
        """Resume the app or endpoint if the probe, which has ended, has shown that it works. One that was not sent shows nothing."""
        endpoint = call.endpoint
        if result.verdict is Verdict.UNSENT:
            (endpoint.app.halt if of_app else endpoint.halt).probe_unsent(now)
        elif of_app:
            # A refused permission is the endpoint's own matter: the app was let in.
            is_let_in = _is_let_in(result) or result.verdict is Verdict.FORBIDDEN
            if is_let_in and endpoint.app.halt.resume(now):
                self._scheduler.log("app.resumed", "info", endpoint)
        elif _is_over(endpoint.halt.reason, result):
            self._resume(endpoint, now)
            for held in list(endpoint.held.values()):
                endpoint.release(held, now)

    def _resume(self, endpoint: EndpointState, now: float) -> None:
        if endpoint.halt.resume(now):
            self._scheduler.log("endpoint.resumed", "info", endpoint)

    def _halt(self, endpoint: EndpointState, refusal: AttemptResult | None, now: float) -> None:
        assert refusal is not None
        reason = f"{_what(refusal)} on {len(endpoint.held)} targets ({_reason(refusal)})"
        what_to_do = remedy(refusal.error_code, refusal.http_status)
        halt = HaltReason(endpoint.app.name, endpoint.name, refusal.error_code, reason, what_to_do, now)
        if endpoint.halt.begin(halt, now):
            self._log("endpoint.halted", endpoint, halt)
            self._scheduler.cancel_waiting(endpoint, now)

    def _log(self, event: str, endpoint: EndpointState, halt: HaltReason) -> None:
        self._scheduler.log(
            event, "error", endpoint, error_code=halt.error_code, reason=halt.reason, remedy=halt.remedy
        )


def _proven_at(target: TargetState, refusal: AttemptResult, now: float) -> float | None:
    """Return since when it is proven that such a refusal is the target's own fault; None if it is not, or the proof is too old."""
    shown_at = target.at_fault_since
    if shown_at is None or now > shown_at + PROOF_FOR or not _is_alike(refusal, target.fault):
        return None
    return shown_at


def _is_unlisted(refusal: AttemptResult | None) -> bool:
    return refusal is not None and refusal.verdict is Verdict.UNKNOWN


def _is_alike(one: AttemptResult, other: AttemptResult | None) -> bool:
    """Return whether two refusals are of one kind: a gateway may fail while a group is not permitted."""
    return other is not None and (one.error_code, one.http_status) == (other.error_code, other.http_status)


def _what(refusal: AttemptResult) -> str:
    if refusal.error_code is None:
        return "refused by something on the way to Tencent"
    return "an unlisted code and no success" if _is_unlisted(refusal) else "no permission"


def _is_over(halt: HaltReason | None, probe: AttemptResult) -> bool:
    """Return whether a probe has shown that the cause of its endpoint's halt is corrected."""
    if halt is not None and halt.error_code is not None and halt.error_code not in VERDICTS:
        # Halted for an unlisted code: a refusal for another reason says nothing about that.
        return probe.verdict is Verdict.DONE
    return _is_let_in(probe)


def _is_let_in(result: AttemptResult) -> bool:
    """Return whether the service itself has looked at the request, even if it answered with an unlisted code."""
    if result.verdict.proves_life:
        return True
    code = result.error_code
    return result.verdict is Verdict.UNKNOWN and code is not None and not is_platform(code)


def _reason(result: AttemptResult) -> str:
    if result.error_code is None:
        return cut(result.error_info) or f"HTTP {result.http_status}"
    return f"{result.error_code}: {cut(result.error_info)}"
