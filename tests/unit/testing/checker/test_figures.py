# The figures and how they are told.

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from tests.unit.testing.checker.stand_in import honest_run
from worker.testing.checker.check import check
from worker.testing.checker.figures import figures, percentile
from worker.testing.demo.scenario import plan
from worker.testing.demo.summary import as_json, choose_example, show

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


def test_the_example_is_an_outcome_of_members_that_fared_differently() -> None:
    chosen = choose_example(EVIDENCE.outcomes, [one.body.outcome_id.encode() for one in EVIDENCE.outcomes])
    body = next(one.body for one in EVIDENCE.outcomes if one.body.outcome_id.encode() == chosen)

    assert len({result.status for result in body.results}) > 1


def test_the_summary_tells_broken_promises_with_examples() -> None:
    evidence = EVIDENCE.__class__(
        "commands", EVIDENCE.sent, EVIDENCE.outcomes[1:], EVIDENCE.letters, EVIDENCE.requests
    )
    console = Console(file=io.StringIO(), width=200)

    show(console, figures(evidence), check(evidence), b'{"an": "outcome"}', "mostly luck")

    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "✗" in text
    assert EVIDENCE.outcomes[0].body.outcome_id in text
    assert "mostly luck" in text


def test_the_json_names_every_kind_of_finding() -> None:
    told = msgspec.json.decode(as_json(figures(EVIDENCE), check(EVIDENCE), {"seed": 5}))

    assert told["clean"]
    assert set(told["findings"].values()) == {0}
    assert told["seed"] == 5
    assert {one["action"] for one in told["endpoints"]} >= {"group.ban_group_member", "room.kick_user_out"}
