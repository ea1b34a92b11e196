# Where a worker begins: in a topic that its group has never read, and at an offset that Kafka no longer has.

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from kafka import KafkaConsumer, OffsetAndMetadata

from tests.process.environment import Environment, command
from worker.testing.checker.contract import BAN
from worker.testing.demo.environment import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cluster
    from worker.testing.checker.evidence import PlannedRecord
    from worker.testing.demo.raid_run import LoadProducer
    from worker.testing.kafka.child_process import ChildProcess

pytestmark = pytest.mark.kafka

COUNT = 30
"""Commands of one load: enough that each partition gets some."""
STOP_WITHIN = 20.0
READY_WITHIN = 30.0


@pytest.fixture
def environment(kafka: Cluster) -> Iterator[Environment]:
    with Environment(kafka.bootstrap_servers) as environment:
        yield environment


def bans(stem: str) -> list[PlannedRecord]:
    return [
        command(BAN, f"group-{each}", f"{stem}-{each}", f"{stem}-{each}", duration=60)
        for each in range(COUNT)
    ]


def produced(environment: Environment, stem: str) -> LoadProducer:
    load = environment.send(bans(stem))
    environment.play_until(lambda: load.done, READY_WITHIN, "produced")
    return load


def started(environment: Environment, start: str) -> ChildProcess:
    worker = environment.stage.start_worker({"kafka": {"start": start}})
    environment.play_until(lambda: environment.stage.is_ready(worker), READY_WITHIN, "ready")
    return worker


def outcomes_of(environment: Environment, load: LoadProducer) -> list[str]:
    return [one.body.status for one in environment.outcomes_of(load)]


def all_succeeded(environment: Environment, load: LoadProducer) -> bool:
    return outcomes_of(environment, load) == ["succeeded"] * COUNT


def test_a_worker_that_starts_at_the_latest_misses_nothing_after_it(
    environment: Environment,
) -> None:
    """It leaves what was there before."""
    before = produced(environment, "before")

    worker = started(environment, "latest")
    worker.stop(STOP_WITHIN)
    while_away = produced(environment, "while-away")
    started(environment, "latest")
    after = produced(environment, "after")
    environment.play_until(lambda: all_succeeded(environment, after), READY_WITHIN, "carried out")
    environment.end()

    logged = environment.events("kafka.no_committed_offset")
    assert {line["start"] for line in logged} == {"latest"}
    assert sum(line["records"] for line in logged) == 0
    assert environment.events("kafka.no_committed_offset", replica=1) == []
    assert outcomes_of(environment, before) == []
    assert all_succeeded(environment, while_away)
    assert {user.partition("-")[0] for one in environment.requests() for user in one.users} == {
        "while",
        "after",
    }


def test_a_worker_that_starts_at_a_time_carries_out_what_was_sent_since(
    environment: Environment,
) -> None:
    """And it logs how old the first of it is."""
    before = produced(environment, "before")
    environment.play(0.1)
    moment = time.time()
    environment.play(0.1)
    since = produced(environment, "since")

    written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f"{moment % 1:.3f}"[1:] + "+00:00"
    started(environment, written)
    environment.play_until(lambda: all_succeeded(environment, since), READY_WITHIN, "carried out")
    environment.end()

    logged = environment.events("kafka.no_committed_offset")
    assert sum(line["records"] for line in logged) == COUNT
    assert all(0 < line["oldest_age_seconds"] < READY_WITHIN for line in logged if line["records"])
    assert outcomes_of(environment, before) == []


def test_commands_that_kafka_has_deleted_unread_are_logged_and_counted(
    environment: Environment,
) -> None:
    """The rest is carried out."""
    started(environment, "earliest").stop(STOP_WITHIN)
    deleted = produced(environment, "deleted")
    with environment.admin() as admin:
        admin.delete_records(dict.fromkeys(environment.places(), -1))
    kept = produced(environment, "kept")

    started(environment, "latest")
    environment.play_until(lambda: all_succeeded(environment, kept), READY_WITHIN, "carried out")
    logged = environment.events("offset.out_of_range", replica=1)
    counted = environment.metric("moderation_worker_offsets_out_of_range_total", replica=1)
    environment.end()

    assert {line["partition"] for line in logged} == set(range(PARTITIONS))
    assert {line["level"] for line in logged} == {"error"}
    assert sum(line["lost"] for line in logged) == COUNT
    assert all(line["was"] + line["lost"] == line["now"] for line in logged)
    assert counted == PARTITIONS
    assert outcomes_of(environment, deleted) == []


def test_a_topic_that_ends_before_what_the_group_has_read_is_not_taken_for_done(
    environment: Environment,
) -> None:
    """
    Brokers that lost records, or a group's offsets that came from another cluster. The new records have offsets that were
    committed already: taken for redeliveries, they would be dropped in silence.
    """
    commit(environment, 1000)
    load = produced(environment, "new")

    worker = environment.stage.start_worker()
    environment.play_until(lambda: bool(environment.events("worker.refused")), READY_WITHIN, "refused")
    refused, ready = environment.events("worker.refused"), environment.stage.is_ready(worker)
    worker.stop(STOP_WITHIN)
    commit(environment, 0)
    started(environment, "earliest")
    environment.play_until(lambda: all_succeeded(environment, load), READY_WITHIN, "carried out")
    environment.end()

    assert "--reset-offsets" in refused[0]["reason"]
    assert not ready
    assert worker.exit_code == 0


def commit(environment: Environment, offset: int) -> None:
    """For the group, in each partition, as a tool would."""
    tool = KafkaConsumer(
        bootstrap_servers=environment.stage.bootstrap_servers,
        group_id=environment.stage.topics.commands.removesuffix(".commands"),
        enable_auto_commit=False,
    )
    tool.commit({place: OffsetAndMetadata(offset, "", -1) for place in environment.places()})
    tool.close(autocommit=False)


def test_without_its_topics_a_worker_exits_2_and_the_command_that_it_prints_makes_them(
    kafka: Cluster, tmp_path: Path
) -> None:
    config = tmp_path / "worker.yaml"
    names = [f"missing-{time.time_ns()}-{which}" for which in ("commands", "outcomes", "dead-letters")]
    topics = {"command_topics": [names[0]], "outcome_topic": names[1], "dead_letter_topic": names[2]}
    app = {"sdk_app_id": 1400000001, "identifier": "admin", "secret_key": "k" * 64, "region": "singapore"}
    settings = {
        "kafka": {"bootstrap_servers": kafka.bootstrap_servers, **topics},
        "tencent": {"apps": {"main": app}},
    }
    config.write_bytes(msgspec.json.encode(settings))

    refused = ran("run", "--config", str(config))
    (printed,) = set(re.findall(r"moderation-worker (topics create [^:\n]*?) creates it", refused.stderr))
    made = ran(*(str(config) if word == "…" else word for word in shlex.split(printed)))
    checked = ran("check", "--config", str(config))

    assert refused.returncode == 2
    assert all(name in refused.stderr for name in names)
    assert made.returncode == 0, made.stderr
    assert all(f"created: topic {name}" in made.stdout for name in names)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        capture_output=True, text=True, timeout=READY_WITHIN, check=False,
    )  # fmt: skip
