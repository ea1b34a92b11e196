# The calls that are under way: one task for each, between the client that makes the call and the engine that decides.
#
# No command has a task. Not here: what a call's answer means, and when it may be sent.

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.effects import Attempt, AttemptResult, Effect
    from worker.domain.engine import Engine
    from worker.runtime import ports
    from worker.runtime.metrics import Metrics


class Flights:
    """
    Starts calls, lets their further tries go, takes them back, and tells the engine of what becomes of them.

    ``settle`` carries out what the engine answers, ``fail`` is told of a fault that no call is to blame for, ``fence`` is
    the monotonic time until which a request may leave.
    """

    def __init__(
        self,
        engine: Engine,
        client: ports.Client,
        metrics: Metrics,
        log: ports.Log,
        *,
        settle: Callable[[list[Effect]], None],
        fail: Callable[[WorkerError], None],
        fence: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._client = client
        self._metrics = metrics
        self._log = log
        self._settle = settle
        self._fail = fail
        self._fence = fence
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, send: Attempt) -> None:
        """A new call, with its first try."""
        flight = self._flights[send.call_id] = _Flight(self, send)
        self._metrics.started(send)
        flight.task = self.spawn(self._call(flight))

    def let_go(self, send: Attempt) -> None:
        """The call that asked for a further try may send it."""
        flight = self._flights.get(send.call_id)
        if flight is not None:
            flight.let_go(send)

    def take_back(self, call_id: str) -> None:
        """The waiting call ends at once."""
        flight = self._flights.get(call_id)
        if flight is not None:
            flight.task.cancel()

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """A task whose fault ends the worker, and which ends with it."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def aclose(self) -> None:
        """Ends all calls, and the client's connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def asked(self, flight: _Flight) -> None:
        """The call wants a permit for another try."""
        self._settle(self._engine.asked(flight.send.call_id, time.monotonic()))

    def tried(self, flight: _Flight, try_: AttemptResult) -> None:
        """A request of the call has ended."""
        send = flight.send
        self._metrics.tried(send, try_)
        self._log(
            "batch.answered",
            call_id=send.call_id,
            endpoint=send.endpoint,
            members=send.members,
            number=send.number,
            verdict=try_.verdict.value,
            error_code=try_.error_code,
            elapsed_ms=round((try_.ended_at - try_.sent_at) * 1000, 1),
        )
        self._settle(self._engine.tried(send.call_id, try_, time.monotonic()))

    def may_retry(self, flight: _Flight) -> bool:
        """Whether another try is worth asking a permit for."""
        return self._engine.may_retry(flight.send.call_id, time.monotonic())

    def may_send(self) -> bool:
        """Whether this process can prove that its partitions are still its own."""
        return time.monotonic() < self._fence()

    async def _call(self, flight: _Flight) -> None:
        began = time.monotonic()
        try:
            last = await self._client.call(flight.send, flight)
        finally:
            del self._flights[flight.send.call_id]
        now = time.monotonic()
        self._metrics.called(flight.send, last.verdict, now - began)
        self._settle(self._engine.answered(flight.send.call_id, now))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = WorkerError(f"a fault of the code ended a task: {type(error).__name__}")
            failure.__cause__ = error
            self._fail(failure)

    def __repr__(self) -> str:
        return f"<Flights {len(self._flights)} calls>"


class _Flight:
    """One call, as its client sees it: see ports.Flight."""

    __slots__ = ("_flights", "_permit", "send", "task")

    def __init__(self, flights: Flights, send: Attempt) -> None:
        self._flights = flights
        self._permit: asyncio.Future[Attempt] | None = None
        self.send = send
        self.task: asyncio.Task[None]

    def may_send(self) -> bool:
        return self._flights.may_send()

    def tried(self, try_: AttemptResult) -> None:
        self._flights.tried(self, try_)

    def may_retry(self) -> bool:
        return self._flights.may_retry(self)

    async def permit(self) -> Attempt:
        self._permit = asyncio.get_running_loop().create_future()
        self._flights.asked(self)
        self.send = await self._permit
        return self.send

    def let_go(self, send: Attempt) -> None:
        if self._permit is not None and not self._permit.done():
            self._permit.set_result(send)
