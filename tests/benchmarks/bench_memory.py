# What the fullest worker holds: `python -m tests.benchmarks.bench_memory [--rooms N] [--users N] [--trace|--json]`.
#
# One engine gets commands for all five endpoints until nothing more is admitted; its ids, its applied states and its unpublished
# outcomes are full as well. It prints what each part is counted as, what Python's allocator gave (--trace, slow), and what is
# resident. The exit code is 1 when that, with what Kafka's clients take, is more than RESIDENT_MIB.

from __future__ import annotations

import argparse
import gc
import json
import sys
import tracemalloc
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.outcomes import HashedUserSet, RememberedCommandId, Worker
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
from worker.domain.memory_budget import BUDGET_MIB, MEBIBYTE, PARTS, share
from worker.runtime.wiring import GC_THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.domain.effects import Effect

PARTITIONS: Final = 12
RESIDENT_MIB: Final = 300
CLIENTS_MIB: Final = 35
"""What Kafka's clients and connections take besides: four fetches of 4 MiB, four batches of a megabyte, a transaction."""
SHAPES: Final[tuple[dict[str, Any], ...]] = (
    {"action": "group.ban_group_member", "target": "group_id", "duration": 3600, "reason": "spam"},
    {"action": "group.unban_group_member", "target": "group_id"},
    {"action": "live.unban_member", "target": "room_id"},
    {"action": "room.kick_user_out", "target": "room_id", "reason": "spam"},
    {"action": "room.update_room_member_info", "target": "room_id", "member_info": {"name_card": "a name"}},
)


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the command topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def commands(rooms: int, users: int, actions: int = len(SHAPES), first: int = 0) -> Iterator[Record]:
    """Commands of this many actions, round and round."""
    offsets = [count(first) for _ in range(PARTITIONS)]
    for number in count(first):
        shape = dict(SHAPES[number % actions])
        room = f"@TGS#a-room-{number % rooms:08d}"
        fields = {
            "command_id": f"0192f3c4-7a1b-7c3d-9e5f-{number:012d}",
            shape.pop("target"): room,
            "user_ids": [f"user-{number:010d}-{user:03d}" for user in range(users)],
            "issuer": "spam-detector",
            "issued_at": "2030-03-17T17:46:40.123Z",
            **shape,
        }
        partition = hash(room) % PARTITIONS
        headers = (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)
        yield Record(partition, next(offsets[partition]), room.encode(), json.dumps(fields).encode(), headers)


class Full:
    """An engine that is filled."""

    def __init__(self, budget: int) -> None:
        self.now = 100.0
        settings = EngineSettings(
            topic="moderation.commands",
            partitions=PARTITIONS,
            apps={"main": "administrator"},
            default_app="main",
            worker=Worker("bench", "1"),
            memory_budget=budget,
            effect_window=3600.0,
            restore_records=100_000,
        )
        self.engine = Engine(settings, self.now, self.now + 1e9, "bench")
        self.calls: list[Any] = []
        self.paused: set[int] = set()

    def assign(self) -> None:
        """All partitions, each with ids, some of them of half successes."""
        for number in range(PARTITIONS):
            known = [
                RememberedCommandId(
                    f"0192f3c4-7a1b-7c3d-9e5f-{number:04d}{place:08d}",
                    hash(place),
                    f"moderation.commands-{number}-{place}",
                    None
                    if place % 2
                    else HashedUserSet.of([f"{place}-{user}" for user in range(10)], ["x"] * 20),
                    self.now + 1e9 + place,
                )
                for place in range(10_000)
            ]
            self._settle(self.engine.assigned(number, RestoredPartition(0, known=known), self.now))
        self.tick(3.0)

    def tick(self, seconds: float) -> None:
        """Time goes on."""
        self.now += seconds
        self._settle(self.engine.tick(self.now, self.now + 1e9))

    def receive(self, records: Iterator[Record], most: int) -> int:
        """Records come until nothing more is fetched."""
        for taken in range(most):
            record = next(records)
            if record.partition not in self.paused:
                self._settle(self.engine.received([record], self.now))
            elif len(self.paused) == PARTITIONS:
                return taken
        return most

    def answer(self) -> int:
        """All calls that are out succeed. Returns how many there were."""
        calls, self.calls = self.calls, []
        for send in calls:
            answer = AttemptResult(
                self.now, self.now, Verdict.DONE, 200, 0, request_id=f"{send.call_id}-request-id-of-40-bytes"
            )
            self._settle(self.engine.attempt_finished(send.call_id, answer, self.now))
        self.tick(1.001)
        return len(calls)

    def publish(self) -> None:
        """All that can be published is."""
        while self.engine.take_transaction(self.now) is not None:
            self._settle(self.engine.published(self.now))

    def _settle(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, StartCall | AllowAttempt):
                self.calls.append(effect.attempt)
            elif isinstance(effect, PausePartition):
                self.paused.add(effect.partition)
            elif isinstance(effect, ResumePartition):
                self.paused.discard(effect.partition)


def resident() -> float:
    """MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / MEBIBYTE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", type=int, default=500_000)
    parser.add_argument("--budget-mib", type=int, default=BUDGET_MIB)
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the figure alone")
    parser.add_argument("--trace", action="store_true", help="what Python's allocator gave for each part")
    options = parser.parse_args()
    gc.set_threshold(*GC_THRESHOLDS)
    budget = options.budget_mib * MEBIBYTE
    before = resident()
    if options.trace:
        tracemalloc.start()
    full = Full(budget)
    held: dict[str, int] = {}

    def measure(part: str) -> None:
        if options.trace:
            gc.collect()
            traced = tracemalloc.get_traced_memory()[0]
            counted = full.engine.snapshot(full.now).memory
            grown = traced - held.get("traced", 0)
            rise = sum(counted.values()) - held.get("counted", 0)
            print(f"  {part}: {grown / MEBIBYTE:.1f} MiB given, {rise / MEBIBYTE:.1f} counted")
            held.update(traced=traced, counted=sum(counted.values()))

    measure("empty")
    full.assign()
    measure("ids")
    records = commands(options.rooms, 1, actions=2)
    limit = share("applied", budget)
    while full.engine.snapshot(full.now).memory["applied"] < 0.98 * limit:
        full.receive(records, 5_000)
        full.answer()
        full.publish()
    while full.answer():
        full.publish()
    measure("applied")
    records = commands(options.rooms, options.users, first=10_000_000)
    full.receive(records, options.commands)
    while full.answer():
        full.receive(records, options.commands)
    measure("commands and results")
    worst = resident() + CLIENTS_MIB
    if options.json:
        print(json.dumps({"resident_mib": worst, "open": full.engine.open_count}))
        return
    snapshot = full.engine.snapshot(full.now)
    for part in PARTS:
        print(f"{part}: {snapshot.memory[part] / MEBIBYTE:.1f} of {share(part, budget) / MEBIBYTE:.1f} MiB")
    print(
        f"{full.engine.open_count} open, {snapshot.unpublished} of them unpublished, {snapshot.known_effects} applied states"
    )
    print(
        f"{sum(each.known_ids for each in snapshot.partitions)} ids; {before:.0f} MiB resident before, {worst - CLIENTS_MIB:.0f} after"
    )
    print(f"{worst:.0f} MiB with Kafka's clients, {RESIDENT_MIB} allowed")
    sys.exit(worst > RESIDENT_MIB and options.budget_mib <= BUDGET_MIB and not options.trace)


if __name__ == "__main__":
    main()
