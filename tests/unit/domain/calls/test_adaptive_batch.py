# How many members a batch may hold: what was learnt of a target decides, and what it costs is counted.

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from tests.unit.domain.calls.test_bad_member_search import REFUSAL
from tests.unit.domain.calls.test_endpoint_queue import put, queue_of, taken
from worker.domain.calls.adaptive_batch import AdaptiveBatchSize
from worker.domain.calls.bad_member_search import Bisection

MOST = 20


def seen(*, good: int, bad: int) -> AdaptiveBatchSize:
    """What is made of this many members, the good ones first."""
    size = AdaptiveBatchSize(MOST)
    for _ in range(good):
        size.learn(good=1)
    for _ in range(bad):
        size.learn(bad=1)
    return size


def settled_per_call(share: float, seed: int, *, learns: bool, at_once: int = 1) -> float:
    """How many members a call settles when this share of a target's members is bad, and this many calls are under way at once."""
    members = 2000
    size = AdaptiveBatchSize(MOST)
    chance = Random(seed)
    waiting = [chance.random() < share for _ in range(members)]
    searches: deque[Bisection[bool]] = deque()
    under_way: deque[tuple[list[bool], Bisection[bool] | None]] = deque()
    calls = 0
    while waiting or searches or under_way:
        while len(under_way) < at_once and (searches or waiting):
            if searches:
                under_way.append((searches[0].half(), searches.popleft()))
                continue
            most = size.members if learns else MOST
            under_way.append((waiting[:most], None))
            del waiting[:most]
        batch, search = under_way.popleft()
        calls += 1
        if not any(batch):
            size.learn(good=len(batch))
            if search is None:
                continue
            search.worked()
        elif search is None:
            search = Bisection(batch, REFUSAL)
        else:
            search.failed(REFUSAL)
        if search.found is None:
            searches.append(search)
        else:
            size.learn(bad=1)
            waiting = search.untested + waiting
    return members / calls


def test_a_target_of_which_nothing_is_known_gets_whole_batches() -> None:
    assert AdaptiveBatchSize(MOST).members == MOST


@pytest.mark.parametrize("good", [0, 1, 19, 500])
def test_one_bad_member_makes_no_batch_smaller(good: int) -> None:
    assert seen(good=good, bad=1).members == MOST


def test_two_bad_members_among_few_make_the_batches_smaller() -> None:
    size = seen(good=5, bad=2)

    assert size.members == 8
    assert repr(size) == "<AdaptiveBatchSize 8: 2.0 bad of 7.0>"


def test_where_every_member_is_bad_each_is_asked_for_alone() -> None:
    assert seen(good=0, bad=15).members == 1


def test_the_batches_grow_again_when_the_members_are_good_again() -> None:
    size = seen(good=0, bad=100)

    for _ in range(8 * MOST):
        size.learn(good=size.members)

    assert size.members == MOST


def test_learning_tells_whether_the_size_has_changed() -> None:
    size = AdaptiveBatchSize(MOST)

    assert [size.learn(bad=1) for _ in range(2)] == [False, True]
    assert size.learn(good=5) is True


@pytest.mark.parametrize(
    ("share", "at_least", "of_whole_batches"),
    [
        (0.005, 12.0, 1.0),
        (0.02, 6.3, 0.98),
        (0.05, 3.2, 0.98),
        (0.1, 2.0, 1.1),
        (0.3, 1.05, 1.6),
        (0.68, 0.97, 3.0),
    ],
)
def test_what_a_call_settles_for_a_share_of_bad_members(
    share: float, at_least: float, of_whole_batches: float
) -> None:
    learnt, whole = (
        sum(settled_per_call(share, seed, learns=learns) for seed in range(10)) / 10
        for learns in (True, False)
    )

    assert learnt >= at_least
    assert learnt >= of_whole_batches * whole


def test_bad_members_that_come_together_from_many_calls_make_few_batches_smaller() -> None:
    """A good batch is known after one call and a bad member after five, so what comes first says nothing of the share."""
    learnt, whole = (
        sum(settled_per_call(0.02, seed, learns=learns, at_once=20) for seed in range(20)) / 20
        for learns in (True, False)
    )

    assert learnt >= 0.995 * whole


def test_two_hundred_good_calls_make_batches_whole_again_however_many_were_bad() -> None:
    size = seen(good=0, bad=1000)

    for _ in range(200):
        size.learn(good=size.members)

    assert size.members == MOST


# In the queue


def test_a_full_batch_of_a_target_is_as_large_as_its_members_deserve() -> None:
    queue = queue_of(MOST)
    put(queue, "a", *(f"u{number}" for number in range(12)))

    queue.learn(queue.target("a"), good=5, bad=2)

    assert taken(queue) == [f"u{number}" for number in range(8)]
    assert taken(queue) == [f"u{number}" for number in range(8, 12)]


def test_a_target_with_many_bad_members_does_not_go_before_whole_batches_of_others() -> None:
    queue = queue_of(MOST)
    put(queue, "bad", *(f"b{number}" for number in range(30)))
    put(queue, "good", *(f"g{number}" for number in range(10)))

    queue.learn(queue.target("bad"), good=5, bad=2)

    assert taken(queue)[0] == "g0"
    assert taken(queue)[0] == "b0"


@pytest.mark.parametrize(("overdue_after", "first"), [(3.0, "b0"), (5.0, "g0")])
def test_one_with_many_bad_members_still_goes_first_when_it_has_waited_too_long(
    overdue_after: float, first: str
) -> None:
    queue = queue_of(MOST, overdue_after)
    put(queue, "bad", *(f"b{number}" for number in range(30)), now=1.0)
    put(queue, "good", *(f"g{number}" for number in range(10)), now=5.0)
    queue.learn(queue.target("bad"), good=5, bad=2)

    assert taken(queue, now=5.0)[0] == first


def test_what_rests_goes_again_as_soon_as_it_fills_the_batch_that_is_left() -> None:
    queue = queue_of(MOST)
    some = put(queue, "a", *(f"u{number}" for number in range(8)))
    queue.take(10.0)
    queue.learn(queue.target("a"), good=5, bad=2)

    queue.rest(some)

    assert taken(queue) == [member.user for member in some]
