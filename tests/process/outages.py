# A run with an outage: bans (and what follows them for the same users) on an endpoint that goes down in several ways,
# kicks on one that does not. Played for seconds by a test and for a minute by a benchmark.
#
# It plays and counts; the test and the benchmark say what the counts must be.

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tests.process.environment import LATENCY, Environment, command
from tests.process.rates import kept
from worker.testing.checker.contract import BAN, ENDPOINTS, KICK, UNBAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.testing.checker.evidence import PlannedRecord
    from worker.testing.checker.evidence_check import CheckReport

ROOMS = 50
BEFORE = 2.0
"""Seconds of load before the outage, as the rate that is to be kept."""
AFTER = 1.0
SEQUENCE_EVERY = 10
"""One ban in this many is followed by an unban and another ban of the same user."""
GRACE = 0.5
"""Seconds in which calls that had been let go when the worker found out may still leave, on a busy machine."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """
    What came of it.

    Attributes:
        commands: All that were produced.
        kept_elsewhere: The share of its rate that the other endpoint kept during the outage.
        failures: How attempts failed, by the outcomes.
        openings: How often the breaker opened.
        probes: Requests that the worker sent to the dead endpoint after it had found out.
        recovery: Seconds from the end of the outage to the last outcome.

    """

    commands: int
    statuses: dict[str, int]
    letters: int
    report: CheckReport
    kept_elsewhere: float
    failures: frozenset[str]
    openings: float
    probes: int
    recovery: float


def play(servers: str, *, rate: float, ways: Mapping[str, float], timeout: float) -> RunResult:
    """Plays it: ``rate`` commands a second, the outage in these ways for this many seconds each."""
    down = sum(ways.values())
    records = list(commands(round(rate * (BEFORE + down + AFTER))))
    with Environment(servers, *LATENCY) as environment:
        # Nothing is made needless, so that every command must really be carried out, and in order.
        worker = environment.stage.start_worker(
            {"dedupe": {"supersede": False, "effect_window_seconds": 0}, "http": {"timeout_seconds": timeout}}
        )
        environment.stage.wait_until_ready(worker)
        environment.send([command(KICK, "warm-up", "user", "warm-up", reason="raid")])
        environment.play_to_the_end()
        environment.send(records, rate)
        environment.play(BEFORE)
        begin = time.time()
        for way, seconds in ways.items():
            environment.fault(outage=way, endpoint=ENDPOINTS[BAN])
            environment.play(seconds)
        environment.fault(outage="none", endpoint=ENDPOINTS[BAN])
        end = time.time()
        environment.play_to_the_end()
        recovery = time.time() - end
        openings = environment.metric("moderation_worker_breaker_openings_total")
        opened = [
            datetime.fromisoformat(line["time"]).timestamp() for line in environment.events("breaker.opened")
        ]
        report = environment.judged()
        requests = environment.requests()
        return RunResult(
            commands=len(records) + 1,
            statuses=dict(environment.statuses()),
            letters=len(environment.reader.read.letters),
            report=report,
            kept_elsewhere=kept(environment.sent, requests, lambda action, _: action == KICK, begin, end),
            failures=frozenset(
                f"http {each.http_status}" if each.error == "http" else str(each.error)
                for one in environment.outcomes
                for each in one.body.calls
                if each.error is not None
            ),
            openings=openings,
            probes=len(_sent_between(environment, min(opened, default=begin) + GRACE, end)),
            recovery=recovery,
        )


def _sent_between(environment: Environment, begin: float, end: float) -> set[tuple[str, str]]:
    """The attempts on the dead endpoint, as the outcomes list them."""
    return {
        (each.call_id, each.sent_at)
        for one in environment.outcomes
        for each in one.body.calls
        if each.endpoint == ENDPOINTS[BAN] and begin < datetime.fromisoformat(each.sent_at).timestamp() < end
    }


def commands(count: int) -> Iterator[PlannedRecord]:
    """Bans and kicks by turns, over fifty groups and as many rooms; some bans go on to an unban and a ban."""
    number = 0
    made = 0
    while made < count:
        number += 1
        group, room, user = f"group-{number % ROOMS}", f"room-{number % ROOMS}", f"user-{number}"
        sequence = [command(BAN, group, user, f"ban-{number}", duration=3600, reason="raid")]
        if number % SEQUENCE_EVERY == 0:
            sequence.append(command(UNBAN, group, user, f"unban-{number}"))
            sequence.append(command(BAN, group, user, f"ban-again-{number}", duration=7200, reason="raid"))
        sequence.append(command(KICK, room, user, f"kick-{number}", reason="raid"))
        yield from sequence[: count - made]
        made += len(sequence)
