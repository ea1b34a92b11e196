# Which target is the next probe of an endpoint that is down or halted: one at a time, and each in its turn.
#
# Whether and when one may go stands in breaker.py; scheduler.py sends it.

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.domain.calls.endpoint_state import NEVER

if TYPE_CHECKING:
    from worker.domain.calls.endpoint_state import AppState, EndpointState
    from worker.domain.calls.target_queue import TargetQueue


def next_probe(lane: EndpointState, now: float) -> TargetQueue | None:
    """
    The target that a probe may go to now. None if none may: then ``lane.wake_at`` says when to look again, unless what it
    waits for is an event.
    """
    app, halts = lane.app, lane.halts
    if app.halts.current is not None:
        due, busy = app.halts.probe_at, app.probe
    elif halts.current is not None:
        due, busy = halts.fresh_probe_at, lane.probe
    else:
        due, busy = lane.breaker.probe_at, lane.probe
    if busy is not None:
        return None
    if now < due:
        lane.wake_at = due
        return None
    if app.halts.current is not None and _next_in_turn(app) is not lane:
        return None
    if lane.permits.free(now) <= 0:
        lane.wake_at = lane.permits.next_return() or NEVER
        return None
    is_tried_slowly = app.halts.current is None and halts.current is not None and now < halts.probe_at
    if is_tried_slowly and now < halts.look_at and not lane.queue.has_news:
        lane.wake_at = halts.look_at
        return None
    target = min(lane.queue.sendable, key=_reluctance, default=None)
    if is_tried_slowly and (target is None or not target.is_fresh):
        # Among all there is none to be tried soon. Thousands may be held, and every event comes by here.
        lane.queue.has_news = False
        halts.looked(now)
        lane.wake_at = halts.look_at
        return None
    return target


def _next_in_turn(app: AppState) -> EndpointState | None:
    """A halted app has one probe for all its endpoints: they take turns."""
    able = (lane for lane in app.lanes if any(lane.queue.sendable))
    return min(able, key=lambda lane: lane.probed_at, default=None)


def _reluctance(target: TargetQueue) -> tuple[bool, bool, bool, float]:
    """
    How little a target is worth as a probe: one that is refused, perhaps by its own fault, tells least; one that may hang by
    itself tells little, and late, and until then nothing else goes.
    """
    return (target.held_at is not None, target.at_fault_since is not None, target.suspect, target.probed_at)
