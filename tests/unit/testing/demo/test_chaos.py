# Each step is taken once, when it is due, and crashes are recorded for the checker.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from worker.testing.demo.chaos import BACK_AFTER, KILL_AT, OUTAGE_AT, THROTTLE_AT, Chaos

if TYPE_CHECKING:
    from worker.testing.demo.environment import DemoEnvironment


class Replica:
    name = "worker 1"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.ready = False

    def kill(self) -> None:
        self.calls.append("killed")

    def start(self) -> None:
        self.calls.append("started")


class FakeEnvironment:
    def __init__(self, replicas: int) -> None:
        self.replicas = [Replica() for _ in range(replicas)]
        self.asked: list[dict[str, Any]] = []

    def is_ready(self, replica: Replica) -> bool:
        return replica.ready

    def control(self, path: str, body: dict[str, Any]) -> None:
        assert path == "faults"
        self.asked.append(body)


@pytest.fixture
def environment() -> FakeEnvironment:
    return FakeEnvironment(2)


def test_each_step_is_taken_once_when_it_is_due(environment: FakeEnvironment) -> None:
    trouble = Chaos(cast("DemoEnvironment", environment))

    assert len(trouble.advance(100.0)) == 1
    assert trouble.advance(100.0 + OUTAGE_AT - 0.1) == []
    assert len(trouble.advance(100.0 + OUTAGE_AT)) == 1
    assert trouble.advance(100.0 + OUTAGE_AT) == []
    assert environment.asked[1]["outage"] == "502"


def test_a_replica_is_killed_and_restarted(environment: FakeEnvironment) -> None:
    trouble = Chaos(cast("DemoEnvironment", environment))

    trouble.advance(0.0)
    trouble.advance(KILL_AT)
    assert environment.replicas[0].calls == ["killed"]

    trouble.advance(KILL_AT + BACK_AFTER)
    assert environment.replicas[0].calls == ["killed", "started"]


def test_it_is_not_over_until_the_restarted_replica_is_ready(environment: FakeEnvironment) -> None:
    trouble = Chaos(cast("DemoEnvironment", environment))
    trouble.advance(0.0)
    trouble.advance(1000.0)

    trouble.advance(1001.0)
    before = trouble.is_over
    environment.replicas[0].ready = True
    trouble.advance(1002.0)

    assert (before, trouble.is_over) == (False, True)
    crash, back = trouble.interruptions
    assert crash.begin <= back.begin <= back.end


def test_the_only_replica_is_not_killed() -> None:
    environment = FakeEnvironment(1)
    trouble = Chaos(cast("DemoEnvironment", environment))

    trouble.advance(0.0)
    trouble.advance(1000.0)

    assert trouble.is_over
    assert trouble.interruptions == []
    assert environment.replicas[0].calls == []
    assert [step.get("limit") for step in environment.asked if "limit" in step] == [120]
    assert THROTTLE_AT > OUTAGE_AT
