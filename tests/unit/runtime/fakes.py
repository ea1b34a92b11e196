# An EngineRunner among fakes: an engine with scripted effects, and a Kafka and a client that the test moves.
#
# No test is here, and nothing decides. Everything happens on the loop's own thread, except restorations.

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

from worker.domain.contract.error_codes import Verdict
from worker.domain.effects import Attempt, AttemptResult, RestoredPartition, Transaction
from worker.errors import BrokerError
from worker.runtime.call_runner import CallLog
from worker.runtime.engine_runner import EngineRunner
from worker.runtime.failed_command_log import FailedCommandLog
from worker.runtime.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from worker.domain.contract.control_records import ControlRecord
    from worker.domain.effects import Effect, HaltReason
    from worker.domain.engine import Engine
    from worker.domain.engine_snapshot import EngineSnapshot
    from worker.domain.publish_results import PublishResult
    from worker.runtime.call_runner import CallTask

DEADLINE: Final = 5.0


def attempt(call_id: str = "call-1", number: int = 1) -> Attempt:
    """Return an attempt of a call."""
    return Attempt(call_id, number, "main", "room_engine_http_srv/kick_user_out", "room-7", b"{}", 1, False)


def result(verdict: Verdict = Verdict.DONE) -> AttemptResult:
    """Return the result of an attempt."""
    return AttemptResult(time.monotonic(), time.monotonic(), verdict, http_status=200, error_code=0)


class FakeEngine:
    """
    An engine that records its events, and returns the effects that the test has prepared.

    Attributes:
        events: Each event with its arguments, without the time.
        effects: The effects of the next event of a name.
        broken: The events in which it has a bug.
        busy: The partitions of which something is in progress.
        gone: The calls of which nothing may leave any more.
        transactions: What to publish.
        wake_at: When it wants its next tick.
        state: What ``snapshot`` returns.

    """

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.effects: dict[str, list[Effect]] = defaultdict(list)
        self.broken: set[str] = set()
        self.busy: set[int] = set()
        self.gone: set[str] = set()
        self.transactions: list[Transaction] = []
        self.halts: list[HaltReason] = []
        self.open_count = 0
        self.wake_at = inf
        self.state: EngineSnapshot

    def __getattr__(self, event: str) -> Callable[..., list[Effect]]:
        def record(*arguments: Any, **named: Any) -> list[Effect]:
            if event in self.broken:
                raise KeyError("a bug")
            values = [list(each) if isinstance(each, list | tuple) else each for each in arguments]
            self.events.append(
                (event, *(each for each in values if not isinstance(each, float)), *named.values())
            )
            return self.effects.pop(event, [])

        return record

    @property
    def idle(self) -> bool:
        return not self.busy

    @property
    def unpublished(self) -> int:
        return len(self.transactions)

    def may_send(self, call_id: str, _: float) -> bool:
        return call_id not in self.gone

    def quiet(self, numbers: Sequence[int]) -> bool:
        return not self.busy.intersection(numbers)

    def count_open(self, numbers: Sequence[int]) -> int:
        return len(self.busy.intersection(numbers))

    def take_transaction(self, *_: object) -> Transaction | None:
        if "take_transaction" in self.broken:
            raise KeyError("a bug")
        return self.transactions.pop(0) if self.transactions else None

    def snapshot(self, _: float) -> EngineSnapshot:
        return self.state

    def event_names(self) -> list[str]:
        """Return the names of the recorded events."""
        return [event for event, *_ in self.events]


class RunnerHarness:
    """
    A runner with what it needs: consumer, publisher, restorer, client and writer of orders in one.

    Attributes:
        engine: What decides.
        begun: (partition, position, epoch) of each partition that may be fetched.
        forgotten: The partitions of which nothing is sent any more.
        paused: The partitions that are not fetched for now.
        proven_until: The fence.
        batches_taken: How many batches were acknowledged.
        published: The transactions that were started, each with its ``done``.
        calls: The calls in flight.
        failures: What the next restorations fail with.
        restoring: What happens just before a restoration ends.
        order_failures: How many writings of an order fail next.
        written: The orders that were written.
        metrics: What the runner has counted.
        is_closed: Whether the client was closed.

    """

    def __init__(self, handover_seconds: float, *, orders: bool = False) -> None:
        self.order_failures = 0
        self.written: list[ControlRecord] = []
        self.engine = FakeEngine()
        self.begun: list[tuple[int, int, int]] = []
        self.forgotten: list[int] = []
        self.paused: set[int] = set()
        self.proven_until = inf
        self.batches_taken = 0
        self.is_closed = False
        self.published: list[tuple[Transaction, Callable[[PublishResult], None]]] = []
        self.calls: dict[str, tuple[CallTask, asyncio.Future[AttemptResult]]] = {}
        self.failures: list[BrokerError] = []
        self.restoring: Callable[[], None] = lambda: None
        self.lines: list[tuple[str, dict[str, object]]] = []
        self.signers: dict[str, Any] = {}
        self.metrics = Metrics(["main"])
        self.runner = EngineRunner(
            cast("Engine", self.engine),
            self.metrics,
            self._log,
            handover_seconds,
            [CallLog(self._log)],
            [FailedCommandLog(self._log)],
        )
        self.said: list[bytes] = []
        self.runner.connect(self, self, self, self, self, self.write if orders else None)

    def _log(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))

    @property
    def logged(self) -> list[str]:
        """The names of the events that were logged."""
        return [event for event, _ in self.lines]

    # The consumer

    def start(self) -> None: ...

    def begin(self, partition: int, position: int, epoch: int) -> None:
        self.begun.append((partition, position, epoch))

    def forget(self, partitions: Iterable[int]) -> None:
        self.forgotten += partitions

    def pause(self, partition: int) -> None:
        self.paused.add(partition)

    def resume(self, partition: int) -> None:
        self.paused.discard(partition)

    def acknowledge(self) -> None:
        self.batches_taken += 1

    def may_send_until(self) -> float:
        return self.proven_until

    def lag(self, _: int) -> int | None:
        return None

    def topic_id(self) -> str | None:
        return None

    def partition_count(self) -> int | None:
        return None

    def close(self, _: float) -> bool:
        return True

    # The quota channel

    def send(self, payload: bytes) -> None:
        self.said.append(payload)

    # The publisher

    def publish(self, transaction: Transaction, done: Callable[[PublishResult], None]) -> None:
        self.published.append((transaction, done))

    # The restorer

    def restore(self, _: int) -> RestoredPartition:
        if self.failures:
            raise self.failures.pop()
        self.restoring()
        return RestoredPartition(17)

    def forget_refusals(self, partition: int) -> None: ...

    # The writer of orders

    def write(self, record: ControlRecord) -> None:
        if self.order_failures:
            self.order_failures -= 1
            raise BrokerError("Kafka is away")
        self.written.append(record)

    # The client

    async def call(self, call: CallTask) -> AttemptResult:
        end: asyncio.Future[AttemptResult] = asyncio.get_running_loop().create_future()
        self.calls[call.attempt.call_id] = call, end
        return await end

    async def aclose(self) -> None:
        self.is_closed = True

    # What a test does

    def owe(self) -> Transaction:
        """Have something to publish, from the next event on."""
        transaction = Transaction([], [], {})
        self.engine.transactions.append(transaction)
        return transaction

    def move(self, effects: Sequence[Effect] = ()) -> None:
        """Let an event happen that has these effects."""
        self.engine.effects["received"] = list(effects)
        self.runner.received([])

    def end(self, result: PublishResult) -> None:
        """End the running transaction."""
        self.published[-1][1](result)


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread or a timer does."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.001)


def run_scenario(
    scenario: Callable[[RunnerHarness], Coroutine[Any, Any, None]],
    *,
    handover_seconds: float = 60.0,
    orders: bool = False,
) -> None:
    """Run one scenario in a harness of its own."""

    async def main() -> None:
        harness = RunnerHarness(handover_seconds, orders=orders)
        try:
            await scenario(harness)
        finally:
            await harness.runner.aclose()

    asyncio.run(main())
