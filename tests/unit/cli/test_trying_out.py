# `demo` and `kafka`: options that cannot be right are refused before anything starts, and a reader may go.

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from worker.cli import kafka as command
from worker.cli.app import app
from worker.testing.kafka.child_process import ProcessFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from worker.testing.kafka.embedded_kafka import EmbeddedKafka

PATIENCE = 60.0


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, prog_name="moderation-worker", env={"COLUMNS": "300"})
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "servers",
    [
        "h:x",
        ":",
        "[::1",
        "[::1]",
        "a:1,b:x",
        "a:1,b",
        "h:0",
        "h:99999",
        "http://h:1",
        "::1:9092",
        "",
        " , ",
        "é:1",
        "\udcff:1",
    ],
    ids=ascii,
)
def test_addresses_of_a_demo_that_cannot_be_right_are_wrong_arguments(servers: str) -> None:
    """kafka-python has an exception of its own for each, and they ended with tracebacks or after a wait."""
    code, output = invoke("demo", "--bootstrap-servers", servers)

    assert code == 2
    assert "--bootstrap-servers" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("file", ["a" * 300, "a" * 5_000], ids=len)
def test_a_summary_that_cannot_be_written_is_refused_before_the_demo(file: str, tmp_path: Path) -> None:
    """The question whether it is a folder failed with a traceback."""
    code, output = invoke("demo", "--json", str(tmp_path / file / "summary.json"))

    assert code == 2
    assert "cannot be written" in output


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("k\udcff", "not UTF-8"),
        ("a,b", "comma"),
        ("a" * 300, "name too long"),
    ],
    ids=["bytes", "comma", "long"],
)
def test_a_folder_that_kafka_cannot_use_is_refused(folder: str, reason: str, tmp_path: Path) -> None:
    """One ended with a traceback; of one with a comma Kafka made two, neither of them where it was asked for."""
    code, output = invoke("kafka", "--data", str(tmp_path / folder))

    assert code == 2
    assert reason in output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = CliRunner().invoke(app, ["kafka", "--data", str(tmp_path / "file" / "try")])

    said = f"{tmp_path}/file/try cannot be used: not a directory: give another --data"
    assert str(result.exception) == said


def test_why_a_demo_could_not_run_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in brackets in Kafka's log was taken for a colour: left out, or, after a slash, a traceback."""

    def fail(*_: object) -> bool:
        raise ProcessFailedError("Kafka ended with 1: [main] cannot use [/tmp/full]")

    monkeypatch.setattr("worker.testing.demo.main.play", fail)

    assert invoke("demo") == (
        1,
        "the demo could not run: Kafka ended with 1: [main] cannot use [/tmp/full]\n",
    )


def test_a_terminal_that_is_closed_ends_a_demo_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folders stayed, with the key and the data."""

    def close_terminal(*_: object) -> bool:
        signal.raise_signal(signal.SIGHUP)
        return True

    monkeypatch.setattr("worker.testing.demo.main.play", close_terminal)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, lambda *_: None)  # instead of the default, which would end the tests
    try:
        code, said = invoke("demo")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert (code, said) == (130, "\ninterrupted: everything that was started is stopped\n")


@pytest.mark.parametrize("options", [(), ("--data", "try")])
def test_a_cache_that_cannot_be_made_is_not_blamed_on_the_folder(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODERATION_WORKER_CACHE", str(tmp_path / "file" / "cache"))

    result = CliRunner().invoke(app, ["kafka", *options])

    where = f"{tmp_path}/file/cache/kafka-jars"
    said = f"Kafka's jars cannot be kept in {where}: not a directory: name another folder in MODERATION_WORKER_CACHE"
    assert str(result.exception) == said


def test_a_demo_whose_reader_has_gone_ends_quietly_with_141() -> None:
    """As of every command: rich makes a failure of it."""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "worker", "demo", "--bootstrap-servers", "127.0.0.1:1"],
        stdout=write, stderr=subprocess.PIPE, timeout=PATIENCE, check=False,
    )  # fmt: skip
    os.close(write)

    assert (ended.returncode, ended.stderr) == (141, b"")


def test_a_kafka_whose_reader_has_gone_ends_quietly_with_141(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of every command: it was a failure with a complaint about a broken pipe."""
    stopped: list[str] = []

    def unread(*_: object, **__: object) -> None:
        raise BrokenPipeError

    def start(_: EmbeddedKafka) -> None:
        pass

    monkeypatch.setattr("worker.testing.kafka.embedded_kafka.EmbeddedKafka.start", start)
    monkeypatch.setattr(
        "worker.testing.kafka.embedded_kafka.EmbeddedKafka.stop", lambda _: stopped.append("stopped")
    )
    monkeypatch.setattr(command, "_prepare_folder", lambda *_: ("topic", "other"))
    monkeypatch.setattr(command, "_print_next_steps", unread)

    assert invoke("kafka", "--data", str(tmp_path / "data")) == (141, "")
    assert stopped == ["stopped"]
