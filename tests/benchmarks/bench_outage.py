# The long forms of an outage, a hanging room and halts: real processes, a real Kafka, figures.
#
#   python -m tests.benchmarks.bench_outage [outage|room|halts]
#
# outage: a minute of 502s, refused connections and hangs on one endpoint, under the most load that kafka.max_gap allows.
# room:   one room of fifty that gives no answer for a minute, each request timing out after 10 s.
# halts:  five wrong configurations, each fixed when the worker probes every half minute only.
# Each line ends with what must be; the exit code is 1 when something is not.

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tests.process import halting, hanging, outages
from tests.process.environment import LATENCY, Environment
from worker.testing.demo.environment import PARTITIONS
from worker.testing.kafka.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_GAP = 20_000
"""The worker's default."""
MOST_LOAD = PARTITIONS * MAX_GAP / 80
"""Commands a second: after 80 seconds without one endpoint, the partitions wait for it."""
TIMEOUT = 10.0
FIRST_PROBES = 8
SLOWEST_PROBE = 5.0
"""An open breaker is probed after a fifth of a second, then less and less often, at last every five seconds."""
LONG_HALT = 8.0
"""Seconds: longer than the quick probes, so that the next one comes half a minute later."""


class Verdict:
    """Prints claims beside figures, and remembers whether one did not hold."""

    def __init__(self) -> None:
        self.holds = True

    def say(self, what: str, figure: object, claim: str, *, holds: bool) -> None:
        """One line."""
        self.holds &= holds
        sys.stdout.write(f"{what:<46} {figure!s:<24} {claim}{'' if holds else '   <-- DOES NOT HOLD'}\n")
        sys.stdout.flush()


def outage(servers: str, verdict: Verdict, options: argparse.Namespace) -> None:
    """A minute without one endpoint."""
    third = options.seconds / 3
    ways = {"502": third, "refuse": third, "hang": third}
    run = outages.play(servers, rate=options.rate, ways=ways, timeout=TIMEOUT)
    say = verdict.say
    say("load, commands/s", options.rate, f"at most {MOST_LOAD:.0f}", holds=options.rate <= MOST_LOAD)
    say("commands", run.commands, "", holds=True)
    say("outcomes", run.statuses, "all succeeded", holds=run.statuses == {"succeeded": run.commands})
    say("dead letters", run.letters, "0", holds=run.letters == 0)
    say("findings of the checker", sum(run.report.counts.values()), "0", holds=run.report.clean)
    say(
        "rate kept by the other endpoint",
        f"{run.kept_elsewhere:.1%}",
        "95 % or more",
        holds=run.kept_elsewhere >= 0.95,
    )
    say("how tries failed", ", ".join(sorted(run.failures)), "", holds=True)
    most = FIRST_PROBES + options.seconds / SLOWEST_PROBE
    say(
        "requests while it was known to be down",
        run.probes,
        f"at most {most:.0f}",
        holds=run.probes <= most,
    )
    say("from the end to the last outcome, s", f"{run.recovery:.1f}", "", holds=True)


def room(servers: str, verdict: Verdict, options: argparse.Namespace) -> None:
    """A minute without one room."""
    run = hanging.play(servers, rate=600, limit=100, hang=options.seconds, timeout=TIMEOUT)
    say = verdict.say
    say("commands", run.commands, "", holds=True)
    say("outcomes", run.statuses, "all succeeded", holds=run.statuses == {"succeeded": run.commands})
    say("findings of the checker", sum(run.report.counts.values()), "0", holds=run.report.clean)
    say("requests that hung", run.hung_requests, "", holds=run.hung_requests > 0)
    say(
        "rate kept by the other rooms",
        f"{run.kept_elsewhere:.1%}",
        "95 % or more",
        holds=run.kept_elsewhere >= 0.95,
    )
    say("from the end to the last outcome, s", f"{run.recovery:.1f}", "", holds=True)


def halts(servers: str, verdict: Verdict, _: argparse.Namespace) -> None:
    """Five wrong configurations, each for longer than the quick probes."""
    with Environment(servers, *LATENCY) as environment:
        worker = environment.stage.start_worker()
        environment.stage.wait_until_ready(worker)
        environment.send(halting.commands(2 * halting.ROOMS))
        environment.play_to_the_end()
        for wrong in halting.WRONGS:
            run = halting.play(environment, wrong, load=LONG_HALT * 2, halted_for=LONG_HALT)
            verdict.say(
                f"{wrong}: halted after, s", f"{run.noticed:.2f}", "3 or less", holds=run.noticed <= 3
            )
            verdict.say("    resumed after, s", f"{run.resumed:.1f}", "35 or less", holds=run.resumed <= 35)
            verdict.say(
                "    outcomes",
                dict(run.statuses),
                "all succeeded",
                holds=run.statuses.keys() == {"succeeded"} and run.letters == 0,
            )
        report = environment.judged()
        verdict.say("findings of the checker", sum(report.counts.values()), "0", holds=report.clean)


STORIES: dict[str, Callable[[str, Verdict, argparse.Namespace], None]] = {
    "outage": outage,
    "room": room,
    "halts": halts,
}


def main() -> None:
    """The stories that were asked for, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stories", nargs="*", choices=[[], *STORIES])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=MOST_LOAD)
    options = parser.parse_args()
    verdict = Verdict()
    with EmbeddedKafka() as kafka:
        for name in options.stories or STORIES:
            sys.stdout.write(f"\n{name}\n")
            STORIES[name](kafka.bootstrap_servers, verdict, options)
    sys.exit(not verdict.holds)


if __name__ == "__main__":
    main()
