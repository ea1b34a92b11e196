# The client over real sockets and over the fake transport, on both event loops: one suite for all.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.contract.tencent.call_owner import FakeSleep
from tests.contract.tencent.scripted import ScriptedServer, closed_port
from tests.fakes.tencent import NO_CONNECTION, FakeTransport, an_app, in_turn
from worker.tencent.client import Client
from worker.tencent.client_options import HttpOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.tencent import Reply, Seen
    from worker.domain.effects import LogEvent

SHORT = HttpOptions(timeout=0.25)
"""For the tests in which the other end never answers."""


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@dataclass(slots=True)
class ClientHarness:
    """A client and what is at the other end of it."""

    client: Client
    sleeps: FakeSleep
    seen: list[Seen]
    logged: list[LogEvent] = field(default_factory=list)
    server: ScriptedServer | None = None


Build = Callable[..., Awaitable[ClientHarness]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def over_sockets(
    stack: AsyncExitStack, *replies: Reply, options: HttpOptions | None = None
) -> ClientHarness:
    """A client that speaks to a ScriptedServer."""
    server = await stack.enter_async_context(ScriptedServer(in_turn(*replies)))
    address = closed_port() if replies == (NO_CONNECTION,) else server.base_url
    sleeps, logged = FakeSleep(), list["LogEvent"]()
    client = Client([an_app(address)], options or HttpOptions(), logged.append, sleep=sleeps)
    stack.push_async_callback(client.aclose)
    return ClientHarness(client, sleeps, server.seen, logged, server)


async def over_nothing(
    _: AsyncExitStack, *replies: Reply, options: HttpOptions | None = None
) -> ClientHarness:
    """A client on a FakeTransport."""
    options = options or HttpOptions()
    sleeps, logged = FakeSleep(), list["LogEvent"]()
    transport = FakeTransport(in_turn(*replies), options)
    return ClientHarness(
        Client([an_app()], options, logged.append, transport=transport, sleep=sleeps),
        sleeps,
        transport.seen,
        logged,
    )


@pytest.fixture(params=[over_sockets, over_nothing], ids=["sockets", "fake"])
def build(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Build:
    async def built(*replies: Reply, options: HttpOptions | None = None) -> ClientHarness:
        harness: ClientHarness = await request.param(stack, *replies, options=options)
        return harness

    return built


@pytest.fixture
def real(stack: AsyncExitStack) -> Build:
    async def built(*replies: Reply, options: HttpOptions | None = None) -> ClientHarness:
        return await over_sockets(stack, *replies, options=options)

    return built
