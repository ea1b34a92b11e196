# What the benchmarks compare with is written fairly: whole batches, order, another attempt, and only the guilty fail.
#
# The batches of the baselines against the local Tencent API; their loops around Kafka run in the benchmarks alone.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.benchmarks.baselines.batches import Batches, client, waves
from tests.benchmarks.baselines.tencent_calls import Tencent
from tests.unit.testing.simulator.calls import ADMIN, APP, KEY
from worker.testing.simulator import FaultValues, SimulatedApp, Simulator, SimulatorConfig
from worker.testing.simulator.request_log import RequestLine

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio

SHAPES: Final[tuple[dict[str, Any], ...]] = (
    {"action": "group.ban_group_member", "group_id": "g", "duration": 60, "reason": "spam"},
    {"action": "group.unban_group_member", "group_id": "g"},
    {"action": "live.unban_member", "room_id": "r"},
    {"action": "room.kick_user_out", "room_id": "r", "reason": "spam"},
    {"action": "room.update_room_member_info", "room_id": "r", "member_info": {"name_card": "x"}},
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def orders(count: int, shape: dict[str, Any] = SHAPES[0]) -> list[dict[str, Any]]:
    return [{"command_id": f"c-{number}", "user_ids": [f"u-{number}"], **shape} for number in range(count)]


async def outcomes(given: Sequence[dict[str, Any]], **faults: Any) -> tuple[dict[str, str], list[int]]:
    """The status of each command, and how many users each request named."""
    config = SimulatorConfig(apps=(SimulatedApp(APP, (KEY,)),), faults=FaultValues(**faults))
    async with Simulator(config) as sim:
        async with client() as http:
            done = await Batches(Tencent(sim.url, APP, ADMIN, KEY), http).carry_out(given)
        lines = sorted((line for line in sim.log if isinstance(line, RequestLine)), key=lambda line: line.seq)
        return {each["command_id"]: each["status"] for each in done}, [len(line.users) for line in lines]


async def test_commands_that_want_the_same_share_calls_of_twenty() -> None:
    statuses, calls = await outcomes(orders(45))

    assert set(statuses.values()) == {"succeeded"}
    assert calls == [20, 20, 5]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["action"])
async def test_every_action_is_carried_out(shape: dict[str, Any]) -> None:
    statuses, _ = await outcomes(orders(3, shape))

    assert set(statuses.values()) == {"succeeded"}


async def test_only_the_user_at_fault_fails() -> None:
    statuses, calls = await outcomes(orders(20), bad_user_list=frozenset({"u-7"}))

    assert {name for name, status in statuses.items() if status == "failed"} == {"c-7"}
    assert calls == [20, *[1] * 20]


async def test_what_may_pass_is_tried_again() -> None:
    statuses, calls = await outcomes(orders(60), transient=0.3)

    assert set(statuses.values()) == {"succeeded"}
    assert len(calls) >= 3


def test_a_ban_and_its_undoing_come_one_after_the_other() -> None:
    first, second, third = (orders(1, SHAPES[number])[0] for number in (0, 1, 0))
    other = {**orders(2)[1]}

    assert waves([first, second, other, third]) == [[first, other], [second], [third]]
