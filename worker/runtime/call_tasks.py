# The calls that are under way: one task for each, between the client that makes the call and the engine that decides.
#
# The client touches a CallTask three times per attempt: `await permit()` (what to send), `may_send()` (the fence, at the write),
# `finished(result)` (is there another attempt?). No command has a task. Not here: what an answer means, when it may be sent.

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


class CallTasks:
    """
    Starts calls, grants their permits, cancels them, and tells the engine of what becomes of them.

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
        self._calls: dict[str, CallTask] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, attempt: Attempt) -> None:
        """Start a call, with its first attempt."""
        call = self._calls[attempt.call_id] = CallTask(self, attempt)
        self._metrics.started(attempt)
        call.task = self.spawn(self._run(call))

    def grant(self, attempt: Attempt) -> None:
        """Let the call that waits for a permit make this attempt."""
        call = self._calls.get(attempt.call_id)
        if call is not None:
            call.grant(attempt)

    def retry(self, call_id: str) -> None:
        """Let the call, of which an attempt is just ending, go on."""
        call = self._calls.get(call_id)
        if call is not None:
            call.goes_on = True

    def cancel(self, call_id: str) -> None:
        """End the waiting call at once."""
        call = self._calls.get(call_id)
        if call is not None:
            call.task.cancel()

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

    def permit_requested(self, call_id: str) -> None:
        """Tell the engine that a call waits for another permit."""
        self._settle(self._engine.permit_requested(call_id, time.monotonic()))

    def attempt_finished(self, attempt: Attempt, result: AttemptResult) -> None:
        """Tell the engine, the log and the metrics that a request of a call has ended."""
        self._metrics.tried(attempt, result)
        self._log(
            "batch.answered",
            call_id=attempt.call_id,
            endpoint=attempt.endpoint,
            members=attempt.members,
            number=attempt.number,
            verdict=result.verdict.value,
            error_code=result.error_code,
            elapsed_ms=round((result.ended_at - result.sent_at) * 1000, 1),
        )
        self._settle(self._engine.attempt_finished(attempt.call_id, result, time.monotonic()))

    def may_send(self, call_id: str) -> bool:
        """Return whether the group membership is still proven, and none of the call's partitions has gone."""
        return time.monotonic() < self._fence() and self._engine.may_send(call_id)

    async def _run(self, call: CallTask) -> None:
        began = time.monotonic()
        try:
            last = await self._client.call(call)
        finally:
            del self._calls[call.attempt.call_id]
        self._metrics.called(call.attempt, last.verdict, time.monotonic() - began)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = WorkerError(f"a fault of the code ended a task: {type(error).__name__}")
            failure.__cause__ = error
            self._fail(failure)

    def __repr__(self) -> str:
        return f"<CallTasks {len(self._calls)} calls>"


class CallTask:
    """
    One call, as its client sees it.

    Attributes:
        attempt: What is sent now, or was sent last.
        goes_on: The engine wants another attempt after the one that is ending.

    """

    __slots__ = ("_calls", "_permit", "attempt", "goes_on", "task")

    def __init__(self, calls: CallTasks, first: Attempt) -> None:
        self._calls = calls
        self._permit: asyncio.Future[Attempt] | None = None
        self.attempt = first
        self.goes_on = False
        self.task: asyncio.Task[None]

    async def permit(self) -> Attempt:
        """Wait for what to send next. Cancelled when the engine takes the call back."""
        if self.goes_on:
            self._permit = asyncio.get_running_loop().create_future()
            self._calls.permit_requested(self.attempt.call_id)
            self.attempt = await self._permit
        return self.attempt

    def may_send(self) -> bool:
        """Return whether the request may still leave. Asked immediately before it is written."""
        return self._calls.may_send(self.attempt.call_id)

    def finished(self, result: AttemptResult) -> bool:
        """End the attempt. Return whether there is another one, after a backoff and with a permit of its own."""
        self.goes_on = False
        self._calls.attempt_finished(self.attempt, result)
        return self.goes_on

    def grant(self, attempt: Attempt) -> None:
        """Give the permit that ``permit`` waits for."""
        if self._permit is not None and not self._permit.done():
            self._permit.set_result(attempt)
