# A log that nobody reads: the worker's standard output is a pipe that is full from the first lines on.

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.process.environment import LATENCY, Environment, command
from worker.testing.checker.contract import BAN

if TYPE_CHECKING:
    from tests.conftest import Cluster

COUNT = 1_500
SMALLEST_PIPE = 4096
DONE_WITHIN = 60.0
DRAINED_WITHIN = 10.0


@pytest.mark.kafka
def test_a_worker_whose_log_nobody_reads_does_all_its_commands_lives_and_stops_cleanly(
    kafka: Cluster,
) -> None:
    """A log that is written by the loop itself would stand still in the first full pipe, and the loop with it."""
    with Environment(kafka.bootstrap_servers, *LATENCY) as environment:
        pipe = environment.stage.folder / "worker-1.log"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        worker = environment.stage.start_worker({"log": {"level": "debug"}})
        environment.stage.wait_until_ready(worker)
        environment.send(
            [command(BAN, f"group-{n}", f"user-{n}", f"ban-{n}", duration=60) for n in range(COUNT)]
        )

        environment.play_until(lambda: not environment.missing, DONE_WITHIN, "carried out")

        assert environment.ask("/livez")[0] == 200
        began = time.monotonic()
        assert environment.stage.stop_workers() == [("worker 1", 0)]
        assert time.monotonic() - began < DRAINED_WITHIN
        assert len(os.read(reader, 2 * SMALLEST_PIPE)) > SMALLEST_PIPE // 2, "the pipe was never full"
        os.close(reader)
