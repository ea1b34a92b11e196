# The search for a bad member: it finds one, loses nobody, and asks no more often than halving needs.

from __future__ import annotations

from math import ceil, log2
from random import Random

import pytest

from worker.domain.calls.bad_member_search import Bisection
from worker.domain.contract.error_codes import Verdict
from worker.domain.effects import AttemptResult

REFUSAL = AttemptResult(sent_at=1.0, ended_at=2.0, verdict=Verdict.MEMBER, error_code=10019)
LATER = AttemptResult(sent_at=3.0, ended_at=4.0, verdict=Verdict.MEMBER, error_code=20003)


class Searched:
    """A search that was played to its end, against an endpoint that refuses every call with a bad member in it."""

    def __init__(self, members: list[int], bad: set[int]) -> None:
        self.applied: list[int] = []
        self.calls = 0
        search = Bisection(members, REFUSAL)
        while search.found is None:
            half = search.half()
            self.calls += 1
            if bad.isdisjoint(half):
                self.applied += half
                search.worked()
            else:
                search.failed(LATER)
        self.found = search.found
        self.untested = search.untested


@pytest.mark.parametrize("size", range(2, 21))
def test_a_single_bad_member_is_found_wherever_it_is(size: int) -> None:
    members = list(range(size))

    for bad in members:
        searched = Searched(members, {bad})

        assert searched.found == bad
        assert searched.calls <= ceil(log2(size))
        assert sorted([*searched.applied, *searched.untested, bad]) == members


def test_of_twenty_one_bad_member_costs_five_calls_at_most_after_the_refused_one() -> None:
    assert max(Searched(list(range(20)), {bad}).calls for bad in range(20)) == 5


def test_the_first_suspects_who_are_the_likelier_are_found_with_the_fewest_calls() -> None:
    assert [Searched(list(range(20)), {bad}).calls for bad in range(20)] == [4] * 12 + [5] * 8


@pytest.mark.parametrize("seed", range(50))
def test_of_several_bad_members_one_is_found_and_the_others_go_back_untested(seed: int) -> None:
    chance = Random(seed)
    members = list(range(chance.randint(2, 20)))
    bad = set(chance.sample(members, chance.randint(1, len(members))))

    searched = Searched(members, bad)

    assert searched.found in bad
    assert bad - {searched.found} <= set(searched.untested)
    assert sorted([*searched.applied, *searched.untested, searched.found]) == members


def test_a_half_that_passed_leaves_its_sibling_under_suspicion() -> None:
    search = Bisection(["a", "b", "c", "d", "e"], REFUSAL)

    assert search.half() == ["a", "b"]
    search.worked()

    assert search.suspects == ["c", "d", "e"]
    assert search.untested == []
    assert search.refusal is REFUSAL


def test_a_half_that_failed_sends_its_sibling_back_untested() -> None:
    search = Bisection(["a", "b", "c", "d", "e"], REFUSAL)

    assert search.failed(LATER) == ["c", "d", "e"]

    assert search.suspects == ["a", "b"]
    assert search.untested == ["c", "d", "e"]
    assert search.refusal is LATER


def test_one_that_is_asked_for_alone_and_refused_is_found_at_once() -> None:
    search = Bisection(["a", "b", "c", "d", "e"], REFUSAL)

    assert search.one() == ["a"]
    assert search.failed(LATER) == ["b", "c", "d", "e"]
    assert search.found == "a"


def test_after_one_that_passed_alone_the_search_goes_on_by_halves() -> None:
    search = Bisection(["a", "b", "c", "d", "e"], REFUSAL)

    search.one()
    search.worked()

    assert search.suspects == ["b", "c", "d", "e"]
    assert search.half() == ["b", "c"]
    search.worked()
    assert search.suspects == ["d", "e"]


def test_one_that_is_alone_is_found() -> None:
    assert Bisection(["a"], REFUSAL).found == "a"
    assert Bisection(["a", "b"], REFUSAL).found is None
