# Carries requests out: the Decider says what becomes of each, and the Executor does it in time and logs it.
#
# It uses the loop's timers, but no socket: an answer goes into an AnswerSlot that the connection provides.

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from worker.testing.simulator.decision import ExchangeEnd

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from worker.testing.simulator.auth import ApiRequest
    from worker.testing.simulator.chat_state import ChatState
    from worker.testing.simulator.decision import Decider, Reaction
    from worker.testing.simulator.loop_heartbeat import LoopHeartbeat
    from worker.testing.simulator.request_log import RequestLog


class AnswerSlot(Protocol):
    """The place of one answer on a connection. Answers leave in the order of the requests."""

    def end(self, exchange_end: ExchangeEnd, status: int | None, payload: bytes) -> bool:
        """End the exchange. Return False if the connection is closed already."""

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection is closed, at once if it is already."""


@dataclass(slots=True, eq=False)
class _Exchange:
    """One request in flight."""

    reaction: Reaction
    slot: AnswerSlot
    applied_at: float | None = None
    logged: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return self.logged and (self.reaction.effect is None or self.applied_at is not None)


_NO_ANSWER: Final = "no answer"


class ReactionExecutor:
    """
    Carries out what the Decider decides.

    Attributes:
        endpoints: Requests by endpoint and answer: an ErrorCode, ``http 502``, ``cut`` or ``no answer``.
        members: Members to whom something was applied, by endpoint.

    """

    def __init__(
        self,
        decider: Decider,
        world: ChatState,
        request_log: RequestLog,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float],
        epoch: float,
    ) -> None:
        self.endpoints: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.members: Counter[str] = Counter()
        self._decider = decider
        self._world = world
        self._request_log = request_log
        self._loop = loop
        self._clock = clock
        self._epoch = epoch
        self._open: set[_Exchange] = set()

    def __repr__(self) -> str:
        return f"<Executor {len(self._open)} in flight>"

    def take(self, request: ApiRequest, at: float, slot: AnswerSlot) -> None:
        """Carry out a request that was read at ``at``; its answer goes into ``slot``."""
        reaction = self._decider.decide(request, at, at + self._epoch)
        exchange = _Exchange(reaction, slot)
        if reaction.effect and not reaction.applies_after_close and reaction.apply_after <= 0:
            self._apply(exchange, at)
        if reaction.exchange_end is ExchangeEnd.HANG:
            self._log(exchange, sent=False, ended_at=None)
        elif reaction.answer_after <= 0:
            self._end(exchange)
        if exchange.is_done:
            return
        self._open.add(exchange)
        if reaction.applies_after_close:
            slot.when_closed(lambda: self._later(exchange, reaction.apply_after, self._take_effect))
        elif (
            exchange.applied_at is None and reaction.effect and reaction.apply_after != reaction.answer_after
        ):
            self._later(exchange, reaction.apply_after, self._take_effect)
        if not exchange.logged:
            self._later(exchange, reaction.answer_after, self._end)

    def stop(self) -> None:
        """Log what is still in flight as unanswered. What has not taken effect never will."""
        for exchange in tuple(self._open):
            for timer in exchange.timers:
                timer.cancel()
            if not exchange.logged:
                self._log(exchange, sent=False, ended_at=None)
        self._open.clear()

    def stats(self, heartbeat: LoopHeartbeat) -> dict[str, Any]:
        """Return the figures since the start, or since ``forget``."""
        highest: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for (app, endpoint), counter in self._decider.counters.items():
            highest[endpoint][str(app)] = {
                "requests": counter.read.highest,
                "at": counter.read.highest_at,
                "admitted": counter.admitted.highest,
            }
        return {
            "requests": {endpoint: dict(codes) for endpoint, codes in self.endpoints.items()},
            "highest_second": dict(highest),
            "members_applied": dict(self.members),
            "under_way": len(self._open),
            "longest_stall_seconds": heartbeat.longest,
            "longest_stall_at": heartbeat.longest_at,
            "now": self._clock(),
            "epoch": self._epoch,
        }

    def forget(self, heartbeat: LoopHeartbeat) -> None:
        """Reset all figures. The state, the log and the quota are not affected."""
        self.endpoints.clear()
        self.members.clear()
        for counter in self._decider.counters.values():
            counter.read.forget()
            counter.admitted.forget()
        heartbeat.forget()

    def _later(self, exchange: _Exchange, delay: float, step: Callable[[_Exchange], None]) -> None:
        exchange.timers.append(self._loop.call_later(delay, step, exchange))

    def _take_effect(self, exchange: _Exchange) -> None:
        if exchange in self._open and exchange.applied_at is None:
            self._apply(exchange, self._clock())
            self._drop_if_done(exchange)

    def _apply(self, exchange: _Exchange, now: float) -> None:
        reaction, effect = exchange.reaction, exchange.reaction.effect
        if effect is None:
            return
        self._world.apply(effect, now)
        exchange.applied_at = now
        self.members[reaction.endpoint] += len(effect.users)
        if exchange.logged:
            self._request_log.applied(effect, reaction.endpoint, now)

    def _end(self, exchange: _Exchange) -> None:
        reaction = exchange.reaction
        now = self._clock()
        if exchange.applied_at is None and reaction.applies_first:
            self._apply(exchange, now)  # also when both are due in the same turn of the loop
        sent = exchange.slot.end(reaction.exchange_end, reaction.http_status, reaction.payload)
        self._log(exchange, sent=sent, ended_at=now)
        self._drop_if_done(exchange)

    def _log(self, exchange: _Exchange, *, sent: bool, ended_at: float | None) -> None:
        reaction = exchange.reaction
        exchange.logged = True
        self._request_log.request(reaction, sent=sent, ended_at=ended_at, applied_at=exchange.applied_at)
        if not sent or reaction.http_status is None:
            answered = _NO_ANSWER
        else:
            unread = "cut" if reaction.exchange_end is ExchangeEnd.CUT else f"http {reaction.http_status}"
            answered = unread if reaction.code is None else str(reaction.code)
        self.endpoints[reaction.endpoint if reaction.known else "unknown"][answered] += 1

    def _drop_if_done(self, exchange: _Exchange) -> None:
        if exchange.is_done:
            self._open.discard(exchange)
