# Topics on a real Kafka: inspected, judged and created.

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient

from tests.unit.broker.test_client_config import options
from worker.broker.topic_admin import create_missing, inspect, problems
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster as Running
    from worker.broker.options import KafkaOptions

pytestmark = pytest.mark.kafka


@pytest.fixture
def fresh(kafka: Running) -> KafkaOptions:
    """Options whose topics do not exist yet."""
    tag = uuid.uuid4().hex[:12]
    names: dict[str, Any] = {
        "command_topic": f"commands-{tag}",
        "outcome_topic": f"outcomes-{tag}",
        "dead_letter_topic": f"dead-letters-{tag}",
    }
    return options(bootstrap_servers=kafka.bootstrap_servers, **names)


@pytest.fixture
def admin(kafka: Running) -> Iterator[KafkaAdminClient]:
    made = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    yield made
    made.close()


def test_topics_that_do_not_exist_are_reported_and_can_be_made(fresh: KafkaOptions) -> None:
    before = problems(inspect(fresh), fresh, dedupe_window=3600.0)

    made = create_missing(fresh, partitions=4, replication=1)
    report = inspect(fresh)

    assert len(before) == 3
    assert set(made) == {fresh.command_topic, fresh.outcome_topic, fresh.dead_letter_topic}
    assert problems(report, fresh, dedupe_window=3600.0) == []
    assert report.command is not None
    assert report.outcome is not None
    assert (report.command.partitions, report.outcome.partitions) == (4, 4)
    assert report.outcome.cleanup == frozenset({"delete"})
    assert (report.outcome.retention or 0.0) >= 3600.0
    assert report.outcome.message_bytes == 1_048_588


def test_what_exists_is_left_alone_and_outcomes_get_the_commands_partitions(
    fresh: KafkaOptions, admin: KafkaAdminClient
) -> None:
    """As many as the command topic has."""
    admin.create_topics(
        {fresh.command_topic: {"num_partitions": 5, "replication_factor": 1}}, wait_for_metadata=True
    )

    made = create_missing(fresh, partitions=2, replication=1)
    again = create_missing(fresh, partitions=2, replication=1)

    report = inspect(fresh)
    assert set(made) == {fresh.outcome_topic, fresh.dead_letter_topic}
    assert again == ()
    assert report.outcome is not None
    assert report.outcome.partitions == 5


def test_what_is_wrong_with_real_topics_is_seen(fresh: KafkaOptions, admin: KafkaAdminClient) -> None:
    bad = {"cleanup.policy": "compact", "retention.ms": "60000", "max.message.bytes": "5000"}
    admin.create_topics(
        {
            fresh.command_topic: {"num_partitions": 3, "replication_factor": 1},
            fresh.outcome_topic: {"num_partitions": 2, "replication_factor": 1, "configs": bad},
            fresh.dead_letter_topic: {
                "num_partitions": 1,
                "replication_factor": 1,
                "configs": {"retention.ms": "-1"},
            },
        },
        wait_for_metadata=True,
    )

    report = inspect(fresh)
    found = problems(report, fresh, dedupe_window=3600.0)

    assert [problem.name for problem in found] == ["kafka.outcome_topic"] * 4
    assert report.dead_letter is not None
    assert report.dead_letter.retention == float("inf")


def test_a_kafka_that_is_not_there_is_an_error_that_says_so() -> None:
    nowhere = options(bootstrap_servers="127.0.0.1:1", common={"bootstrap_timeout_ms": 200})

    with pytest.raises(BrokerError, match=r"cannot be reached at 127\.0\.0\.1:1"):
        inspect(nowhere)
    with pytest.raises(BrokerError):
        create_missing(nowhere, partitions=1, replication=1)


def test_a_replication_that_the_cluster_cannot_do_is_an_error(fresh: KafkaOptions) -> None:
    with pytest.raises(BrokerError, match="cannot be created"):
        create_missing(fresh, partitions=1, replication=9)
