# `moderation-worker simulate` as a process: it prints where it listens, and ends cleanly on a signal.

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from subprocess import DEVNULL, PIPE, Popen, run
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.unit.testing.simulator.calls import APP, KEY, LIVE_UNBAN, SAMPLES, a_query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "worker", "simulate"]
PATIENCE = 20.0
"""Seconds to start or to end, on a machine that is busy with other tests."""

Start = Callable[..., tuple["Popen[str]", str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the simulator and return the process and its address."""
    started: list[Popen[str]] = []
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")

    def begin(*options: str) -> tuple[Popen[str], str]:
        command = [*COMMAND, "--sdk-app-id", str(APP), "--key-file", str(key_file), *options]
        process = Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
        started.append(process)
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), process.communicate(timeout=PATIENCE)
        return process, line.split()[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary_and_a_whole_log(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "requests.jsonl"
    process, url = start("--log", str(log), "--limit", "1")
    for _ in range(2):
        httpx.post(f"{url}/v4/{LIVE_UNBAN}", params=a_query(), json=SAMPLES[LIVE_UNBAN])

    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)

    assert (process.returncode, errors) == (0, "")
    assert f"{LIVE_UNBAN}  2 requests (0: 1, 60007: 1), 2 members applied, 2 in the highest second" in output
    assert "longest stall" in output
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [line["error_code"] for line in lines] == [0, 60007]


def test_faults_are_set_by_flags_and_rules(start: Start) -> None:
    _, url = start(
        "--answer-code", "60014", "--bad-user-list", "u1", "--rule", '{"target": "t1", "outage": "502"}'
    )

    def status_and_code(room: str) -> tuple[int, int | None]:
        answer = httpx.post(
            f"{url}/v4/{LIVE_UNBAN}", params=a_query(), json={**SAMPLES[LIVE_UNBAN], "RoomId": room}
        )
        return answer.status_code, answer.json()["ErrorCode"] if answer.status_code == 200 else None

    assert [status_and_code("t1"), status_and_code("t2")] == [(502, None), (200, 60014)]


def test_its_stamps_are_on_the_clock_of_every_process_of_the_machine(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    process, url = start("--log", str(log))

    before = time.monotonic()
    httpx.post(f"{url}/v4/{LIVE_UNBAN}", params=a_query(), json=SAMPLES[LIVE_UNBAN])
    after = time.monotonic()
    process.terminate()
    process.communicate(timeout=PATIENCE)

    (line,) = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    assert before < line["at"] <= line["answered_at"] < after


def test_a_log_that_can_no_longer_be_written_ends_the_simulator(start: Start) -> None:
    process, url = start("--log", "/dev/full")

    httpx.post(f"{url}/v4/{LIVE_UNBAN}", params=a_query(), json=SAMPLES[LIVE_UNBAN])
    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert "No space left" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--log", "/no/such/file"),
            "/no/such/file cannot be written: no such file or directory: give another --log",
        ),
        (("--host", "host.invalid"), "host.invalid: "),
        (
            ("--host", "é..x"),
            "é..x: no host can have this name: give an address of this machine as --host",
        ),
    ],
)
def test_a_log_or_an_address_that_cannot_be_used_is_named(options: tuple[str, str], sentence: str) -> None:
    """It said "[Errno -2] Name or service not known", and not which."""
    ended = run(
        [*COMMAND, "--key", "k", *options], capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    line = ended.stderr.splitlines()[-1]
    assert line.startswith(f"moderation-worker failed: {sentence}")
    assert line.endswith(("give another --log", "give an address of this machine as --host"))


def test_a_log_that_is_a_pipe_without_a_reader_is_a_failure_at_once(tmp_path: Path) -> None:
    """It was waited for before anything listened, and SIGTERM did not end that."""
    os.mkfifo(tmp_path / "pipe")

    ended = run(
        [*COMMAND, "--key", "k", "--log", str(tmp_path / "pipe")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "a pipe that nobody reads" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_key_file_is_read_as_the_worker_reads_it(tmp_path: Path, start: Start) -> None:
    """A byte order mark was part of the key for one and not for the other, and every call was refused."""
    (tmp_path / "key").write_text(f"\ufeff{KEY}\r\n", "utf-8")
    _, url = start()

    answer = httpx.post(f"{url}/v4/{LIVE_UNBAN}", params=a_query(), json=SAMPLES[LIVE_UNBAN])

    assert answer.json()["ErrorCode"] == 0


@pytest.mark.parametrize("options", [("--key", "k"), ("--key", "k", "--json")], ids=["text", "json"])
def test_a_simulator_whose_reader_has_gone_ends_quietly_with_141(options: tuple[str, ...]) -> None:
    """As of every command: it was a failure with a complaint about a broken pipe."""
    read, write = os.pipe()
    os.close(read)
    ended = run([*COMMAND, *options], stdout=write, stderr=PIPE, timeout=PATIENCE, check=False)
    os.close(write)

    assert (ended.returncode, ended.stderr) == (141, b"")


def test_a_port_in_use_is_a_failure_with_a_sentence(start: Start, tmp_path: Path) -> None:
    _, url = start()

    port = url.rpartition(":")[2]
    second = Popen([*COMMAND, "--key", "k", "--port", port, "--json"], stdout=PIPE, stderr=PIPE, text=True)
    output, errors = second.communicate(timeout=PATIENCE)

    assert (second.returncode, output) == (1, "")
    (printed,) = map(json.loads, errors.splitlines())
    assert printed["error"] == f"port {port} of 127.0.0.1: address already in use: give another --port"
    assert not (tmp_path / "requests.jsonl").exists()
