# The main job, end to end: the real processes on a real Kafka, judged by the demo's checker from outside.
#
# A raid goes in, replicas die or go, and in the end every command has one outcome, every user the right state.
# TEST_TURNOVER_SECONDS makes the turnovers longer (a minute, say) than the default run has time for.

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from tests.process.chaos import Freeze, Turnover
from worker.testing.checker.evidence import ViolationKind
from worker.testing.checker.evidence_check import check
from worker.testing.demo.environment import DemoEnvironment
from worker.testing.demo.raid_run import carry_out, wanted_outcomes
from worker.testing.demo.scenario import plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from worker.testing.checker.evidence_check import CheckReport
    from worker.testing.demo.raid_run import FinishedRaid
    from worker.testing.demo.scenario import Scenario

TURNOVER_SECONDS: Final = float(os.environ.get("TEST_TURNOVER_SECONDS", "20"))
COMMANDS_PER_SECOND: Final = 300
FROZEN_SECONDS: Final = 10.0
"""The stage's sessions last 6 s."""
STALL: Final = 0.2
"""A run in which the simulator stalled for longer says nothing about the quota: its stamps were late."""

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240 + 3 * TURNOVER_SECONDS)]


@pytest.fixture
def stage(kafka: Cluster) -> Iterator[DemoEnvironment]:
    with DemoEnvironment(kafka.bootstrap_servers) as stage:
        stage.start_kafka()
        yield stage


def begin(stage: DemoEnvironment, raid: Scenario, *flags: str, replicas: int = 1) -> None:
    """Starts the simulator, which knows the raid's bad users, and that many workers."""
    stage.start_simulator("--latency", "0.03", "--latency-jitter", "0.5", "--apply-point", "random", *flags)
    stage.control("faults", {"bad_user_list": raid.bad_users})
    for replica in [stage.start_worker() for _ in range(replicas)]:
        stage.wait_until_ready(replica)


def judged(seen: FinishedRaid) -> CheckReport:
    """The checker's report, without what it says of the quota when the simulator's stamps were late."""
    report = check(seen.evidence)
    if seen.longest_stall > STALL:
        report.counts[ViolationKind.OVER_QUOTA] = 0
    return report


def test_10_000_commands_of_all_actions_and_200_bad_records_each_end_as_they_must(
    stage: DemoEnvironment,
) -> None:
    raid = plan(10_000, seed=11)
    begin(stage, raid)

    seen = carry_out(stage, raid)

    report = judged(seen)
    assert report.clean, report.examples
    assert len(seen.evidence.outcomes) == wanted_outcomes(raid)
    assert seen.exit_codes == {"worker 1": 0}


def test_replicas_that_are_killed_lose_nothing_double_nothing_and_keep_the_order(
    stage: DemoEnvironment,
) -> None:
    raid = plan(round(COMMANDS_PER_SECOND * TURNOVER_SECONDS), seed=12)
    begin(stage, raid, "--transient", "0.01", replicas=3)
    turnover = Turnover(stage, TURNOVER_SECONDS, every=4.0, kill=True)

    seen = carry_out(stage, raid, rate=COMMANDS_PER_SECOND, chaos=turnover)

    report = judged(seen)
    assert report.clean, report.examples
    assert turnover.goings >= TURNOVER_SECONDS / 8
    assert set(seen.exit_codes.values()) == {0}


def test_replicas_that_are_asked_to_stop_hand_over_so_that_nothing_is_done_twice(
    stage: DemoEnvironment,
) -> None:
    """The checker hears of no break: a clean stop is no excuse for a repeat."""
    raid = plan(round(COMMANDS_PER_SECOND * TURNOVER_SECONDS), seed=13)
    begin(stage, raid, replicas=3)
    turnover = Turnover(stage, TURNOVER_SECONDS, every=5.0, kill=False)

    seen = carry_out(stage, raid, rate=COMMANDS_PER_SECOND, chaos=turnover)

    report = judged(_without_interruptions(seen))
    assert report.clean, report.examples
    assert turnover.goings >= TURNOVER_SECONDS / 10


def test_a_replica_that_was_frozen_longer_than_its_session_does_no_harm(
    stage: DemoEnvironment,
) -> None:
    """It goes on with what it believes to own."""
    raid = plan(round(COMMANDS_PER_SECOND * (FROZEN_SECONDS + 6.0)), seed=15)
    begin(stage, raid, replicas=2)
    freeze = Freeze(stage, after=3.0, seconds=FROZEN_SECONDS)

    seen = carry_out(stage, raid, rate=COMMANDS_PER_SECOND, chaos=freeze)

    report = judged(seen)
    assert report.clean, report.examples
    assert seen.exit_codes == {"worker 1": 0, "worker 2": 0}


def test_a_stop_within_a_backlog_finishes_what_is_started(
    stage: DemoEnvironment,
) -> None:
    """The next start goes on with the rest."""
    raid = plan(6_000, seed=14)
    begin(stage, raid)
    stop = Turnover(stage, seconds=0.0, every=1.0, kill=False, back_after=0.1)

    seen = carry_out(stage, raid, chaos=stop)

    report = judged(_without_interruptions(seen))
    assert report.clean, report.examples
    assert stop.goings == 1


def _without_interruptions(seen: FinishedRaid) -> FinishedRaid:
    return replace(seen, evidence=replace(seen.evidence, interruptions=()))
