# How fast a backlog is worked off: one replica, one endpoint, a real Kafka, the local Tencent API at its documented limits.
#
#   python -m tests.benchmarks.bench_throughput [--commands 60000] [--dirty] [--replicas 1] [--seed 1]
#
# Clean: single-member group bans with the same duration and reason over 50 rooms with Zipf popularity, latency 30 ms.
# Dirty: 2 % bad users at random, 1 % transient errors, 5 % in ban -> unban -> ban sequences, 3 % repeated ids.
# The figures come from the simulator's log alone, and the demo's checker judges every run. A run in which the simulator
# stalled for over 200 ms is void.

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition

from worker.testing.checker.check import check
from worker.testing.checker.contract import BAN, UNBAN, CommandedEffect
from worker.testing.checker.evidence import Evidence, Fate, Planned
from worker.testing.checker.simulator_log import read_log
from worker.testing.checker.topics import Reader
from worker.testing.demo.environment import PARTITIONS, DemoEnvironment
from worker.testing.demo.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.testing.checker.evidence import LoggedRequest, ProducedCommand

ROOMS: Final = 50
LATENCY: Final = 0.03
STALL: Final = 0.2
DEADLINE: Final = 180.0
BAD_USERS: Final = 0.02
TRANSIENT: Final = 0.01
REPEATED_IDS: Final = 0.03
SEQUENCES: Final = 0.05
WHOLE_BATCH: Final = 20


def commands(count: int, *, dirty: bool, seed: int) -> Iterator[Planned]:
    """
    The backlog, in order.
    """
    chance = random.Random(seed)
    rooms = [f"room-{number:02}" for number in range(ROOMS)]
    weights = list(accumulate(1 / (number + 1) for number in range(ROOMS)))
    recent: deque[Planned] = deque(maxlen=2000)
    follow_ups: deque[tuple[int, Planned]] = deque()
    for position in range(count):
        if follow_ups and follow_ups[0][0] <= position:
            yield follow_ups.popleft()[1]
            continue
        if dirty and recent and chance.random() < REPEATED_IDS:
            yield chance.choice(recent)
            continue
        (room,) = chance.choices(rooms, cum_weights=weights)
        ban = _command(BAN, room, position, "")
        if dirty and chance.random() < SEQUENCES / 3:
            follow_ups.append((position + 20, _command(UNBAN, room, position, "-undo")))
            follow_ups.append((position + 40, _command(BAN, room, position, "-again")))
        recent.append(ban)
        yield ban


def _command(action: str, room: str, number: int, suffix: str) -> Planned:
    command_id, user = f"bench-{number:06}{suffix}", f"user-{number:06}"
    effect = (
        CommandedEffect(action, duration=86_400, reason="spam") if action == BAN else CommandedEffect(action)
    )
    body: dict[str, Any] = {"command_id": command_id, "action": action, "group_id": room, "user_ids": [user]}
    if action == BAN:
        body |= {"duration": effect.duration, "reason": effect.reason}
    return Planned(
        room.encode(), msgspec.json.encode(body), Fate.CARRIED_OUT, command_id, room, (user,), effect
    )


def produced(stage: DemoEnvironment, backlog: Sequence[Planned]) -> list[ProducedCommand]:
    """
    Puts the backlog into the command topic, each target on its partition.
    """
    with contextlib.closing(Load(stage.bootstrap_servers, stage.topics.commands, backlog)) as load:
        load.start()
        while not load.done:
            time.sleep(0.1)
        return load.sent


def await_outcomes(stage: DemoEnvironment, count: int) -> None:
    """
    Until the outcome topic has as many records, cheaply: by its offsets, then by its silence.
    """
    consumer = KafkaConsumer(bootstrap_servers=stage.bootstrap_servers, isolation_level="read_committed")
    places = [TopicPartition(stage.topics.outcomes, number) for number in range(PARTITIONS)]
    deadline = time.monotonic() + DEADLINE
    last, quiet_since = -1, time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(1.0)
        for replica in stage.replicas:
            if not replica.running:
                raise SystemExit(f"{replica.name} has ended: {replica.tail()}")
        written = sum(consumer.end_offsets(places).values())
        if written != last:
            last, quiet_since = written, time.monotonic()
        elif written >= count and time.monotonic() - quiet_since > 3.0:
            break
    else:
        tails = "\n".join(replica.tail() for replica in stage.replicas)
        raise SystemExit(f"only {last} offsets of {count} outcomes after {DEADLINE:.0f} s\n{tails}")
    consumer.close()


def main() -> None:
    """
    One run. Exit code 1 if a promise broke or the run is void.
    """
    parser = argparse.ArgumentParser(description="How fast a backlog is worked off.")
    parser.add_argument("--commands", type=int, default=60_000)
    parser.add_argument("--dirty", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=1)
    options = parser.parse_args()
    backlog = list(commands(options.commands, dirty=options.dirty, seed=options.seed))
    bad_users: list[str] = []
    with DemoEnvironment() as stage:
        stage.start_kafka()
        stage.start_simulator("--latency", str(LATENCY), seed=options.seed)
        if options.dirty:
            users = sorted({user for planned in backlog for user in planned.users})
            bad_users = random.Random(options.seed).sample(users, round(len(users) * BAD_USERS))
            stage.control("faults", {"bad_user_list": bad_users, "transient": TRANSIENT})
        sent = produced(stage, backlog)
        for _ in range(options.replicas):
            stage.start_worker({"log": {"level": "warning", "format": "json"}})
        await_outcomes(stage, options.commands)
        stall = stage.control("stats")["longest_stall_seconds"]
        stage.stop_workers()
        stage.stop_simulator()
        with contextlib.closing(
            Reader(stage.bootstrap_servers, stage.topics.outcomes, stage.topics.dead_letters, PARTITIONS)
        ) as reader:
            reader.read_to_the_end(DEADLINE)
        requests = read_log(stage.simulator_log)
        read = reader.read
        evidence = Evidence(
            stage.topics.commands,
            tuple(sent),
            tuple(read.outcomes),
            tuple(read.letters),
            requests,
            frozenset(bad_users),
        )
        sys.exit(0 if tell(evidence, stall) else 1)


def tell(evidence: Evidence, stall: float) -> bool:
    """
    Prints the figures. Whether every promise held and the run counts.
    """
    report = check(evidence)
    print_speed(evidence.requests)
    print(f"outcomes: {len(evidence.outcomes)} of {len(evidence.sent)} commands")
    print(f"highest rolling second: {report.highest_second}")
    print(f"60007: {sum(request.code == 60007 for request in evidence.requests)}")
    print(f"longest stall of the simulator: {stall * 1000:.0f} ms{' - VOID' if stall > STALL else ''}")
    for fault, times in report.counts.items():
        print(f"{fault.value}: {times}")
    for finding in report.examples:
        print(f"  {finding.violation.name}: {finding.what}")
    return report.clean and stall <= STALL


def print_speed(requests: Sequence[LoggedRequest]) -> None:
    """
    Members applied a second between 10 % and 90 % of the backlog, and how full the calls were.
    """
    times = sorted(at for request in requests for at, _ in request.applied.values())
    low, high = len(times) // 10, len(times) * 9 // 10
    passed = [request for request in requests if request.code == 0]
    fill = sum(len(request.users) for request in passed) / len(passed)
    whole = sum(len(request.users) == WHOLE_BATCH for request in passed) / len(passed)
    print(f"applied {len(times)} members in {times[-1] - times[0]:.1f} s, {len(requests)} requests")
    print(f"between 10 % and 90 %: {(high - low) / (times[high] - times[low]):.0f} members/s")
    print(f"members per successful call: {fill:.2f}; whole batches: {whole:.1%}")


if __name__ == "__main__":
    main()
