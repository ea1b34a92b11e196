# What outcomes refer to: a command is needless or done before only because of one that can make it so.

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.unit.testing.checker.stand_in import StandIn
from tests.unit.testing.checker.test_member_history import CARD, FREE, HOUR, OUT, ROLE
from worker.testing.checker.contract import (
    BAN,
    LIVE_UNBAN,
    UPDATE,
    CommandedEffect,
    SeenMemberInfo,
)
from worker.testing.checker.evidence import ExpectedFate, PlannedRecord, ViolationKind
from worker.testing.checker.evidence_check import check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.testing.checker.evidence import Evidence

MINUTE = CommandedEffect(BAN, 60, reason="spam")
ENDING = CommandedEffect(BAN, until=1_900_000_000.0)
LIVE = CommandedEffect(LIVE_UNBAN)
BOTH = CommandedEffect(UPDATE, info=SeenMemberInfo(name_card="b", role="Admin"))


def run(
    effects: Sequence[CommandedEffect], at: int, status: str, to: int, *, room: str = "room-1"
) -> Evidence:
    """
    The evidence of these commands for one user, of which the one at place ``at`` refers to the one at ``to`` and was never sent.

    The one at ``to`` is for ``room``.
    """
    worker = StandIn()
    for number, effect in enumerate(effects):
        target = room if number == to else "room-1"
        worker.carry_out(
            PlannedRecord(
                b"room-1", b"{}", ExpectedFate.CARRIED_OUT, f"c{number}", target, ("someone",), effect
            )
        )
    whole = worker.evidence
    field = {"superseded": "superseded_by", "duplicate": "duplicate_of"}[status]
    changed = whole.outcomes[at]
    result = msgspec.structs.replace(
        changed.body.results[0], status=status, request_id=None, **{field: whole.outcomes[to].body.outcome_id}
    )
    body = msgspec.structs.replace(changed.body, status=status, results=[result], calls=[], request_ids=[])
    outcomes = (*whole.outcomes[:at], replace(changed, body=body), *whole.outcomes[at + 1 :])
    requests = tuple(one for number, one in enumerate(whole.requests) if number != at)
    return replace(whole, outcomes=outcomes, requests=requests)


def findings(evidence: Evidence) -> str:
    report = check(evidence)
    return "\n".join(
        finding.what for finding in report.examples if finding.violation is ViolationKind.WRONG_STATUS
    )


@pytest.mark.parametrize(
    ("effects", "at", "status", "to"),
    [
        ((HOUR, FREE), 0, "superseded", 1),
        ((MINUTE, HOUR), 0, "superseded", 1),
        ((FREE, HOUR), 0, "superseded", 1),
        ((CARD, BOTH), 0, "superseded", 1),
        ((HOUR, HOUR), 1, "duplicate", 0),
        ((HOUR, replace(HOUR, reason="rude")), 1, "duplicate", 0),
    ],
)
def test_what_was_needless_or_done_before_may_say_so(
    effects: Sequence[CommandedEffect], at: int, status: str, to: int
) -> None:
    assert findings(run(effects, at, status, to)) == ""


@pytest.mark.parametrize(
    ("effects", "at", "status", "to", "problem"),
    [
        ((HOUR,), 0, "superseded", 0, "which is no later command"),
        ((FREE, HOUR), 1, "superseded", 0, "which is no later command"),
        ((HOUR, OUT), 0, "superseded", 1, "which does not undo it"),
        ((OUT, OUT), 0, "superseded", 1, "which does not undo it"),
        ((HOUR, LIVE), 0, "superseded", 1, "which does not undo it"),
        ((HOUR, ENDING), 0, "superseded", 1, "which does not undo it"),
        ((ROLE, CARD), 0, "superseded", 1, "which does not undo it"),
        ((OUT,), 0, "duplicate", 0, "which is no earlier command"),
        ((OUT, OUT), 0, "duplicate", 1, "which is no earlier command"),
        ((HOUR, OUT), 1, "duplicate", 0, "which did something else"),
        ((MINUTE, HOUR), 1, "duplicate", 0, "which did something else"),
        ((MINUTE, HOUR, FREE), 1, "duplicate", 0, "which did something else"),
        ((CARD, BOTH), 1, "duplicate", 0, "which did something else"),
        ((OUT, OUT), 1, "duplicate", 0, "which is another event"),
    ],
)
def test_a_command_that_was_lost_cannot_refer_to_just_any_other(
    effects: Sequence[CommandedEffect], at: int, status: str, to: int, problem: str
) -> None:
    assert problem in findings(run(effects, at, status, to))


def test_an_event_repeats_only_its_own_command_id() -> None:
    """Who is kicked twice may have come back in between."""
    worker = StandIn()
    for _ in range(2):
        worker.carry_out(
            PlannedRecord(b"room-1", b"{}", ExpectedFate.CARRIED_OUT, "one", "room-1", ("someone",), OUT)
        )

    assert [one.body.status for one in worker.evidence.outcomes] == ["succeeded", "duplicate"]
    assert check(worker.evidence).clean


@pytest.mark.parametrize(("at", "status", "to"), [(0, "superseded", 1), (1, "duplicate", 0)])
def test_a_command_for_another_room_makes_none_needless(at: int, status: str, to: int) -> None:
    assert "which is for room-2" in findings(run((HOUR, HOUR), at, status, to, room="room-2"))


def test_a_duplicate_of_what_was_never_done_is_found() -> None:
    evidence = run((HOUR, HOUR), 1, "duplicate", 0)
    first = evidence.outcomes[0]
    failed = msgspec.structs.replace(first.body.results[0], status="failed", error_code=10019)
    outcomes = (
        replace(first, body=msgspec.structs.replace(first.body, results=[failed])),
        evidence.outcomes[1],
    )

    assert "which is failed" in findings(replace(evidence, outcomes=outcomes))
