# `topics create` and `check` on a real Kafka, as a user runs them: processes, exit codes, printed words.

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cluster

KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"

pytestmark = pytest.mark.kafka


def worker(*arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def config(kafka: Cluster, fresh_name: Callable[[str], str], tmp_path: Path) -> Path:
    path = tmp_path / "worker.yaml"
    path.write_text(
        f"""
        kafka:
          bootstrap_servers: {kafka.bootstrap_servers}
          group_id: {fresh_name("group")}
          command_topics: [{fresh_name("commands")}]
          outcome_topic: {fresh_name("outcomes")}
          dead_letter_topic: {fresh_name("dead")}
          control_topic: {fresh_name("control")}
          quota_topic: {fresh_name("quota")}
        tencent:
          apps:
            main: {{sdk_app_id: 1400000001, identifier: admin, secret_key: {KEY}, base_url: http://127.0.0.1:9}}
        """
    )
    return path


def test_missing_topics_are_named_with_the_command_that_creates_them_and_then_created(config: Path) -> None:
    before = worker("check", "--config", str(config), environ={})
    made = worker("topics", "create", "--partitions", "4", environ={"WORKER_CONFIG": str(config)})
    after = worker("check", "--config", str(config), environ={})

    assert before.returncode == 2
    assert before.stdout.count("this topic does not exist: moderation-worker topics create") == 3
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("created: topic ") == 5
    assert after.returncode == 0, after.stdout + after.stderr
    assert "signs as admin of 1400000001" in after.stdout
    assert after.stdout.count("4 partitions, cleanup delete") == 3
    assert after.stdout.count("1 partition, cleanup compact, batches up to") == 1
    assert KEY not in before.stdout + before.stderr + made.stdout + made.stderr + after.stdout + after.stderr


def test_creating_topics_twice_changes_nothing_and_says_so_to_another_number(
    config: Path,
) -> None:
    first = worker("topics", "create", "--partitions", "3", "--config", str(config), environ={})
    again, more, fewer = (
        worker("topics", "create", *asked, "--config", str(config), environ={})
        for asked in ((), ("--partitions", "5"), ("--partitions", "2"))
    )

    assert first.returncode == again.returncode == more.returncode == fewer.returncode == 0
    for done in (again, more, fewer):
        assert done.stdout.count("exists: topic ") == 5
        assert done.stdout.count("3 partitions") == 3
    assert (first.stderr, again.stderr) == ("", "")
    assert more.stderr.count("\n") == 1
    assert "--partitions 5 changes no topic that exists" in more.stderr
    assert more.stderr.count(" has 3") == 3
    assert "kafka-topics --alter --partitions 5" in more.stderr
    assert "Kafka cannot remove partitions" in fewer.stderr


def test_a_compacted_outcome_topic_and_a_limit_below_the_partitions_are_both_reported(
    config: Path, kafka: Cluster
) -> None:
    outcome_topic = config.read_text().split("outcome_topic: ")[1].split()[0]
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.create_topics(
        {
            outcome_topic: {
                "num_partitions": 8,
                "replication_factor": 1,
                "configs": {"cleanup.policy": "compact"},
            }
        },
        wait_for_metadata=True,
    )
    admin.close()
    worker("topics", "create", "--partitions", "8", "--config", str(config), environ={})

    found = worker("check", "--config", str(config), environ={"WORKER_LIMITS__CALLS_PER_SECOND": "7"})

    assert found.returncode == 2
    assert "cleanup.policy is compact" in found.stdout
    assert "raise it to at least 8" in found.stdout


def test_more_partitions_than_permits_are_refused_before_anything_is_made(config: Path) -> None:
    refused = worker(
        "topics", "create", "--partitions", "300", "--config", str(config), environ={"COLUMNS": "200"}
    )
    after = worker("check", "--config", str(config), environ={})

    assert refused.returncode == 2
    assert "give at most 200" in refused.stderr
    assert after.stdout.count("does not exist") == 5


def test_more_copies_than_brokers_are_refused_in_one_sentence(config: Path) -> None:
    """It printed the whole response, 1.5 kB of it."""
    refused = worker("topics", "create", "--replication-factor", "9", "--config", str(config), environ={})

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert "larger than the number of brokers: give a smaller --replication-factor" in refused.stderr
    assert "CreateTopics" not in refused.stderr
    assert len(refused.stderr) < 900


def test_topics_that_exist_with_other_partitions_are_left_and_a_misfit_is_reported(
    config: Path, kafka: Cluster
) -> None:
    outcome_topic = config.read_text().split("outcome_topic: ")[1].split()[0]
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.create_topics(
        {outcome_topic: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True
    )
    admin.close()

    found = worker("topics", "create", "--partitions", "4", "--config", str(config), environ={})

    assert found.returncode == 2
    assert f"exists: topic {outcome_topic}, 2 partitions" in found.stdout
    assert "it has 2 partitions and the command topic 4" in found.stderr


def test_the_worker_does_not_start_without_its_topics(config: Path) -> None:
    started = worker("run", "--config", str(config), environ={})

    assert started.returncode == 2
    assert started.stderr.count("this topic does not exist") == 3


def test_a_cluster_that_does_not_answer_is_a_failure_and_not_a_wrong_setting(config: Path) -> None:
    found = worker(
        "check", "--config", str(config), environ={"WORKER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    )

    assert found.returncode == 1
    assert "Kafka cannot be reached at 127.0.0.1:1" in found.stdout
    assert "Traceback" not in found.stderr
