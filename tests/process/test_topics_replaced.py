# Topics that are replaced or changed under a live worker: it was right at the start, and must not go on as if it still were.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from tests.process.environment import Environment, command
from worker.testing.checker.contract import BAN
from worker.testing.demo.environment import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from worker.testing.demo.raid_run import LoadProducer

pytestmark = pytest.mark.kafka

COUNT = 60
WITHIN = 30.0
QUIET = 1.5
"""So long is it watched that nothing is carried out any more, in seconds."""


@pytest.fixture
def environment(kafka: Cluster) -> Iterator[Environment]:
    with Environment(kafka.bootstrap_servers) as environment:
        # It looks at the topics each second instead of each minute.
        worker = environment.stage.start_worker({"kafka": {"consumer": {"metadata_max_age_ms": 1000}}})
        environment.stage.wait_until_ready(worker)
        yield environment


def bans(environment: Environment, stem: str) -> LoadProducer:
    return environment.send(
        [
            command(BAN, f"group-{each}", f"{stem}-{each}", f"{stem}-{each}", duration=60)
            for each in range(COUNT)
        ]
    )


@pytest.mark.parametrize("which", ["commands", "outcomes"])
def test_a_topic_that_is_made_again_under_a_live_worker_halts_it(
    environment: Environment, which: str
) -> None:
    """It went on: the records of the new topic got the outcome_ids of the old one's."""
    bans(environment, "before")
    environment.play_to_the_end()
    name = getattr(environment.stage.topics, which)
    with environment.admin() as admin:
        admin.delete_topics([name])
        admin.create_topics({name: {"num_partitions": PARTITIONS, "replication_factor": 1}})

    environment.play_until(lambda: bool(environment.events("worker.refused")), WITHIN, "halted")
    logged, *_ = environment.events("worker.refused")
    bans(environment, "after")
    environment.play(QUIET)

    # Whichever is seen first: the topic's id, or, of commands, a partition that ends before the position.
    assert "recreated" in logged["reason"]
    assert "stop all replicas" in logged["reason"]
    assert any("recreated" in each["reason"] for each in environment.obstacles())
    assert not any("after" in user for one in environment.requests() for user in one.users)
    assert environment.ask("/livez")[0] == 200


def test_compaction_that_is_switched_on_later_is_an_obstacle_until_it_is_off(
    environment: Environment,
) -> None:
    """It was seen at the next start only, when the outcomes were gone."""
    topic = environment.stage.topics.outcomes

    def policy(**configs: str) -> None:
        with environment.admin() as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])

    policy(**{"cleanup.policy": "compact"})
    environment.play_until(lambda: environment.ask("/readyz")[0] == 503, WITHIN, "not ready")
    (obstacle,) = environment.obstacles()
    policy(**{"cleanup.policy": "delete", "retention.ms": "60000"})
    environment.play_until(lambda: environment.ask("/readyz")[0] == 200, WITHIN, "ready again")
    environment.play_until(
        lambda: len(environment.events("topic.unfit")) == 2, WITHIN, "the retention is logged"
    )
    environment.end()

    assert obstacle["reason"] == f"topic {topic} does not fit any more"
    assert "cleanup.policy is compact" in obstacle["remedy"]
    compaction, retention = environment.events("topic.unfit")
    assert (compaction["topic"], retention["topic"]) == (topic, topic)
    assert "shorter than dedupe.window_seconds" in retention["remedy"]
