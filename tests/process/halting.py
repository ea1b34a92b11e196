# A run with a configuration that Tencent refuses: switched on under load, noticed, fixed while the load goes on.
#
# It plays and counts; the test and the benchmark say what the counts must be.

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from tests.process.environment import command
from worker.testing.checker.contract import BAN, KICK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.environment import Environment
    from worker.testing.checker.evidence import PlannedRecord

ROOMS = 10
RATE = 60.0
LOAD = 3.0
"""Seconds of load around each halt."""
UNDISTURBED = 0.5
NOTICED_WITHIN = 10.0
RESUMED_WITHIN = 40.0
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Wrong:
    """
    One thing that can be wrong with the configuration.

    Attributes:
        spoil: Makes it so.
        remedy: Makes it right.
        code: What Tencent answers meanwhile.
        word: What the fix that the worker tells must speak of.
        event: What it logs, once.
        goes_on: The actions that it does not concern.

    """

    name: str
    spoil: Callable[[Environment], None]
    remedy: Callable[[Environment], None]
    code: int
    word: str
    event: str = "app.halted"
    goes_on: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


def another_key(environment: Environment) -> None:
    """Tencent knows another key from now on, and the worker does not."""
    environment.control("POST", "keys", {"keys": [secrets.token_hex(KEY_BYTES)]})


def new_key_in_the_file(environment: Environment) -> None:
    """A key that Tencent knows is put where the worker reads it."""
    key = secrets.token_hex(KEY_BYTES)
    environment.control("POST", "keys", {"keys": [key]})
    environment.stage.key_file.write_text(key, "utf-8")


def _switched(name: str) -> tuple[Callable[[Environment], None], Callable[[Environment], None]]:
    return lambda environment: environment.fault(**{name: True}), lambda environment: environment.fault(
        **{name: False}
    )


WRONGS = (
    Wrong("a wrong key", another_key, new_key_in_the_file, 70009, "secret key"),
    Wrong("a wrong region", *_switched("wrong_region"), 60026, "region"),
    Wrong("no administrator", *_switched("not_admin"), 60010, "administrator"),
    Wrong("a plan that has run out", *_switched("plan_expired"), 60020, "plan"),
    Wrong(
        "the console's switch for banning off", *_switched("switch_off"), 10007, "console",
        event="endpoint.halted", goes_on=frozenset({KICK}),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunResult:
    """
    What came of one halt.

    Attributes:
        reported: What /readyz said was in the way: the reason and the remedy of each obstacle.
        noticed: Seconds from the first refusal that was possible to a /readyz that says so.
        resumed: Seconds from the remedy to a /readyz that is ready.
        refused: Requests that were answered with the code, after it was noticed and until it was fixed.
        refused_for: The seconds in which they were.
        carried_on: Outcomes in that time of actions that it does not concern.
        loud_lines: How often the worker logged the halt.
        statuses: Of all outcomes of the load.

    """

    reported: list[dict[str, str]]
    noticed: float
    resumed: float
    refused: int
    refused_for: float
    carried_on: int
    loud_lines: int
    statuses: Counter[str]
    letters: int


_NUMBERS = count(1)


def play(environment: Environment, wrong: Wrong, *, load: float = LOAD, halted_for: float = 1.2) -> RunResult:
    """
    Plays one halt in an environment with one worker that is ready, and fixes it ``halted_for`` seconds after it was noticed.
    """
    lines = len(environment.events(wrong.event))
    letters = len(environment.reader.read.letters)
    load_ = environment.send(commands(round(RATE * load)), RATE)
    environment.play(UNDISTURBED)
    wrong.spoil(environment)
    try:
        noticed = environment.play_until(
            lambda: bool(environment.obstacles()), NOTICED_WITHIN, f"halted for {wrong}"
        )
        reported = environment.obstacles()
        begin = time.time()
        environment.play(halted_for)
        end = time.time()
    finally:
        wrong.remedy(environment)
    resumed = environment.play_until(
        lambda: not environment.obstacles(), RESUMED_WITHIN, f"resumed after {wrong}"
    )
    environment.play_to_the_end()
    return RunResult(
        reported,
        noticed,
        resumed,
        refused=sum(one.code == wrong.code and begin < one.read_at < end for one in environment.requests()),
        refused_for=end - begin,
        carried_on=sum(
            one.body.action in wrong.goes_on and begin < one.at < end for one in environment.outcomes
        ),
        loud_lines=len(environment.events(wrong.event)) - lines,
        statuses=Counter(one.body.status for one in environment.outcomes_of(load_)),
        letters=len(environment.reader.read.letters) - letters,
    )


def commands(number: int) -> list[PlannedRecord]:
    """Bans and kicks by turns, each of a new user."""
    made = []
    for _ in range(number // 2):
        user = f"user-{next(_NUMBERS)}"
        room = sum(map(ord, user)) % ROOMS
        made.append(command(BAN, f"group-{room}", user, f"ban-{user}", duration=3600, reason="raid"))
        made.append(command(KICK, f"room-{room}", user, f"kick-{user}", reason="raid"))
    return made
