# The worker's own HTTP server: /livez (is the loop running?), /readyz (does the worker work, and if not, what to fix?), /metrics,
# and the page at / with the two JSON answers that it asks for.
#
# It runs on the worker's loop, so that a blocked loop fails its liveness probe. /livez never depends on Kafka or Tencent: a
# restart fixes neither. Connections are bounded in number, size and time, and serve one request each, so that nobody can keep
# a probe out. Nothing can be changed through it. Not here: what makes the worker not ready (readiness.py), metrics (metrics.py),
# what the page says (status_page.py).

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from aiohttp import web
from aiohttp.http import HttpProcessingError

from worker.printable_text import plain_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    Handler = Callable[[web.Request], Awaitable[web.Response]]

PULSE_LIMIT: Final = 10.0
"""Seconds without a turn of the loop after which it counts as dead: far more than any stall of a busy machine."""
MOST_CONNECTIONS: Final = 256
"""More than probes and scrapers need. One more closes the connection that has been idle longest, so a probe always gets in."""
BACKLOG: Final = 1024
"""Connections that the system queues until the loop accepts them."""
HEAD_SECONDS: Final = 5.0
"""How long a connection may take to send its request."""
ANSWER_SECONDS: Final = 10.0
"""How long a connection may take to read its answer: Prometheus gives up after the same time."""
REQUEST_BYTES: Final = 16 * 1024
"""The most bytes read from a connection; a probe sends some hundred."""

LONGEST_QUESTION: Final = 128
"""Characters of what is looked up: the longest id that is valid."""
QUESTION: Final = (
    f"ask for one command id, user, room or RequestId of at most {LONGEST_QUESTION} characters: find.json?q=…"
)
LOOK_UPS: Final = 10
LOOK_SECONDS: Final = 1.0
"""This many look-ups are answered within this time: each searches through all that is kept, some milliseconds on the worker's loop."""
TOO_OFTEN: Final = "looked up too often: ask again in a second"
NO_PAGE: Final = "The page is switched off (server.page). There are /livez, /readyz and /metrics.\n"
PAGE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""What it shows is of now and names users: nobody keeps it, passes it on, or puts it into a page of their own."""


@dataclass(frozen=True, slots=True)
class ReadinessObstacle:
    """
    One reason why the worker is not ready.

    Attributes:
        reason: What is wrong, as a sentence.
        remedy: What an operator can do; None where only waiting helps.

    """

    reason: str
    remedy: str | None = None


class StatusPageSource(Protocol):
    """The page, and the JSON that it asks for."""

    @property
    def html(self) -> bytes:
        """Its text."""

    @property
    def policy(self) -> str:
        """The Content-Security-Policy of its text."""

    def status(self) -> bytes:
        """Return what is now."""

    def find(self, text: str) -> bytes:
        """Return the latest outcomes of a command, user, room or RequestId."""


class StatusServer:
    """
    Serves health and metrics, and the page if there is one, until it is closed.

    ``pulse_age`` returns the seconds since the loop last ran, ``obstacles`` why the worker is not ready (empty: it is),
    ``notes`` what else /readyz says, ``metrics`` the exposition and its content type. They are called for each request and must not
    block; neither must ``page``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        pulse_age: Callable[[], float],
        obstacles: Callable[[], Sequence[ReadinessObstacle]],
        metrics: Callable[[], tuple[bytes, str]],
        notes: Callable[[], Mapping[str, object]] = dict,
        page: StatusPageSource | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._pulse_age = pulse_age
        self._obstacles = obstacles
        self._metrics = metrics
        self._notes = notes
        self._page = page
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}  # a set in order of the last activity, oldest first

    async def start(self) -> int:
        """Listen, and return the port (with port 0 the system chooses it). Raises OSError if it cannot be had."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposition)
        if self._page is None:
            app.router.add_get("/", _no_page)
        else:
            for path, answer in _routes_of(self._page):
                app.router.add_get(path, answer)
        app.on_response_prepare.append(_end_after_answer)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        server = runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                lambda: _Connection(server, self._connections, loop), self._host, self._port, backlog=BACKLOG
            )
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = self._listener.sockets[0].getsockname()[1]
        return self._port

    async def close(self) -> None:
        """Stop listening; finish open requests, for a second at most."""
        if self._runner is None or self._listener is None:
            return
        runner, self._runner = self._runner, None
        self._listener.close()
        await runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        age = self._pulse_age()
        alive = age <= PULSE_LIMIT
        return _answer(alive, {"alive": alive, "pulse_age_seconds": round(age, 3)})

    async def _readyz(self, _: web.Request) -> web.Response:
        obstacles = self._obstacles()
        listed = [
            {"reason": item.reason, **({"remedy": item.remedy} if item.remedy else {})} for item in obstacles
        ]
        return _answer(not obstacles, {"ready": not obstacles, "obstacles": listed, **self._notes()})

    async def _exposition(self, _: web.Request) -> web.Response:
        text, content_type = self._metrics()
        return web.Response(body=text, headers={"Content-Type": content_type})

    def __repr__(self) -> str:
        return f"<StatusServer on {self._host}:{self._port}{'' if self._runner else ', closed'}>"


class _Connection(web.RequestHandler):
    """One connection. It is closed when it takes too long, sends too much, or is the oldest of too many."""

    __slots__ = ("_all", "_received", "_timer")

    def __init__(
        self, server: web.Server, all_open: dict[_Connection, None], loop: asyncio.AbstractEventLoop
    ) -> None:
        # Nobody reads a body: what is wrong with it would only be logged, and a small one may be gigabytes once it is decompressed.
        super().__init__(server, loop=loop, max_field_size=4096, max_line_size=4096, auto_decompress=False)
        self._all = all_open
        self._received = 0
        self._timer = loop.call_later(HEAD_SECONDS, self.end)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; if there are too many, close the oldest."""
        super().connection_made(transport)
        self._all[self] = None
        if len(self._all) > MOST_CONNECTIONS:
            next(iter(self._all)).end()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the timer and forget the connection."""
        self._timer.cancel()
        self._all.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, up to ``REQUEST_BYTES``."""
        self._received += len(data)
        if self._received > REQUEST_BYTES:
            self.end()
        else:
            super().data_received(data)

    def log_exception(self, *args: Any, **named: Any) -> None:
        """Log a fault of ours. What is no HTTP gets its 400: a scanner's bytes are not a failure, and no stranger fills the log."""
        if not isinstance(named.get("exc_info"), HttpProcessingError):
            super().log_exception(*args, **named)

    def request_complete(self) -> None:
        """Start the time for the answer, now that the request is complete, and count as the youngest."""
        self._timer.cancel()
        self._timer = self._loop.call_later(ANSWER_SECONDS, self.end)
        if self in self._all:
            self._all[self] = self._all.pop(self)

    def end(self) -> None:
        """Close the connection at once, even in the middle of an answer."""
        self._all.pop(self, None)
        if self.transport is not None:
            self.transport.abort()


async def _end_after_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Close the connection after one request: an idle one would take a place from a probe."""
    if isinstance(request.protocol, _Connection):
        request.protocol.request_complete()
    response.headers["Connection"] = "close"
    response.force_close()


async def _no_page(_: web.Request) -> web.Response:
    return web.Response(status=404, text=NO_PAGE)


def _routes_of(page: StatusPageSource) -> Iterable[tuple[str, Handler]]:
    """Return the routes of the page. The JSON is for the page alone and may change with any version."""
    looked_up: deque[float] = deque(maxlen=LOOK_UPS)

    async def html(_: web.Request) -> web.Response:
        headers = {**PAGE_HEADERS, "Content-Security-Policy": page.policy}
        return web.Response(body=page.html, content_type="text/html", charset="utf-8", headers=headers)

    async def status(_: web.Request) -> web.Response:
        return _json(page.status())

    async def find(request: web.Request) -> web.Response:
        asked = request.query.getall("q", [])
        if len(asked) != 1 or not 0 < len(asked[0]) <= LONGEST_QUESTION:
            return _json(msgspec.json.encode({"error": QUESTION}), status=400)
        now = asyncio.get_running_loop().time()
        if len(looked_up) == LOOK_UPS and now < looked_up[0] + LOOK_SECONDS:
            return _json(msgspec.json.encode({"error": TOO_OFTEN}), status=429)
        looked_up.append(now)
        return _json(page.find(asked[0]))

    return (("/", html), ("/status.json", status), ("/find.json", find))


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=body, content_type="application/json", charset="utf-8", headers=PAGE_HEADERS
    )


def _answer(healthy: bool, body: object) -> web.Response:
    return web.Response(
        status=200 if healthy else 503,
        body=plain_json(msgspec.json.encode(body).decode()).encode(),
        content_type="application/json",
        charset="utf-8",
    )
