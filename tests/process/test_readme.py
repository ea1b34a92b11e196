# The examples of the README and its pages, carried out: the contract's commands get the outcomes that it shows, on a real
# Kafka and the local Tencent API; the simulators start, and the questions are answered.

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.docs.markdown import blocks, command_lines, text
from tests.docs.test_readme import COMMANDS, CONTRACT, LOCAL_API, OUTCOMES, RUNNING
from worker.testing.demo.environment import PARTITIONS, DemoEnvironment, ask_directly
from worker.testing.kafka.child_process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Cluster

PATIENCE: Final = 60.0
WAITING: Final = 4
"""The exit code of `outcomes` where what was asked for has no outcome yet."""
MISSPELT: Final = {
    "command_id": "ban-0002",
    "action": "group.ban_group_member",
    "group_id": "group-42",
    "user_ids": ["user-9"],
    "duration": 3600,
    "raeson": "spam",
}
NOBODY: Final = {
    "command_id": "ban-0003",
    "action": "group.ban_group_member",
    "group_id": "group-42",
    "user_ids": ["user-404"],
    "duration": 600,
}
SENT: Final = [*COMMANDS, COMMANDS[0], MISSPELT, NOBODY]
VARY: Final = ("_at", "_ms", "call_id", "request_id", "request_ids", "name")
"""What differs from run to run: names of fields, or their ends."""


@dataclass(frozen=True, slots=True)
class Run:
    """The contract's commands after they were carried out, one after the other."""

    stage: DemoEnvironment
    outcomes: list[dict[str, Any]]
    letters: list[Any]

    def said(self, text: str) -> str:
        """A text of this run with the topics called as in the contract."""
        return text.replace(self.stage.topics.commands, "moderation.commands")

    def asked(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = str(self.stage.folder / "worker-1.yaml")
        return worker("outcomes", "--config", config, *arguments)


def worker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def send(stage: DemoEnvironment, commands: Sequence[dict[str, Any]]) -> Iterator[None]:
    producer = KafkaProducer(bootstrap_servers=stage.bootstrap_servers)
    try:
        for command in commands:
            key = (command.get("group_id") or command["room_id"]).encode()
            producer.send(stage.topics.commands, key=key, value=json.dumps(command).encode()).get(PATIENCE)
            yield
    finally:
        producer.close(timeout=5)


@pytest.fixture(scope="module")
def run(kafka: Cluster) -> Iterator[Run]:
    with DemoEnvironment(kafka.bootstrap_servers) as stage:
        stage.start_kafka()
        stage.start_simulator()
        stage.control("faults", {"bad_user_list": ["user-404"]})
        stage.wait_until_ready(stage.start_worker())
        made = Run(stage, [], [])
        _carry_out(made)
        yield made


def _carry_out(run: Run) -> None:
    topics = run.stage.topics
    reader = KafkaConsumer(
        bootstrap_servers=run.stage.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=round(PATIENCE * 1000),
    )
    reader.assign(
        [
            TopicPartition(topic, number)
            for topic in (topics.outcomes, topics.dead_letters)
            for number in range(PARTITIONS)
        ]
    )
    for _ in send(run.stage, SENT):
        before = len(run.outcomes)
        for record in reader:
            if record.topic == topics.dead_letters:
                run.letters.append(record)
                continue
            run.outcomes.append(json.loads(run.said(record.value.decode())))
            break
        assert len(run.outcomes) == before + 1
    reader.close(autocommit=False)


def masked(value: Any, name: str = "") -> Any:
    """The same, except what differs from run to run, of which only the kind is left."""
    if isinstance(value, dict):
        return {key: masked(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner, name) for inner in value]
    return type(value).__name__ if name.endswith(VARY) else value


@pytest.mark.kafka
@pytest.mark.parametrize("shown", OUTCOMES, ids=lambda outcome: outcome["outcome_id"])
def test_every_outcome_that_is_shown_is_what_its_command_gets(run: Run, shown: dict[str, Any]) -> None:
    (real,) = (each for each in run.outcomes if each["outcome_id"] == shown["outcome_id"])

    got = masked(real)

    assert {name: got[name] for name in shown} == masked(shown)


@pytest.mark.kafka
def test_the_first_outcome_is_shown_whole(run: Run) -> None:
    assert run.outcomes[0].keys() == OUTCOMES[0].keys()


@pytest.mark.kafka
def test_the_headers_of_a_dead_letter_are_those_of_the_table(run: Run) -> None:
    _, _, part = text(CONTRACT).partition("\n## Dead letters\n")
    wanted = {
        "x-error-code": "unknown_field",
        "x-error-message": "there is no field 'raeson': did you mean 'reason'?",
        "x-source-topic": "moderation.commands",
        "x-source-partition": "3",
        "x-source-offset": "3",
        "x-outcome-id": "moderation.commands-3-3",
    }

    letter = next(record for record in run.letters if b"raeson" in record.value)

    assert {name: run.said(value.decode()) for name, value in letter.headers} == wanted
    assert json.loads(letter.value) == MISSPELT
    assert all(f"`{text}`" in part for pair in wanted.items() for text in pair)


def alike(text: str) -> str:
    """An answer of ``outcomes`` without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    return re.sub(r"\b[\d,]+ ms\b", "N ms", re.sub(r"\b[0-9a-f]{8}-\d+\b", "CALL", text))


@pytest.mark.kafka
def test_what_happened_to_a_user_is_answered_as_shown(run: Run) -> None:
    answer = run.asked("--user", "user-404", "--since", "2h")

    assert answer.returncode == 0, answer.stderr
    first, second = run.said(answer.stdout).strip().split("\n\n")
    assert alike(first) == alike(blocks(RUNNING, "")[1]).strip()
    assert "room.kick_user_out" in second
    assert "user-404: failed" in second
    assert "user-3" not in second


@pytest.mark.kafka
def test_a_command_that_waits_is_printed_as_shown(run: Run) -> None:
    endpoint = "group_open_http_svc/unban_group_member"
    run.stage.control("faults", {"outage": "502", "endpoint": endpoint})
    late = [
        {
            "command_id": f"late-{number}",
            "action": "group.unban_group_member",
            "group_id": "group-42",
            "user_ids": [f"user-{number}"],
        }
        for number in range(3)
    ]
    for _ in send(run.stage, late):
        pass

    answer = run.asked("--command-id", "late-2")

    assert answer.returncode == WAITING, answer.stderr
    assert alike(run.said(answer.stdout)).strip() == alike(blocks(RUNNING, "")[2]).strip()


@pytest.mark.kafka
def test_what_never_came_ends_with_3(run: Run) -> None:
    answer = run.asked("--command-id", "never-sent")

    assert (answer.returncode, answer.stdout) == (3, "")
    assert "no outcome of command id never-sent since 24h" in answer.stderr


def with_a_free_port(words: list[str]) -> list[str]:
    return [*words[: words.index("--port") + 1], "0", *words[words.index("--port") + 2 :]]


SIMULATORS: Final = [words for words in command_lines(LOCAL_API) if words[1:2] == ["simulate"]]
QUESTIONS: Final = [words for words in command_lines(LOCAL_API) if words[0] == "curl"]


def curl(words: list[str], address: str) -> Any:
    """What the command line would get."""
    (url,) = (word for word in words if word.startswith("http://127.0.0.1:8080"))
    body = words[words.index("-d") + 1].encode() if "-d" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    request = urllib.request.Request(  # noqa: S310 - an http address of this machine
        url.replace("http://127.0.0.1:8080", address), data=body, method=method
    )
    with ask_directly(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("words", SIMULATORS, ids=" ".join)
def test_every_simulator_starts_and_answers_every_question(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main").write_text("5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e")
    log = tmp_path / "output"
    simulator = ChildProcess(
        "the simulator", [sys.executable, "-m", "worker", *with_a_free_port(words[1:])], log
    )
    simulator.start()
    try:
        simulator.wait_until(lambda: "listening on" in log.read_text(), PATIENCE, "listening")
        address = log.read_text().split()[-1]

        answers = [curl(question, address) for question in QUESTIONS]
    finally:
        simulator.stop()

    assert len(answers) == 4
    assert all(isinstance(answer, dict) and "errors" not in answer for answer in answers)
