# The runbook's commands that ask, undo and replay, run as they are written, with a kubectl that runs the program here.
#
# Those that stop and resume are run by test_control_commands.py.

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.process.test_control_commands import KUBECTL
from tests.process.test_topics_and_check import config as config
from tests.process.test_undo_and_replay import topics as topics
from worker.domain.contract.outcomes import ResultStatus, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.test_undo_and_replay import Topics

pytestmark = pytest.mark.kafka

RUNBOOK: Final = Path(__file__).parents[2] / "helm" / "moderation-worker" / "RUNBOOK.md"
ELSEWHERE: Final = ("pause", "cancel", "shadow", "resume", "control")
COMMANDS: Final = [
    line
    for block in re.findall(r"```sh\n(.*?)```", RUNBOOK.read_text("utf-8"), re.DOTALL)
    for line in block.splitlines()
    if line.startswith(("mw ", "apart ")) and line.split()[1] not in ELSEWHERE
]
HELPERS: Final = "\n".join(re.findall(r"^(?:mw|apart)\(\).*$", RUNBOOK.read_text("utf-8"), re.MULTILINE))
SPAN: Final = re.compile(r"--since 2027\S+ --until \S+")
"""A time that has not come yet, when this is run."""


@pytest.fixture
def run(topics: Topics, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)

    def ran(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"{HELPERS}\n{line}"],
            env={
                "PATH": f"{tmp_path}:/usr/bin:/bin",
                "NS": "moderation",
                "NAME": "trust-moderation-worker",
                "USER": "alice",
                "WORKER_CONFIG": topics.config,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return ran


def test_each_command_of_the_runbook_answers(
    topics: Topics, run: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    """In the order in which they are written, on topics in which all that they ask about has happened."""
    topics.outcome("TARGET", "X", command_id="ID", issuer="detector-7")
    topics.outcome("g1", "a", issuer="detector-7")
    topics.outcome("g2", "e", issuer="ISSUER")
    topics.outcome("g1", "d", status=Status.PARTIALLY_SUCCEEDED)
    topics.outcome("g1", "b", status=Status.REJECTED, result=ResultStatus.FAILED)
    topics.letter("g1", "c")

    unanswered = []
    for line in COMMANDS:
        done = run(SPAN.sub("--since 1h --until 0s", line))
        # Nothing waits here, nobody carries out what undo sent, the topics are no production's, and no Tencent is there.
        fine = (
            {0, 3, 4}
            if any(word in line for word in ("waiting", "undo-by-", "simulated"))
            else {0, 1, 2}
            if "check" in line
            else {0}
        )
        if (
            done.returncode not in fine
            or "Traceback" in done.stderr
            or "Usage:" in done.stderr
            or (done.returncode == 0 and not done.stdout)
        ):
            unanswered.append(f"{line}\n{done.returncode}\n{done.stdout}{done.stderr}")

    assert unanswered == []
    assert len(COMMANDS) >= 15
    sent = {record.key: record.value for record in topics.sent()}
    assert b"undo" in sent[b"TARGET"]
    assert b"undo-by-alice" in sent[b"TARGET"], "as the next line asks for, and not as the pod's user"
    assert len(topics.sent()) == 3, "two groups to undo, one letter to replay"


def test_the_runbook_uses_kafkas_own_tools_only_for_what_the_product_cannot_know() -> None:
    text = RUNBOOK.read_text("utf-8")

    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    assert not [line for line in commands if "kcat" in line]
    assert {
        next((word for word in ("under-min-isr", "--members", "--state") if word in line), line)
        for line in commands
        if re.match(r"kafka-\w+", line)
    } == {"under-min-isr", "--members", "--state"}


def test_what_needs_memory_does_not_run_beside_the_worker() -> None:
    hungry = re.compile(r"mw (?:undo|dead-letters|outcomes .*--by) ")

    assert [line for line in RUNBOOK.read_text("utf-8").splitlines() if hungry.search(f"{line} ")] == []
