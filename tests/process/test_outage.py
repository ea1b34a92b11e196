# An endpoint that is down, with real processes: 502s, then refused connections, then hangs, under load on others as well.
#
# The long form, with figures, is tests/benchmarks/bench_outage.py: it plays the same run for a minute.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.outages import play

if TYPE_CHECKING:
    from tests.conftest import Cluster
    from tests.process.outages import RunResult

pytestmark = [pytest.mark.kafka, pytest.mark.alone]

WAYS = {"502": 1.0, "refuse": 1.5, "hang": 5.5}
"""Seconds. The probes of the first three seconds meet all three, and the last one has hung and ended when all is over."""
MOST_PROBES = 10
"""In eight seconds, when the time between two doubles from a fifth of a second to five."""


@pytest.fixture(scope="module")
def run(kafka: Cluster) -> RunResult:
    return play(kafka.bootstrap_servers, rate=240, ways=WAYS, timeout=3.1)


def test_an_outage_fails_no_command_and_dead_letters_none(run: RunResult) -> None:
    assert run.statuses == {"succeeded": run.commands}
    assert run.letters == 0


def test_after_an_outage_all_is_applied_once_and_in_order(run: RunResult) -> None:
    assert run.report.clean, run.report.examples


def test_during_an_outage_the_other_endpoint_keeps_its_rate(run: RunResult) -> None:
    assert run.kept_elsewhere >= 0.95


def test_the_outage_was_felt_in_all_its_ways(run: RunResult) -> None:
    assert "http 502" in run.failures
    assert "timeout" in run.failures
    assert run.failures - {"http 502", "timeout"}, "no connection was refused"


def test_during_an_outage_the_endpoint_is_probed_and_not_stormed(run: RunResult) -> None:
    assert run.openings >= 1
    assert run.probes <= MOST_PROBES
