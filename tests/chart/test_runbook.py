# The runbook, read as the one who is called would: what it names exists, and its commands run.

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.chart import chart, metric_names
from worker.runtime.log_events import EVENTS
from worker.settings.catalog import table_of_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _text() -> str:
    return (chart.folder() / "RUNBOOK.md").read_text()


def _commands() -> list[str]:
    return [
        line for block in re.findall(r"```sh\n(.*?)```", _text(), re.DOTALL) for line in block.splitlines()
    ]


def test_it_names_only_metrics_that_exist() -> None:
    named = set(re.findall(r"\bmoderation_worker_[a-z_]+", _text()))

    assert len(named) >= 10
    assert named <= set(metric_names.exposed())


def test_it_names_only_log_events_that_exist() -> None:
    rooms = {name.partition(".")[0] for name in EVENTS} - {"kafka"}
    named = set(re.findall(rf"\b(?:{'|'.join(sorted(rooms))})\.[a-z]+_?[a-z_]*\b", " ".join(_commands())))
    named.discard("app.kubernetes")  # a label's beginning
    for group in re.findall(r"kafka\\\.\(([a-z_|]+)\)", _text()):
        named |= {f"kafka.{name}" for name in group.split("|")}

    assert len(named) >= 8
    assert named <= EVENTS.keys()


def test_it_names_only_values_and_settings_that_exist() -> None:
    values = yaml.safe_load((chart.folder() / "values.yaml").read_text())
    named = set(re.findall(r"`(settings\.[a-z_.]+[a-z]|kafka\.[a-z_]+)`", _text()))
    known = {f"settings.{'.'.join(path)}" for path in table_of_rows()} | {
        ".".join(path) for path in table_of_rows()
    }

    assert len(named) >= 5
    assert named - EVENTS.keys() <= known
    assert "metricsFrom" in values["networkPolicy"]


@pytest.mark.parametrize("command", _commands(), ids=range(len(_commands())))
def test_every_command_is_valid_shell(command: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(f'{{"asked": "{self.path}"}}'.encode())

    def log_message(self, *_: object) -> None:
        """
        Silent.
        """


@pytest.fixture
def server() -> Iterator[int]:
    """
    A worker that is not ready; its port.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


def test_ask_shows_the_answer_of_a_worker_that_is_not_ready(server: int, tmp_path: Path) -> None:
    """
    /readyz answers 503 with the reason: a tool that swallows the body would hide the one line that matters.
    """
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nexec {sys.executable} "$@"\n'
    )
    kubectl.chmod(0o755)
    ask = next(line for line in _commands() if line.startswith("ask()")).replace("9000", str(server))

    done = subprocess.run(
        ["bash", "-c", f"{ask}\nask /readyz"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "NS": "m", "NAME": "n"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == '{"asked": "/readyz"}\n'
