# Runs the engine on the asyncio loop: carries events to it, and its effects into the world. Decides nothing.
#
# The engine belongs to this thread alone; which others there are, and how each reaches the loop: ARCHITECTURE.md, "Threads".
#
# Not here: what to do about an event (domain/engine.py), Kafka and HTTP themselves (broker/, tencent/).

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, assert_never

from worker.domain.effects import (
    AllowAttempt,
    CancelWaitingCall,
    LogEvent,
    PausePartition,
    ResumePartition,
    RetryCall,
    SendQuotaMessage,
    StartCall,
    WriteControl,
)
from worker.errors import WorkerError
from worker.runtime.call_runner import CallRunner
from worker.runtime.publish_scheduler import PublishScheduler
from worker.runtime.restore_scheduler import RestoreScheduler
from worker.runtime.tripped_guard_writer import TrippedGuardWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from worker.domain.contract.control_records import ControlRecord
    from worker.domain.contract.raw_records import Record
    from worker.domain.effects import Effect, HaltReason, RestoredPartition
    from worker.domain.engine import Engine
    from worker.domain.engine_snapshot import EngineSnapshot
    from worker.errors import CommittedOffsetLostError
    from worker.runtime import ports
    from worker.runtime.metrics import Metrics

NEVER: Final = float("inf")
BEYOND_THE_END: Final = (
    "the group has read partition {partition} up to offset {offset}, but it ends before that: its topic was recreated, or has "
    "lost records; stop all replicas, wait until the group is empty (its session timeout, 15 s by default), set its offsets "
    "(kafka-consumer-groups --bootstrap-server ... --reset-offsets), start them again"
)
TICK: Final = 0.002
"""The shortest time between two ticks. The loop rounds timers to milliseconds: a nearer one would fire early, and spin."""


class EngineRunner:
    """
    Runs one engine. Call all methods in the loop's thread, except those of the consumer's ConsumerListener.

    A handover waits at most ``handover_seconds`` for what is in progress on its partitions. ``call_observers``, like the metrics,
    see every call, and ``publish_observers`` every committed transaction.

    Attributes:
        fatal_error: Gets the error that the worker cannot go on from; never set in a clean run.
        drained: Set when nothing is left to do after ``stop``.
        left_open: How many commands were open when their partitions went, since the start; after a handover, those it waited for.
        last_tick_at: When the engine last ticked, on the monotonic clock.

    """

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        log: ports.Log,
        handover_seconds: float,
        call_observers: Sequence[ports.CallObserver] = (),
        publish_observers: Sequence[ports.PublishObserver] = (),
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._log = log
        self._handover_seconds = handover_seconds
        self._call_observers = call_observers
        self._publish_observers = publish_observers
        self._loop = asyncio.get_running_loop()
        self._consumer: ports.Consumer
        self._quota: ports.QuotaChannel
        self._guard_orders: TrippedGuardWriter | None = None
        self._restoring: RestoreScheduler
        self._calls: CallRunner
        self._publish_scheduler: PublishScheduler
        # Set once the control topic was read whole, or is known not to exist: then partitions may begin.
        self._orders_known = asyncio.Event()
        # The assigned partitions with their epochs, and those of them that are restored.
        self._epochs: dict[int, int] = {}
        self._restored: set[int] = set()
        self._assigned_at: dict[int, float] = {}
        self._handovers: list[_Handover] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._stopping = False
        self._refused_because: str | None = None
        self.last_tick_at = time.monotonic()
        self.fatal_error: asyncio.Future[WorkerError] = self._loop.create_future()
        self.drained = asyncio.Event()
        self.left_open = 0

    def connect(
        self,
        consumer: ports.Consumer,
        publisher: ports.Publisher,
        restorer: ports.PartitionRestorer,
        client: ports.Client,
        quota: ports.QuotaChannel,
        write_order: Callable[[ControlRecord], None] | None = None,
    ) -> None:
        """
        Connect what consumes, publishes, restores, calls, lends and writes orders. Call it once, before any event.

        With a ``write_order`` no partition begins before ``orders`` or ``no_orders`` was called.
        """
        self._consumer = consumer
        self._quota = quota
        if write_order is None:
            self._orders_known.set()
        else:
            self._guard_orders = TrippedGuardWriter(write_order, self._log)
        self._restoring = RestoreScheduler(
            restorer,
            self._metrics,
            self._log,
            is_ours=self._is_ours,
            begin=partial(self._guarded, self._begin),
        )
        self._calls = CallRunner(
            self._engine,
            client,
            (self._metrics, *self._call_observers),
            carry_out=self._carry_out,
            guarded=self._guarded,
            tell=self._tell,
            fail_for_bug=self._fail_without_publishing,
            may_send_until=consumer.may_send_until,
        )
        self._publish_scheduler = PublishScheduler(
            self._engine,
            publisher,
            self._metrics,
            carry_out=self._carry_out,
            guarded=self._guarded,
            tell=self._tell,
            fail=self._fail,
            publish_observers=self._publish_observers,
        )
        self._set_timer()

    # The consumer's ConsumerListener: called by the poll thread.

    def assigned(self, partitions: Mapping[int, int]) -> None:
        """Take newly assigned partitions, each with its epoch."""
        self._post(self._assigned, dict(partitions))

    def revoking(self, partitions: Sequence[int]) -> Future[None]:
        """Finish what is in progress on these partitions. The future is done when that is published or timed out."""
        done: Future[None] = Future()
        self._post(self._begin_handover, list(partitions), done)
        return done

    def lost(self, partitions: Sequence[int]) -> None:
        """Drop partitions of which nothing can be published any more."""
        self._post(self._lost, list(partitions))

    def received(self, records: Sequence[Record]) -> None:
        """Take the next records."""
        self._post(self._received, records)

    def reached(self, positions: Mapping[int, int]) -> None:
        """Take the consumer's positions: every record below them was received, or will never come."""
        self._post(self._engine.reached, positions)

    def out_of_range(self, partition: int, expected: int, goes_on_at: int) -> None:
        """Take a partition's new position: the record at ``expected`` is gone, so the consumer goes on at ``goes_on_at``."""
        self._post(self._out_of_range, partition, expected, goes_on_at)

    def quota_messages(self, payloads: Sequence[bytes]) -> None:
        """Take messages of the quota channel."""
        self._post(self._quota_messages, payloads)

    def failed(self, error: WorkerError) -> None:
        """Take the error that ended a thread without which the worker cannot go on."""
        self._post(self._fail, error)

    def publisher_failed(self, error: WorkerError) -> None:
        """Take the error that ended the publisher's thread: nothing will be published any more."""
        self._post(self._publisher_failed, error)

    def _post(self, callback: Any, *arguments: Any) -> None:
        # A closed loop means that the process is ending: nobody needs the event.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._guarded, callback, *arguments)

    # The control topic's listener: called by its follower's thread.

    def orders(self, records: Sequence[ControlRecord]) -> None:
        """Apply control records; of one scope, the latest comes last. The first call has every order in force in the topic."""
        self._post(self._ordered, records)

    def no_orders(self) -> None:
        """Go on without orders, since there is no control topic."""
        self._post(self._ordered, ())

    # For start and stop, health and metrics.

    def stop(self) -> None:
        """Start nothing new and finish whatever is started; then set ``drained``."""
        self._stopping = self._publish_scheduler.hurry = True
        self._guarded(self._start_nothing_new)

    @property
    def idle(self) -> bool:
        """Whether nothing is in progress or unpublished."""
        return self._engine.idle and not self._publish_scheduler.is_running

    @property
    def waits_in_vain(self) -> bool:
        """Whether a handover or drain has nothing to wait for: no call is open, and nothing will be published any more."""
        publishing = self._publish_scheduler
        return publishing.is_closed and not publishing.is_running and self._calls.is_idle

    @property
    def open_count(self) -> int:
        """How many commands are open."""
        return self._engine.open_count

    @property
    def unready_reason(self) -> str | None:
        """Why the loop itself is not ready; None if it is."""
        if self._refused_because is not None:
            return self._refused_because
        if self._stopping or self.fatal_error.done():
            return "stopping"
        if time.monotonic() >= self._consumer.may_send_until():
            return "not a member of the consumer group: it has not joined yet, or Kafka is away"
        if not self._orders_known.is_set():
            return "the control topic was not read yet: no call is made before it is known what is paused"
        waiting = self._epochs.keys() - self._restored - self._restoring.partitions_in_doubt.keys()
        return "partitions are being restored" if waiting else None

    @property
    def halts(self) -> list[HaltReason]:
        """The apps and endpoints that are halted until their configuration is fixed."""
        return self._engine.halts

    @property
    def partitions_in_doubt(self) -> list[CommittedOffsetLostError]:
        """For each assigned partition that waits for a person to decide where to resume: why."""
        return [error for _, error in sorted(self._restoring.partitions_in_doubt.items())]

    def snapshot(self) -> EngineSnapshot:
        """Return the current state of the engine."""
        return self._engine.snapshot(time.monotonic())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` in a task until ``aclose``. If it fails, so does the worker, which publishes what it knows until then."""
        self._calls.spawn(work, self._fail_for_bug)

    async def aclose(self) -> None:
        """End the timers, the calls, the connections and every spawned task."""
        if self._timer is not None:
            self._timer.cancel()
        self._publish_scheduler.close()
        await self._calls.aclose()

    # Partitions.

    def _assigned(self, partitions: dict[int, int]) -> None:
        self._epochs |= partitions
        # The cooling off counts from here, so it runs while the partition is restored.
        self._assigned_at |= dict.fromkeys(partitions, time.monotonic())
        self._tell(self._metrics.rebalanced, "assigned", len(partitions))
        self._log("partitions.assigned", partitions=sorted(partitions))
        for number, epoch in partitions.items():
            self.spawn(self._take_over(number, epoch))

    async def _take_over(self, number: int, epoch: int) -> None:
        await self._orders_known.wait()
        await self._restoring.restore(number, epoch)

    def _is_ours(self, number: int, epoch: int) -> bool:
        return self._epochs.get(number) == epoch

    def _begin(self, number: int, epoch: int, restored: RestoredPartition) -> None:
        effects = self._engine.assigned(number, restored, time.monotonic(), self._assigned_at[number])
        self._restored.add(number)
        self._consumer.begin(number, restored.position, epoch)
        self._carry_out(effects)

    def _begin_handover(self, numbers: list[int], done: Future[None]) -> None:
        now = time.monotonic()
        self._tell(self._metrics.rebalanced, "revoked", len(numbers))
        handover = _Handover(numbers, done, now)
        self._handovers.append(handover)
        self._publish_scheduler.hurry = True
        self._loop.call_later(self._handover_seconds, self._guarded, self._end_handover, handover)
        self._carry_out(self._engine.revoking(numbers, now))

    def _end_handover(self, handover: _Handover) -> None:
        if handover not in self._handovers:
            return
        self._handovers.remove(handover)
        self._publish_scheduler.hurry = self._stopping or bool(self._handovers)
        now = time.monotonic()
        left = self._engine.count_open(handover.numbers)
        self.left_open += left
        effects = self._drop_partitions(handover.numbers, now)
        self._tell(self._metrics.handed_over, now - handover.began)
        self._log(
            "partitions.revoked",
            partitions=sorted(handover.numbers),
            left_open=left,
            seconds=round(now - handover.began, 3),
        )
        handover.done.set_result(None)
        self._carry_out(effects)

    def _lost(self, numbers: list[int]) -> None:
        self._tell(self._metrics.rebalanced, "lost", len(numbers))
        left = self._engine.count_open(numbers)
        self.left_open += left
        self._log("partitions.lost", partitions=sorted(numbers), left_open=left)
        self._carry_out(self._drop_partitions(numbers, time.monotonic()))

    def _drop_partitions(self, numbers: Sequence[int], now: float) -> list[Effect]:
        for number in numbers:
            self._epochs.pop(number, None)
            self._assigned_at.pop(number, None)
            self._restoring.forget(number)
            self._restored.discard(number)
        effects = self._engine.revoked(numbers, now)
        self._consumer.forget(numbers)
        return effects

    def _out_of_range(self, partition: int, expected: int, goes_on_at: int) -> None:
        self._tell(self._metrics.out_of_range)
        self._log(
            "offset.out_of_range",
            partition=partition,
            was=expected,
            now=goes_on_at,
            lost=max(0, goes_on_at - expected),
        )
        if goes_on_at < expected:
            # The partition is shorter than what was committed: going on would silently take unread records for done.
            self.refuse_work(BEYOND_THE_END.format(partition=partition, offset=expected))

    # Orders.

    def _ordered(self, records: Sequence[ControlRecord]) -> None:
        self._carry_out(self._engine.control_records_received(records, time.monotonic()))
        if self._guard_orders is not None:
            self._guard_orders.read_back(records)
        self._orders_known.set()

    # Commands.

    def _received(self, records: Sequence[Record]) -> None:
        self._tell(self._metrics.received, len(records))
        self._carry_out(self._engine.received(records, time.monotonic()))
        self._consumer.acknowledge()

    def _quota_messages(self, payloads: Sequence[bytes]) -> None:
        now = time.monotonic()
        # Once the membership is unproven, another replica may own the slices that would be lent.
        self._carry_out(
            self._engine.quota_messages(payloads, now, may_lend=now < self._consumer.may_send_until())
        )

    # Effects.

    def _carry_out(self, effects: list[Effect]) -> None:
        """Carry out the effects of an event, then whatever it has made possible: a transaction, the end of a handover or drain."""
        for effect in effects:
            self._perform(effect)
        publishing = self._publish_scheduler
        publishing.start_next()
        for handover in self._handovers[:]:
            is_held_up = publishing.is_running or publishing.is_closed
            if (not is_held_up and self._engine.quiet(handover.numbers)) or self.waits_in_vain:
                self._end_handover(handover)
        if self._stopping and (self.idle or self.waits_in_vain):
            self.drained.set()
        self._set_timer()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartCall(attempt):
                self._calls.start(attempt)
            case AllowAttempt(attempt):
                self._calls.grant(attempt)
            case RetryCall(call_id):
                self._calls.retry(call_id)
            case CancelWaitingCall(call_id):
                self._calls.cancel(call_id)
            case PausePartition(partition):
                self._consumer.pause(partition)
            case ResumePartition(partition):
                self._consumer.resume(partition)
            case LogEvent(event, _, fields):
                self._log(event, **fields)
            case WriteControl(record):
                assert self._guard_orders is not None  # guards are refused without a control topic
                self.spawn(self._guard_orders.write(record))
            case SendQuotaMessage(payload):
                self._quota.send(payload)
            case _:
                assert_never(effect)

    # Time.

    def _set_timer(self) -> None:
        """Set the timer for the engine's next tick."""
        at = max(self._engine.wake_at, time.monotonic() + TICK)
        if self._timer is not None:
            if at >= self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = at
        # asyncio's clock is time.monotonic's, so the engine's instants are the loop's.
        self._timer = self._loop.call_at(at, self._guarded, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        self.last_tick_at = now
        self._carry_out(self._engine.tick(now, time.time()))

    # Faults.

    def refuse_work(self, reason: str, *, can_publish: bool = True) -> None:
        """
        Start nothing new, and stay unready until restarted. The process goes on, so that /readyz says why.

        ``can_publish`` is False if nothing that is done can be published any more either: then no handover or drain waits for it,
        and its reason replaces one from before.
        """
        ends_publishing = not can_publish and not self._publish_scheduler.is_closed
        if self._refused_because is not None and not ends_publishing:
            return
        if ends_publishing:
            self._publish_scheduler.close()
        if reason != self._refused_because:
            self._refused_because = reason
            self._log("worker.refused", reason=reason)
        self._guarded(self._start_nothing_new)

    def _start_nothing_new(self) -> None:
        self._carry_out(self._engine.stopping(time.monotonic()))

    def _guarded(self, callback: Callable[..., None], *arguments: Any) -> None:
        """
        Run a callback of the loop. An exception in it ends the worker.

        The loop itself would log it and go on, with an engine that has not heard of some commands or results.
        """
        try:
            callback(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a bug
            self._fail_without_publishing("a callback", error)

    def _tell(self, observer: Callable[..., None], *arguments: Any) -> None:
        """Tell an observer what has happened. An exception in it ends the worker, but not the event: the engine hears of that."""
        try:
            observer(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a bug
            self._fail_for_bug("an observer", error)

    def _fail_without_publishing(self, where: str, error: BaseException) -> None:
        """End the worker after a bug by which the engine may have missed something: that must not be taken for done."""
        self._publish_scheduler.close()
        self._fail_for_bug(where, error)

    def _fail_for_bug(self, where: str, error: BaseException) -> None:
        """End the worker after a bug. While it hands over, it publishes what is done."""
        failure = WorkerError(f"a bug ended {where}: {type(error).__name__}")
        failure.__cause__ = error
        self._fail(failure)

    def _publisher_failed(self, error: WorkerError) -> None:
        self._publish_scheduler.publisher_ended()
        self._fail(error)

    def _fail(self, error: WorkerError) -> None:
        if not self.fatal_error.done():
            self.fatal_error.set_result(error)

    def __repr__(self) -> str:
        return f"<EngineRunner of {self._engine!r}, {self._calls!r}>"


@dataclass(frozen=True, slots=True, eq=False)
class _Handover:
    """Partitions that are being handed over, and the future that releases them."""

    numbers: list[int]
    done: Future[None]
    began: float
