# Offsets: what may be committed while work finishes out of order, and what a next owner learns from it.

from collections.abc import Iterable

import pytest

from worker.domain.offsets import MAX_SPAN, METADATA_BYTES, Offsets


def opened(offsets: Iterable[int], position: int = 0, span: int = 20_000) -> Offsets:
    made = Offsets(position, "", span)
    for offset in offsets:
        made.admit(offset)
    return made


def next_owner(offsets: Offsets, finishing: Iterable[int] = ()) -> Offsets:
    commit = offsets.propose(set(finishing))
    return Offsets(commit.offset, commit.metadata, 20_000)


def test_without_open_records_the_next_one_to_be_received_is_committable() -> None:
    assert Offsets(7, "", 100).committable == 7
    assert opened([7, 8], 7).committable == 7


def test_the_oldest_open_record_holds_the_commit_back() -> None:
    offsets = opened([0, 1, 2])

    offsets.finish([1, 2])

    assert offsets.committable == 0
    assert offsets.open == 1
    assert offsets.gap == 3


def test_what_is_done_above_the_gap_is_not_done_again_by_the_next_owner() -> None:
    offsets = opened([0, 1, 2, 3])

    offsets.finish([1, 3])
    heir = next_owner(offsets)

    assert [offset for offset in range(5) if heir.is_done(offset)] == [1, 3]


def test_a_commit_tells_of_what_the_transaction_itself_finishes() -> None:
    offsets = opened([0, 1, 2])

    heir = next_owner(offsets, finishing=[0, 2])

    assert heir.committable == 1
    assert not heir.is_done(1)
    assert heir.is_done(2)


def test_a_commit_without_anything_above_the_gap_has_no_metadata() -> None:
    offsets = opened([0, 1])

    assert offsets.propose({0, 1}).metadata == ""


def test_a_record_that_was_handed_in_before_is_done() -> None:
    """
    A fetch that is repeated within one assignment must not open a record twice.
    """
    offsets = opened([5], 5)

    assert offsets.is_done(5)
    assert offsets.is_done(4)
    assert not offsets.is_done(6)


def test_the_bitmap_survives_several_owners() -> None:
    first = opened([0, 1, 2, 3])
    first.finish([2])
    second = next_owner(first)
    for offset in (0, 1, 3):
        second.admit(offset)
    second.finish([3])

    third = next_owner(second, finishing=[0])

    assert third.committable == 1
    assert [offset for offset in range(1, 5) if third.is_done(offset)] == [2, 3]


def test_records_that_an_earlier_owner_finished_move_the_commit_on() -> None:
    first = opened([0, 1])
    first.finish([1])
    second = next_owner(first)
    second.admit(0)

    second.passed(1)
    second.finish([0])

    assert second.committable == 2
    assert second.propose(()).metadata == ""


def test_no_record_is_admitted_that_the_bitmap_could_not_tell_of() -> None:
    offsets = opened([0], span=10)

    assert offsets.fits(9)
    assert not offsets.fits(10)


def test_offsets_that_hold_no_record_do_not_stop_a_partition() -> None:
    """
    Transaction markers and compaction leave holes. One wider than the span, with nothing open below it, is no gap: else
    nothing would ever be admitted again.
    """
    offsets = Offsets(0, "", 10)

    assert offsets.fits(1_000_000_000)
    offsets.admit(1_000_000_000)

    assert offsets.committable == 1_000_000_000
    assert offsets.propose({1_000_000_000}).offset == 1_000_000_001
    assert offsets.gap == 1


def test_a_hole_costs_no_memory() -> None:
    offsets = opened([0], 0)
    offsets.finish([0])
    offsets.admit(10**9)
    offsets.admit(10**9 + 2)

    metadata = offsets.propose({10**9 + 2}).metadata

    assert len(metadata) <= 4


def test_the_bitmap_of_the_widest_span_fits_into_what_a_broker_allows() -> None:
    offsets = opened([0], span=10**9)
    assert offsets.span == MAX_SPAN
    last = MAX_SPAN - 1
    offsets.admit(last)

    assert len(offsets.propose({last}).metadata) <= METADATA_BYTES


def test_a_refused_span_is_halved_but_never_to_nothing() -> None:
    offsets = opened([0], span=5)

    spans = []
    for _ in range(4):
        offsets.halve()
        spans.append(offsets.span)

    assert spans == [2, 1, 1, 1]


@pytest.mark.parametrize("metadata", ["", "not base64!", "abc", "Grüße"])
def test_metadata_of_another_program_says_nothing_about_what_is_done(metadata: str) -> None:
    offsets = Offsets(3, metadata, 100)

    assert not any(offsets.is_done(offset) for offset in range(3, 100))


def test_offsets_tell_themselves_in_a_line() -> None:
    offsets = opened([0, 1, 2])
    offsets.finish([0])

    assert repr(offsets) == "<Offsets 1+2, 2 open>"
