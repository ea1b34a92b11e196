# A run with a restart: many commands are carried out, the worker goes and comes back, and the same ids come once more.
#
# It plays and counts; the test and the benchmark say what the counts must be.

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.process.environment import LATENCY, Environment, command
from worker.testing.checker.contract import BAN

if TYPE_CHECKING:
    from worker.testing.checker.evidence import PlannedRecord
    from worker.testing.checker.evidence_check import CheckReport

ROOMS = 60
NEW = 200
"""Commands that were never seen, among the repeated ones: the worker must not take everything for known."""
SHUTDOWN_WITHIN = 30.0
READY_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """
    What came of it.

    Attributes:
        commands: How many were carried out before the restart.
        known: Command ids that the new process restored, over all partitions.
        restore_seconds: What the slowest partition took.
        start_seconds: From the start of the new process until it was ready.
        repeated: The outcomes of the repeated commands, by status.
        fresh: The same of the new ones.
        executed_again: Users for whom the API did again, after the restart, what it had done before.
        memory: Bytes that the new process took when all was over.

    """

    commands: int
    known: int
    restore_seconds: float
    start_seconds: float
    repeated: Counter[str]
    fresh: Counter[str]
    executed_again: int
    memory: float
    report: CheckReport


def play(servers: str, *, count: int, restore_records: int, repeat_last: int | None = None) -> RunResult:
    """Plays it with ``count`` commands, of which the last ``repeat_last`` (None: all) come once more, in another order."""
    # Only ids count: no effect is known as just applied.
    settings: dict[str, dict[str, object]] = {
        "dedupe": {"restore_records": restore_records, "effect_window_seconds": 0},
        "log": {"level": "info"},
    }
    first = bans("first", count)
    again = first[-repeat_last:] if repeat_last else first[:]
    fresh = bans("fresh", NEW)
    second = again + fresh
    random.Random(1).shuffle(second)
    with Environment(servers, *LATENCY) as environment:
        environment.stage.start_worker(settings)
        environment.send(first)
        environment.play_to_the_end()
        environment.stage.replicas[0].stop(SHUTDOWN_WITHIN)
        restarted = time.time()
        worker = environment.stage.start_worker(settings)
        environment.play_until(lambda: environment.stage.is_ready(worker), READY_WITHIN, "ready")
        start_seconds = time.time() - restarted
        restored = environment.events("kafka.partition_restored", replica=1)
        load = environment.send(second)
        environment.play_to_the_end()
        memory = environment.metric("process_resident_memory_bytes", replica=1)
        report = environment.judged()
        is_fresh = {one.command_id for one in fresh}
        statuses: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for one in environment.outcomes_of(load):
            statuses[one.body.command_id in is_fresh][one.body.status] += 1
        new_users = {user for one in fresh for user in one.users}
        done_after = {
            user for one in environment.requests() if one.read_at >= restarted for user in one.users
        }  # fmt: skip
        return RunResult(
            commands=count,
            known=sum(line["known"] for line in restored),
            restore_seconds=max(line["seconds"] for line in restored),
            start_seconds=start_seconds,
            repeated=statuses[False],
            fresh=statuses[True],
            executed_again=len(done_after - new_users),
            memory=memory,
            report=report,
        )


def bans(stem: str, number: int) -> list[PlannedRecord]:
    """Bans, each of its own user, evenly over the rooms."""
    return [
        command(
            BAN, f"group-{each % ROOMS}", f"{stem}-{each}", f"{stem}-{each}", duration=3600, reason="raid"
        )
        for each in range(number)
    ]
