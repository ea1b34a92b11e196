# The quota topic on a real Kafka: all hear a message within milliseconds, and without a topic nothing breaks.

from __future__ import annotations

import time
from contextlib import suppress
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.unit.broker.test_client_config import options
from worker.broker import quota_channel
from worker.broker.quota_channel import QuotaChannel
from worker.broker.topic_admin import create_missing, inspect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Cluster as Running
    from worker.broker.options import KafkaOptions
    from worker.domain.effects import LogEvent

pytestmark = pytest.mark.kafka

PATIENCE = 30.0


class Ear:
    """A channel, what it heard and what it reported."""

    def __init__(self, options: KafkaOptions) -> None:
        self.heard: Queue[bytes] = Queue()
        self.events: Queue[str] = Queue()
        self.channel = QuotaChannel(options, self._hear, self._notice)
        self.channel.start()

    def _hear(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            self.heard.put(payload)

    def _notice(self, event: LogEvent) -> None:
        self.events.put(event.event)

    def next(self, seconds: float = PATIENCE) -> bytes:
        """The next payload."""
        return self.heard.get(timeout=seconds)


@pytest.fixture
def ears() -> Iterator[Callable[[KafkaOptions], Ear]]:
    made: list[Ear] = []

    def make(options: KafkaOptions) -> Ear:
        made.append(Ear(options))
        return made[-1]

    yield make
    for ear in made:
        assert ear.channel.close(PATIENCE)


def of(kafka: Running, topic: str | None) -> KafkaOptions:
    changes: dict[str, Any] = {"quota_topic": topic}
    return options(bootstrap_servers=kafka.bootstrap_servers, **changes)


def test_what_one_says_all_hear_soon_and_in_order(
    kafka: Running, make_topic: Callable[..., str], ears: Callable[[KafkaOptions], Ear]
) -> None:
    """A lease lasts a second, so a message and its answer must take a small part of that."""
    topic = make_topic("quota", partitions=1)
    one, other = ears(of(kafka, topic)), ears(of(kafka, topic))
    assert {one.events.get(timeout=PATIENCE), other.events.get(timeout=PATIENCE)} == {"quota.lending"}
    one.channel.send(b"first")  # connects to the partition's leader
    assert one.next() == other.next() == b"first"
    took = []

    for number in range(20):
        began = time.monotonic()
        one.channel.send(b"%d" % number)
        assert other.next() == b"%d" % number
        took.append(time.monotonic() - began)
        assert one.next() == b"%d" % number

    assert sorted(took)[10] < 0.1
    assert repr(one.channel) == f"<QuotaChannel {topic} open>"


def test_what_was_said_before_is_not_heard(
    kafka: Running, make_topic: Callable[..., str], ears: Callable[[KafkaOptions], Ear]
) -> None:
    topic = make_topic("quota", partitions=1)
    first = ears(of(kafka, topic))
    first.events.get(timeout=PATIENCE)
    first.channel.send(b"old")
    first.next()

    late = ears(of(kafka, topic))
    late.events.get(timeout=PATIENCE)
    first.channel.send(b"new")

    assert late.next() == b"new"


def test_without_a_topic_nothing_is_lent_until_there_is_one(
    kafka: Running, ears: Callable[[KafkaOptions], Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_channel, "WAIT_SECONDS", 0.5)
    wanted = of(kafka, f"quota-{time.monotonic_ns()}")
    ear = ears(wanted)
    assert ear.events.get(timeout=PATIENCE) == "quota.unavailable"
    ear.channel.send(b"into the void")

    assert wanted.quota_topic in create_missing(wanted, partitions=1, replication=1)

    assert ear.events.get(timeout=PATIENCE) == "quota.lending"
    ear.channel.send(b"heard")
    assert ear.next() == b"heard"
    made = inspect(wanted).quota
    assert made is not None
    assert (made.partitions, made.retention, made.cleanup) == (1, 600.0, frozenset({"delete"}))


def test_a_topic_that_takes_no_messages_is_reported_until_it_does(
    kafka: Running,
    make_topic: Callable[..., str],
    ears: Callable[[KafkaOptions], Ear],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes is still heard, so "quota.lending" was the last word, though nothing could be lent."""
    monkeypatch.setattr(quota_channel, "WAIT_SECONDS", 0.5)
    topic = make_topic("quota", partitions=1, configs={"max.message.bytes": "1"})
    ear = ears(of(kafka, topic))
    assert ear.events.get(timeout=PATIENCE) == "quota.lending"

    ear.channel.send(b"refused")
    assert ear.events.get(timeout=PATIENCE) == "quota.unavailable"
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
        admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": "1000000"})]
        )
    events: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while not events and time.monotonic() < deadline:
        ear.channel.send(b"taken")
        with suppress(Empty):
            events.append(ear.events.get(timeout=1.0))

    assert events == ["quota.lending"]
    assert ear.next() == b"taken"


def test_where_no_topic_is_named_nothing_is_started(kafka: Running) -> None:
    ear = Ear(of(kafka, None))

    ear.channel.send(b"into the void")

    assert ear.channel.close(0.0)
    with pytest.raises(Empty):
        ear.next(0.0)
