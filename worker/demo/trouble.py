# What goes wrong on purpose while the raid runs: an outage, a lower limit, a replica that is killed and comes back.
#
# Each step has its time after the first command. It acts through the stage; what it does to the worker is not judged here.

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.demo.contract import BAN, ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.demo.stage import Stage

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
    """
    One thing to happen, so many seconds after the first command.
    """

    at: float
    what: str
    do: "Callable[[], object]"


class Trouble:
    """
    The steps of a troubled raid, taken one by one as time goes by.

    Attributes:
        crashes: When a replica was killed, in seconds since 1970.

    """

    def __init__(self, stage: "Stage") -> None:
        self.crashes: list[float] = []
        self._stage = stage
        self._begin: float | None = None
        self._steps = sorted(self._plan(), key=lambda step: step.at)

    def __repr__(self) -> str:
        return f"<Trouble {len(self._steps)} steps to come>"

    @property
    def over(self) -> bool:
        """
        Whether all steps were taken.
        """
        return not self._steps

    def look(self, now: float) -> list[str]:
        """
        Takes the steps that are due (the first call is the beginning), and tells them.
        """
        if self._begin is None:
            self._begin = now
        told = []
        while self._steps and now - self._begin >= self._steps[0].at:
            step = self._steps.pop(0)
            step.do()
            told.append(step.what)
        return told

    def _plan(self) -> "Iterator[Step]":
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
            yield Step(KILL_AT, f"{self._stage.replicas[0].name} is killed", self._kill)
            yield Step(
                KILL_AT + BACK_AFTER,
                f"{self._stage.replicas[0].name} comes back",
                self._stage.replicas[0].start,
            )

    def _kill(self) -> None:
        self._stage.replicas[0].kill()
        self.crashes.append(time.time())
