# `send` on a real Kafka, as a user runs it: where commands go, what is waited for, and how it ends.

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.process.test_topics_and_check import config as config
from tests.process.test_topics_and_check import worker as run_worker
from worker.domain.contract.placement_check import partition_of
from worker.testing.demo.environment import PARTITIONS, DemoEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka

PATIENCE: Final = 90.0


def worker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_worker(*arguments, environ={})


BAN: Final = ("--action", "group.ban_group_member", "--group-id", "group-42", "--duration", "60")


@pytest.fixture(scope="module")
def stage(kafka: Cluster) -> Iterator[DemoEnvironment]:
    with DemoEnvironment(kafka.bootstrap_servers) as stage:
        stage.start_kafka()
        stage.start_simulator()
        stage.control("faults", {"bad_user_list": ["user-404"]})
        stage.wait_until_ready(stage.start_worker())
        yield stage


def send(
    stage: DemoEnvironment, *arguments: str, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", "send", "--config", str(stage.folder / "worker-1.yaml"), *arguments],
        input=given, env={"PATH": os.defpath}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def lines(ids: Sequence[str], **changes: Any) -> str:
    made = (
        {
            "command_id": each,
            "action": "group.unban_group_member",
            "group_id": f"group-{number % 7}",
            "user_ids": [each],
        }
        for number, each in enumerate(ids)
    )
    return "".join(json.dumps(each | changes) + "\n" for each in made)


def commands(stage: DemoEnvironment) -> list[Any]:
    """Everything in the command topic."""
    reader = KafkaConsumer(bootstrap_servers=stage.bootstrap_servers, auto_offset_reset="earliest")
    places = [TopicPartition(stage.topics.commands, partition) for partition in range(PARTITIONS)]
    reader.assign(places)
    ends = reader.end_offsets(places)
    found = []
    while any(reader.position(place) < ends[place] for place in places):
        found += [record for batch in reader.poll(timeout_ms=500).values() for record in batch]
    reader.close(autocommit=False)
    return found


def test_a_command_from_options_goes_where_its_target_belongs_and_is_followed(
    stage: DemoEnvironment,
) -> None:
    done = send(stage, *BAN, "--user", "user-1", "--user", "user-2", "--reason", "spam", "--wait")

    assert done.returncode == 0, done.stderr
    (record,) = (each for each in commands(stage) if b"spam" in each.value)
    assert record.key == b"group-42"
    assert record.partition == partition_of(b"group-42", PARTITIONS)
    assert f"as {stage.topics.commands}-{record.partition}-{record.offset}\n" in done.stdout
    assert "  succeeded  group.ban_group_member  group group-42\n" in done.stdout
    assert json.loads(record.value)["user_ids"] == ["user-1", "user-2"]


def test_with_json_the_outcome_itself_is_printed_and_a_failure_ends_with_5(stage: DemoEnvironment) -> None:
    done = send(stage, *BAN, "--user", "user-404", "--command-id", "bad-1", "--wait", "--json")

    assert done.returncode == 5, done.stderr
    (outcome,) = map(json.loads, done.stdout.splitlines())
    assert (outcome["command_id"], outcome["status"]) == ("bad-1", "failed")


def test_lines_of_standard_input_are_sent_in_order_and_counted(stage: DemoEnvironment) -> None:
    ids = [f"line-{number}" for number in range(200)]

    done = send(stage, "-", "--wait", given=lines(ids))

    assert done.returncode == 0, done.stderr
    assert done.stdout == "sent 200 of 200 commands to 7 targets\n200 succeeded\n"
    sent = [record for record in commands(stage) if b'"line-' in record.value]
    assert len(sent) == 200
    for target in range(7):
        mine = [json.loads(each.value)["command_id"] for each in sent if each.key == b"group-%d" % target]
        assert mine == [each for number, each in enumerate(ids) if number % 7 == target]


def test_nothing_is_sent_unless_all_lines_are_valid_or_the_others_are_skipped(
    stage: DemoEnvironment, tmp_path: Path
) -> None:
    file = tmp_path / "commands.jsonl"
    file.write_text(lines(["ok-1"]) + lines(["bad-2"], isuer="x") + lines(["ok-3"]))
    before = len(commands(stage))

    refused = send(stage, str(file))
    nothing = len(commands(stage)) - before
    skipped = send(stage, str(file), "--skip-invalid", "--json")

    assert (refused.returncode, refused.stdout, nothing) == (2, "", 0)
    assert refused.stderr == (
        "1 command is not valid, so nothing was sent:\n"
        "  line 2: isuer: there is no field 'isuer': did you mean 'issuer'?\n"
    )
    said = [json.loads(line) for line in skipped.stdout.splitlines()]
    assert [(each["status"], each.get("command_id"), each.get("line")) for each in said] == [
        ("invalid", None, 2),
        ("sent", "ok-1", None),
        ("sent", "ok-3", None),
    ]
    assert (skipped.returncode, len(commands(stage)) - before) == (0, 2)


def test_a_dry_run_judges_and_sends_nothing(stage: DemoEnvironment) -> None:
    before = len(commands(stage))

    one = send(stage, *BAN, "--user", "u", "--dry-run")
    wrong = send(stage, *BAN, "--dry-run")

    assert (one.returncode, one.stdout) == (0, "would send 1 command to 1 target; nothing was sent\n")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--user: user_ids is missing" in wrong.stderr
    assert len(commands(stage)) == before


def test_a_command_that_expires_ends_with_6(stage: DemoEnvironment) -> None:
    done = send(stage, *BAN, "--user", "u", "--not-after", "2001-01-01T00:00:00Z", "--wait")

    assert done.returncode == 6, done.stderr
    assert "  expired  " in done.stdout


@pytest.fixture
def asleep(config: Path) -> str:
    """Settings whose topics exist and that no worker uses."""
    assert worker("topics", "create", "--config", str(config)).returncode == 0
    return str(config)


def test_without_a_worker_waiting_ends_with_4_and_a_sentence(asleep: str) -> None:
    done = worker("send", "--config", asleep, *BAN, "--user", "u", "--wait", "--timeout", "0.5")

    assert done.returncode == 4
    command_id = done.stdout.split()[1]
    assert command_id.startswith("send-")
    assert done.stderr == (
        "1 command has no outcome after 0.5 s: is a worker running, and ready? Ask later:\n"
        f"  moderation-worker outcomes --config {asleep} --command-id {command_id}\n"
    )


def test_without_a_worker_a_command_that_waits_is_an_object_of_json(asleep: str) -> None:
    done = worker(
        "send",
        "--config",
        asleep,
        *BAN,
        "--user",
        "u",
        "--command-id",
        "c-1",
        "--wait",
        "--timeout",
        "0.5",
        "--json",
    )

    (said,) = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, said["status"], said["command_id"]) == (4, "waiting", "c-1")


def test_an_interrupt_while_waiting_tells_what_was_sent_all_the_same(asleep: str) -> None:
    """Nothing was printed, so a script did not know the ids of what it had sent."""
    waits = ("--user", "u", "--command-id", "c-1", "--wait", "--json")
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "send", "--config", asleep, *BAN, *waits],
        env={}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as sending:  # fmt: skip
        wait_for(lambda: worker("outcomes", "--config", asleep, "--command-id", "c-1").returncode == 4)
        sending.send_signal(signal.SIGINT)
        said, complaint = sending.communicate(timeout=PATIENCE)

    assert [json.loads(line)["status"] for line in said.splitlines()] == ["waiting"]
    assert (sending.returncode, complaint) == (130, "")


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end


def test_without_the_topic_it_says_which_command_makes_it(config: Path) -> None:
    done = worker("send", "--config", str(config), *BAN, "--user", "u")

    assert done.returncode == 1
    assert "`moderation-worker topics create` makes it" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("file.jsonl", *BAN),
        (*BAN, "--skip-invalid"),
        ("/no/such/file",),
        ("/",),
        ("a\0b".replace("\0", "\udcff"),),
        (*BAN, "--user", "u", "--metadata", "{"),
        (*BAN, "--user", "u", "--metadata", "[1]"),
        (*BAN, "--user", "u", "--duration", "1h"),
        (*BAN, "--user", "u", "--wait", "--timeout", "-1"),
        (*BAN, "--user", "u", "--timeout", "5"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_end_with_2_before_kafka_is_asked(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text(
        "kafka: {bootstrap_servers: ['127.0.0.1:1']}\n"
        "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
    )

    done = worker("send", "--config", str(tmp_path / "worker.yaml"), *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
