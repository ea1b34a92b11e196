# Health and metrics over HTTP: real requests to a real server on a free port, on the loop of the test.

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop
from aiohttp import ClientSession

from tests.unit.domain.engine_harness import EngineHarness, ban
from tests.unit.runtime.fakes import until
from worker.domain.contract.outcomes import Worker as WorkerName
from worker.runtime import status_server
from worker.runtime.metrics import CONTENT_TYPE, Metrics
from worker.runtime.recent_outcomes import RecentOutcomes
from worker.runtime.status_page import StatusPage
from worker.runtime.status_server import (
    LOOK_UPS,
    MOST_CONNECTIONS,
    PULSE_LIMIT,
    ReadinessObstacle,
    StatusServer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from worker.runtime.status_server import StatusPageSource


@dataclass
class Worker:
    """What the server asks."""

    pulse_age: float = 0.0
    obstacles: list[ReadinessObstacle] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@asynccontextmanager
async def served(
    worker: Worker, port: int = 0, metrics: bytes | None = None, page: StatusPageSource | None = None
) -> AsyncIterator[int]:
    text = Metrics(["main"]).text() if metrics is None else metrics
    server = StatusServer(
        "127.0.0.1",
        port,
        pulse_age=lambda: worker.pulse_age,
        obstacles=lambda: worker.obstacles,
        metrics=lambda: (text, CONTENT_TYPE),
        notes=lambda: worker.notes,
        page=page,
    )
    bound = await server.start()
    # A test that fails must leave nothing open: with connections of it uvloop's loop would never close.
    try:
        yield bound
    finally:
        await server.close()


def ask(worker: Worker, path: str, method: str = "GET", page: StatusPageSource | None = None) -> Answer:
    async def asked() -> Answer:
        async with (
            served(worker, page=page) as port,
            ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{port}{path}") as response,
        ):
            kind = response.headers.get("Content-Type", "")
            return Answer(response.status, kind, await response.read(), response.headers)

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
    """A restart fixes neither Kafka nor Tencent nor a wrong key."""
    assert ask(Worker(obstacles=[ReadinessObstacle("main is halted: 70009")]), "/livez").status == 200


def test_with_nothing_in_the_way_it_is_ready() -> None:
    answer = ask(Worker(), "/readyz")

    assert answer.status == 200
    assert answer.content_type.startswith("application/json")
    assert json.loads(answer.body) == {"ready": True, "obstacles": []}


def test_every_obstacle_is_served_with_its_remedy() -> None:
    worker = Worker(
        obstacles=[
            ReadinessObstacle("main is halted: 70009", "check the secret key"),
            ReadinessObstacle("it is stopping"),
        ]
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


@pytest.fixture
def page() -> StatusPage:
    recent = RecentOutcomes()
    harness = EngineHarness()
    harness.receive(ban("u") | {"command_id": "c-9"})
    harness.ok()
    recent.published(harness.take(), 0.0)
    return StatusPage(WorkerName("w", "1"), recent, obstacles=list)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_page_is_served_for_browsers_that_keep_nothing_of_it(page: StatusPage, method: str) -> None:
    answer = ask(Worker(), "/", method, page)

    assert answer.status == 200
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.body == (page.html if method == "GET" else b"")
    assert answer.headers["Content-Length"] == str(len(page.html))
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"] == page.policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_pages_answers_are_json_that_nobody_keeps(page: StatusPage) -> None:
    answer = ask(Worker(), "/status.json", page=page)

    assert answer.status == 200
    assert answer.content_type == "application/json; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.body)["worker"] == {"name": "w", "version": "1"}


def test_a_command_is_looked_up(page: StatusPage) -> None:
    reply = json.loads(ask(Worker(), "/find.json?q=c-9", page=page).body)

    assert [each["command_id"] for each in reply["found"]] == ["c-9"]


@pytest.mark.parametrize(
    "query",
    ["", "?q=", "?q=a&q=b", "?x=c-9", "?q=" + "y" * 129, "?q=" + "%E9%95%BF" * 129],
    ids=["nothing", "empty", "two", "another name", "too long", "too long in another script"],
)
def test_a_question_that_cannot_be_answered_is_refused_with_the_remedy(page: StatusPage, query: str) -> None:
    answer = ask(Worker(), f"/find.json{query}", page=page)

    assert answer.status == 400
    assert "find.json?q=" in json.loads(answer.body)["error"]


def test_who_looks_up_without_end_does_not_get_the_loop(
    page: StatusPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_server, "LOOK_SECONDS", 3_600.0)

    async def scenario() -> tuple[list[int], bytes]:
        async with served(Worker(), page=page) as port, ClientSession() as session:
            answers = [
                await session.get(f"http://127.0.0.1:{port}/find.json?q=u") for _ in range(LOOK_UPS + 1)
            ]
            monkeypatch.setattr(status_server, "LOOK_SECONDS", 0.0)
            answers.append(await session.get(f"http://127.0.0.1:{port}/find.json?q=u"))
            return [each.status for each in answers], await answers[LOOK_UPS].read()

    statuses, refusal = asyncio.run(scenario())
    assert statuses == [*[200] * LOOK_UPS, 429, 200]
    assert "ask again in a second" in json.loads(refusal)["error"]


@pytest.mark.parametrize("query", ["%00", "%ff%fe", "%ED%A0%80", "a%0d%0aX: y", "<script>"])
def test_a_question_of_strange_bytes_finds_nothing_and_breaks_nothing(page: StatusPage, query: str) -> None:
    answer = ask(Worker(), f"/find.json?q={query}", page=page)

    assert answer.status == 200
    assert json.loads(answer.body)["found"] == []


@pytest.mark.parametrize("path", ["/", "/status.json", "/find.json?q=c-9"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed_through_the_page(page: StatusPage, path: str, method: str) -> None:
    assert ask(Worker(), path, method, page).status == 405


def test_a_page_that_is_switched_off_says_what_there_is() -> None:
    answer = ask(Worker(), "/")

    assert answer.status == 404
    assert (
        answer.body.decode()
        == "The page is switched off (server.page). There are /livez, /readyz and /metrics.\n"
    )
    assert ask(Worker(), "/status.json").status == ask(Worker(), "/find.json?q=u").status == 404


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


# -- flooded --------------------------------------------------------------------------------------------------------------------

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
IDLE = 1_400


async def answered(port: int, request: bytes = GET) -> bytes:
    """Return all that comes back for a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 5.0)
    finally:
        writer.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def sockets(port: int, count: int, sent: bytes = b"") -> list[socket.socket]:
    opened = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.setblocking(False)
        one.send(sent)
        opened.append(one)
    return opened


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nX-Slow: ",
        b"\r\n",
        b"POST /livez HTTP/1.1\r\nContent-Length: 1000\r\n\r\nx",
    ],
    ids=["silent", "half a head", "an empty line", "half a body"],
)
def test_probes_are_answered_beside_1400_connections_that_say_nothing_more(sent: bytes) -> None:
    """This many made `/livez` and `/readyz` fail, and the pod was restarted for it."""

    async def flooded() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * IDLE)), hard))
        async with served(Worker()) as port:
            opened = await asyncio.to_thread(sockets, port, IDLE, sent)
            for path in (b"/livez", b"/readyz", b"/metrics"):
                assert b" 200 " in await answered(port, GET.replace(b"/livez", path))
            open_here = descriptors() - IDLE
            for one in opened:
                one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert open_here < MOST_CONNECTIONS + 100

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(flooded())


def test_a_connection_without_a_request_is_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_server, "HEAD_SECONDS", 0.1)

    async def slow() -> None:
        async with served(Worker()) as port:
            for sent in (b"", b"GET /livez HTTP/1.1\r\nX: "):
                with contextlib.suppress(ConnectionError):
                    assert await answered(port, sent) == b""

    asyncio.run(slow())


def test_an_answer_that_nobody_takes_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_server, "ANSWER_SECONDS", 0.2)

    async def not_taken() -> None:
        async with served(Worker(), metrics=b"x" * 50_000_000) as port:
            before = descriptors()
            with socket.create_connection(("127.0.0.1", port)) as caller:
                caller.sendall(GET.replace(b"/livez", b"/metrics"))
                await until(lambda: descriptors() == before + 2)
                await until(lambda: descriptors() == before + 1)

    asyncio.run(not_taken())


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n" + b"y" * 1_000_000,
        b"\x16\x03\x01" + b"\x00" * 100_000,
    ],
    ids=["headers", "a header", "a path", "a body", "TLS"],
)
def test_what_is_too_large_is_not_read_on(request_: bytes) -> None:
    async def large() -> None:
        async with served(Worker()) as port:
            with contextlib.suppress(ConnectionError):
                assert b" 200 " not in await answered(port, request_)
            assert b" 200 " in await answered(port)

    asyncio.run(large())


def test_one_request_is_answered_on_a_connection_and_it_is_closed() -> None:
    """Pipelined ones are not: nobody who watches a worker needs more, and idle connections need a bound."""

    async def pipelined() -> None:
        async with served(Worker()) as port:
            whole = await answered(port, GET * 100)
            assert whole.count(b"HTTP/1.1 200") == 1
            assert b"Connection: close" in whole

    asyncio.run(pipelined())


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: \x1b[31m\x00\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_without_an_error_in_the_log(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A scanner wrote an error with its traceback for each of its requests."""

    async def answer() -> bytes:
        async with served(Worker()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            answered = await reader.read()
            writer.close()
            return answered

    assert b" 400 Bad Request" in uvloop.run(answer())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_a_body_that_is_not_encoded_as_it_says_is_no_error_in_the_log(
    encoding: bytes, gap: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Each wrote "Unhandled exception" with a traceback: to the body, which nobody asks for, the answer was there already."""
    head = (
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Encoding: " + encoding + b"\r\nContent-Length: 9\r\n\r\n"
    )

    async def answer() -> bytes:
        async with served(Worker()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            await asyncio.sleep(gap)
            writer.write(b"no archiv")
            answered = await reader.read()
            writer.close()
            return answered

    assert b" 200 OK" in uvloop.run(answer())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_what_others_wrote_reaches_no_terminal_unescaped() -> None:
    """An order's reason could move the cursor of whoever asks /readyz with curl, or reorder what is read."""
    hostile = "\x9b31m\u202e\u2028\x7f\x1b[2J"
    worker = Worker(obstacles=[ReadinessObstacle(hostile, hostile)], notes={"orders": [{"reason": hostile}]})

    body = ask(worker, "/readyz").body.decode()

    assert body.isprintable()
    page = json.loads(body)
    assert page["orders"][0]["reason"] == hostile
    assert page["obstacles"] == [{"reason": hostile, "remedy": hostile}]
