# What is in the group's commits when it is not what the worker wrote: metadata of other programs, or nothing any more.

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from tests.process.environment import Environment, command
from worker.testing.checker.contract import BAN
from worker.testing.demo.environment import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from worker.testing.demo.raid_run import LoadProducer
    from worker.testing.kafka.child_process import ChildProcess

pytestmark = pytest.mark.kafka

COUNT = 60
WITHIN = 30.0
SKIPPED = 2
"""Another program has committed this many commands of each partition."""


@pytest.fixture
def environment(kafka: Cluster) -> Iterator[Environment]:
    with Environment(kafka.bootstrap_servers) as environment:
        yield environment


def produced(environment: Environment, stem: str) -> LoadProducer:
    load = environment.send(
        [
            command(BAN, f"group-{each}", f"{stem}-{each}", f"{stem}-{each}", duration=60)
            for each in range(COUNT)
        ]
    )
    environment.play_until(lambda: load.done, WITHIN, "produced")
    return load


def started(environment: Environment) -> ChildProcess:
    worker = environment.stage.start_worker()
    environment.play_until(lambda: environment.stage.is_ready(worker), WITHIN, "ready")
    return worker


def group(environment: Environment) -> str:
    return environment.stage.topics.commands.removesuffix(".commands")


def outcomes(environment: Environment, load: LoadProducer) -> Counter[str]:
    return Counter(one.body.outcome_id for one in environment.outcomes_of(load))


@pytest.mark.parametrize("metadata", ["AQAAAZrJQvWA", "/////w==", "done"])
def test_metadata_of_another_program_makes_no_command_vanish_and_is_logged(
    environment: Environment, metadata: str
) -> None:
    """It was believed where it happened to be base64: eleven of fifty commands got no outcome, no dead letter and no line."""
    load = produced(environment, "due")
    tool = KafkaConsumer(
        bootstrap_servers=environment.stage.bootstrap_servers,
        group_id=group(environment),
        enable_auto_commit=False,
    )
    tool.commit({place: OffsetAndMetadata(SKIPPED, metadata, -1) for place in environment.places()})
    tool.close(autocommit=False)

    started(environment)
    due = COUNT - SKIPPED * PARTITIONS
    environment.play_until(lambda: len(outcomes(environment, load)) == due, WITHIN, "carried out")
    logged = environment.events("kafka.foreign_metadata")
    counted = environment.metric("moderation_worker_foreign_metadata_total")
    environment.end()

    assert set(outcomes(environment, load).values()) == {1}
    assert {line["partition"] for line in logged} == set(range(PARTITIONS))
    assert len(logged) == counted == PARTITIONS
    assert {(line["topic"], line["excerpt"]) for line in logged} == {
        (environment.stage.topics.commands, metadata)
    }


def test_when_the_groups_offsets_are_lost_no_command_has_a_second_outcome(environment: Environment) -> None:
    """A broker deletes the offsets of a group that was away for a week. Everything was carried out again."""
    first = started(environment)
    before = produced(environment, "before")
    environment.play_until(lambda: len(outcomes(environment, before)) == COUNT, WITHIN, "carried out")
    first.stop(WITHIN)
    with environment.admin() as admin:
        admin.delete_group_offsets(group(environment), environment.places())
    after = produced(environment, "after")

    started(environment)
    environment.play_until(lambda: len(outcomes(environment, after)) == COUNT, WITHIN, "carried out")
    logged = environment.events("kafka.commit_lost", replica=1)
    environment.end()

    assert len(logged) == PARTITIONS
    assert sum(line["records"] for line in logged) == COUNT
    assert set(outcomes(environment, before).values()) == set(outcomes(environment, after).values()) == {1}
    assert max(Counter(user for one in environment.requests() for user in one.users).values()) == 1


def test_where_outcomes_are_lost_too_the_partition_waits_for_a_person(
    environment: Environment,
) -> None:
    """The other partitions go on."""
    first = started(environment)
    before = produced(environment, "before")
    environment.play_until(lambda: len(outcomes(environment, before)) == COUNT, WITHIN, "carried out")
    first.stop(WITHIN)
    place = TopicPartition(environment.stage.topics.commands, 1)
    with environment.admin() as admin:
        admin.delete_group_offsets(group(environment), [place])
        admin.delete_records({TopicPartition(environment.stage.topics.outcomes, 1): 3})

    worker = environment.stage.start_worker()
    environment.play_until(
        lambda: bool(environment.events("partition.refused", replica=1)), WITHIN, "refused"
    )
    after = produced(environment, "after")
    others = sum(one.partition != 1 for one in after.sent)
    environment.play_until(lambda: len(outcomes(environment, after)) == others, WITHIN, "carried out")
    environment.play_until(
        lambda: environment.metric("moderation_worker_partitions_in_doubt", replica=1) == 1, WITHIN, "counted"
    )
    (obstacle,) = environment.obstacles(replica=1)
    worker.stop(WITHIN)

    assert worker.exit_code == 0
    assert "partition 1 has outcomes and no committed offset" in obstacle["reason"]
    assert f"--topic {place.topic}:1 --reset-offsets --to-offset" in obstacle["remedy"]
    assert not any(one.partition == 1 for one in environment.outcomes_of(after))
    environment.end()
