# `watch` on a real Kafka, as a user runs it: outcomes as they come, filtered, until Ctrl-C or the number asked for.

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.process.test_topics_and_check import config as config
from tests.process.test_topics_and_check import worker
from tests.process.test_undo_and_replay import topics as topics
from worker.cli.watch import one_line
from worker.domain.contract.outcomes import ResultStatus, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.test_undo_and_replay import Topics

pytestmark = pytest.mark.kafka


def watching(topics: Topics, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "worker", "watch", "--since", "1h", *arguments, "--config", topics.config],
        env={"PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_outcomes_are_shown_as_they_come_and_ctrl_c_ends_it_quietly(topics: Topics) -> None:
    topics.outcome("g1", "before")
    watched = watching(topics, "--target", "g1")
    assert watched.stdout is not None

    first = watched.stdout.readline()
    topics.outcome("g2", "elsewhere")
    topics.outcome("g1", "while it watches", status=Status.FAILED, result=ResultStatus.FAILED)
    second = watched.stdout.readline()
    watched.send_signal(signal.SIGINT)
    rest, stderr = watched.communicate(timeout=30)

    assert "succeeded  group.ban_group_member  g1  before" in first
    assert "failed  group.ban_group_member  g1  while it watches" in second
    assert (watched.returncode, rest, stderr) == (130, "", "")


def test_it_ends_after_so_many_and_shows_them_whole_as_json(topics: Topics) -> None:
    topics.producer.send(topics.outcomes, b"no outcome", partition=0).get(30)
    made = [topics.outcome("g1", f"u{number}", issuer="mad") for number in range(3)]
    topics.outcome("g1", "other", issuer="good")
    watched = watching(topics, "--issuer", "mad", "--limit", "2", "--json")

    stdout, stderr = watched.communicate(timeout=60)

    found = [json.loads(line) for line in stdout.splitlines()]
    assert [each["outcome_id"] for each in found] == [each.outcome_id for each in made[:2]]
    assert (watched.returncode, stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--status", "waiting"), "what waits has none"),
        (("--status", "sucseeded"), "did you mean succeeded?"),
        (("--since", "now"), "give 90s, 30m, 24h or 7d"),
    ],
)
def test_what_nothing_can_match_is_refused(config: Path, arguments: tuple[str, ...], says: str) -> None:
    asked = worker("watch", *arguments, "--config", str(config), environ={})

    assert asked.returncode == 2
    assert says in " ".join(asked.stderr.split())


def test_a_line_that_does_not_fit_goes_on_below_and_no_id_is_cut() -> None:
    target, command_id = "g" * 48, "c" * 128
    value = json.dumps(
        {
            "outcome_id": "o",
            "finished_at": "2027-01-15T08:00:00.250Z",
            "status": "partially_succeeded",
            "action": "group.unban_group_member",
            "group_id": target,
            "command_id": command_id,
            "results": [{"user_id": f"{number}" * 32} for number in range(5)],
        }
    ).encode()

    lines = one_line(value, 80).splitlines()

    assert [len(line) <= 80 for line in lines if command_id not in line and "0000" not in line].count(
        False
    ) == 0
    assert any(target in line for line in lines)
    assert any(command_id in line for line in lines)
    assert len(one_line(value, None).splitlines()) == 1
    assert "odd" in one_line(b'{"outcome_id":"o","results":["odd"]}', 80)
