# What outcomes prove of a partition whose commit is lost, and where they leave a doubt.

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.domain.samples import Record
from worker.domain.contract.dead_letter_decoding import ParsedDeadLetter, read_letter
from worker.domain.contract.dead_letter_encoding import SMALLEST_LIMIT, DeadLetter, fit
from worker.domain.contract.outcomes import Source
from worker.domain.contract.raw_records import OmittedBytes
from worker.domain.progress.commit_metadata import MAX_SPAN
from worker.domain.progress.lost_commit_recovery import (
    OutcomeEvidence,
    RecoveredPosition,
    UnclearPosition,
    bitmap_of_proven,
    evidence_in,
    is_placeholder,
    offsets_to_compare,
    placeholder_id,
    placeholder_id_from_hash,
    placeholder_id_from_letter,
    recover_position,
)


def ids(*offsets: int) -> dict[int, str]:
    """A command_id for each of these offsets."""
    return {offset: f"id-{offset}" for offset in offsets}


def place(
    records: dict[int, str], outcomes: dict[int, str], start: int = 0, end: int = 100, **changes: Any
) -> RecoveredPosition | UnclearPosition:
    """Where it goes on when nothing was ever deleted and the group began at the first record."""
    return recover_position(
        start, end, records, outcomes, **{"is_whole": True, "from_start": True, **changes}
    )


def test_where_every_record_has_its_outcome_it_goes_on_behind_the_last() -> None:
    assert place(ids(0, 1, 4), ids(0, 1, 4)) == RecoveredPosition(5, 0)


def test_where_every_record_that_is_left_has_an_outcome_it_goes_on() -> None:
    """Older outcomes were deleted."""
    outcomes = ids(7, 8, 9)

    assert place(ids(8, 9), outcomes, start=8, is_whole=False, from_start=False) == RecoveredPosition(10, 0)


def test_a_record_without_an_outcome_is_begun_with_and_the_rest_is_done() -> None:
    """It is below a record that has one."""
    assert place(ids(0, 1, 2, 3, 5), ids(0, 2, 5)) == RecoveredPosition(1, 0b10010)


def test_the_first_record_may_be_the_one_that_is_missing() -> None:
    assert place(ids(0, 1), ids(1)) == RecoveredPosition(0, 0b10)


def test_where_outcomes_were_deleted_a_missing_one_is_a_doubt() -> None:
    found = place(ids(0, 1, 2), ids(0, 2), is_whole=False)

    assert isinstance(found, UnclearPosition)
    assert (found.first, found.next) == (1, 3)
    assert "offset 1" in found.reason


def test_where_the_group_may_have_begun_later_the_records_before_are_a_doubt() -> None:
    """``kafka.start: latest`` left them out on purpose."""
    found = place(ids(0, 1, 2, 3), ids(2, 3), from_start=False)

    assert isinstance(found, UnclearPosition)
    assert (found.first, found.next) == (0, 4)


def test_where_the_group_may_have_begun_later_one_missing_outcome_is_open() -> None:
    """It is missing after the first outcome that there is."""
    assert place(ids(0, 1, 2), ids(0, 2), from_start=False) == RecoveredPosition(1, 0b10)


def test_an_outcome_of_another_record_is_a_doubt() -> None:
    """The topic was made again: what is there was never carried out."""
    found = place(ids(0, 1), {0: "id-0", 1: "another"})

    assert isinstance(found, UnclearPosition)
    assert (found.first, found.next) == (1, 100)


def test_outcomes_beyond_the_end_of_the_partition_are_a_doubt() -> None:
    found = place({}, ids(5), end=5)

    assert isinstance(found, UnclearPosition)
    assert (found.first, found.next) == (5, 5)


def test_when_the_records_with_outcomes_are_deleted_it_goes_on_with_the_first() -> None:
    """The first that is left: what was deleted is done."""
    assert place({}, ids(5), start=50) == RecoveredPosition(50, 0)


def test_what_is_further_below_the_last_outcome_than_a_bitmap_reaches_is_done() -> None:
    """A record is admitted only so far above the oldest open one."""
    top = MAX_SPAN + 1000
    outcomes = ids(top - 2, top)

    assert offsets_to_compare(0, outcomes) == range(1001, top + 1)
    assert place(ids(top - 2, top - 1, top), outcomes, end=top + 1) == RecoveredPosition(top - 1, 0b10)


def test_without_outcomes_there_is_nothing_to_compare() -> None:
    assert list(offsets_to_compare(7, {})) == []


def test_only_records_with_their_own_outcome_are_proven() -> None:
    assert bitmap_of_proven(5, ids(5, 6, 7), {5: "id-5", 6: "another"}) == 0b1


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"no JSON",
        b'{"command_id": 1, "source": null}',
        b"\xff",
        b'{"metadata": ' + b"[" * 100_000,
        b'{"metadata": ' + b'{"a":' * 100_000,
    ],
)
def test_what_is_no_outcome_says_nothing(value: bytes) -> None:
    assert evidence_in(value) is None


def test_an_outcome_says_of_which_record_and_command_it_is() -> None:
    evidence = OutcomeEvidence("c-1", Source("commands", 3, 42))

    assert evidence_in(msgspec.json.encode(evidence)) == evidence


def test_a_record_without_a_readable_id_is_named_by_its_value_and_never_like_an_id() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    assert placeholder_id(b"") == placeholder_id(None) == placeholder_id_from_hash(empty)
    assert placeholder_id(b"a") != placeholder_id(b"b")
    assert placeholder_id(OmittedBytes(9, "ab" * 32)) == placeholder_id_from_hash("ab" * 32)
    assert is_placeholder(placeholder_id(b"a"))
    assert not is_placeholder("a")


@pytest.mark.parametrize("limit", [SMALLEST_LIMIT, 1_000_000])
@pytest.mark.parametrize("value", [None, b"", b"?1", b"?" * 2 * SMALLEST_LIMIT, OmittedBytes(9, "ab" * 32)])
def test_its_dead_letter_names_it_alike_whatever_headers_it_brought(value: bytes | None, limit: int) -> None:
    """A letter that somebody produced again by hand has headers of our names: they are of another value."""
    headers = (("x-value-omitted", b"5"), ("x-value-sha256", b"cd" * 32))
    record = Record(value, b"room", headers)
    fitted = fit(DeadLetter(record, "commands", "commands-3-7", "not_json", "no JSON"), limit)

    letter = read_letter(fitted.key, fitted.value, fitted.headers)

    assert isinstance(letter, ParsedDeadLetter)
    assert placeholder_id_from_letter(letter) == placeholder_id(value)
