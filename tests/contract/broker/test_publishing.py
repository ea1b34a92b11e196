# A transaction holds outcomes, dead letters and offsets together, or nothing of it is ever seen.

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from kafka import errors

from tests.contract.broker.kafka_fixture import (
    Member,
    RealCluster,
    outcome_for,
    record,
    transaction_of,
    until,
)
from worker.broker import kafka_private_parts
from worker.broker.publisher import Publisher
from worker.domain.contract.dead_letter_encoding import DeadLetter
from worker.domain.effects import OffsetCommit
from worker.domain.publish_results import Aborted, Fenced, MetadataRefused, Published

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import Cluster as Running
    from tests.contract.broker.conftest import Join
    from tests.contract.broker.kafka_fixture import Cluster

WITHIN = 20.0


def test_outcomes_dead_letters_offset_and_metadata_become_visible_together(
    cluster: Cluster, join: Join
) -> None:
    member = join(cluster)
    letter = DeadLetter(record(0, 6, b"{", key=b"room"), "commands", "commands-0-6", "bad_json", "no JSON")

    result = member.publish(
        transaction_of(
            [outcome_for(0, 5), outcome_for(1, 9)],
            {0: OffsetCommit(7, "AbC="), 1: OffsetCommit(8, "")},
            [letter],
        )
    )

    assert isinstance(result, Published)
    assert [each.key for each in cluster.outcomes(0)] == [b"room"]
    assert len(cluster.outcomes(1)) == 1
    assert [each.value for each in cluster.dead_letters()] == [b"{"]
    assert (cluster.committed(0), cluster.committed(1)) == ((7, "AbC="), (8, ""))


def test_an_outcome_keeps_partition_and_key_of_its_command(cluster: Cluster, join: Join) -> None:
    """And it carries its own headers."""
    member = join(cluster)

    member.publish(
        transaction_of(
            [outcome_for(1, 3, key=None), outcome_for(1, 4, command_id="ü", traceparent="00-1-2-01")],
            {1: OffsetCommit(5, "")},
        )
    )

    bare, traced = cluster.outcomes(1)
    assert bare.key is None
    assert list(bare.headers) == [("command_id", b"id-1-3"), ("status", b"succeeded")]
    assert dict(traced.headers)["command_id"] == "ü".encode()
    assert dict(traced.headers)["traceparent"] == b"00-1-2-01"
    assert msgspec.json.decode(traced.value or b"")["outcome_id"] == "commands-1-4"


def test_cloudevents_headers_are_there_only_by_the_setting(cluster: Cluster, join: Join) -> None:
    member = join(cluster, cloudevents_headers=True)

    member.publish_for(0, 1)

    headers = dict(cluster.outcomes(0)[0].headers)
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == b"commands-0-1"
    assert headers["ce_type"] == b"moderation.command.succeeded"


def test_offsets_alone_can_be_committed(cluster: Cluster, join: Join) -> None:
    member = join(cluster)

    result = member.publish(transaction_of([], {0: OffsetCommit(4, "Zg==")}))

    assert isinstance(result, Published)
    assert cluster.committed(0) == (4, "Zg==")


def test_nothing_is_published_for_a_partition_that_is_not_owned(cluster: Cluster, join: Join) -> None:
    join(cluster, "a")
    other = Member(cluster, cluster.options("b"))
    other.publisher.start()

    result = other.publish_for(0, 1)

    other.close()
    assert isinstance(result, Aborted)
    assert result.retry_soon
    assert not cluster.outcomes(0)


def test_a_result_from_an_earlier_ownership_is_not_published_in_the_next(
    cluster: Cluster, join: Join
) -> None:
    """In between another process may have redone it. The broker would not notice: the member's generation is a valid one."""
    member = join(cluster, begins=False)
    epochs = dict(member.epochs)
    cluster.expel(member)
    until(lambda: member.saw("lost"), "the loss")
    until(lambda: member.owns(0, 1) and member.epochs != epochs, "the next ownership")

    too_early = member.publish_for(0, 1)
    member.consumer.begin(0, 0, epochs[0])
    begun_for_the_old = member.publish_for(0, 1)
    member.consumer.begin(0, 0, member.epochs[0])
    begun = member.publish_for(0, 1)

    assert isinstance(too_early, Aborted)
    assert isinstance(begun_for_the_old, Aborted)
    assert isinstance(begun, Published)
    assert len(cluster.outcomes(0)) == 1


def test_results_of_an_aborted_transaction_can_be_sent_again_for_what_is_still_owned(
    cluster: Cluster, join: Join
) -> None:
    first = join(cluster, "a")
    join(cluster, "b", owns=None)
    until(lambda: len(first.consumer.partitions) == 1, "the rebalance")
    (kept,) = first.consumer.partitions
    both = transaction_of(
        [outcome_for(0, 1), outcome_for(1, 1)], {0: OffsetCommit(2, ""), 1: OffsetCommit(2, "")}
    )

    aborted = first.publish(both)
    again = first.publish_for(kept, 1)

    assert isinstance(aborted, Aborted)
    assert aborted.retry_soon
    assert isinstance(again, Published)
    assert [len(cluster.outcomes(partition)) for partition in (kept, 1 - kept)] == [1, 0]


def test_metadata_that_the_broker_refuses_aborts_and_the_next_transaction_passes(
    cluster: Cluster, join: Join
) -> None:
    member = join(cluster)
    outcomes = [outcome_for(0, 1), outcome_for(1, 1)]

    refused = member.publish(
        transaction_of(outcomes, {0: OffsetCommit(2, "x"), 1: OffsetCommit(2, "x" * 5000)})
    )
    passed = member.publish(
        transaction_of(outcomes, {0: OffsetCommit(2, "x"), 1: OffsetCommit(2, "x" * 4096)})
    )

    assert refused == MetadataRefused(1)
    assert isinstance(passed, Published)
    assert (len(cluster.outcomes(0)), len(cluster.outcomes(1))) == (1, 1)


def test_an_outcome_that_is_too_large_goes_without_its_history(cluster: Cluster, join: Join) -> None:
    member = join(cluster, record_bytes=20_000)
    large = outcome_for(0, 2, metadata={"x": "y" * 30_000})

    result = member.publish(transaction_of([outcome_for(0, 1), large], {0: OffsetCommit(3, "")}))

    assert isinstance(result, Published)
    values = [msgspec.json.decode(each.value or b"") for each in cluster.outcomes(0)]
    assert [(each["outcome_id"], "metadata" in each) for each in values] == [
        ("commands-0-1", False),
        ("commands-0-2", False),
    ]


@pytest.mark.parametrize("key_bytes", [1_000_000, 10_000_000])
def test_the_outcome_of_a_command_with_a_huge_key_goes_without_it(
    cluster: Cluster, join: Join, key_bytes: int
) -> None:
    """It fits nowhere with its key: the same transaction again, for ever, would stop all partitions."""
    member = join(cluster)

    result = member.publish(
        transaction_of([outcome_for(0, 1, b"k" * key_bytes), outcome_for(0, 2)], {0: OffsetCommit(3, "")})
    )

    assert isinstance(result, Published)
    huge, other = cluster.outcomes(0)
    assert (huge.key, other.key) == (None, b"room")
    assert dict(huge.headers)["x-key-omitted"] == b"%d" % key_bytes


def test_a_dead_letter_that_is_too_large_is_cut_down_and_goes(cluster: Cluster, join: Join) -> None:
    member = join(cluster, record_bytes=20_000)
    huge = DeadLetter(
        record(0, 1, b"z" * 30_000, key=b"room"), "commands", "commands-0-1", "too_large", "too large"
    )

    result = member.publish(transaction_of([], {0: OffsetCommit(2, "")}, [huge]))

    assert isinstance(result, Published)
    (letter,) = cluster.dead_letters()
    assert letter.key == b"room"
    assert dict(letter.headers)["x-value-omitted"] == b"30000"


def test_a_second_process_of_the_same_name_fences_the_first(cluster: Cluster, join: Join) -> None:
    first = join(cluster, "same")
    second = Member(cluster, cluster.options("same"))
    second.publisher.start()

    result = first.publish_for(0, 1)

    second.close()
    assert isinstance(result, Fenced)
    assert not cluster.outcomes(0)


def test_only_one_transaction_at_a_time(cluster: Cluster, join: Join) -> None:
    member = join(cluster)

    first = member.publishing(transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "")}))
    with pytest.raises(RuntimeError, match="already"):
        member.publish_for(0, 2)

    assert isinstance(first.result(30), Published)


@pytest.mark.kafka
@pytest.mark.parametrize("compression", [None, "lz4"])
def test_a_smaller_limit_of_the_broker_is_logged_once_and_kept_to(
    kafka: Running, join: Join, compression: str | None
) -> None:
    """``max.message.bytes`` was lowered under a running worker. All goes, with as little left out as that takes."""
    cluster = RealCluster(
        kafka.bootstrap_servers, configs={"max.message.bytes": "10000", "compression.type": "producer"}
    )
    member = join(cluster, producer={"compression_type": compression})
    noise = random.Random(1)
    outcomes = [
        outcome_for(0, offset, metadata={"x": noise.randbytes(15_000 if offset % 9 == 0 else 500).hex()})
        for offset in range(1, 60)
    ]
    letters = [DeadLetter(record(0, 61, noise.randbytes(30_000)), "commands", "commands-0-61", "x", "y")]
    transaction = transaction_of(outcomes, {0: OffsetCommit(62, "")}, letters)

    results = [member.publish(transaction)]
    while not isinstance(results[-1], Published):
        assert len(results) < 4
        results.append(member.publish(transaction))
    again = member.publish(transaction_of(outcomes, {0: OffsetCommit(63, "")}))

    logged = [
        str(each.fields["topic"]) for each in member.notices if each.event == "kafka.record_limit_lowered"
    ]
    assert sorted(logged) == sorted({*logged})
    assert isinstance(again, Published)
    assert len(cluster.outcomes(0)) == 2 * len(outcomes)
    cluster.close()


@pytest.mark.kafka
def test_a_zombie_with_the_identity_of_an_older_generation_publishes_nothing(
    real_cluster: RealCluster, join: Join, members: list[Member]
) -> None:
    """The broker's own check: even when the process has not noticed anything."""
    first = join(real_cluster, "a")
    claim = first.consumer.claim([0, 1])
    stale = first.consumer.group_metadata(claim)
    join(real_cluster, "b", owns=None)
    until(lambda: len(first.consumer.partitions) == 1, "the rebalance")
    zombie = Member(real_cluster, real_cluster.options("zombie"))
    members.append(zombie)
    zombie.publisher = real_cluster.publisher(zombie, _Frozen(claim, stale))
    zombie.publisher.start()

    result = zombie.publish(transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "")}))

    assert isinstance(result, Aborted)
    assert result.retry_soon
    assert not real_cluster.outcomes(0)
    assert real_cluster.committed(0) is None


@pytest.mark.kafka
@pytest.mark.parametrize("stands_still", ["before its commit", "in its commit"])
def test_a_zombie_that_goes_on_does_not_end_the_process_that_has_its_name_now(
    real_cluster: RealCluster, join: Join, monkeypatch: pytest.MonkeyPatch, stands_still: str
) -> None:
    """It took the refusal for that of a transaction that is too old, opened a producer again, and so fenced its successor."""
    zombie, successor = join(real_cluster, "same"), Member(real_cluster, real_cluster.options("same"))
    assert isinstance(zombie.publisher, Publisher)
    assert isinstance(successor.publisher, Publisher)
    transaction = transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "")})
    begin_commit = kafka_private_parts.begin_commit
    monkeypatch.setattr(zombie.publisher, "_timed_out", lambda _: True)

    def stand_still(producer: Any) -> Any:
        monkeypatch.setattr(zombie.consumer, "may_send_until", lambda: 0.0)
        successor.publisher.start()
        if stands_still == "before its commit":
            raise errors.KafkaTimeoutError("the record was not answered")
        return begin_commit(producer)

    monkeypatch.setattr(kafka_private_parts, "begin_commit", stand_still)
    result = zombie.publishing(transaction)
    if stands_still == "before its commit":
        assert isinstance(result.result(WITHIN), Aborted)
        result = zombie.publishing(transaction)
    else:
        time.sleep(1.0)
    zombie.consumer._ownership.ended()

    try:
        assert isinstance(result.result(WITHIN), Aborted)
        producer = successor.publisher._producer
        assert producer is not None
        producer.begin_transaction()
        producer.send(successor.options.outcome_topic, b"{}", partition=0).get(WITHIN)
        producer.commit_transaction()
    finally:
        successor.publisher.close(WITHIN)


@pytest.mark.kafka
def test_a_handover_while_the_topic_is_made_again_commits_nothing_in_the_new_one(
    real_cluster: RealCluster, join: Join
) -> None:
    """
    Kafka had dropped the group's offsets with the topic. The old one was written again, and what the new topic had below it was
    never read.
    """
    member = join(real_cluster)
    real_cluster.produce(0, b"a")
    assert isinstance(member.publish_for(0, 0), Published)
    made_again = threading.Event()
    results: list[object] = []

    def hand_over(_: Sequence[int]) -> None:
        made_again.wait(10)
        results.append(member.publish(transaction_of([], {0: OffsetCommit(1, "")})))

    member.handover = hand_over
    topic = member.options.command_topic
    real_cluster.admin.delete_topics([topic])
    until(lambda: member.saw("revoked"), "the handover")
    real_cluster.admin.create_topics(
        {topic: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True
    )
    made_again.set()
    until(lambda: results, "the end of the handover")

    assert isinstance(results[0], Aborted)
    assert not results[0].retry_soon
    assert real_cluster.committed(0) is None


class _Frozen:
    """What a process believes that was stopped, and goes on."""

    def __init__(self, claim: object, metadata: object) -> None:
        self._claim = claim
        self._metadata = metadata

    def claim(self, _: object) -> object:
        return self._claim

    def group_metadata(self, _: object) -> object:
        return self._metadata

    def may_send_until(self) -> float:
        return 0.0

    def is_topic_gone(self) -> bool:
        return False
