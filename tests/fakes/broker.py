# Kafka in memory, for tests of what is above worker/broker: consumers, publishers and restorers with the same
# methods and the same manners as the real ones. tests/contract/broker holds both to one suite.
#
# One thread plays the cluster and calls every listener, so what happens is in one order. Faults are put in by hand.

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.broker.partition_ownership import PartitionOwnership
from worker.broker.producer_records import producer_records
from worker.domain.effects import RestoredPartition
from worker.domain.progress import commit_metadata
from worker.domain.publish_results import (
    Aborted,
    Fenced,
    MetadataRefused,
    Published,
)
from worker.errors import BrokerError, FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from worker.broker.consumer_listener import ConsumerListener
    from worker.broker.options import KafkaOptions
    from worker.broker.partition_ownership import OwnershipClaim
    from worker.domain.contract.outcomes import RememberedCommandId
    from worker.domain.effects import LogEvent, OffsetCommit, Transaction
    from worker.domain.publish_results import (
        PublishResult,
    )

TICK = 0.01
"""How often the cluster looks around when nobody wakes it."""


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """One record of any topic, with kafka-python's names."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    timestamp: int = 0


class FakeKafka:
    """
    A cluster with the topics of one worker and one consumer group.

    Attributes:
        away: While it is set nothing is answered: no records, no heartbeats, no publishing, no restoring.
        results: Given to the next transactions instead of carrying them out.
        metadata_bytes: The most that a commit's metadata may have.

    """

    def __init__(self, partitions: int = 3) -> None:
        self.partitions = partitions
        self.away = threading.Event()
        self.results: deque[PublishResult] = deque()
        self.metadata_bytes = 4096
        self.commands: list[list[FakeRecord]] = [[] for _ in range(partitions)]
        self.outcomes: list[list[FakeRecord]] = [[] for _ in range(partitions)]
        self.dead_letters: list[FakeRecord] = []
        self.committed: dict[int, OffsetCommit] = {}
        self.members: list[FakeConsumer] = []
        self.producers: dict[str, FakePublisher] = {}
        self.jobs: deque[Callable[[], None]] = deque()
        self.changed = threading.Condition(threading.RLock())
        self._ends = [0] * partitions
        self._begins = [0] * partitions
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="fake-kafka", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self.changed:
            self._closed = True
            self.changed.notify_all()
        self._thread.join(5)

    def produce(
        self,
        partition: int,
        value: bytes | None,
        key: bytes | None = None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        topic: str = "commands",
    ) -> FakeRecord:
        with self.changed:
            at = round(time.time() * 1000)
            record = FakeRecord(topic, partition, self._ends[partition], key, value, list(headers), at)
            self.commands[partition].append(record)
            self._ends[partition] += 1
            self.changed.notify_all()
            return record

    def gap(self, partition: int, offsets: int = 1) -> None:
        """Offsets without a record, as transaction markers and compaction leave them."""
        with self.changed:
            self._ends[partition] += offsets

    def delete_before(self, partition: int, offset: int) -> None:
        """What retention does."""
        with self.changed:
            self._begins[partition] = offset
            self.commands[partition] = [each for each in self.commands[partition] if each.offset >= offset]

    def begin_offset(self, partition: int) -> int:
        return self._begins[partition]

    def end_offset(self, partition: int) -> int:
        return self._ends[partition]

    def expel(self, consumer: FakeConsumer) -> None:
        """What the broker does to a member that it has not heard for too long. The member joins again by itself."""
        self.ask(consumer.put_out)

    def ask(self, job: Callable[[], None]) -> None:
        with self.changed:
            self.jobs.append(job)
            self.changed.notify_all()

    def owner(self, partition: int) -> FakeConsumer | None:
        return next((each for each in self.members if partition in each.partitions), None)

    def _run(self) -> None:
        while True:
            with self.changed:
                if self._closed:
                    return
                if not self.jobs or self.away.is_set():
                    self.changed.wait(TICK)
                if self.away.is_set():
                    continue
                jobs = list(self.jobs)
                self.jobs.clear()
            for job in jobs:
                job()
            self._rebalance()
            for consumer in list(self.members):
                consumer.step()

    def _rebalance(self) -> None:
        staying = [each for each in self.members if not each.leaving]
        for partition in range(self.partitions):
            owner = self.owner(partition)
            target = self._target(partition, owner, staying)
            if owner is target:
                continue
            if owner is not None:
                owner.give_up(partition)
            elif target is not None:
                target.give(partition)

    def _target(
        self, partition: int, owner: FakeConsumer | None, staying: list[FakeConsumer]
    ) -> FakeConsumer | None:
        """Sticky: a partition moves only from a member that has more than its share."""
        if not staying:
            return None
        fewest = min(staying, key=lambda each: len(each.partitions))
        if owner is None or owner not in staying:
            return fewest
        share = -(-self.partitions // len(staying))
        kept = sorted(owner.partitions)[:share]
        return owner if partition in kept else fewest


class FakeConsumer:
    """Has the methods of worker.broker.consumer.Consumer."""

    def __init__(
        self,
        kafka: FakeKafka,
        options: KafkaOptions,
        listener: ConsumerListener,
        notice: Callable[[LogEvent], None],
    ) -> None:
        self._kafka = kafka
        self._options = options
        self._listener = listener
        self._notice = notice
        self._ownership = PartitionOwnership(
            session_timeout=options.session_timeout,
            max_poll_interval=options.max_poll_interval,
            margin=options.fence_margin,
        )
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()
        self._reached: dict[int, int] = {}
        self._handovers: dict[int, tuple[Future[None], float]] = {}
        self._outstanding = 0
        self._over = threading.Event()
        self.leaving = False

    @property
    def partitions(self) -> frozenset[int]:
        return self._ownership.partitions

    def start(self) -> None:
        self._kafka.ask(self._join)

    def stop(self) -> None:
        self.leaving = True

    def close(self, timeout: float) -> bool:
        self.stop()
        return self not in self._kafka.members or self._over.wait(timeout)

    def begin(self, partition: int, position: int, epoch: int) -> None:
        if self._ownership.begin(partition, epoch):
            self._positions[partition] = position
            self._paused.discard(partition)

    def forget(self, partitions: Iterable[int]) -> None:
        self._ownership.forget(partitions)

    def pause(self, partition: int) -> None:
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)

    def acknowledge(self) -> None:
        self._outstanding -= 1

    def may_send_until(self) -> float:
        return self._ownership.may_send_until()

    def claim(self, partitions: Iterable[int]) -> OwnershipClaim | None:
        return self._ownership.claim(partitions)

    def group_metadata(self, claim: OwnershipClaim) -> object:
        return self if self in self._kafka.members and self._ownership.holds(claim) else None

    def is_topic_gone(self) -> bool:
        return False

    def position(self, partition: int) -> int | None:
        return self._positions.get(partition)

    def lag(self, partition: int) -> int | None:
        position = self._positions.get(partition)
        return None if position is None else self._kafka.end_offset(partition) - position

    def topic_id(self) -> str | None:
        return None

    def partition_count(self) -> int | None:
        return self._kafka.partitions

    # The cluster's thread.

    def step(self) -> None:
        now = time.monotonic()
        self._ownership.proven(now)
        self._ownership.polled(now)
        self._end_handovers(now)
        if self.leaving and not self.partitions:
            self._kafka.members.remove(self)
            self._over.set()
            return
        for partition in sorted(self.partitions):
            self._fetch(partition)

    def give(self, partition: int) -> None:
        self._reached.pop(partition, None)
        self._paused.discard(partition)
        self._listener.assigned(self._ownership.assigned([partition]))

    def give_up(self, partition: int) -> None:
        if partition not in self._handovers:
            deadline = time.monotonic() + self._options.handover + self._options.handover_margin
            going = [each for each in sorted(self.partitions) if self.leaving or each == partition]
            future = self._listener.revoking(going)
            for each in going:
                self._handovers[each] = (future, deadline)

    def put_out(self) -> None:
        gone = self._ownership.ended()
        self._handovers.clear()
        if gone:
            self._listener.lost(gone)

    def fence_off(self) -> None:
        self.put_out()
        self._kafka.members.remove(self)
        self._over.set()
        self._listener.failed(
            FencedError("another process has joined the group with this worker's instance_id")
        )

    def _join(self) -> None:
        same = self._options.instance_id
        for member in list(self._kafka.members):
            if same is not None and member.instance_id == same:
                member.fence_off()
        self._kafka.members.append(self)

    @property
    def instance_id(self) -> str | None:
        return self._options.instance_id

    def _end_handovers(self, now: float) -> None:
        for partition, (future, deadline) in list(self._handovers.items()):
            if future.done() or now >= deadline:
                del self._handovers[partition]
                self._ownership.gone([partition])

    def _fetch(self, partition: int) -> None:
        if partition in self._paused or partition in self._handovers or not self._ownership.begun(partition):
            return
        if self._outstanding >= self._options.batches_outstanding:
            return
        position, begin = self._positions[partition], self._kafka.begin_offset(partition)
        if position < begin:
            self._positions[partition] = begin
            self._listener.out_of_range(partition, position, begin)
            return
        waiting = [each for each in self._kafka.commands[partition] if each.offset >= position]
        records = waiting[: self._options.batch_records]
        if records:
            self._positions[partition] = records[-1].offset + 1
            self._outstanding += 1
            self._listener.received(records)
        elif position < self._kafka.end_offset(partition):
            self._positions[partition] = self._kafka.end_offset(partition)
        if self._reached.get(partition) != self._positions[partition]:
            self._reached[partition] = self._positions[partition]
            self._listener.reached({partition: self._positions[partition]})


class FakePublisher:
    """Has the methods of worker.broker.publisher.Publisher."""

    def __init__(
        self,
        kafka: FakeKafka,
        options: KafkaOptions,
        ownership: FakeConsumer,
        notice: Callable[[LogEvent], None],
    ) -> None:
        self._kafka = kafka
        self._options = options
        self._ownership = ownership
        self._notice = notice
        self._busy = False
        self.transactions: list[Transaction] = []

    def start(self, timeout: float = 60.0) -> None:
        if self._kafka.away.is_set():
            raise BrokerError(f"Kafka could not be reached within {timeout:.0f} s")
        self._kafka.producers[self._options.transactional_id] = self

    def publish(self, transaction: Transaction, done: Callable[[PublishResult], None]) -> None:
        if self._busy:
            raise RuntimeError("a transaction is being published already")
        self._busy = True
        claim = self._ownership.claim(transaction.commits)
        self._kafka.ask(lambda: self._carry_out(transaction, claim, done))

    def close(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with self._kafka.changed:
            return self._kafka.changed.wait_for(lambda: not self._busy, max(0.0, deadline - time.monotonic()))

    def _carry_out(
        self, transaction: Transaction, claim: OwnershipClaim | None, done: Callable[[PublishResult], None]
    ) -> None:
        result = self._kafka.results.popleft() if self._kafka.results else self._publish(transaction, claim)
        with self._kafka.changed:
            self._busy = False
            self._kafka.changed.notify_all()
        done(result)

    def _publish(self, transaction: Transaction, claim: OwnershipClaim | None) -> PublishResult:
        if self._kafka.producers.get(self._options.transactional_id) is not self:
            return Fenced("another producer")
        if claim is None or self._ownership.group_metadata(claim) is None:
            return Aborted("a partition inside has gone", retry_soon=True)
        for partition, commit in transaction.commits.items():
            if len(commit.metadata) > self._kafka.metadata_bytes:
                return MetadataRefused(partition)
        records = producer_records(transaction, self._options)
        for record in records:
            log = (
                self._kafka.dead_letters
                if record.partition is None
                else self._kafka.outcomes[record.partition]
            )
            at = round(time.time() * 1000)
            headers: list[tuple[str, bytes | None]] = list(record.headers)
            log.append(
                FakeRecord(
                    record.topic, record.partition or 0, len(log), record.key, record.value, headers, at
                )
            )
        self._kafka.committed.update(transaction.commits)
        self.transactions.append(transaction)
        return Published()


class FakeRestorer:
    """Has the methods of worker.broker.partition_restore.PartitionRestorer."""

    def __init__(
        self,
        kafka: FakeKafka,
        options: KafkaOptions,
        decode: Callable[[bytes], RememberedCommandId | None],
        notice: Callable[[LogEvent], None],
    ) -> None:
        self._kafka = kafka
        self._options = options
        self._decode = decode
        self._notice = notice

    def forget_refusals(self, partition: int) -> None: ...

    def restore(self, partition: int) -> RestoredPartition:
        if self._kafka.away.is_set():
            raise BrokerError(f"partition {partition} cannot be restored: Kafka is away")
        with self._kafka.changed:
            committed = self._kafka.committed.get(partition)
            since = (time.time() - self._options.restore_window) * 1000
            recent = [each for each in self._kafka.outcomes[partition] if each.timestamp >= since]
        values = [each.value for each in recent[-self._options.restore_records :] if each.value is not None]
        known = [known for value in values if (known := self._decode(value)) is not None]
        if committed is None:
            return RestoredPartition(position=self._start(partition), known=known, fresh=True)
        whose = commit_metadata.label(self._options.command_topic, None, partition)
        done = commit_metadata.decode(committed.metadata, whose, committed.offset)
        if done is None:
            return RestoredPartition(
                committed.offset, known=known, foreign=commit_metadata.excerpt(committed.metadata)
            )
        return RestoredPartition(committed.offset, done, known)

    def _start(self, partition: int) -> int:
        start = self._options.start
        if start == "earliest":
            return self._kafka.begin_offset(partition)
        if start == "latest":
            return self._kafka.end_offset(partition)
        since = start.timestamp() * 1000
        found = (each.offset for each in self._kafka.commands[partition] if each.timestamp >= since)
        return next(found, self._kafka.end_offset(partition))
