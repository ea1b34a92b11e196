# The search for one bad member of a refused batch.

from itertools import combinations
from math import ceil, log2

import pytest

from worker.domain.codes import Verdict
from worker.domain.effects import Try
from worker.domain.splitting import Search

REFUSAL = Try(0.0, 0.1, Verdict.MEMBER, 200, 10019)
OTHER = Try(0.2, 0.3, Verdict.MEMBER, 200, 70107)


def searched(batch: list[int], bad: set[int]) -> tuple[int, list[int], Search[int]]:
    """
    Plays a search to its end: how many calls, what went back untested, and the search.
    """
    search = Search(batch, REFUSAL)
    calls = 0
    while search.found is None:
        calls += 1
        if bad & set(search.half()):
            search.failed(OTHER)
        else:
            search.passed()
    return calls, search.untested, search


@pytest.mark.parametrize("size", range(2, 21))
def test_one_bad_member_is_found_in_at_most_the_logarithm_of_the_batch_in_calls(size: int) -> None:
    for bad in range(size):
        calls, _, search = searched(list(range(size)), {bad})

        assert search.found == bad
        assert calls <= ceil(log2(size))


def test_with_several_bad_members_one_of_them_is_found_and_nobody_is_both_tested_and_untested() -> None:
    for bad in combinations(range(12), 2):
        _, untested, search = searched(list(range(12)), set(bad))

        assert search.found in bad
        assert search.found not in untested
        assert len(untested) == len(set(untested))
        other = (set(bad) - {search.found}).pop()
        assert other in untested, "the other bad member cannot have passed"


def test_a_half_that_passes_is_never_sent_again_and_its_sibling_not_whole() -> None:
    search = Search([1, 2, 3, 4], REFUSAL)

    search.passed()

    assert search.suspects == [3, 4]
    assert search.half() == [3]


def test_the_sibling_of_a_half_that_fails_goes_back_untested() -> None:
    search = Search([1, 2, 3, 4], REFUSAL)

    assert search.failed(OTHER) == [3, 4]
    assert search.untested == [3, 4]
    assert search.refusal is OTHER
