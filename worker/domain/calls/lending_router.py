# The messages of lending, of all lanes of this replica, between the permits and the quota channel.
#
# What they mean, and why they are safe, is in replica_lending.py. A lane is one endpoint of one app in one consumer group: replicas of
# another group or of another app of that name have slices of their own, so no permits are lent to them.

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from worker.domain.calls.replica_lending import LoanRequest, LoanReturn, decode, encode
from worker.domain.effects import SendQuotaMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.domain.calls.endpoint_state import EndpointState
    from worker.domain.effects import EffectQueue
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.open_commands import EndpointKey


def lane_of(settings: EngineSettings, app: str, endpoint: str) -> str:
    """Return the name by which all replicas know the lane; empty if nothing is lent."""
    pool = settings.quota_pools.get(app)
    return "" if pool is None else f"{pool}/{endpoint}"


class LendingRouter:
    """
    The lanes of one replica.

    Attributes:
        strange: Messages since the start that this build cannot read.

    """

    def __init__(
        self, settings: EngineSettings, endpoints: Mapping[EndpointKey, EndpointState], effects: EffectQueue
    ) -> None:
        self._by_name = {lane_of(settings, *key): endpoint for key, endpoint in endpoints.items()}
        self._by_name.pop("", None)
        self._effects = effects
        self.strange = 0

    def wait_for_permit(self, endpoint: EndpointState, now: float) -> None:
        """Note that calls of the endpoint wait for a permit, and look again when one comes back."""
        limiter = endpoint.limiter
        returns_at, back_at = limiter.next_return(), limiter.lender.back_at
        endpoint.set_wake_at(back_at if returns_at is None else min(returns_at, back_at))
        if self._by_name:
            limiter.hungry(calls_waiting(endpoint, now))

    def speak(self, endpoint: EndpointState, now: float) -> None:
        """Publish the endpoint's message to its lenders, if one is due, and look again when the next may be."""
        limiter = endpoint.limiter
        message = limiter.lending_message(now)
        if message is not None:
            self._effects.ask_for(SendQuotaMessage(encode(message)))
        if limiter.borrower.is_active:
            endpoint.wake_by(limiter.borrower.due_at)

    def heard(self, payloads: Iterable[bytes], now: float, *, may_lend: bool) -> None:
        """Take messages of the quota channel, including this replica's own."""
        for payload in payloads:
            message = decode(payload)
            if message is None:
                self.strange += 1
                continue
            endpoint = self._by_name.get(message.lane)
            if endpoint is None:
                continue
            limiter = endpoint.limiter
            match message:
                case LoanRequest():
                    waiting = calls_waiting(endpoint, now)
                    grant = limiter.lend(message, now, waiting=waiting, may_lend=may_lend)
                    if grant is not None:
                        self._effects.ask_for(SendQuotaMessage(encode(grant)))
                case LoanReturn():
                    limiter.lender.returned(message, now)
                case _:
                    limiter.borrower.granted(message, now)


def calls_waiting(endpoint: EndpointState, now: float) -> int:
    """Return about how many calls of the endpoint wait for a permit; none while there are permits, unless it is saturated."""
    if endpoint.limiter.free(now) > 0 and not endpoint.is_saturated(now):
        return 0
    queue = endpoint.queue
    batches = min(queue.waiting, ceil(queue.waiting / queue.per_call) + len(queue.targets))
    return batches + len(endpoint.awaiting_permit)
