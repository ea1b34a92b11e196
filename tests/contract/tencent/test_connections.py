# What becomes of connections: kept, closed at the wrong moment, spoilt, taken, given up, cancelled.

from __future__ import annotations

import asyncio
import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
import uvloop

from tests.contract.tencent.call_owner import FIRST, RecordingCallOwner, until
from tests.contract.tencent.scripted import ScriptedServer
from tests.fakes.tencent import HANG, OK, RESET, Reply, an_app, answer, in_turn
from worker.domain.contract.error_codes import Verdict
from worker.tencent.client import Client
from worker.tencent.client_options import HttpOptions
from worker.tencent.http_transport import HttpTransport, OutboundRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AsyncExitStack

    from aiohttp.client_proto import ResponseHandler

    from tests.contract.tencent.conftest import Build
    from worker.domain.effects import Attempt

pytestmark = pytest.mark.anyio


async def test_a_connection_is_kept_and_used_again(real: Build) -> None:
    harness = await real(OK)

    for _ in range(5):
        await harness.client.call(RecordingCallOwner())

    assert {seen.connection for seen in harness.seen} == {1}


async def test_an_idle_connection_that_the_server_closed_is_no_failure(real: Build) -> None:
    harness = await real(OK)
    assert harness.server is not None
    await harness.client.call(RecordingCallOwner())

    harness.server.close_connections()
    await until(lambda: not any(proto.is_connected() for proto in _kept(harness.client)))
    last = await harness.client.call(owner := RecordingCallOwner())

    assert last.verdict is Verdict.DONE
    assert len(owner.results) == 1
    assert {seen.connection for seen in harness.seen} == {1, 2}


async def test_an_idle_connection_is_not_used_once_a_balancer_may_have_forgotten_it(
    real: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do after four minutes, often in silence: the request would be written, and its end stay unknown."""
    harness = await real(OK)
    clock = monotonic()
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: clock)

    for passed in (0.0, 10.0, 240.0):
        clock += passed
        await harness.client.call(RecordingCallOwner())

    assert [seen.connection for seen in harness.seen] == [1, 1, 2]


async def test_a_name_that_has_a_new_address_leads_there_after_ten_seconds(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a new address of the API's name is found without a restart, and the resolver is not asked for each connection."""
    old = await stack.enter_async_context(ScriptedServer(in_turn(OK)))
    new = await stack.enter_async_context(ScriptedServer(in_turn(OK), address="127.0.0.2", port=old.port))
    resolve, clock, asked = socket.getaddrinfo, monotonic(), list[str]()

    def resolved(host: str, *others: Any, **named: Any) -> Any:
        if host != "api.test":
            return resolve(host, *others, **named)
        asked.append(host)
        return resolve("127.0.0.1" if len(asked) == 1 else "127.0.0.2", *others, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: clock)
    client = Client([an_app(f"http://api.test:{old.port}")], HttpOptions())
    stack.push_async_callback(client.aclose)

    first = await client.call(RecordingCallOwner())
    ended = [first.verdict]
    for passed in (9.0, 2.0):
        clock += passed
        old.close_connections()
        await until(lambda: not any(proto.is_connected() for proto in _kept(client)))
        ended.append((await client.call(RecordingCallOwner())).verdict)

    assert ended == [Verdict.DONE] * 3
    assert (len(old.seen), len(new.seen), len(asked)) == (2, 1, 2)


class _Resolver:
    """The system's resolver, which says nothing of ``hangs.test`` until it is released; all other names are of this machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = threading.Event()
        self.released = threading.Event()
        self._resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)

    def _answer(self, host: str, *others: Any, **named: Any) -> Any:
        if host == "hangs.test":
            self.waiting.set()
            self.released.wait(20)
        return self._resolve("127.0.0.1", *others, **named)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Resolver]:
    made = _Resolver(monkeypatch)
    yield made
    made.released.set()


async def test_names_that_hang_hold_up_no_connection_to_another_host(
    stack: AsyncExitStack, resolver: _Resolver
) -> None:
    """The loop had four threads for the names of all hosts."""
    server = await stack.enter_async_context(ScriptedServer(in_turn(OK)))
    transport = HttpTransport(HttpOptions())
    stack.push_async_callback(transport.aclose)

    def posting(name: str, endpoint: str) -> asyncio.Task[Any]:
        app = an_app(f"http://{name}:{server.port}", name=name)
        return asyncio.ensure_future(
            transport.post(app, endpoint, OutboundRequest("q=1", b"{}", lambda: True))
        )

    hanging = [posting("hangs.test", f"service/hangs-{each}") for each in range(8)]
    assert await asyncio.to_thread(resolver.waiting.wait, 5)
    answered = await asyncio.wait_for(posting("there.test", "service/there"), 5)
    unfinished = [each for each in hanging if not each.done()]
    resolver.released.set()
    await asyncio.gather(*hanging)

    assert answered.status == 200
    assert unfinished == hanging


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_end_of_the_loop_does_not_wait_for_a_name_that_hangs(
    resolver: _Resolver, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A worker lived on for up to a minute after its end, and a second signal did nothing."""

    async def scenario() -> None:
        client = Client([an_app("http://hangs.test")], HttpOptions())
        call = asyncio.ensure_future(client.call(RecordingCallOwner()))
        assert await asyncio.to_thread(resolver.waiting.wait, 5)
        call.cancel()
        await asyncio.wait([call])
        await client.aclose()

    began = monotonic()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())

    assert monotonic() - began < 10


async def test_a_connection_that_closes_just_before_the_write_is_replaced(
    real: Build,
) -> None:
    """It is no attempt: nothing was sent."""
    harness = await real(OK)
    await harness.client.call(RecordingCallOwner())

    last = await harness.client.call(
        owner := RecordingCallOwner(may=_closing_connections(harness.client, times=1))
    )

    assert (last.verdict, last.end_unknown) == (Verdict.DONE, False)
    assert len(owner.results) == 1
    assert [seen.connection for seen in harness.seen] == [1, 2]


async def test_connections_that_always_close_before_the_write_have_sent_nothing(
    real: Build,
) -> None:
    """The attempt ends as a reset."""
    harness = await real(OK)

    last = await harness.client.call(
        owner := RecordingCallOwner(may=_closing_connections(harness.client, times=99))
    )

    assert (last.verdict, last.error, last.end_unknown) == (Verdict.TRANSPORT, "reset", False)
    assert owner.results == [last]
    assert harness.seen == []


async def test_a_connection_that_is_closed_after_the_write_leaves_the_end_unknown(real: Build) -> None:
    harness = await real(OK, RESET)
    await harness.client.call(RecordingCallOwner())

    last = await harness.client.call(RecordingCallOwner())

    assert (last.error, last.end_unknown) == ("reset", True)
    assert [seen.connection for seen in harness.seen] == [1, 1]


async def test_an_answer_that_nobody_asked_for_is_never_taken_for_the_next_one(real: Build) -> None:
    harness = await real(OK, answer(60002))
    assert harness.server is not None
    await harness.client.call(RecordingCallOwner())

    stray = answer(0, request_id="stray").body
    harness.server.push(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(stray), stray))
    await until(lambda: any(proto.should_close for proto in _kept(harness.client)))
    last = await harness.client.call(RecordingCallOwner(retries=1))

    assert last.request_id != "stray"
    assert last.error_code == 60002


async def test_a_name_that_nobody_knows_is_a_connect_error(stack: AsyncExitStack) -> None:
    client = Client([an_app("http://nowhere.invalid")], HttpOptions())
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert (last.error, last.end_unknown, last.verdict) == ("connect", False, Verdict.TRANSPORT)


@pytest.mark.parametrize(
    "options", [HttpOptions(connect_timeout=0.1), HttpOptions(timeout=0.1)], ids=["connect", "all"]
)
async def test_a_server_that_accepts_no_connection_is_given_up_in_time_and_was_sent_nothing(
    stack: AsyncExitStack, options: HttpOptions
) -> None:
    """A TLS server that never shakes hands looks just like one that is overloaded."""
    client = Client([an_app(await _silent(stack))], options)
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert (last.error, last.end_unknown) == ("connect", False)
    assert last.ended_at - last.sent_at < 1.0


async def test_a_hanging_endpoint_takes_no_connection_from_another(real: Build) -> None:
    harness = await real(HANG, OK, options=HttpOptions(max_connections=1))
    hanging = asyncio.create_task(harness.client.call(RecordingCallOwner()))
    assert harness.server is not None
    await harness.server.requests(1)

    other = await harness.client.call(
        RecordingCallOwner(attempt=_at("group_open_http_svc/unban_group_member"))
    )

    assert other.verdict is Verdict.DONE
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)


async def test_two_hundred_requests_are_under_way_at_once_and_none_waits_for_a_connection(
    real: Build,
) -> None:
    harness = await real(HANG)
    assert harness.server is not None

    calls = [asyncio.create_task(harness.client.call(RecordingCallOwner())) for _ in range(200)]
    async with asyncio.timeout(10):
        await harness.server.requests(200)

    assert len({seen.connection for seen in harness.seen}) == 200
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_request_that_is_cancelled_before_it_is_written_has_been_sent_to_nobody(
    stack: AsyncExitStack,
) -> None:
    client = Client([an_app(await _silent(stack))], HttpOptions())
    stack.push_async_callback(client.aclose)

    call = asyncio.create_task(client.call(owner := RecordingCallOwner()))
    await until(lambda: client._transport._pools != {})  # type: ignore[attr-defined]
    call.cancel()
    (ended,) = await asyncio.gather(call, return_exceptions=True)

    assert isinstance(ended, asyncio.CancelledError)
    assert [(result.error, result.end_unknown) for result in owner.results] == [("cancelled", False)]


async def test_a_call_in_its_backoff_ends_at_once_when_it_is_taken_back(stack: AsyncExitStack) -> None:
    throttled = Reply(b"", 429, (("Retry-After", "30"),))
    server = await stack.enter_async_context(ScriptedServer(in_turn(throttled)))
    client = Client([an_app(server.base_url)], HttpOptions())
    stack.push_async_callback(client.aclose)

    call = asyncio.create_task(client.call(owner := RecordingCallOwner(retries=3)))
    await until(lambda: "finished" in owner.events)
    call.cancel()
    async with asyncio.timeout(1):
        (ended,) = await asyncio.gather(call, return_exceptions=True)

    assert isinstance(ended, asyncio.CancelledError)
    assert len(owner.results) == len(server.seen) == 1
    assert owner.events == ["next_attempt", "finished"]


async def test_a_cancelled_request_does_not_spoil_the_next(real: Build) -> None:
    harness = await real(HANG, OK)
    assert harness.server is not None
    call = asyncio.create_task(harness.client.call(RecordingCallOwner()))
    await harness.server.requests(1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    last = await harness.client.call(RecordingCallOwner())

    assert last.verdict is Verdict.DONE
    assert [seen.connection for seen in harness.seen] == [1, 2]


async def _silent(stack: AsyncExitStack) -> str:
    """The https address of a server that accepts connections and never says a word."""

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    stack.callback(server.close)
    return f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _at(endpoint: str) -> Attempt:
    return msgspec.structs.replace(FIRST, endpoint=endpoint)


def _connector(client: Client) -> aiohttp.TCPConnector:
    ours = client._transport
    assert isinstance(ours, HttpTransport)
    ((transport, _),) = ours._pools.values()
    session = transport.client
    assert isinstance(session, aiohttp.ClientSession)
    assert isinstance(session.connector, aiohttp.TCPConnector)
    return session.connector


def _kept(client: Client) -> list[ResponseHandler]:
    return [proto for kept in _connector(client)._conns.values() for proto, _ in kept]


def _closing_connections(client: Client, *, times: int) -> Callable[[], bool]:
    """A fence that lets everything pass, and closes the connection that is about to be written to."""
    left = times

    def may_send() -> bool:
        nonlocal left
        if left > 0:
            left -= 1
            for proto in _connector(client)._acquired:
                assert proto.transport is not None
                proto.transport.close()
        return True

    return may_send
