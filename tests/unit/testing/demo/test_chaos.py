# Trouble comes when it is due, once, and crashes are remembered for the checker.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from worker.testing.demo.chaos import BACK_AFTER, KILL_AT, OUTAGE_AT, THROTTLE_AT, Chaos

if TYPE_CHECKING:
    from worker.testing.demo.environment import DemoEnvironment


class Replica:
    name = "worker 1"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ready = False

    def kill(self) -> None:
        self.told.append("killed")

    def start(self) -> None:
        self.told.append("started")


class FakeStage:
    def __init__(self, replicas: int) -> None:
        self.replicas = [Replica() for _ in range(replicas)]
        self.asked: list[dict[str, Any]] = []

    def is_ready(self, replica: Replica) -> bool:
        return replica.ready

    def control(self, path: str, body: dict[str, Any]) -> None:
        assert path == "faults"
        self.asked.append(body)


@pytest.fixture
def stage() -> FakeStage:
    return FakeStage(2)


def test_each_step_is_taken_once_when_it_is_due(stage: FakeStage) -> None:
    trouble = Chaos(cast("DemoEnvironment", stage))

    assert len(trouble.look(100.0)) == 1
    assert trouble.look(100.0 + OUTAGE_AT - 0.1) == []
    assert len(trouble.look(100.0 + OUTAGE_AT)) == 1
    assert trouble.look(100.0 + OUTAGE_AT) == []
    assert stage.asked[1]["outage"] == "502"


def test_a_replica_is_killed_and_comes_back(stage: FakeStage) -> None:
    trouble = Chaos(cast("DemoEnvironment", stage))

    trouble.look(0.0)
    trouble.look(KILL_AT)
    assert stage.replicas[0].told == ["killed"]

    trouble.look(KILL_AT + BACK_AFTER)
    assert stage.replicas[0].told == ["killed", "started"]


def test_it_is_not_over_until_the_one_that_came_back_has_its_partitions(stage: FakeStage) -> None:
    trouble = Chaos(cast("DemoEnvironment", stage))
    trouble.look(0.0)
    trouble.look(1000.0)

    trouble.look(1001.0)
    before = trouble.over
    stage.replicas[0].ready = True
    trouble.look(1002.0)

    assert (before, trouble.over) == (False, True)
    crash, back = trouble.breaks
    assert crash.begin <= back.begin <= back.end


def test_the_only_replica_is_not_killed() -> None:
    stage = FakeStage(1)
    trouble = Chaos(cast("DemoEnvironment", stage))

    trouble.look(0.0)
    trouble.look(1000.0)

    assert trouble.over
    assert trouble.breaks == []
    assert stage.replicas[0].told == []
    assert [step.get("limit") for step in stage.asked if "limit" in step] == [120]
    assert THROTTLE_AT > OUTAGE_AT
