# What makes the worker not ready: every reason is listed, with its remedy.

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.runtime.fakes import run_scenario
from worker.domain.effects import HaltReason
from worker.errors import CommittedOffsetLostError, SettingProblem
from worker.runtime.readiness import Readiness
from worker.runtime.status_server import ReadinessObstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.unit.runtime.fakes import RunnerHarness

REFUSED = SimpleNamespace(kind="sign_in", reason="Kafka refuses the password", remedy="set the right one")
UNFIT = SettingProblem("kafka.outcome_topic", "set cleanup.policy=delete", "outcomes")
PARTITIONS = SettingProblem("kafka.control_topic", "it has 2 partitions: delete it", "control")
POLICY = SettingProblem("kafka.control_topic", "set cleanup.policy=compact", "control")


def readiness(
    harness: RunnerHarness,
    *,
    refused: bool = False,
    unfit: bool = False,
    orders: Sequence[SettingProblem] = (),
) -> Readiness:
    follower: Any = SimpleNamespace(unfit=orders)
    watch: Any = SimpleNamespace(obstacles=[UNFIT] if unfit else [])
    refusals: Any = SimpleNamespace(lasting=[REFUSED] if refused else [])
    return Readiness(harness.runner, watch, refusals, follower)


def _refuse(harness: RunnerHarness) -> Readiness:
    return readiness(harness, refused=True)


def _stop(harness: RunnerHarness) -> Readiness:
    harness.runner.stop()
    return readiness(harness)


def _doubt(harness: RunnerHarness) -> Readiness:
    found = readiness(harness)
    harness.runner._restoring.partitions_in_doubt[3] = CommittedOffsetLostError(
        "partition 3 has no committed offset", "decide"
    )
    return found


def _unfit(harness: RunnerHarness) -> Readiness:
    return readiness(harness, unfit=True)


def _unfit_orders(harness: RunnerHarness) -> Readiness:
    return readiness(harness, orders=[PARTITIONS, POLICY])


def _halt_app(harness: RunnerHarness) -> Readiness:
    harness.engine.halts = [HaltReason("main", None, 70009, "wrong key", "fix it", 0.0)]
    return readiness(harness)


def _halt_endpoint(harness: RunnerHarness) -> Readiness:
    harness.engine.halts = [HaltReason("main", "svc/kick", 10007, "no permission", "grant it", 0.0)]
    return readiness(harness)


@pytest.mark.parametrize(
    ("cause", "obstacle"),
    [
        (_refuse, ReadinessObstacle("Kafka refuses the password", "set the right one")),
        (_stop, ReadinessObstacle("stopping")),
        (_doubt, ReadinessObstacle("partition 3 has no committed offset", "decide")),
        (_unfit, ReadinessObstacle("topic outcomes does not fit any more", "set cleanup.policy=delete")),
        (
            _unfit_orders,
            ReadinessObstacle(
                "the control topic does not fit: no new order is followed",
                "it has 2 partitions: delete it; set cleanup.policy=compact",
            ),
        ),
        (_halt_app, ReadinessObstacle("main is halted: wrong key", "fix it")),
        (_halt_endpoint, ReadinessObstacle("svc/kick of main is halted: no permission", "grant it")),
    ],
)
def test_each_cause_is_an_obstacle_with_its_remedy(
    cause: Callable[[RunnerHarness], Readiness], obstacle: ReadinessObstacle
) -> None:
    async def scenario(harness: RunnerHarness) -> None:
        assert cause(harness).obstacles() == [obstacle]

    run_scenario(scenario)


def test_a_worker_without_obstacles_is_ready() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        assert readiness(harness).obstacles() == []

    run_scenario(scenario)


def test_all_obstacles_are_listed_with_what_kafka_refuses_first() -> None:
    """An operator who fixes the first one fixes what follows from it."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.stop()

        found = readiness(harness, refused=True, unfit=True).obstacles()

        assert [obstacle.reason for obstacle in found] == [
            "Kafka refuses the password",
            "stopping",
            "topic outcomes does not fit any more",
        ]

    run_scenario(scenario)


def test_what_follower_and_watch_both_find_at_the_control_topic_is_one_obstacle() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        found = readiness(harness, unfit=True, orders=[PARTITIONS, UNFIT]).obstacles()

        assert [obstacle.reason for obstacle in found] == [
            "the control topic does not fit: no new order is followed"
        ]

    run_scenario(scenario)
