# A restart with many outcomes in the topic: what a new owner restores, how long that takes, and that nothing is repeated.
#
#   python -m tests.benchmarks.bench_restore [--commands 100000]
#
# Twice: with a window that holds every id, and with the default of 5,000 outcomes a partition (then only as many as are
# known come once more). A real Kafka, real processes. The exit code is 1 when a repeated id was executed.

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tests.process.restarts import NEW, play
from worker.testing.demo.environment import PARTITIONS
from worker.testing.kafka.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from tests.process.restarts import RunResult

DEFAULT = 5000
"""dedupe.restore_records, as it is when nobody sets it."""
SHARE = 0.4
"""
Of what all partitions together know, so much comes once more: less than half, because the outcomes of repeats take
their places in the window as well, and because rooms do not fall evenly on partitions.
"""
MEGABYTE = 2**20


def show(run: RunResult, repeated: int) -> bool:
    """Prints one run. Whether its claims hold."""
    holds = (
        run.executed_again == 0
        and run.repeated == {"duplicate": repeated}
        and run.fresh == {"succeeded": NEW}
        and run.report.clean
    )
    sys.stdout.write(
        f"  commands carried out before the restart: {run.commands}\n"
        f"  ids known again: {run.known}, the slowest of {PARTITIONS} partitions after {run.restore_seconds:.2f} s\n"
        f"  from the start of the process to ready: {run.start_seconds:.2f} s\n"
        f"  repeated ids: {dict(run.repeated)}, executed again: {run.executed_again}\n"
        f"  new ids: {dict(run.fresh)}\n"
        f"  memory of the new process: {run.memory / MEGABYTE:.0f} MiB\n"
        f"  findings of the checker: {sum(run.report.counts.values())}\n"
        f"  {'holds' if holds else 'DOES NOT HOLD'}\n"
    )
    sys.stdout.flush()
    return holds


def main() -> None:
    """Both runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", type=int, default=100_000)
    options = parser.parse_args()
    largest = min(100_000, options.commands)
    newest = min(options.commands, round(SHARE * DEFAULT * PARTITIONS))
    with EmbeddedKafka() as kafka:
        sys.stdout.write(f"restore_records {largest}: all ids come once more\n")
        every = play(kafka.bootstrap_servers, count=options.commands, restore_records=largest)
        holds = show(every, options.commands)
        sys.stdout.write(f"restore_records {DEFAULT}, the default: the newest {newest} ids come once more\n")
        few = play(
            kafka.bootstrap_servers, count=options.commands, restore_records=DEFAULT, repeat_last=newest
        )
        holds &= show(few, newest)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
