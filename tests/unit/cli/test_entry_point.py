# Where the program begins: closed standard streams, and signals that come before the command line is imported.

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0
SETTINGS = (
    "kafka: {bootstrap_servers: ['127.0.0.1:1'], common: {bootstrap_timeout_ms: 200}}\n"
    "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
)
"""Settings that are well, of a Kafka that is not there."""
UNBAN = "send --dry-run --action group.unban_group_member --group-id g --user u"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "worker.yaml"
    path.write_text(SETTINGS)
    return path


def in_shell(line: str, config: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the program with redirections as a shell makes them."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$PYTHON" -m worker {line}'],
        env={"PYTHON": sys.executable, "WORKER_CONFIG": str(config)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (UNBAN, 0),
        ("--version", 0),
        ("completion bash", 0),
        ("bogus", 2),
        ("pause --everything", 2),
        ("outcomes --user u --bogus --json", 2),
        ("check", 1),
        ("watch --limit 1", 1),
    ],
)
def test_a_command_does_its_work_although_it_cannot_print(
    command: str, code: int, closed: str, config: Path
) -> None:
    """Closed streams made of `send` and `pause` commands that did nothing, and of wrong arguments a failure."""
    done = in_shell(f"{command} {closed}", config)

    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (done.stdout == "") or ">&-" not in closed.split()
    assert (done.stderr == "") or "2>&-" not in closed


def test_a_command_differs_from_one_that_fails_when_only_its_errors_are_lost(config: Path) -> None:
    assert in_shell(f"{UNBAN} 2>&-", config).stdout == "would send 1 command to 1 target; nothing was sent\n"
    assert "fix" in in_shell("check 2>&-", config).stdout


def test_a_standard_input_that_is_closed_is_refused(config: Path) -> None:
    """As an empty one it would be a file of no commands."""
    done = in_shell("send - --dry-run <&-", config)

    assert done.returncode == 2
    assert "standard input is closed" in done.stderr


DESCRIPTORS = """
import os, socket, subprocess, sys
from worker.cli.entry_point import occupy_standard_streams
occupy_standard_streams()
print("lost"); print("lost", file=sys.stderr)
sys.stdout.flush(); sys.stderr.flush()
inherited = subprocess.run([sys.executable, "-c", "import os; print(*(os.path.sameopenfile(n, n) for n in range(3)))"])
mine = socket.socket().fileno()
with open(sys.argv[1], "w") as file:
    links = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
    print(links, sys.stdin, mine > 2, inherited.returncode, file=file)
"""


def test_no_file_and_no_socket_gets_the_number_of_a_standard_stream(tmp_path: Path) -> None:
    """
    A socket that had it was written to, and its event loop aborted the process. A child process has the null device as well.
    """
    line = f'exec "$PYTHON" -c "$CODE" {tmp_path}/report <&- >&- 2>&-'
    subprocess.run(
        ["/bin/sh", "-c", line], env={"PYTHON": sys.executable, "CODE": DESCRIPTORS}, timeout=PATIENCE, check=True
    )  # fmt: skip

    assert (tmp_path / "report").read_text() == f"{['/dev/null'] * 3} None True 0\n"


def test_a_simulator_without_a_standard_output_ends_cleanly() -> None:
    """A socket of its event loop was descriptor 1, and what it printed at its end broke the loop: it aborted."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = (
        f'exec "$PYTHON" -m worker simulate --port {port} --sdk-app-id 1400000001 --key k --identifier a >&-'
    )
    with subprocess.Popen(
        ["/bin/sh", "-c", line], env={"PYTHON": sys.executable}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not _answers(port):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()

    assert (process.returncode, said) == (0, "")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


SIGNALLED = """
import os, runpy, sys

class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == at:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

number, at, *sys.argv[1:] = int(sys.argv[1]), *sys.argv[2:]
sys.meta_path.insert(0, Signals())
runpy.run_module("worker", run_name="__main__", alter_sys=True)
"""
"""Runs the program, and signals it when it is about to import a module."""
EARLY = ("worker.cli.app", "typer", "worker.cli.watch")


def signalled(number: int, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(number)), module, *arguments],
        env={}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("module", EARLY)
@pytest.mark.parametrize("command", ["check", "send", "--help"])
def test_ctrl_c_while_a_command_is_imported_ends_it_quietly_with_130(command: str, module: str) -> None:
    """For a third of a second it printed a traceback of imports."""
    done = signalled(signal.SIGINT, module, command)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("module", EARLY)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_that_is_stopped_while_it_is_imported_ends_quietly_with_0(
    number: signal.Signals, module: str
) -> None:
    """Killed by the signal, a pod counts as failed; and a container's first process, without a handler, would ignore it."""
    done = signalled(number, module, "run")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_signal_that_is_ignored_from_outside_ends_no_command() -> None:
    """A shell's job in the background ignores Ctrl-C, and one under `nohup` a hang-up."""
    line = 'trap "" INT HUP; exec "$PYTHON" -c "$CODE" "$SIGNAL" typer --version'
    for number in (signal.SIGINT, signal.SIGHUP):
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            env={"PYTHON": sys.executable, "CODE": SIGNALLED, "SIGNAL": str(int(number))},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("moderation-worker ")


AT_ITS_END = """
import os, signal, sys
import worker.cli.app as app
from worker.cli.entry_point import main

def command():
    print("done")

class Interrupted:
    def flush(self):
        os.kill(os.getpid(), signal.SIGINT)
        sys.__stdout__.flush()
    def write(self, text):
        return sys.__stdout__.write(text)

whole, app.main = app.main, lambda: whole(command)
sys.stdout = Interrupted()
main()
"""


def test_ctrl_c_while_the_last_output_is_written_ends_quietly_with_130() -> None:
    """Whoever reads it may have stopped reading: then it lasts."""
    done = subprocess.run(
        [sys.executable, "-c", AT_ITS_END], env={}, capture_output=True, text=True, timeout=PATIENCE, check=False
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (130, "")
