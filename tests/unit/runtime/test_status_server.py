# Health and metrics over HTTP: real requests to a real server on a free port, on the loop of the test.

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from worker.runtime.metrics import CONTENT_TYPE, Metrics
from worker.runtime.status_server import PULSE_LIMIT, Obstacle, StatusServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Worker:
    """
    What the server is told.
    """

    pulse_age: float = 0.0
    obstacles: list[Obstacle] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    body: bytes


@asynccontextmanager
async def served(worker: Worker, port: int = 0) -> AsyncIterator[int]:
    metrics = Metrics(["main"])
    server = StatusServer(
        "127.0.0.1",
        port,
        pulse_age=lambda: worker.pulse_age,
        obstacles=lambda: worker.obstacles,
        metrics=lambda: (metrics.text(), CONTENT_TYPE),
    )
    bound = await server.start()
    assert f"127.0.0.1:{bound}" in repr(server)
    yield bound
    await server.close()
    assert "closed" in repr(server)


def ask(worker: Worker, path: str, method: str = "GET") -> Answer:
    async def asked() -> Answer:
        async with (
            served(worker) as port,
            ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{port}{path}") as response,
        ):
            return Answer(response.status, response.headers["Content-Type"], await response.read())

    return asyncio.run(asked())


def test_a_loop_that_goes_round_is_alive() -> None:
    answer = ask(Worker(pulse_age=0.25), "/livez")

    assert answer.status == 200
    assert json.loads(answer.body) == {"alive": True, "pulse_age_seconds": 0.25}


def test_a_loop_that_went_round_long_ago_is_dead() -> None:
    answer = ask(Worker(pulse_age=PULSE_LIMIT + 0.1), "/livez")

    assert answer.status == 503
    assert json.loads(answer.body)["alive"] is False


def test_what_is_in_the_way_of_work_does_not_make_a_worker_dead() -> None:
    """
    A restart fixes neither Kafka nor Tencent nor a wrong key.
    """
    assert ask(Worker(obstacles=[Obstacle("main is halted: 70009")]), "/livez").status == 200


def test_with_nothing_in_the_way_it_is_ready() -> None:
    answer = ask(Worker(), "/readyz")

    assert answer.status == 200
    assert answer.content_type.startswith("application/json")
    assert json.loads(answer.body) == {"ready": True, "obstacles": []}


def test_every_obstacle_is_told_with_its_remedy() -> None:
    worker = Worker(
        obstacles=[Obstacle("main is halted: 70009", "check the secret key"), Obstacle("it is stopping")]
    )

    answer = ask(worker, "/readyz")

    assert answer.status == 503
    assert json.loads(answer.body) == {
        "ready": False,
        "obstacles": [
            {"reason": "main is halted: 70009", "remedy": "check the secret key"},
            {"reason": "it is stopping"},
        ],
    }


def test_metrics_are_served_as_prometheus_reads_them() -> None:
    answer = ask(Worker(), "/metrics")

    assert answer.status == 200
    assert answer.content_type == CONTENT_TYPE
    assert b"moderation_worker_build_info{" in answer.body


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/", "GET", 404), ("/livez", "POST", 405), ("/debug", "GET", 404)]
)
def test_nothing_else_is_served(path: str, method: str, status: int) -> None:
    assert ask(Worker(), path, method).status == status


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind() -> None:
    async def twice() -> None:
        async with served(Worker()) as port:
            with pytest.raises(OSError, match="address already in use"):
                async with served(Worker(), port):
                    pytest.fail("two servers cannot have one port")

    asyncio.run(twice())


def test_after_closing_nobody_answers() -> None:
    async def closed() -> None:
        async with served(Worker()) as port:
            pass
        with pytest.raises(OSError, match=str(port)):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(closed())


def test_closing_does_not_wait_for_a_connection_that_is_kept_open() -> None:
    async def kept() -> float:
        async with served(Worker()) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await writer.drain()
            began = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - began
        writer.close()
        return took

    assert asyncio.run(kept()) < 3
