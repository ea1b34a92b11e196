# Orders in the runner: no partition begins before they are known, and a guard's go to the control topic.

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.runtime.fakes import run_scenario, settled, until
from worker.domain.contract.control_records import ControlRecord, Order, OrderState, Scope
from worker.domain.effects import WriteControl
from worker.runtime import tripped_guard_writer

if TYPE_CHECKING:
    import pytest

    from tests.unit.runtime.fakes import RunnerHarness

SCOPE = Scope(issuer="detector-7")
PAUSE = ControlRecord(
    SCOPE, Order(OrderState.PAUSED, "500 members within 60 s", "guard", "2026-11-28T03:00:00Z")
)
EVERY_TIME = 1_000_000
UNREAD = "the control topic was not read yet: no call is made before it is known what is paused"


def test_no_partition_begins_before_the_control_topic_was_read() -> None:
    """Else a restart would send, for some moments, what somebody has paused."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.assigned({3: 8})
        await settled()
        assert harness.runner.unready_reason == UNREAD
        assert harness.engine.event_names() == []

        harness.runner.orders([PAUSE])
        await until(lambda: bool(harness.begun))

        assert harness.engine.event_names() == ["control_records_received", "assigned"]
        assert harness.engine.events[0] == ("control_records_received", [PAUSE])
        assert harness.runner.unready_reason is None

    run_scenario(scenario, orders=True)


def test_partitions_begin_where_there_is_no_control_topic() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.assigned({3: 8})
        harness.runner.no_orders()
        await until(lambda: bool(harness.begun))

        assert harness.runner.unready_reason is None

    run_scenario(scenario, orders=True)


def test_a_partition_that_goes_while_orders_are_awaited_is_never_begun() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.assigned({3: 8})
        harness.runner.lost([3])
        harness.runner.orders([])
        await until(lambda: "control_records_received" in harness.engine.event_names())
        await settled()

        assert harness.begun == []

    run_scenario(scenario, orders=True)


def test_an_order_of_a_guard_is_written_to_the_control_topic() -> None:
    """It holds here at once; the other replicas learn of it from the topic alone."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.move([WriteControl(PAUSE)])
        await until(lambda: bool(harness.written))

        assert harness.written == [PAUSE]

    run_scenario(scenario, orders=True)


def test_what_a_person_orders_meanwhile_is_not_overwritten_by_a_guard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guard's record could not be written for a while, and somebody has resumed the scope since."""
    monkeypatch.setattr(tripped_guard_writer, "BACKOFF", (0.001, 0.001))

    async def scenario(harness: RunnerHarness) -> None:
        harness.order_failures = EVERY_TIME
        harness.move([WriteControl(PAUSE)])
        await until(lambda: "control.write_failed" in harness.logged)
        assert "1 unwritten" in repr(harness.runner._guard_orders)

        harness.runner.orders([ControlRecord(SCOPE, None)])
        await until(lambda: "0 unwritten" in repr(harness.runner._guard_orders))

    run_scenario(scenario, orders=True)
