# The worker's own HTTP: /livez (does the loop go round?), /readyz (does it work, and if not, what to fix?), /metrics.
#
# It runs on the worker's loop, so a loop that stands still answers nothing, which is the truth. /livez never asks for
# Kafka's or Tencent's health: a restart fixes neither. Nothing here decides; it serves what it is given.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PULSE_LIMIT: Final = 10.0
"""Seconds without a turn of the loop after which it is dead: far beyond any stall of a busy machine."""


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

    async def start(self) -> int:
        """Listens, and returns the port (which port 0 leaves to the system). Raises OSError if it is taken."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposition)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]
        return self._port

    async def close(self) -> None:
        """Answers what was asked, for a second at most, and listens no more."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
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


def _answer(well: bool, body: object) -> web.Response:
    return web.Response(
        status=200 if well else 503,
        body=msgspec.json.encode(body),
        content_type="application/json",
        charset="utf-8",
    )
