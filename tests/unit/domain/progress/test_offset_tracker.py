# Offsets: what may be committed, and what a later owner reads of it. A model that remembers every offset is the judge.

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.effects import OffsetCommit
from worker.domain.progress.commit_metadata import MAX_SPAN, decode, encode, mark_of, owner_of
from worker.domain.progress.offset_tracker import OffsetTracker

HERE = "id:AAAAAAAAAAAAAAAAAAAAAQ;3"


def opened(*offsets: int, position: int = 0, span: int = 100) -> OffsetTracker:
    """These records were received, and are open."""
    made = OffsetTracker(position, 0, span, HERE)
    for offset in offsets:
        made.admit(offset)
    return made


def bits(*places: int) -> int:
    """The bitmap that says of these places above an offset that they are done."""
    return sum(1 << place for place in places)


def commit(offset: int, *places: int) -> OffsetCommit:
    """The commit at that offset which says so."""
    return OffsetCommit(offset, encode(HERE, offset, bits(*places)))


def test_what_is_open_holds_the_committed_offset_back() -> None:
    offsets = opened(0, 1, 2)

    assert offsets.committable == 0
    assert offsets.propose([0]) == OffsetCommit(1, "")


def test_what_is_done_above_an_open_record_is_in_the_metadata() -> None:
    offsets = opened(0, 1, 2, 3)

    assert offsets.propose([1, 3]) == commit(0, 1, 3)


def test_a_proposal_changes_nothing() -> None:
    offsets = opened(0, 1)

    offsets.propose([0, 1])

    assert offsets.open_count == 2
    assert offsets.committable == 0


def test_when_the_oldest_is_finished_the_committed_offset_jumps_over_all_that_was_done() -> None:
    offsets = opened(0, 1, 2, 3)
    offsets.finish([1, 2])

    proposed = offsets.propose([0])
    offsets.finish([0])

    assert proposed == OffsetCommit(3, "")
    assert offsets.committable == 3
    assert offsets.open_count == 1


def test_with_nothing_open_the_next_record_to_be_received_is_committed() -> None:
    offsets = opened(4, 9, position=4)

    assert offsets.propose([4, 9]) == OffsetCommit(10, "")


def test_before_anything_is_received_the_position_is_committed() -> None:
    assert OffsetTracker(7, 0, 100, HERE).propose([]) == OffsetCommit(7, "")


def test_what_an_earlier_owner_has_done_stays_in_the_metadata() -> None:
    """The next owner would do it again."""
    offsets = OffsetTracker(10, bits(2, 5), 100, HERE)
    offsets.admit(10)
    offsets.admit(11)

    assert offsets.propose([11]) == commit(10, 1, 2, 5)
    assert offsets.propose([10]) == commit(11, 1, 4)


def test_a_record_that_an_earlier_owner_finished_is_done() -> None:
    offsets = OffsetTracker(10, bits(2), 100, HERE)

    assert offsets.is_done(9)
    assert not offsets.is_done(10)
    assert offsets.is_done(12)
    assert not offsets.is_done(13)


def test_a_record_that_is_handed_in_again_is_done_whether_open_or_finished() -> None:
    offsets = opened(0, 1)
    offsets.finish([0])

    assert offsets.is_done(0)
    assert offsets.is_done(1)
    assert not offsets.is_done(2)


def test_a_done_record_that_was_passed_moves_the_committed_offset_when_nothing_is_open() -> None:
    offsets = OffsetTracker(10, bits(0, 1), 100, HERE)

    offsets.skipped(10)
    offsets.skipped(11)
    offsets.skipped(10)

    assert offsets.committable == 12
    assert offsets.propose([]) == OffsetCommit(12, "")


def test_offsets_without_a_record_do_not_hold_anything_back() -> None:
    """Transaction markers and compaction leave gaps."""
    offsets = opened(3, 50, 51)

    offsets.finish([3])

    assert offsets.committable == 50


def test_a_record_fits_while_it_is_less_than_the_span_above_the_oldest_open_one() -> None:
    offsets = opened(5, span=10)

    assert offsets.fits(14)
    assert not offsets.fits(15)


def test_with_nothing_open_the_next_record_fits_however_many_offsets_were_skipped() -> None:
    """Else a partition with a gap wider than the span would stand still for ever."""
    offsets = opened(5, span=10)
    offsets.finish([5])

    assert offsets.fits(5_000)


def test_a_jump_over_any_number_of_offsets_costs_no_memory() -> None:
    """Kafka may have deleted all that lies between; a bitmap of it would take a hundred gigabytes."""
    offsets = opened(10**12)

    assert offsets.propose([10**12]) == OffsetCommit(10**12 + 1, "")
    offsets.finish([10**12])
    assert offsets.committable == 10**12 + 1


def test_a_span_beyond_what_the_metadata_can_tell_is_cut() -> None:
    offsets = opened(0, span=10**9)

    assert offsets.span == MAX_SPAN
    assert not offsets.fits(MAX_SPAN)


def test_each_refusal_of_the_metadata_halves_the_span_down_to_one() -> None:
    offsets = OffsetTracker(0, 0, 5, HERE)
    spans = []

    for _ in range(4):
        offsets.halve()
        spans.append(offsets.span)

    assert spans == [2, 1, 1, 1]


def test_a_refusal_of_the_metadata_ends_the_naming_of_the_owner() -> None:
    """With a span of one record as well, a commit that names it is longer than one that does not."""
    offsets = OffsetTracker(0, 0, 5, HERE, owner=mark_of("worker-0"))
    offsets.admit(0)
    before = owner_of(offsets.propose([]).metadata)

    offsets.halve()

    assert (before, owner_of(offsets.propose([]).metadata)) == (mark_of("worker-0"), "")


def test_with_nothing_open_a_position_behind_the_last_record_is_committed() -> None:
    """Markers of transactions stand there, and what was aborted: uncommitted they are lag for ever."""
    offsets = opened(4)
    offsets.reached(7)
    still = offsets.propose([])
    offsets.finish([4])

    assert still == OffsetCommit(4, "")
    assert offsets.propose([]) == OffsetCommit(7, "")
    assert not offsets.is_done(7)


def test_a_position_that_was_passed_already_changes_nothing() -> None:
    offsets = OffsetTracker(7, bits(2), 100, HERE)
    offsets.reached(3)

    assert offsets.propose([]) == commit(7, 2)


def test_what_an_earlier_owner_has_done_is_still_done_behind_a_position() -> None:
    offsets = OffsetTracker(7, bits(2, 5), 100, HERE)
    offsets.reached(10)

    assert offsets.propose([]) == commit(10, 2)


def test_it_is_behind_while_nothing_is_open_and_less_is_committed_than_is_done() -> None:
    offsets = opened(0)
    behind = [offsets.commit_lags]
    proposed = offsets.propose([0])
    offsets.finish([0])
    behind.append(offsets.commit_lags)
    offsets.committed(proposed)
    behind.append(offsets.commit_lags)
    offsets.reached(2)
    behind.append(offsets.commit_lags)

    assert behind == [False, True, False, True]


def test_the_gap_reaches_from_the_committed_offset_to_the_newest_record() -> None:
    offsets = opened(5, 8)

    assert offsets.gap == 4
    assert repr(offsets) == "<OffsetTracker 5+4, 2 open>"


def test_finishing_what_is_not_open_is_a_fault_of_the_code() -> None:
    offsets = opened(0)

    with pytest.raises(KeyError):
        offsets.finish([1])


def heir(left: OffsetCommit, span: int) -> OffsetTracker:
    """The next owner's, from what the last one has committed."""
    done = decode(left.metadata, HERE, left.offset)
    assert done is not None
    return OffsetTracker(left.offset, done, span, HERE)


@dataclass
class Model:
    """A partition that remembers every offset, and its owner."""

    records: list[int]
    done: set[int] = field(default_factory=set)
    commit: OffsetCommit = field(default_factory=lambda: OffsetCommit(0, ""))


@settings(max_examples=150, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    span=st.sampled_from([1, 3, 8, 100]),
    choices=st.lists(
        st.tuples(st.sampled_from(["fetch", "finish", "finish", "lose"]), st.integers(0, 99)), max_size=60
    ),
)
def test_no_owner_redoes_or_leaves_out_anything_in_whatever_order_it_ends(
    gaps: list[int], span: int, choices: list[tuple[str, int]]
) -> None:
    records = [place + sum(gaps[: place + 1]) for place in range(len(gaps))]
    model = Model(records)
    offsets, open_now, position = OffsetTracker(0, 0, span, HERE), list[int](), 0

    for what, number in choices:
        if what == "lose":
            offsets, open_now = heir(model.commit, span), []
            position = model.commit.offset
        elif what == "fetch":
            offset = next((each for each in records if each >= position), None)
            if offset is None or not (offsets.is_done(offset) or offsets.fits(offset)):
                continue
            position = offset + 1
            assert offsets.is_done(offset) is (offset in model.done)
            if offsets.is_done(offset):
                offsets.skipped(offset)
            else:
                offsets.admit(offset)
                open_now.append(offset)
        elif open_now:
            finishing = {open_now[number % len(open_now)], open_now[-1]}
            model.commit = offsets.propose(finishing)
            offsets.finish(finishing)
            model.done |= finishing
            open_now = [each for each in open_now if each not in finishing]
            assert offsets.propose([]) == model.commit
        assert offsets.open_count == len(open_now)
        later = heir(model.commit, span)
        assert [each for each in records if later.is_done(each)] == sorted(model.done)
