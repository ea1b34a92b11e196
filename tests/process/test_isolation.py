# One room that hangs among fifty under load: the others must not feel it.
#
# The long form, with Tencent's own timeout, is tests/benchmarks/bench_outage.py.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.hanging import play

if TYPE_CHECKING:
    from tests.conftest import Cluster
    from tests.process.hanging import RunResult

pytestmark = [pytest.mark.kafka, pytest.mark.alone]


@pytest.fixture(scope="module")
def run(kafka: Cluster) -> RunResult:
    return play(kafka.bootstrap_servers, rate=360, limit=36, hang=5.5, timeout=4.0)


def test_while_the_busiest_room_hangs_the_others_keep_their_rate(run: RunResult) -> None:
    assert run.hung_requests > 0
    assert run.kept_elsewhere >= 0.95


def test_what_hung_is_carried_out_afterwards_and_nothing_has_failed(run: RunResult) -> None:
    assert run.statuses == {"succeeded": run.commands}
    assert run.letters == 0
    assert run.report.clean, run.report.examples
