# Lines on their way to a descriptor that does not take them: whoever logs goes on, and how much was lost is logged.

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from worker.runtime.log_writer import MOST_BYTES, MOST_LINES, LogWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE = 20.0
PIPE_BYTES = 4096
"""The smallest pipe that Linux makes."""


class Pipe:
    """A pipe of one page, and a writer into it."""

    def __init__(self) -> None:
        self.reader, self.end = os.pipe()
        fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._reported = 0
        self._has_reported = threading.Condition()
        self.writer = LogWriter(self.end, self._report)

    def read_until(self, last: bytes) -> list[bytes]:
        text = b""
        while not text.endswith(last):
            text += os.read(self.reader, 65_536)
        return text.splitlines()

    def close(self) -> None:
        """
        Read what is left until the writer has nothing more to write.

        A thread that still writes keeps the number of its descriptor, and the next test's pipe gets that number.
        """
        rest = threading.Thread(target=self._read_to_the_end)
        rest.start()
        with self._has_reported:
            assert self._has_reported.wait_for(lambda: self._reported == self.writer.dropped, DEADLINE)
        assert self.writer.flush(DEADLINE)
        os.close(self.end)
        rest.join(DEADLINE)
        os.close(self.reader)

    def _report(self, count: int) -> None:
        self.writer.put(b"dropped %d\n" % count)
        with self._has_reported:
            self._reported += count
            self._has_reported.notify_all()

    def _read_to_the_end(self) -> None:
        while os.read(self.reader, 65_536):
            pass


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_lines_come_in_their_order(pipe: Pipe) -> None:
    lines = [b"line %d" % number for number in range(3000)]

    for line in lines:
        pipe.writer.put(line + b"\n")

    assert pipe.read_until(lines[-1] + b"\n") == lines
    assert pipe.writer.flush(DEADLINE)
    assert pipe.writer.dropped == 0


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_what_is_lost_is_counted(pipe: Pipe) -> None:
    """Everything that was taken comes in order, then how much is missing, then what is logged afterwards."""
    count = 3 * MOST_LINES
    began = time.monotonic()
    for number in range(count):
        pipe.writer.put(b"line %d\n" % number)
    took = time.monotonic() - began
    lost = pipe.writer.dropped

    assert took < 5.0
    assert lost > MOST_LINES // 2
    note = b"dropped %d" % lost
    lines = pipe.read_until(note + b"\n")
    assert lines == [*(b"line %d" % number for number in range(count - lost)), note]
    pipe.writer.put(b"after\n")
    assert pipe.read_until(b"after\n") == [b"after"]


def test_the_bytes_that_wait_are_bounded(pipe: Pipe) -> None:
    for _ in range(100):
        pipe.writer.put(b"x" * (MOST_BYTES // 10) + b"\n")

    assert pipe.writer.dropped >= 89


def test_a_line_that_fits_nowhere_is_dropped_and_others_go(pipe: Pipe) -> None:
    """Which of the two lines comes first depends on when the writer's thread begins."""
    pipe.writer.put(b"x" * (MOST_BYTES + 1))
    pipe.writer.put(b"after\n")

    lines = pipe.read_until(b"\n")
    while len(lines) < 2:
        lines += pipe.read_until(b"\n")
    assert sorted(lines) == [b"after", b"dropped 1"]
    assert pipe.writer.dropped == 1


def test_a_flush_gives_up_in_time(pipe: Pipe) -> None:
    pipe.writer.put(b"x" * (2 * PIPE_BYTES))
    began = time.monotonic()

    assert not pipe.writer.flush(0.1)

    assert 0.1 <= time.monotonic() - began < 5.0


def test_another_process_may_make_the_pipe_non_blocking(pipe: Pipe) -> None:
    """The flag belongs to the pipe, not to the process: a shell or a sidecar can set it."""
    os.set_blocking(pipe.end, False)
    pipe.writer.put(b"x" * (4 * PIPE_BYTES) + b"\n")

    assert len(pipe.read_until(b"\n")[0]) == 4 * PIPE_BYTES
    assert pipe.writer.dropped == 0


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a descriptor is what is wanted
        writer = LogWriter(
            full.fileno(), lambda count: pytest.fail(f"{count} lines reported lost where that cannot be")
        )
        writer.put(b"lost\n")

        assert writer.flush(DEADLINE)
        assert writer.dropped == 1


def test_a_reader_that_has_gone_loses_lines_and_nothing_else() -> None:
    reader, end = os.pipe()
    os.close(reader)
    writer = LogWriter(end, lambda _: None)

    writer.put(b"lost\n")

    assert writer.flush(DEADLINE)
    assert writer.dropped == 1
    os.close(end)


def test_a_real_log_tells_in_json_how_many_lines_were_lost() -> None:
    """Run in a process of its own: logging is configured once in each."""
    script = """
import os, sys
from worker.runtime.logging_setup import configure_logging
log = configure_logging("info", "json")
for number in range(30_000):
    log("server.started", host="h" * 200, port=number)
sys.stderr.write("done\\n")
sys.stdin.readline()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stderr.readline() == b"done\n", "it waited for a pipe that nobody reads"
    written, _ = process.communicate(b"\n", timeout=DEADLINE)

    lines = [json.loads(line) for line in written.splitlines()]
    (dropped,) = (line for line in lines if line["event"] == "log.dropped")
    ports = [line["port"] for line in lines if line["event"] == "server.started"]
    assert process.returncode == 0
    assert ports == list(range(len(ports)))
    assert dropped["count"] == 30_000 - len(ports)
    assert dropped["level"] == "warning"


def test_the_last_lines_of_a_crash_are_written_before_the_process_ends() -> None:
    script = """
from worker.runtime.logging_setup import configure_logging
log = configure_logging("info", "json")
for number in range(5_000):
    log("server.started", host="h", port=number)
raise RuntimeError("the very last word")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=DEADLINE, check=False)

    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 1
    assert len(lines) == 5_001
    assert lines[-1]["event"] == "worker.failed"
    assert "the very last word" in lines[-1]["exception"]


def test_threads_that_log_at_once_tear_no_line(pipe: Pipe) -> None:
    def tell(name: int) -> None:
        for number in range(200):
            pipe.writer.put(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=tell, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    lines: list[bytes] = []
    while len(lines) < 800:
        lines += pipe.read_until(b"\n")
    for thread in threads:
        thread.join()

    for name in range(4):
        own = [line for line in lines if line.startswith(b"%d " % name)]
        assert own == [b"%d %d" % (name, number) for number in range(200)]
