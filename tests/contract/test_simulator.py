# The simulator on real sockets, called through httpx and through raw bytes, on both event loops.

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import resource
import socket
import time
import zlib
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from tests.unit.testing.simulator.calls import (
    ADMIN,
    APP,
    BAN,
    KEY,
    KICK,
    LIVE_UNBAN,
    SAMPLES,
    UNBAN,
    UPDATE,
    a_query,
    signed,
)
from worker.testing.simulator import FaultValues, SimulatedApp, Simulator, SimulatorConfig
from worker.testing.simulator.connection import MAX_PIPELINED
from worker.testing.simulator.faults import ROWS
from worker.testing.simulator.request_log import RequestLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

PATIENCE: Final = 5.0
"""Seconds that anything may take that has to happen."""
GROWTH_MIB: Final = 40


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(apps=(SimulatedApp(APP, (KEY,)),))) as simulator:
        yield simulator


@pytest.fixture
async def http(sim: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sim.url, timeout=PATIENCE) as client:
        yield client


async def call(
    http: httpx.AsyncClient, endpoint: str = BAN, *, patience: float = PATIENCE, **changes: Any
) -> Any:
    """Make one call as a client of Tencent does, and return the JSON of its answer."""
    body = {**SAMPLES[endpoint], **changes}
    answer = await http.post(f"/v4/{endpoint}", params=a_query(), json=body, timeout=patience)
    return answer.json()


async def until(holds: Callable[[], Any]) -> Any:
    """Wait until a condition holds; fail after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.005)
    return found


def raw(endpoint: str = BAN, **changes: Any) -> bytes:
    """Return the bytes of one call."""
    body = json.dumps({**SAMPLES[endpoint], **changes}).encode()
    url = httpx.URL(f"/v4/{endpoint}", params=a_query())
    return f"POST {url} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def connect(sim: Simulator) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = httpx.URL(sim.url)
    return await asyncio.open_connection(url.host, url.port)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
    return int(head.split(b" ")[1]), body


def lines_of(sim: Simulator) -> list[RequestLine]:
    return sorted((line for line in sim.log if isinstance(line, RequestLine)), key=lambda line: line.seq)


@pytest.mark.parametrize("endpoint", SAMPLES)
async def test_every_endpoint_answers_as_its_page_shows(
    sim: Simulator, http: httpx.AsyncClient, endpoint: str
) -> None:
    answer = await call(http, endpoint)

    request_id = answer.pop("RequestId", None)
    assert answer == {"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0}
    assert (request_id is None) == endpoint.startswith("group_")
    (line,) = lines_of(sim)
    assert (line.endpoint, line.request_id, line.error_code) == (endpoint, request_id, 0)


async def test_request_ids_look_like_tencents_and_differ_between_two_runs() -> None:
    ids = set()
    for _ in range(2):
        async with (
            Simulator(SimulatorConfig(apps=(SimulatedApp(APP, (KEY,)),))) as sim,
            httpx.AsyncClient(base_url=sim.url) as http,
        ):
            ids.add((await call(http, LIVE_UNBAN))["RequestId"])

    assert len(ids) == 2
    assert all(re.fullmatch(r"Id-[0-9a-f]{32}-O-Seq-\d+", found) for found in ids)


async def test_the_state_is_what_the_calls_have_made_it(http: httpx.AsyncClient) -> None:
    for endpoint in (BAN, UPDATE, KICK):
        await call(http, endpoint)
    await call(http, UNBAN, Members_Account=["u1"])

    state = (await http.get("/__control/state", params={"target": "t1"})).json()

    assert list(state["group"]["bans"]) == ["u2"]
    assert state["group"]["bans"]["u2"]["until"] == pytest.approx(time.time() + 3600, abs=PATIENCE)
    assert state["room"]["members"]["u1"]["info"] == {"NameCard": "jack", "Role": "Admin"}
    assert state["room"]["members"]["u2"]["kicks"] == 1
    assert (await http.get("/__control/state")).json() == {"groups": ["t1"], "rooms": ["t1"]}


async def test_a_seeded_live_ban_can_be_lifted(http: httpx.AsyncClient) -> None:
    seeded = await http.post("/__control/state", json={"target": "t1", "live_bans": {"u1": 60, "u9": 60}})
    assert seeded.json()["room"]["live_bans"]["u1"]["banned"]

    await call(http, LIVE_UNBAN)

    state = (await http.get("/__control/state", params={"target": "t1"})).json()
    assert list(state["room"]["live_bans"]) == ["u9"]


async def test_the_quota_is_counted_where_requests_are_read(sim: Simulator, http: httpx.AsyncClient) -> None:
    sim.faults.put(limit=5, latency=0.05)

    answers = await asyncio.gather(*(call(http, LIVE_UNBAN) for _ in range(8)))

    assert Counter(answer["ErrorCode"] for answer in answers) == {0: 5, 60007: 3}
    stats = (await http.get("/__control/stats")).json()
    assert stats["highest_second"][LIVE_UNBAN][str(APP)]["requests"] == 8
    assert stats["highest_second"][LIVE_UNBAN][str(APP)]["admitted"] == 5
    assert stats["requests"][LIVE_UNBAN] == {"0": 5, "60007": 3}
    assert stats["members_applied"] == {LIVE_UNBAN: 10}


async def test_pipelined_requests_are_answered_in_their_order(sim: Simulator) -> None:
    sim.faults.put(latency=0.02, latency_jitter=1.0, limit=1000)
    reader, writer = await connect(sim)
    count = 2 * MAX_PIPELINED

    writer.write(b"".join(raw(LIVE_UNBAN, RoomId=f"room-{number}") for number in range(count)))
    ids = [json.loads((await read_answer(reader))[1])["RequestId"] for _ in range(count)]
    writer.close()

    assert [line.request_id for line in lines_of(sim)] == ids
    assert [line.target for line in lines_of(sim)] == [f"room-{number}" for number in range(count)]


async def test_a_thousand_requests_at_once_on_one_connection_are_all_answered(sim: Simulator) -> None:
    sim.faults.put(limit=2000)
    reader, writer = await connect(sim)

    writer.write(raw() * 1000)
    answers = [await read_answer(reader) for _ in range(1000)]
    writer.close()

    assert {status for status, _ in answers} == {200}
    assert len(lines_of(sim)) == 1000


async def test_requests_that_waited_for_a_slow_one_are_answered_without_end_of_stack(sim: Simulator) -> None:
    sim.faults.put(latency=0.05)
    reader, writer = await connect(sim)
    short = b"GET /__control/healthz HTTP/1.1\r\n\r\n"

    writer.write(raw() * MAX_PIPELINED + short * 4000)
    answers = [await read_answer(reader) for _ in range(MAX_PIPELINED + 4000)]
    writer.close()

    assert {status for status, _ in answers} == {200}


async def test_a_request_in_pieces_is_one_request_stamped_at_its_last_byte(sim: Simulator) -> None:
    reader, writer = await connect(sim)
    whole = raw()

    for byte in whole[:-1]:
        writer.write(bytes((byte,)))
        await writer.drain()
    before = time.monotonic()
    writer.write(whole[-1:])
    answer = await read_answer(reader)
    writer.close()

    assert answer[0] == 200
    (line,) = lines_of(sim)
    assert before <= line.at <= time.monotonic()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"drop_before": 1.0}, httpx.RemoteProtocolError),
        ({"drop_after": 1.0}, httpx.RemoteProtocolError),
        ({"cut_body": 1.0}, httpx.RemoteProtocolError),
        ({"slow_apply": 1.0, "slow_apply_seconds": 0.01}, httpx.ReadError),
        ({"outage": "refuse", "target": "t1"}, httpx.ReadError),
        ({"outage": "hang", "endpoint": BAN}, httpx.ReadTimeout),
        ({"hang": 1.0}, httpx.ReadTimeout),
    ],
    ids=str,
)
async def test_the_client_sees_each_connection_fault(
    sim: Simulator, http: httpx.AsyncClient, fault: dict[str, Any], error: type[Exception]
) -> None:
    sim.faults.put(**fault)

    with pytest.raises(error):
        await call(http, patience=0.1)

    sim.faults.clear()
    assert (await call(http))["ErrorCode"] == 0


async def test_a_bad_gateway_answers_with_html(sim: Simulator, http: httpx.AsyncClient) -> None:
    sim.faults.put(bad_gateway=1.0)

    answer = await http.post(f"/v4/{BAN}", params=a_query(), json=SAMPLES[BAN])

    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert (lines_of(sim)[0].http_status, lines_of(sim)[0].error_code) == (502, None)


async def test_a_slow_effect_comes_after_the_answer_is_lost(sim: Simulator, http: httpx.AsyncClient) -> None:
    sim.faults.put(slow_apply=1.0, slow_apply_seconds=0.05, slow_apply_end="hang")

    with pytest.raises(httpx.ReadTimeout):
        await call(http, patience=0.05)
    lost = time.monotonic()

    await until(lambda: len(sim.log) == 2)
    assert sim.log[1].applied == ("u1", "u2")
    assert sim.log[1].applied_at is not None
    assert sim.log[1].applied_at >= lost - 0.05
    assert list(sim.state("t1")["group"]["bans"]) == ["u1", "u2"]


async def test_a_request_whose_client_gives_up_is_logged_as_unanswered(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    sim.faults.put(latency=0.2)

    with pytest.raises(httpx.ReadTimeout):
        await call(http, patience=0.05)

    await until(lambda: sim.log)
    (line,) = lines_of(sim)
    assert (line.http_status, line.request_id, line.applied) == (None, None, ("u1", "u2"))


async def test_while_connections_are_refused_nothing_listens_and_then_the_same_port_does(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    await call(http)

    answer = await http.patch("/__control/faults", json={"outage": "refuse", "for_seconds": 0.3})
    assert answer.status_code == 200
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError)):
        await call(http)
    refused = 0
    while True:
        try:
            async with httpx.AsyncClient(base_url=sim.url) as fresh:
                answer = await call(fresh)
        except httpx.ConnectError:
            refused += 1
            await asyncio.sleep(0.01)
        else:
            break

    assert refused > 1
    assert answer["ErrorCode"] == 0


async def test_open_connections_are_cut_when_connections_begin_to_be_refused(sim: Simulator) -> None:
    reader, writer = await connect(sim)
    writer.write(raw())
    await read_answer(reader)

    sim.faults.put(outage="refuse")

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    writer.close()


async def test_a_control_connection_that_is_open_outlasts_a_refusal_and_can_end_it(sim: Simulator) -> None:
    async with httpx.AsyncClient(base_url=sim.url) as control, httpx.AsyncClient(base_url=sim.url) as http:
        await control.patch("/__control/faults", json={"outage": "refuse", "for_seconds": 3600})
        await until(lambda: _is_refused(sim.url))

        ended = await control.delete("/__control/faults")
        await until(lambda: not _is_refused(sim.url))

        assert ended.status_code == 200
        assert (await call(http))["ErrorCode"] == 0


def _is_refused(address: str) -> bool:
    url = httpx.URL(address)
    with socket.socket() as sock:
        return sock.connect_ex((url.host, url.port)) != 0


async def test_no_other_process_can_take_the_port_while_connections_are_refused(sim: Simulator) -> None:
    sim.faults.put(outage="refuse")
    await until(lambda: _is_refused(sim.url))

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", httpx.URL(sim.url).port))
    sim.faults.clear()


async def test_the_table_of_faults_is_shown_with_what_is_set(http: httpx.AsyncClient) -> None:
    await http.patch("/__control/faults", json={"outage": "502", "endpoint": KICK, "for_seconds": 60})
    await http.post("/__control/faults", json={"bad_user_list": ["u7"]})

    shown = (await http.get("/__control/faults")).json()

    table = {row["name"]: row for row in shown["faults"]}
    assert list(table) == list(ROWS)
    assert table["bad_user_list"]["value"] == ["u7"]
    assert table["limit"] == {
        "name": "limit", "type": "an integer from 0 to 4294967295", "default": 200, "unit": "requests",
        "meaning": ROWS["limit"].meaning, "value": 200,
    }  # fmt: skip
    assert [(rule["endpoint"], rule["fault"], rule["value"]) for rule in shown["set"]] == [
        (KICK, "outage", "502"),
        (None, "bad_user_list", ["u7"]),
    ]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"no json", ["body"]),
        (b"[]", ["body"]),
        (b"[" * 100_000, ["body"]),
        (b'{"transient_codes": [10002, 4294967296]}', ["transient_codes"]),
        (b"{}", ["faults"]),
        (b'{"outge": "502", "transient": "x"}', ["outge", "transient"]),
        (b'{"outage": "502", "endpoint": "x", "for_seconds": -1}', ["endpoint", "for_seconds"]),
        (b'{"outage": "refuse"}', ["for_seconds"]),
    ],
)
async def test_a_wrong_fault_is_refused_with_its_field_and_the_remedy(
    http: httpx.AsyncClient, body: bytes, fields: list[str]
) -> None:
    answer = await http.patch("/__control/faults", content=body)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == fields
    assert all(error["remedy"] for error in answer.json()["errors"])
    assert (await call(http))["ErrorCode"] == 0


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("state", {"live_bans": {"u1": 1}}, "target"),
        ("state", {"target": "t1", "live_bans": ["u1"]}, "live_bans"),
        ("state", {"target": "t1", "live_bans": {"u1": 10**400}}, "live_bans"),
        ("state", {"target": "t1", "live_bans": {"u1": -1}}, "live_bans"),
        ("state", {"target": "t1", "live_ban": {"u1": 60}}, "live_ban"),
        ("state", {"target": "t1", "rejoin": "u1"}, "rejoin"),
        ("state", {"target": "t1", "sdkappid": 7}, "sdkappid"),
        ("keys", {"keys": []}, "keys"),
        ("keys", {"keys": ["k"], "app": 1}, "app"),
        ("keys", {"keys": ["k"], "sdkappid": "x"}, "sdkappid"),
    ],
)
async def test_every_refusal_of_the_control_names_the_field(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await http.post(f"/__control/{path}", json=body)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


async def test_a_misspelt_question_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get("/__control/state?traget=t1")

    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"field": "traget", "remedy": "there are: sdkappid, target"}]


async def test_an_unknown_path_says_what_there_is(http: httpx.AsyncClient) -> None:
    statuses = [
        (await http.request(method, path)).status_code
        for method, path in [
            ("GET", "/"),
            ("GET", "/__control/x"),
            ("PUT", "/__control/faults"),
            ("GET", "/__control/healthz"),
        ]
    ]

    assert statuses == [404, 404, 405, 200]
    assert "PATCH /__control/faults" in (await http.get("/__control/x")).text


async def test_a_key_can_be_rotated_under_way(http: httpx.AsyncClient) -> None:
    async def code_with(key: str) -> int:
        query = a_query(usersig=signed(key=key))
        code: int = (await http.post(f"/v4/{BAN}", params=query, json=SAMPLES[BAN])).json()["ErrorCode"]
        return code

    await http.post("/__control/keys", json={"keys": ["new", KEY]})
    during = [await code_with(KEY), await code_with("new")]
    await http.post("/__control/keys", json={"keys": ["new"]})
    after = [await code_with(KEY), await code_with("new")]

    assert (during, after) == ([0, 0], [70009, 0])


async def test_figures_can_be_reset(sim: Simulator, http: httpx.AsyncClient) -> None:
    await call(http)

    await http.delete("/__control/stats")

    assert sim.stats["requests"] == {}
    assert sim.stats["highest_second"][BAN][str(APP)]["requests"] == 0


async def test_a_stall_of_the_loop_is_reported(sim: Simulator) -> None:
    await asyncio.sleep(0.02)  # a heartbeat is due
    busy_until = time.monotonic() + 0.1
    while time.monotonic() < busy_until:
        pass

    await until(lambda: sim.stats["longest_stall_seconds"] > 0.08)
    assert busy_until - 0.05 < sim.stats["longest_stall_at"] <= time.monotonic()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /v4/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST /v4/x HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
    ],
)
async def test_bytes_that_are_no_request_are_answered_and_the_connection_is_closed(
    sim: Simulator, sent: bytes, status: int
) -> None:
    reader, writer = await connect(sim)

    writer.write(sent)
    answer = await read_answer(reader)

    assert answer[0] == status
    writer.close()
    assert lines_of(sim) == []


async def test_expect_100_continue_is_answered(sim: Simulator) -> None:
    reader, writer = await connect(sim)
    head, _, body = raw().partition(b"\r\n\r\n")

    writer.write(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert await read_answer(reader) == (100, b"")
    writer.write(body)
    answer = await read_answer(reader)
    writer.close()

    assert answer[0] == 200


async def test_a_connection_is_closed_when_the_client_asks_for_it(sim: Simulator) -> None:
    reader, writer = await connect(sim)

    writer.write(raw().replace(b"Host: h", b"Connection: close"))
    status, _ = await read_answer(reader)
    rest = await reader.read()
    writer.close()

    assert (status, rest) == (200, b"")


@pytest.mark.parametrize("latency", [0, 0.05])
async def test_what_follows_a_request_that_asks_for_the_end_changes_nothing(
    sim: Simulator, latency: float
) -> None:
    """It was carried out, and its answer was never sent: the client must take it for lost (RFC 9112, 9.6)."""
    sim.faults.put(latency=latency)
    reader, writer = await connect(sim)

    writer.write(raw(GroupId="first").replace(b"Host: h", b"Connection: close") + raw(GroupId="second"))
    status, _ = await read_answer(reader)
    rest = await reader.read()
    writer.close()

    assert (status, rest) == (200, b"")
    assert [line.target for line in lines_of(sim)] == ["first"]
    assert sim.state("second")["group"] is None


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "cut_body"])
async def test_what_follows_a_request_on_a_connection_that_is_cut_is_not_read(
    sim: Simulator, fault: str
) -> None:
    """What stood in the same packet was carried out although the connection was closed already."""
    sim.faults.put(**{fault: 1.0})
    reader, writer = await connect(sim)

    writer.write(raw(GroupId="first") + raw(GroupId="second"))
    await reader.read()
    writer.close()

    assert [line.target for line in lines_of(sim)] == ["first"]


async def test_a_client_that_hangs_up_after_its_last_request_is_noticed(sim: Simulator) -> None:
    """An effect that waits for the client's end would never come if nothing were read after the last request."""
    sim.faults.put(slow_apply=1.0, slow_apply_seconds=0.01, slow_apply_end="hang")
    _, writer = await connect(sim)

    writer.write(raw().replace(b"Host: h", b"Connection: close") + b"GARBAGE\r\n\r\n" * 100)
    await until(lambda: lines_of(sim))
    writer.close()

    await until(lambda: len(sim.log) == 2)


async def test_garbage_behind_a_request_that_hangs_takes_no_memory(sim: Simulator) -> None:
    """One client could fill the memory: 300 MB sent were 300 MB held."""
    sim.faults.put(outage="hang")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, writer = await connect(sim)

    writer.write(raw() + b"GARBAGE\r\n\r\n")
    async with asyncio.timeout(4 * PATIENCE):
        for _ in range(1_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
    writer.transport.abort()

    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < GROWTH_MIB


async def test_a_signature_that_is_not_ascii_is_refused_and_leaves_no_gap_in_the_log(
    sim: Simulator, http: httpx.AsyncClient
) -> None:
    """The call was in the quota and not in the log, so whoever judged a run missed it."""
    content = {
        "TLS.ver": "2.0", "TLS.identifier": ADMIN, "TLS.sdkappid": APP, "TLS.time": 1, "TLS.expire": 1, "TLS.sig": "é",
    }  # fmt: skip
    packed = base64.b64encode(zlib.compress(json.dumps(content).encode())).decode()
    usersig = packed.translate(str.maketrans("+/=", "*-_"))

    answer = await http.post(f"/v4/{BAN}", params=a_query(usersig=usersig), json=SAMPLES[BAN])
    await call(http)

    assert answer.json()["ErrorCode"] == 70009
    assert [line.seq for line in lines_of(sim)] == [1, 2]


async def test_a_target_may_stand_in_the_url_as_it_was_typed(sim: Simulator, http: httpx.AsyncClient) -> None:
    """`curl '…/__control/state?target=群'` showed another group, that nobody had touched."""
    await call(http, GroupId="群")
    reader, writer = await connect(sim)

    shown = []
    for target in ("群", "%E7%BE%A4"):
        writer.write(f"GET /__control/state?target={target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        shown.append(json.loads((await read_answer(reader))[1]))
    writer.close()

    assert [state["target"] for state in shown] == ["群", "群"]
    assert all(state["group"]["bans"] for state in shown)


async def test_the_log_file_is_written_while_the_simulator_runs_and_is_whole_at_its_end(
    tmp_path: Path,
) -> None:
    path = tmp_path / "requests.jsonl"
    config = SimulatorConfig(
        apps=(SimulatedApp(APP, (KEY,), (ADMIN,)),), faults=FaultValues(latency=0.01), log=path
    )

    async with Simulator(config) as sim, httpx.AsyncClient(base_url=sim.url) as http:
        await call(http, LIVE_UNBAN)
        await until(lambda: path.read_bytes().endswith(b"\n"))
        sim.faults.put(latency=60)
        with pytest.raises(httpx.ReadTimeout):
            await call(http, KICK, patience=0.05)

    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(line["seq"], line["endpoint"], line["http_status"]) for line in lines] == [
        (1, LIVE_UNBAN, 200),
        (2, KICK, None),
    ]
    assert lines[0]["wall"] == pytest.approx(time.time(), abs=PATIENCE)


async def test_neither_key_nor_signature_is_written_or_shown(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    config = SimulatorConfig(apps=(SimulatedApp(APP, (KEY,)),), log=path)

    async with Simulator(config) as sim, httpx.AsyncClient(base_url=sim.url) as http:
        for endpoint in SAMPLES:
            await call(http, endpoint)
        await http.post(f"/v4/{BAN}?{httpx.QueryParams(a_query(contenttype='xml'))}")
        shown = [(await http.get(f"/__control/{name}")).text for name in ("faults", "state", "stats")]
        texts = [*shown, path.read_text("utf-8"), repr(sim), repr(config), repr(sim.log)]

    texts.append(path.read_text("utf-8"))
    assert not any(KEY in text or signed()[:20] in text or "usersig" in text for text in texts)


async def test_a_simulator_that_cannot_start_says_why(sim: Simulator, tmp_path: Path) -> None:
    apps = (SimulatedApp(APP, (KEY,)),)
    taken = httpx.URL(sim.url).port

    with pytest.raises(ValueError, match="transient"):
        Simulator(SimulatorConfig(apps=apps, faults=FaultValues(transient=5.0)))
    with pytest.raises(ValueError, match="outage"):
        Simulator(SimulatorConfig(apps=apps, faults=FaultValues(outage="refuse")))
    with pytest.raises(ValueError, match="apps"):
        Simulator(SimulatorConfig(apps=()))
    with pytest.raises(ValueError, match="host"):
        Simulator(SimulatorConfig(apps=apps, host=""))
    with pytest.raises(OSError, match="in use"):
        await Simulator(SimulatorConfig(apps=apps, port=taken or 0)).start()
    with pytest.raises(OSError, match="name"):
        await Simulator(SimulatorConfig(apps=apps, host="é" * 100)).start()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe that nobody reads"):
        await Simulator(SimulatorConfig(apps=apps, log=tmp_path / "pipe")).start()


async def test_a_log_may_be_a_pipe_that_somebody_reads(tmp_path: Path) -> None:
    """As a shell makes one for `--log >(gzip >calls.gz)`: what is more than it holds waits for its reader."""
    pipe, read = tmp_path / "pipe", b""
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    config = SimulatorConfig(apps=(SimulatedApp(APP, (KEY,)),), faults=FaultValues(limit=1000), log=pipe)
    async with Simulator(config) as sim:
        _, writer = await connect(sim)
        writer.write(raw() * 500)
        await until(lambda: len(sim.log) == 500)
        while read.count(b"\n") < 500:
            with suppress(BlockingIOError):
                read += os.read(reader, 65_536)
            await asyncio.sleep(0.001)
        writer.close()
    os.close(reader)

    assert [json.loads(line)["seq"] for line in read.splitlines()] == list(range(1, 501))


async def test_a_wrong_fault_from_a_program_raises_and_sets_nothing(sim: Simulator) -> None:
    with pytest.raises(ValueError, match="outge: there is no such fault"):
        sim.faults.put(outge="502", latency=5)

    assert repr(sim.faults) == "<Faults 0 set>"
