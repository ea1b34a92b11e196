# Where a page, the checker, the local Tencent API or the demo lists all actions or all orders, it lists all of them; and no page
# counts what another row would make more.

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import pytest

from tests.docs.markdown import rows, text
from tests.docs.test_prose import DOCUMENTS
from worker.domain.contract.actions import ACTIONS, ENDPOINTS
from worker.domain.contract.command_decoding import LATEST_BAN_END
from worker.domain.contract.control_records import OrderState
from worker.domain.contract.outcomes import ResultStatus
from worker.domain.contract.parameters import Parameters
from worker.testing.checker import contract as checker
from worker.testing.demo.scenario import MIX
from worker.testing.simulator.endpoint_specs import SPECS

NUMBER: Final = r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\d+)"
COUNT: Final = re.compile(
    rf"\b{NUMBER} (?:\w+ )?(?:actions|endpoints)\b|\bthe {NUMBER} above\b", re.IGNORECASE
)
MEASURED: Final = {"config/benchmarks.md": "", "README.md": "## Speed"}
"""Pages that name a load which was measured by how many endpoints it has, from which heading on."""


@pytest.mark.parametrize("page", ["CHANGELOG.md", "config/contract.md"])
def test_every_action_is_named_by_a_page_that_names_them_all(page: str) -> None:
    assert [
        name for name in ACTIONS if f"`{name}`" not in text(page) and f"## {name}" not in text(page)
    ] == []


def test_every_status_of_a_user_is_in_the_contract() -> None:
    (listed,) = re.findall(
        r"^In `results` each user has (.*?)[.] A", text("config/contract.md"), re.MULTILINE | re.DOTALL
    )

    assert re.findall(r"`(\w+)`", listed) == list(ResultStatus)


def test_the_contract_says_what_an_id_stands_for() -> None:
    (says,) = (
        cells[2]
        for cells in rows("config/contract.md", "## Fields of a command")
        if cells[0] == "`command_id`"
    )

    assert {*Parameters.__struct_fields__, "command_id_reused"} <= set(re.findall(r"`(\w+)`", says))


def test_the_contract_and_the_schema_say_until_when_a_ban_may_last() -> None:
    latest = datetime.fromtimestamp(LATEST_BAN_END, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    assert latest in text("config/contract.md")
    assert latest in text("config/command.schema.json")


def test_what_tries_the_worker_out_knows_every_action() -> None:
    assert {name: action.endpoint for name, action in ACTIONS.items()} == checker.ENDPOINTS
    assert set(ENDPOINTS) == set(SPECS)
    assert set(ACTIONS) == set(MIX)


def test_every_order_is_a_state_of_the_control_topic() -> None:
    (states,) = (
        cells[1] for cells in rows("config/contract.md", "## The control topic") if cells[0] == "value"
    )

    assert set(re.findall(r"`(\w+)`", states.partition("(")[2].partition(")")[0])) == set(OrderState)


def test_every_order_is_in_the_table_of_orders_the_strongest_first() -> None:
    """Its command has the state's name, except for an ending: pause, paused."""
    commands = [cells[0].strip("`") for cells in rows("config/running.md", "## Stopping commands")]

    assert len(commands) == len(OrderState)
    for command, state in zip(commands, OrderState, strict=True):
        assert state.startswith(command)


@pytest.mark.parametrize("page", DOCUMENTS)
def test_no_page_counts_actions_or_endpoints(page: str) -> None:
    """Whoever adds one does not look for a numeral. Write "every endpoint", or "the actions above"."""
    written = text(page)
    if page in MEASURED:
        written = written.partition(MEASURED[page] or written)[0]

    assert COUNT.findall(written) == []
