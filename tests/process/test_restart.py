# A worker that was restarted knows from the outcome topic what it has done.
#
# The long form, with 100,000 outcomes and the time that it takes, is tests/benchmarks/bench_restore.py.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.restarts import NEW, play

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cluster
    from tests.process.restarts import Story

pytestmark = pytest.mark.kafka

COMMANDS = 10_000


@pytest.fixture(scope="module")
def story(kafka: Cluster) -> Story:
    return play(kafka.bootstrap_servers, count=COMMANDS, restore_records=5000)


def test_after_a_restart_no_repeated_id_is_executed_again(story: Story) -> None:
    assert story.repeated == {"duplicate": COMMANDS}
    assert story.executed_again == 0


def test_after_a_restart_new_ids_are_executed(story: Story) -> None:
    assert story.fresh == {"succeeded": NEW}


def test_every_id_is_restored_within_seconds(
    story: Story, record_property: Callable[[str, object], None]
) -> None:
    record_property("restore_seconds", story.restore_seconds)
    assert story.known == COMMANDS
    assert story.restore_seconds < 10


def test_over_a_restart_every_record_has_one_outcome(story: Story) -> None:
    assert story.report.clean, story.report.examples
