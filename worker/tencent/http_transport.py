# One HTTP request: its connection, the last check before it is written, the bytes of its answer, and every way to fail.
#
# httpx runs on aiohttp's connections (httpx-aiohttp), with one pool for each endpoint of each app. Foreign exceptions end
# here, as an error of ERRORS: their texts may carry the URL with the signature in it.
# Not here: what the bytes mean (answers.py), what to do about it (client.py).

from __future__ import annotations

import asyncio
import ssl
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from msgspec import Struct
from yarl import URL

from worker.tencent.connector_factory import ConnectorFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.connector import Connection

    from worker.tencent.client_options import AppCredentials, HttpOptions

ERRORS: Final = frozenset({
    "connect",  # no connection: nothing was sent
    "tls",  # the server could not prove its identity: nothing was sent
    "proxy",  # the proxy made no connection: nothing was sent
    "timeout",  # no answer in time
    "reset",  # the connection ended before an answer began
    "cut",  # the connection ended inside the answer
    "not_json",  # an answer that is no answer of Tencent's API
    "too_long",  # an answer longer than HttpOptions.answer_bytes
    "http",  # not HTTP, or a status other than 2xx
    "cancelled",  # the task that waited for it was cancelled
    "fenced",  # not sent: at the last moment the engine or the group membership forbade it
})  # fmt: skip

_CAUSES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiohttp.ClientConnectorCertificateError, "tls"),
    (aiohttp.ClientConnectorSSLError, "tls"),
    (aiohttp.ServerFingerprintMismatch, "tls"),
    (aiohttp.ClientProxyConnectionError, "proxy"),
    (aiohttp.ClientHttpProxyError, "proxy"),
    (aiohttp.ClientConnectorError, "connect"),
    (aiohttp.ConnectionTimeoutError, "connect"),
    (aiohttp.ServerTimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientPayloadError, "cut"),
    (aiohttp.ClientResponseError, "http"),
    (aiohttp.ServerDisconnectedError, "reset"),
    (aiohttp.ClientOSError, "reset"),
    (aiohttp.ClientConnectionError, "reset"),
    (ssl.SSLError, "reset"),
    (OSError, "reset"),
    (httpx.HTTPError, "http"),
    (httpx.InvalidURL, "http"),
    (aiohttp.ClientError, "http"),
    (aiohttp.http_exceptions.HttpProcessingError, "http"),
)
"""
The first row that fits names the error. aiohttp's exceptions come before httpx's: httpx-aiohttp turns every lost connection
into a ConnectTimeout, and only the exception behind it says what happened.
"""
CONNECTION_TRIES: Final = 3
"""How many connections one attempt may try, as long as each turns out to be closed before a byte is written."""
AT_ONCE: Final = 0xFFFF
"""The longest body, in bytes, that aiohttp writes in one step; a command's is far shorter."""
LONGEST_CHAIN: Final = 10
"""How many causes of an exception are examined."""

_HEADERS: Final = (
    (b"Content-Type", b"application/json"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"moderation-worker"),
)


class HttpExchange(Struct, frozen=True):
    """
    What became of one HTTP request. Times are seconds of the monotonic clock.

    Attributes:
        sent_at: When it was handed to the connection; if it never was, when it began.
        left: Whether the server may have received it.
        error: One of ``ERRORS``, or None: then ``status`` and ``body`` are set.
        location: Where a redirect leads. May repeat the query, and with it the signature.
        detail: Why there was no connection, with the remedy, if the proxy or the authorities are at fault. Without secrets.
        unforeseen: Type and place of an unforeseen failure, without its text; None otherwise.

    """

    sent_at: float
    ended_at: float
    left: bool
    error: str | None = None
    status: int | None = None
    body: bytes = b""
    retry_after: str | None = None
    location: str | None = None
    detail: str | None = None
    unforeseen: str | None = None


class _NotSent(Exception):  # noqa: N818 - not an error: it stops a write that must not happen
    pass


class OutboundRequest(httpx.AsyncByteStream):
    """
    One request: its query and its body, which yields its bytes at the moment they are written.

    aiohttp holds the head of a request back until the body yields its first bytes, and writes both in the same step of the
    event loop. So refusing them here is the last check, with nothing in between, and this object knows exactly whether
    anything was sent.

    Attributes:
        query: Percent-encoded. It holds the signature, so it bypasses httpx.
        sent_at: When the bytes were handed to the connection, on the monotonic clock; None before.
        fenced: Whether ``may_send`` refused it.
        spoilt: Whether it got a connection that must not be reused; nothing of it was sent.

    """

    def __init__(self, query: str, body: bytes, may_send: Callable[[], bool]) -> None:
        self.query = query
        self.body = body
        self.sent_at: float | None = None
        self.fenced = False
        self.spoilt = False
        self._written = False
        self._may_send = may_send

    def __aiter__(self) -> OutboundRequest:
        return self

    async def __anext__(self) -> bytes:
        if self.sent_at is not None:
            self._written = True  # aiohttp asks again only after it has written the first bytes
            raise StopAsyncIteration
        if not self._may_send():
            self.fenced = True
            raise _NotSent
        self.sent_at = time.monotonic()
        return self.body

    @property
    def left(self) -> bool:
        """Whether the server may have received the request: then only an answer says what became of it."""
        return self._written or (self.sent_at is not None and len(self.body) > AT_ONCE)

    @property
    def stale(self) -> bool:
        """Whether its connection turned out to be closed, so that nothing was sent and another one may be used."""
        return self.spoilt or (self.sent_at is not None and not self.left)


class Transport(Protocol):
    """
    Sends requests. The tests have one without a network.

    Promises: ``post`` sends at most one request, asks ``outbound`` for its bytes at the moment of sending, and returns an
    HttpExchange whatever happens; it raises nothing but a cancellation.
    """

    async def post(self, app: AppCredentials, endpoint: str, outbound: OutboundRequest) -> HttpExchange:
        """Send ``outbound`` to this endpoint of this app, and read the answer."""

    async def aclose(self) -> None:
        """Close every connection. Nothing may be posted afterwards."""


class HttpTransport:
    """The connections of all apps, with one pool for each endpoint of each."""

    def __init__(
        self,
        options: HttpOptions,
        report: Callable[..., None] = lambda *_, **__: None,
        learn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._connections = ConnectorFactory(options, report, learn)
        timeout = httpx.Timeout(None, connect=options.connect_timeout, pool=options.connect_timeout)
        self._extensions = {"timeout": timeout.as_dict()}
        self._pools: dict[tuple[str, str], tuple[AiohttpTransport, httpx.URL]] = {}

    async def post(self, app: AppCredentials, endpoint: str, outbound: OutboundRequest) -> HttpExchange:
        """Send ``outbound`` to this endpoint of this app, and read the answer."""
        began = time.monotonic()
        transport, url = self._pools.get((app.name, endpoint)) or self._pool(app, endpoint)
        _OUTBOUND.set(outbound)
        try:
            async with asyncio.timeout(self._options.timeout):
                headers = _headers(len(outbound.body))
                request = httpx.Request(
                    "POST", url, headers=headers, stream=outbound, extensions=self._extensions
                )
                response = await transport.handle_async_request(request)
                try:
                    body = await _read(response, self._options.answer_bytes)
                finally:
                    await response.aclose()
        except Exception as error:  # noqa: BLE001 - whatever the network or its libraries raise, the call must end
            return self._failed(error, began, outbound)
        return HttpExchange(
            sent_at=began if outbound.sent_at is None else outbound.sent_at,
            ended_at=time.monotonic(),
            left=True,
            error="too_long" if body is None else None,
            status=response.status_code,
            body=body or b"",
            retry_after=response.headers.get("retry-after") if response.status_code == 429 else None,
            location=response.headers.get("location") if 300 <= response.status_code < 400 else None,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        pools = list(self._pools.values())
        self._pools.clear()
        for transport, _ in pools:
            await transport.aclose()

    def _pool(self, app: AppCredentials, endpoint: str) -> tuple[AiohttpTransport, httpx.URL]:
        # The transport alone: what httpx's client adds (redirects, cookies, authentication, a proxy from the environment, which
        # would see an administrator's credential) must not happen here, and costs a fifth of a call's CPU.
        transport = AiohttpTransport(
            verify=self._connections.tls,
            client=lambda: self._connections.session(_Request, tls=app.base_url.startswith("https:")),
        )
        url = httpx.URL(f"{app.base_url.rstrip('/')}/v4/{endpoint}")
        self._pools[app.name, endpoint] = transport, url
        return transport, url

    def _failed(self, error: Exception, began: float, outbound: OutboundRequest) -> HttpExchange:
        known = "fenced" if outbound.fenced else "reset" if outbound.spoilt else _named(error)
        if known == "timeout" and outbound.sent_at is None:
            known = "connect"  # the time was used up before there was a connection
        details = (self._connections.explain(cause) for cause in _causes(error))
        return HttpExchange(
            sent_at=began if outbound.sent_at is None else outbound.sent_at,
            ended_at=time.monotonic(),
            left=outbound.left,
            error=known or "http",
            detail=next((detail for detail in details if detail is not None), None),
            unforeseen=_where(error) if known is None else None,
        )


_OUTBOUND: Final[ContextVar[OutboundRequest]] = ContextVar("outbound")
"""The request that the current task sends: httpx has no way to hand it to the aiohttp request."""


class _Request(aiohttp.ClientRequest):
    # aiohttp's hook between getting a connection and writing to it.

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        outbound = _OUTBOUND.get()
        if conn.protocol is None or conn.protocol.should_close:
            # Closed, or holding bytes nobody asked for, which aiohttp would take for the answer to this request.
            outbound.spoilt = True
            raise _NotSent
        # Added only here, so that no URL that httpx attaches to exceptions contains the signature.
        self.url = URL(f"{self.url}?{outbound.query}", encoded=True)
        self.response_class = _Response
        return await super().send(conn)


class _Response(aiohttp.ClientResponse):
    # The words beside the status say nothing that it does not, and a gateway may write them in any encoding: httpx-aiohttp would
    # fail over what is not UTF-8, and the answer would be lost.

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        response = await super().start(connection)
        self.reason = None
        return response


def _headers(length: int) -> list[tuple[bytes, bytes]]:
    return [*_HEADERS, (b"Content-Length", str(length).encode())]


async def _read(response: httpx.Response, most: int) -> bytes | None:
    # Raw bytes: we accept no content encoding, and unpacking one would have no bound.
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > most:
            return None
        parts.append(part)
    return b"".join(parts)


def _causes(error: BaseException) -> list[BaseException]:
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and len(causes) < LONGEST_CHAIN:
        causes.append(cause)
    return causes


def _named(error: BaseException) -> str | None:
    """Return the error of ``ERRORS`` for ``error`` and its causes; None for one that no row foresees."""
    causes = _causes(error)
    for kind, name in _CAUSES:
        if any(isinstance(cause, kind) for cause in causes):
            return name
    return None


def _where(error: BaseException) -> str:
    # Type and place, never the text: it may contain the URL.
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" in {trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno}"
    return f"{type(error).__name__}{place}"
