# The loop: carries events to the engine and its effects into the world. It decides nothing.
#
# | thread        | owns                                | is told by                                | tells the loop by        |
# |---------------|-------------------------------------|-------------------------------------------|--------------------------|
# | asyncio       | the engine, the calls, HTTP, timers | everybody, through `call_soon_threadsafe` | -                        |
# | kafka-poll    | the consumer, kafka's I/O loop      | `pause`, `resume`, `begin`, `taken`       | the Listener's methods   |
# | kafka-publish | the transactional producer          | `publish`, one transaction at a time      | `done`                   |
# | restore (2)   | a consumer each, while it lasts     | the executor                              | the awaited result       |
#
# Not here: what to do about an event (domain/engine.py), Kafka and HTTP themselves (broker/, tencent/).

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, assert_never

from worker.domain.effects import Call, Notice, Pause, Permit, Recall, Resume
from worker.domain.publishing import Aborted, Fenced, MetadataRefused, Published, RecordTooLarge
from worker.errors import BrokerError, FencedError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.domain.effects import Effect, Halt, Record, Send, Transaction, Try
    from worker.domain.engine import Engine
    from worker.domain.publishing import PublishResult
    from worker.domain.snapshots import Snapshot
    from worker.runtime import ports
    from worker.runtime.metrics import Metrics

PUBLISH_INTERVAL: Final = 0.05
"""
Seconds between the beginnings of two transactions under load. Each costs some 10 ms of round trips and as many requests
whether it holds one outcome or a hundred; the first after a pause goes at once.
"""
FULL_TRANSACTION: Final = 1000
"""So many unpublished commands are not kept waiting for the interval."""
RESTORE_BACKOFF: Final = (0.5, 10.0)
"""After a restoration that failed: the first wait, which doubles up to the second."""
RESTORES_AT_ONCE: Final = 2


class Service:
    """
    Runs one engine. All methods belong to the loop's thread, but for those of the consumer's Listener.

    ``stopped`` is set with the reason when the worker cannot go on, ``drained`` when nothing is left after ``stop``.
    """

    def __init__(
        self, engine: "Engine", client: "ports.Client", metrics: "Metrics", log: "ports.Log", handover: float
    ) -> None:
        self._engine = engine
        self._client = client
        self._metrics = metrics
        self._log = log
        self._handover = handover
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(RESTORES_AT_ONCE, thread_name_prefix="restore")
        self._consumer: ports.Consumer
        self._publisher: ports.Publisher
        self._restorer: ports.Restorer
        self._epochs: dict[int, int] = {}
        self._ready: set[int] = set()
        self._handovers: list[_Handover] = []
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._publishing = False
        self._published_at = 0.0
        self._publish_timer: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._stopping = False
        self._refusal: str | None = None
        self.pulse = time.monotonic()
        self.stopped: Future[WorkerError] = Future()
        self.drained = asyncio.Event()

    def connect(
        self, consumer: "ports.Consumer", publisher: "ports.Publisher", restorer: "ports.Restorer"
    ) -> None:
        """
        Who consumes, publishes and restores. Called once, before anything happens.
        """
        self._consumer = consumer
        self._publisher = publisher
        self._restorer = restorer
        self._settle([])

    # Told by other threads: the consumer's Listener.

    def assigned(self, partitions: "Mapping[int, int]") -> None:
        """
        See broker.listener.Listener; so for all of these.
        """
        self._post(self._assigned, dict(partitions))

    def revoked(self, partitions: "Sequence[int]") -> "Future[None]":
        """
        The future is done when nothing of the partitions is in progress or unpublished, or the handover's time is over.
        """
        done: Future[None] = Future()
        self._post(self._revoked, list(partitions), done)
        return done

    def lost(self, partitions: "Sequence[int]") -> None:
        """
        Nothing of the partitions can be published any more.
        """
        self._post(self._lost, list(partitions))

    def received(self, records: "Sequence[Record]") -> None:
        """
        The next records.
        """
        self._post(self._received, records)

    def out_of_range(self, partition: int, was: int, now: int) -> None:
        """
        Records are gone that were never seen.
        """
        self._post(self._out_of_range, partition, was, now)

    def failed(self, error: WorkerError) -> None:
        """
        The poll thread is over.
        """
        self._post(self._fail, error)

    def _post(self, callback: Any, *arguments: Any) -> None:
        # A loop that is closed has nobody left to tell: the process is ending.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    # Told by lifecycle.py.

    def stop(self) -> None:
        """
        Starts nothing new, finishes what is started.
        """
        self._stopping = True
        self._settle(self._engine.stopping(time.monotonic()))

    @property
    def idle(self) -> bool:
        """
        Nothing is in progress or unpublished.
        """
        return self._engine.idle and not self._publishing

    @property
    def open(self) -> int:
        """
        How many commands are open.
        """
        return self._engine.open

    @property
    def tells(self) -> "tuple[str | None, list[Halt]]":
        """
        Why the worker is not ready (None: it is, unless something is halted), and what is halted.
        """
        if self._refusal is not None:
            return self._refusal, self._engine.halts
        if self._stopping:
            return "stopping", self._engine.halts
        if not self._epochs:
            return "no partition is assigned yet", self._engine.halts
        if self._epochs.keys() - self._ready:
            return "partitions are being restored", self._engine.halts
        return None, self._engine.halts

    def snapshot(self) -> "Snapshot":
        """
        The engine now.
        """
        return self._engine.snapshot(time.monotonic())

    async def aclose(self) -> None:
        """
        Ends the timers, the calls and the connections.
        """
        for timer in (self._timer, self._publish_timer):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()
        self._executor.shutdown(wait=False, cancel_futures=True)

    # Partitions.

    def _assigned(self, partitions: "dict[int, int]") -> None:
        self._epochs |= partitions
        self._metrics.rebalanced("assigned", len(partitions))
        self._log("partitions.assigned", partitions=sorted(partitions))
        for number, epoch in partitions.items():
            self._start(self._restore(number, epoch))

    async def _restore(self, number: int, epoch: int) -> None:
        """
        Reads back what is known of the partition, as often as it takes, then begins it.
        """
        wait = RESTORE_BACKOFF[0]
        began = time.monotonic()
        while self._epochs.get(number) == epoch:
            try:
                restored = await self._loop.run_in_executor(self._executor, self._restorer.restore, number)
            except BrokerError as error:
                self._log(
                    "partition.restore_failed", partition=number, reason=str(error), next_try_seconds=wait
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, RESTORE_BACKOFF[1])
                continue
            if self._epochs.get(number) == epoch:
                self._metrics.restored(time.monotonic() - began)
                effects = self._engine.assigned(number, restored, time.monotonic())
                self._ready.add(number)
                self._consumer.begin(number, restored.position, epoch)
                self._settle(effects)
            return

    def _revoked(self, numbers: list[int], done: "Future[None]") -> None:
        now = time.monotonic()
        self._metrics.rebalanced("revoked", len(numbers))
        handover = _Handover(numbers, done, now)
        self._handovers.append(handover)
        self._loop.call_later(self._handover, self._end_handover, handover)
        self._settle(self._engine.revoking(numbers, now))

    def _end_handover(self, handover: "_Handover") -> None:
        if handover not in self._handovers:
            return
        self._handovers.remove(handover)
        now = time.monotonic()
        left = self._engine.open_of(handover.numbers)
        effects = self._forget(handover.numbers, now)
        self._metrics.handed_over(now - handover.began)
        self._log(
            "partitions.revoked",
            partitions=sorted(handover.numbers),
            left_open=left,
            seconds=round(now - handover.began, 3),
        )
        handover.done.set_result(None)
        self._settle(effects)

    def _lost(self, numbers: list[int]) -> None:
        self._metrics.rebalanced("lost", len(numbers))
        self._log("partitions.lost", partitions=sorted(numbers), left_open=self._engine.open_of(numbers))
        self._settle(self._forget(numbers, time.monotonic()))

    def _forget(self, numbers: "Iterable[int]", now: float) -> "list[Effect]":
        for number in numbers:
            self._epochs.pop(number, None)
            self._ready.discard(number)
        return self._engine.revoked(numbers, now)

    def _out_of_range(self, partition: int, was: int, now: int) -> None:
        self._metrics.out_of_range()
        self._log("offset.out_of_range", partition=partition, was=was, now=now, lost=now - was)

    # Commands.

    def _received(self, records: "Sequence[Record]") -> None:
        self._metrics.received(len(records))
        self._settle(self._engine.received(records, time.monotonic()))
        self._consumer.taken()

    def asked(self, flight: "_Flight") -> None:
        """
        The call wants a permit for another try.
        """
        self._settle(self._engine.asked(flight.call_id, time.monotonic()))

    def tried(self, flight: "_Flight", try_: "Try") -> None:
        """
        A request of the call has ended.
        """
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

    def may_retry(self, flight: "_Flight") -> bool:
        """
        Whether another try is worth asking a permit for.
        """
        return self._engine.may_retry(flight.call_id, time.monotonic())

    def may_send(self) -> bool:
        """
        Whether this process can prove that its partitions are still its own.
        """
        return time.monotonic() < self._consumer.fence()

    async def _call(self, flight: "_Flight") -> None:
        began = time.monotonic()
        try:
            last = await self._client.call(flight.send, flight)
        finally:
            self._flights.pop(flight.call_id, None)
        now = time.monotonic()
        self._metrics.called(flight.send, last.verdict, now - began)
        self._settle(self._engine.answered(flight.call_id, now))

    # Effects.

    def _settle(self, effects: "list[Effect]") -> None:
        """
        Carries out what follows from an event, and looks what can be done next.
        """
        for effect in effects:
            self._carry_out(effect)
        self._publish()
        for handover in self._handovers[:]:
            if not self._publishing and self._engine.quiet(handover.numbers):
                self._end_handover(handover)
        if self._stopping and self.idle:
            self.drained.set()
        self._wind()

    def _carry_out(self, effect: "Effect") -> None:
        match effect:
            case Call(send):
                flight = self._flights[send.call_id] = _Flight(self, send)
                self._metrics.started(send)
                flight.task = self._start(self._call(flight))
            case Permit(send):
                if send.call_id in self._flights:
                    self._flights[send.call_id].let_go(send)
            case Recall(call_id):
                if call_id in self._flights:
                    self._flights[call_id].task.cancel()
            case Pause(partition):
                self._consumer.pause(partition)
            case Resume(partition):
                self._consumer.resume(partition)
            case Notice(event, _, fields):
                self._log(event, **fields)
            case _:
                assert_never(effect)

    def _start(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = WorkerError("a fault of the code ended a task")
            failure.__cause__ = error
            self._fail(failure)

    # Publishing.

    def _publish(self) -> None:
        if self._publishing:
            return
        now = time.monotonic()
        if self._may_wait(now):
            if self._engine.unpublished and self._publish_timer is None:
                self._publish_timer = self._loop.call_at(
                    self._published_at + PUBLISH_INTERVAL, self._publish_now
                )
            return
        transaction = self._engine.transaction(now)
        if transaction is None:
            return
        self._publishing = True
        self._published_at = now
        self._publisher.publish(transaction, partial(self._post, self._answered_for, transaction, now))

    def _may_wait(self, now: float) -> bool:
        """
        Whether more results should be gathered before the next transaction.
        """
        if self._handovers or self._stopping or self._engine.unpublished >= FULL_TRANSACTION:
            return False
        return now < self._published_at + PUBLISH_INTERVAL

    def _publish_now(self) -> None:
        self._publish_timer = None
        self._publish()

    def _answered_for(self, transaction: "Transaction", began: float, result: "PublishResult") -> None:
        self._publishing = False
        now = time.monotonic()
        match result:
            case Published():
                self._metrics.published(transaction, now - began)
                self._settle(self._engine.published(now))
                return
            case Fenced(reason):
                self._fail(FencedError(reason))
            case Aborted():
                self._settle(self._engine.aborted(now))
            case MetadataRefused(partition):
                self._settle(self._engine.metadata_refused(partition, now))
            case RecordTooLarge(outcome_id, is_dead_letter):
                self._settle(self._engine.too_large(outcome_id, now, is_dead_letter=is_dead_letter))
            case _:
                assert_never(result)
        self._metrics.aborted(now - began)

    # Time.

    def _wind(self) -> None:
        """
        Sets the timer for the engine's next tick.
        """
        at = self._engine.wake_at()
        if at >= self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        # asyncio's clock is time.monotonic's, so the engine's instants are the loop's.
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        now = time.monotonic()
        self.pulse = now
        self._settle(self._engine.tick(now, time.time()))

    def refuse(self, reason: str) -> None:
        """
        The worker must not go on as it is: it starts nothing new, and is not ready until it is restarted.
        """
        if self._refusal is None:
            self._refusal = reason
            self._settle(self._engine.stopping(time.monotonic()))

    def _fail(self, error: WorkerError) -> None:
        if not self.stopped.done():
            self.stopped.set_result(error)

    def __repr__(self) -> str:
        return f"<Service of {self._engine!r}, {len(self._tasks)} tasks>"


class _Handover:
    """
    Partitions that are about to go, and whom to tell when they may.
    """

    __slots__ = ("began", "done", "numbers")

    def __init__(self, numbers: list[int], done: "Future[None]", began: float) -> None:
        self.numbers = numbers
        self.done = done
        self.began = began


class _Flight:
    """
    One call between its client and the engine: see ports.Flight.
    """

    __slots__ = ("_permit", "_service", "call_id", "send", "task")

    def __init__(self, service: Service, send: "Send") -> None:
        self._service = service
        self._permit: asyncio.Future[Send] | None = None
        self.call_id = send.call_id
        self.send = send
        self.task: asyncio.Task[None]

    def may_send(self) -> bool:
        return self._service.may_send()

    def tried(self, try_: "Try") -> None:
        self._service.tried(self, try_)

    def may_retry(self) -> bool:
        return self._service.may_retry(self)

    async def permit(self) -> "Send":
        self._permit = asyncio.get_running_loop().create_future()
        self._service.asked(self)
        self.send = await self._permit
        return self.send

    def let_go(self, send: "Send") -> None:
        """
        The next try may go.
        """
        if self._permit is not None and not self._permit.done():
            self._permit.set_result(send)
