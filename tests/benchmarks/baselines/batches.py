# The second idea: what one poll brought is put into batches, which are called at the same time. Two baselines share it.
#
# Order per user: the commands of one target are cut into runs that want the same, which are called one after the other;
# different targets are called at once. A batch that is refused is called again command by command, as Tencent does not say
# which user was at fault. The documented quota is kept. Nothing is deduplicated, and the next poll waits for the slowest target.

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
"""In one poll. With the default of 500, targets are too few to fill the batches: 2,000 was the best of 500 to 5,000."""

Command = dict[str, Any]


class Quota:
    """
    Lets no more than the documented calls go in any second, by this process's clock.
    """

    def __init__(self) -> None:
        self._sent: deque[float] = deque(maxlen=QUOTA)
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """
        Until the next call may go.
        """
        async with self._turn:
            if len(self._sent) == QUOTA:
                await asyncio.sleep(max(0.0, self._sent[0] + WINDOW - time.monotonic()))
            self._sent.append(time.monotonic())


def client() -> httpx.AsyncClient:
    """
    The client of one process.
    """
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    return httpx.AsyncClient(timeout=10.0, limits=limits)


class Batches:
    """
    Carries out what one poll brought.
    """

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
        """
        Calls for all of them, and returns their outcomes.
        """
        targets: dict[str, list[Command]] = defaultdict(list)
        for command in commands:
            targets[target_of(command)].append(command)
        done = await asyncio.gather(*(self._target(waiting) for waiting in targets.values()))
        return [outcome for outcomes in done for outcome in outcomes]

    async def _target(self, commands: list[Command]) -> list[dict[str, Any]]:
        outcomes = []
        for batch in cut(commands):
            code: int = await self._retrying(self._call, batch)
            if code == 0 or len(batch) == 1:
                outcomes += [outcome_of(command, code) for command in batch]
                continue
            codes: list[int] = await asyncio.gather(
                *(self._retrying(self._call, [command]) for command in batch)
            )
            outcomes += [outcome_of(command, code) for command, code in zip(batch, codes, strict=True)]
        return outcomes

    async def _call(self, batch: list[Command]) -> int:
        action = batch[0]["action"]
        users = list(dict.fromkeys(user for command in batch for user in command["user_ids"]))
        await self._quotas[action].wait()
        answer = await self._client.post(self._tencent.url(action), json=body_of(batch[0], users))
        return code_of(answer.json())


def cut(commands: Iterable[Command]) -> Iterator[list[Command]]:
    """
    Runs of commands that may share a call, in order.
    """
    batch: list[Command] = []
    for command in commands:
        if batch and (
            wish_of(command) != wish_of(batch[0]) or members(batch) + members([command]) > MOST_MEMBERS
        ):
            yield batch
            batch = []
        batch.append(command)
    if batch:
        yield batch


def wish_of(command: Command) -> tuple[Any, ...]:
    """
    What it wants done to its users. An update is for one user, so it shares no call.
    """
    alone = command["command_id"] if "member_info" in command else None
    return command["action"], command.get("duration"), command.get("reason"), alone


def members(batch: list[Command]) -> int:
    """
    How many users these commands name.
    """
    return sum(len(command["user_ids"]) for command in batch)
