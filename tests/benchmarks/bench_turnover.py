# How much of the quota is used while replicas come, go and die: real processes, a real Kafka, and the local API's own log.
#
#   python -m tests.benchmarks.bench_turnover --scenario join|roll|kill|static|hot3|hot6 [--runs 3] [--json]
#
# join:   one replica works, two more join.          roll:   each of three ends in order and starts again, one after the other.
# kill:   one of three is killed, and comes back.    static: a single one with an instance id is killed, and is back after a second.
# hot3, hot6: one room, three or six replicas.
# A backlog waits on all partitions (or on one), so what is not used is lost. Replicas have the default settings. The exit code is
# 1 if a promise broke, 2 if the local API stalled, so that its stamps prove nothing.

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import count, pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka.partitioner.default import murmur2

from tests.process.environment import LATENCY, Environment, command
from worker.testing.checker.contract import BAN, QUOTA
from worker.testing.checker.evidence import Interruption
from worker.testing.checker.evidence_check import check
from worker.testing.demo.environment import PARTITIONS, SETTLING
from worker.testing.kafka.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.testing.checker.evidence import LoggedRequest, PlannedRecord
    from worker.testing.checker.evidence_check import CheckReport
    from worker.testing.kafka.child_process import ChildProcess

ROOMS: Final = 8
"""On each partition."""
PER_CALL: Final = 20
PER_COMMAND: Final = 20
"""Each command is a call, so that the CPU that commands take is little beside what is measured here."""
READY: Final = 30.0
STEP: Final = 0.1
GAP: Final = 0.5
"""Seconds without a call of a partition that are worth a line."""
STALL: Final = 0.2
BACK_AFTER: Final = 1.0
EVENTS: Final = {
    "worker.started": (),
    "worker.stopping": (),
    "worker.stopped": ("seconds",),
    "partitions.assigned": ("partitions",),
    "partitions.revoked": ("partitions", "seconds", "left_open"),
    "partitions.lost": ("partitions",),
    "kafka.partition_restored": ("partition", "seconds"),
}
"""What replicas log of turnovers, and which fields are shown."""


def rooms(partition: int) -> list[str]:
    """Rooms whose commands are on this partition."""
    names = (f"room-{number}" for number in count())
    there = (name for name in names if (murmur2(name.encode()) & 0x7FFFFFFF) % PARTITIONS == partition)
    return [next(there) for _ in range(ROOMS)]


def backlog(seconds: float, targets: Sequence[str]) -> list[PlannedRecord]:
    """As many commands as the whole quota takes for so long, over these rooms in turn; each user once."""
    number = round(seconds * QUOTA * PER_CALL / PER_COMMAND)
    return [
        command(
            BAN,
            targets[each % len(targets)],
            [f"u{each}-{place}" for place in range(PER_COMMAND)],
            f"id-{each}",
            duration=3600,
        )
        for each in range(number)
    ]


@dataclass
class Run:
    """
    One run of a scenario.

    Attributes:
        began: When it is counted from, in seconds since 1970.
        ended: And until when.
        steps: What was done meanwhile, and when.

    """

    environment: Environment
    began: float = 0.0
    ended: float = 0.0
    steps: list[tuple[float, str]] = field(default_factory=list)

    @property
    def replicas(self) -> list[ChildProcess]:
        return self.environment.stage.replicas

    def note(self, what: str) -> None:
        self.steps.append((time.time(), what))

    def start(self, *names: str, settings: dict[str, Any] | None = None) -> None:
        """Starts replicas with the product's own defaults; those that have a name are static members of that name."""
        for name in names:
            kafka = {"consumer": {}, **({"instance_id": name} if name else {})}
            self.environment.stage.start_worker(
                {"kafka": kafka, "log": {"level": "info", "format": "json"}, **(settings or {})}
            )
            self.note(f"{self.replicas[-1].name} starts")

    def await_ready(self) -> None:
        """Until all replicas are ready and have partitions."""
        stage = self.environment.stage
        self.environment.play_until(
            lambda: all(
                stage.is_ready(each)
                and self.environment.metric("moderation_worker_permits_owned", number) > 0
                for number, each in enumerate(self.replicas)
            ),
            READY,
            "ready",
        )

    def load(self, seconds: float, targets: Sequence[str]) -> None:
        self.environment.send(backlog(seconds, targets))

    def play(self, seconds: float) -> None:
        self.environment.play(seconds)

    def stop(self, number: int) -> None:
        """Asks a replica to end, reading on meanwhile."""
        replica = self.replicas[number]
        self.note(f"{replica.name} is asked to stop")
        replica.terminate()
        self.environment.play_until(lambda: not replica.running, READY, "stopped")
        self.note(f"{replica.name} has ended")

    def kill(self, number: int) -> None:
        self.environment.breaks.append(Interruption(time.time(), time.time() + SETTLING + 15.0))
        self.note(f"{self.replicas[number].name} is killed")
        self.replicas[number].kill()

    def restart(self, number: int) -> None:
        self.replicas[number].start()
        self.note(f"{self.replicas[number].name} starts again")

    def events(self) -> list[tuple[float, str]]:
        """What the replicas have logged."""
        return [
            (
                datetime.fromisoformat(line["time"]).timestamp(),
                f"{replica.name}: {name} {[line.get(field) for field in fields] or ''}",
            )
            for number, replica in enumerate(self.replicas)
            for name, fields in EVENTS.items()
            for line in self.environment.events(name, number)
        ]


def everywhere() -> list[str]:
    """Rooms of all partitions, one of each in turn."""
    return [room for each in zip(*map(rooms, range(PARTITIONS)), strict=True) for room in each]


def three(run: Run, backlog_seconds: float, targets: Sequence[str]) -> None:
    """Three replicas, ready, and then the load."""
    run.start("", "", "")
    run.await_ready()
    run.play(4.0)  # the last partitions are on their way
    run.load(backlog_seconds, targets)


def join(run: Run) -> None:
    run.start("")
    run.await_ready()
    run.load(44.0, everywhere())
    run.play(5.0)
    run.start("")
    run.play(8.0)
    run.start("")
    run.play(27.0)


def roll(run: Run) -> None:
    three(run, 64.0, everywhere())
    run.play(5.0)
    for number in range(3):
        run.stop(number)
        run.restart(number)
        run.play(16.0)


def kill(run: Run) -> None:
    three(run, 64.0, everywhere())
    run.play(15.0)
    run.kill(1)
    run.play(BACK_AFTER)
    run.restart(1)
    run.play(44.0)


def static(run: Run) -> None:
    run.start("only")
    run.await_ready()
    run.load(16.0, everywhere())
    run.play(6.0)
    run.kill(0)
    run.play(BACK_AFTER)
    run.restart(0)
    run.play(7.0)


def hot(replicas: int) -> Callable[[Run], None]:
    def scenario(run: Run) -> None:
        run.start(*[""] * replicas)
        run.await_ready()
        run.play(4.0)
        run.load(24.0, rooms(0)[:1])
        run.play(20.0)

    return scenario


SCENARIOS: Final[dict[str, tuple[Callable[[Run], None], float]]] = {
    "join": (join, 1.0),
    "roll": (roll, 1.0),
    "kill": (kill, 1.0),
    "static": (static, 1.0),
    "hot3": (hot(3), 5.0),
    "hot6": (hot(6), 5.0),
}
"""Each with the seconds from its first call on that are not counted."""


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What came of a run.

    Attributes:
        use: The share of the quota that was used, from the first call to the end of what was done.
        highest_second: The most requests in any rolling second, over the whole run.
        repeated_members: Users for whom the API did something more than once.
        kill_to_call: Seconds from the first kill to the next call of a partition that the killed one had; None without a kill.
        timeline: Calls in each tenth of a second that is counted.
        steps: What was done, with the seconds since the begin.
        gaps: Partition, begin and length of each gap.
        violations: What the checker found.
        stall: The local API's longest.

    """

    scenario: str
    use: float
    highest_second: int
    repeated_members: int
    kill_to_call: float | None
    timeline: list[int]
    steps: list[tuple[float, str]]
    gaps: list[tuple[int, float, float]]
    violations: dict[str, int]
    examples: list[str]
    stall: float


def measure(name: str, servers: str) -> Figures:
    """Plays the scenario once."""
    scenario, skipped = SCENARIOS[name]
    with Environment(servers, *LATENCY) as environment:
        run = Run(environment)
        scenario(run)
        run.ended = time.time()
        environment.play_to_the_end()
        stall = environment.stage.control("stats")["longest_stall_seconds"]
        environment.end()
        requests = environment.requests()
        report = check(environment.evidence())
        run.began = min(request.read_at for request in requests) + skipped
        return figures(name, run, requests, report, stall)


def figures(
    name: str, run: Run, requests: Sequence[LoggedRequest], report: CheckReport, stall: float
) -> Figures:
    stamps = sorted(request.read_at for request in requests)
    begin, seconds = run.began, run.ended - run.began
    used = bisect_left(stamps, run.ended) - bisect_left(stamps, begin)
    bins = Counter(int((at - begin) / STEP) for at in stamps if begin <= at < run.ended)
    times = Counter(user for request in requests for user in request.applied)
    killed_at = next((at for at, what in run.steps if what.endswith("is killed")), None)
    next_call = (
        None if killed_at is None else next((at for at in stamps if at > killed_at + BACK_AFTER), None)
    )
    return Figures(
        name,
        round(used / (QUOTA * seconds), 4),
        max(report.highest_second.values()),
        sum(number > 1 for number in times.values()),
        round(next_call - killed_at, 3) if killed_at is not None and next_call is not None else None,
        [bins[place] for place in range(int(seconds / STEP))],
        [(round(at - begin, 2), what) for at, what in sorted([*run.steps, *run.events()])],
        gaps(requests, begin, run.ended),
        {violation.name: number for violation, number in report.counts.items() if number},
        [f"{each.violation.name}: {each.what}" for each in report.examples],
        round(stall, 3),
    )


def gaps(requests: Sequence[LoggedRequest], begin: float, end: float) -> list[tuple[int, float, float]]:
    """When partitions had no call for a while."""
    partition_of = {room.encode(): number for number in range(PARTITIONS) for room in rooms(number)}
    stamps: dict[int, list[float]] = defaultdict(list)
    for request in requests:
        if begin <= request.read_at <= end:
            stamps[partition_of[request.target.encode()]].append(request.read_at)
    found = [
        (number, round(earlier - begin, 2), round(later - earlier, 2))
        for number, its in stamps.items()
        for earlier, later in pairwise(sorted(its))
        if later - earlier >= GAP
    ]
    return sorted(found, key=lambda each: each[1:])


def show(run: Figures) -> None:
    """Prints a run for a person: a line a second."""
    print(f"{run.scenario}: {run.use:.1%} of the quota, highest second {run.highest_second}", end=", ")
    print(f"repeated members {run.repeated_members}, kill to call {run.kill_to_call}, stall {run.stall}")
    for second in range(0, len(run.timeline), 10):
        tenths = run.timeline[second : second + 10]
        print(f"{second // 10:4} {sum(tenths):4}  {' '.join(f'{each:3}' for each in tenths)}")
    for at, what in run.steps:
        print(f"  {at:6.2f} {what}")
    for number, at, length in run.gaps:
        print(f"  partition {number}: no call from {at:.2f} for {length:.2f} s")
    for name, number in run.violations.items():
        print(f"  {name}: {number}")
    for example in run.examples:
        print(f"  {example}")


def main() -> None:
    """Plays one scenario, as often as is asked for."""
    parser = argparse.ArgumentParser(
        description="How much of the quota is used while replicas come, go and die."
    )
    parser.add_argument("--scenario", choices=SCENARIOS, required=True)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with EmbeddedKafka() as kafka:
        runs = [measure(options.scenario, kafka.bootstrap_servers) for _ in range(options.runs)]
    if options.json:
        printed = {
            "scenario": options.scenario,
            "use": median(run.use for run in runs),
            "runs": [asdict(run) for run in runs],
        }
        print(msgspec.json.encode(printed).decode())
    else:
        for run in runs:
            show(run)
    if any(run.violations for run in runs):
        sys.exit(1)
    sys.exit(2 if any(run.stall > STALL for run in runs) else 0)


if __name__ == "__main__":
    main()
