# How soon a transaction follows another: an outcome waits for it, and each costs the broker the same.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.runtime.fakes import DEADLINE, run_scenario, settled, until
from worker.domain.publish_results import Aborted, Published
from worker.runtime import publish_scheduler
from worker.runtime.publish_scheduler import interval_after

if TYPE_CHECKING:
    from tests.unit.runtime.fakes import RunnerHarness

REBALANCING = Aborted("the group is rebalancing", retry_soon=True)


@pytest.fixture
def long_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_scheduler, "INTERVAL", 60.0)


@pytest.mark.parametrize(
    ("outcomes", "took", "interval"),
    [
        (1, 0.004, 0.008),
        (0, 0.004, 0.008),
        (50, 0.004, 0.025),
        (100, 0.004, 0.05),
        (200, 0.02, 0.05),
        (300, 0.02, 0.075),
        (5000, 0.02, 0.15),
        (1, 0.5, 0.05),
    ],
    ids=[
        "few",
        "offsets alone",
        "some",
        "many",
        "a whole quota",
        "five endpoints",
        "a backlog",
        "a slow broker",
    ],
)
def test_few_outcomes_wait_little_and_many_grow_the_transactions(
    outcomes: int, took: float, interval: float
) -> None:
    assert interval_after(outcomes, took) == pytest.approx(interval)


async def fail(harness: RunnerHarness) -> None:
    """Start a transaction and let it fail: until the interval is over no other starts."""
    harness.owe()
    harness.move()
    await settled()
    harness.end(REBALANCING)


def test_what_waits_for_the_interval_needs_no_further_event_however_often() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        await fail(harness)
        for count in (2, 3):
            harness.owe()
            harness.move()
            await until(lambda: len(harness.published) == count)  # noqa: B023 - it is awaited at once
            harness.end(REBALANCING)

    run_scenario(scenario)


def test_results_of_a_transaction_that_failed_go_again_without_a_further_event() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        await fail(harness)
        harness.owe()
        await until(lambda: len(harness.published) == 2)

    run_scenario(scenario)


@pytest.mark.usefixtures("long_interval")
def test_after_a_small_transaction_the_next_follows_soon() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.owe()
        harness.move()
        await settled()
        harness.owe()
        harness.end(Published())
        await until(lambda: len(harness.published) == 2)

    run_scenario(scenario)


@pytest.mark.usefixtures("long_interval")
def test_a_full_transaction_does_not_wait_for_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_scheduler, "FULL", 2)

    async def scenario(harness: RunnerHarness) -> None:
        await fail(harness)
        harness.owe()
        harness.move()
        await settled()
        assert len(harness.published) == 1
        harness.owe()
        harness.move()
        await settled()

        assert len(harness.published) == 2

    run_scenario(scenario)


@pytest.mark.usefixtures("long_interval")
def test_a_handover_does_not_wait_for_the_interval_and_what_comes_after_it_does() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        await fail(harness)
        harness.owe()
        harness.runner.revoking([3])
        await settled()
        assert len(harness.published) == 2
        harness.end(REBALANCING)
        await settled()
        harness.owe()
        harness.move()
        await settled()

        assert len(harness.published) == 2

    run_scenario(scenario)


@pytest.mark.usefixtures("long_interval")
def test_a_drain_does_not_wait_for_the_interval_after_a_handover_either() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        await fail(harness)
        harness.engine.busy = {5}
        harness.runner.stop()
        harness.runner.revoking([3])
        await settled()
        harness.owe()
        harness.move()
        await settled()

        assert len(harness.published) == 2

    run_scenario(scenario)


@pytest.mark.parametrize(("result", "counted"), [(Published(), "committed"), (REBALANCING, "aborted")])
def test_each_transaction_is_counted_with_the_time_it_took(result: Published | Aborted, counted: str) -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.owe()
        harness.move()
        await settled()
        harness.end(result)
        await settled()

        registry = harness.metrics.registry
        name = "moderation_worker_transaction"
        assert registry.get_sample_value(f"{name}s_total", {"result": counted}) == 1
        assert 0 <= (registry.get_sample_value(f"{name}_seconds_sum") or 0) < DEADLINE

    run_scenario(scenario)
