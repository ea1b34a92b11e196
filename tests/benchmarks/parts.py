# The parts of `make bench`, as one table: what each measures, beside which baselines, and about how long it takes.
#
# Each part is a function that yields figures (results.py). What measures is in the bench_*.py and in baseline_runs.py.

from __future__ import annotations

import contextlib
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks import baseline_runs, bench_throughput
from tests.benchmarks.bench_latency import beyond, loaded
from tests.benchmarks.bench_throughput import LATENCY, QUIET_LOG, STALL, command_of, produced
from tests.benchmarks.bench_turnover import everywhere
from tests.benchmarks.children import NotMeasuredError, child
from tests.benchmarks.profiled_worker import spent_between
from tests.benchmarks.results import BASELINES, Figure, Program
from worker.domain.progress.commit_metadata import MAX_SPAN
from worker.testing.checker.contract import BAN, MEMBERS_PER_CALL, QUOTA
from worker.testing.checker.run_figures import percentile
from worker.testing.demo.environment import DemoEnvironment
from worker.testing.kafka.child_process import ProcessFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.benchmarks.bench_latency import Arrivals
    from tests.benchmarks.bench_throughput import JudgedRun, Speed

IN_WORDS: Final = {
    "clean": "one endpoint, clean",
    "dirty": "one endpoint, dirty",
    "five": "five endpoints",
    "hot": "one hot room",
}
COMMANDS: Final = {"clean": 40_000, "dirty": 12_000, "five": 40_000}
BASELINE_COMMANDS: Final = 30_000
BASELINE_SECONDS: Final = 4.0
MEMBERS: Final = "members applied, /s"
CPU: Final = "CPU, µs/member"
FILL: Final = "members in a successful call"
HIGHEST: Final = "most requests in a rolling second"
BROKEN: Final = "promises broken"
USED_HOT: Final = "of the quota used after 5 s, %"
USED: Final = "of the quota used, %"
URGENT_WAIT: Final = "p95 to the outcome, s"
RESIDENT: Final = "most memory, MiB"
SHARES: Final = (1, 50, 90, 120)
BASELINE_SHARES: Final = {Program.LOOP: (1,), Program.BATCHES: (1, 50, 90), Program.FASTSTREAM: (50,)}
LATENCY_SECONDS: Final = 8.0
BASELINE_LATENCY_SECONDS: Final = 4.0
CURVE: Final = "from a record to its outcome, beyond the API's 30 ms"
URGENT_EVERY: Final = 0.2
URGENT_SECONDS: Final = 8.0
URGENT_REACH: Final = {"memory": {"budget_mib": 512}, "kafka": {"max_gap": MAX_SPAN}}
"""For all of the backlog: an urgent command goes before what is admitted. Of commands like these 160 MiB admit some 45,000."""
READ: Final = 0.99
"""The share of the backlog that is open or done when it counts as read: the metric is a second old at most."""
READ_SECONDS: Final = 120.0
ENGINE_COMMANDS: Final = 20_000
ENGINE_ROOMS: Final = (10, 100_000)
ENGINE_WAITING: Final = (1_000, 100_000, 1_000_000)
ENGINE_COST: Final = "CPU, µs/command"
WAITING_COST: Final = "CPU, µs/command, batched"
QUOTA_MEMBERS: Final = QUOTA * MEMBERS_PER_CALL
"""Members a second that the quota of an endpoint allows."""
TURNOVER: Final = "tests.benchmarks.bench_turnover"
STALLED: Final = "the local API stalled in each run, so its stamps prove nothing"


@dataclass(slots=True)
class Session:
    """
    What the parts are given.

    Attributes:
        say: Shows progress.
        resident: The most memory of each program in the parts before.
        rates: Members a second of each baseline under the clean load, for what is computed from it.

    """

    servers: str
    folder: Path
    runs: int
    urgent_behind: int
    say: Callable[[str], None]
    resident: dict[Program, float] = field(default_factory=dict)
    rates: dict[Program, float] = field(default_factory=dict)

    def each(self, what: str, play: Callable[[int], Any], runs: int | None = None) -> list[Any]:
        """Plays once for each run, with its number as the seed."""
        found = []
        for number in range(1, (runs or self.runs) + 1):
            self.say(f"{what}, run {number} of {runs or self.runs}")
            found.append(play(number))
        return found


def figures_of(
    session: Session, part: str, load: str, program: Program, speeds: Sequence[Speed], wanted: Sequence[str]
) -> Iterator[Figure]:
    """The rows of a throughput."""
    session.resident[program] = max(session.resident.get(program, 0.0), *(speed.resident for speed in speeds))
    values: dict[str, tuple[list[float], bool | None]] = {
        MEMBERS: ([speed.members for speed in speeds], False),
        CPU: ([speed.cpu for speed in speeds], True),
        FILL: ([speed.fill for speed in speeds], None),
        HIGHEST: ([float(speed.highest_second) for speed in speeds], None),
    }
    for measure in wanted:
        found, less_is_better = values[measure]
        yield Figure(part, load, measure, program, tuple(found), less_is_better=less_is_better)


def of_the_worker(
    session: Session,
    part: str,
    load: str,
    replicas: int = 1,
    wanted: Sequence[str] = (MEMBERS, CPU, FILL, HIGHEST),
    runs: int | None = None,
) -> Iterator[Figure]:
    """The worker under a load; runs in which the local API stalled do not count."""
    name = IN_WORDS[load] + (f", {replicas} replicas" if replicas > 1 else "")

    def play(seed: int) -> JudgedRun:
        return bench_throughput.play(
            load, COMMANDS[load], replicas=replicas, seed=seed, servers=session.servers
        )

    try:
        played: list[JudgedRun] = session.each(f"{Program.WORKER}, {name}", play, runs)
    except (SystemExit, ProcessFailedError) as exc:
        yield missing(part, name, MEMBERS, Program.WORKER, exc)
        return
    for run in played:
        for finding in run.report.examples:
            session.say(f"BROKEN: {finding.violation.value}: {finding.what}")
    counted = [run.speed for run in played if run.stall <= STALL]
    if not counted:
        yield missing(part, name, MEMBERS, Program.WORKER, NotMeasuredError(STALLED))
        return
    yield from figures_of(session, part, name, Program.WORKER, counted, wanted)
    broken = tuple(float(sum(run.report.counts.values())) for run in played)
    yield Figure(part, name, BROKEN, Program.WORKER, broken, less_is_better=True)


def of_baselines(
    session: Session,
    part: str,
    load: str,
    programs: Sequence[Program] = BASELINES,
    replicas: int = 1,
    wanted: Sequence[str] = (MEMBERS, CPU, FILL, HIGHEST),
    runs: int | None = None,
) -> Iterator[Figure]:
    """The baselines under the same load."""
    name = IN_WORDS[load] + (f", {replicas} replicas" if replicas > 1 else "")
    for program in programs:

        def play(seed: int, program: Program = program) -> Speed:
            return baseline_runs.play(
                program, load, BASELINE_COMMANDS, BASELINE_SECONDS,
                replicas=replicas, seed=seed, servers=session.servers,
            )  # fmt: skip

        try:
            speeds: list[Speed] = session.each(f"{program}, {name}", play, runs)
        except (NotMeasuredError, SystemExit, ProcessFailedError) as exc:
            yield missing(part, name, MEMBERS, program, exc)
            continue
        if load == "clean":
            session.rates[program] = max(speed.members for speed in speeds)
        yield from figures_of(session, part, name, program, speeds, wanted)


def missing(part: str, load: str, measure: str, program: Program, why: BaseException) -> Figure:
    """A figure that is not there, with the reason in a line."""
    return Figure(part, load, measure, program, missing=str(why).partition("\n")[0] or type(why).__name__)


def one_endpoint(session: Session) -> Iterator[Figure]:
    """(a) The same backlog, clean and dirty, for the worker and the baselines."""
    yield from of_the_worker(session, "a", "clean")
    yield from of_baselines(session, "a", "clean", runs=min(2, session.runs))
    yield from of_the_worker(session, "a", "dirty")
    yield from of_baselines(session, "a", "dirty", runs=1)


def five_endpoints(session: Session) -> Iterator[Figure]:
    """(b) All quotas at once, with one replica and with two."""
    wanted = (MEMBERS, CPU)
    for replicas in (1, 2):
        yield from of_the_worker(session, "b", "five", replicas, wanted, min(2, session.runs))
    yield from of_baselines(
        session, "b", "five", (Program.BATCHES, Program.FASTSTREAM), wanted=wanted, runs=1
    )


def hot_room(session: Session) -> Iterator[Figure]:
    """(c) One room has all commands, so one replica of three or six has its partition."""
    for replicas in (3, 6):
        yield from turnover(session, "c", f"hot{replicas}", f"one hot room, {replicas} replicas", USED_HOT)
    for figure in of_baselines(session, "c", "hot", (Program.BATCHES,), 3, (MEMBERS,), runs=1):
        used = tuple(100 * value / QUOTA_MEMBERS for value in figure.values)
        yield Figure("c", figure.load, USED_HOT, figure.program, used, figure.missing)


def handovers(session: Session) -> Iterator[Figure]:
    """(d) Replicas come, go and die under load."""
    for scenario, load in (
        ("join", "1 replica, then 3"),
        ("roll", "3 replicas restarted one by one"),
        ("kill", "kill -9 of one of 3"),
    ):
        yield from turnover(session, "d", scenario, load, USED)


def turnover(session: Session, part: str, scenario: str, load: str, measure: str) -> Iterator[Figure]:
    """Plays a scenario of bench_turnover.py in a process of its own."""
    session.say(f"{Program.WORKER}, {load}")
    try:
        printed = child(TURNOVER, "--scenario", scenario, "--json", codes=(0, 1, 2))
    except NotMeasuredError as exc:
        yield missing(part, load, measure, Program.WORKER, exc)
        return
    played = [run for run in printed["runs"] if run["stall"] <= STALL]
    measures: dict[str, list[float | None]] = {
        measure: [100 * run["use"] for run in played],
        HIGHEST: [run["highest_second"] for run in played],
        BROKEN: [sum(run["violations"].values()) for run in played],
    }
    if scenario == "kill":
        measures["from the kill to the next call, s"] = [run["kill_to_call"] for run in played]
        measures["members called for again"] = [run["repeated_members"] for run in played]
    for name, found in measures.items():
        values = tuple(float(value) for value in found if value is not None)
        why = "" if values else STALLED
        less = name != measure
        yield Figure(part, load, name, Program.WORKER, values, why, less_is_better=less)


def latencies(session: Session) -> Iterator[Figure]:
    """(e) Each command has a room of its own, and comes at random."""
    with stage_of(session) as stage:
        stage.wait_until_ready(stage.start_worker(QUIET_LOG))
        yield from shares_of(session, stage, Program.WORKER, SHARES, LATENCY_SECONDS)
    for program in BASELINES:
        with stage_of(session) as stage:
            try:
                with baseline_runs.started(stage, program):
                    yield from shares_of(
                        session, stage, program, BASELINE_SHARES[program], BASELINE_LATENCY_SECONDS
                    )
            except (NotMeasuredError, SystemExit, ProcessFailedError) as exc:
                yield missing("e", f"{SHARES[0]} % of the quota", "p50, ms", program, exc)


def shares_of(
    session: Session, stage: DemoEnvironment, program: Program, shares: Sequence[int], seconds: float
) -> Iterator[Figure]:
    """The rows of a program's latencies."""
    with loaded(stage) as (producer, arrivals):
        for share in shares:
            load = f"{share} % of the quota, paced"
            session.say(f"{program}, {load}")
            longer = seconds if share >= 10 else seconds * 2
            waits, without = beyond(producer, arrivals, stage.topics.commands, share, longer, seed=1)
            cuts = quantiles(waits, n=100) if len(waits) > 1 else []
            for measure, place in (("p50, ms", 49), ("p99, ms", 98)):
                if without or not cuts:
                    why = NotMeasuredError(
                        f"{without} of {without + len(waits)} commands had no outcome a minute later"
                    )
                    yield missing("e", load, measure, program, why)
                else:
                    yield Figure(
                        "e", load, measure, program, (cuts[place],), less_is_better=True, at=float(share)
                    )


@contextlib.contextmanager
def stage_of(session: Session) -> Iterator[DemoEnvironment]:
    """Topics and a local API of their own."""
    with DemoEnvironment(session.servers) as stage:
        stage.start_kafka()
        stage.start_simulator("--latency", str(LATENCY))
        yield stage


def urgent(session: Session) -> Iterator[Figure]:
    """(f) Urgent commands, one after the other, while a backlog of others that has been read is worked off."""
    load = f"urgent behind {session.urgent_behind:,}"
    measure = URGENT_WAIT
    session.say(f"{Program.WORKER}, {load}")
    number = session.urgent_behind * 4 // 3  # a part is worked off while the others are read
    with stage_of(session) as stage:
        rooms = everywhere()
        produced(stage, [command_of(BAN, rooms[each % len(rooms)], each) for each in range(number)])
        stage.start_worker({**QUIET_LOG, **URGENT_REACH})
        with loaded(stage) as (producer, arrivals):
            stage.replicas[0].wait_until(lambda: len(arrivals.at) > 1000, READ_SECONDS, "at work")
            stage.replicas[0].wait_until(
                lambda: len(arrivals.at) + metric(stage, "moderation_worker_open_commands") > READ * number,
                READ_SECONDS,
                "done reading",
            )
            waiting = number - len(arrivals.at)
            waits, left = urgent_waits(stage, producer, arrivals, number)
    yield Figure("f", load, "commands waiting before the first", Program.WORKER, (float(waiting),))
    if left <= 0:
        why = NotMeasuredError(
            "the backlog was worked off before the last urgent command: a larger one is needed"
        )
        yield missing("f", load, measure, Program.WORKER, why)
    else:
        yield Figure("f", load, measure, Program.WORKER, (percentile(waits, 0.95),), less_is_better=True)
    for program in BASELINES:
        # First come, first served: the wait is the backlog's length at the speed that was measured, without waiting for it.
        if program in session.rates:
            yield Figure(
                "f",
                load,
                measure,
                program,
                (session.urgent_behind / session.rates[program],),
                less_is_better=True,
            )
        else:
            why = NotMeasuredError("it follows from the speed in part a, which was not measured")
            yield missing("f", load, measure, program, why)


def metric(stage: DemoEnvironment, name: str) -> float:
    """The sum of a metric's samples in the first replica."""
    with urllib.request.urlopen(f"{stage.worker_addresses()[0]}/metrics", timeout=10.0) as response:  # noqa: S310
        lines = [line.rpartition(" ") for line in response.read().decode().splitlines()]
    return sum(float(value) for sample, _, value in lines if sample.partition("{")[0] == name)


def urgent_waits(
    stage: DemoEnvironment, producer: Any, arrivals: Arrivals, backlog: int
) -> tuple[list[float], int]:
    """Seconds of each urgent command in order of length, and how much of the backlog was left after the last."""
    sent: dict[str, float] = {}
    begin = time.monotonic()
    for number in range(round(URGENT_SECONDS / URGENT_EVERY)):
        time.sleep(max(0.0, begin + number * URGENT_EVERY - time.monotonic()))
        planned = command_of(BAN, f"room-{number % 50:02}", 900_000 + number, priority="urgent")
        assert planned.command_id is not None
        producer.send(stage.topics.commands, planned.value, planned.key)
        sent[planned.command_id] = time.monotonic()
    left = backlog + len(sent) - len(arrivals.at)
    deadline = time.monotonic() + 60.0
    while sent.keys() - arrivals.at.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    return sorted(arrivals.at[name] - since for name, since in sent.items()), left


def engine(session: Session) -> Iterator[Figure]:
    """(g) The pure core alone, in virtual time: what a command costs while others wait."""
    for rooms in ENGINE_ROOMS:
        load = f"100,000 waiting in {rooms:,} rooms, a call for each"
        words = ("--waiting", "100000", "--rooms", str(rooms), "--alone")
        yield engine_figure(session, load, ENGINE_COST, float(rooms), words)
    for waiting in ENGINE_WAITING:
        load = f"{waiting:,} waiting in 60 rooms, calls of 20"
        yield engine_figure(session, load, WAITING_COST, float(waiting), ("--waiting", str(waiting)))


def engine_figure(session: Session, load: str, measure: str, at: float, words: Sequence[str]) -> Figure:
    """One point, in a process of its own, so that no heap is another's."""
    session.say(f"the engine alone, {load}")
    try:
        printed = child("tests.benchmarks.bench_engine", *words, "--commands", str(ENGINE_COMMANDS), "--json")
    except NotMeasuredError as exc:
        return missing("g", load, measure, Program.WORKER, exc)
    return Figure("g", load, measure, Program.WORKER, (printed["microseconds"],), less_is_better=True, at=at)


def stages(session: Session) -> Iterator[Figure]:
    """(h) Where the CPU time of a command goes, by a sampler in the worker."""
    session.say(f"{Program.WORKER}, with a sampler")
    file = session.folder / "stages.jsonl"
    program = (sys.executable, "-m", "tests.benchmarks.profiled_worker", str(file))
    run = bench_throughput.play("clean", COMMANDS["clean"], servers=session.servers, program=program)
    members = run.speed.members * (run.end - run.begin)
    spent = spent_between(file.read_text("utf-8").splitlines(), run.begin, run.end)
    whole = "clean: all, as the kernel counts it"
    yield Figure("h", whole, CPU, Program.WORKER, (run.speed.cpu,), less_is_better=True)
    for stage, seconds in spent.items():
        yield Figure(
            "h", f"clean: {stage}", CPU, Program.WORKER, (1e6 * seconds / members,), less_is_better=True
        )


def memory(session: Session) -> Iterator[Figure]:
    """(i) What is resident at most: of an engine that is full in every part, and of the programs in the parts before."""
    session.say("memory of the fullest worker")
    load = "all that is kept is full"
    try:
        printed = child("tests.benchmarks.bench_memory", "--json")
        yield Figure("i", load, RESIDENT, Program.WORKER, (printed["resident_mib"],), less_is_better=True)
    except NotMeasuredError as exc:
        yield missing("i", load, RESIDENT, Program.WORKER, exc)
    for program in Program:
        if program in session.resident:
            value = (session.resident[program],)
            yield Figure("i", "in the parts before", RESIDENT, program, value, less_is_better=True)


@dataclass(frozen=True, slots=True)
class Part:
    """
    One part.

    Attributes:
        seconds: About how long it takes with three runs.
        needs_kafka: Whether it needs the Kafka that all parts share.

    """

    letter: str
    title: str
    seconds: int
    play: Callable[[Session], Iterator[Figure]]
    needs_kafka: bool = True


PARTS: Final = (
    Part("a", "one endpoint, clean and dirty, beside the baselines", 190, one_endpoint),
    Part("b", "five endpoints, 1 and 2 replicas", 93, five_endpoints),
    Part("c", "one hot room, 3 and 6 replicas", 98, hot_room),
    Part("d", "replicas that join, roll and are killed", 260, handovers, needs_kafka=False),
    Part("e", "latency at 1, 50, 90 and 120 % of the quota", 105, latencies),
    Part("f", "urgent commands behind a backlog", 42, urgent),
    Part("g", "the engine alone: rooms and waiting commands", 69, engine, needs_kafka=False),
    Part("h", "CPU by stage", 23, stages),
    Part("i", "memory", 15, memory, needs_kafka=False),
)
