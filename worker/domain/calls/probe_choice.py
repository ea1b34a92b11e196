# Which target is the next probe of an endpoint that is down or halted: one at a time, and each in its turn.
#
# Questions only. Whether a gate shuts or opens is decided in gates.py and halt_handler.py; scheduler.py sends the probe and notes that
# a search for a target has failed.

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from worker.domain.calls.endpoint_state import AppState, EndpointState
    from worker.domain.calls.target_state import TargetState


class NextProbe(NamedTuple):
    """
    The target that a probe may go to now, or when to look again.

    Attributes:
        target: None if no probe may be sent now.
        look_again_at: None if only an event can change that.
        search_failed: None of the targets is worth a probe before its turn.

    """

    target: TargetState | None = None
    look_again_at: float | None = None
    search_failed: bool = False


def choose_probe(endpoint: EndpointState, now: float) -> NextProbe:
    """Choose the target to which a probe of the endpoint, or of its app, may be sent now."""
    app, halt = endpoint.app, endpoint.halt
    app_is_halted, is_halted = app.halt.gate.is_shut, halt.gate.is_shut
    if app_is_halted:
        due, busy = app.halt.probe_at, app.probe
    elif is_halted:
        due, busy = halt.fresh_probe_at, endpoint.probe
    else:
        due, busy = endpoint.breaker.probe_at, endpoint.probe
    if busy is not None:
        return NextProbe()
    if now < due:
        return NextProbe(look_again_at=due)
    if app_is_halted and _next_in_turn(app) is not endpoint:
        return NextProbe()
    if endpoint.limiter.free(now) <= 0:
        return NextProbe(look_again_at=endpoint.limiter.next_return())
    goes_slowly = not app_is_halted and is_halted and now < halt.probe_at
    if goes_slowly and now < halt.search_at and not endpoint.fresh_task_came:
        return NextProbe(look_again_at=halt.search_at)
    target = min(endpoint.sendable_targets, key=_reluctance if goes_slowly else _turn, default=None)
    if goes_slowly and (target is None or not target.is_fresh):
        # Thousands may be held, and this is asked at every event: do not search again before a fresh task comes.
        return NextProbe(search_failed=True)
    return NextProbe(target)


def _next_in_turn(app: AppState) -> EndpointState | None:
    """Return the endpoint whose turn it is: a halted app has one probe for all its endpoints."""
    able = (endpoint for endpoint in app.endpoints if any(endpoint.sendable_targets))
    return min(able, key=lambda endpoint: endpoint.probed_at, default=None)


def _turn(target: TargetState) -> tuple[float, tuple[bool, bool, bool, float]]:
    """Rank a target by its turn: each is probed once before any is probed twice, however little it is worth as a probe."""
    return target.probed_at, _reluctance(target)


def _reluctance(target: TargetState) -> tuple[bool, bool, bool, float]:
    """
    Rank how little a target is worth as a probe: one that is refused, perhaps by its own fault, tells least; one that may hang by
    itself tells little, and late, and until then no other probe is sent.
    """
    return (
        target.held_at is not None,
        target.at_fault_since is not None,
        target.is_suspect,
        target.probed_at,
    )
