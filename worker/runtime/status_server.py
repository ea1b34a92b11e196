# The worker's own HTTP: /livez (does the loop go round?), /readyz (does it work, and if not, what to fix?), /metrics.
#
# It runs on the worker's loop, so a loop that stands still answers nothing, which is the truth. /livez never asks for
# Kafka's or Tencent's health: a restart fixes neither. Nothing here decides; it serves what it is given, one request a
# connection, and lets nobody keep a probe away: connections have a number, a size and a time.

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PULSE_LIMIT: Final = 10.0
"""Seconds without a turn of the loop after which it is dead: far beyond any stall of a busy machine."""


MOST_CONNECTIONS: Final = 256
"""More than any probes and scrapers need. The next one ends the one that has waited longest, so a probe always gets in."""
BACKLOG: Final = 1024
"""Connections that the system keeps until the loop takes them."""
HEAD_SECONDS: Final = 5.0
"""How long a connection has for its request."""
ANSWER_SECONDS: Final = 10.0
"""How long it has to take the answer: Prometheus gives up after as much."""
REQUEST_BYTES: Final = 16 * 1024
"""What is read of a connection; a probe sends some hundred bytes."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """
    Why the worker is not ready.

    Attributes:
        reason: What is the matter, as a sentence.
        remedy: What an operator can do; None where only waiting helps.

    """

    reason: str
    remedy: str | None = None


class StatusServer:
    """
    Serves until it is closed.

    ``pulse_age`` tells how many seconds ago the loop last went round, ``obstacles`` what is in the way of work (nothing:
    ready), ``metrics`` the exposition and its content type. They are asked at each request and must not block.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        pulse_age: Callable[[], float],
        obstacles: Callable[[], Sequence[Obstacle]],
        metrics: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._host = host
        self._port = port
        self._pulse_age = pulse_age
        self._obstacles = obstacles
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._open: dict[_Connection, None] = {}  # from the one that has been open longest

    async def start(self) -> int:
        """Listens, and returns the port (which port 0 leaves to the system). Raises OSError if it is taken."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposition)
        app.on_response_prepare.append(_closing)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        server = runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                lambda: _Connection(server, self._open, loop), self._host, self._port, backlog=BACKLOG
            )
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = self._listener.sockets[0].getsockname()[1]
        return self._port

    async def close(self) -> None:
        """Answers what was asked, for a second at most, and listens no more."""
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
        told = [
            {"reason": item.reason, **({"remedy": item.remedy} if item.remedy else {})} for item in obstacles
        ]
        return _answer(not obstacles, {"ready": not obstacles, "obstacles": told})

    async def _exposition(self, _: web.Request) -> web.Response:
        text, content_type = self._metrics()
        return web.Response(body=text, headers={"Content-Type": content_type})

    def __repr__(self) -> str:
        return f"<StatusServer on {self._host}:{self._port}{'' if self._runner else ', closed'}>"


class _Connection(web.RequestHandler):
    """One connection, which is ended when it takes too long, sends too much, or is the oldest of too many."""

    __slots__ = ("_all", "_received", "_timer")

    def __init__(
        self, server: web.Server, all_open: dict[_Connection, None], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(server, loop=loop, max_field_size=4096, max_line_size=4096)
        self._all = all_open
        self._received = 0
        self._timer = loop.call_later(HEAD_SECONDS, self.end)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place; the one that has waited longest may lose its own."""
        super().connection_made(transport)
        self._all[self] = None
        if len(self._all) > MOST_CONNECTIONS:
            next(iter(self._all)).end()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free the place."""
        self._timer.cancel()
        self._all.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, up to the bound."""
        self._received += len(data)
        if self._received > REQUEST_BYTES:
            self.end()
        else:
            super().data_received(data)

    def asked(self) -> None:
        """Give it the time for its answer: the request is here. It is the youngest now."""
        self._timer.cancel()
        self._timer = self._loop.call_later(ANSWER_SECONDS, self.end)
        if self in self._all:
            self._all[self] = self._all.pop(self)

    def end(self) -> None:
        """End it now, whatever is under way."""
        self._all.pop(self, None)
        if self.transport is not None:
            self.transport.abort()


async def _closing(request: web.Request, response: web.StreamResponse) -> None:
    """One request a connection: what is kept open would have to be counted, watched and ended."""
    if isinstance(request.protocol, _Connection):
        request.protocol.asked()
    response.headers["Connection"] = "close"
    response.force_close()


def _answer(well: bool, body: object) -> web.Response:
    return web.Response(
        status=200 if well else 503,
        body=msgspec.json.encode(body),
        content_type="application/json",
        charset="utf-8",
    )
