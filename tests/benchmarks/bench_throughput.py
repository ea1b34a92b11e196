# How fast a backlog is worked off: one replica, one endpoint, a real Kafka, the local Tencent API at its documented limits.
#
#   python -m tests.benchmarks.bench_throughput [--commands 60000] [--load clean|dirty|five|hot] [--replicas 1] [--seed 1]
#
# Clean: single-member group bans with the same duration and reason over 50 rooms with Zipf popularity, latency 30 ms.
# Dirty: 2 % bad users at random, 1 % transient errors, 5 % in ban -> unban -> ban sequences, 3 % repeated ids.
# Five: all endpoints at once, in the proportion in which their quotas allow members. Hot: one room.
# The figures come from the simulator's log and /proc, and the demo's checker judges every run. A run in which the simulator
# stalled for over 200 ms is void.

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition

from worker.testing.checker.contract import (
    BAN,
    KICK,
    LIVE_UNBAN,
    TARGET_FIELDS,
    UNBAN,
    UPDATE,
    CommandedEffect,
    SeenMemberInfo,
)
from worker.testing.checker.evidence import Evidence, ExpectedFate, PlannedRecord
from worker.testing.checker.evidence_check import check
from worker.testing.checker.simulator_log import read_log
from worker.testing.checker.topic_reader import TopicReader
from worker.testing.demo.environment import PARTITIONS, WORKER, DemoEnvironment
from worker.testing.demo.raid_run import LoadProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.testing.checker.evidence import LoggedRequest, ProducedCommand
    from worker.testing.checker.evidence_check import CheckReport

ROOMS: Final = 50
LATENCY: Final = 0.03
STALL: Final = 0.2
DEADLINE: Final = 180.0
BAD_USERS: Final = 0.02
TRANSIENT: Final = 0.01
REPEATED_IDS: Final = 0.03
SEQUENCES: Final = 0.05
WHOLE_BATCH: Final = 20
LOOK: Final = 0.25
"""How often a run is looked at, in seconds."""
SILENCE: Final = 1.5
"""Nothing more is published then: a transaction comes every 50 ms."""
QUIET_LOG: Final = {"log": {"level": "warning", "format": "json"}}
LOADS: Final = ("clean", "dirty", "five", "hot")
SHARES: Final = {BAN: 20, UNBAN: 20, LIVE_UNBAN: 20, KICK: 20, UPDATE: 1}
"""Members that one call of each endpoint takes: so all quotas are used up at the same time."""
EFFECTS: Final = {
    BAN: CommandedEffect(BAN, duration=86_400, reason="spam"),
    UNBAN: CommandedEffect(UNBAN),
    LIVE_UNBAN: CommandedEffect(LIVE_UNBAN),
    KICK: CommandedEffect(KICK, reason="spam"),
    UPDATE: CommandedEffect(UPDATE, info=SeenMemberInfo(name_card="a name")),
}


def backlog_of(load: str, count: int, seed: int) -> list[PlannedRecord]:
    """The commands of one of LOADS."""
    if load == "five":
        return list(five_endpoints(count, seed=seed))
    return list(commands(count, dirty=load == "dirty", seed=seed, rooms=1 if load == "hot" else ROOMS))


def commands(count: int, *, dirty: bool, seed: int, rooms: int = ROOMS) -> Iterator[PlannedRecord]:
    """The backlog, in order."""
    chance = random.Random(seed)
    names = [f"room-{number:02}" for number in range(rooms)]
    weights = list(accumulate(1 / (number + 1) for number in range(rooms)))
    recent: deque[PlannedRecord] = deque(maxlen=2000)
    follow_ups: deque[tuple[int, PlannedRecord]] = deque()
    for position in range(count):
        if follow_ups and follow_ups[0][0] <= position:
            yield follow_ups.popleft()[1]
            continue
        if dirty and recent and chance.random() < REPEATED_IDS:
            yield chance.choice(recent)
            continue
        (room,) = chance.choices(names, cum_weights=weights)
        ban = command_of(BAN, room, position)
        if dirty and chance.random() < SEQUENCES / 3:
            follow_ups.append((position + 20, command_of(UNBAN, room, position, "-undo")))
            follow_ups.append((position + 40, command_of(BAN, room, position, "-again")))
        recent.append(ban)
        yield ban


def five_endpoints(count: int, *, seed: int) -> Iterator[PlannedRecord]:
    """Single-member commands for all endpoints, over rooms of Zipf popularity."""
    chance = random.Random(seed)
    weights = [1 / (number + 1) for number in range(ROOMS)]
    actions = chance.choices(list(SHARES), list(SHARES.values()), k=count)
    rooms = chance.choices(range(ROOMS), weights, k=count)
    for number, (action, room) in enumerate(zip(actions, rooms, strict=True)):
        yield command_of(action, f"room-{room:02}", number)


def command_of(action: str, room: str, number: int, suffix: str = "", **more: Any) -> PlannedRecord:
    """One command for one user, with more fields."""
    command_id, user, effect = f"bench-{number:06}{suffix}", f"user-{number:06}", EFFECTS[action]
    body = {
        "command_id": command_id,
        "action": action,
        TARGET_FIELDS[action]: room,
        "user_ids": [user],
        **{
            name: value
            for name, value in (
                ("duration", effect.duration),
                ("reason", effect.reason),
                ("member_info", effect.info),
            )
            if value is not None
        },
        **more,
    }
    return PlannedRecord(
        room.encode(), msgspec.json.encode(body), ExpectedFate.CARRIED_OUT, command_id, room, (user,), effect
    )


def produced(stage: DemoEnvironment, backlog: Sequence[PlannedRecord]) -> list[ProducedCommand]:
    """Puts the backlog into the command topic, each target on its partition."""
    with contextlib.closing(LoadProducer(stage.bootstrap_servers, stage.topics.commands, backlog)) as load:
        load.start()
        while not load.done:
            time.sleep(0.1)
        return load.sent


def await_outcomes(stage: DemoEnvironment, count: int, look: Callable[[], None] = lambda: None) -> None:
    """Until the outcome topic has as many records, cheaply: by its offsets, then by its silence. Looks again and again."""
    consumer = KafkaConsumer(bootstrap_servers=stage.bootstrap_servers, isolation_level="read_committed")
    places = [TopicPartition(stage.topics.outcomes, number) for number in range(PARTITIONS)]
    deadline = time.monotonic() + DEADLINE
    last, quiet_since = -1, time.monotonic()
    with contextlib.closing(consumer):
        while time.monotonic() < deadline:
            time.sleep(LOOK)
            look()
            for replica in stage.replicas:
                if not replica.running:
                    raise SystemExit(f"{replica.name} has ended: {replica.tail()}")
            written = sum(consumer.end_offsets(places).values())
            if written != last:
                last, quiet_since = written, time.monotonic()
            elif written >= count and time.monotonic() - quiet_since > SILENCE:
                return
    tails = "\n".join(replica.tail() for replica in stage.replicas)
    raise SystemExit(f"only {last} offsets of {count} outcomes after {DEADLINE:.0f} s\n{tails}")


@dataclass(slots=True)
class Spent:
    """
    What processes took of the machine, looked at again and again.

    Attributes:
        resident: The most MiB that the largest of them held.

    """

    pids: Sequence[int]
    resident: float = 0.0
    _looks: list[tuple[float, float]] = field(default_factory=list)

    def look(self) -> None:
        """Notes the time, and the CPU seconds of all of them."""
        tick, spent = 0.01, 0.0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                spent += (int(fields[11]) + int(fields[12])) * tick
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                self.resident = max(self.resident, pages * 4096 / 2**20)
        self._looks.append((time.time(), spent))

    def between(self, begin: float, end: float) -> float:
        """CPU seconds between two instants, in seconds since 1970, as if they were spent evenly between two looks."""
        return self._at(end) - self._at(begin)

    def _at(self, instant: float) -> float:
        place = min(max(bisect_left(self._looks, (instant, 0.0)), 1), len(self._looks) - 1)
        (before, less), (after, more) = self._looks[place - 1 : place + 1]
        return less + (more - less) * (instant - before) / (after - before)


@dataclass(frozen=True, slots=True)
class Speed:
    """
    What a run showed.

    Attributes:
        members: Members applied a second, in the part of the run that counts.
        fill: Members of a successful call, on average; ``whole`` is the share of calls with twenty.
        cpu: Microseconds of CPU a member applied.
        resident: MiB.
        throttled: How many requests were above the quota.

    """

    members: float
    fill: float
    whole: float
    cpu: float
    resident: float
    throttled: int
    highest_second: int


def speed_of(
    requests: Sequence[LoggedRequest], report: CheckReport, spent: Spent, begin: float, end: float
) -> Speed:
    """The speed between two instants."""
    passed = [request for request in requests if request.code == 0]
    members = sum(begin <= at < end for request in requests for at, _ in request.applied.values())
    return Speed(
        members / (end - begin),
        sum(len(request.users) for request in passed) / max(1, len(passed)),
        sum(len(request.users) == WHOLE_BATCH for request in passed) / max(1, len(passed)),
        1e6 * spent.between(begin, end) / max(1, members),
        spent.resident,
        sum(request.code == 60007 for request in requests),
        max(report.highest_second.values(), default=0),
    )


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """
    A run of the worker, judged.

    Attributes:
        begin: Of the part that counts, in seconds since 1970; and ``end``.
        stall: The longest stall of the simulator, in seconds.

    """

    begin: float
    end: float
    speed: Speed
    report: CheckReport
    evidence: Evidence
    stall: float

    @property
    def counts(self) -> bool:
        """Whether every promise held, and the simulator kept up."""
        return self.report.clean and self.stall <= STALL


def faults_of(load: str, backlog: Sequence[PlannedRecord], seed: int) -> dict[str, Any]:
    """What goes wrong at the API under this load."""
    if load != "dirty":
        return {}
    users = sorted({user for planned in backlog for user in planned.users})
    bad_users = random.Random(seed).sample(users, round(len(users) * BAD_USERS))
    return {"bad_user_list": bad_users, "transient": TRANSIENT}


@contextlib.contextmanager
def staged(
    load: str, count: int, seed: int, servers: str | None
) -> Iterator[tuple[DemoEnvironment, list[ProducedCommand], dict[str, Any]]]:
    """A Kafka that has the load's backlog and a local API that has its faults, with what was sent and which faults these are."""
    backlog = backlog_of(load, count, seed)
    faults = faults_of(load, backlog, seed)
    with DemoEnvironment(servers) as stage:
        stage.start_kafka()
        stage.start_simulator("--latency", str(LATENCY), seed=seed)
        if faults:
            stage.control("faults", faults)
        yield stage, produced(stage, backlog), faults


def play(
    load: str,
    count: int,
    *,
    replicas: int = 1,
    seed: int = 1,
    servers: str | None = None,
    program: Sequence[str] = WORKER,
) -> JudgedRun:
    """Works a backlog off, on a Kafka of its own unless one is given; ``program`` replaces `python -m worker`."""
    with staged(load, count, seed, servers) as (stage, sent, faults):
        for _ in range(replicas):
            stage.start_worker(QUIET_LOG, program)
        spent = Spent([replica.pid for replica in stage.replicas])
        await_outcomes(stage, count, spent.look)
        stall = stage.control("stats")["longest_stall_seconds"]
        stage.stop_workers()
        stage.stop_simulator()
        with contextlib.closing(
            TopicReader(stage.bootstrap_servers, stage.topics.outcomes, stage.topics.dead_letters, PARTITIONS)
        ) as reader:
            reader.read_to_the_end(DEADLINE)
        requests, read = read_log(stage.simulator_log), reader.read
        evidence = Evidence(
            stage.topics.commands,
            tuple(sent),
            tuple(read.outcomes),
            tuple(read.letters),
            requests,
            frozenset(faults.get("bad_user_list", ())),
        )
    report = check(evidence)
    times = sorted(at for request in requests for at, _ in request.applied.values())
    begin, end = times[len(times) // 10], times[len(times) * 9 // 10]
    return JudgedRun(begin, end, speed_of(requests, report, spent, begin, end), report, evidence, stall)


def main() -> None:
    """One run. Exit code 1 if a promise broke or the run is void."""
    parser = argparse.ArgumentParser(description="How fast a backlog is worked off.")
    parser.add_argument("--commands", type=int, default=60_000)
    parser.add_argument("--load", choices=LOADS, default="clean")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=1)
    options = parser.parse_args()
    run = play(options.load, options.commands, replicas=options.replicas, seed=options.seed)
    tell(run)
    sys.exit(not run.counts)


def tell(run: JudgedRun) -> None:
    """Prints the figures."""
    speed, evidence = run.speed, run.evidence
    print(f"between 10 % and 90 %: {speed.members:.0f} members/s, {speed.cpu:.1f} µs of CPU for each")
    print(f"members per successful call: {speed.fill:.2f}; whole batches: {speed.whole:.1%}")
    print(
        f"outcomes: {len(evidence.outcomes)} of {len(evidence.sent)} commands, {len(evidence.requests)} requests"
    )
    print(f"highest rolling second: {run.report.highest_second}; 60007: {speed.throttled}")
    print(f"most resident: {speed.resident:.0f} MiB")
    print(
        f"longest stall of the simulator: {run.stall * 1000:.0f} ms{' - VOID' if run.stall > STALL else ''}"
    )
    for fault, times in run.report.counts.items():
        print(f"{fault.value}: {times}")
    for finding in run.report.examples:
        print(f"  {finding.violation.name}: {finding.what}")


if __name__ == "__main__":
    main()
