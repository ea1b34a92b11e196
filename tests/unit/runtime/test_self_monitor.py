# The look at the worker once a second: gauges, a blocked loop, a replaced command topic.

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from msgspec import structs

from tests.unit.runtime.fakes import run_scenario, settled, until
from worker.domain.contract.control_records import Order, OrderState, Scope
from worker.domain.contract.outcomes import Worker
from worker.domain.engine_snapshot import EngineSnapshot, EventCounts, OrderSnapshot, PartitionSnapshot
from worker.errors import CommittedOffsetLostError
from worker.runtime import self_monitor as observer_module
from worker.runtime.failed_command_log import FailedCommandLog
from worker.runtime.metrics import Metrics
from worker.runtime.readiness import Readiness
from worker.runtime.readyz_operator_orders import notes_of
from worker.runtime.recent_outcomes import RecentOutcomes
from worker.runtime.self_monitor import SelfMonitor, TopicFault
from worker.runtime.status_page import StatusPage

if TYPE_CHECKING:
    import pytest

    from tests.unit.runtime.fakes import RunnerHarness

STATE = EngineSnapshot(
    endpoints=(),
    partitions=(PartitionSnapshot(3, 2, 5, 0, 0), PartitionSnapshot(4, 0, 7, 0, 0)),
    halts=(),
    known_effects=0,
    unpublished=0,
    memory={},
    counts=EventCounts(),
)
PAUSE = OrderSnapshot(
    Scope(issuer="detector-7"),
    Order(OrderState.PAUSED, "bans everybody", "alice", "2026-11-28T03:00:00Z"),
    12,
)


def monitor(
    harness: RunnerHarness, metrics: Metrics, *, fault: TopicFault | None = None, **log: Any
) -> SelfMonitor:
    harness.engine.state = STATE
    consumer: Any = SimpleNamespace(lag={3: 10, 4: None}.get)
    signer = SimpleNamespace(age=lambda: 60.0, expires_in=lambda: 3600.0)
    client: Any = SimpleNamespace(signers={"main": signer})
    refusals: Any = SimpleNamespace(lasting=[SimpleNamespace(kind="sign_in", reason="refused", remedy="fix")])
    watch: Any = SimpleNamespace(obstacles=[])
    return SelfMonitor(
        harness.runner,
        consumer,
        client,
        refusals,
        Readiness(harness.runner, watch, refusals),
        metrics,
        log.get("log", SimpleNamespace(dropped=4)),
        FailedCommandLog(harness._log),
        log.get("page"),
        topic_fault=lambda: fault,
        follower=log.get("follower"),
    )


def test_the_gauges_show_what_only_the_loop_knows() -> None:
    """The lag counts from the committed offset, and a partition whose lag is unknown has none."""

    async def scenario(harness: RunnerHarness) -> None:
        metrics = Metrics(["main"])

        monitor(harness, metrics).observe()

        served = metrics.text().decode().splitlines()
        assert 'moderation_worker_lag_records{partition="3"} 15.0' in served
        assert not any('lag_records{partition="4"}' in line for line in served)
        assert 'moderation_worker_signature_age_seconds{app="main"} 60.0' in served
        assert 'moderation_worker_signature_expires_seconds{app="main"} 3600.0' in served
        assert 'moderation_worker_kafka_refused{kind="sign_in"} 1.0' in served
        assert "moderation_worker_log_lines_dropped_total 4.0" in served
        assert "moderation_worker_ready 0.0" in served

    run_scenario(scenario)


def test_the_gauges_show_how_old_things_are_and_what_waits_for_a_person() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        metrics = Metrics(["main"])
        harness.failures = [CommittedOffsetLostError("outcomes and no offset", "decide")]
        harness.runner.assigned({3: 8})
        await until(lambda: bool(harness.runner.partitions_in_doubt))
        watching = monitor(harness, metrics, follower=SimpleNamespace(unreadable=2))
        harness.engine.state = structs.replace(STATE, orders=(PAUSE,))

        watching.observe()

        def value(name: str) -> float:
            return metrics.registry.get_sample_value(f"moderation_worker_{name}") or 0.0

        assert value("partitions_in_doubt") == 1
        assert value("control_unreadable_records_total") == 2
        assert 0 <= value("pulse_age_seconds") < 60
        assert value("control_oldest_pause_seconds") > 3600
        assert watching.notes == notes_of(harness.engine.state)

    run_scenario(scenario)


def test_once_a_second_it_looks_and_says_how_many_failures_had_no_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observer_module, "OBSERVE_SECONDS", 0.01)
    looks: list[str] = []

    async def scenario(harness: RunnerHarness) -> None:
        log: Any = SimpleNamespace(dropped=0)
        watching = monitor(harness, Metrics(["main"]), log=log)
        monkeypatch.setattr(FailedCommandLog, "summarize", lambda _: looks.append("summary"))
        task = asyncio.create_task(watching.run())
        await until(lambda: len(looks) == 2)
        task.cancel()

    run_scenario(scenario)


def test_the_page_sees_the_same_engine_and_the_same_lag() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        page = StatusPage(Worker("w", "1"), RecentOutcomes(), obstacles=list)

        monitor(harness, Metrics(["main"]), page=page).observe()

        shown = json.loads(page.status())["partitions"]
        assert [(each["partition"], each["lag"], each["gap"]) for each in shown] == [(3, 15, 5), (4, None, 7)]

    run_scenario(scenario)


def test_a_replaced_command_topic_stops_the_worker_for_good() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        metrics = Metrics(["main"])
        monitor(harness, metrics).observe()
        assert harness.runner.unready_reason is None

        monitor(harness, metrics, fault=TopicFault("another topic", can_publish=False)).observe()

        assert harness.runner.waits_in_vain
        assert harness.runner.unready_reason == "another topic"

    run_scenario(scenario)


def test_another_number_of_partitions_does_not_end_publishing() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        monitor(harness, Metrics(["main"]), fault=TopicFault("7 partitions", can_publish=True)).observe()
        harness.owe()
        harness.move()
        await settled()

        assert harness.runner.unready_reason == "7 partitions"
        assert len(harness.published) == 1

    run_scenario(scenario)


def test_a_blocked_loop_is_logged_with_how_long_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late calls look like a slow network, unless the log names the cause."""
    monkeypatch.setattr(observer_module, "OBSERVE_SECONDS", 0.05)
    monkeypatch.setattr(observer_module, "STALL_SECONDS", 0.0)
    began = time.monotonic()
    logged: list[tuple[str, dict[str, Any]]] = []

    class Log:
        dropped = 0

        def __call__(self, event: str, /, **fields: Any) -> None:
            logged.append((event, fields))

    async def scenario(harness: RunnerHarness) -> None:
        watching = asyncio.create_task(monitor(harness, Metrics(["main"]), log=Log()).run())
        await asyncio.sleep(0)
        blocked = time.monotonic() + 0.06
        while time.monotonic() < blocked:
            pass
        await until(lambda: bool(logged))
        watching.cancel()

    run_scenario(scenario)

    event, fields = logged[0]
    assert event == "loop.stalled"
    assert 0.01 <= fields["seconds"] < time.monotonic() - began - 0.05
