# An endpoint that is down, with real processes: 502s, then refused connections, then hangs, under load on others as well.
#
# The long form, with figures, is tests/benchmarks/bench_outage.py: it plays the same story for a minute.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.outages import play

if TYPE_CHECKING:
    from tests.conftest import Cluster
    from tests.process.outages import Story

pytestmark = [pytest.mark.kafka, pytest.mark.alone]

WAYS = {"502": 1.0, "refuse": 1.5, "hang": 5.5}
"""Seconds. The probes of the first three seconds meet all three, and the last one has hung and ended when all is over."""
MOST_PROBES = 10
"""In eight seconds, when the time between two doubles from a fifth of a second to five."""


@pytest.fixture(scope="module")
def story(kafka: Cluster) -> Story:
    return play(kafka.bootstrap_servers, rate=240, ways=WAYS, timeout=3.1)


def test_an_outage_fails_no_command_and_dead_letters_none(story: Story) -> None:
    assert story.statuses == {"succeeded": story.commands}
    assert story.letters == 0


def test_after_an_outage_all_is_applied_once_and_in_order(story: Story) -> None:
    assert story.report.clean, story.report.examples


def test_during_an_outage_the_other_endpoint_keeps_its_rate(story: Story) -> None:
    assert story.kept_elsewhere >= 0.95


def test_the_outage_was_felt_in_all_its_ways(story: Story) -> None:
    assert "http 502" in story.failures
    assert "timeout" in story.failures
    assert story.failures - {"http 502", "timeout"}, "no connection was refused"


def test_during_an_outage_the_endpoint_is_probed_and_not_stormed(story: Story) -> None:
    assert story.openings >= 1
    assert story.probes <= MOST_PROBES
