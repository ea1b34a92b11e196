# Which target is the next probe of an endpoint that is down or halted: one at a time, and each in its turn.
#
# Whether and when one may go stands in health.py; dispatch.py sends it.

from typing import TYPE_CHECKING

from worker.domain.lanes import NEVER

if TYPE_CHECKING:
    from worker.domain.lanes import Lane
    from worker.domain.queues import Target


def next_probe(lane: "Lane", now: float) -> "Target | None":
    """
    The target that a probe may go to now. None if none may: then ``lane.wake_at`` says when to look again, unless what it
    waits for is an event.
    """
    if lane.app.halts.current is not None:
        due, busy = lane.app.halts.probe_at, lane.app.probe
        waiting = [other for other in lane.app.lanes if other.queue.waiting]
        if min(waiting, key=lambda other: other.probed_at, default=lane) is not lane:
            return None  # it is another endpoint's turn
    elif lane.halts.current is not None:
        due, busy = lane.halts.fresh_probe_at, lane.probe
    else:
        due, busy = lane.breaker.probe_at, lane.probe
    if busy is not None:
        return None
    if now < due:
        lane.wake_at = due
        return None
    if lane.permits.free(now) <= 0:
        lane.wake_at = lane.permits.next_return() or NEVER
        return None
    target = min(lane.queue.sendable, key=_reluctance, default=None)
    if target is None or lane.app.halts.current is not None or target.is_fresh or now >= lane.halts.probe_at:
        return target
    lane.wake_at = lane.halts.probe_at
    return None


def _reluctance(target: "Target") -> tuple[bool, bool, float]:
    """
    How little a target is worth as a probe: one that is refused, perhaps by its own fault, tells least.
    """
    return (target.held_at is not None, target.at_fault_since is not None, target.probed_at)
