# The loop's world, played by a test: an engine that says what the test wants, and a Kafka and a client that the test moves.
#
# No test is here, and nothing decides. All is told by the test, on the loop's own thread, but for restorations.

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

from worker.domain.contract.codes import Verdict
from worker.domain.effects import Attempt, AttemptResult, Restored, Transaction
from worker.runtime.metrics import Metrics
from worker.runtime.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from worker.domain.effects import Effect, Halt
    from worker.domain.engine import Engine
    from worker.domain.publish_results import PublishResult
    from worker.errors import BrokerError
    from worker.runtime.call_tasks import CallTask

DEADLINE: Final = 5.0


def send(call_id: str = "call-1", number: int = 1) -> Attempt:
    """
    One try of a call.
    """
    return Attempt(call_id, number, "main", "room_engine_http_srv/kick_user_out", b"{}", 1, False)


def try_(verdict: Verdict = Verdict.DONE) -> AttemptResult:
    """
    Its end.
    """
    return AttemptResult(time.monotonic(), time.monotonic(), verdict, http_status=200, error_code=0)


class Script:
    """
    An engine that remembers what it was told, and answers with the effects that the test has laid out.

    Attributes:
        told: Each event, with its arguments but the time.
        effects: What the next event of a name shall lead to.
        busy: The partitions of which something is in progress.
        gone: The calls of which nothing may leave any more.
        transactions: What is to be published.

    """

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.effects: dict[str, list[Effect]] = defaultdict(list)
        self.busy: set[int] = set()
        self.gone: set[str] = set()
        self.transactions: list[Transaction] = []
        self.halts: list[Halt] = []
        self.open = 0

    def __getattr__(self, event: str) -> Callable[..., list[Effect]]:
        def tell(*arguments: Any, **named: Any) -> list[Effect]:
            values = [list(each) if isinstance(each, list | tuple) else each for each in arguments]
            self.told.append(
                (event, *(each for each in values if not isinstance(each, float)), *named.values())
            )
            return self.effects.pop(event, [])

        return tell

    @property
    def idle(self) -> bool:
        return not self.busy

    @property
    def unpublished(self) -> int:
        return len(self.transactions)

    def may_send(self, call_id: str) -> bool:
        return call_id not in self.gone

    def quiet(self, numbers: Sequence[int]) -> bool:
        return not self.busy.intersection(numbers)

    def open_of(self, numbers: Sequence[int]) -> int:
        return len(self.busy.intersection(numbers))

    def transaction(self, *_: object) -> Transaction | None:
        return self.transactions.pop(0) if self.transactions else None

    def wake_at(self) -> float:
        return inf

    def events(self) -> list[str]:
        """
        The names of what it was told.
        """
        return [event for event, *_ in self.told]


class World:
    """
    A service among what it needs: consumer, publisher, restorer and client in one.

    Attributes:
        engine: What decides.
        begun: (partition, position, epoch) of each that may be fetched.
        forgotten: The partitions of which nothing is sent any more.
        proven_until: The fence.
        batches_taken: How many were taken care of.
        published: The transactions that are under way or over, with whom to tell.
        calls: The calls that are under way.
        failures: What the next restorations fail with.
        restoring: What happens just before a restoration is over.

    """

    def __init__(self, handover: float) -> None:
        self.engine = Script()
        self.begun: list[tuple[int, int, int]] = []
        self.forgotten: list[int] = []
        self.proven_until = inf
        self.batches_taken = 0
        self.published: list[tuple[Transaction, Callable[[PublishResult], None]]] = []
        self.calls: dict[str, tuple[CallTask, asyncio.Future[AttemptResult]]] = {}
        self.failures: list[BrokerError] = []
        self.restoring: Callable[[], None] = lambda: None
        self.logged: list[str] = []
        self.signers: dict[str, Any] = {}
        self.service = Service(
            cast("Engine", self.engine),
            Metrics(["main"]),
            self._log,
            handover,
        )
        self.service.connect(self, self, self, self)

    def _log(self, event: str, /, **_: object) -> None:
        self.logged.append(event)

    # The consumer

    def start(self) -> None: ...

    def begin(self, partition: int, position: int, epoch: int) -> None:
        self.begun.append((partition, position, epoch))

    def forget(self, partitions: Iterable[int]) -> None:
        self.forgotten += partitions

    def pause(self, partition: int) -> None: ...

    def resume(self, partition: int) -> None: ...

    def taken(self) -> None:
        self.batches_taken += 1

    def fence(self) -> float:
        return self.proven_until

    def lag(self, _: int) -> int | None:
        return None

    def topic_id(self) -> str | None:
        return None

    def partition_count(self) -> int | None:
        return None

    def close(self, _: float) -> bool:
        return True

    # The publisher

    def publish(self, transaction: Transaction, done: Callable[[PublishResult], None]) -> None:
        self.published.append((transaction, done))

    # The restorer

    def restore(self, _: int) -> Restored:
        if self.failures:
            raise self.failures.pop()
        self.restoring()
        return Restored(17)

    # The client

    async def call(self, call: CallTask) -> AttemptResult:
        end: asyncio.Future[AttemptResult] = asyncio.get_running_loop().create_future()
        self.calls[call.attempt.call_id] = call, end
        return await end

    async def aclose(self) -> None: ...

    # What a test does

    def owe(self) -> Transaction:
        """
        There is something to publish. It is told to the service by the next event.
        """
        transaction = Transaction([], [], {})
        self.engine.transactions.append(transaction)
        return transaction

    def move(self, effects: Sequence[Effect] = ()) -> None:
        """
        Something happens, and this follows from it.
        """
        self.engine.effects["received"] = list(effects)
        self.service.received([])

    def end(self, result: PublishResult) -> None:
        """
        The transaction under way comes to its end.
        """
        self.published[-1][1](result)


async def settled() -> None:
    """
    Everything has run that could.
    """
    for _ in range(10):
        await asyncio.sleep(0)


async def until(come: Callable[[], bool]) -> None:
    """
    Waits for what another thread, or a timer, does.
    """
    deadline = time.monotonic() + DEADLINE
    while not come():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.001)


def play(scene: Callable[[World], Coroutine[Any, Any, None]], *, handover: float = 60.0) -> None:
    """
    One scene in a world of its own.
    """

    async def main() -> None:
        world = World(handover)
        try:
            await scene(world)
        finally:
            await world.service.aclose()

    asyncio.run(main())
