# Calls that are not made: a batch in shadow takes a permit and is listed in its commands' outcomes; no request is sent.
#
# It says nothing about target or endpoint: breaker, halts, bisections and batch sizes do not know of it.

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from worker.domain.contract.outcomes import AttemptRecord
from worker.domain.contract.timestamps import rfc3339

if TYPE_CHECKING:
    from worker.domain.calls.endpoint_state import EndpointState
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import EndpointKey, MemberTask
    from worker.domain.wall_clock import WallClock


class ShadowCalls:
    """Settles batches in shadow as fast as they could have been sent."""

    def __init__(self, clock: WallClock, ordering: MemberOrdering, call_prefix: str) -> None:
        self._clock = clock
        self._ordering = ordering
        self._prefix = f"{call_prefix}-shadow"
        self._numbers = count(1)
        # 1: the last permit was used for a request, so the next one is for shadow.
        self._turns: dict[EndpointKey, int] = {}

    def pump(self, endpoint: EndpointState, now: float) -> None:
        """Settle the batches in shadow that get a permit now. While live tasks wait, too, every second permit is theirs."""
        if endpoint.queue.waiting or endpoint.awaiting_permit:
            # Half of the requests that may be sent at once. Half of all free permits, at each event, would leave few for live tasks.
            may_leave = endpoint.sendable_now(now)
            free, self._turns[endpoint.key] = divmod(may_leave + self._turns.get(endpoint.key, 0), 2)
        else:
            free = endpoint.limiter.free(now)
        while free > 0:
            batch = endpoint.shadow_queue.take(now)
            if not batch:
                return
            free -= 1
            endpoint.limiter.acquire(now)
            endpoint.limiter.request_ended(now, accepted=False)
            self._settle(endpoint, batch, now)

    def _settle(self, endpoint: EndpointState, batch: list[MemberTask], now: float) -> None:
        call_id = f"{self._prefix}-{next(self._numbers)}"
        attempt = AttemptRecord(call_id, endpoint.name, rfc3339(self._clock.wall(now)), 0.0, len(batch))
        for task in batch:
            for settling in (task, *(task.followers or ())):
                settling.command.record_attempt(attempt, now, now)
            self._ordering.simulated(task, now)
