# The clean handover of a closing partition: when its last commit can say that none of its requests can act any more, and when it is too
# late.
#
# What follows for the next owner is in tests/unit/domain/engine/test_clean_handovers.py.

from __future__ import annotations

import pytest

from worker.domain.progress.clean_handover import HANDOVER_SECONDS, CleanHandover
from worker.domain.state_transitions import CleanHandoverState


def ready() -> CleanHandover:
    handover = CleanHandover()
    handover.begin()
    handover.begin_covering(10.0)
    assert handover.advance(10.1, 0.5)
    return handover


def test_it_is_awaited_from_the_beginning_of_the_end_until_it_is_committed() -> None:
    handover = CleanHandover()
    awaited = [handover.is_awaited]

    handover.begin()
    awaited.append(handover.is_awaited)
    handover.begin_covering(10.0)
    assert not handover.advance(10.1, None)
    assert handover.advance(10.2, 0.5)
    assert handover.propose(10.3, leaves_nothing_open=True) is not None
    awaited.append(handover.is_awaited)
    handover.committed()
    awaited.append(handover.is_awaited)

    assert awaited == [False, True, True, False]
    assert repr(handover) == "<CleanHandover over>"


@pytest.mark.parametrize(("at", "seconds"), [(10.1, 0.5), (10.4, 0.2), (10.9, 0.0)])
def test_it_says_when_the_slice_is_free_counted_from_the_commit(at: float, seconds: float) -> None:
    handover = ready()

    assert handover.propose(at, leaves_nothing_open=True) == pytest.approx(seconds)


def test_a_request_of_unknown_end_counts_for_a_second_from_its_latest_arrival() -> None:
    handover = CleanHandover()
    handover.begin()
    handover.note_may_act_until(10.5)
    handover.begin_covering(10.0)
    assert handover.advance(10.7, 0.1)

    assert handover.propose(10.7, leaves_nothing_open=True) == pytest.approx(0.8)


def test_no_second_commit_is_asked_for_while_one_that_says_it_is_under_way() -> None:
    handover = ready()

    assert handover.propose(10.3, leaves_nothing_open=True) is not None
    assert not handover.advance(10.2, 0.5)


def test_a_commit_that_leaves_something_open_does_not_say_it() -> None:
    handover = ready()

    assert handover.propose(10.3, leaves_nothing_open=False) is None
    handover.committed()

    assert handover.advance(10.2, 0.5), "it is still to be said"


def test_a_smaller_transaction_after_one_that_failed_does_not_say_it() -> None:
    handover = ready()
    assert handover.propose(10.3, leaves_nothing_open=True) is not None

    assert handover.propose(10.3, leaves_nothing_open=False) is None
    assert handover.state is CleanHandoverState.READY


@pytest.mark.parametrize("since", [10.0 + HANDOVER_SECONDS, 10.0 + HANDOVER_SECONDS + 5.0])
def test_it_is_not_waited_for_longer_than_a_second(since: float) -> None:
    handover = CleanHandover()
    handover.begin()
    handover.begin_covering(10.0)

    assert not handover.advance(since, 0.5)
    assert not handover.is_awaited


def test_a_request_that_may_still_act_delays_it_or_prevents_it() -> None:
    late, soon = CleanHandover(), CleanHandover()
    for handover, until in ((late, 11.5), (soon, 10.5)):
        handover.begin()
        handover.note_may_act_until(until)
        handover.note_may_act_until(until - 3.0)
        handover.begin_covering(10.0)

    assert not late.is_awaited
    assert [soon.advance(10.4, 0.5), soon.advance(10.5, 0.5)] == [False, True]


def test_what_is_given_up_is_never_said() -> None:
    handover = ready()

    handover.give_up()
    handover.give_up()

    assert handover.propose(10.3, leaves_nothing_open=True) is None
    with pytest.raises(AssertionError, match="cannot become ready"):
        handover.move_to(CleanHandoverState.READY)
