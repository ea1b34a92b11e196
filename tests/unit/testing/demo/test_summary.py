# The summary of a run, for people and as JSON.

from __future__ import annotations

import io

import msgspec
from rich.console import Console

from tests.unit.testing.checker.stand_in import honest_run
from worker.testing.checker.evidence_check import check
from worker.testing.checker.run_figures import figures
from worker.testing.demo.scenario import plan
from worker.testing.demo.summary import as_json, choose_example, show

EVIDENCE = honest_run(plan(2000, seed=5))


def test_the_example_is_an_outcome_with_different_results() -> None:
    chosen = choose_example(EVIDENCE.outcomes, [one.body.outcome_id.encode() for one in EVIDENCE.outcomes])
    body = next(one.body for one in EVIDENCE.outcomes if one.body.outcome_id.encode() == chosen)

    assert len({result.status for result in body.results}) > 1


def test_the_summary_shows_broken_promises_with_examples() -> None:
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
    shown = msgspec.json.decode(as_json(figures(EVIDENCE), check(EVIDENCE), {"seed": 5}))

    assert shown["clean"]
    assert set(shown["findings"].values()) == {0}
    assert shown["seed"] == 5
    assert {one["action"] for one in shown["endpoints"]} >= {"group.ban_group_member", "room.kick_user_out"}
