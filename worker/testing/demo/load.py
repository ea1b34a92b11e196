# One raid on a stage that is set: produced, watched until every command has its outcome, and kept as evidence.
#
# Nothing is judged or printed here; trouble comes from whoever is given (chaos.py, or a test).

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from worker.testing.demo.environment import PARTITIONS
from worker.testing.demo.evidence import Evidence
from worker.testing.demo.scenario import Fate
from worker.testing.demo.simulator_log import read_log
from worker.testing.demo.topics import Load, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.testing.demo.environment import DemoEnvironment
    from worker.testing.demo.evidence import Interruption
    from worker.testing.demo.scenario import Scenario

STALLED: Final = 60.0
"""So long may nothing at all come out, in seconds, before nobody waits any more."""
READ_DEADLINE: Final = 30.0
LOG_FLUSH: Final = 0.5
"""The simulator writes its log at least so often, in seconds (with room to spare)."""


class ChaosSource(Protocol):
    """What goes wrong on purpose while the raid runs."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""

    @property
    def breaks(self) -> Sequence[Interruption]:
        """When partitions may have moved before all was published."""

    def look(self, now: float) -> Sequence[str]:
        """Does what is due at this monotonic time, and tells it. Called several times a second."""


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What came of a raid.

    Attributes:
        raw: The text of each outcome, in the order of ``evidence.outcomes``.
        longest_stall: Of the simulator, in seconds: beyond 0.2 its stamps say little.
        exit_codes: Of the replicas, by name; empty when they were left running.
        gave_up: Nothing came out for ``STALLED`` seconds.

    """

    evidence: Evidence
    raw: tuple[bytes, ...]
    longest_stall: float
    exit_codes: dict[str, int]
    gave_up: bool


def carry_out(
    stage: DemoEnvironment,
    raid: Scenario,
    *,
    rate: float | None = None,
    troubles: ChaosSource | None = None,
    keep: bool = False,
    show: Callable[[int, int, Sequence[str]], None] | None = None,
) -> Seen:
    """
    Produces the raid (``rate`` records a second, or all at once) and returns when all of it has come out again.

    ``show`` is told how many commands were sent, how many outcomes were read, and what trouble came. Unless ``keep``,
    the replicas and the simulator are stopped, so that what they might still have done stands in the evidence too.
    """
    load = Load(stage.bootstrap_servers, stage.topics.commands, raid.records, rate)
    reader = Reader(stage.bootstrap_servers, stage.topics, PARTITIONS)
    with contextlib.closing(reader), contextlib.closing(load):
        load.start()
        gave_up = not _watch(load, reader, wanted_outcomes(raid), troubles, show)
        stall = stage.control("stats")["longest_stall_seconds"]
        exit_codes: dict[str, int] = {}
        if keep:
            time.sleep(LOG_FLUSH)
        else:
            exit_codes = dict(stage.stop_workers())
            stage.stop_simulator()
        reader.read_to_the_end(READ_DEADLINE)
    evidence = Evidence(
        stage.topics.commands,
        tuple(load.sent),
        tuple(reader.read.outcomes),
        tuple(reader.read.letters),
        read_log(stage.simulator_log),
        frozenset(raid.bad_users),
        tuple(troubles.breaks) if troubles else (),
    )
    return Seen(evidence, tuple(reader.read.raw), stall, exit_codes, gave_up)


def wanted_outcomes(raid: Scenario) -> int:
    """How many outcomes a raid must have: one for each record with a readable command_id."""
    return sum(record.fate is not Fate.UNREADABLE for record in raid.records)


def _watch(
    load: Load,
    reader: Reader,
    wanted: int,
    troubles: ChaosSource | None,
    show: Callable[[int, int, Sequence[str]], None] | None,
) -> bool:
    moved = time.monotonic()
    sent = 0
    while not (load.done and len(reader.read.outcomes) >= wanted and (troubles is None or troubles.over)):
        now = time.monotonic()
        if reader.poll() or len(load.sent) > sent:
            moved = now
        sent = len(load.sent)
        steps = troubles.look(now) if troubles else ()
        if show is not None:
            show(sent, len(reader.read.outcomes), steps)
        if now - moved > STALLED:
            return False
    return True
