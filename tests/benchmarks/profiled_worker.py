# The worker, with a note of where its CPU time goes: `python -m tests.benchmarks.profiled_worker FILE run --config …`.
#
# The timer of CPU time interrupts the main thread, which is the loop's: the time since the last interruption is given to the stage
# whose code it is in, by file. Of the other threads the kernel counts the time; each has one stage. Twice a second a line with
# the sums is written. Nothing is traced, so the worker is hardly slower.

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from types import FrameType

INTERVAL: Final = 0.002
WRITTEN_EVERY: Final = 0.5
STAGES: Final = (
    ("/worker/domain/contract/actions.py", "build and send calls"),
    ("/worker/domain/contract/outcomes.py", "engine"),
    ("/worker/domain/contract/", "read commands"),
    ("/worker/domain/", "engine"),
    ("/worker/tencent/usersig.py", "sign"),
    ("/worker/tencent/", "build and send calls"),
    ("/httpx", "build and send calls"),
    ("/aiohttp/", "build and send calls"),
    ("/yarl/", "build and send calls"),
    ("/multidict/", "build and send calls"),
    ("/tenacity/", "build and send calls"),
    ("/worker/runtime/metrics.py", "metrics"),
    ("/worker/runtime/self_monitor.py", "metrics"),
    ("/prometheus_client/", "metrics"),
    ("/worker/runtime/log", "logs"),
    ("/structlog/", "logs"),
    ("/worker/broker/", "consume"),
    ("/worker/", "loop"),
)
"""Whose code a frame is: the first part of a path that fits."""
OTHER: Final = "loop"
THREADS: Final = (
    ("kafka-poll", "consume"),
    ("-commands", "consume"),
    ("-restore", "consume"),
    ("kafka-publish", "write outcomes"),
    ("-outcomes", "write outcomes"),
    ("-quota", "lending and orders"),
    ("-control", "lending and orders"),
    ("-orders", "lending and orders"),
    ("log", "logs"),
)
"""By a part of a thread's name. An I/O thread of a Kafka client is named after the client."""


def stage_of(frame: FrameType | None) -> str:
    """The stage of the innermost frame that is somebody's."""
    while frame is not None:
        path = frame.f_code.co_filename
        for part, stage in STAGES:
            if part in path:
                return stage
        frame = frame.f_back
    return OTHER


def stage_of_thread(name: str) -> str:
    """The stage of a thread that is not the loop's."""
    return next((stage for part, stage in THREADS if part in name), OTHER)


class Sampler:
    """Adds up CPU seconds by stage."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._loop: dict[str, float] = defaultdict(float)
        self._threads: dict[int, tuple[str, float]] = {}
        self._last = time.thread_time()
        self._written = 0.0

    def sample(self, _signal: int, frame: FrameType | None) -> None:
        """Handles the timer's signal, on the main thread."""
        now = time.thread_time()
        self._loop[stage_of(frame)] += now - self._last
        self._last = now
        if time.monotonic() - self._written > WRITTEN_EVERY:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()  # first: the next signal may come while this one is handled
        main = threading.main_thread()
        for thread in threading.enumerate():
            if thread is not main and thread.native_id is not None:
                try:
                    spent = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]
                except OSError:
                    continue  # it has just ended
                self._threads[thread.native_id] = stage_of_thread(thread.name), int(spent) / 1e9
        sums = self._loop.copy()
        for stage, seconds in self._threads.values():
            sums[stage] += seconds
        self._file.write(json.dumps({"at": time.time(), "stages": sums}) + "\n")
        self._file.flush()


def main() -> None:
    """Runs the worker's command line under the sampler."""
    from worker.cli.app import main as command_line  # noqa: PLC0415 - its imports are not what is measured

    path = Path(sys.argv.pop(1))
    with path.open("w", encoding="utf-8") as file:
        signal.signal(signal.SIGPROF, Sampler(file).sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        try:
            command_line()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)


def spent_between(lines: list[str], begin: float, end: float) -> dict[str, float]:
    """CPU seconds by stage between the lines that are nearest to two instants, in seconds since 1970, the largest first."""
    looks = [json.loads(line) for line in lines]
    first, last = (min(looks, key=lambda look: abs(look["at"] - instant)) for instant in (begin, end))
    scale = (end - begin) / (last["at"] - first["at"])
    spent = {
        stage: (seconds - first["stages"].get(stage, 0.0)) * scale
        for stage, seconds in last["stages"].items()
    }
    return dict(sorted(spent.items(), key=lambda each: -each[1]))


if __name__ == "__main__":
    main()
