# Topics that are replaced or changed under a live worker: it was right at the start, and must not go on as if it still were.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from tests.process.environment import Scene, command
from worker.testing.checker.contract import BAN
from worker.testing.demo.environment import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from worker.testing.demo.load import Load

pytestmark = pytest.mark.kafka

COUNT = 60
WITHIN = 30.0
QUIET = 1.5
"""So long is it watched that nothing is carried out any more, in seconds."""


@pytest.fixture
def scene(kafka: Cluster) -> Iterator[Scene]:
    with Scene(kafka.bootstrap_servers) as scene:
        # It looks at the topics each second instead of each minute.
        worker = scene.stage.start_worker({"kafka": {"consumer": {"metadata_max_age_ms": 1000}}})
        scene.stage.wait_until_ready(worker)
        yield scene


def bans(scene: Scene, stem: str) -> Load:
    return scene.send(
        [
            command(BAN, f"group-{each}", f"{stem}-{each}", f"{stem}-{each}", duration=60)
            for each in range(COUNT)
        ]
    )


@pytest.mark.parametrize("which", ["commands", "outcomes"])
def test_a_topic_that_is_made_again_under_a_live_worker_halts_it(scene: Scene, which: str) -> None:
    """
    It went on: the records of the new topic got the outcome_ids of the old one's.
    """
    bans(scene, "before")
    scene.play_to_the_end()
    name = getattr(scene.stage.topics, which)
    with scene.admin() as admin:
        admin.delete_topics([name])
        admin.create_topics({name: {"num_partitions": PARTITIONS, "replication_factor": 1}})

    scene.play_until(lambda: bool(scene.events("worker.refused")), WITHIN, "halted")
    (logged,) = scene.events("worker.refused")
    bans(scene, "after")
    scene.play(QUIET)

    assert f"topic {name} was deleted and recreated" in logged["reason"]
    assert "stop all replicas" in logged["reason"]
    assert any(told["reason"] == logged["reason"] for told in scene.obstacles())
    assert not any("after" in user for one in scene.requests() for user in one.users)
    assert scene.ask("/livez")[0] == 200


def test_compaction_that_is_switched_on_later_is_an_obstacle_until_it_is_off(scene: Scene) -> None:
    """
    It was seen at the next start only, when the outcomes were gone.
    """
    topic = scene.stage.topics.outcomes

    def policy(**configs: str) -> None:
        with scene.admin() as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])

    policy(**{"cleanup.policy": "compact"})
    scene.play_until(lambda: scene.ask("/readyz")[0] == 503, WITHIN, "not ready")
    (told,) = scene.obstacles()
    policy(**{"cleanup.policy": "delete", "retention.ms": "60000"})
    scene.play_until(lambda: scene.ask("/readyz")[0] == 200, WITHIN, "ready again")
    scene.play_until(lambda: len(scene.events("topic.unfit")) == 2, WITHIN, "the retention is told")
    scene.end()

    assert told["reason"] == f"topic {topic} does not fit any more"
    assert "cleanup.policy is compact" in told["remedy"]
    compaction, retention = scene.events("topic.unfit")
    assert (compaction["topic"], retention["topic"]) == (topic, topic)
    assert "shorter than dedupe.window_seconds" in retention["remedy"]
