# The load of the demo: a raid on fifty live rooms, the same for the same seed.
#
# Each planned record says what must become of it, so that the checker needs no other source. Bad records are made in
# malformed_records.py; raid_run.py produces the records to Kafka.

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from worker.testing.checker.contract import (
    BAN,
    KICK,
    LIVE_UNBAN,
    TARGET_FIELDS,
    UNBAN,
    UPDATE,
    CommandedEffect,
    SeenMemberInfo,
)
from worker.testing.checker.evidence import ExpectedFate, PlannedRecord
from worker.testing.demo.malformed_records import malformed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOMS: Final = 50
ZIPF: Final = 1.0
"""The exponent of the rooms' popularity: the second room gets half as many commands as the first."""
USERS_PER_COMMAND: Final = 3
"""How many users a room has per command: few enough that several detectors report the same user."""
BAD_USERS: Final = 0.02
BAD_RECORDS: Final = 0.02
REPEATED_IDS: Final = 0.03
SEQUENCES: Final = 0.05
SEVERAL_MEMBERS: Final = 0.04
ALREADY_LATE: Final = 0.003
BANNED_UNTIL: Final = 0.02
WITHOUT_KEY: Final = 0.001
REPEAT_WITHIN: Final = 400
"""A repeated id comes at most this many commands after the first: within the worker's dedupe window."""
MIX: Final = {BAN: 48, UNBAN: 14, KICK: 22, LIVE_UNBAN: 10, UPDATE: 6}
"""Actions and their weights. Each update needs a call of its own, so more of them would only load that endpoint."""
DURATIONS: Final = {3600: 85, 86_400: 15}
REASONS: Final = {"raid bot": 75, "spam links": 15, "hate speech": 7, "刷屏": 3}
"""Values and their weights: in a raid many users do the same, and commands with equal parameters share calls."""
ISSUERS: Final = ("link-detector", "raid-detector", "toxicity-model")
LONG_AGO: Final = "2020-01-01T00:00:00Z"
FAR_END: Final = "2040-01-01T00:00:00Z"
FAR_END_SECONDS: Final = 2_208_988_800.0


Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    The whole load.

    Attributes:
        bad_users: Users that do not exist; only the simulator and the checker know them.

    """

    records: tuple[PlannedRecord, ...]
    bad_users: tuple[str, ...] = field(repr=False)


def plan(commands: int, seed: int) -> Scenario:
    """Return ``commands`` well-formed records and two bad ones per hundred of them, in the order to produce."""
    return _Planner(commands, seed).raid()


class _Planner:
    """Draws the records of a raid one by one."""

    def __init__(self, commands: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._commands = commands
        self._rooms = [f"live-{number:03}" for number in range(1, ROOMS + 1)]
        self._popularity = list(accumulate(1 / rank**ZIPF for rank in range(1, ROOMS + 1)))
        self._bad_users: set[str] = set()
        self._known_users: set[str] = set()
        self._recent: deque[PlannedRecord] = deque(maxlen=REPEAT_WITHIN)
        self._follow_ups: deque[tuple[int, str, str, str]] = deque()
        self._count = 0

    def raid(self) -> Scenario:
        good = list(self._good())
        bad = malformed(
            max(1, round(self._commands * BAD_RECORDS)), self._rooms, random.Random(self._seed + 1)
        )
        places = self._random.sample(range(len(good) + len(bad)), len(bad))
        records: list[PlannedRecord] = list(good)
        for place, (label, key, value, command_id, at) in zip(sorted(places), bad, strict=True):
            fate = ExpectedFate.UNREADABLE if command_id is None else ExpectedFate.REJECTED
            records.insert(place, PlannedRecord(key, value, fate, command_id, field=at, kind=label))
        return Scenario(tuple(records), tuple(sorted(self._bad_users)))

    def _good(self) -> Iterator[PlannedRecord]:
        while self._count < self._commands:
            self._count += 1
            record = self._repeat() or self._follow_up() or self._fresh()
            # Without a key the repeat may get into another partition and be carried out there.
            if record.key is not None:
                self._recent.append(record)
            yield record

    def _repeat(self) -> PlannedRecord | None:
        # A producer that is not sure whether its record arrived sends it again.
        if self._recent and self._random.random() < REPEATED_IDS:
            return self._random.choice(self._recent)
        return None

    def _follow_up(self) -> PlannedRecord | None:
        # The rest of ban→unban→ban: a moderator changes their mind within seconds.
        if self._follow_ups and self._follow_ups[0][0] <= self._count:
            _, action, target, user = self._follow_ups.popleft()
            return self._command(action, target, (user,), self._parameters(action))
        return None

    def _fresh(self) -> PlannedRecord:
        draw = self._random
        target = draw.choices(self._rooms, cum_weights=self._popularity)[0]
        action = self._weighted(MIX)
        if draw.random() < WITHOUT_KEY:
            return self._command(
                action, target, (f"keyless-{self._count:06}",), self._parameters(action), keyed=False
            )
        users = self._users(target, action)
        if action == BAN and len(users) == 1 and draw.random() < SEQUENCES:
            first = self._count + draw.randint(1, 30)
            self._follow_ups.append((first, UNBAN, target, users[0]))
            self._follow_ups.append((first + draw.randint(1, 30), BAN, target, users[0]))
        parameters = self._parameters(action)
        if draw.random() < ALREADY_LATE:
            return self._command(
                action, target, users, {**parameters, "not_after": LONG_AGO}, ExpectedFate.EXPIRED
            )
        return self._command(action, target, users, parameters)

    def _users(self, target: str, action: str) -> tuple[str, ...]:
        draw = self._random
        count = 1
        if action != UPDATE and draw.random() < SEVERAL_MEMBERS:
            count = draw.choice((2, 3, 5, 8, 20, 21, 45))
        share = 1 / (1 + self._rooms.index(target)) ** ZIPF / self._popularity[-1]
        here = max(20, int(self._commands * share * USERS_PER_COMMAND))
        return tuple(dict.fromkeys(self._user(target, draw.randrange(here)) for _ in range(count)))

    def _user(self, target: str, number: int) -> str:
        user = f"{target[-3:]}-viewer-{number:06}"
        if user not in self._known_users:
            self._known_users.add(user)
            if self._random.random() < BAD_USERS:
                self._bad_users.add(user)
        return user

    def _weighted(self, choices: dict[Choice, int]) -> Choice:
        return self._random.choices(tuple(choices), tuple(choices.values()))[0]

    def _parameters(self, action: str) -> dict[str, Any]:
        draw = self._random
        if action == BAN:
            when = (
                {"banned_until": FAR_END}
                if draw.random() < BANNED_UNTIL
                else {"duration": self._weighted(DURATIONS)}
            )
            return {**when, "reason": self._weighted(REASONS)}
        if action == KICK:
            return {"reason": self._weighted(REASONS)}
        if action == UPDATE:
            card = f"guest {draw.randrange(1000)}"
            return {
                "member_info": draw.choice(
                    ({"name_card": card}, {"role": "Member"}, {"name_card": card, "custom_info": "muted"})
                )
            }
        return {}

    def _command(
        self,
        action: str,
        target: str,
        users: tuple[str, ...],
        parameters: dict[str, Any],
        fate: ExpectedFate = ExpectedFate.CARRIED_OUT,
        *,
        keyed: bool = True,
    ) -> PlannedRecord:
        command_id = f"raid-{self._seed}-{self._count:06}"
        body: dict[str, Any] = {
            "command_id": command_id,
            "action": action,
            TARGET_FIELDS[action]: target,
            "user_ids": users,
        }
        body |= parameters
        if self._random.random() < 0.5:
            body["issuer"] = self._random.choice(ISSUERS)
            body["metadata"] = {"score": round(self._random.random(), 3)}
        info = parameters.get("member_info")
        effect = CommandedEffect(
            action,
            duration=parameters.get("duration"),
            until=FAR_END_SECONDS if "banned_until" in parameters else None,
            reason=parameters.get("reason"),
            info=SeenMemberInfo(**info) if info else None,
        )
        key = target.encode() if keyed else None
        return PlannedRecord(key, msgspec.json.encode(body), fate, command_id, target, users, effect)
