# What the process tests do to replicas while a raid runs: kill them, or ask them to stop, and bring them back.

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.testing.checker.evidence import Interruption
from worker.testing.demo.environment import SETTLING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.testing.demo.environment import DemoEnvironment


@dataclass
class Turnover:
    """
    Every few seconds one of the replicas goes, and comes back a little later; for this many seconds.

    Attributes:
        kill: SIGKILL; else SIGTERM, which lets it hand over what it has.
        interruptions: What the checker must know: when partitions may have moved before all was published.
        goings: How many went.

    """

    stage: DemoEnvironment
    seconds: float
    every: float
    kill: bool
    back_after: float = 1.0
    seed: int = 0
    goings: int = 0
    interruptions: list[Interruption] = field(default_factory=list)
    _due: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    _end: float | None = None
    _coming: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    @property
    def is_over(self) -> bool:
        return self._end is not None and not self._due and not self._coming

    def advance(self, now: float) -> Sequence[str]:
        if self._end is None:
            self._end = now + self.seconds
            self._due.append((now + self.every, self._go))
        for number, since in list(self._coming.items()):
            if self.stage.is_ready(self.stage.replicas[number]):
                self.interruptions.append(Interruption(since, time.time() + SETTLING))
                del self._coming[number]
        for step in [one for one in self._due if one[0] <= now]:
            self._due.remove(step)
            step[1]()
        return ()

    def _go(self) -> None:
        # Only one that works: what is still starting has nothing to hand over, and no ear for SIGTERM yet.
        there = [
            number
            for number, one in enumerate(self.stage.replicas)
            if one.running and number not in self._coming
        ]
        now = time.monotonic()
        if there:
            number = self._random.choice(there)
            self._send_away(number)
            self._due.append((now + self.back_after, lambda: self._come(number)))
        if self._end is not None and now + self.every < self._end:
            self._due.append((now + self.every, self._go))

    def _send_away(self, number: int) -> None:
        begin = time.time()
        if self.kill:
            self.stage.replicas[number].kill()
        else:
            assert self.stage.replicas[number].stop(30.0) == 0
        self.goings += 1
        self.interruptions.append(Interruption(begin, time.time()))

    def _come(self, number: int) -> None:
        self.stage.replicas[number].start()
        self._coming[number] = time.time()


@dataclass
class Freeze:
    """
    One replica stands still for longer than its session lasts, and then goes on as if nothing had been: a zombie.

    Attributes:
        interruptions: What the checker must know: its partitions have a new owner, who begins with what was not published.

    """

    stage: DemoEnvironment
    after: float
    seconds: float
    interruptions: list[Interruption] = field(default_factory=list)
    _begin: float | None = None
    _frozen_at: float = 0.0
    is_over: bool = False

    def advance(self, now: float) -> Sequence[str]:
        if self._begin is None:
            self._begin = now
        victim = self.stage.replicas[0]
        if not self._frozen_at and now >= self._begin + self.after:
            victim.pause()
            self._frozen_at = time.time()
        elif self._frozen_at and not self.is_over and now >= self._begin + self.after + self.seconds:
            victim.resume()
            self.interruptions.append(Interruption(self._frozen_at, time.time() + SETTLING))
            self.is_over = True
        return ()
