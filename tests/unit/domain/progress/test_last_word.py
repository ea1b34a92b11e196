# The last word of a partition that goes: when its last commit may say that nothing of it is on its way, and when it is too late.
#
# What follows for the next owner is in tests/unit/domain/engine/test_ending_in_order.py.

from __future__ import annotations

import pytest

from worker.domain.progress.last_word import ENDING_SECONDS, LastWord
from worker.domain.states import LastWordState


def ready() -> LastWord:
    word = LastWord()
    word.begin()
    word.slice_is_free(10.0)
    assert word.is_due(10.1, is_covered=True)
    return word


def test_it_is_awaited_from_the_beginning_of_the_end_until_it_is_committed() -> None:
    word = LastWord()
    awaited = [word.is_awaited]

    word.begin()
    awaited.append(word.is_awaited)
    word.slice_is_free(10.0)
    assert not word.is_due(10.1, is_covered=False)
    assert word.is_due(10.2, is_covered=True)
    assert word.is_said(leaves_nothing_open=True)
    awaited.append(word.is_awaited)
    word.committed()
    awaited.append(word.is_awaited)

    assert awaited == [False, True, True, False]
    assert repr(word) == "<LastWord over>"


def test_no_second_commit_is_asked_for_while_one_that_says_it_is_under_way() -> None:
    word = ready()

    assert word.is_said(leaves_nothing_open=True)
    assert not word.is_due(10.2, is_covered=True)


def test_a_commit_that_leaves_something_open_does_not_say_it() -> None:
    word = ready()

    assert not word.is_said(leaves_nothing_open=False)
    word.committed()

    assert word.is_due(10.2, is_covered=True), "it is still to be said"


def test_a_smaller_transaction_after_one_that_failed_does_not_say_it() -> None:
    word = ready()
    assert word.is_said(leaves_nothing_open=True)

    assert not word.is_said(leaves_nothing_open=False)
    assert word.state is LastWordState.READY


@pytest.mark.parametrize("since", [10.0 + ENDING_SECONDS, 10.0 + ENDING_SECONDS + 5.0])
def test_it_is_not_waited_for_longer_than_a_second(since: float) -> None:
    word = LastWord()
    word.begin()
    word.slice_is_free(10.0)

    assert not word.is_due(since, is_covered=True)
    assert not word.is_awaited


def test_a_request_that_may_still_act_delays_it_or_prevents_it() -> None:
    late, soon = LastWord(), LastWord()
    for word, until in ((late, 11.5), (soon, 10.5)):
        word.begin()
        word.ended_unknown(until)
        word.ended_unknown(until - 3.0)
        word.slice_is_free(10.0)

    assert not late.is_awaited
    assert [soon.is_due(10.4, is_covered=True), soon.is_due(10.5, is_covered=True)] == [False, True]


def test_what_is_given_up_is_never_said() -> None:
    word = ready()

    word.give_up()
    word.give_up()

    assert not word.is_said(leaves_nothing_open=True)
    with pytest.raises(AssertionError, match="cannot become ready"):
        word.move_to(LastWordState.READY)
