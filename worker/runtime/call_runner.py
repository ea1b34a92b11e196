# The calls in flight: one asyncio task for each, between the client that makes the call and the engine that decides.
#
# The client uses a CallTask up to three times per attempt: `await next_attempt()` (what to send), `may_send()` (the fence, at the write),
# `finished(result)` (is there another attempt?). Commands have no tasks.
# Not here: what an answer means and when an attempt may go (the engine), how a call is made (the client).

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from worker.domain.contract.error_codes import Verdict
    from worker.domain.effects import Attempt, AttemptResult, Effect
    from worker.domain.engine import Engine
    from worker.runtime import ports


class CallRunner:
    """
    Starts calls, grants their permits, cancels them, and reports to the engine and the observers what becomes of them.

    ``carry_out`` carries out the engine's effects; ``guarded`` runs the loop's callbacks, and ``tell`` an observer's;
    ``fail_for_bug`` receives where a bug was, and its exception; ``may_send_until`` returns the monotonic time until which requests
    may be sent.
    """

    def __init__(
        self,
        engine: Engine,
        client: ports.Client,
        observers: Sequence[ports.CallObserver],
        *,
        carry_out: Callable[[list[Effect]], None],
        guarded: Callable[..., None],
        tell: Callable[..., None],
        fail_for_bug: Callable[[str, BaseException], None],
        may_send_until: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._client = client
        self._observers = observers
        self._carry_out = carry_out
        self._guarded = guarded
        self._tell = tell
        self._fail_for_bug = fail_for_bug
        self._may_send_until = may_send_until
        self._calls: dict[str, CallTask] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no call is open."""
        return not self._calls

    def start(self, attempt: Attempt) -> None:
        """Start a call with its first attempt."""
        call = self._calls[attempt.call_id] = CallTask(self, attempt)
        for observer in self._observers:
            self._tell(observer.call_started, attempt)
        call.task = self.spawn(self._run(call), self._fail_for_bug)
        # Not a `finally` of `_run`: a task that is cancelled before its first step never enters it.
        call.task.add_done_callback(partial(self._guarded, self._call_ended, call))

    def grant(self, attempt: Attempt) -> None:
        """Let a call that waits for a permit make this attempt."""
        call = self._calls.get(attempt.call_id)
        if call is not None:
            call.grant(attempt)

    def retry(self, call_id: str) -> None:
        """Let a call make another attempt after the one that is just ending."""
        call = self._calls.get(call_id)
        if call is not None:
            call.wants_another = True

    def cancel(self, call_id: str) -> None:
        """Cancel a waiting call at once."""
        call = self._calls.get(call_id)
        if call is not None:
            call.task.cancel()

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], fail: Callable[[str, BaseException], None]
    ) -> asyncio.Task[None]:
        """Run ``coroutine`` in a task that ``aclose`` cancels. ``fail`` receives where an exception was, and the exception."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(partial(self._task_ended, fail))
        return task

    async def aclose(self) -> None:
        """Cancel all calls and close the client's connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def permit_requested(self, call_id: str) -> None:
        """Report to the engine that a call waits for its next permit."""
        self._carry_out(self._engine.permit_requested(call_id, time.monotonic()))

    def attempt_finished(self, attempt: Attempt, result: AttemptResult) -> None:
        """Report the end of an attempt to the observers and the engine."""
        for observer in self._observers:
            self._tell(observer.attempt_finished, attempt, result)
        self._carry_out(self._engine.attempt_finished(attempt.call_id, result, time.monotonic()))

    def may_send(self, call_id: str) -> bool:
        """Return whether the group membership is still proven, and the engine still lets the call leave (``Engine.may_send``)."""
        now = time.monotonic()
        return now < self._may_send_until() and self._engine.may_send(call_id, now)

    async def _run(self, call: CallTask) -> None:
        call.verdict = (await self._client.call(call)).verdict

    def _call_ended(self, call: CallTask, _: asyncio.Task[None]) -> None:
        del self._calls[call.attempt.call_id]
        del call.task  # which holds the call: only the garbage collector would find the two
        seconds = time.monotonic() - call.began
        for observer in self._observers:
            self._tell(observer.call_finished, call.attempt, call.verdict, seconds)
        if self.is_idle:
            self._carry_out([])  # a drain or handover may have waited for the last call alone

    def _task_ended(self, fail: Callable[[str, BaseException], None], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            fail("a task", error)

    def __repr__(self) -> str:
        return f"<CallRunner {len(self._calls)} calls>"


class CallLog:
    """Logs each attempt: a CallObserver."""

    def __init__(self, log: ports.Log) -> None:
        self._log = log

    def call_started(self, first: Attempt) -> None:
        """Log nothing: its first attempt has a line when it ends."""

    def attempt_finished(self, attempt: Attempt, result: AttemptResult) -> None:
        """Log one HTTP request that ended."""
        self._log(
            "batch.answered",
            call_id=attempt.call_id,
            app=attempt.app,
            endpoint=attempt.endpoint,
            target=attempt.target,
            members=attempt.members,
            number=attempt.number,
            verdict=result.verdict.value,
            error_code=result.error_code,
            request_id=result.request_id,
            elapsed_ms=round((result.ended_at - result.sent_at) * 1000, 1),
        )

    def call_finished(self, last: Attempt, verdict: Verdict | None, seconds: float) -> None:
        """Log nothing: its last attempt has a line."""

    def __repr__(self) -> str:
        return "<CallLog>"


class CallTask:
    """
    One call as the client sees it: its CallOwner.

    Attributes:
        attempt: The current attempt, or the last one.
        began: When it started, on the monotonic clock.
        wants_another: Whether the engine wants another attempt after the one that is ending.
        verdict: Of the last attempt, once the client has returned it.

    """

    __slots__ = ("_calls", "_permit", "attempt", "began", "task", "verdict", "wants_another")

    def __init__(self, calls: CallRunner, first: Attempt) -> None:
        self._calls = calls
        self._permit: asyncio.Future[Attempt] | None = None
        self.attempt = first
        self.began = time.monotonic()
        self.wants_another = False
        self.verdict: Verdict | None = None
        self.task: asyncio.Task[None]

    async def next_attempt(self) -> Attempt:
        """Wait until the next attempt may go, and return it. Cancelled when the engine cancels the call."""
        if self.wants_another:
            self._permit = asyncio.get_running_loop().create_future()
            self._calls.permit_requested(self.attempt.call_id)
            self.attempt = await self._permit
        return self.attempt

    def may_send(self) -> bool:
        """Return whether the request may still leave. Asked immediately before it is written."""
        return self._calls.may_send(self.attempt.call_id)

    def finished(self, result: AttemptResult) -> bool:
        """End the attempt. Return whether there is another, after a backoff and with a permit of its own."""
        self.wants_another = False
        # The engine answers with RetryCall if it wants another; `retry` then sets `wants_another` before this returns.
        self._calls.attempt_finished(self.attempt, result)
        return self.wants_another

    def grant(self, attempt: Attempt) -> None:
        """Grant the permit that ``next_attempt`` waits for."""
        if self._permit is not None and not self._permit.done():
            self._permit.set_result(attempt)
