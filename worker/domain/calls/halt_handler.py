# Halts in progress: which answers stop an app or an endpoint, and which let it go on.
#
# When a probe may go stands in breaker.py, which one goes in scheduler.py. Nothing fails for a halt.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.codes import LOCK_SECONDS, VERDICTS, Verdict, is_platform, remedy
from worker.domain.contract.outcomes import cut
from worker.domain.effects import Halt

if TYPE_CHECKING:
    from worker.domain.calls.endpoint_state import EndpointState, InFlightCall
    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.calls.target_queue import TargetQueue
    from worker.domain.effects import AttemptResult

HELD_FOR: Final = 5.0
"""A single target is held, and no other one has passed for so long: then it is the endpoint."""
HELD_TARGETS: Final = 2
"""So many targets held, with no success between, are the endpoint's fault and not their own."""
PROOF_FOR: Final = 5.0
"""For so long the proof that a target itself is at fault is good: after that the configuration may have changed."""


class HaltHandler:
    """Stops what is not configured rightly, and lets it go on when it is fixed."""

    __slots__ = ("_dispatch",)

    def __init__(self, dispatch: Scheduler) -> None:
        self._dispatch = dispatch

    def locked(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        """Too many bad signatures: nothing of the app goes for a while."""
        flight.lane.app.locked_until = now + LOCK_SECONDS
        self._dispatch.notice(
            "app.locked", "error", flight.lane, error_code=try_.error_code, seconds=LOCK_SECONDS
        )
        self._dispatch.back(flight, now)

    def fatal(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        """The app is not configured rightly: it is halted. What was sent before it was fixed says nothing any more."""
        app = flight.lane.app
        if try_.sent_at >= app.halts.resumed_at:
            reason = _reason(try_)
            what_to_do = remedy(try_.error_code, try_.http_status)
            halt = Halt(app.name, None, try_.error_code, reason, what_to_do, now)
            if app.halts.halt(halt, now):
                self._tell("app.halted", flight.lane, halt)
                for lane in app.lanes:
                    self._dispatch.recall(lane, now)
        self._dispatch.back(flight, now)

    def doubted(
        self, flight: InFlightCall, try_: AttemptResult, now: float, *, is_shown: bool = False
    ) -> bool:
        """
        A refusal that may be the target's fault, or everybody's: no permission, something on the way, a code of no table. The
        target is held until it is known which.

        Returns whether it is known to be the target's own (``is_shown`` is one way to know): then nothing was done here.
        """
        lane, target = flight.lane, flight.target
        if is_shown and lane.halted_by is None:
            return True
        shown_at = target.at_fault_since
        if (
            shown_at is not None
            and now <= shown_at + PROOF_FOR
            and _is_alike(try_, target.refusal)
            and lane.halted_by is None
        ):
            if try_.sent_at >= shown_at:
                return True
            # It was under way when the fault was shown: once more, like the others.
            self._dispatch.back(flight, now)
            return False
        if try_.sent_at < lane.halts.resumed_at:
            self._dispatch.back(flight, now)
            return False
        target.refusal = try_
        target.refused_probes += flight.probe
        if target.held_at is None:
            target.held_at = try_.ended_at
        lane.held[target.name] = target
        lane.rebound(target, now)
        self._dispatch.back(flight, now)
        self._dispatch.recall_target(lane, target, now)
        if lane.halts.current is not None:
            self._halt(lane, target, now)
        else:
            self.check(lane, now)
        return False

    def check(self, lane: EndpointState, now: float) -> None:
        """
        Halts the endpoint when it has become clear that the refusals are not its targets' fault. Targets that were
        shown to be at fault before are no witnesses against it.
        """
        if lane.halts.current is not None:
            return
        lane.forget_idle(now)
        if not lane.held:
            return
        held = lane.held.values()
        oldest = min(target.held_at for target in held if target.held_at is not None)
        witnesses = sum(target.at_fault_since is None for target in held)
        if witnesses >= HELD_TARGETS or now >= oldest + HELD_FOR:
            self._halt(lane, next(iter(held)), now)

    def succeeded(self, lane: EndpointState, target: TargetQueue, try_: AttemptResult, now: float) -> None:
        """
        A success of one target: those that were refused before it was sent were refused by their own fault. Their members
        are tried once more, and refused if that is refused: what was fixed in the meantime costs nobody. Of a code of no table
        a success of the target itself says as much: the code is one of its members'.
        """
        target.at_fault_since = None
        for held in list(lane.held.values()):
            assert held.held_at is not None
            is_after = try_.sent_at > held.held_at
            if held is target or is_after:
                if is_after and (held is not target or _is_of_no_table(held.refusal)):
                    held.at_fault_since = now
                lane.release(held, now)
        if not lane.held:
            self._resume(lane, now)

    def probed(self, flight: InFlightCall, try_: AttemptResult, now: float, *, of_app: bool) -> None:
        """A probe has ended: what it has shown to work goes on."""
        lane = flight.lane
        works = try_.verdict.answered or _is_of_the_service(try_)
        halt = lane.halts.current
        if halt is not None and halt.error_code is not None and halt.error_code not in VERDICTS:
            # Halted for a code of no table: one that is refused for another reason says nothing about it.
            works_here = try_.verdict is Verdict.DONE
        else:
            works_here = works
        if of_app:
            if (works or try_.verdict is Verdict.FORBIDDEN) and lane.app.halts.resume(now):
                self._dispatch.notice("app.resumed", "info", lane)
        elif works_here:
            self._resume(lane, now)
            for held in list(lane.held.values()):
                lane.release(held, now)

    def _resume(self, lane: EndpointState, now: float) -> None:
        if lane.halts.resume(now):
            self._dispatch.notice("endpoint.resumed", "info", lane)

    def _halt(self, lane: EndpointState, target: TargetQueue, now: float) -> None:
        refusal = target.refusal
        assert refusal is not None
        reason = f"{_what(refusal)} on {len(lane.held)} targets ({_reason(refusal)})"
        what_to_do = remedy(refusal.error_code, refusal.http_status)
        halt = Halt(lane.app.name, lane.endpoint, refusal.error_code, reason, what_to_do, now)
        if lane.halts.halt(halt, now):
            self._tell("endpoint.halted", lane, halt)
            self._dispatch.recall(lane, now)

    def _tell(self, event: str, lane: EndpointState, halt: Halt) -> None:
        self._dispatch.notice(
            event, "error", lane, error_code=halt.error_code, reason=halt.reason, remedy=halt.remedy
        )


def _is_of_no_table(refusal: AttemptResult | None) -> bool:
    return refusal is not None and refusal.verdict is Verdict.UNKNOWN


def _is_alike(one: AttemptResult, other: AttemptResult | None) -> bool:
    """What one refusal has been shown to be says nothing about another one: a gateway may fail while a group is not permitted."""
    return other is not None and (one.error_code, one.http_status) == (other.error_code, other.http_status)


def _what(refusal: AttemptResult) -> str:
    if refusal.error_code is None:
        return "refused by something on the way to Tencent"
    return "a code of no table and no success" if _is_of_no_table(refusal) else "no permission"


def _is_of_the_service(try_: AttemptResult) -> bool:
    """A code of no table that does not come from the platform: the service has looked at the request, so it was let in."""
    code = try_.error_code
    return try_.verdict is Verdict.UNKNOWN and code is not None and not is_platform(code)


def _reason(try_: AttemptResult) -> str:
    if try_.error_code is None:
        return cut(try_.error_info) or f"HTTP {try_.http_status}"
    return f"{try_.error_code}: {cut(try_.error_info)}"
