# Plays the baselines on the stage of the worker: the same Kafka, the same local Tencent API, the same backlog.
#
# A baseline is killed after some seconds: it is measured by what the API applied until then, and not judged, because it promises
# nothing. What the baselines do is in baselines/.

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.benchmarks.bench_throughput import (
    LOOK,
    Spent,
    speed_of,
    staged,
)
from tests.benchmarks.children import NotMeasuredError
from tests.benchmarks.results import Program
from worker.testing.checker.contract import ADMINISTRATOR
from worker.testing.checker.evidence_check import CheckReport, highest_seconds
from worker.testing.checker.simulator_log import read_log
from worker.testing.demo.environment import SDK_APP_ID
from worker.testing.kafka.child_process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.bench_throughput import Speed
    from worker.testing.demo.environment import DemoEnvironment

MODULES: Final = {
    Program.LOOP: "first_loop",
    Program.BATCHES: "asyncio_batches",
    Program.FASTSTREAM: "faststream_batches",
}
APART: Final = Path(".venv-bench") / "bin" / "python"
"""Where FastStream is installed; the worker and the tests do without it."""
START_DEADLINE: Final = 30.0
WARM_UP: Final = 1.0
"""Seconds after its first effect that do not count."""


def python_of(program: Program) -> str:
    """The Python that runs a baseline. Raises NotMeasuredError."""
    if program is not Program.FASTSTREAM:
        return sys.executable
    if not APART.exists():
        raise NotMeasuredError(
            f"FastStream is not installed ({APART}): make bench does it, and needs an index"
        )
    return str(APART)


@contextlib.contextmanager
def started(stage: DemoEnvironment, program: Program, replicas: int = 1) -> Iterator[list[ChildProcess]]:
    """As many processes of a baseline as there would be replicas, in one group; killed at the end."""
    arguments = {
        "bootstrap-servers": stage.bootstrap_servers,
        "commands": stage.topics.commands,
        "outcomes": stage.topics.outcomes,
        "group": f"{stage.topics.commands}-{MODULES[program]}",
        "base-url": stage.api,
        "identifier": ADMINISTRATOR,
        "sdk-app-id": str(SDK_APP_ID),
        "key-file": str(stage.key_file),
    }
    words = [word for name, value in arguments.items() for word in (f"--{name}", value)]
    module = f"tests.benchmarks.baselines.{MODULES[program]}"
    processes = [
        ChildProcess(
            f"{program} {number}",
            [python_of(program), "-m", module, *words],
            stage.folder / f"{module}-{number}.log",
        )
        for number in range(replicas)
    ]
    try:
        for process in processes:
            process.start()
        yield processes
        for process in processes:
            if not process.running:
                raise SystemExit(f"{process.name} has ended: {process.tail()}")
    finally:
        for process in processes:
            if process.running:
                process.kill()


def play(
    program: Program, load: str, count: int, seconds: float, *, replicas: int = 1, seed: int = 1, servers: str
) -> Speed:
    """Lets a baseline work on a backlog for some seconds."""
    with staged(load, count, seed, servers) as (stage, _, _):
        with started(stage, program, replicas) as processes:
            spent = Spent([process.pid for process in processes])
            processes[0].wait_until(
                lambda: stage.control("stats")["requests"] != {}, START_DEADLINE, "calling"
            )
            end = time.monotonic() + WARM_UP + seconds
            while time.monotonic() < end:
                spent.look()
                time.sleep(LOOK)
        stage.stop_simulator()
        requests = read_log(stage.simulator_log)
    times = [at for request in requests for at, _ in request.applied.values()]
    report = CheckReport(highest_second=highest_seconds(requests))
    return speed_of(
        requests, report, spent, min(times) + WARM_UP, min(min(times) + WARM_UP + seconds, max(times))
    )
