# Partitions are assigned, begun, handed over and lost; records are delivered in order, and no faster than they are taken.

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import LogTruncationError

from tests.contract.broker.kafka_fixture import Member, outcome_for, transaction_of, until
from worker.domain.effects import OffsetCommit
from worker.domain.publish_results import Published
from worker.errors import FencedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.contract.broker.conftest import Join
    from tests.contract.broker.kafka_fixture import Cluster, RealCluster


def test_a_partition_is_silent_until_it_is_begun_and_then_begins_where_it_should(
    cluster: Cluster, join: Join
) -> None:
    cluster.produce(0, b"a", b"b", b"c")
    cluster.produce(1, b"other")
    member = join(cluster, begins=False)

    member.consumer.begin(1, 0, member.epochs[1])
    until(lambda: member.values(1), "the begun partition's record")
    silent = not member.values(0)
    member.consumer.begin(0, 1, member.epochs[0])
    until(lambda: len(member.values(0)) == 2, "the records from the given position on")

    assert silent
    assert member.values(0) == [b"b", b"c"]


def test_a_begin_for_an_ownership_that_is_over_is_ignored(cluster: Cluster, join: Join) -> None:
    cluster.produce(0, b"a")
    member = join(cluster, begins=False)
    old = dict(member.epochs)
    cluster.expel(member)
    until(lambda: member.owns(0, 1) and member.epochs != old, "the next ownership")

    member.consumer.begin(0, 0, old[0])
    member.consumer.begin(1, 0, member.epochs[1])
    cluster.produce(1, b"b")
    until(lambda: member.values(1), "the other partition's record")

    assert not member.values(0)
    assert member.consumer.claim([0]) is None


def test_no_more_batches_are_out_than_allowed_and_each_has_a_bounded_size(
    cluster: Cluster, join: Join
) -> None:
    cluster.produce(0, *(b"%d" % number for number in range(40)))
    member = join(cluster, takes=False, batch_records=5, batches_outstanding=2)

    until(lambda: len(member.batches) == 2, "two batches")
    cluster.produce(1, b"more")
    member.consumer.acknowledge()
    until(lambda: len(member.batches) == 3, "a third, after one was taken")
    held = len(member.records)
    member.takes = True
    member.consumer.acknowledge()
    member.consumer.acknowledge()
    until(lambda: len(member.records) == 41, "all")

    assert held <= 15
    assert max(member.batches) <= 5
    assert member.values(0) == [b"%d" % number for number in range(40)]


def test_a_full_listener_does_not_keep_the_group_from_moving_on(cluster: Cluster, join: Join) -> None:
    cluster.produce(0, *(b"%d" % number for number in range(40)))
    cluster.produce(1, *(b"%d" % number for number in range(40)))
    full = join(cluster, "a", takes=False, batch_records=5, batches_outstanding=1)
    until(lambda: full.batches, "a batch that is never taken")

    join(cluster, "b", owns=None)

    until(lambda: len(full.consumer.partitions) == 1, "the handover of one partition")
    assert len(full.batches) == 1


def test_a_pause_holds_one_partition_back_and_nothing_is_skipped_or_repeated(
    cluster: Cluster, join: Join
) -> None:
    member = join(cluster)
    cluster.produce(0, b"a")
    until(lambda: member.values(0) == [b"a"], "the first record")

    member.consumer.pause(0)
    cluster.produce(1, b"x")
    until(lambda: member.values(1) == [b"x"], "a record after the pause was seen")
    cluster.produce(0, b"b", b"c")
    cluster.produce(1, b"y")
    until(lambda: member.values(1) == [b"x", b"y"], "another partition's record")
    paused = member.values(0)
    member.consumer.resume(0)
    until(lambda: len(member.values(0)) == 3, "the rest")

    assert paused == [b"a"]
    assert member.values(0) == [b"a", b"b", b"c"]


def test_what_was_fetched_before_a_pause_comes_out_after_the_resume(cluster: Cluster, join: Join) -> None:
    """kafka-python parks it, and forgets it when other partitions are exhausted meanwhile."""
    member = join(cluster, batch_records=5, batches_outstanding=1, takes=False)
    cluster.produce(0, *(b"%d" % number for number in range(20)))
    until(lambda: member.values(0), "the first of what one fetch brought")
    member.consumer.pause(0)
    member.takes = True
    member.consumer.acknowledge()
    cluster.produce(1, b"x", b"y")
    until(lambda: len(member.values(1)) == 2, "another partition, until it is exhausted")

    member.consumer.resume(0)

    until(lambda: len(member.values(0)) == 20, "the rest", 10)
    assert member.values(0) == [b"%d" % number for number in range(20)]


def test_the_lag_and_the_count_of_partitions_are_known(cluster: Cluster, join: Join) -> None:
    cluster.produce(0, *(b"%d" % number for number in range(7)))
    member = join(cluster, batch_records=5, batches_outstanding=1, takes=False)

    until(lambda: member.consumer.lag(0) == 2, "a lag of two")

    assert member.consumer.partition_count() == 2


def test_a_partition_moves_only_after_its_handover_and_what_that_published_is_there(
    cluster: Cluster, join: Join
) -> None:
    first = join(cluster, "a")
    results: list[object] = []

    def finish(partitions: Sequence[int]) -> None:
        for partition in partitions:
            until(lambda: not second.saw("assigned"), "nothing to be given away yet", 1)
            results.append(first.publish_for(partition, 5))

    first.handover = finish
    second = join(cluster, "b", owns=None)
    until(lambda: second.restored, "the partition to be restored by its new owner")

    (moved,) = second.consumer.partitions
    assert [type(result) for result in results] == [Published]
    assert first.saw("revoked") == [(moved,)]
    assert not first.saw("lost")
    assert second.restored[moved].position == 6
    assert len(second.restored[moved].known) == 1


def test_a_handover_that_never_ends_is_given_up_after_its_time(cluster: Cluster, join: Join) -> None:
    never = threading.Event()
    first = join(cluster, "a", handover=0.2, handover_margin=0.1)

    def wait_for_ever(_: Sequence[int]) -> None:
        never.wait(30)

    first.handover = wait_for_ever

    second = join(cluster, "b", owns=None)
    until(lambda: second.saw("assigned"), "the partition to move all the same")

    (moved,) = second.consumer.partitions
    late = first.publish_for(moved, 1)
    never.set()
    assert not isinstance(late, Published)
    assert not cluster.outcomes(moved)


def test_closing_hands_over_everything_through_the_publisher(cluster: Cluster, join: Join) -> None:
    member = join(cluster)
    results: list[object] = []

    def finish(_: Sequence[int]) -> None:
        outcomes = [outcome_for(0, 1), outcome_for(1, 1)]
        results.append(
            member.publish(transaction_of(outcomes, {0: OffsetCommit(2, ""), 1: OffsetCommit(2, "")}))
        )

    member.handover = finish
    closed = member.consumer.close(20.0)

    assert closed
    assert [type(result) for result in results] == [Published]
    assert cluster.committed(0) == (2, "")
    assert member.owns()


def test_after_a_close_another_member_has_everything_at_once(cluster: Cluster, join: Join) -> None:
    first = join(cluster, "a")
    second = join(cluster, "b", owns=None)
    until(lambda: len(second.consumer.partitions) == 1, "its share")

    first.consumer.close(20.0)

    until(lambda: second.owns(0, 1), "all partitions", 5)


def test_an_expelled_member_loses_its_partitions_without_a_handover_and_comes_back(
    cluster: Cluster, join: Join
) -> None:
    member = join(cluster)

    cluster.expel(member)
    until(lambda: member.saw("lost"), "the loss")
    until(lambda: len(member.saw("assigned")) > 1 and member.owns(0, 1), "the return")

    assert sorted(partition for lost in member.saw("lost") for partition in lost) == [0, 1]
    assert not member.saw("revoked")
    assert member.failure is None


def test_the_fence_is_ahead_while_the_broker_answers_and_shut_when_the_member_is_out(
    cluster: Cluster, join: Join
) -> None:
    outside = Member(cluster, cluster.options("never-joined"))
    member = join(cluster)
    first = member.consumer.may_send_until()
    until(lambda: member.consumer.may_send_until() > first, "the fence to move on")
    fences: list[float] = []
    member.at_loss = lambda: fences.append(member.consumer.may_send_until())

    cluster.expel(member)
    until(lambda: fences, "the loss")

    assert outside.consumer.may_send_until() == float("-inf")
    assert fences == [float("-inf")]


def test_a_static_member_id_that_another_process_takes_ends_this_one(cluster: Cluster, join: Join) -> None:
    first = join(cluster, "a", instance_id="pod-0")

    second = join(cluster, "b", owns=None, instance_id="pod-0")
    until(lambda: first.failure is not None, "the end of the first")

    assert isinstance(first.failure, FencedError)
    assert first.consumer.close(10.0)
    assert not first.saw("revoked")
    until(lambda: second.owns(0, 1), "the second to have everything")


@pytest.mark.kafka
def test_a_membership_that_ends_within_a_rebalance_is_a_loss(real_cluster: RealCluster, join: Join) -> None:
    """The member joins again with what it believes to own, and may be given it: to kafka-python nothing has changed."""
    first = join(real_cluster, "a")
    slow = join(real_cluster, "b", owns=None)
    until(
        lambda: len(first.consumer.partitions) == len(slow.consumer.partitions) == 1, "a fair share for both"
    )
    (kept,) = first.consumer.partitions
    until(lambda: slow.consumer.claim(slow.consumer.partitions), "the second to have begun")
    until(lambda: first.consumer.claim([kept]), "the first to have begun")
    claim = first.consumer.claim([kept])
    assert claim is not None
    goes_on = threading.Event()

    def hold_up() -> None:
        goes_on.wait(20)

    slow.at_records = hold_up
    real_cluster.produce(1 - kept, b"holds up the poll thread, and so the rebalance")
    third = join(real_cluster, "c", owns=None)
    coordinator = first.consumer._consumer._coordinator
    until(lambda: coordinator.rejoining, "the first to wait for the join to end")

    real_cluster.expel(first)
    until(lambda: first.saw("lost"), "the loss")
    goes_on.set()
    everyone = (first, slow, third)
    until(lambda: sum(len(each.consumer.partitions) for each in everyone) == 2, "all partitions to be owned")

    assert first.saw("lost") == [(kept,)]
    assert first.consumer.group_metadata(claim) is None


@pytest.mark.kafka
def test_an_offset_out_of_range_is_reported_and_goes_on_from_the_earliest(
    real_cluster: RealCluster, join: Join
) -> None:
    real_cluster.produce(0, *(b"%d" % number for number in range(10)))
    member = join(real_cluster, begins=False)
    real_cluster.delete_before(0, 6)

    member.consumer.begin(0, 2, member.epochs[0])
    until(lambda: len(member.values(0)) == 4, "what is left")

    assert member.saw("out_of_range") == [(0, 2, 6)]
    assert member.values(0) == [b"6", b"7", b"8", b"9"]


@pytest.mark.kafka
def test_truncations_of_partitions_that_are_found_one_by_one_are_all_reported(
    real_cluster: RealCluster, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python said the second from a call that handled the first, and the consumer ended."""
    real_cluster.produce(0, b"a")
    member = join(real_cluster)
    until(lambda: member.values(0) == [b"a"], "the first record")
    found = deque(
        LogTruncationError({TopicPartition(member.options.command_topic, partition): None})
        for partition in (0, 1, 1)
    )
    poll: Any = KafkaConsumer.poll
    position: Any = KafkaConsumer.position

    def polled(*args: Any, **kwargs: Any) -> Any:
        if len(found) in {3, 1}:
            raise found.popleft()
        return poll(*args, **kwargs)

    def positioned(*args: Any, **kwargs: Any) -> Any:
        if len(found) == 2:
            raise found.popleft()
        return position(*args, **kwargs)

    monkeypatch.setattr(KafkaConsumer, "position", positioned)
    monkeypatch.setattr(KafkaConsumer, "poll", polled)
    until(lambda: len(member.saw("out_of_range")) == 2, "both to be reported")
    real_cluster.produce(1, b"b")
    until(lambda: member.values(1) == [b"b"], "the other partition to go on")

    assert [partition for partition, _, _ in member.saw("out_of_range")] == [0, 1]


@pytest.mark.kafka
def test_a_count_of_partitions_that_changes_is_noticed(real_cluster: RealCluster, join: Join) -> None:
    member = join(real_cluster, consumer={"metadata_max_age_ms": 500})
    until(lambda: member.consumer.partition_count() == 2, "the count")

    real_cluster.add_partitions(3)

    until(lambda: member.consumer.partition_count() == 3, "the new count")


@pytest.mark.kafka
def test_the_position_passes_what_a_producers_transactions_leave_behind(
    real_cluster: RealCluster, join: Join
) -> None:
    """A marker behind each transaction, and everything aborted: offsets for which no record is ever delivered."""
    member = join(real_cluster)
    producer = KafkaProducer(
        bootstrap_servers=real_cluster.bootstrap_servers, transactional_id=f"theirs{real_cluster.tag}"
    )
    producer.init_transactions()
    for value, ends in ((b"kept", producer.commit_transaction), (b"gone", producer.abort_transaction)):
        producer.begin_transaction()
        producer.send(member.options.command_topic, value=value, partition=0).get(10)
        ends()  # type: ignore[no-untyped-call]
    producer.close()

    until(lambda: member.positions.get(0) == 4, "behind all of it")
    until(lambda: member.consumer.lag(0) == 0, "no lag")

    assert member.values(0) == [b"kept"]


def test_the_position_is_reported_after_the_records_below_it(cluster: Cluster, join: Join) -> None:
    """Reported before them, they would be taken for done."""
    member = join(cluster)
    reports: list[tuple[int, int]] = []
    reached = member.reached

    def heard(positions: Mapping[int, int]) -> None:
        reports.append((positions.get(0, 0), len(member.values(0))))
        reached(positions)

    member.reached = heard  # type: ignore[method-assign]
    for _ in range(20):
        cluster.produce(0, b"a", b"b")

    until(lambda: member.positions.get(0) == 40, "all positions")
    assert all(position <= received for position, received in reports)
