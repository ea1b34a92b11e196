# What we assume about kafka-python's private parts: an upgrade that changes their behaviour fails here.
#
# The names that are used are compared in tests/unit/broker/test_private_parts.py.

from __future__ import annotations

import errno
import threading
import time
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.net.selector import NetworkSelector

from tests.contract.broker.kafka_fixture import RealCluster, until
from tests.proxy import Proxy
from worker.broker import kafka_private_parts, topic_admin
from worker.broker.client_config import consumer_arguments, producer_arguments, reader_arguments
from worker.broker.error_mapping import TRANSIENT
from worker.broker.producer_records import ProducerRecord
from worker.broker.record_appending import append

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster as Running
    from tests.contract.broker.conftest import Join
    from worker.testing.kafka.embedded_kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka


@pytest.fixture
def consumer(real_cluster: RealCluster) -> Iterator[KafkaConsumer]:
    made = KafkaConsumer(
        **{
            **consumer_arguments(real_cluster.options("a")),
            "auto_offset_reset": "earliest",
            "partition_assignment_strategy": (CooperativeStickyAssignor,),
        }
    )
    yield made
    made.close(autocommit=False)


@pytest.fixture
def producer(real_cluster: RealCluster) -> Iterator[KafkaProducer]:
    made = KafkaProducer(**producer_arguments(real_cluster.options("a")))
    made.init_transactions()
    yield made
    kafka_private_parts.discard(made, 1.0)


def record_of(value: bytes) -> ProducerRecord:
    return ProducerRecord("", None, b"k", value, [("h", b"v")], "")


def polled(consumer: KafkaConsumer) -> bool:
    kafka_private_parts.finish_join(consumer)
    consumer.poll(timeout_ms=50)
    return True


def io_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("kafka-io")}


def test_both_clients_give_a_topic_the_same_id_and_a_recreated_one_another(
    real_cluster: RealCluster,
) -> None:
    """As Kafka's own tools print it: 16 bytes, in 22 characters."""
    options = real_cluster.options("a")
    ids = [topic_admin.inspect(options).command]
    with kafka_private_parts.open_client(KafkaConsumer, reader_arguments(options)) as reader:
        reader.partitions_for_topic(options.command_topic)
        known = kafka_private_parts.known_topic_id(reader, options.command_topic)
    real_cluster.admin.delete_topics([options.command_topic])
    until(lambda: topic_admin.inspect(options).command is None, "deleted")
    topic_admin.create_missing(options, partitions=2, replication=1)
    ids.append(topic_admin.inspect(options).command)

    first, second = (topic.topic_id for topic in ids if topic is not None)
    assert first is not None
    assert second is not None
    assert first == known != second
    assert len(first) == len(second) == 22


@pytest.mark.parametrize("none", [None, uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000", ""])
def test_no_topic_id_is_none(none: uuid.UUID | str | None) -> None:
    assert kafka_private_parts.id_text(none) is None


def test_each_answered_heartbeat_is_a_proof_from_when_it_was_sent(
    real_cluster: RealCluster, consumer: KafkaConsumer
) -> None:
    proofs: list[tuple[float, float]] = []
    kafka_private_parts.witness_membership(
        consumer, lambda sent_at: proofs.append((sent_at, time.monotonic())), lambda _: None
    )
    consumer.subscribe([f"commands{real_cluster.tag}"])

    until(lambda: polled(consumer) and len(proofs) >= 4, "a join and some heartbeats")

    assert all(sent_at < heard_at for sent_at, heard_at in proofs)
    assert [sent_at for sent_at, _ in proofs] == sorted(sent_at for sent_at, _ in proofs)


def test_unanswered_heartbeats_shut_the_fence_though_kafka_python_counts_them(
    own_kafka: EmbeddedKafka, join: Join
) -> None:
    cluster = RealCluster(own_kafka.bootstrap_servers)
    member = join(cluster, session_timeout=3.0, fence_margin=0.5)
    coordinator: Any = member.consumer._consumer._coordinator
    until(lambda: member.consumer.may_send_until() > time.monotonic() + 1.0, "an open fence")

    own_kafka.pause()
    paused_at = time.monotonic()
    until(lambda: member.consumer.may_send_until() < time.monotonic(), "a shut fence", 5)
    shut_after = time.monotonic() - paused_at
    counted = coordinator.heartbeat.last_send
    own_kafka.resume()

    assert shut_after <= 2.6
    assert counted > paused_at
    until(lambda: member.consumer.may_send_until() > time.monotonic() + 1.0, "the fence to open again")
    assert member.failure is None
    cluster.close()


def test_an_answer_that_ends_the_membership_is_reported_before_kafka_python_acts(
    real_cluster: RealCluster, join: Join
) -> None:
    member = join(real_cluster)
    coordinator: Any = member.consumer._consumer._coordinator
    states: list[object] = []
    member.at_loss = lambda: states.append(coordinator.rejoining)

    real_cluster.expel(member)
    until(lambda: states, "the loss")

    assert states == [False]


def test_a_future_that_another_thread_completes_wakes_the_loop_at_once(consumer: KafkaConsumer) -> None:
    future: Future[None] = Future()
    began = time.monotonic()
    threading.Timer(0.1, future.set_result, [None]).start()

    done = consumer._net.run(kafka_private_parts.wait_until_done, consumer, future, 10.0)

    assert done
    assert time.monotonic() - began < 0.5


def test_a_future_that_nobody_completes_is_left_after_its_time(consumer: KafkaConsumer) -> None:
    assert not consumer._net.run(kafka_private_parts.wait_until_done, consumer, Future(), 0.1)


def test_a_join_that_ended_between_two_polls_is_finished(
    real_cluster: RealCluster, consumer: KafkaConsumer
) -> None:
    """As when metadata arrives while the group is joined: without the remedy this consumer would never own anything again."""
    consumer.subscribe([f"commands{real_cluster.tag}"])
    until(lambda: polled(consumer) and consumer.assignment(), "the assignment")
    coordinator: Any = consumer._coordinator
    coordinator._assignment_snapshot = {}
    consumer.poll(timeout_ms=0)
    until(
        lambda: coordinator._join_task is not None and coordinator._join_task.is_done, "a join without a poll"
    )

    forgotten = not coordinator.need_rejoin()
    unfinished = kafka_private_parts.finish_join(consumer)
    until(lambda: polled(consumer) and not kafka_private_parts.finish_join(consumer), "the join's end")

    assert forgotten
    assert unfinished
    assert consumer.group_metadata().state == "<stable>"


def test_parked_records_are_forgotten_without_the_remedy(
    real_cluster: RealCluster, consumer: KafkaConsumer
) -> None:
    first, second = (TopicPartition(f"commands{real_cluster.tag}", partition) for partition in (0, 1))
    consumer.assign([first, second])
    consumer.seek(first, 0)
    consumer.seek(second, 0)
    real_cluster.produce(0, *(b"%d" % number for number in range(20)))
    until(lambda: consumer.poll(timeout_ms=50, max_records=5), "the first records")
    consumer.pause(first)
    real_cluster.produce(1, b"x")
    until(lambda: consumer.poll(timeout_ms=50, max_records=5), "the other partition's record")
    consumer.resume(first)

    without = [consumer.poll(timeout_ms=20, max_records=5) for _ in range(10)]
    kafka_private_parts.release_parked(consumer)
    records = consumer.poll(timeout_ms=1000, max_records=5)

    assert not any(without)
    assert [record.offset for record in records[first]] == [5, 6, 7, 8, 9]


def test_the_count_of_partitions_is_known_without_asking(
    real_cluster: RealCluster, consumer: KafkaConsumer
) -> None:
    before = kafka_private_parts.known_partitions(consumer, f"commands{real_cluster.tag}")
    consumer.subscribe([f"commands{real_cluster.tag}"])

    until(
        lambda: kafka_private_parts.known_partitions(consumer, f"commands{real_cluster.tag}") == 2, "metadata"
    )

    assert before is None


def test_a_client_that_cannot_be_made_leaves_no_thread_behind(
    real_cluster: RealCluster,
) -> None:
    options = real_cluster.options(
        "lonely", bootstrap_servers="127.0.0.1:1", common={"bootstrap_timeout_ms": 200}
    )
    before = io_threads()

    for kind, arguments in (
        (KafkaConsumer, consumer_arguments(options)),
        (KafkaProducer, producer_arguments(options)),
    ):
        with pytest.raises(errors.KafkaTimeoutError):
            kafka_private_parts.open_client(kind, arguments)  # type: ignore[type-var]

    until(lambda: io_threads() <= before, "its thread to end", 5)


def test_a_commit_is_sent_although_connections_cannot_be_made_for_a_while(real_cluster: RealCluster) -> None:
    """kafka-python's sender forgets a request whose coordinator cannot be connected: the commit would wait for ever."""
    with Proxy() as way:
        options = real_cluster.options("a", common={"proxy_url": way.url})
        producer = kafka_private_parts.open_client(KafkaProducer, producer_arguments(options))
        producer.init_transactions()
        for _ in range(3):
            producer.begin_transaction()
            producer.send(f"outcomes{real_cluster.tag}", value=b"x", partition=0).get(10)
            way.status = 503
            way.cut()
            way.asked.clear()
            commit = kafka_private_parts.begin_commit(producer)
            until(lambda: len(way.asked) >= 3, "some attempts to connect")
            way.status = 0

            assert commit.wait(10.0)
        kafka_private_parts.discard(producer, 1.0)


def test_an_answer_can_be_waited_for_in_parts(producer: KafkaProducer) -> None:
    producer.begin_transaction()
    commit = kafka_private_parts.begin_commit(producer)

    assert commit.wait(0.0) in (False, True)
    assert commit.wait(10.0)


def test_what_is_appended_leaves_with_the_flush_whatever_the_linger(
    real_cluster: RealCluster,
) -> None:
    """Without the flush it would wait for ``linger_ms``, which is longer than the test waits."""
    arguments = producer_arguments(real_cluster.options("b"))
    producer = KafkaProducer(**{**arguments, "linger_ms": 40_000, "delivery_timeout_ms": 60_000})
    try:
        producer.init_transactions()
        topic = f"outcomes{real_cluster.tag}"
        assert kafka_private_parts.partition_count(producer, topic, 10.0) > 1
        producer.begin_transaction()
        places = [TopicPartition(topic, partition) for partition in (0, 1)]
        kafka_private_parts.begin_partitions(producer, places)
        sent = [
            result
            for place in places
            for result in append(producer, place, [record_of(value) for value in (b"one", b"two", b"three")])
        ]
        with kafka_private_parts.flushing(producer):
            accumulator: Any = producer._accumulator
            accumulator.begin_flush()  # as the producer does when it aborts, and never ends
            for result in sent:
                result.get(20.0)
        assert not accumulator.flush_in_progress()
        assert kafka_private_parts.begin_commit(producer).wait(20.0)
    finally:
        kafka_private_parts.discard(producer, 1.0)

    assert [record.value for record in real_cluster.outcomes(1)] == [b"one", b"two", b"three"]


def test_a_batch_that_the_broker_finds_too_large_is_split_and_each_half_is_written(kafka: Running) -> None:
    """kafka-python splits it and binds the results to the halves: they are waited for, not the batch that is never answered."""
    cluster = RealCluster(kafka.bootstrap_servers, configs={"max.message.bytes": "4000"})
    topic = f"outcomes{cluster.tag}"
    arguments = producer_arguments(cluster.options("b"))
    producer = KafkaProducer(**{**arguments, "batch_size": 100_000, "compression_type": None})
    values = [bytes([65 + number]) * 1000 for number in range(7)]
    try:
        producer.init_transactions()
        assert kafka_private_parts.partition_count(producer, topic, 10.0) > 1
        producer.begin_transaction()
        place = TopicPartition(topic, 1)
        kafka_private_parts.begin_partitions(producer, [place])
        sent = append(producer, place, [record_of(value) for value in values])
        with kafka_private_parts.flushing(producer):
            for result in sent:
                result.get(20.0)
        assert kafka_private_parts.begin_commit(producer).wait(20.0)
    finally:
        kafka_private_parts.discard(producer, 1.0)

    assert [record.value for record in cluster.outcomes(1)] == values
    cluster.close()


def test_an_error_within_a_transaction_is_known_though_the_next_method_hides_it(
    real_cluster: RealCluster, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    producer.begin_transaction()
    offsets = {TopicPartition(f"commands{real_cluster.tag}", 0): _offset("x" * 5000)}
    metadata = consumer.group_metadata()._replace(group_id=f"workers{real_cluster.tag}")

    with pytest.raises(errors.KafkaError):
        kafka_private_parts.begin_offsets(producer, offsets, metadata).wait(10.0)

    assert kafka_private_parts.is_broken(producer)
    assert "OffsetMetadataTooLargeError" in repr(kafka_private_parts.error_of(producer))


def test_offsets_of_an_aborted_transaction_are_not_sent_with_the_next(
    real_cluster: RealCluster, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    """They would set back a partition that has moved to another process in between."""
    first, second = (TopicPartition(f"commands{real_cluster.tag}", partition) for partition in (0, 1))
    nobody = consumer.group_metadata()
    producer.begin_transaction()
    zombie = nobody._replace(generation_id=7, member_id="zombie")
    refused = kafka_private_parts.begin_offsets(
        producer, {first: _offset("old"), second: _offset("old")}, zombie
    )
    with pytest.raises(errors.CommitFailedError):
        refused.wait(10.0)
    kafka_private_parts.begin_abort(producer).wait(10.0)

    producer.begin_transaction()
    kafka_private_parts.begin_offsets(producer, {second: _offset("new")}, nobody).wait(10.0)
    kafka_private_parts.begin_commit(producer).wait(10.0)

    assert real_cluster.committed(1) == (1, "new")
    assert real_cluster.committed(0) is None


def test_a_producer_can_be_discarded_in_mid_transaction_while_the_broker_hangs(
    own_kafka: EmbeddedKafka,
) -> None:
    cluster = RealCluster(own_kafka.bootstrap_servers)
    producer = KafkaProducer(**producer_arguments(cluster.options("a")))
    producer.init_transactions()
    producer.begin_transaction()
    producer.partitions_for(f"outcomes{cluster.tag}")
    own_kafka.pause()
    producer.send(f"outcomes{cluster.tag}", value=b"never", partition=0)
    sender = producer._sender
    began = time.monotonic()

    kafka_private_parts.discard(producer, 1.0)

    took = time.monotonic() - began
    own_kafka.resume()
    until(lambda: not sender.is_alive(), "its thread to end")
    cluster.close()
    assert took < 4.0


def test_an_identity_that_was_lost_is_nobodys_and_the_broker_would_take_it(
    real_cluster: RealCluster, consumer: KafkaConsumer, producer: KafkaProducer
) -> None:
    """Why `group_metadata` gives no identity without a generation: with it, a zombie's transaction is not checked at all."""
    join_and_lose = consumer.group_metadata()
    producer.begin_transaction()
    offsets = {TopicPartition(f"commands{real_cluster.tag}", 0): _offset("nobody's")}

    accepted = kafka_private_parts.begin_offsets(producer, offsets, join_and_lose).wait(10.0)
    kafka_private_parts.begin_commit(producer).wait(10.0)

    assert (join_and_lose.generation_id, join_and_lose.member_id) == (-1, "")
    assert accepted
    assert real_cluster.committed(0) == (1, "nobody's")


def _offset(metadata: str) -> Any:
    return OffsetAndMetadata(1, metadata, -1)


@pytest.mark.parametrize(
    "shortage", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_a_machine_that_has_no_descriptor_or_thread_left_is_a_passing_trouble(
    kafka: Running, monkeypatch: pytest.MonkeyPatch, shortage: Exception
) -> None:
    def short(*_: object, **__: object) -> None:
        raise shortage

    monkeypatch.setattr(NetworkSelector, "__init__", short)

    with pytest.raises(errors.KafkaConnectionError) as raised:
        kafka_private_parts.open_client(KafkaConsumer, {"bootstrap_servers": kafka.bootstrap_servers}, dict)

    assert isinstance(raised.value, TRANSIENT)
    assert str(shortage) in str(raised.value)


class Selfish(CooperativeStickyAssignor):
    """The leader's assignor in a program of somebody else: it gives all to itself, and leaves the others out."""

    def assign(self, cluster: Any, members: list[Any]) -> Any:
        theirs: Any = super()
        return theirs.assign(cluster, [each for each in members if each.member_id.startswith("stranger")])


def test_a_member_that_a_foreign_leader_leaves_out_waits_for_its_partitions(
    real_cluster: RealCluster, join: Join
) -> None:
    """Each replica ended: "the consumer has ended: error('unpack requires a buffer of 2 bytes')"."""
    options = real_cluster.options("a")
    stop, leads = threading.Event(), threading.Event()
    selfish: Any = Selfish

    def lead() -> None:
        stranger = KafkaConsumer(
            options.command_topic,
            bootstrap_servers=real_cluster.bootstrap_servers,
            group_id=options.group_id,
            client_id="stranger",
            metadata_max_age_ms=500,  # it may join before it knows the new topic
            enable_auto_commit=False,
            partition_assignment_strategy=[selfish()],
        )
        while not stop.is_set():
            stranger.poll(timeout_ms=50)
            if stranger.assignment():
                leads.set()
        stranger.close(autocommit=False)

    thread = threading.Thread(target=lead)
    thread.start()
    try:
        assert leads.wait(30.0)
        member = join(real_cluster, owns=None)
        until(lambda: member.consumer.may_send_until() > time.monotonic(), "that it is a member")
        assert member.owns()
    finally:
        stop.set()
        thread.join()

    until(lambda: member.owns(0, 1), "its partitions")
    assert member.failure is None
