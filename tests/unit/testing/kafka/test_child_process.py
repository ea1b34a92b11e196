# Child processes: reported when they fail to start, ended when they should, never left behind.

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worker.testing.kafka.child_process import ChildProcess, ProcessFailedError
from worker.testing.kafka.embedded_kafka import free_ports


def test_a_program_that_ends_too_early_is_reported_with_the_last_lines_of_its_log(tmp_path: Path) -> None:
    script = "print('the disk is full', flush=True); raise SystemExit(3)"
    process = ChildProcess("the broker", [sys.executable, "-c", script], tmp_path / "log")
    process.start()

    with pytest.raises(
        ProcessFailedError, match=r"the broker ended with 3 before ready(?s:.)*the disk is full"
    ):
        process.wait_until(lambda: False, 30, "ready")


def test_a_program_that_is_never_ready_is_reported_when_the_deadline_passes(tmp_path: Path) -> None:
    process = ChildProcess("the broker", ["sleep", "60"], tmp_path / "log")
    process.start()

    with pytest.raises(ProcessFailedError, match=r"not ready within 0\.2 s"):
        process.wait_until(lambda: False, 0.2, "ready")
    assert process.stop() == -signal.SIGTERM


def test_a_program_that_ignores_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    process = ChildProcess("deaf", [sys.executable, "-c", script], tmp_path / "log")
    process.start()
    process.wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), 30, "deaf")

    assert process.stop(deadline=0.2) == -signal.SIGKILL


def test_ctrl_c_while_the_end_of_a_program_is_awaited_kills_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lived for a moment, and wrote into the folder that was just being removed."""
    process = ChildProcess("slow", ["sleep", "60"], tmp_path / "log")
    process.start()
    patient = subprocess.Popen.wait

    def interrupted(child: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return patient(child)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)

    with pytest.raises(KeyboardInterrupt):
        process.wait(deadline=30)
    assert process.exit_code == -signal.SIGKILL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can tie a process to its parent")
def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from worker.testing.kafka.child_process import ChildProcess\n"
        "child = ChildProcess('child', ['sleep', '60'], pathlib.Path(sys.argv[1]))\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()

    end = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < end, "the child outlived its parent"


def test_free_ports_differ_from_each_other() -> None:
    assert len(set(free_ports(5))) == 5


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
