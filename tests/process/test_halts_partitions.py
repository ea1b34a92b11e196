# Partitions that are added while replicas run: keys move, so order and dedupe would not hold. The replicas halt and say so.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.environment import Environment, command
from worker.testing.checker.contract import BAN
from worker.testing.demo.environment import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from worker.testing.checker.evidence import PlannedRecord

pytestmark = pytest.mark.kafka

COUNT = 60
NOTICED_WITHIN = 20.0
QUIET = 1.5
"""So long is it watched that nothing is carried out any more, in seconds."""


@pytest.fixture
def environment(kafka: Cluster) -> Iterator[Environment]:
    with Environment(kafka.bootstrap_servers) as environment:
        # It looks at the topic each second instead of each minute.
        worker = environment.stage.start_worker({"kafka": {"consumer": {"metadata_max_age_ms": 1000}}})
        environment.stage.wait_until_ready(worker)
        yield environment


def test_a_replica_that_sees_another_count_of_partitions_halts_and_says_so(environment: Environment) -> None:
    environment.send(bans("before"))
    environment.play_to_the_end()

    with environment.admin() as admin:
        admin.create_partitions({environment.stage.topics.commands: PARTITIONS + 2})
    environment.play_until(lambda: bool(environment.events("worker.refused")), NOTICED_WITHIN, "halted")
    # The outcome topic has too few partitions now, and may be listed as well.
    obstacle = next(each for each in environment.obstacles() if "at the start" in each["reason"])
    after = environment.send(bans("after"))
    environment.play(QUIET)

    assert f"has {PARTITIONS + 2} partitions now, and had {PARTITIONS} at the start" in obstacle["reason"]
    assert "stop all replicas, then start them again" in obstacle["reason"]
    (logged,) = environment.events("worker.refused")
    assert (logged["level"], logged["reason"]) == ("error", obstacle["reason"])
    assert after.done
    assert environment.outcomes_of(after) == []
    assert not any("after" in user for one in environment.requests() for user in one.users)
    assert environment.ask("/livez")[0] == 200
    environment.end()


def bans(stem: str) -> list[PlannedRecord]:
    return [
        command(BAN, f"group-{each}", f"{stem}-{each}", f"{stem}-{each}", duration=60)
        for each in range(COUNT)
    ]
