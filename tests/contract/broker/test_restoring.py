# What a new owner of a partition is told: where to begin, what is done above it, and the command ids of its outcomes.

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, KafkaProducer

from tests.contract.broker.kafka_fixture import (
    Member,
    RealCluster,
    outcome_for,
    transaction_of,
    until,
)
from worker.broker.publisher import Publisher
from worker.domain.effects import OffsetCommit
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.broker.conftest import Join
    from tests.contract.broker.kafka_fixture import (
        Cluster,
    )

ABSENT = "127.0.0.1:1"
"""Nobody listens there."""


def ids(member: Member, partition: int) -> list[str]:
    """
    The ids that its restoration told, in the order told.
    """
    return [json.loads(known.command_id)["command_id"] for known in member.restorer.restore(partition).known]


def publish_each(member: Member, partition: int, offsets: range) -> None:
    """
    One transaction for each outcome, so that a marker stands behind each.
    """
    for offset in offsets:
        member.publish_for(partition, offset)


def test_the_committed_position_and_its_bitmap_come_back(cluster: Cluster, join: Join) -> None:
    member = join(cluster)
    member.publish(transaction_of([outcome_for(0, 3)], {0: OffsetCommit(5, "Zm9v")}))

    restored = member.restorer.restore(0)

    assert (restored.position, restored.metadata, restored.fresh) == (5, "Zm9v", False)


def test_the_outcomes_come_back_oldest_first_and_only_the_partitions_own(
    cluster: Cluster, join: Join
) -> None:
    member = join(cluster)
    publish_each(member, 0, range(3))
    publish_each(member, 1, range(1))

    assert ids(member, 0) == ["id-0-0", "id-0-1", "id-0-2"]


def test_records_are_counted_and_not_offsets_so_markers_do_not_shorten_the_memory(
    cluster: Cluster, join: Join
) -> None:
    member = join(cluster, restore_records=10)
    publish_each(member, 0, range(25))

    assert ids(member, 0) == [f"id-0-{offset}" for offset in range(15, 25)]


def test_what_is_older_than_the_window_is_not_told(cluster: Cluster, join: Join) -> None:
    member = join(cluster, restore_window=0.5)
    member.publish_for(0, 1)
    until(lambda: not ids(member, 0), "the outcome to be too old")
    member.publish_for(0, 2)

    assert ids(member, 0) == ["id-0-2"]


@pytest.mark.parametrize(("start", "position"), [("earliest", 0), ("latest", 3)])
def test_without_a_committed_offset_the_setting_decides(
    cluster: Cluster, join: Join, start: str, position: int
) -> None:
    cluster.produce(0, b"a", b"b", b"c")
    member = join(cluster, start=start)

    restored = member.restorer.restore(0)

    assert (restored.position, restored.metadata, restored.fresh) == (position, "", True)


def test_a_start_in_time_begins_with_the_first_record_since(cluster: Cluster, join: Join) -> None:
    cluster.produce(0, b"before")
    pause = threading.Event()
    pause.wait(0.02)
    since = datetime.now(UTC)
    pause.wait(0.02)
    cluster.produce(0, b"after")
    member = join(cluster, start=since)

    assert member.restorer.restore(0).position == 1
    assert member.restorer.restore(1).position == 0


@pytest.mark.kafka
def test_a_start_without_a_committed_offset_says_how_many_records_and_how_old(
    real_cluster: RealCluster, join: Join
) -> None:
    real_cluster.produce(0, b"a", b"b", b"c")
    member = join(real_cluster, begins=False)

    member.restorer.restore(0)
    member.restorer.restore(1)

    told = [notice.fields for notice in member.noticed("kafka.no_committed_offset")]
    assert [(each["partition"], each["records"]) for each in told] == [(0, 3), (1, 0)]
    age = told[0]["oldest_age_seconds"]
    assert isinstance(age, float)
    assert 0 <= age < 60
    assert told[1]["oldest_age_seconds"] is None


@pytest.mark.kafka
def test_the_last_transaction_is_not_missed_while_a_dead_owners_is_still_open(
    real_cluster: RealCluster, join: Join
) -> None:
    """
    The outcome stands above the dead owner's open transaction: a read_committed end of the topic is below it.
    """
    member = join(real_cluster)
    began = time.monotonic()
    with open_transaction(real_cluster, "dead", timeout=2.0):
        real_cluster.outcomes_written(0, b'{"command_id": "last"}')

        told = ids(member, 0)

    assert told == ["last"]
    assert time.monotonic() - began >= 1.0


@pytest.mark.kafka
def test_what_is_committed_while_a_partition_is_restored_is_below_its_position_only_if_its_id_is_known(
    real_cluster: RealCluster, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The outcomes are read after the offset: else an offset could stand above an outcome that nobody remembers.
    """
    member = join(real_cluster)
    member.publish_for(0, 0)
    committed: Any = KafkaConsumer.committed

    def just_before(reader: KafkaConsumer, *arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        member.publish_for(0, 1)
        return committed(reader, *arguments, **named)

    monkeypatch.setattr(KafkaConsumer, "committed", just_before)
    restored = member.restorer.restore(0)

    assert restored.position == 2
    assert len(restored.known) == 2


@pytest.mark.kafka
def test_what_a_dead_owner_did_not_commit_is_not_known_and_its_offset_does_not_count(
    real_cluster: RealCluster, join: Join, members: list[Member]
) -> None:
    first = join(real_cluster, "a")
    first.publish_for(0, 1)
    hold = _abandon_in_transaction(real_cluster, first)
    reader = Member(real_cluster, real_cluster.options("b"))
    members.append(reader)

    restored = reader.restorer.restore(0)

    hold.set()
    assert restored.position == 2
    assert len(restored.known) == 1


@pytest.mark.kafka
def test_a_successor_of_the_same_name_need_not_wait_for_the_transaction_to_time_out(
    real_cluster: RealCluster, join: Join
) -> None:
    options = real_cluster.options("same")
    with open_transaction(real_cluster, options.transactional_id, timeout=60.0):
        began = time.monotonic()
        member = join(real_cluster, "same")

        told = ids(member, 0)

    assert told == []
    assert time.monotonic() - began < 20.0


@pytest.mark.kafka
def test_a_transaction_that_hangs_is_an_error_and_not_a_shorter_memory(
    real_cluster: RealCluster, join: Join
) -> None:
    member = join(real_cluster, begins=False, transaction_timeout=0.1)
    member.restorer._options = real_cluster.options("a", transaction_timeout=-14.0)
    with (
        open_transaction(real_cluster, "hanging", timeout=60.0),
        pytest.raises(BrokerError, match="stays open"),
    ):
        member.restorer.restore(0)


@pytest.mark.kafka
def test_an_aborted_tail_does_not_keep_a_restoration_waiting(real_cluster: RealCluster, join: Join) -> None:
    member = join(real_cluster)
    member.publish_for(0, 1)
    with open_transaction(real_cluster, "aborting", timeout=60.0) as producer:
        producer.abort_transaction()

    assert ids(member, 0) == ["id-0-1"]


def test_when_kafka_cannot_be_reached_that_is_an_error_that_can_be_tried_again(
    cluster: Cluster, join: Join
) -> None:
    member = join(cluster)
    if isinstance(cluster, RealCluster):
        options = cluster.options("a", bootstrap_servers=ABSENT, common={"bootstrap_timeout_ms": 300})
        lonely = Member(cluster, options)
    else:
        cluster.kafka.away.set()  # type: ignore[attr-defined]
        lonely = member

    with pytest.raises(BrokerError):
        lonely.restorer.restore(0)

    if not isinstance(cluster, RealCluster):
        cluster.kafka.away.clear()  # type: ignore[attr-defined]


@contextmanager
def open_transaction(cluster: RealCluster, transactional_id: str, timeout: float) -> Iterator[KafkaProducer]:
    """
    A process that has written an outcome into partition 0, has not committed, and does nothing more.
    """
    producer = KafkaProducer(
        bootstrap_servers=cluster.bootstrap_servers,
        transactional_id=transactional_id,
        transaction_timeout_ms=round(timeout * 1000),
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(f"outcomes{cluster.tag}", value=b'{"command_id": "uncommitted"}', partition=0).get(10)
    yield producer
    producer.close(timeout=0)


def _abandon_in_transaction(cluster: RealCluster, member: Member) -> threading.Event:
    """
    Leaves the member's next transaction open, with everything in it but the commit, as a kill would.
    """
    publisher: Any = member.publisher
    hold = threading.Event()
    filled = threading.Event()
    fill = publisher._fill

    def fill_and_hang(*arguments: Any) -> None:
        fill(*arguments)
        filled.set()
        hold.wait(30)
        raise RuntimeError("killed")

    publisher._fill = fill_and_hang
    assert isinstance(publisher, Publisher)
    member.publishing(transaction_of([outcome_for(0, 9)], {0: OffsetCommit(99, "")}))
    assert filled.wait(20)
    assert cluster.high_watermark("outcomes", 0) > 2
    return hold
