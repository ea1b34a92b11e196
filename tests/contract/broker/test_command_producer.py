# Commands written for the command line: judged before, keyed by their target, in order, each acknowledged or named.

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.contract.broker.kafka_fixture import KAFKA_AWAY
from worker.broker.command_producer import (
    CommandProducer,
    OutgoingCommand,
    UnconfirmedCommand,
    WrittenCommand,
    prepare,
)
from worker.domain.contract.command_decoding import CommandDecoder
from worker.domain.contract.outcomes import Worker
from worker.domain.contract.placement_check import partition_of
from worker.domain.contract.rejections import Rejected
from worker.domain.engine_settings import EngineSettings
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.broker.kafka_fixture import RealCluster

pytestmark = pytest.mark.kafka

DECODER = CommandDecoder(EngineSettings("commands", 2, {"main": "admin"}, "main", Worker("w", "0")))


def prepared(number: int, target: str = "g", **changes: Any) -> OutgoingCommand | Rejected:
    fields = {
        "command_id": f"c-{number}",
        "action": "group.unban_group_member",
        "group_id": target,
        "user_ids": [f"u-{number}"],
    }
    return prepare(DECODER, json.dumps(fields | changes).encode())


def commands(count: int) -> Iterator[OutgoingCommand]:
    for number in range(count):
        made = prepared(number, f"g-{number % 7}")
        assert isinstance(made, OutgoingCommand)
        yield made


def written(cluster: RealCluster) -> dict[tuple[int, int], Any]:
    """Everything in the command topic, by partition and offset."""
    reader = KafkaConsumer(bootstrap_servers=cluster.bootstrap_servers, auto_offset_reset="earliest")
    places = [TopicPartition(f"commands{cluster.tag}", partition) for partition in range(cluster.partitions)]
    reader.assign(places)
    ends = reader.end_offsets(places)
    found: dict[tuple[int, int], Any] = {}
    while any(reader.position(place) < end for place, end in ends.items()):
        for batch in reader.poll(timeout_ms=500).values():
            found |= {(record.partition, record.offset): record for record in batch}
    reader.close(autocommit=False)
    return found


def test_each_command_is_where_its_result_says_keyed_by_its_target_and_in_order(
    real_cluster: RealCluster,
) -> None:
    progress: list[int] = []
    sent = list(commands(2_000))

    with CommandProducer(real_cluster.options("sender")) as producer:
        results = producer.produce(iter(sent), progress.append)

    found = written(real_cluster)
    assert len(found) == len(results) == 2_000
    offsets: dict[int, int] = {}
    for command, result in zip(sent, results, strict=True):
        assert isinstance(result, WrittenCommand)
        record = found[result.partition, result.offset]
        assert (record.value, record.key) == (command.value, command.key)
        assert result.partition == partition_of(command.key or b"", 2)
        assert result.offset > offsets.get(result.partition, -1)
        offsets[result.partition] = result.offset
    assert progress == sorted(progress)
    assert progress[-1] == 2_000


def test_what_the_worker_would_reject_cannot_be_sent() -> None:
    made = prepared(1, user_ids=["admin"])

    assert isinstance(made, Rejected)
    assert made.code == "protected_user"


def test_after_one_that_is_refused_no_later_one_is_sent(real_cluster: RealCluster) -> None:
    """A later command of the same member would overtake it."""
    first, last = commands(2)
    large = OutgoingCommand(b"x" * 200_000, b"g")

    with CommandProducer(real_cluster.options("sender", record_bytes=100_000)) as producer:
        results = producer.produce([first, large, last])

    assert isinstance(results[0], WrittenCommand)
    assert isinstance(results[1], UnconfirmedCommand)
    assert isinstance(results[2], UnconfirmedCommand)
    assert "not sent, since an earlier one" in results[2].reason
    assert len(written(real_cluster)) == 1


def test_an_interrupt_leaves_the_results_of_what_was_sent(real_cluster: RealCluster) -> None:
    def interrupted() -> Iterator[OutgoingCommand]:
        yield from commands(3)
        raise KeyboardInterrupt

    with CommandProducer(real_cluster.options("sender")) as producer:
        results = producer.produce(interrupted())

    assert len(results) == 3
    assert all(isinstance(each, WrittenCommand) or each.may_be_written for each in results)


def test_headers_and_a_record_without_a_key_keep_their_place(real_cluster: RealCluster) -> None:
    command = OutgoingCommand(b"{}", None, (("ce_id", b"1"),), partition=1)

    with CommandProducer(real_cluster.options("sender")) as producer:
        (result,) = producer.produce([command])

    (record,) = written(real_cluster).values()
    assert result == WrittenCommand(1, 0)
    assert record.headers == [("ce_id", b"1")]


def test_a_topic_that_is_not_there_is_named(
    real_cluster: RealCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.broker.command_producer.METADATA_SECONDS", 1.0)

    with pytest.raises(BrokerError, match="there is no topic never"):
        CommandProducer(real_cluster.options("sender", command_topic="never"))


@KAFKA_AWAY
def test_a_kafka_that_is_away_is_a_sentence(real_cluster: RealCluster) -> None:
    options = real_cluster.options(
        "sender", bootstrap_servers="127.0.0.1:1", common={"bootstrap_timeout_ms": 500}
    )

    with pytest.raises(BrokerError, match="Kafka cannot be reached at 127"):
        CommandProducer(options)
