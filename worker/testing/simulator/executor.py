# Where requests are taken and carried out: the judge decides, the desk lets it happen at its time and writes it down.
#
# Knows the loop's timers, and no socket: an answer is handed to a Slot, which the connection has given.

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from worker.testing.simulator.decision import ExchangeEnd

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from worker.testing.simulator.auth import ApiRequest
    from worker.testing.simulator.decision import Decider, Reaction
    from worker.testing.simulator.loop_heartbeat import LoopHeartbeat
    from worker.testing.simulator.request_log import RequestLog
    from worker.testing.simulator.state import World


class Slot(Protocol):
    """The place of one answer on a connection. Answers leave in the order of the requests."""

    def end(self, way: ExchangeEnd, status: int | None, payload: bytes) -> bool:
        """End the exchange this way. False when the caller has gone already."""

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call ``then`` once the connection is closed; at once when it is."""


@dataclass(slots=True, eq=False)
class _Exchange:
    """One request under way."""

    reaction: Reaction
    slot: Slot
    applied_at: float | None = None
    written: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.written and (self.reaction.effect is None or self.applied_at is not None)


_NO_ANSWER: Final = "no answer"


class Executor:
    """
    Carries out what the judge decides.

    Attributes:
        endpoints: What was answered, counted: endpoint -> ErrorCode, ``http 502``, ``cut`` or ``no answer`` -> requests.
        members: Members to whom something was applied, by endpoint.

    """

    def __init__(
        self,
        judge: Decider,
        world: World,
        journal: RequestLog,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float],
        epoch: float,
    ) -> None:
        self.endpoints: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.members: Counter[str] = Counter()
        self._judge = judge
        self._world = world
        self._journal = journal
        self._loop = loop
        self._clock = clock
        self._epoch = epoch
        self._open: set[_Exchange] = set()

    def __repr__(self) -> str:
        return f"<Executor {len(self._open)} under way>"

    def take(self, request: ApiRequest, at: float, slot: Slot) -> None:
        """A request was read at ``at``; its answer goes into ``slot``."""
        reaction = self._judge.hear(request, at, at + self._epoch)
        exchange = _Exchange(reaction, slot)
        if reaction.effect and not reaction.apply_once_gone and reaction.apply_after <= 0:
            self._apply(exchange, at)
        if reaction.way is ExchangeEnd.HANG:
            self._write(exchange, sent=False, ended_at=None)
        elif reaction.answer_after <= 0:
            self._end(exchange)
        if exchange.over:
            return
        self._open.add(exchange)
        if reaction.apply_once_gone:
            slot.when_gone(lambda: self._later(exchange, reaction.apply_after, self._take_effect))
        elif (
            exchange.applied_at is None and reaction.effect and reaction.apply_after != reaction.answer_after
        ):
            self._later(exchange, reaction.apply_after, self._take_effect)
        if not exchange.written:
            self._later(exchange, reaction.answer_after, self._end)

    def stop(self) -> None:
        """Write down what is still under way, as unanswered; what has not taken effect never will."""
        for exchange in tuple(self._open):
            for timer in exchange.timers:
                timer.cancel()
            if not exchange.written:
                self._write(exchange, sent=False, ended_at=None)
        self._open.clear()

    def stats(self, pulse: LoopHeartbeat) -> dict[str, Any]:
        """What was measured since the start, or since ``forget``."""
        highest: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for (app, endpoint), counter in self._judge.counters.items():
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
            "longest_stall_seconds": pulse.longest,
            "longest_stall_at": pulse.longest_at,
            "now": self._clock(),
            "epoch": self._epoch,
        }

    def forget(self, pulse: LoopHeartbeat) -> None:
        """Begin all measures anew. The state, the log and the quota stay as they are."""
        self.endpoints.clear()
        self.members.clear()
        for counter in self._judge.counters.values():
            counter.read.forget()
            counter.admitted.forget()
        pulse.forget()

    def _later(self, exchange: _Exchange, delay: float, then: Callable[[_Exchange], None]) -> None:
        exchange.timers.append(self._loop.call_later(delay, then, exchange))

    def _take_effect(self, exchange: _Exchange) -> None:
        if exchange in self._open and exchange.applied_at is None:
            self._apply(exchange, self._clock())
            self._close_if_over(exchange)

    def _apply(self, exchange: _Exchange, now: float) -> None:
        reaction, effect = exchange.reaction, exchange.reaction.effect
        if effect is None:
            return
        self._world.apply(effect, now)
        exchange.applied_at = now
        self.members[reaction.endpoint] += len(effect.users)
        if exchange.written:
            self._journal.applied(effect, reaction.endpoint, now)

    def _end(self, exchange: _Exchange) -> None:
        reaction = exchange.reaction
        now = self._clock()
        if exchange.applied_at is None and reaction.applies_first:
            self._apply(exchange, now)  # also when both are due in the same turn of the loop
        sent = exchange.slot.end(reaction.way, reaction.http_status, reaction.payload)
        self._write(exchange, sent=sent, ended_at=now)
        self._close_if_over(exchange)

    def _write(self, exchange: _Exchange, *, sent: bool, ended_at: float | None) -> None:
        reaction = exchange.reaction
        exchange.written = True
        self._journal.request(reaction, sent=sent, ended_at=ended_at, applied_at=exchange.applied_at)
        if not sent or reaction.http_status is None:
            told = _NO_ANSWER
        else:
            unread = "cut" if reaction.way is ExchangeEnd.CUT else f"http {reaction.http_status}"
            told = unread if reaction.code is None else str(reaction.code)
        self.endpoints[reaction.endpoint if reaction.known else "unknown"][told] += 1

    def _close_if_over(self, exchange: _Exchange) -> None:
        if exchange.over:
            self._open.discard(exchange)
