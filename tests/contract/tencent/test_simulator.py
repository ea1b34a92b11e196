# The client against the project's own Tencent: bodies as the product makes them, signatures that are verified, a quota.

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from tests.contract.tencent.call_owner import FakeSleep, RecordingCallOwner, until
from tests.fakes.tencent import SECRET_KEY, an_app
from worker.domain.contract.actions import ACTIONS, TargetField
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.parameters import MemberInfo, Parameters
from worker.domain.effects import Attempt
from worker.tencent.client import Client
from worker.tencent.client_options import HttpOptions
from worker.testing.simulator import SimulatedApp, Simulator, SimulatorConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

NEW_KEY = "cafe0123" * 8
PARAMETERS: dict[str, Any] = {"duration": 3600, "reason": "spam", "member_info": MemberInfo(name_card="x")}
BAN = ACTIONS["group.ban_group_member"]


@pytest.fixture
async def tencent() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(apps=(SimulatedApp(1400000001, (SECRET_KEY,)),))) as simulator:
        yield simulator


@pytest.fixture
async def client(tencent: Simulator) -> AsyncIterator[Client]:
    client = Client([an_app(tencent.url)], HttpOptions(timeout=0.5), sleep=FakeSleep())
    yield client
    await client.aclose()


def a_call(
    action: str = "group.ban_group_member", *, target: str = "g1", users: tuple[str, ...] = ("u1",)
) -> Attempt:
    """One call as the product makes it."""
    row = ACTIONS[action]
    given = {name: value for name, value in PARAMETERS.items() if name in row.takes}
    body = row.body(target, users, Parameters(**given))
    return Attempt(
        call_id="c1",
        number=1,
        app="main",
        endpoint=row.endpoint,
        target="room",
        body=body,
        members=len(users),
    )


@pytest.mark.parametrize("action", ACTIONS)
async def test_every_action_is_carried_out(client: Client, tencent: Simulator, action: str) -> None:
    last = await client.call(RecordingCallOwner(attempt=a_call(action)))

    assert (last.verdict, last.error_info) == (Verdict.DONE, "")
    assert (last.request_id is not None) == (ACTIONS[action].target is TargetField.ROOM)
    (line,) = tencent.log
    assert line.applied == ("u1",)
    assert line.endpoint == ACTIONS[action].endpoint
    assert line.ignored == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("faults", "verdict", "error", "end_unknown"),
    [
        ({"transient": 1.0}, Verdict.RETRY, None, False),
        ({"answer_code": 60018}, Verdict.THROTTLE, None, False),
        ({"limit": 0}, Verdict.THROTTLE, None, False),
        ({"app_throttled": True}, Verdict.THROTTLE_APP, None, False),
        ({"bad_user_list": ["u1"]}, Verdict.MEMBER, None, False),
        ({"unknown_targets": ["g1"]}, Verdict.REFUSED, None, False),
        ({"switch_off": True}, Verdict.FORBIDDEN, None, False),
        ({"wrong_key": True}, Verdict.FATAL, None, False),
        ({"wrong_region": True}, Verdict.FATAL, None, False),
        ({"plan_expired": True}, Verdict.FATAL, None, False),
        ({"drop_before": 1.0}, Verdict.TRANSPORT, "reset", True),
        ({"drop_after": 1.0}, Verdict.TRANSPORT, "reset", True),
        ({"bad_gateway": 1.0}, Verdict.TRANSPORT, "http", True),
        ({"bad_gateway_after": 1.0}, Verdict.TRANSPORT, "http", True),
        ({"cut_body": 1.0}, Verdict.TRANSPORT, "cut", True),
        ({"hang": 1.0}, Verdict.TRANSPORT, "timeout", True),
        ({"slow_apply": 1.0}, Verdict.TRANSPORT, "reset", True),
        ({"outage": "502"}, Verdict.TRANSPORT, "http", True),
    ],
    ids=str,
)
async def test_every_fault_has_one_meaning(
    client: Client,
    tencent: Simulator,
    faults: dict[str, object],
    verdict: Verdict,
    error: str | None,
    end_unknown: bool,
) -> None:
    await _healthy_once(client)
    tencent.faults.put(**faults)

    last = await client.call(RecordingCallOwner(attempt=a_call()))

    assert (last.verdict, last.error, last.end_unknown) == (verdict, error, end_unknown)


async def test_an_endpoint_that_refuses_connections_has_been_sent_nothing(
    client: Client, tencent: Simulator
) -> None:
    await _healthy_once(client)
    tencent.faults.put(outage="refuse")

    # The first may still be written into a connection that the outage is just breaking.
    results = [await client.call(RecordingCallOwner(attempt=a_call())) for _ in range(3)]

    assert {result.verdict for result in results} == {Verdict.TRANSPORT}
    assert [(result.error, result.end_unknown) for result in results[1:]] == [("connect", False)] * 2


async def test_what_was_done_without_an_answer_is_unknown_and_then_done(
    client: Client, tencent: Simulator
) -> None:
    tencent.faults.put(drop_after=1.0)
    owner = RecordingCallOwner(retries=1, attempt=a_call())
    waiting = asyncio.Event()
    owner.permits = waiting

    call = asyncio.create_task(client.call(owner))
    await until(lambda: bool(owner.results))
    tencent.faults.clear()
    waiting.set()
    last = await call

    assert last.verdict is Verdict.DONE
    assert [result.end_unknown for result in owner.results] == [True, False]
    assert [line.applied for line in tencent.log] == [("u1",), ("u1",)]


async def test_a_key_that_is_rotated_under_load_fails_no_call(tencent: Simulator, tmp_path: Path) -> None:
    """The file first, as a Secret is updated; then the old key is taken out of service while calls are under way."""
    path = tmp_path / "key"
    path.write_text(SECRET_KEY)
    tencent.faults.put(latency=0.01, limit=100_000)
    client = Client(
        [replace(an_app(tencent.url), secret_key=None, secret_key_file=path)],
        HttpOptions(),
        sleep=FakeSleep(),
    )
    owners: list[RecordingCallOwner] = []
    left = 600

    async def caller(number: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            owner = RecordingCallOwner(retries=3, attempt=a_call(target=f"g{number}"))
            owners.append(owner)
            assert (await client.call(owner)).verdict is Verdict.DONE
            if left == 300:
                path.write_text(f"{NEW_KEY}\n")
                await _rotate(tencent, NEW_KEY)

    await asyncio.gather(*(caller(number) for number in range(20)))
    await client.aclose()

    verdicts = {result.verdict for owner in owners for result in owner.results}
    assert verdicts == {Verdict.DONE, Verdict.RESIGN}
    assert max(len(owner.results) for owner in owners) == 2


async def test_a_key_that_is_rotated_too_early_halts_until_the_file_has_it(
    tencent: Simulator, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET_KEY)
    client = Client([replace(an_app(tencent.url), secret_key=None, secret_key_file=path)], HttpOptions())
    probe = msgspec.structs.replace(a_call(), probe=True)
    await _rotate(tencent, NEW_KEY)

    before = [
        (await client.call(RecordingCallOwner(attempt=attempt))).verdict
        for attempt in (a_call(), probe, probe)
    ]
    path.write_text(NEW_KEY)
    after = [
        (await client.call(RecordingCallOwner(attempt=attempt))).verdict for attempt in (probe, a_call())
    ]
    await client.aclose()

    assert set(before) == {Verdict.FATAL}
    assert set(after) == {Verdict.DONE}


async def test_an_app_that_is_locked_is_not_hammered_with_new_signatures(tencent: Simulator) -> None:
    tencent.faults.put(lock_after=1)
    notices: list[object] = []
    client = Client([an_app(tencent.url, secret_key=NEW_KEY)], HttpOptions(), notices.append)

    verdicts = [(await client.call(RecordingCallOwner(attempt=a_call()))).verdict for _ in range(10)]
    await client.aclose()

    assert verdicts == [Verdict.FATAL] + [Verdict.LOCKED] * 9
    assert notices == []


async def _healthy_once(client: Client) -> None:
    # So that a connection is kept, as in the middle of a run.
    assert (await client.call(RecordingCallOwner(attempt=a_call(target="other")))).verdict is Verdict.DONE


async def _rotate(tencent: Simulator, key: str) -> None:
    async with httpx.AsyncClient() as web:
        reply = await web.post(f"{tencent.url}/__control/keys", json={"keys": [key]})
    assert reply.status_code == 200
