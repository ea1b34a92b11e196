# A run with one room that gives no answer: the busiest of fifty hangs for a while, under a load that needs most of a
# small quota, so that a worker which let it take permits would starve the others.
#
# It plays and counts; the test and the benchmark say what the counts must be.

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from tests.process.environment import LATENCY, Environment, command
from tests.process.rates import kept
from worker.testing.checker.contract import BAN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.testing.checker.evidence import PlannedRecord
    from worker.testing.checker.evidence_check import CheckReport

ROOMS = 50
SHARE = 0.5
"""Of the load, for the room that hangs: by the time its first requests have timed out, it could have taken every permit."""
HANGING = "group-00"
BEFORE = 2.5
AFTER = 1.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """
    What came of it.

    Attributes:
        hung_requests: Those that the hanging room got while it hung.
        kept_elsewhere: The share of their rate that the other rooms kept meanwhile.
        recovery: Seconds from the end of the hang to the last outcome.

    """

    commands: int
    statuses: dict[str, int]
    letters: int
    report: CheckReport
    hung_requests: int
    kept_elsewhere: float
    recovery: float


def play(servers: str, *, rate: float, limit: int, hang: float, timeout: float) -> RunResult:
    """Plays it: ``rate`` commands a second, a quota of ``limit`` calls a second, a room that hangs for ``hang`` seconds."""
    records = list(commands(round(rate * (BEFORE + hang + AFTER)), seed=1))
    with Environment(servers, *LATENCY) as environment:
        worker = environment.stage.start_worker(
            {"limits": {"calls_per_second": limit}, "http": {"timeout_seconds": timeout}}
        )
        environment.stage.wait_until_ready(worker)
        environment.send([command(BAN, "warm-up", "user", "warm-up", duration=3600, reason="raid")])
        environment.play_to_the_end()
        environment.send(records, rate)
        environment.play(BEFORE)
        begin = time.time()
        environment.fault(target=HANGING, hang=1.0)
        environment.play(hang)
        environment.fault(target=HANGING, hang=0.0)
        end = time.time()
        environment.play_to_the_end()
        recovery = time.time() - end
        report = environment.judged()
        requests = environment.requests()
        return RunResult(
            commands=len(records) + 1,
            statuses=dict(environment.statuses()),
            letters=len(environment.reader.read.letters),
            report=report,
            hung_requests=sum(one.target == HANGING and begin < one.read_at < end for one in requests),
            kept_elsewhere=kept(environment.sent, requests, lambda _, target: target != HANGING, begin, end),
            recovery=recovery,
        )


def commands(count: int, seed: int) -> Iterator[PlannedRecord]:
    """Bans of ever new users in fifty rooms; one has the half of them."""
    chance = random.Random(seed)
    others = [f"group-{number:02}" for number in range(1, ROOMS)]
    popularity = list(accumulate(1 / rank for rank in range(1, ROOMS)))
    for number in range(count):
        if chance.random() < SHARE:
            room = HANGING
        else:
            (room,) = chance.choices(others, cum_weights=popularity)
        yield command(BAN, room, f"user-{number}", f"ban-{number}", duration=3600, reason="raid")
