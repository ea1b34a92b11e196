# `moderation-worker demo` as a new user meets it: a process, its exit code, its summary, and nothing left behind.

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from kafka import KafkaAdminClient

from worker.testing.demo.environment import ask_directly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cluster

DEMO: Final = (sys.executable, "-m", "worker", "demo")
DEADLINE: Final = 120.0

pytestmark = pytest.mark.kafka


class Demo:
    """A running demo, with what it has printed so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._output = folder / "output"
        self._folder = folder
        with self._output.open("wb") as output:
            environment = {**os.environ, "TMPDIR": str(folder), "COLUMNS": "100"}
            self.process = subprocess.Popen(
                [*DEMO, *options], stdout=output, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def output(self) -> str:
        return self._output.read_text("utf-8")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + DEADLINE
        while text not in self.output:
            assert self.process.poll() is None, f"it ended before it printed {text!r}:\n{self.output}"
            assert time.monotonic() < end, f"it never printed {text!r}:\n{self.output}"
            time.sleep(0.05)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        """A test that failed leaves nothing behind either."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(DEADLINE)

    @property
    def left(self) -> list[str]:
        """The processes that still use this demo's temporary folder, and the folders that are still there."""
        running = [command for command in _commands() if str(self._folder) in command]
        return running + [path.name for path in self._folder.iterdir() if path.is_dir()]


def _commands() -> Iterator[str]:
    """The command of each process that runs."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield file.read_bytes().replace(b"\0", b" ").decode(errors="replace")


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demo with these options."""
    begun: list[Demo] = []

    def start(*options: str) -> Demo:
        begun.append(Demo(tmp_path, *options))
        return begun[-1]

    yield start
    for demo in begun:
        demo.close()


def test_a_demo_on_ones_own_kafka_keeps_its_promises_and_leaves_no_topic(
    kafka: Cluster, tmp_path: Path, begin: Callable[..., Demo]
) -> None:
    summary = tmp_path / "summary.json"
    options = ("--commands", "500", "--seed", "4", "--no-trouble", "--json", str(summary))
    demo = begin(*options, "--bootstrap-servers", kafka.bootstrap_servers)

    assert demo.process.wait(DEADLINE) == 0, demo.output

    shown = json.loads(summary.read_text())
    assert shown["clean"]
    assert set(shown["findings"].values()) == {0}
    assert shown["records"] == 510
    assert "Every promise held." in demo.output
    assert demo.left == []
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    assert not [topic for topic in admin.list_topics() if topic.startswith("demo-")]
    admin.close()


def test_ctrl_c_in_the_middle_ends_everything_that_was_started(begin: Callable[..., Demo]) -> None:
    demo = begin("--commands", "20000", "--no-trouble")
    demo.wait_for("1 worker")

    assert demo.interrupt() == 130

    assert demo.left == []


def test_keep_leaves_everything_running_until_ctrl_c(kafka: Cluster, begin: Callable[..., Demo]) -> None:
    demo = begin(
        "--commands",
        "100",
        "--no-trouble",
        "--keep",
        "--bootstrap-servers",
        kafka.bootstrap_servers,
    )
    demo.wait_for("--status failed --limit 3")
    running = demo.left
    (question,) = (line for line in demo.output.splitlines() if " outcomes --config " in line)
    (page,) = re.findall(r"worker 1, page +(http\S+)", demo.output)
    answer = subprocess.run(
        shlex.split(question), env={}, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    with ask_directly(page, timeout=DEADLINE) as shown:
        html = shown.read()

    assert (answer.returncode, answer.stdout.count("  failed  ") > 0) == (0, True), answer.stderr
    assert b"<html" in html
    assert demo.interrupt() == 0
    assert any("simulate" in line for line in running)
    assert any("run --config" in line for line in running)
    assert demo.left == []


def test_an_unreachable_kafka_is_reported_in_one_line(begin: Callable[..., Demo]) -> None:
    demo = begin("--commands", "100", "--bootstrap-servers", "127.0.0.1:1")

    assert demo.process.wait(DEADLINE) == 1
    assert "the demo could not run" in demo.output
    assert "Traceback" not in demo.output
