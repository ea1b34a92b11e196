# Who sees each call: whatever becomes of one, it starts once and ends once, so what is opened for it can be closed.
#
# The tasks and the observer are real, engine and client are played. How a runner starts and cancels calls is shown in
# test_engine_runner.py.

from __future__ import annotations

import asyncio
import gc
from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit.runtime.fakes import DEADLINE, FakeEngine, attempt, result, settled
from worker.domain.contract.error_codes import Verdict
from worker.runtime.call_runner import CallRunner, CallTask
from worker.runtime.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from worker.domain.effects import Attempt, AttemptResult
    from worker.domain.engine import Engine
    from worker.runtime import ports


OUTBOUND: ContextVar[CallTask] = ContextVar("outbound")


class Watcher:
    """An observer that keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def call_started(self, first: Attempt) -> None:
        self.seen.append(("started", first.call_id))

    def attempt_finished(self, attempt: Attempt, result: AttemptResult) -> None:
        self.seen.append(("attempt", attempt.call_id, result.verdict))

    def call_finished(self, last: Attempt, verdict: Verdict | None, seconds: float) -> None:
        assert 0.0 <= seconds < DEADLINE
        self.seen.append(("finished", last.call_id, verdict))


class Calls:
    """The tasks of calls whose client makes one attempt, and waits for the test to end it."""

    def __init__(self) -> None:
        self.watcher = Watcher()
        self.metrics = Metrics(["main"])
        self.faults: list[BaseException] = []
        self.ends: dict[str, asyncio.Future[AttemptResult]] = {}
        self.tasks = CallRunner(
            cast("Engine", FakeEngine()),
            cast("ports.Client", self),
            (self.metrics, self.watcher),
            carry_out=lambda _: None,
            guarded=lambda callback, *arguments: callback(*arguments),
            tell=lambda observer, *arguments: observer(*arguments),
            fail_for_bug=lambda _, error: self.faults.append(error),
            may_send_until=lambda: inf,
        )

    async def call(self, call: CallTask) -> AttemptResult:
        end: asyncio.Future[AttemptResult] = asyncio.get_running_loop().create_future()
        self.ends[call.attempt.call_id] = end
        OUTBOUND.set(call)  # as the real transport does
        try:
            last = await end
        except asyncio.CancelledError:
            call.finished(result(Verdict.RETRY))  # as the real client does
            raise
        call.finished(last)
        return last

    async def aclose(self) -> None: ...


async def started(calls: Calls) -> None:
    calls.tasks.start(attempt())
    await settled()


async def it_answers(calls: Calls) -> None:
    await started(calls)
    calls.ends["call-1"].set_result(result())


async def it_is_cancelled(calls: Calls) -> None:
    await started(calls)
    calls.tasks.cancel("call-1")


async def it_is_cancelled_before_its_first_step(calls: Calls) -> None:
    calls.tasks.start(attempt())
    calls.tasks.cancel("call-1")


async def it_is_cancelled_when_it_has_answered(calls: Calls) -> None:
    await it_answers(calls)
    await settled()
    calls.tasks.cancel("call-1")


async def the_worker_ends(calls: Calls) -> None:
    await started(calls)
    await calls.tasks.aclose()


async def the_worker_ends_before_its_first_step(calls: Calls) -> None:
    calls.tasks.start(attempt())
    await calls.tasks.aclose()


async def the_client_has_a_bug(calls: Calls) -> None:
    await started(calls)
    calls.ends["call-1"].set_exception(KeyError("a bug"))


@pytest.mark.parametrize(
    ("what_happens", "verdict", "attempts"),
    [
        (it_answers, Verdict.DONE, [Verdict.DONE]),
        (it_is_cancelled, None, [Verdict.RETRY]),
        (it_is_cancelled_before_its_first_step, None, []),
        (it_is_cancelled_when_it_has_answered, Verdict.DONE, [Verdict.DONE]),
        (the_worker_ends, None, [Verdict.RETRY]),
        (the_worker_ends_before_its_first_step, None, []),
        (the_client_has_a_bug, None, []),
    ],
)
def test_a_call_that_started_ends_exactly_once_and_last_of_all(
    what_happens: Callable[[Calls], Coroutine[Any, Any, None]],
    verdict: Verdict | None,
    attempts: list[Verdict],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its verdict, or with none if it was cancelled; then no call is left behind, and only one with a verdict is counted."""

    async def scenario() -> Calls:
        calls = Calls()
        await what_happens(calls)
        await settled()
        return calls

    calls = asyncio.run(scenario())

    assert calls.watcher.seen == [
        ("started", "call-1"),
        *(("attempt", "call-1", each) for each in attempts),
        ("finished", "call-1", verdict),
    ]
    assert caplog.records == []
    assert bool(calls.faults) == (what_happens is the_client_has_a_bug)
    assert repr(calls.tasks) == "<CallRunner 0 calls>"
    counted = [
        sample.value
        for metric in calls.metrics.registry.collect()
        for sample in metric.samples
        if sample.name.endswith("_call_seconds_count")
    ]
    assert sum(counted) == (0 if verdict is None else 1)


def test_a_call_that_is_over_is_freed_at_once() -> None:
    """Nothing of it is left to the garbage collector, which would stop the loop."""

    async def story() -> list[CallTask]:
        calls = Calls()
        gc.collect()
        gc.disable()
        try:
            await it_answers(calls)
            await settled()
            return [each for each in gc.get_objects() if isinstance(each, CallTask)]
        finally:
            gc.enable()

    assert asyncio.run(story()) == []
