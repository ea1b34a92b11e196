# The second idea: what one poll brought is put into batches, which are called at the same time. Two baselines share it.
#
# Order per user: all first commands of the users are called at once, in batches that want the same of one target; then all
# second ones, and so on. A batch that is refused is called again command by command, as Tencent does not say which user was at
# fault. The documented quota is kept. Nothing is deduplicated, and the next poll waits for the slowest call.

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Final

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tests.benchmarks.baselines.tencent_calls import (
    ATTEMPTS,
    MOST_MEMBERS,
    TryAgainError,
    body_of,
    code_of,
    outcome_of,
    target_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.benchmarks.baselines.tencent_calls import Tencent

QUOTA: Final = 200
WINDOW: Final = 1.0
CONNECTIONS: Final = 100
RECORDS: Final = 2000
"""In one poll. The default of 500 would fill fewer batches, and wait for the slowest call four times as often."""

Command = dict[str, Any]


class Quota:
    """Lets no more than the documented calls go in any second, by this process's clock."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque(maxlen=QUOTA)
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Until the next call may go."""
        async with self._turn:
            if len(self._sent) == QUOTA:
                await asyncio.sleep(max(0.0, self._sent[0] + WINDOW - time.monotonic()))
            self._sent.append(time.monotonic())


def client() -> httpx.AsyncClient:
    """The client of one process."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    return httpx.AsyncClient(timeout=10.0, limits=limits)


class Batches:
    """Carries out what one poll brought."""

    def __init__(self, tencent: Tencent, client: httpx.AsyncClient) -> None:
        self._tencent = tencent
        self._client = client
        self._quotas: dict[str, Quota] = defaultdict(Quota)
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type((TryAgainError, httpx.TransportError)),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )

    async def carry_out(self, commands: Iterable[Command]) -> list[dict[str, Any]]:
        """Calls for all of them, and returns their outcomes."""
        outcomes: list[dict[str, Any]] = []
        for wave in waves(commands):
            for done in await asyncio.gather(*map(self._batch, batches_of(wave))):
                outcomes += done
        return outcomes

    async def _batch(self, batch: list[Command]) -> list[dict[str, Any]]:
        code: int = await self._retrying(self._call, batch)
        if code == 0 or len(batch) == 1:
            return [outcome_of(command, code) for command in batch]
        codes: list[int] = await asyncio.gather(*(self._retrying(self._call, [command]) for command in batch))
        return [outcome_of(command, code) for command, code in zip(batch, codes, strict=True)]

    async def _call(self, batch: list[Command]) -> int:
        action = batch[0]["action"]
        users = list(dict.fromkeys(user for command in batch for user in command["user_ids"]))
        await self._quotas[action].wait()
        answer = await self._client.post(self._tencent.url(action), json=body_of(batch[0], users))
        return code_of(answer.json())


def waves(commands: Iterable[Command]) -> list[list[Command]]:
    """The first commands of each user, then the second ones, and so on."""
    found: list[list[Command]] = []
    before: dict[tuple[str, str], int] = defaultdict(int)
    for command in commands:
        users = [(target_of(command), user) for user in command["user_ids"]]
        place = max(before[user] for user in users)
        before.update(dict.fromkeys(users, place + 1))
        if place == len(found):
            found.append([])
        found[place].append(command)
    return found


def batches_of(wave: Iterable[Command]) -> Iterator[list[Command]]:
    """Commands that may share a call."""
    open_batches: dict[tuple[Any, ...], list[Command]] = {}
    for command in wave:
        batch = open_batches.setdefault(wish_of(command), [])
        if batch and members(batch) + members([command]) > MOST_MEMBERS:
            yield batch
            open_batches[wish_of(command)] = batch = []
        batch.append(command)
    yield from open_batches.values()


def wish_of(command: Command) -> tuple[Any, ...]:
    """What it wants done to its users. An update is for one user, so it shares no call."""
    alone = command["command_id"] if "member_info" in command else None
    return command["action"], target_of(command), command.get("duration"), command.get("reason"), alone


def members(batch: list[Command]) -> int:
    """How many users these commands name."""
    return sum(len(command["user_ids"]) for command in batch)
