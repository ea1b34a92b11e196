# What only real sockets can show of a request: headers, TLS, proxies, redirects, answers that are no HTTP, and secrets.

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest
from httpx_aiohttp import AiohttpTransport
from tenacity import AsyncRetrying

from tests.contract.tencent.call_owner import ENDPOINT, RecordingCallOwner
from tests.contract.tencent.scripted import ScriptedServer
from tests.fakes.tencent import OK, RESET, Reply, an_app, in_turn
from tests.openssl import openssl
from worker.domain.contract.error_codes import Verdict
from worker.tencent.client import Client
from worker.tencent.client_options import HttpOptions
from worker.tencent.http_transport import ERRORS, OutboundRequest

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from tests.contract.tencent.conftest import Build
    from worker.domain.effects import AttemptResult, LogEvent

pytestmark = pytest.mark.anyio


async def test_the_request_carries_no_header_that_it_does_not_need(real: Build) -> None:
    harness = await real(Reply(OK.body, headers=(("Set-Cookie", "balancer=7; Path=/"),)))

    await harness.client.call(RecordingCallOwner())
    await harness.client.call(RecordingCallOwner())

    for seen in harness.seen:
        assert {name.lower() for name, _ in seen.headers} == {
            "host", "content-type", "content-length", "accept-encoding", "user-agent",
        }  # fmt: skip
        assert {name.lower(): value for name, value in seen.headers}["content-type"] == "application/json"


@pytest.mark.parametrize("identifier", ["admin+1@example.com", "a b&c=d%41#?/", "管理员", "x*y~z"])
async def test_any_identifier_arrives_as_it_is(stack: AsyncExitStack, identifier: str) -> None:
    server = await stack.enter_async_context(ScriptedServer(in_turn(OK)))
    client = Client([replace(an_app(server.base_url), identifier=identifier)], HttpOptions())
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert last.verdict is Verdict.DONE
    assert server.seen[0].query["identifier"] == identifier
    assert server.seen[0].query["usersig"].startswith("eJ")


async def test_a_redirect_is_not_followed(stack: AsyncExitStack) -> None:
    elsewhere = await stack.enter_async_context(ScriptedServer(in_turn(OK)))
    moved = Reply(b"", 307, (("Location", f"{elsewhere.base_url}/v4/{ENDPOINT}"),))
    server = await stack.enter_async_context(ScriptedServer(in_turn(moved)))
    client = Client([an_app(server.base_url)], HttpOptions())
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert (last.http_status, last.error, last.verdict) == (307, "http", Verdict.TRANSPORT)
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"zz\r\nnot a chunk", headers=(("Transfer-Encoding", "chunked"),)),
        Reply(b"", 301, (("Location", "http://[broken/"),)),
        Reply(b"\x1f\x8b\x08\x00 not gzip", headers=(("Content-Encoding", "gzip"),)),
        Reply(OK.body, headers=(("X-Long", "x" * 100_000),)),
    ],
    ids=["chunks", "location", "gzip", "header"],
)
async def test_an_answer_that_is_malformed_is_a_failure_with_a_name(real: Build, reply: Reply) -> None:
    harness = await real(reply)

    last = await harness.client.call(RecordingCallOwner())

    assert last.verdict is Verdict.TRANSPORT
    assert last.error in ERRORS
    assert last.end_unknown
    assert harness.logged == []


async def answered(
    stack: AsyncExitStack, head: bytes, body: bytes = OK.body
) -> tuple[AttemptResult, list[LogEvent]]:
    """What a call makes of an answer that begins with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.callback(server.close)
    logged: list[LogEvent] = []
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = Client([an_app(address)], HttpOptions(), logged.append)
    stack.push_async_callback(client.aclose)
    return await client.call(RecordingCallOwner()), logged


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200",
        "HTTP/1.1 200 成功".encode(),
        "HTTP/1.1 200 成功".encode("gbk"),
        b"HTTP/1.1 200 \xff\xfe\x01",
        b"HTTP/1.1 200 OK\r\nServer: \xb3\xc9\xb9\xa6",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=klingon",
        b"HTTP/1.1 200 OK\r\nContent-Type: \xb3; charset=\xb9",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: klingon",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: \xb3\xc9",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: \xb3\xc9=; expires=\xb9",
        b"HTTP/1.1 103 \xb3\xc9\r\nLink: \xb9\r\n\r\nHTTP/1.1 200 OK",
    ],
    ids=ascii,
)
async def test_no_words_of_a_gateway_cost_an_answer_that_is_whole(stack: AsyncExitStack, head: bytes) -> None:
    """
    One writes the words beside the status in GBK: httpx-aiohttp failed over them, and what Tencent had done was taken for lost.
    """
    last, logged = await answered(stack, head)

    assert (last.verdict, last.error, last.error_code) == (Verdict.DONE, None, 0)
    assert logged == []


async def test_a_refusal_in_the_encoding_of_a_gateway_says_how_long_to_wait(stack: AsyncExitStack) -> None:
    """Its status and its Retry-After were thrown away with its words."""
    last, logged = await answered(stack, b"HTTP/1.1 429 \xb3\xc9\r\nRetry-After: 7", b"")

    assert (last.verdict, last.http_status, last.retry_after) == (Verdict.THROTTLE, 429, 7.0)
    assert logged == []


async def test_what_is_no_http_is_a_failure_with_a_name(stack: AsyncExitStack) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    stack.callback(server.close)
    client = Client([an_app(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")], HttpOptions())
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert last.verdict is Verdict.TRANSPORT
    assert last.error in {"http", "reset"}


async def test_a_server_whose_certificate_nobody_vouches_for_is_not_spoken_to(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = _certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    server = await stack.enter_async_context(ScriptedServer(in_turn(OK), tls))

    wary = Client([an_app(server.base_url)], HttpOptions())
    stack.push_async_callback(wary.aclose)
    refused = await wary.call(RecordingCallOwner())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusting = Client([an_app(server.base_url)], HttpOptions())
    stack.push_async_callback(trusting.aclose)
    accepted = await trusting.call(RecordingCallOwner())

    assert (refused.error, refused.end_unknown, refused.verdict) == ("tls", False, Verdict.TRANSPORT)
    assert accepted.verdict is Verdict.DONE
    assert len(server.seen) == 1


async def test_a_proxy_of_the_environment_never_sees_a_signature(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await stack.enter_async_context(ScriptedServer(in_turn(OK)))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.base_url)
    server = await stack.enter_async_context(ScriptedServer(in_turn(OK)))
    client = Client([an_app(server.base_url)], HttpOptions())
    stack.push_async_callback(client.aclose)

    last = await client.call(RecordingCallOwner())

    assert last.verdict is Verdict.DONE
    assert (len(server.seen), proxy.connections) == (1, 0)


async def test_neither_logs_nor_reprs_nor_exceptions_hold_a_signature_or_the_key(
    real: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """httpx's client would log the URL of every request; only its transport is used."""
    caplog.set_level(logging.DEBUG)
    harness = await real(OK, RESET, Reply(b"", 301, (("Location", "http://[broken/"),)), OK)

    for _ in range(4):
        await harness.client.call(RecordingCallOwner())
    call = asyncio.create_task(harness.client.call(RecordingCallOwner()))
    call.cancel()
    (cancelled,) = await asyncio.gather(call, return_exceptions=True)

    secrets = {seen.query["usersig"] for seen in harness.seen} | {"5bd2850f5bd2850f", "usersig"}
    texts = [caplog.text, repr(harness.client), repr(harness.client.signers), repr(cancelled), repr(an_app())]
    assert not [line for line in caplog.records if line.name.startswith("httpx")]
    assert [secret for secret in secrets for text in texts if secret in text] == []


async def test_an_unforeseen_failure_ends_the_call_and_is_logged(
    real: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await real(OK)

    async def broken(*_: object, **__: object) -> httpx.Response:
        raise AssertionError("secret https://example.invalid/?usersig=eJx")

    monkeypatch.setattr(AiohttpTransport, "handle_async_request", broken)
    last = await harness.client.call(owner := RecordingCallOwner())

    assert (last.verdict, last.error, last.end_unknown) == (Verdict.TRANSPORT, "http", False)
    assert owner.results == [last]
    (event,) = harness.logged
    assert event.event == "request.failed_strangely"
    assert "AssertionError" in str(event.fields["what"])
    assert "usersig" not in str(event.fields)


def _certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that it has signed itself, in one file."""
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    command = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    openssl(*command.split(), "-keyout", key, "-out", certificate)
    both.write_text(key.read_text() + certificate.read_text())
    return both


async def test_a_call_that_is_over_leaves_nothing_to_the_garbage_collector(real: Build) -> None:
    """What it left, at 200 calls a second, stopped the loop for 0.3 seconds at a time."""
    harness = await real(Reply(OK.body, 500), OK)
    gc.collect()
    gc.disable()
    try:
        await asyncio.create_task(harness.client.call(RecordingCallOwner(retries=1)))
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = {type(each) for each in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    kinds = (AsyncRetrying, httpx.Response, OutboundRequest, aiohttp.ClientResponse)
    assert [kind for kind in found if issubclass(kind, kinds)] == []
