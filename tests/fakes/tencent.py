# Tencent's side of a call, scripted in advance: replies, and a transport without a network that gives them.
#
# FakeTransport is below the real Client, so what is faked is the network alone: signatures, verdicts, retries and the
# fence are the product's. The same replies are spoken over real sockets by tests/contract/tencent/scripted.py, and one
# suite runs against both.

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from worker.tencent.client import Client
from worker.tencent.client_options import AppCredentials, HttpOptions
from worker.tencent.http_transport import HttpExchange

if TYPE_CHECKING:
    from worker.domain.effects import LogEvent
    from worker.tencent.http_transport import OutboundRequest

SECRET_KEY: Final = "5bd2850f" * 8
"""The key of the tests' apps. It belongs to nobody."""

End = Literal["answer", "hang", "reset", "cut", "no_connection"]


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What the other end does with one request.

    ``hang`` answers nothing; ``reset`` breaks the connection before an answer; ``cut`` inside it; ``no_connection``
    lets no connection come about.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    end: End = "answer"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the other end saw it."""

    endpoint: str
    query: dict[str, str]
    body: bytes
    app: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    connection: int = 0


Script = Callable[[Seen], Reply]


def answer(code: int, info: str = "", *, request_id: str | None = None) -> Reply:
    """One of Tencent's answers."""
    fields: dict[str, object] = {
        "ActionStatus": "FAIL" if code else "OK",
        "ErrorCode": code,
        "ErrorInfo": info,
    }
    if request_id is not None:
        fields["RequestId"] = request_id
    return Reply(msgspec.json.encode(fields))


OK: Final = answer(0)
HANG: Final = Reply(end="hang")
RESET: Final = Reply(end="reset")
CUT: Final = Reply(OK.body, end="cut")
NO_CONNECTION: Final = Reply(end="no_connection")


def in_turn(*replies: Reply) -> Script:
    """These replies one after the other; the last one for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


class FakeTransport:
    """A Transport on which ``script`` answers. Keeps every promise of the protocol; ``latency`` seconds pass before an answer."""

    def __init__(self, script: Script, options: HttpOptions, *, latency: float = 0.0) -> None:
        self.seen: list[Seen] = []
        self.script = script
        self._options = options
        self._latency = latency

    async def post(self, app: AppCredentials, endpoint: str, outbound: OutboundRequest) -> HttpExchange:
        began = time.monotonic()
        seen = Seen(
            endpoint, dict(parse_qsl(outbound.query, keep_blank_values=True)), outbound.body, app.name
        )
        reply = self.script(seen)
        if reply.end == "no_connection":
            return HttpExchange(sent_at=began, ended_at=time.monotonic(), left=False, error="connect")
        sent_at = await self._send(outbound)
        if sent_at is None:
            return HttpExchange(sent_at=began, ended_at=time.monotonic(), left=False, error="fenced")
        self.seen.append(seen)
        error: str | None = None if reply.end == "answer" else reply.end
        try:
            async with asyncio.timeout(self._options.timeout):
                await asyncio.sleep(self._latency)
                if reply.end == "hang":
                    await asyncio.Event().wait()
        except TimeoutError:
            error = "timeout"
        if error is None and len(reply.body) > self._options.answer_bytes:
            error = "too_long"
        return HttpExchange(
            sent_at=sent_at,
            ended_at=time.monotonic(),
            left=True,
            error=error,
            status=reply.status if error in (None, "too_long") else None,
            body=reply.body if error is None else b"",
            retry_after=dict(reply.headers).get("Retry-After") if reply.status == 429 else None,
            location=dict(reply.headers).get("Location") if 300 <= reply.status < 400 else None,
        )

    async def aclose(self) -> None:
        pass

    async def _send(self, outbound: OutboundRequest) -> float | None:
        # As aiohttp does it: ask for the bytes, write them, ask for more. A fence ends it with an exception.
        try:
            await anext(outbound)
            await anext(outbound)
        except StopAsyncIteration:
            return outbound.sent_at
        except Exception:
            if outbound.fenced:
                return None
            raise
        return outbound.sent_at


def an_app(
    base_url: str = "http://127.0.0.1:9", *, name: str = "main", secret_key: str = SECRET_KEY
) -> AppCredentials:
    """An app that a signature can be made for."""
    return AppCredentials(name, 1400000001, "administrator", base_url, secret_key=secret_key)


def fake_client(
    script: Script,
    apps: tuple[AppCredentials, ...] = (),
    options: HttpOptions | None = None,
    *,
    latency: float = 0.0,
    notice: Callable[[LogEvent], None] | None = None,
) -> tuple[Client, FakeTransport]:
    """The product's client on a FakeTransport, and that transport: what it was asked for is in ``transport.seen``."""
    options = options or HttpOptions()
    transport = FakeTransport(script, options, latency=latency)
    return Client(apps or (an_app(),), options, notice, transport=transport), transport
