# What the demo concludes from a run that is over.

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.testing.checker.stand_in import honest_run
from worker.testing.demo.main import DemoOptions, conclude
from worker.testing.demo.raid_run import FinishedRaid
from worker.testing.demo.scenario import plan

EVIDENCE = honest_run(plan(300, seed=5))
RAW = tuple(b"{}" for _ in EVIDENCE.outcomes)


@pytest.mark.parametrize(
    ("codes", "gave_up", "held"),
    [
        ({"worker 1": 0}, False, True),
        ({"worker 1": 1}, False, False),
        ({"worker 1": 0}, True, False),
    ],
)
def test_every_promise_held_only_if_the_run_came_to_its_end(
    codes: dict[str, int], gave_up: bool, held: bool
) -> None:
    """A load that Kafka never acknowledged has no outcomes that could be missing."""
    console = Console(file=io.StringIO(), width=200)
    options = DemoOptions(commands=300, replicas=1, seed=5, trouble=False)

    assert conclude(FinishedRaid(EVIDENCE, RAW, 0.0, codes, gave_up), options, console) == held

    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert ("Every promise held." in text) == held


def test_a_summary_that_cannot_be_written_is_told_beside_the_verdict() -> None:
    console = Console(file=io.StringIO(), width=200)
    options = DemoOptions(300, 1, 5, trouble=False, json_file=Path("/dev/full"))

    assert not conclude(FinishedRaid(EVIDENCE, RAW, 0.0, {"worker 1": 0}, False), options, console)

    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "--json /dev/full was not written: No space left on device" in text
    assert "Every promise held." in text
