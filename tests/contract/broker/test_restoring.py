# What a new owner of a partition learns: where to begin, what is done above it, and the command ids of its outcomes.

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition

from tests.contract.broker.kafka_fixture import (
    Member,
    RealCluster,
    outcome_for,
    record,
    transaction_of,
    until,
)
from worker.broker.publisher import Publisher
from worker.domain.contract.dead_letter_encoding import DeadLetter, fit
from worker.domain.effects import OffsetCommit
from worker.domain.progress.commit_metadata import encode, label
from worker.errors import BrokerError, CommittedOffsetLostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.broker.conftest import Join
    from tests.contract.broker.kafka_fixture import (
        Cluster,
    )

ABSENT = "127.0.0.1:1"
"""Nobody listens there."""


def ids(member: Member, partition: int) -> list[str]:
    """Return the ids that its restoration found, in order."""
    return [json.loads(known.command_id)["command_id"] for known in member.restorer.restore(partition).known]


def publish_each(member: Member, partition: int, offsets: range) -> None:
    """Publish each outcome in its own transaction, so that a marker follows each."""
    for offset in offsets:
        member.publish_for(partition, offset)


def test_the_committed_position_and_its_bitmap_come_back(cluster: Cluster, join: Join) -> None:
    member = join(cluster)
    text = encode(label(member.options.command_topic, None, 0), 5, 0b1011)
    member.publish(transaction_of([outcome_for(0, 3)], {0: OffsetCommit(5, text)}))

    restored = member.restorer.restore(0)

    assert (restored.position, restored.done, restored.fresh, restored.foreign) == (5, 0b1011, False, None)


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [("AQAAAZrJQvWA", "AQAAAZrJQvWA"), ("a plain\nword", r"a plain\nword"), ("x" * 4000, "x" * 32)],
    ids=["Kafka Streams", "a word", "long"],
)
def test_metadata_of_another_program_skips_nothing_and_is_logged(
    cluster: Cluster, join: Join, metadata: str, shown: str
) -> None:
    """It was believed where it happened to be base64: commands vanished without a word."""
    member = join(cluster)
    member.publish(transaction_of([], {0: OffsetCommit(5, metadata)}))

    restored = member.restorer.restore(0)

    assert (restored.position, restored.done, restored.fresh, restored.foreign) == (5, 0, False, shown)


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


def test_what_is_older_than_the_window_is_not_restored(cluster: Cluster, join: Join) -> None:
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

    assert (restored.position, restored.done, restored.fresh) == (position, 0, True)


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

    found = [notice.fields for notice in member.noticed("kafka.no_committed_offset")]
    assert [(each["partition"], each["records"]) for each in found] == [(0, 3)]
    age = found[0]["oldest_age_seconds"]
    assert isinstance(age, float)
    assert 0 <= age < 60
    assert [notice.level for notice in member.noticed("kafka.partition_empty")] == ["info"]


@pytest.mark.kafka
def test_a_start_before_nothing_but_aborted_records_does_not_wait_for_a_first_one(
    real_cluster: RealCluster, join: Join
) -> None:
    """Each partition waited 30 s for it, two at a time: a topic of 64 would have taken a quarter of an hour."""
    member = join(real_cluster, begins=False)
    began = time.monotonic()
    topic = member.options.command_topic
    with open_transaction(real_cluster, "aborting", timeout=60.0, topic=topic) as producer:
        producer.abort_transaction()

    assert member.restorer.restore(0).position == 0

    assert time.monotonic() - began < 15.0
    (event,) = member.noticed("kafka.no_committed_offset")
    assert event.fields["oldest_age_seconds"] is None


@pytest.mark.kafka
def test_the_last_transaction_is_not_missed_while_a_dead_owners_is_still_open(
    real_cluster: RealCluster, join: Join
) -> None:
    """The outcome is above the dead owner's open transaction: a read_committed end of the topic is below it."""
    member = join(real_cluster)
    began = time.monotonic()
    with open_transaction(real_cluster, "dead", timeout=2.0):
        real_cluster.outcomes_written(0, b'{"command_id": "last"}')

        restored = ids(member, 0)

    assert restored == ["last"]
    assert time.monotonic() - began >= 1.0


@pytest.mark.kafka
def test_a_commit_during_a_restoration_counts_only_if_its_ids_are_known(
    real_cluster: RealCluster, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcomes are read after the offset: else an offset could stand above an outcome that nobody remembers."""
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

        restored = ids(member, 0)

    assert restored == []
    assert time.monotonic() - began < 20.0


@pytest.mark.kafka
def test_a_transaction_that_hangs_is_an_error_and_not_a_shorter_memory(
    real_cluster: RealCluster, join: Join
) -> None:
    member = join(real_cluster, begins=False, transaction_timeout=0.1)
    member.restorer._options = real_cluster.options("a", transaction_timeout=-14.0)
    with (
        open_transaction(real_cluster, "hanging", timeout=60.0),
        pytest.raises(BrokerError, match=r"^partition 0 cannot be restored: a transaction in .* stays open"),
    ):
        member.restorer.restore(0)

    (event,) = member.noticed("kafka.refused")
    topic = member.options.outcome_topic
    assert event.fields["reason"] == f"a transaction in {topic}[0] stays open, from offset 0 on"
    assert f"abort --topic {topic} --partition 0 --start-offset 0" in str(event.fields["remedy"])


@pytest.mark.kafka
def test_an_open_transaction_on_the_groups_offsets_is_named_with_its_remedy(
    real_cluster: RealCluster, join: Join
) -> None:
    member = join(real_cluster, begins=False)
    member.restorer._options = real_cluster.options("a", transaction_timeout=-14.0)
    group = member.options.group_id
    with open_transaction(real_cluster, "committing", timeout=60.0) as producer:
        place = TopicPartition(member.options.command_topic, 0)
        producer.send_offsets_to_transaction({place: OffsetAndMetadata(1, "", -1)}, group)

        with pytest.raises(
            BrokerError, match=r"^partition 0 cannot be restored: Kafka does not tell what is committed"
        ):
            member.restorer.restore(0)

    (event,) = member.noticed("kafka.refused")
    assert f"a transaction that commits for the group {group}" in str(event.fields["remedy"])


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
def open_transaction(
    cluster: RealCluster, transactional_id: str, timeout: float, topic: str | None = None
) -> Iterator[KafkaProducer]:
    """A process that has written an outcome (or to ``topic``) into partition 0, has not committed, and does nothing more."""
    producer = KafkaProducer(
        bootstrap_servers=cluster.bootstrap_servers,
        transactional_id=transactional_id,
        transaction_timeout_ms=round(timeout * 1000),
    )
    producer.init_transactions()
    producer.begin_transaction()
    topic = topic or f"outcomes{cluster.tag}"
    producer.send(topic, value=b'{"command_id": "uncommitted"}', partition=0).get(10)
    yield producer
    producer.close(timeout=0)


def _abandon_in_transaction(cluster: RealCluster, member: Member) -> threading.Event:
    """Leaves the member's next transaction open, with everything in it but the commit, as a kill would."""
    publisher: Any = member.publisher
    hold = threading.Event()
    filled = threading.Event()
    send_all = publisher._send_all

    def send_all_and_hang(*arguments: Any) -> None:
        send_all(*arguments)
        filled.set()
        hold.wait(30)
        raise RuntimeError("killed")

    publisher._send_all = send_all_and_hang
    assert isinstance(publisher, Publisher)
    member.publishing(transaction_of([outcome_for(0, 9)], {0: OffsetCommit(99, "")}))
    assert filled.wait(20)
    assert cluster.high_watermark("outcomes", 0) > 2
    return hold


def delete_offsets(cluster: RealCluster) -> None:
    """What a broker does by itself after ``offsets.retention.minutes``."""
    group = f"workers{cluster.tag}"
    places = [TopicPartition(f"commands{cluster.tag}", number) for number in range(cluster.partitions)]
    cluster.admin.delete_group_offsets(group, places)


@contextmanager
def lost(
    cluster: RealCluster, join: Join, done: tuple[int, ...], commands: int = 6, **changes: Any
) -> Iterator[Member]:
    """Make a partition with this many commands, of which these have outcomes, and whose commit is lost."""
    cluster.produce(0, *(f"id-0-{offset}".encode() for offset in range(commands)))
    first = join(cluster)
    for offset in done:
        first.publish_for(0, offset)
    first.consumer.close(10.0)
    delete_offsets(cluster)
    yield Member(cluster, cluster.options("b", **changes))


@pytest.mark.kafka
def test_after_its_commit_was_lost_a_partition_goes_on_behind_what_its_outcomes_tell(
    real_cluster: RealCluster, join: Join
) -> None:
    """Everything was carried out again, and each record had two outcomes."""
    with lost(real_cluster, join, (0, 1, 2, 3)) as heir:
        restored = heir.restorer.restore(0)

    assert (restored.position, restored.done, restored.fresh) == (4, 0, True)
    (notice,) = heir.noticed("kafka.commit_lost")
    assert (notice.fields["position"], notice.fields["records"]) == (4, 2)


@pytest.mark.kafka
@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_after_a_lost_commit_the_open_command_is_carried_out_and_nothing_else(
    real_cluster: RealCluster, join: Join, start: str
) -> None:
    with lost(real_cluster, join, (0, 3, 1), start=start) as heir:
        restored = heir.restorer.restore(0)

    assert (restored.position, restored.done, restored.fresh) == (2, 0b10, True)


@pytest.mark.kafka
def test_where_outcomes_were_deleted_too_a_person_decides_and_reads_how(
    real_cluster: RealCluster, join: Join
) -> None:
    with lost(real_cluster, join, (0, 1, 2, 3)) as heir:
        outcomes = TopicPartition(f"outcomes{real_cluster.tag}", 0)
        real_cluster.admin.delete_records({outcomes: 4})
        with pytest.raises(CommittedOffsetLostError) as caught:
            heir.restorer.restore(0)

    assert "nothing tells whether offset 0 was done" in str(caught.value)
    for part in (f"--group workers{real_cluster.tag}", f"--topic commands{real_cluster.tag}:0", "with 0 to"):
        assert part in caught.value.remedy
    assert "or 4 to take it for done" in caught.value.remedy


@pytest.mark.kafka
def test_outcomes_of_another_topic_of_that_name_are_not_taken_for_this_ones(
    real_cluster: RealCluster, join: Join
) -> None:
    with lost(real_cluster, join, ()) as heir:
        outcome = {"command_id": "theirs", "source": {"topic": heir.options.command_topic, "partition": 0}}
        outcome["source"]["offset"] = 2  # type: ignore[index]
        real_cluster.outcomes_written(0, json.dumps(outcome).encode())
        with pytest.raises(CommittedOffsetLostError, match="is not of the record that is there"):
            heir.restorer.restore(0)


@pytest.mark.kafka
def test_outcomes_of_another_place_prove_nothing_of_this_one_though_their_ids_are_known(
    real_cluster: RealCluster, join: Join
) -> None:
    """So the ids of two releases are kept apart by their outcome topics alone."""
    written = []
    with lost(real_cluster, join, ()) as heir:
        for source in (
            {"topic": "other", "partition": 0},
            {"topic": heir.options.command_topic, "partition": 1},
        ):
            outcome = json.dumps({"command_id": "theirs", "source": {**source, "offset": 2}})
            real_cluster.outcomes_written(0, outcome.encode())
            written.append(outcome)
        restored = heir.restorer.restore(0)

    assert (restored.position, restored.done, restored.fresh) == (0, 0, True)
    assert [known.command_id for known in restored.known] == written
    assert len(heir.noticed("kafka.no_committed_offset")) == 1


@pytest.mark.kafka
def test_a_record_without_a_readable_id_is_known_as_done_by_its_dead_letter(
    real_cluster: RealCluster, join: Join
) -> None:
    real_cluster.produce(0, b"id-0-0", b"?1", b"?2", b"id-0-3")
    first = join(real_cluster)
    first.publish_for(0, 0)
    topic = first.options.command_topic
    again = record(0, 1, b"?1", headers=[("x-value-sha256", b"of a letter that it was before")])
    letter = fit(DeadLetter(again, topic, f"{topic}-0-1", "not_json", "no JSON"), 100_000)
    foreign = [(name, b"1" * 5_000 if name == "x-source-offset" else value) for name, value in letter.headers]
    for headers in (letter.headers, foreign):
        real_cluster.producer.send(first.options.dead_letter_topic, value=b"?1", headers=headers).get(10)
    first.publish_for(0, 3)
    first.consumer.close(10.0)
    delete_offsets(real_cluster)

    restored = Member(real_cluster, real_cluster.options("b")).restorer.restore(0)

    assert (restored.position, restored.done) == (2, 0b10)


@pytest.mark.kafka
def test_beside_foreign_metadata_a_record_with_an_outcome_of_its_own_is_not_done_again(
    real_cluster: RealCluster, join: Join
) -> None:
    """A mirror that moves offsets keeps the metadata: read at another offset it skipped what was never done."""
    real_cluster.produce(0, *(f"id-0-{offset}".encode() for offset in range(8)))
    member = join(real_cluster)
    moved = encode(label(member.options.command_topic, None, 0), 5, 0b11)
    for offset in (0, 1, 2, 4):
        member.publish_for(0, offset)
    member.publish(
        transaction_of([outcome_for(0, 6, topic=member.options.command_topic)], {0: OffsetCommit(3, moved)})
    )

    restored = member.restorer.restore(0)

    assert (restored.position, restored.done, restored.foreign) == (3, 0b1010, moved[:32])
