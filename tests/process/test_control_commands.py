# `pause`, `cancel`, `shadow`, `resume` and `control` on a real Kafka, as an operator runs them: exit codes and printed words.

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition

from tests.process.test_topics_and_check import KEY
from worker.broker.kafka_private_parts import known_topic_id
from worker.domain.progress.commit_metadata import encode, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka

DETECTOR = ("--issuer", "detector-7")
RUNBOOK: Final = Path(__file__).parents[2] / "helm" / "moderation-worker" / "RUNBOOK.md"
LINES: Final = {
    heading: [line for line in block.splitlines() if line.startswith("mw ")]
    for heading, block in re.findall(
        r"^## (.+?)$.*?```sh\n(.*?)```", RUNBOOK.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
}
HELPER: Final = next(line for line in RUNBOOK.read_text("utf-8").splitlines() if line.startswith("mw()"))
KUBECTL: Final = f"""#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift 2
LOGNAME=pod USER=pod exec {sys.executable} -m worker "$@"
"""


class Operator:
    """Somebody with a settings file and a shell."""

    def __init__(self, config: Path, names: dict[str, str]) -> None:
        self.config = config
        self.names = names

    def __call__(self, command: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "worker", command, "--config", str(self.config), *arguments],
            env={**os.environ, "COLUMNS": "200", **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def operator_of(
    kafka: Cluster, fresh_name: Callable[[str], str], make_topic: Callable[..., str], tmp_path: Path
) -> Callable[..., Operator]:
    def made(**control: Any) -> Operator:
        names = {
            "group": fresh_name("group"),
            "commands": make_topic("commands", partitions=2),
            "control": make_topic(
                "control", **{"partitions": 1, "configs": {"cleanup.policy": "compact"}, **control}
            ),
        }
        config = tmp_path / "worker.yaml"
        config.write_text(
            f"""
            kafka:
              bootstrap_servers: {kafka.bootstrap_servers}
              group_id: {names["group"]}
              command_topics: [{names["commands"]}]
              outcome_topic: {make_topic("outcomes", partitions=2)}
              control_topic: {names["control"]}
            tencent:
              apps:
                main: {{sdk_app_id: 1400000001, identifier: admin, secret_key: {KEY}, base_url: http://127.0.0.1:9}}
            """
        )
        return Operator(config, names)

    return made


@pytest.fixture
def operator(operator_of: Callable[..., Operator]) -> Operator:
    return operator_of()


@pytest.fixture
def producer(kafka: Cluster) -> Iterator[KafkaProducer]:
    made = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    yield made
    made.close(timeout=5)


def ban(issuer: str, number: int) -> bytes:
    command = {
        "command_id": f"{issuer}-{number}",
        "action": "group.ban_group_member",
        "group_id": "g",
        "user_ids": ["u"],
        "duration": 60,
        "issuer": issuer,
    }
    return msgspec.json.encode(command)


def test_a_pause_is_written_listed_and_resumed(operator: Operator) -> None:
    paused = operator("pause", *DETECTOR, "--reason", "bans everybody", "--until", "2h")
    listed = operator("control")
    resumed = operator("resume", *DETECTOR, "--reason", "fixed", "--by", "bob")
    empty = operator("control")

    assert paused.returncode == 0, paused.stderr
    assert f"paused: issuer detector-7, by {getpass.getuser()}, until 20" in paused.stdout
    assert "kafka.max_gap (20,000)" in paused.stdout
    assert f"moderation-worker resume --config {operator.config} --issuer detector-7" in paused.stdout
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("paused    issuer detector-7\n          since   20")
    assert "reason  bans everybody" in listed.stdout
    assert "holds   0 commands" in listed.stdout
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith(
        "resumed: issuer detector-7, which was paused\n"
        "Its commands are carried out again within 2 s: first those that have waited.\n"
    )
    assert (empty.returncode, empty.stdout) == (0, "nothing is in force\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_an_order_is_written_although_standard_streams_are_closed(operator: Operator, closed: str) -> None:
    """A pause from a cron job or a service without standard error wrote nothing."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$PYTHON" -m worker pause --everything --reason raid {closed}'],
        env={**os.environ, "PYTHON": sys.executable, "WORKER_CONFIG": str(operator.config)},
        timeout=60,
        check=False,
    )
    listed = operator("control")

    assert done.returncode == 0
    assert listed.stdout.startswith("paused    everything\n")


def test_resuming_what_is_not_in_force_is_said_with_what_is(operator: Operator) -> None:
    operator("shadow", "--everything", "--reason", "a first look")

    refused = operator("resume", *DETECTOR, "--reason", "fixed")
    as_json = operator("resume", *DETECTOR, "--reason", "fixed", "--json")
    still = operator("control", "--json")

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith(
        "nothing is in force for issuer detector-7\nin force:\nshadow    everything\n"
    )
    assert (as_json.returncode, as_json.stdout) == (1, "")
    assert msgspec.json.decode(as_json.stderr)["error"].startswith("nothing is in force for issuer")
    assert msgspec.json.decode(still.stdout)["state"] == "shadow"


def test_resuming_one_scope_says_what_is_still_in_force(operator: Operator) -> None:
    operator("cancel", "--target", "room-1", "--reason", "raid")
    operator("pause", "--target", "room-2", "--reason", "raid")

    resumed = operator("resume", "--target", "room-1", "--reason", "over")

    assert "which was cancelled from now on" in resumed.stdout
    assert "again within 2 s: those that were cancelled stay so.\n" in resumed.stdout
    assert "still in force:\npaused    target room-2" in resumed.stdout


def test_an_order_that_a_stronger_one_overrules_is_not_said_to_hold(operator: Operator) -> None:
    """An operator who pauses a detector while everything is cancelled would believe that its commands wait."""
    operator("cancel", "--everything", "--reason", "storm")
    operator("shadow", *DETECTOR, "--reason", "a look")
    operator("cancel", "--issuer", "another", "--reason", "storm")

    paused = operator("pause", *DETECTOR, "--reason", "hold")
    resumed = operator("resume", *DETECTOR, "--reason", "fixed")

    shown = paused.stdout.partition("where one of these orders covers its commands, that holds instead:\n")[2]
    assert shown.startswith("cancel    everything\n")
    assert "another" not in shown
    assert "within 2 s, except where one of these orders covers them.\nstill in force:" in resumed.stdout


def test_json_has_the_record_that_was_written_and_where_it_is(operator: Operator, kafka: Cluster) -> None:
    written = operator(
        "cancel", *DETECTOR, "--action", "room.kick_user_out", "--reason", "wrong", "--by", "alice", "--json"
    )
    resumed = operator(
        "resume", *DETECTOR, "--action", "room.kick_user_out", "--reason", "fixed", "--by", "bob", "--json"
    )

    said = msgspec.json.decode(written.stdout)
    assert said["scope"] == {"action": "room.kick_user_out", "issuer": "detector-7"}
    assert (said["state"], said["reason"], said["by"], said["offset"]) == ("cancel", "wrong", "alice", 0)
    assert msgspec.json.decode(resumed.stdout)["ended"] == "cancel"
    records = _records(kafka, operator.names["control"])
    assert [each.key for each in records] == [b'{"action":"room.kick_user_out","issuer":"detector-7"}'] * 2
    assert records[1].value is None
    assert dict(records[1].headers) == {"by": b"bob", "reason": b"fixed"}


def _records(kafka: Cluster, topic: str) -> list[Any]:
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    records: list[Any] = []
    while len(records) < 2:
        records += consumer.poll(1000).get(TopicPartition(topic, 0), [])
    consumer.close()
    return records


def test_what_an_order_holds_is_counted_without_what_the_group_has_done(
    operator: Operator, producer: KafkaProducer, kafka: Cluster
) -> None:
    """Done are what lies below the commit and what its bitmap says: of ten commands, three and one."""
    topic = operator.names["commands"]
    for number in range(10):
        producer.send(topic, ban("detector-7", number), key=b"g", partition=0)
        producer.send(topic, ban("another", number), key=b"g", partition=1)
    producer.flush(30)
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id=operator.names["group"])
    consumer.partitions_for_topic(topic)
    place = TopicPartition(topic, 0)
    metadata = encode(label(topic, known_topic_id(consumer, topic), 0), 3, 0b10)
    consumer.commit({place: OffsetAndMetadata(3, metadata, -1)})
    consumer.close()
    operator("pause", *DETECTOR, "--reason", "bans everybody")
    operator("pause", "--issuer", "nobody", "--reason", "to be sure")

    listed = operator("control", "--json")

    held = {
        report["scope"]["issuer"]: (report["held"], report["held_complete"])
        for report in map(msgspec.json.decode, listed.stdout.splitlines())
    }
    assert held == {"detector-7": (6, True), "nobody": (0, True)}


@pytest.mark.parametrize(
    ("control", "sentence"),
    [
        ({"partitions": 2}, "it has 2 partitions"),
        ({"configs": {"cleanup.policy": "delete"}}, "--add-config cleanup.policy=compact"),
    ],
)
def test_a_topic_that_does_not_fit_is_refused_by_every_command(
    operator_of: Callable[..., Operator], control: dict[str, Any], sentence: str
) -> None:
    operator = operator_of(**control)

    for command, arguments in (
        ("pause", (*DETECTOR, "--reason", "x")),
        ("resume", (*DETECTOR, "--reason", "x")),
        ("control", ()),
        ("check", ()),
    ):
        refused = operator(command, *arguments)
        assert refused.returncode == 2, command
        assert sentence in refused.stderr + refused.stdout


def test_a_topic_that_does_not_exist_is_said_with_what_creates_it(operator: Operator) -> None:
    absent = {"WORKER_KAFKA__CONTROL_TOPIC": "no-such-control-topic"}

    paused = operator("pause", *DETECTOR, "--reason", "x", **absent)
    off = operator("control", WORKER_KAFKA__CONTROL_TOPIC="")
    checked = operator("check", **absent)

    assert paused.returncode == off.returncode == 2
    assert "does not exist: moderation-worker topics create" in paused.stderr
    assert "kafka.control_topic is null" in off.stderr
    assert "so nobody can stop commands" in checked.stdout


# The runbook, with a kubectl that runs the program here instead of in a pod.


def shell(operator: Operator, tmp_path: Path, line: str) -> str:
    """One line of the runbook, which must end well; what it prints."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f"{HELPER}\n{line}"],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "NS": "moderation",
            "NAME": "trust-moderation-worker",
            "USER": "alice",
            "WORKER_CONFIG": str(operator.config),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_force(operator: Operator) -> list[tuple[str, str, str, int]]:
    listed = map(msgspec.json.decode, operator("control", "--json").stdout.splitlines())
    return [(str(each["scope"]), each["state"], each["by"], each["held"]) for each in listed]


def test_the_paragraphs_stop_a_detector_and_everything_and_resume_without_the_flood(
    operator: Operator, producer: KafkaProducer, tmp_path: Path
) -> None:
    """In the order in which an operator would: each line does what its paragraph says."""
    for number in range(3):
        producer.send(operator.names["commands"], ban("detector-7", number), key=b"g")
    producer.send(operator.names["commands"], ban("another", 1), key=b"g")
    producer.flush(30)
    pause, control = LINES["Stop a detector"]
    everything, _, resume_all = LINES["Stop everything"]
    cancel, _, resume = LINES["Resume without the flood"]
    scope = "{'issuer': 'detector-7'}"

    shell(operator, tmp_path, pause)
    assert in_force(operator) == [(scope, "paused", "alice", 3)]
    shell(operator, tmp_path, everything)
    listed = shell(operator, tmp_path, control)
    assert "paused    everything" in listed
    assert "still in force:\npaused    issuer detector-7" in shell(operator, tmp_path, resume_all)
    shell(operator, tmp_path, cancel)
    assert in_force(operator) == [(scope, "cancel", "alice", 3)]
    shell(operator, tmp_path, resume)
    assert in_force(operator) == []
