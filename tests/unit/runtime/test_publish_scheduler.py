# How soon a transaction follows another: an outcome waits for it, and each costs the broker the same.

from __future__ import annotations

import pytest

from worker.runtime.publish_scheduler import interval_after


@pytest.mark.parametrize(
    ("outcomes", "took", "interval"),
    [
        (1, 0.004, 0.008),
        (0, 0.004, 0.008),
        (50, 0.004, 0.025),
        (100, 0.004, 0.05),
        (200, 0.02, 0.05),
        (300, 0.02, 0.075),
        (5000, 0.02, 0.15),
        (1, 0.5, 0.05),
    ],
    ids=[
        "few",
        "offsets alone",
        "some",
        "many",
        "a whole quota",
        "five endpoints",
        "a backlog",
        "a slow broker",
    ],
)
def test_few_outcomes_wait_little_and_many_grow_the_transactions(
    outcomes: int, took: float, interval: float
) -> None:
    assert interval_after(outcomes, took) == pytest.approx(interval)
