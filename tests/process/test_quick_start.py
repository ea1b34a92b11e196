# From a clone to a first outcome: the commands of the README, to the letter, and `kafka` as it starts and ends.

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.markdown import ROOT, blocks
from worker.testing.demo.environment import answers_ok
from worker.testing.kafka.child_process import ChildProcess
from worker.testing.kafka.embedded_kafka import answers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.kafka

PATIENCE: Final = 90.0
PORTS: Final = (8080, 9000)
"""Those of the README. Where another program has one of them, it cannot be tried to the letter."""
(QUICK_START,) = (block for block in blocks("README.md", "sh") if "moderation-worker kafka" in block)
VENV, KAFKA, SIMULATE, RUN, SEND = QUICK_START.splitlines()


def program(line: str) -> list[str]:
    """A line of the README, with the program of this environment."""
    first, *words = shlex.split(line)
    assert first == ".venv/bin/moderation-worker"
    return [sys.executable, "-m", "worker", *words]


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.alone
def test_five_commands_lead_from_a_clone_to_a_first_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked alone: the ports are those of the README, and another test may have the same."""
    for port in PORTS:
        if is_taken(port):
            pytest.skip(f"another program has port {port}, which the README names")
    monkeypatch.chdir(tmp_path)
    assert VENV == "make venv"
    steps: list[tuple[str, Callable[[str], bool]]] = [
        (KAFKA, lambda log: "Ctrl-C ends it" in log),
        (SIMULATE, lambda log: "listening on http://127.0.0.1:8080" in log),
        (RUN, lambda _: answers_ok("http://127.0.0.1:9000/readyz")),
    ]
    with ExitStack() as stack:
        for number, (line, ready) in enumerate(steps):
            log = tmp_path / f"{number}.log"
            process = ChildProcess(line, program(line), log)
            process.start()
            stack.callback(process.stop)
            process.wait_until(lambda ready=ready, log=log: ready(log.read_text()), PATIENCE, "ready")  # type: ignore[misc]

        done = subprocess.run(program(SEND), capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert done.returncode == 0, done.stderr
    assert "  succeeded  group.ban_group_member  group group-42\n" in done.stdout
    assert "    users       user-1: applied\n" in done.stdout


def test_what_kafka_prints_can_be_pasted_and_it_ends_with_ctrl_c(tmp_path: Path) -> None:
    """
    Its folder is kept, and a second start has the same data at the same address. Java reads names in its own way: the data of
    a folder with other letters than English ones, or with a backslash, was in another one.
    """
    folder = tmp_path / "a b\\c 群"
    printed = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "kafka", "--json", "--data", str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert process.stdout is not None
        printed.append(json.loads(process.stdout.readline()))
        servers = printed[-1]["bootstrap_servers"]
        assert answers(servers)
        checked = subprocess.run(
            [sys.executable, "-m", "worker", "check", "--json", "--config", printed[-1]["settings"]],
            env={}, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)

        assert (process.returncode, complaint) == (0, "")
        assert checked.returncode == 0, checked.stdout
        assert not answers(servers)

    assert printed[0] == printed[1]
    assert printed[0]["topics"] == [
        f"moderation.{name}" for name in ("commands", "outcomes", "dead-letters", "control", "quota")
    ]
    assert (folder / "data" / "meta.properties").exists()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / "key").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        done = subprocess.run(
            [sys.executable, "-m", "worker", "kafka", "--data", str(place)],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

        assert done.returncode == 2
        assert "--data" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
