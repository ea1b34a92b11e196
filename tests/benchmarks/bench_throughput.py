# How fast a backlog is worked off: one replica, one endpoint, a real Kafka, the local Tencent API at its documented limits.
#
#   python -m tests.benchmarks.bench_throughput [--commands 60000] [--dirty] [--profile FILE]
#
# Clean: single-member group bans with the same duration and reason over 50 rooms with Zipf popularity, latency 30 ms.
# Dirty: 2 % bad users at random, 1 % transient errors, 5 % ban -> unban -> ban sequences, 3 % repeated ids.
# The figures come from the simulator's log alone. A run in which the simulator stalled for over 200 ms is void.

import argparse
import random
import sys
import time
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from worker.demo.simulator_log import read_log
from worker.demo.stage import PARTITIONS, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.demo.evidence import Request

ROOMS = 50
LIMIT = 200
LATENCY = 0.03
STALL = 0.2
DEADLINE = 120.0


def commands(count: int, *, dirty: bool, seed: int) -> "Iterator[dict[str, Any]]":
    """
    The backlog, in order.
    """
    chance = random.Random(seed)
    rooms = [f"room-{number:02}" for number in range(ROOMS)]
    weights = list(accumulate(1 / (number + 1) for number in range(ROOMS)))
    sent: deque[dict[str, Any]] = deque(maxlen=2000)
    follow_ups: deque[tuple[int, dict[str, Any]]] = deque()
    number = 0
    for position in range(count):
        if follow_ups and follow_ups[0][0] <= position:
            yield follow_ups.popleft()[1]
            continue
        if dirty and sent and chance.random() < 0.03:
            yield chance.choice(sent)
            continue
        (room,) = chance.choices(rooms, cum_weights=weights)
        number += 1
        ban = _ban(room, f"user-{number:06}", number)
        if dirty and chance.random() < 0.05 / 3:
            undo = {**ban, "command_id": f"{ban['command_id']}-undo", "action": "group.unban_group_member"}
            del undo["duration"], undo["reason"]
            again = {**ban, "command_id": f"{ban['command_id']}-again"}
            follow_ups += [(position + 20, undo), (position + 40, again)]
        sent.append(ban)
        yield ban


def _ban(room: str, user: str, number: int) -> dict[str, Any]:
    return {
        "command_id": f"bench-{number:06}",
        "action": "group.ban_group_member",
        "group_id": room,
        "user_ids": [user],
        "duration": 86_400,
        "reason": "spam",
    }


def produce(stage: Stage, backlog: "Iterator[dict[str, Any]]") -> None:
    """
    Puts the backlog into the command topic, each target on its partition.
    """
    producer = KafkaProducer(
        bootstrap_servers=stage.bootstrap_servers, compression_type="lz4", linger_ms=20, batch_size=262_144
    )
    for command in backlog:
        producer.send(
            stage.topics.commands, key=command["group_id"].encode(), value=msgspec.json.encode(command)
        )
    producer.close()


def await_outcomes(stage: Stage, count: int) -> None:
    """
    Until the outcome topic has as many records, cheaply: by its offsets, then by the simulator's silence.
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


def highest_second(requests: "list[Request]") -> int:
    """
    The most requests in any rolling second, as the simulator read them.
    """
    window: deque[float] = deque()
    highest = 0
    for at in sorted(request.read_at for request in requests):
        window.append(at)
        while window[0] <= at - 1.0:
            window.popleft()
        highest = max(highest, len(window))
    return highest


def main() -> None:
    """
    One run.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=60_000)
    parser.add_argument("--dirty", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=1)
    options = parser.parse_args()
    with Stage() as stage:
        stage.start_kafka()
        faults = ["--bad-users", "0.02", "--transient", "0.01"] if options.dirty else []
        stage.start_simulator("--latency", str(LATENCY), *faults, seed=options.seed)
        produce(stage, commands(options.commands, dirty=options.dirty, seed=options.seed))
        for _ in range(options.replicas):
            stage.start_worker({"log": {"level": "warning", "format": "json"}})
        await_outcomes(stage, options.commands)
        stats = stage.control("stats")
        stage.stop_workers()
        cpu = [replica.tail() for replica in stage.replicas]
        stage.stop_simulator()
        report(list(read_log(stage.simulator_log)), stats)
        sys.stdout.write("\n".join(cpu)[-2000:] + "\n")


def report(requests: "list[Request]", stats: Any) -> None:
    """
    The figures.
    """
    applied = sorted((at, 1) for request in requests for at, _ in request.applied.values())
    total = sum(users for _, users in applied)
    done, begin, end, between = 0, None, None, 0
    for at, users in applied:
        done += users
        if done >= 0.1 * total and begin is None:
            begin = at
        elif begin is not None and end is None:
            between += users
            if done >= 0.9 * total:
                end = at
    calls = [request for request in requests if request.code == 0]
    members = sum(len(request.users) for request in calls)
    sys.stdout.write(
        f"applied {total} members in {applied[-1][0] - applied[0][0]:.1f} s\n"
        f"between 10 % and 90 %: {between / ((end or 0) - (begin or 0)):.0f} members/s\n"
        f"members per successful call: {members / len(calls):.2f} ({len(requests)} requests)\n"
        f"highest rolling second: {highest_second(requests)} of {LIMIT}\n"
        f"60007: {sum(request.code == 60007 for request in requests)}\n"
        f"stats: {stats}\n"
    )


if __name__ == "__main__":
    main()
