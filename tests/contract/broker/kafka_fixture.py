# What the contract of the broker package is tested on: a cluster (real, or in memory) and members of one group.
#
# A Member is a small stand-in for the loop: it hears, begins what it is assigned, takes batches, and answers handovers as
# the test tells it. Waiting is always for a condition, with a deadline.

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from kafka import (
    IsolationLevel,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetSpec,
    TopicPartition,
    errors,
)
from kafka.admin import MemberToRemove

from tests.fakes.broker import FakeConsumer, FakeKafka, FakePublisher, FakeRecord, FakeRestorer
from worker.broker.consumer import Consumer
from worker.broker.options import KafkaOptions
from worker.broker.partition_restore import PartitionRestorer
from worker.broker.publisher import Publisher
from worker.domain.contract.outcomes import Outcome, RememberedCommandId, Source, Status
from worker.domain.contract.outcomes import Worker as By
from worker.domain.effects import OffsetCommit, OutgoingOutcome, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.domain.contract.dead_letter_encoding import DeadLetter
    from worker.domain.contract.raw_records import Record
    from worker.domain.effects import LogEvent, RestoredPartition
    from worker.domain.publish_results import PublishResult
    from worker.errors import WorkerError

KAFKA_AWAY = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""For tests in which connections fail: kafka-python leaves the socket of such a one to the garbage collector."""
PATIENCE = 30.0
"""Seconds. Only a failing test waits this long."""


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Returns when the condition holds. Fails, saying what it waited for, when it does not in time."""
    deadline = time.monotonic() + patience
    pulse = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s for: {what}"
        pulse.wait(0.01)


def known_of(value: bytes) -> RememberedCommandId | None:
    """A decoding that keeps the bytes, so that a test sees which records were read."""
    return RememberedCommandId(command_id=value.decode(), fingerprint=0, outcome_id="", done=None, at=0.0)


def command_id_of(record: Record) -> str | None:
    """Commands of these tests are their ids; one that begins with a "?" is unreadable."""
    value = record.value or b"?"
    return None if value.startswith(b"?") else value.decode()


class Cluster(Protocol):
    """The topics of one worker, as a test sees them from outside."""

    partitions: int

    def options(self, name: str, **changes: Any) -> KafkaOptions: ...
    def produce(self, partition: int, *values: bytes, key: bytes | None = None) -> list[int]: ...
    def outcomes(self, partition: int) -> Sequence[Record]: ...
    def dead_letters(self) -> Sequence[Record]: ...
    def committed(self, partition: int) -> tuple[int, str] | None: ...
    def consumer(self, member: Member) -> Any: ...
    def publisher(self, member: Member, membership: Any) -> Any: ...
    def restorer(self, member: Member) -> Any: ...
    def expel(self, member: Member) -> None: ...
    def close(self) -> None: ...


class Member:
    """
    One process of the group.

    Attributes:
        handover: Called at a revocation, in a thread of its own; the handover is over when it returns.
        at_records: Called when records are handed over, by the poll thread.
        at_loss: Called when partitions are lost, on the thread that reports it.
        begins: Whether it begins by itself what it is assigned.
        takes: Whether it takes each batch at once.

    """

    def __init__(self, cluster: Cluster, options: KafkaOptions) -> None:
        self.options = options
        self.events: list[tuple[str, Any]] = []
        self.records: list[Record] = []
        self.batches: list[int] = []
        self.restored: dict[int, RestoredPartition] = {}
        self.epochs: dict[int, int] = {}
        self.notices: list[LogEvent] = []
        self.positions: dict[int, int] = {}
        self.failure: WorkerError | None = None
        self.handover: Callable[[Sequence[int]], None] = lambda _: None
        self.at_loss: Callable[[], None] = lambda: None
        self.at_records: Callable[[], None] = lambda: None
        self.begins = True
        self.takes = True
        self._pool = ThreadPoolExecutor(4)
        self.consumer = cluster.consumer(self)
        self.publisher = cluster.publisher(self, self.consumer)
        self.restorer = cluster.restorer(self)

    def start(self) -> Member:
        self.publisher.start()
        self.consumer.start()
        return self

    def close(self) -> None:
        self.consumer.close(10.0)
        self.publisher.close(5.0)
        self._pool.shutdown()

    def begin(self, partition: int, epoch: int) -> None:
        restored = self.restorer.restore(partition)
        self.restored[partition] = restored
        self.consumer.begin(partition, restored.position, epoch)

    def publish(self, transaction: Transaction) -> PublishResult:
        return self.publishing(transaction).result(PATIENCE)

    def publishing(self, transaction: Transaction) -> Future[PublishResult]:
        future: Future[PublishResult] = Future()
        self.publisher.publish(transaction, future.set_result)
        return future

    def publish_for(self, partition: int, offset: int, **changes: Any) -> PublishResult:
        """One outcome of the record at that offset, and the commit behind it."""
        return self.publish(
            transaction_of(
                [outcome_for(partition, offset, topic=self.options.command_topic)],
                {partition: OffsetCommit(offset + 1, "")},
                **changes,
            )
        )

    def values(self, partition: int) -> list[bytes | None]:
        return [record.value for record in self.records if record.partition == partition]

    def owns(self, *partitions: int) -> bool:
        return bool(self.consumer.partitions == frozenset(partitions))

    def saw(self, event: str) -> list[Any]:
        return [given for name, given in self.events if name == event]

    def noticed(self, event: str) -> list[LogEvent]:
        return [notice for notice in self.notices if notice.event == event]

    # What the consumer calls.

    def assigned(self, partitions: Mapping[int, int]) -> None:
        self.events.append(("assigned", tuple(partitions)))
        self.epochs.update(partitions)
        if self.begins:
            for partition, epoch in partitions.items():
                self._pool.submit(self.begin, partition, epoch)

    def revoking(self, partitions: Sequence[int]) -> Future[None]:
        self.events.append(("revoked", tuple(partitions)))
        return self._pool.submit(self._hand_over, partitions)

    def _hand_over(self, partitions: Sequence[int]) -> None:
        self.handover(partitions)
        self.consumer.forget(partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        self.events.append(("lost", tuple(partitions)))
        self.at_loss()
        self.consumer.forget(partitions)

    def received(self, records: Sequence[Record]) -> None:
        self.at_records()
        self.records.extend(records)
        self.batches.append(len(records))
        if self.takes:
            self.consumer.acknowledge()

    def reached(self, positions: Mapping[int, int]) -> None:
        self.positions.update(positions)

    def out_of_range(self, partition: int, expected: int, goes_on_at: int) -> None:
        self.events.append(("out_of_range", (partition, expected, goes_on_at)))

    def failed(self, error: WorkerError) -> None:
        self.failure = error


def outcome_for(partition: int, offset: int, key: bytes | None = b"room", **changes: Any) -> OutgoingOutcome:
    traceparent = changes.pop("traceparent", None)
    outcome = Outcome(
        outcome_id=f"commands-{partition}-{offset}",
        command_id=changes.pop("command_id", f"id-{partition}-{offset}"),
        status=Status.SUCCEEDED,
        source=Source(changes.pop("topic", "commands"), partition, offset),
        worker=By("tester", "0"),
        received_at="2025-01-01T00:00:00.000Z",
        finished_at="2025-01-01T00:00:00.000Z",
        queued_ms=0.0,
        attempts=1,
        **changes,
    )
    return OutgoingOutcome(partition=partition, key=key, outcome=outcome, traceparent=traceparent)


def transaction_of(
    outcomes: Iterable[OutgoingOutcome],
    commits: Mapping[int, OffsetCommit],
    dead_letters: Iterable[DeadLetter] = (),
) -> Transaction:
    return Transaction(outcomes=list(outcomes), dead_letters=list(dead_letters), commits=dict(commits))


def record(partition: int, offset: int, value: bytes | None, **changes: Any) -> FakeRecord:
    return FakeRecord(
        "commands", partition, offset, changes.get("key"), value, list(changes.get("headers", []))
    )


class MemoryCluster:
    """The fake."""

    def __init__(self, partitions: int = 2) -> None:
        self.partitions = partitions
        self.kafka = FakeKafka(partitions)

    def options(self, name: str, **changes: Any) -> KafkaOptions:
        return _options("memory", "", name, changes)

    def produce(self, partition: int, *values: bytes, key: bytes | None = None) -> list[int]:
        return [self.kafka.produce(partition, value, key).offset for value in values]

    def outcomes(self, partition: int) -> Sequence[Record]:
        return list(self.kafka.outcomes[partition])

    def dead_letters(self) -> Sequence[Record]:
        return list(self.kafka.dead_letters)

    def committed(self, partition: int) -> tuple[int, str] | None:
        commit = self.kafka.committed.get(partition)
        return None if commit is None else (commit.offset, commit.metadata)

    def consumer(self, member: Member) -> FakeConsumer:
        return FakeConsumer(self.kafka, member.options, member, member.notices.append)

    def publisher(self, member: Member, membership: Any) -> FakePublisher:
        return FakePublisher(self.kafka, member.options, membership, member.notices.append)

    def restorer(self, member: Member) -> FakeRestorer:
        return FakeRestorer(self.kafka, member.options, known_of, member.notices.append)

    def expel(self, member: Member) -> None:
        self.kafka.expel(member.consumer)

    def close(self) -> None:
        self.kafka.close()


def _asked(question: Callable[[], Any]) -> Any:
    """The answer of a client that may have to connect again first."""
    answers: list[Any] = []

    def answered() -> bool:
        try:
            answers.append(question())
        except errors.RetriableError:
            return False
        return True

    until(answered, "an answer")
    return answers[0]


class RealCluster:
    """Topics of its own, and a group, on a real Kafka."""

    def __init__(
        self, bootstrap_servers: str, partitions: int = 2, configs: Mapping[str, str] | None = None
    ) -> None:
        self.partitions = partitions
        self.bootstrap_servers = bootstrap_servers
        self.tag = f"-{uuid.uuid4().hex[:12]}"
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
        spec = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(configs or {})}
        names = [f"{stem}{self.tag}" for stem in ("commands", "outcomes", "dead-letters")]
        self.admin.create_topics(dict.fromkeys(names, spec), wait_for_metadata=True)
        self.producer = KafkaProducer(bootstrap_servers=bootstrap_servers)

    def options(self, name: str, **changes: Any) -> KafkaOptions:
        return _options(self.bootstrap_servers, self.tag, name, changes)

    def produce(self, partition: int, *values: bytes, key: bytes | None = None) -> list[int]:
        topic = f"commands{self.tag}"
        sent = [self.producer.send(topic, value=value, key=key, partition=partition) for value in values]
        self.producer.flush(PATIENCE)
        return [future.get(PATIENCE).offset for future in sent]

    def outcomes(self, partition: int) -> Sequence[Record]:
        return self._read(f"outcomes{self.tag}", [partition])

    def dead_letters(self) -> Sequence[Record]:
        return self._read(f"dead-letters{self.tag}", range(self.partitions))

    def committed(self, partition: int) -> tuple[int, str] | None:
        """Stable: a commit is answered a moment before its markers are written."""
        reader = self._reader(group_id=f"workers{self.tag}")
        found = reader.committed(TopicPartition(f"commands{self.tag}", partition), metadata=True)
        reader.close(autocommit=False)
        return None if found is None else (found.offset, found.metadata)

    def consumer(self, member: Member) -> Consumer:
        return Consumer(member.options, member, member.notices.append)

    def publisher(self, member: Member, membership: Any) -> Publisher:
        return Publisher(member.options, membership, member.notices.append)

    def restorer(self, member: Member) -> PartitionRestorer:
        return PartitionRestorer(
            member.options, known_of, member.notices.append, command_id_of=command_id_of, topic_id=None
        )

    def expel(self, member: Member) -> None:
        group = f"workers{self.tag}"
        client = f"{member.options.client_name}-commands"
        members = self.admin.describe_groups([group])[group]["members"]
        member_id = next(each["member_id"] for each in members if each["client_id"] == client)
        self.admin.remove_group_members(group, [MemberToRemove(member_id=member_id)])

    def outcomes_written(self, partition: int, value: bytes) -> None:
        self.producer.send(f"outcomes{self.tag}", value=value, partition=partition).get(PATIENCE)

    def delete_before(self, partition: int, offset: int) -> None:
        self.admin.delete_records({TopicPartition(f"commands{self.tag}", partition): offset})

    def add_partitions(self, total: int) -> None:
        self.admin.create_partitions({f"commands{self.tag}": total})

    def high_watermark(self, stem: str, partition: int) -> int:
        return self._mark(TopicPartition(f"{stem}{self.tag}", partition))

    def close(self) -> None:
        self.producer.close(timeout=5)
        self.admin.close()

    def _reader(self, **changes: Any) -> KafkaConsumer:
        return KafkaConsumer(
            bootstrap_servers=self.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **changes,
        )

    def _read(self, topic: str, partitions: Iterable[int]) -> list[Record]:
        """What is committed up to the last stable offset; what was answered as committed is below it after a moment."""
        reader = self._reader()
        places = [TopicPartition(topic, partition) for partition in partitions]
        reader.assign(places)
        reader.seek_to_beginning(*places)
        marks = {place: self._mark(place) for place in places}
        settled = time.monotonic() + 1.0
        while time.monotonic() < settled and reader.end_offsets(places) != marks:
            pass
        ends = reader.end_offsets(places)
        found: list[Record] = []
        deadline = time.monotonic() + PATIENCE
        while any(reader.position(place) < end for place, end in ends.items()):
            assert time.monotonic() < deadline, f"{topic} returns nothing"
            for batch in reader.poll(timeout_ms=200).values():
                found.extend(batch)
        reader.close(autocommit=False)
        return found

    def _mark(self, place: Any) -> int:
        ends = _asked(
            lambda: self.admin.list_partition_offsets(
                {place: OffsetSpec.LATEST}, IsolationLevel.READ_UNCOMMITTED
            )
        )
        return int(ends[place].offset)


def _options(bootstrap_servers: str, tag: str, name: str, changes: dict[str, Any]) -> KafkaOptions:
    values: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers,
        "group_id": f"workers{tag}",
        "command_topic": f"commands{tag}",
        "outcome_topic": f"outcomes{tag}",
        "dead_letter_topic": f"dead-letters{tag}",
        "client_name": name,
        "session_timeout": 6.0,
        "heartbeat_interval": 0.3,
        "max_poll_interval": 30.0,
        "transaction_timeout": 4.0,
    }
    return KafkaOptions(**{**values, **changes})
