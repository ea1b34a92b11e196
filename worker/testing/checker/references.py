# Judges what an outcome refers to: whom it repeats, or who made it needless, must be a command that can have done so.
#
# Pure. Else a lost command could hide behind any outcome that names its user.

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.testing.checker.contract import MAY_REFER, REFERRING, SETTLED, STATES, undoes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.testing.checker.contract import SeenOutcome, SeenResult
    from worker.testing.checker.evidence import ProducedCommand, PublishedOutcome


def wrong_references(
    sent: ProducedCommand,
    body: SeenOutcome,
    first: Mapping[str, PublishedOutcome],
    known: Mapping[str, ProducedCommand],
) -> Iterator[str]:
    """Yield what is wrong with the references of one outcome. ``first`` and ``known`` have outcomes and commands by outcome_id."""
    for result in body.results:
        for status, reference in REFERRING.items():
            name: str | None = getattr(result, reference)
            if (result.status == status) != (name is not None) and result.status not in MAY_REFER:
                yield f"{result.user_id} is {result.status}, with {status} of {name}"
            elif name is not None:
                other, outcome = known.get(name), first.get(name)
                there = _result_of(result.user_id, outcome)
                problem = (
                    "which does not name it"
                    if other is None or there is None
                    else _cannot_be(status, sent, other, result, there)
                )
                if problem is not None:
                    yield f"{result.user_id} is {status} of {name}, {problem}"


def _result_of(user: str, outcome: PublishedOutcome | None) -> SeenResult | None:
    return next((one for one in outcome.body.results if one.user_id == user), None) if outcome else None


def _cannot_be(
    status: str, sent: ProducedCommand, other: ProducedCommand, result: SeenResult, there: SeenResult
) -> str | None:
    own, its = sent.planned.effect, other.planned.effect
    if other.planned.target != sent.planned.target:
        return f"which is for {other.planned.target}"
    if own is None or its is None:
        return "which is a bad record"
    # Commands for one user may be in two partitions, if one has no key: then nothing says which was the earlier one.
    step = other.offset - sent.offset if other.partition == sent.partition else None
    if status == "superseded":
        if step is not None and step <= 0:
            return "which is no later command"
        return None if undoes(its, own) else "which does not undo it"
    if step is not None and step >= 0:
        return "which is no earlier command"
    # By default, two commands that differ in their reason alone have the same effect.
    if replace(its, reason=None) != replace(own, reason=None):
        return "which did something else"
    if own.action not in STATES and other.planned.command_id != sent.planned.command_id:
        return "which is another event"
    return None if there.status in SETTLED or result.status in MAY_REFER else f"which is {there.status}"
