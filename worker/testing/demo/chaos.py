# What goes wrong on purpose while the raid runs: an outage, a lower limit, a replica that is killed and comes back.
#
# Each step has its time after the first command. It acts through the stage; what it does to the worker is not judged here.

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.testing.checker.contract import BAN, ENDPOINTS
from worker.testing.checker.evidence import Interruption
from worker.testing.demo.environment import SETTLING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.testing.demo.environment import DemoEnvironment

RAID_SECONDS: Final = 20.0
"""Over how long the commands of a troubled raid are spread, so that there is work in every trouble."""
OUTAGE_AT: Final = 3.0
OUTAGE: Final = 10.0
THROTTLE_AT: Final = 14.0
THROTTLE: Final = 8.0
TRUE_LIMIT: Final = 120
KILL_AT: Final = 8.0
BACK_AFTER: Final = 3.0
TRANSIENT: Final = 0.01


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to happen, so many seconds after the first command."""

    at: float
    what: str
    do: Callable[[], object]


class Chaos:
    """
    The steps of a troubled raid, taken one by one as time goes by.

    Attributes:
        breaks: When partitions may have moved before all was published, for the checker.

    """

    def __init__(self, stage: DemoEnvironment) -> None:
        self.breaks: list[Interruption] = []
        self._back_since: float | None = None
        self._stage = stage
        self._begin: float | None = None
        self._steps = sorted(self._plan(), key=lambda step: step.at)

    def __repr__(self) -> str:
        return f"<Chaos {len(self._steps)} steps to come>"

    @property
    def over(self) -> bool:
        """Whether all steps were taken, and whoever came back is ready."""
        return not self._steps and self._back_since is None

    def look(self, now: float) -> list[str]:
        """Takes the steps that are due (the first call is the beginning), and tells them."""
        if self._begin is None:
            self._begin = now
        told = []
        self._look_for_the_one_that_came_back()
        while self._steps and now - self._begin >= self._steps[0].at:
            step = self._steps.pop(0)
            step.do()
            told.append(step.what)
        return told

    def _plan(self) -> Iterator[Step]:
        control = self._stage.control
        outage = {"outage": "502", "endpoint": ENDPOINTS[BAN], "for_seconds": OUTAGE}
        limit = {"limit": TRUE_LIMIT, "for_seconds": THROTTLE}
        yield Step(
            0.0,
            f"{TRANSIENT:.0%} of all calls fail with transient codes",
            lambda: control("faults", {"transient": TRANSIENT}),
        )
        yield Step(OUTAGE_AT, f"{BAN} answers 502 for {OUTAGE:g} s", lambda: control("faults", outage))
        yield Step(
            THROTTLE_AT,
            f"the API takes {TRUE_LIMIT} calls a second for {THROTTLE:g} s",
            lambda: control("faults", limit),
        )
        if len(self._stage.replicas) > 1:
            name = self._stage.replicas[0].name
            yield Step(KILL_AT, f"{name} is killed", self._kill)
            yield Step(KILL_AT + BACK_AFTER, f"{name} comes back", self._bring_back)

    def _kill(self) -> None:
        self._stage.replicas[0].kill()
        self.breaks.append(Interruption(time.time(), time.time()))

    def _bring_back(self) -> None:
        self._stage.replicas[0].start()
        self._back_since = time.time()

    def _look_for_the_one_that_came_back(self) -> None:
        if self._back_since is not None and self._stage.is_ready(self._stage.replicas[0]):
            self.breaks.append(Interruption(self._back_since, time.time() + SETTLING))
            self._back_since = None
