# What goes wrong on purpose during the raid: an outage, a lower limit, a replica that is killed and restarted.
#
# Each step has its time after the first command and acts through the environment. The checker judges the consequences.

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
"""How long the commands of a raid with trouble are spread over, so that some arrive during each step."""
OUTAGE_AT: Final = 3.0
OUTAGE: Final = 10.0
THROTTLE_AT: Final = 14.0
THROTTLE: Final = 8.0
TRUE_LIMIT: Final = 120
KILL_AT: Final = 8.0
BACK_AFTER: Final = 3.0
TRANSIENT: Final = 0.01


@dataclass(frozen=True, slots=True)
class ChaosStep:
    """One thing to do, ``at`` seconds after the first command."""

    at: float
    what: str
    do: Callable[[], object]


class Chaos:
    """
    The steps of a raid with trouble, taken one by one when they are due.

    Attributes:
        interruptions: When partitions may have moved before everything was published, for the checker.

    """

    def __init__(self, environment: DemoEnvironment) -> None:
        self.interruptions: list[Interruption] = []
        self._restarted_at: float | None = None
        self._environment = environment
        self._started_at: float | None = None
        self._steps = sorted(self._plan(), key=lambda step: step.at)

    def __repr__(self) -> str:
        return f"<Chaos {len(self._steps)} steps to come>"

    @property
    def is_over(self) -> bool:
        """Whether all steps were taken and the restarted replica is ready."""
        return not self._steps and self._restarted_at is None

    def advance(self, now: float) -> list[str]:
        """Take the steps that are due, counted from the first call, and return their descriptions."""
        if self._started_at is None:
            self._started_at = now
        taken = []
        self._note_restarted()
        while self._steps and now - self._started_at >= self._steps[0].at:
            step = self._steps.pop(0)
            step.do()
            taken.append(step.what)
        return taken

    def _plan(self) -> Iterator[ChaosStep]:
        control = self._environment.control
        outage = {"outage": "502", "endpoint": ENDPOINTS[BAN], "for_seconds": OUTAGE}
        limit = {"limit": TRUE_LIMIT, "for_seconds": THROTTLE}
        yield ChaosStep(
            0.0,
            f"{TRANSIENT:.0%} of all calls fail with transient codes",
            lambda: control("faults", {"transient": TRANSIENT}),
        )
        yield ChaosStep(OUTAGE_AT, f"{BAN} answers 502 for {OUTAGE:g} s", lambda: control("faults", outage))
        yield ChaosStep(
            THROTTLE_AT,
            f"the API takes {TRUE_LIMIT} calls a second for {THROTTLE:g} s",
            lambda: control("faults", limit),
        )
        if len(self._environment.replicas) > 1:
            name = self._environment.replicas[0].name
            yield ChaosStep(KILL_AT, f"{name} is killed", self._kill)
            yield ChaosStep(KILL_AT + BACK_AFTER, f"{name} is restarted", self._restart)

    def _kill(self) -> None:
        self._environment.replicas[0].kill()
        self.interruptions.append(Interruption(time.time(), time.time()))

    def _restart(self) -> None:
        self._environment.replicas[0].start()
        self._restarted_at = time.time()

    def _note_restarted(self) -> None:
        if self._restarted_at is not None and self._environment.is_ready(self._environment.replicas[0]):
            self.interruptions.append(Interruption(self._restarted_at, time.time() + SETTLING))
            self._restarted_at = None
