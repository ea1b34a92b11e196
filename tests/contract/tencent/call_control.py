# A CallControl for the tests: it decides what the test laid out, and records what the client reports.

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
    call_id="c1", number=1, app="main", endpoint=ENDPOINT, body=b'{"GroupId":"g","n":1}', members=1
)
PROBE: Final = msgspec.structs.replace(FIRST, probe=True)


@dataclass(slots=True)
class RecordingCallControl:
    """
    Lets a call be tried ``retries`` more times; each further try has a body of its own.

    Attributes:
        send: What further tries send; its ``"n":1`` counts up.
        may: The fence: what ``may_send`` answers.
        permits: Cleared, the next try waits.

    """

    retries: int = 0
    send: Attempt = FIRST
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
        return bool(result.verdict.again) and len(self.results) <= self.retries

    async def permit(self) -> Attempt:
        self.events.append("permit")
        if not self.results:
            return self.send
        await self.permits.wait()
        number = len(self.results) + 1
        body = self.send.body.replace(b'"n":1', b'"n":%d' % number)
        return msgspec.structs.replace(self.send, number=number, probe=False, body=body)


@dataclass(slots=True)
class FakeSleep:
    """
    A sleep that takes no time and remembers how long it was to be.
    """

    lengths: list[float] = dataclasses.field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.lengths.append(seconds)


async def until(condition: Callable[[], bool]) -> None:
    """
    Let everything else run until ``condition`` holds; a bound makes sure that a test can fail.
    """
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event: it is what the code under test does
            await asyncio.sleep(0)
