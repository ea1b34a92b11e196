# How long a command takes from its record to an outcome that a read_committed reader has, beyond what the API takes.
#
#   python -m tests.benchmarks.bench_latency [--shares 1 50 90 120] [--seconds 20] [--seed 1]
#
# One replica, one endpoint, a real Kafka, the local API at 200 calls a second and 30 ms. Each command has a room of its own, so
# that each is a call; they come at random (exponential gaps), at a share of the quota in percent. Kafka, API, reader and worker
# share the machine: on two cores the figures are upper bounds.

from __future__ import annotations

import argparse
import contextlib
import random
import threading
import time
from statistics import quantiles
from typing import TYPE_CHECKING, Final

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.benchmarks.bench_throughput import LATENCY, QUIET_LOG
from worker.testing.checker.contract import QUOTA
from worker.testing.demo.environment import PARTITIONS, DemoEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM_UP: Final = 6.0
"""
Seconds of load that do not count: connections are opened, and what came while the quota's slices were not free yet, three
seconds after a start, leaves in bursts.
"""
PATIENCE: Final = 60.0


class Arrivals:
    """When the outcome of each command was readable, as a reader in a thread of its own sees it."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            isolation_level="read_committed",
            fetch_max_wait_ms=10,
            enable_auto_commit=False,
        )
        self._consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        self._consumer.seek_to_end()
        self._stop = threading.Event()
        self.at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="arrivals")
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for records in self._consumer.poll(timeout_ms=50).values():
                now = time.monotonic()
                for record in records:
                    self.at[msgspec.json.decode(record.value)["command_id"]] = now
        self._consumer.close()

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()


def load(producer: KafkaProducer, topic: str, share: int, seconds: float, seed: int) -> dict[str, float]:
    """Produces at this share of the quota. Returns when each command that counts was produced."""
    chance = random.Random(seed)
    began = due = time.monotonic()
    sent: dict[str, float] = {}
    number = 0
    while due < began + WARM_UP + seconds:
        due += chance.expovariate(QUOTA * share / 100)
        time.sleep(max(0.0, due - time.monotonic()))
        number += 1
        command_id, room = f"{share}-{number}", f"room-{share}-{number}"
        value = {
            "command_id": command_id,
            "action": "group.ban_group_member",
            "group_id": room,
            "user_ids": ["u"],
        }
        producer.send(topic, msgspec.json.encode({**value, "duration": 60}), room.encode())
        if due > began + WARM_UP:
            sent[command_id] = time.monotonic()
    producer.flush()
    return sent


def beyond(
    producer: KafkaProducer, arrivals: Arrivals, topic: str, share: int, seconds: float, seed: int
) -> tuple[list[float], int]:
    """Loads at this share, and returns the milliseconds of each command beyond the API's, and how many have no outcome."""
    sent = load(producer, topic, share, seconds, seed)
    deadline = time.monotonic() + PATIENCE
    while sent.keys() - arrivals.at.keys() and time.monotonic() < deadline:
        time.sleep(0.1)
    waits = [
        1000 * (arrivals.at[command_id] - since - LATENCY)
        for command_id, since in sent.items()
        if command_id in arrivals.at
    ]
    return waits, len(sent) - len(waits)


@contextlib.contextmanager
def loaded(stage: DemoEnvironment) -> Iterator[tuple[KafkaProducer, Arrivals]]:
    """A producer that sends at once, and a reader of the outcomes."""
    producer = KafkaProducer(bootstrap_servers=stage.bootstrap_servers, linger_ms=0)
    arrivals = Arrivals(stage.bootstrap_servers, stage.topics.outcomes)
    try:
        yield producer, arrivals
    finally:
        arrivals.close()
        producer.close()


def main() -> None:
    """One run for each share, on one worker."""
    parser = argparse.ArgumentParser(description="From a record to its readable outcome.")
    parser.add_argument("--shares", type=int, nargs="+", default=[1, 50, 90, 120])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with DemoEnvironment() as stage:
        stage.start_kafka()
        stage.start_simulator("--latency", str(LATENCY), seed=options.seed)
        stage.wait_until_ready(stage.start_worker(QUIET_LOG))
        with loaded(stage) as (producer, arrivals):
            for share in options.shares:
                seconds = options.seconds if share >= 10 else options.seconds * 2
                tell(share, *beyond(producer, arrivals, stage.topics.commands, share, seconds, options.seed))


def tell(share: int, waits: list[float], without: int) -> None:
    """Prints one line."""
    cuts = quantiles(waits, n=100)
    print(
        f"{share:>4} % of the quota: {len(waits)} commands, {without} without an outcome; beyond the API's "
        f"{LATENCY * 1000:.0f} ms: p50 {cuts[49]:.0f} ms, p95 {cuts[94]:.0f} ms, p99 {cuts[98]:.0f} ms"
    )


if __name__ == "__main__":
    main()
