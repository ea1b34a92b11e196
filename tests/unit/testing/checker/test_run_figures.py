# The figures of a run.

from __future__ import annotations

import pytest

from tests.unit.testing.checker.stand_in import honest_run
from worker.testing.checker.run_figures import figures, percentile
from worker.testing.demo.scenario import plan

EVIDENCE = honest_run(plan(2000, seed=5))


def test_every_outcome_and_every_request_is_counted() -> None:
    counted = figures(EVIDENCE)

    assert sum(counted.statuses.values()) == len(EVIDENCE.outcomes)
    assert sum(one.calls for one in counted.endpoints) == len(EVIDENCE.requests)
    assert sum(one.refused for one in counted.endpoints) == sum(one.code != 0 for one in EVIDENCE.requests)
    assert counted.dead_letters == len(EVIDENCE.letters)


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [([], 0.5, 0.0), ([3.0], 0.95, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), ([1.0] * 19 + [9.0], 0.95, 1.0)],
)
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(
    values: list[float], share: float, wanted: float
) -> None:
    assert percentile(values, share) == wanted
