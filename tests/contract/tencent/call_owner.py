# A CallOwner for tests: it decides what the test prepared, and records what the client reports. No test is here.

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from worker.domain.effects import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.effects import AttemptResult

ENDPOINT: Final = "group_open_http_svc/ban_group_member"
FIRST: Final = Attempt(
    call_id="c1",
    number=1,
    app="main",
    endpoint=ENDPOINT,
    target="g",
    body=b'{"GroupId":"g","n":1}',
    members=1,
)
PROBE: Final = msgspec.structs.replace(FIRST, probe=True)


@dataclass(slots=True)
class RecordingCallOwner:
    """
    Allows a call ``retries`` more attempts, each with a body of its own.

    Attributes:
        attempt: The first attempt; in the bodies of further ones its ``"n":1`` counts up.
        may: The fence: what ``may_send`` returns.
        permits: While cleared, the next attempt waits.

    """

    retries: int = 0
    attempt: Attempt = FIRST
    may: Callable[[], bool] = lambda: True
    permits: asyncio.Event = field(default_factory=asyncio.Event)
    results: list[AttemptResult] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.permits.set()

    def may_send(self) -> bool:
        return self.may()

    def finished(self, result: AttemptResult) -> bool:
        self.results.append(result)
        self.events.append("finished")
        return bool(result.verdict.retry_budget) and len(self.results) <= self.retries

    async def next_attempt(self) -> Attempt:
        self.events.append("next_attempt")
        if not self.results:
            return self.attempt
        await self.permits.wait()
        number = len(self.results) + 1
        body = self.attempt.body.replace(b'"n":1', b'"n":%d' % number)
        return msgspec.structs.replace(self.attempt, number=number, probe=False, body=body)


@dataclass(slots=True)
class FakeSleep:
    """A sleep that takes no time and records the durations."""

    lengths: list[float] = dataclasses.field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.lengths.append(seconds)


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until ``condition`` holds, for five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event: it is what the code under test does
            await asyncio.sleep(0)
