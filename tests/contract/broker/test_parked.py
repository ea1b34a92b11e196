# What kafka-python does to records that a poll left over when their partition is paused, and what we do about it.

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from worker.broker.kafka_private_parts import release_parked

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cluster

RECORDS = 20
DEADLINE = 10.0
BRIEFLY = 1.0


@pytest.mark.kafka
@pytest.mark.parametrize("released", [True, False], ids=["released", "as kafka-python leaves them"])
def test_records_left_over_of_a_paused_partition_come_after_it_was_resumed(
    kafka: Cluster, make_topic: Callable[..., str], *, released: bool
) -> None:
    """The second case is kafka-python's own: when it no longer fails to deliver them, our function has become needless."""
    topic = make_topic("parked", partitions=2)
    busy, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    _produce(kafka, topic)
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", max_poll_records=5
    )
    consumer.assign([busy])
    seen = _poll(consumer, busy, 5, DEADLINE, released=True)

    consumer.assign([busy, other])
    consumer.pause(busy)
    others = _poll(consumer, other, RECORDS, DEADLINE, released=released)
    consumer.resume(busy)
    seen += _poll(consumer, busy, RECORDS - seen, DEADLINE if released else BRIEFLY, released=released)
    consumer.close(autocommit=False)

    assert others == RECORDS
    assert (seen == RECORDS) is released


def _produce(kafka: Cluster, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for number in range(RECORDS):
        for partition in (0, 1):
            producer.send(topic, value=str(number).encode(), partition=partition)
    producer.flush(DEADLINE)
    producer.close(DEADLINE)


def _poll(
    consumer: KafkaConsumer, where: TopicPartition, wanted: int, seconds: float, *, released: bool
) -> int:
    end = time.monotonic() + seconds
    count = 0
    while count < wanted and time.monotonic() < end:
        if released:
            release_parked(consumer)
        count += len(consumer.poll(timeout_ms=100).get(where, ()))
    return count
