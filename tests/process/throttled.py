# A run with a lower limit than the documented one: Tencent takes 120 calls a second of an endpoint instead of 200, and
# the worker does not know.
#
# It plays and counts; the test and the benchmark say what the counts must be.

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from tests.process.environment import LATENCY, Environment, command
from worker.testing.checker.contract import UPDATE, SeenMemberInfo

if TYPE_CHECKING:
    from worker.testing.checker.evidence import PlannedRecord
    from worker.testing.checker.evidence_check import CheckReport

DOCUMENTED = 200
TOO_MANY = 60007
ROOMS = 48
BEFORE = 2.0
RATE_BEFORE = 220.0
OVERLOAD = 1.1
"""The load needs so much of the true limit: calls always wait, and are soon worked off when all is over."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """
    What came of it, in the time that was looked at.

    Attributes:
        accepted: Requests that were taken in each whole second.
        throttled: The share of the requests that was refused for their number.
        storm: The share that was refused between the fall of the limit and that time.

    """

    limit: int
    accepted: list[int]
    throttled: float
    storm: float
    statuses: dict[str, int]
    letters: int
    report: CheckReport

    @property
    def used(self) -> float:
        """The share of the true limit that was used, over the whole time."""
        return sum(self.accepted) / len(self.accepted) / self.limit

    @property
    def usually_used(self) -> float:
        """The same for the second in the middle: what a machine that stands still for a second does not change."""
        return median(self.accepted) / self.limit


def play(servers: str, *, limit: int, after: float, look: int) -> RunResult:
    """Plays it: the limit falls to ``limit``, and from ``after`` seconds later on it is looked at for ``look`` seconds."""
    first = round(BEFORE * RATE_BEFORE)
    rate = limit * OVERLOAD
    records = commands(first + round((after + look) * rate))
    with Environment(servers, *LATENCY) as environment:
        worker = environment.stage.start_worker()
        environment.stage.wait_until_ready(worker)
        environment.send(records[:ROOMS])
        environment.play_to_the_end()
        environment.send(records[ROOMS:first], RATE_BEFORE)
        environment.play(BEFORE)
        fell = time.time()
        environment.fault(limit=limit)
        environment.send(records[first:], rate)
        environment.play(after)
        begin = time.time()
        environment.play(look)
        environment.fault(limit=DOCUMENTED)
        environment.play_to_the_end()
        report = environment.judged()
        requests = environment.requests()
        seen = [one for one in requests if begin <= one.read_at < begin + look]
        accepted = [0] * look
        for one in seen:
            accepted[int(one.read_at - begin)] += one.code != TOO_MANY
        storm = [one.code == TOO_MANY for one in requests if fell <= one.read_at < begin]
        return RunResult(
            limit=limit,
            accepted=accepted,
            throttled=sum(one.code == TOO_MANY for one in seen) / len(seen),
            storm=sum(storm) / len(storm),
            statuses=dict(environment.statuses()),
            letters=len(environment.reader.read.letters),
            report=report,
        )


def commands(number: int) -> list[PlannedRecord]:
    """Updates, each of which is one call: the endpoint takes one member a call."""
    info = SeenMemberInfo(name_card="guest")
    return [
        command(UPDATE, f"room-{each % ROOMS}", f"user-{each}", f"update-{each}", info=info)
        for each in range(number)
    ]
