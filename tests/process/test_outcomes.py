# `outcomes` on a real Kafka, as a user runs it: what waits, what is held, what never came; exit codes and printed words.

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaProducer

from tests.process.test_topics_and_check import config as config
from tests.process.test_topics_and_check import worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka


def command(command_id: str | None, **changes: Any) -> bytes:
    body = {
        "command_id": command_id,
        "action": "group.unban_group_member",
        "group_id": "g-é",
        "user_ids": ["u"],
    }
    return json.dumps({name: value for name, value in (body | changes).items() if value is not None}).encode()


class Commands:
    """The topics of one worker that does not run: what is sent there waits."""

    def __init__(self, cluster: Cluster, config: Path) -> None:
        text = config.read_text()
        self.topic = text.split("command_topics: [")[1].split("]")[0]
        self.outcome_topic = text.split("outcome_topic: ")[1].split()[0]
        self.servers = cluster.bootstrap_servers
        self.config = str(config)

    def send(self, value: bytes, *, topic: str | None = None, **named: Any) -> None:
        producer = KafkaProducer(bootstrap_servers=self.servers)
        producer.send(topic or self.topic, value=value, partition=0, **named).get(30)
        producer.close(timeout=5)

    def asked(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return worker("outcomes", "--config", self.config, *arguments, environ=environ)


@pytest.fixture
def commands(kafka: Cluster, config: Path) -> Commands:
    assert (
        worker("topics", "create", "--partitions", "2", "--config", str(config), environ={}).returncode == 0
    )
    return Commands(kafka, config)


@pytest.fixture
def transaction(commands: Commands) -> Iterator[KafkaProducer]:
    """FinishedOffsets, and not ended."""
    producer = KafkaProducer(bootstrap_servers=commands.servers, transactional_id=f"other-{commands.topic}")
    producer.init_transactions()
    producer.begin_transaction()
    yield producer
    producer.abort_transaction()
    producer.close(timeout=5)


def test_new_topics_are_well_and_nothing_is_said_of_their_emptiness(commands: Commands) -> None:
    checked = worker("check", "--config", commands.config, environ={})
    asked = commands.asked("--user", "u")

    assert (checked.returncode, checked.stderr) == (0, "")
    assert "remedy" not in checked.stdout
    assert (asked.returncode, asked.stdout) == (3, "")
    assert "it never came" in asked.stderr
    assert len(asked.stderr.splitlines()) == 2


def test_a_command_that_waits_is_json_and_has_an_exit_code_of_its_own(commands: Commands) -> None:
    """A script read nothing and exit code 0: as if there were no such command."""
    commands.send(command("late-1"))

    found = commands.asked("--command-id", "late-1", "--json", PYTHONIOENCODING="ascii")
    plain = commands.asked("--user", "u")
    other = commands.asked("--command-id", "late-2")

    (line,) = found.stdout.splitlines()
    printed = json.loads(line.replace("\\xe9", "é"))
    assert (found.returncode, plain.returncode, other.returncode) == (4, 4, 3)
    assert (printed["status"], printed["command_id"], printed["source"]["offset"]) == ("waiting", "late-1", 0)
    assert plain.stdout.startswith("no outcome yet  group.unban_group_member  group g-é")
    assert found.stderr + plain.stderr == ""


def test_where_more_waits_than_is_shown_that_is_said(commands: Commands) -> None:
    """Twenty were shown as if they were all."""
    for number in range(3):
        commands.send(command(f"late-{number}"))

    two, three = (commands.asked("--user", "u", "--limit", limit) for limit in ("2", "3"))

    assert (two.stdout.count("no outcome yet"), three.stdout.count("no outcome yet")) == (2, 3)
    assert two.stderr == "these are the oldest 2 that wait: a higher --limit may show more\n"
    assert three.stderr == ""


@pytest.mark.parametrize("unit", [1_000, 1_000_000, -1_000])
def test_a_command_with_a_timestamp_in_another_unit_is_shown(commands: Commands, unit: int) -> None:
    stamp = round(time.time() * 1000) * unit
    settings = {
        "message.timestamp.after.max.ms": str(2**63 - 1),
        "message.timestamp.before.max.ms": str(2**63 - 1),
    }
    _configure(commands, settings)
    commands.send(command("late-1"), timestamp_ms=None if unit < 0 else stamp)

    found = commands.asked("--command-id", "late-1")

    assert found.returncode == 4, found.stderr
    assert ("an unknown time" in found.stdout) == (unit > 0)
    assert found.stderr == ""


def _configure(commands: Commands, settings: dict[str, str]) -> None:
    from kafka import KafkaAdminClient  # noqa: PLC0415
    from kafka.admin import ConfigResource, ConfigResourceType  # noqa: PLC0415

    admin = KafkaAdminClient(bootstrap_servers=commands.servers)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, commands.topic, configs=settings)])
    admin.close()


def test_a_cloud_event_that_waits_is_found_by_its_id(commands: Commands) -> None:
    commands.send(command(None), headers=[("ce_specversion", b"1.0"), ("ce_id", b"event-1")])

    found = commands.asked("--command-id", "event-1")

    assert found.returncode == 4
    assert "command     event-1 (" in found.stdout


def test_a_command_behind_an_open_transaction_is_not_said_never_to_have_come(
    commands: Commands, transaction: KafkaProducer
) -> None:
    transaction.send(commands.topic, value=command("in-it"), partition=0).get(30)
    commands.send(command("behind-it"))

    for wanted in ("in-it", "behind-it"):
        found = commands.asked("--command-id", wanted)

        assert found.returncode == 4, found.stderr
        assert "held by a transaction that is open since offset 0 of its partition" in found.stdout


def test_a_reader_that_has_enough_ends_it_quietly(commands: Commands) -> None:
    """As with ``| head -1``."""
    commands.send(command("late-1"))
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "worker", "outcomes", "--config", commands.config, "--user", "u"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.stderr == ""
    assert done.returncode == 141


def test_an_outcome_of_another_program_hides_none_of_ours(commands: Commands) -> None:
    strange = {"outcome_id": "x", "command_id": "a", "queued_ms": "soon", "status": "odd"}
    commands.send(json.dumps(strange, separators=(",", ":")).encode(), topic=commands.outcome_topic)

    found = commands.asked("--command-id", "a")

    assert found.returncode == 0, found.stderr
    assert "odd" in found.stdout
    assert "Traceback" not in found.stderr
