# The true limit is lower than the documented one: how soon, and how well, the worker lives with it.
#
#   python -m tests.benchmarks.bench_throttling [--limit 120] [--look 30]
#
# A real Kafka, real processes; the figures come from the simulator's log. Ten seconds after the limit fell, fewer than
# 2 % of the requests may be throttled, and 90 % of the limit must be used. The exit code is 1 when that is not so.

from __future__ import annotations

import argparse
import sys

from tests.process.throttled import DOCUMENTED, play
from worker.testing.kafka.embedded_kafka import EmbeddedKafka

SETTLED = 10.0
MOST_THROTTLED = 0.02
LEAST_USED = 0.90


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=120)
    parser.add_argument("--look", type=int, default=30)
    options = parser.parse_args()
    with EmbeddedKafka() as kafka:
        run = play(kafka.bootstrap_servers, limit=options.limit, after=SETTLED, look=options.look)
    sys.stdout.write(
        f"limit: {options.limit} of {DOCUMENTED} requests a second\n"
        f"throttled in the first {SETTLED:g} s: {run.storm:.2%}\n"
        f"throttled afterwards: {run.throttled:.2%} (less than {MOST_THROTTLED:.0%})\n"
        f"used of the limit: {run.used:.1%} ({LEAST_USED:.0%} or more), in the second in the middle {run.usually_used:.1%}\n"
        f"accepted in each second: {run.accepted}\n"
        f"outcomes: {run.statuses}, {run.letters} dead letters, {sum(run.report.counts.values())} findings\n"
    )
    holds = run.throttled < MOST_THROTTLED and run.used >= LEAST_USED and run.report.clean
    sys.exit(not holds)


if __name__ == "__main__":
    main()
