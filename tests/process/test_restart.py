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
    from tests.process.restarts import RunResult

pytestmark = pytest.mark.kafka

COMMANDS = 10_000


@pytest.fixture(scope="module")
def run(kafka: Cluster) -> RunResult:
    return play(kafka.bootstrap_servers, count=COMMANDS, restore_records=5000)


def test_after_a_restart_no_repeated_id_is_executed_again(run: RunResult) -> None:
    assert run.repeated == {"duplicate": COMMANDS}
    assert run.executed_again == 0


def test_after_a_restart_new_ids_are_executed(run: RunResult) -> None:
    assert run.fresh == {"succeeded": NEW}


def test_every_id_is_restored_within_seconds(
    run: RunResult, record_property: Callable[[str, object], None]
) -> None:
    record_property("restore_seconds", run.restore_seconds)
    assert run.known == COMMANDS
    assert run.restore_seconds < 10


def test_over_a_restart_every_record_has_one_outcome(run: RunResult) -> None:
    assert run.report.clean, run.report.examples
