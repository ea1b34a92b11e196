# Looking commands up in Kafka: outcomes, newest first, and commands that have none yet.

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from tests.contract.broker.kafka_fixture import KAFKA_AWAY, outcome_for, transaction_of, until
from worker.broker.command_history import FIRST_STEP, CommandHistory
from worker.broker.topic_admin import inspect
from worker.domain.effects import OffsetCommit
from worker.domain.progress.commit_metadata import encode, label
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.broker.conftest import Join
    from tests.contract.broker.kafka_fixture import RealCluster
    from worker.domain.contract.raw_records import Record

pytestmark = pytest.mark.kafka

HOUR = 3_600.0
Write = Callable[..., None]


@pytest.fixture
def write(real_cluster: RealCluster) -> Write:
    """Return a function that writes one outcome: ``write(partition, value, age)``, with the age in seconds."""

    def written(partition: int, value: bytes, age: float = 0.0) -> None:
        at = round((time.time() - age) * 1000)
        topic = f"outcomes{real_cluster.tag}"
        real_cluster.producer.send(topic, value=value, partition=partition, timestamp_ms=at).get(30)

    return written


@pytest.fixture
def history(real_cluster: RealCluster) -> Iterator[CommandHistory]:
    with CommandHistory(real_cluster.options("asker")) as opened:
        yield opened


def everything(_: bytes) -> bool:
    return True


def every_command(_: Record) -> bool:
    return True


def ago(seconds: float) -> float:
    return time.time() - seconds


def test_outcomes_of_all_partitions_come_newest_first(write: Write, history: CommandHistory) -> None:
    """Whether they are found in one step back or in different ones."""
    ages = [5 * HOUR, 3 * HOUR, 50 * 60, 10 * 60, 4 * 60, 30, 20, 10]
    for place, age in enumerate(ages):
        write(place % 2, b"%d" % age, age)

    found = list(history.outcomes(everything, ago(24 * HOUR), 100))

    assert found == [b"%d" % age for age in sorted(ages)]


def test_only_what_is_wanted_is_returned_and_nothing_older_than_asked_for(
    write: Write, history: CommandHistory
) -> None:
    for age in (3 * HOUR, HOUR, 10):
        write(0, b"wanted %d" % age, age)
        write(1, b"other %d" % age, age)

    found = list(history.outcomes(lambda value: value.startswith(b"wanted"), ago(2 * HOUR), 100))

    assert found == [b"wanted 10", b"wanted 3600"]


def test_a_time_has_an_end_and_what_lies_out_of_order_in_it_is_found(
    write: Write, history: CommandHistory
) -> None:
    """The clocks of two owners of a partition differ a little: one outcome of the time lies behind one from after it."""
    write(0, b"before", 3 * HOUR)
    write(0, b"in it", 2 * HOUR)
    write(0, b"after", HOUR)
    write(0, b"in it, late", HOUR + 5)
    write(1, b"long after", 10)

    since, until = ago(2.5 * HOUR), ago(HOUR + 2)
    found = list(history.outcomes(everything, since, 100, until=until))
    every = [value for batch in history.every_outcome(since, until=until) for value in batch]

    assert found == [b"in it, late", b"in it"]
    assert sorted(every) == [b"in it", b"in it, late"]


def test_every_outcome_with_the_bytes_looked_for_comes_once_in_order(
    real_cluster: RealCluster, history: CommandHistory
) -> None:
    """From all partitions, whose ends are reached one after another."""
    topic = f"outcomes{real_cluster.tag}"
    sent = [
        real_cluster.producer.send(topic, value=b"%d %s" % (number, b"odd" * (number % 2)), partition=place)
        for place, count in ((0, 3_000), (1, 40))
        for number in range(count)
    ]
    real_cluster.producer.flush(30)
    assert all(future.is_done for future in sent)

    odd = [value for batch in history.every_outcome(0.0, terms=[[b"odd", b"never"]]) for value in batch]
    every = [value for batch in history.every_outcome(0.0) for value in batch]

    assert (len(odd), len(every)) == (1_520, 3_040)
    numbers = [int(value.split()[0]) for value in odd]
    assert sorted(numbers) == sorted([*range(1, 3_000, 2), *range(1, 40, 2)])
    assert numbers.count(1) == 2


def test_no_more_is_returned_or_read_than_asked_for(real_cluster: RealCluster, write: Write) -> None:
    for age in range(10):
        write(age % 2, b"new %d" % age, age + 1)
        write(age % 2, b"old %d" % age, HOUR + age)
    read: list[int] = []

    with CommandHistory(real_cluster.options("asker"), lambda count, _: read.append(count)) as history:
        found = list(history.outcomes(everything, ago(24 * HOUR), 3))

    assert found == [b"new 0", b"new 1", b"new 2"]
    assert len(read) == 1, f"it went back further than {FIRST_STEP:.0f} s"


def test_the_first_is_returned_before_the_last_is_read(real_cluster: RealCluster, write: Write) -> None:
    write(0, b"new", 5)
    write(1, b"old", 5 * HOUR)
    backs: list[float] = []

    with CommandHistory(real_cluster.options("asker"), lambda _, back_to: backs.append(back_to)) as history:
        first = next(history.outcomes(everything, ago(24 * HOUR), 10))

    assert first == b"new"
    assert backs[-1] > ago(HOUR)


def writer_that_aborted(real_cluster: RealCluster, topic: str) -> KafkaProducer:
    """A transactional producer that has aborted a record in partition 0 of the topic."""
    producer = KafkaProducer(
        bootstrap_servers=real_cluster.bootstrap_servers, transactional_id=f"writer{real_cluster.tag}"
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, value=b"aborted", partition=0).get(30)
    producer.abort_transaction()
    return producer


def test_what_was_not_committed_never_happened(
    real_cluster: RealCluster, write: Write, history: CommandHistory
) -> None:
    topic = f"outcomes{real_cluster.tag}"
    producer = writer_that_aborted(real_cluster, topic)
    producer.begin_transaction()
    producer.send(topic, value=b"committed", partition=0).get(30)
    producer.commit_transaction()
    producer.begin_transaction()
    producer.send(topic, value=b"still open", partition=0).get(30)
    write(1, b"another")

    found = list(history.outcomes(everything, ago(HOUR), 100))

    assert set(found) == {b"another", b"committed"}
    producer.abort_transaction()
    producer.close(timeout=5)


def test_a_command_waits_until_it_is_below_the_commit_or_in_its_bitmap(
    real_cluster: RealCluster, history: CommandHistory, join: Join
) -> None:
    real_cluster.produce(0, b"below", b"first", b"in the bitmap", b"second")
    real_cluster.produce(1, b"third")
    member = join(real_cluster)
    topic = inspect(member.options).command
    assert topic is not None
    bitmap = encode(label(topic.name, topic.topic_id, 0), 1, 0b10)
    member.publish(transaction_of([outcome_for(0, 0), outcome_for(0, 2)], {0: OffsetCommit(1, bitmap)}))

    waiting = history.waiting(history.group_progress(), every_command, 100)

    assert [(each.record.value, each.ahead) for each in waiting] == [
        (b"first", 0),
        (b"second", 2),
        (b"third", 0),
    ]


def test_a_command_that_ends_after_it_was_asked_for_is_listed_as_it_was_then(
    real_cluster: RealCluster, history: CommandHistory, join: Join
) -> None:
    """Otherwise one that finishes between the two lookups would appear in neither."""
    real_cluster.produce(0, b"one")
    group_progress = history.group_progress()
    join(real_cluster).publish_for(0, 0)

    assert [each.record.value for each in history.waiting(group_progress, every_command, 100)] == [b"one"]
    assert list(history.waiting(history.group_progress(), every_command, 100)) == []


def test_what_a_producer_has_in_an_open_transaction_waits_too_and_comes_last(
    real_cluster: RealCluster, history: CommandHistory
) -> None:
    """Nobody must be undone or replayed past a command that only a transaction keeps from the worker."""
    topic = f"commands{real_cluster.tag}"
    producer = writer_that_aborted(real_cluster, topic)
    real_cluster.produce(0, b"first")
    producer.begin_transaction()
    producer.send(topic, value=b"in it", partition=0).get(30)
    real_cluster.produce(0, b"behind it")
    real_cluster.produce(1, b"elsewhere")

    found = [record.value for batch in history.unfinished() for record in batch]

    assert found == [b"first", b"elsewhere", b"in it", b"behind it"]
    producer.abort_transaction()
    producer.close(timeout=5)


def test_no_more_waiting_commands_are_listed_than_asked_for_and_only_those_wanted(
    real_cluster: RealCluster, history: CommandHistory
) -> None:
    real_cluster.produce(0, *(b"%d" % number for number in range(20)))

    waiting = history.waiting(history.group_progress(), lambda record: int(record.value or b"0") % 2 == 1, 3)

    assert [each.record.value for each in waiting] == [b"1", b"3", b"5"]


def test_the_commands_of_one_partition_do_not_hide_older_ones_of_another(
    real_cluster: RealCluster, history: CommandHistory
) -> None:
    real_cluster.produce(1, b"oldest")
    real_cluster.produce(0, *(b"%d" % number for number in range(5)))

    waiting = history.waiting(history.group_progress(), every_command, 2)

    assert [each.record.value for each in waiting] == [b"oldest", b"0"]


def test_of_deleted_commands_nothing_waits(real_cluster: RealCluster, history: CommandHistory) -> None:
    real_cluster.produce(0, b"gone", b"there")
    real_cluster.delete_before(0, 1)
    until(lambda: history.group_progress()[0].position == 1, "the deletion is known")

    assert [each.record.value for each in history.waiting(history.group_progress(), every_command, 10)] == [
        b"there"
    ]


def test_a_command_behind_an_open_transaction_is_listed_with_where_that_began(
    real_cluster: RealCluster, history: CommandHistory
) -> None:
    """It was reported as never received, while it was in the topic and waited for its producer."""
    topic = f"commands{real_cluster.tag}"
    producer = KafkaProducer(
        bootstrap_servers=real_cluster.bootstrap_servers, transactional_id=f"other{real_cluster.tag}"
    )
    producer.init_transactions()
    real_cluster.produce(0, b"before")
    producer.begin_transaction()
    producer.send(topic, value=b"in it", partition=0).get(30)
    real_cluster.produce(0, b"behind it")
    real_cluster.produce(1, b"beside it")

    during = history.waiting(history.group_progress(), every_command, 100)
    few = history.waiting(history.group_progress(), every_command, 3)
    producer.commit_transaction()
    producer.close(timeout=5)
    until(
        lambda: (
            len(history.waiting(history.group_progress(), lambda record: record.value == b"behind it", 9))
            == 1
        ),
        "it goes on",
    )
    after = history.waiting(history.group_progress(), every_command, 100)

    assert {(each.record.value, each.held_from) for each in during} == {
        (b"before", None),
        (b"beside it", None),
        (b"in it", 1),
        (b"behind it", 1),
    }
    assert [each.record.value for each in during[2:]] == [b"in it", b"behind it"]
    assert len(few) == 3
    assert {each.held_from for each in after} == {None}


def test_what_could_not_be_looked_at_is_known(
    real_cluster: RealCluster, write: Write, history: CommandHistory
) -> None:
    """Where something is gone or not looked at, nobody may say that a command never came."""
    nothing = history.search_gaps(ago(HOUR), history.group_progress())
    write(0, b"old", 3 * HOUR)
    write(1, b"new", 10)

    short, long = (history.search_gaps(ago(back), history.group_progress()) for back in (HOUR, 24 * HOUR))
    real_cluster.produce(0, b"gone", b"there")
    real_cluster.delete_before(0, 1)
    until(lambda: history.group_progress()[0].position == 1, "the deletion is known")
    cut = history.search_gaps(ago(HOUR), history.group_progress())

    assert (nothing.older, nothing.deleted, dict(nothing.skipped)) == (False, False, {})
    assert (short.older, long.older) == (True, False)
    assert dict(cut.skipped) == {0: (0, 1)}
    later = history.search_gaps(ago(-1), history.group_progress())
    assert (nothing.commands_deleted, cut.commands_deleted, later.commands_deleted) == (False, True, False)


def test_empty_topics_tell_nothing(history: CommandHistory) -> None:
    assert list(history.outcomes(everything, ago(HOUR), 10)) == []
    assert list(history.waiting(history.group_progress(), every_command, 10)) == []


def test_a_topic_that_is_not_there_is_named(real_cluster: RealCluster) -> None:
    options = real_cluster.options("asker", outcome_topic="nowhere", command_topic="never")

    with CommandHistory(options) as history:
        with pytest.raises(BrokerError, match="there is no topic nowhere"):
            list(history.outcomes(everything, ago(HOUR), 10))
        with pytest.raises(BrokerError, match="there is no topic never"):
            history.group_progress()


@KAFKA_AWAY
@pytest.mark.usefixtures("collected_sockets")
def test_a_kafka_that_is_away_is_an_error_that_can_be_tried_again(real_cluster: RealCluster) -> None:
    options = real_cluster.options(
        "asker", bootstrap_servers="127.0.0.1:1", common={"bootstrap_timeout_ms": 500}
    )

    with pytest.raises(BrokerError, match="Kafka cannot be reached at 127"):
        CommandHistory(options)
