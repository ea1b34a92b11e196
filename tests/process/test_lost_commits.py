# What stands in the group's commits, when it is not what the worker wrote: metadata of other programs, or nothing any more.

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from tests.process.environment import Scene, command
from worker.testing.checker.contract import BAN
from worker.testing.demo.environment import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from worker.testing.demo.load import Load
    from worker.testing.kafka.processes import Process

pytestmark = pytest.mark.kafka

COUNT = 60
WITHIN = 30.0
SKIPPED = 2
"""So many commands of each partition another program has committed."""


@pytest.fixture
def scene(kafka: Cluster) -> Iterator[Scene]:
    with Scene(kafka.bootstrap_servers) as scene:
        yield scene


def produced(scene: Scene, stem: str) -> Load:
    load = scene.send(
        [
            command(BAN, f"group-{each}", f"{stem}-{each}", f"{stem}-{each}", duration=60)
            for each in range(COUNT)
        ]
    )
    scene.play_until(lambda: load.done, WITHIN, "produced")
    return load


def started(scene: Scene) -> Process:
    worker = scene.stage.start_worker()
    scene.play_until(lambda: scene.stage.is_ready(worker), WITHIN, "ready")
    return worker


def group(scene: Scene) -> str:
    return scene.stage.topics.commands.removesuffix(".commands")


def outcomes(scene: Scene, load: Load) -> Counter[str]:
    return Counter(one.body.outcome_id for one in scene.outcomes_of(load))


@pytest.mark.parametrize("metadata", ["AQAAAZrJQvWA", "/////w==", "done"])
def test_metadata_of_another_program_makes_no_command_vanish_and_is_told(scene: Scene, metadata: str) -> None:
    """
    It was believed where it happened to be base64: eleven of fifty commands got no outcome, no dead letter and no line.
    """
    load = produced(scene, "due")
    tool = KafkaConsumer(
        bootstrap_servers=scene.stage.bootstrap_servers, group_id=group(scene), enable_auto_commit=False
    )
    tool.commit({place: OffsetAndMetadata(SKIPPED, metadata, -1) for place in scene.places()})
    tool.close(autocommit=False)

    started(scene)
    due = COUNT - SKIPPED * PARTITIONS
    scene.play_until(lambda: len(outcomes(scene, load)) == due, WITHIN, "carried out")
    told = scene.events("kafka.foreign_metadata")
    counted = scene.metric("moderation_worker_foreign_metadata_total")
    scene.end()

    assert set(outcomes(scene, load).values()) == {1}
    assert {line["partition"] for line in told} == set(range(PARTITIONS))
    assert len(told) == counted == PARTITIONS
    assert {(line["topic"], line["excerpt"]) for line in told} == {(scene.stage.topics.commands, metadata)}


def test_when_the_groups_offsets_are_lost_no_command_has_a_second_outcome(scene: Scene) -> None:
    """
    A broker deletes the offsets of a group that was away for a week. Everything was carried out again.
    """
    first = started(scene)
    before = produced(scene, "before")
    scene.play_until(lambda: len(outcomes(scene, before)) == COUNT, WITHIN, "carried out")
    first.stop(WITHIN)
    with scene.admin() as admin:
        admin.delete_group_offsets(group(scene), scene.places())
    after = produced(scene, "after")

    started(scene)
    scene.play_until(lambda: len(outcomes(scene, after)) == COUNT, WITHIN, "carried out")
    told = scene.events("kafka.commit_lost", replica=1)
    scene.end()

    assert len(told) == PARTITIONS
    assert sum(line["records"] for line in told) == COUNT
    assert set(outcomes(scene, before).values()) == set(outcomes(scene, after).values()) == {1}
    assert max(Counter(user for one in scene.requests() for user in one.users).values()) == 1


def test_where_outcomes_are_lost_too_the_partition_waits_for_a_person_and_the_others_go_on(
    scene: Scene,
) -> None:
    first = started(scene)
    before = produced(scene, "before")
    scene.play_until(lambda: len(outcomes(scene, before)) == COUNT, WITHIN, "carried out")
    first.stop(WITHIN)
    place = TopicPartition(scene.stage.topics.commands, 1)
    with scene.admin() as admin:
        admin.delete_group_offsets(group(scene), [place])
        admin.delete_records({TopicPartition(scene.stage.topics.outcomes, 1): 3})

    worker = scene.stage.start_worker()
    scene.play_until(lambda: bool(scene.events("partition.refused", replica=1)), WITHIN, "refused")
    after = produced(scene, "after")
    others = sum(one.partition != 1 for one in after.sent)
    scene.play_until(lambda: len(outcomes(scene, after)) == others, WITHIN, "carried out")
    scene.play_until(
        lambda: scene.metric("moderation_worker_partitions_in_doubt", replica=1) == 1, WITHIN, "counted"
    )
    (told,) = scene.obstacles(replica=1)
    worker.stop(WITHIN)

    assert worker.exit_code == 0
    assert "partition 1 has outcomes and no committed offset" in told["reason"]
    assert f"--topic {place.topic}:1 --reset-offsets --to-offset" in told["remedy"]
    assert not any(one.partition == 1 for one in scene.outcomes_of(after))
    scene.end()
