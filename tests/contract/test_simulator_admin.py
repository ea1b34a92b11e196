# Who may control the local API: programs of this machine, and no page that a browser has open.

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from worker.testing.simulator import SimulatedApp, Simulator, SimulatorConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

KEY = "k" * 64


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(apps=(SimulatedApp(1400000001, (KEY,)),))) as simulator:
        yield simulator


async def ask(sim: Simulator, method: str = "PATCH", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=sim.url) as http:
        return await http.request(
            method,
            "/__control/faults",
            json={"transient": 1.0} if method == "PATCH" else None,
            headers={name: value.replace("PORT", str(http.base_url.port)) for name, value in headers.items()},
        )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:PORT"},
        {"Origin": "http://127.0.0.1:PORT.evil.example"},
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT"},
        {"Host": "127.0.0.1.evil.example:PORT"},
        {"Host": "localhost.evil.example"},
        {"Host": "10.0.0.1:PORT"},
        {"Host": "evil.example:PORT", "Origin": "http://evil.example:PORT"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_a_page_of_another_site_controls_nothing_and_reads_nothing(
    sim: Simulator, headers: dict[str, str], method: str
) -> None:
    """A site can resolve its own name to 127.0.0.1, and its script then seems to be local."""
    answer = await ask(sim, method, **headers)

    assert answer.status_code == 403
    (error,) = answer.json()["errors"]
    assert error["field"] in headers
    assert error["remedy"]
    assert (await ask(sim, "GET")).json()["set"] == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:PORT"},
        {"Host": "LOCALHOST"},
        {"Host": "127.1.2.3:PORT"},
        {"Host": "[::1]:PORT"},
        {"Host": "localhost:PORT", "Origin": "http://localhost:PORT"},
    ],
    ids=str,
)
async def test_a_program_of_this_machine_controls_it(sim: Simulator, headers: dict[str, str]) -> None:
    assert (await ask(sim, **headers)).status_code == 200


async def test_a_simulator_for_other_machines_has_any_name_and_still_obeys_no_page() -> None:
    """In a compose file it is reached by its service's name."""
    config = SimulatorConfig(apps=(SimulatedApp(1400000001, (KEY,)),), host="0.0.0.0")  # noqa: S104 - what is tested
    async with Simulator(config) as sim:
        assert (await ask(sim, Host="tencent.test.svc.cluster.local")).status_code == 200
        assert (await ask(sim, Origin="https://evil.example")).status_code == 403
        assert (await ask(sim, Host="evil.example", Origin="http://evil.example")).status_code == 403
