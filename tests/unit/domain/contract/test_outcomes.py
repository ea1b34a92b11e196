# The status of a command from those of its members, and how texts from outside are cut.

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.contract.outcomes import (
    HOLDS,
    TEXT_BYTES,
    Outcome,
    Result,
    ResultStatus,
    Source,
    Status,
    Worker,
    cut,
    status_of,
)

if TYPE_CHECKING:
    from random import Random

ALONE = {
    "applied": "succeeded",
    "already_applied": "succeeded",
    "failed": "failed",
    "duplicate": "duplicate",
    "superseded": "superseded",
    "expired": "expired",
    "cancelled": "cancelled",
    "simulated": "simulated",
}
GOOD = {"applied", "already_applied", "duplicate", "superseded"}
BAD = {"failed", "cancelled", "simulated", "expired"}
SETS = [set(some) for count in range(1, 9) for some in combinations(ALONE, count)]


def expected(kinds: set[str]) -> str:
    """The rule as the contract has it, sentence by sentence."""
    as_statuses = {ALONE[kind] for kind in kinds}
    if len(as_statuses) == 1:
        return as_statuses.pop()
    if kinds & BAD and kinds & GOOD:
        return "partially_succeeded"
    if kinds <= BAD:
        return next(status for status in ("failed", "cancelled", "simulated") if status in kinds)
    return "succeeded"


@pytest.mark.parametrize("kinds", SETS, ids=lambda kinds: "+".join(sorted(kinds)))
def test_the_status_follows_from_which_kinds_of_results_there_are(kinds: set[str]) -> None:
    """All 255 mixtures that there can be."""
    results = [Result(f"u{place}", ResultStatus(kind)) for place, kind in enumerate(sorted(kinds))]

    assert status_of(results) == expected(kinds)


@given(st.lists(st.sampled_from(list(ResultStatus)), min_size=1, max_size=100), st.randoms())
def test_neither_order_nor_number_of_results_changes_the_status(
    kinds: list[ResultStatus], random: Random
) -> None:
    results = [Result("u", kind) for kind in kinds]
    shuffled = results * 2
    random.shuffle(shuffled)

    assert status_of(shuffled) == status_of(results) == expected({kind.value for kind in kinds})


def test_a_command_never_succeeds_when_the_effect_of_a_member_is_not_in_place() -> None:
    for kinds in SETS:
        if kinds & BAD:
            assert status_of([Result("u", ResultStatus(kind)) for kind in kinds]) is not Status.SUCCEEDED


def test_an_effect_is_in_place_only_after_it_was_applied_by_whomever() -> None:
    assert {status.value for status in HOLDS} == {"applied", "already_applied", "duplicate"}


def test_the_same_record_always_has_the_same_outcome_id() -> None:
    assert Source("moderation.commands", 7, 1234).outcome_id == "moderation.commands-7-1234"


@pytest.mark.parametrize("fields", [{"group_id": "t"}, {"room_id": "t"}])
def test_the_target_of_an_outcome_is_its_group_or_its_room(fields: dict[str, Any]) -> None:
    made = Outcome(
        outcome_id="moderation.commands-7-1234", command_id="c", status=Status.SUCCEEDED,
        source=Source("moderation.commands", 7, 1234), worker=Worker("worker-0", "1"), received_at="", finished_at="",
        queued_ms=0.0, attempts=1, **fields,
    )  # fmt: skip

    assert made.target == "t"
    assert "target" not in msgspec.to_builtins(made)


@given(st.text(st.characters(categories=["L", "Cs", "So", "Cc"]), max_size=600))
def test_a_cut_text_fits_and_can_be_encoded(text: str) -> None:
    assert len(cut(text).encode()) <= TEXT_BYTES


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_a_text_is_cut_only_when_it_is_too_long_and_only_at_its_end(text: str) -> None:
    kept = cut(text)

    assert text.startswith(kept)
    if kept != text:
        assert len(text[: len(kept) + 1].encode()) > TEXT_BYTES


@pytest.mark.parametrize("character", ["a", "é", "语", "😀"])
def test_a_text_is_never_cut_inside_a_character(character: str) -> None:
    assert cut(character * 600) == character * (TEXT_BYTES // len(character.encode()))
