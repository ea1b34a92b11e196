# What deciding costs: `python tests/benchmarks/bench_engine.py [--commands N] [--profile]`.
# With N commands waiting, over M rooms: `… --waiting N [--rooms M] [--alone] [--json]`.
#
# A backlog of single-member group bans over 50 rooms of Zipf popularity goes through one engine in virtual time: fetched in
# polls, called by twenties, answered after 30 ms, published every 50 ms. Reported is CPU time a command, beside that of
# reading alone, and what an open command holds in memory. With --waiting, as many commands are open before the clock is
# started, and stay so; with --alone each has a call of its own, so that the cost of calls is the same for any number of rooms.
# No test: it asserts nothing.

from __future__ import annotations

import argparse
import cProfile
import gc
import heapq
import json
import pstats
import random
import sys
import time
import tracemalloc
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from worker.domain.contract.command_decoding import CommandDecoder
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.outcomes import Worker
from worker.domain.effects import (
    AllowAttempt,
    AttemptResult,
    PausePartition,
    RestoredPartition,
    ResumePartition,
    StartCall,
)
from worker.domain.engine import Engine
from worker.domain.engine_settings import EngineSettings
from worker.runtime.wiring import GC_THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.domain.effects import Effect

ROOMS: Final = 50
PARTITIONS: Final = 6
POLL: Final = 500
LATENCY: Final = 0.03
PUBLISH_EVERY: Final = 0.05
MANY: Final = 60
"""Partitions with --waiting: a commit can tell of some 24,000 open commands of one, so that a million need many."""
PLENTY: Final = 64 * 2**30
"""More memory than is ever needed: --waiting asks what waiting costs, not whether it is allowed."""
SETTINGS: Final = EngineSettings(
    topic="moderation.commands",
    partitions=PARTITIONS,
    apps={"main": "administrator"},
    default_app="main",
    worker=Worker("bench", "1"),
    default_calls_per_second=200,
)


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the backlog."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...] = ()


def backlog(
    commands: int, rooms: int = ROOMS, partitions: int = PARTITIONS, *, alone: bool = False
) -> list[Record]:
    """The records, in the order in which they were produced: of Zipf popularity in a few rooms, evenly spread over many."""
    chance = random.Random(7)
    weights = [1 / rank if rooms == ROOMS else 1.0 for rank in range(1, rooms + 1)]
    offsets = [count() for _ in range(partitions)]
    records = []
    for number, room in enumerate(chance.choices(range(rooms), weights, k=commands)):
        name = f"@TGS#room-{room:03d}"
        fields: dict[str, Any] = {
            "command_id": f"command-{number:08d}",
            "user_ids": [f"user-{number:08d}"],
        }
        if alone:
            fields |= {
                "action": "room.update_room_member_info",
                "room_id": name,
                "member_info": {"name_card": "x"},
            }
        else:
            fields |= {
                "action": "group.ban_group_member",
                "group_id": name,
                "duration": 3600,
                "reason": "spam",
            }
        partition = room % partitions
        key = name.encode()
        records.append(Record(partition, next(offsets[partition]), key, json.dumps(fields).encode()))
    return records


class Bench:
    """One engine, and a world around it that costs as little as it can."""

    def __init__(
        self, records: list[Record], settings: EngineSettings = SETTINGS, most: int | None = None
    ) -> None:
        self.now = 100.0
        self.engine = Engine(settings, self.now, self.now + 1e9, "bench")
        self.records = records
        self.most = most
        self.calls = 0
        self.members = 0
        self.finished = 0
        self.most_open = 0
        self._queues: list[list[Record]] = [[] for _ in range(settings.partitions)]
        for record in reversed(records):
            self._queues[record.partition].append(record)
        self._paused: set[int] = set()
        self._answers: list[tuple[float, int, str, float]] = []
        self._order = count()

    def start(self) -> None:
        """All partitions, and their first permits."""
        for number in range(len(self._queues)):
            self._settle(self.engine.assigned(number, RestoredPartition(0), self.now))
        self.now += 3.0
        self._settle(self.engine.tick(self.now, self.now + 1e9))

    def fill(self) -> None:
        """Until as many commands are open as may be, or none is left."""
        left = -1
        while left != (left := sum(len(queue) for queue in self._queues)):
            self._poll()

    def run(self, finished: int) -> None:
        """Until this many commands are finished."""
        engine = self.engine
        publish_at = self.now
        while self.finished < finished:
            if self.now >= publish_at:
                self._publish()
                self._poll()  # nothing makes room but what was published
                publish_at = self.now + PUBLISH_EVERY
            wake = min(engine.wake_at, publish_at)
            if self._answers and self._answers[0][0] <= wake:
                self.now, _, call_id, sent_at = heapq.heappop(self._answers)
                answer = AttemptResult(sent_at, self.now, Verdict.DONE, 200, 0, request_id="r")
                self._settle(engine.attempt_finished(call_id, answer, self.now))
            else:
                self.now = max(self.now, wake) + 1e-6
                self._settle(engine.tick(self.now, self.now + 1e9))

    def _poll(self) -> None:
        for number, queue in enumerate(self._queues):
            some = POLL if self.most is None else min(POLL, self.most - self.engine.open_count)
            if queue and number not in self._paused and some > 0:
                taken, queue[-some:] = queue[-some:], []
                self._settle(self.engine.received(taken[::-1], self.now))
                self.most_open = max(self.most_open, self.engine.open_count)

    def _publish(self) -> None:
        while (transaction := self.engine.take_transaction(self.now)) is not None:
            self.finished += len(transaction.outcomes)
            self._settle(self.engine.published(self.now))

    def _settle(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, StartCall | AllowAttempt):
                send = effect.attempt
                self.calls += 1
                self.members += send.members
                answer_at = self.now + LATENCY
                heapq.heappush(self._answers, (answer_at, next(self._order), send.call_id, self.now))
            elif isinstance(effect, PausePartition):
                self._paused.add(effect.partition)
            elif isinstance(effect, ResumePartition):
                self._paused.discard(effect.partition)


def memory(records: list[Record]) -> float:
    """Bytes that an open command holds, besides its record."""
    some = records[:20_000]
    engine = Engine(SETTINGS, 0.0, 1e9, "memory")
    for number in range(PARTITIONS):
        engine.assigned(number, RestoredPartition(0), 0.0)
    engine.tick(3.0, 1e9 + 3.0)
    engine._scheduler.use_slices(())  # nothing is called: all stay open
    tracemalloc.start()
    engine.received(some, 3.0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / max(1, engine.open_count)


@dataclass(frozen=True, slots=True)
class Cost:
    """
    What a command costs while others wait.

    Attributes:
        microseconds: CPU time a command, from its bytes to its outcome.

    """

    microseconds: float
    members_per_call: float
    waiting: int


def cost(rooms: int, waiting: int, commands: int, *, alone: bool) -> Cost:
    """Measures this many commands while as many others as ``waiting`` are open."""
    gc.set_threshold(*GC_THRESHOLDS)
    records = backlog(waiting + commands, rooms, MANY, alone=alone)
    settings = replace(SETTINGS, partitions=MANY, max_gap=len(records), memory_budget=PLENTY)
    bench = Bench(records, settings, waiting)
    bench.start()
    bench.fill()
    open_before, calls, members = bench.engine.open_count, bench.calls, bench.members
    gc.freeze()
    began = time.process_time()
    bench.run(commands)
    spent = time.process_time() - began
    per_call = (bench.members - members) / max(1, bench.calls - calls)
    return Cost(spent / bench.finished * 1e6, per_call, open_before)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", type=int, default=60_000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--waiting", type=int)
    parser.add_argument("--rooms", type=int, default=MANY)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.waiting is not None:
        found = cost(options.rooms, options.waiting, options.commands, alone=options.alone)
        if options.json:
            print(json.dumps(asdict(found)))
        else:
            print(
                f"{found.waiting:,} commands waiting in {options.rooms:,} rooms: {found.microseconds:.1f} µs a command, "
                f"{found.members_per_call:.1f} members a call"
            )
        return
    gc.set_threshold(*GC_THRESHOLDS)
    records = backlog(options.commands)
    gc.freeze()

    decoder = CommandDecoder(SETTINGS)
    began = time.process_time()
    for record in records:
        decoder.decode(record)
    reading = (time.process_time() - began) / len(records) * 1e6

    bench = Bench(records)
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    began = time.process_time()
    bench.start()
    bench.run(len(records))
    spent = (time.process_time() - began) / len(records) * 1e6
    profile.disable()
    virtual = bench.now - 103.0
    print(f"{spent:.1f} µs a command, {reading:.1f} µs of it for reading")
    print(
        f"{bench.members / bench.calls:.1f} members a call, {len(records) / virtual:.0f} commands/s of virtual time"
    )
    print(f"{bench.most_open} open at most, {memory(records):.0f} bytes for an open command")
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
