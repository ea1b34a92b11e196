# What makes the worker not ready: every reason is listed, with its remedy.

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.runtime.fakes import play
from worker.domain.effects import Halt
from worker.errors import CommitLostError, Problem
from worker.runtime.readiness import Readiness
from worker.runtime.status_server import Obstacle

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.runtime.fakes import World

REFUSED = SimpleNamespace(kind="sign_in", reason="Kafka refuses the password", remedy="set the right one")
UNFIT = Problem("kafka.outcome_topic", "set cleanup.policy=delete", "outcomes")


def readiness(world: World, *, refused: bool = False, unfit: bool = False) -> Readiness:
    watch: Any = SimpleNamespace(obstacles=[UNFIT] if unfit else [])
    refusals: Any = SimpleNamespace(lasting=[REFUSED] if refused else [])
    return Readiness(world.runner, watch, refusals)


def _refuse(world: World) -> Readiness:
    return readiness(world, refused=True)


def _stop(world: World) -> Readiness:
    world.runner.stop()
    return readiness(world)


def _doubt(world: World) -> Readiness:
    found = readiness(world)
    world.runner._restoring.doubts[3] = CommitLostError("partition 3 has no committed offset", "decide")
    return found


def _unfit(world: World) -> Readiness:
    return readiness(world, unfit=True)


def _halt_app(world: World) -> Readiness:
    world.engine.halts = [Halt("main", None, 70009, "wrong key", "fix it", 0.0)]
    return readiness(world)


def _halt_endpoint(world: World) -> Readiness:
    world.engine.halts = [Halt("main", "svc/kick", 10007, "no permission", "grant it", 0.0)]
    return readiness(world)


@pytest.mark.parametrize(
    ("cause", "obstacle"),
    [
        (_refuse, Obstacle("Kafka refuses the password", "set the right one")),
        (_stop, Obstacle("stopping")),
        (_doubt, Obstacle("partition 3 has no committed offset", "decide")),
        (_unfit, Obstacle("topic outcomes does not fit any more", "set cleanup.policy=delete")),
        (_halt_app, Obstacle("main is halted: wrong key", "fix it")),
        (_halt_endpoint, Obstacle("svc/kick of main is halted: no permission", "grant it")),
    ],
)
def test_each_cause_is_an_obstacle_with_its_remedy(
    cause: Callable[[World], Readiness], obstacle: Obstacle
) -> None:
    async def scene(world: World) -> None:
        assert cause(world).obstacles() == [obstacle]

    play(scene)


def test_a_worker_without_obstacles_is_ready() -> None:
    async def scene(world: World) -> None:
        assert readiness(world).obstacles() == []

    play(scene)


def test_all_obstacles_are_listed_with_what_kafka_refuses_first() -> None:
    """
    An operator who fixes the first one fixes what follows from it.
    """

    async def scene(world: World) -> None:
        world.runner.stop()

        found = readiness(world, refused=True, unfit=True).obstacles()

        assert [obstacle.reason for obstacle in found] == [
            "Kafka refuses the password",
            "stopping",
            "topic outcomes does not fit any more",
        ]

    play(scene)
