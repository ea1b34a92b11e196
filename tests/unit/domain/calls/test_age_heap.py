# Who has waited longest, whatever comes and goes; and that what is left behind does not pile up.

from __future__ import annotations

from random import Random

import pytest

from worker.domain.calls.age_heap import FEW, AgeHeap


class Waiter:
    """Something that waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting_since: float | None = None

    def set_waiting_since(self, since: float | None) -> None:
        self.waiting_since = since

    def __repr__(self) -> str:
        return self.name


def test_nobody_is_the_oldest_of_none() -> None:
    ages: AgeHeap[Waiter] = AgeHeap()

    assert ages.oldest() is None


def test_the_oldest_is_the_one_that_has_waited_longest() -> None:
    ages: AgeHeap[Waiter] = AgeHeap()
    a, b = Waiter("a"), Waiter("b")

    ages.set(b, 2.0, 1)
    ages.set(a, 1.0, 2)

    assert ages.oldest() is a


def test_of_the_same_age_the_one_of_the_lowest_order_is_the_oldest() -> None:
    ages: AgeHeap[Waiter] = AgeHeap()
    a, b = Waiter("a"), Waiter("b")

    ages.set(b, 1.0, 2)
    ages.set(a, 1.0, 1)

    assert ages.oldest() is a


def test_one_that_waits_no_more_is_not_the_oldest() -> None:
    ages: AgeHeap[Waiter] = AgeHeap()
    a, b = Waiter("a"), Waiter("b")
    ages.set(a, 1.0, 1)
    ages.set(b, 2.0, 2)

    ages.set(a, None, 3)

    assert ages.oldest() is b


def test_one_that_has_become_younger_is_the_oldest_no_more() -> None:
    ages: AgeHeap[Waiter] = AgeHeap()
    a, b = Waiter("a"), Waiter("b")
    ages.set(a, 1.0, 1)
    ages.set(b, 2.0, 2)

    ages.set(a, 3.0, 3)

    assert ages.oldest() is b


def test_what_is_left_behind_does_not_pile_up_under_one_that_waits_for_long() -> None:
    """While an endpoint is halted its oldest waits for hours, and others come and go."""
    ages: AgeHeap[Waiter] = AgeHeap()
    ages.set(patient := Waiter("patient"), 0.0, 0)

    for order in range(1, 5_000, 2):
        passing = Waiter("passing")
        ages.set(passing, float(order), order)
        ages.set(passing, None, order + 1)

    assert len(ages) <= 2 + FEW
    assert ages.oldest() is patient


def test_one_that_waits_again_since_the_same_time_leaves_nothing_behind() -> None:
    """Else the heap would grow with each probe of the same waiter."""
    ages: AgeHeap[Waiter] = AgeHeap()
    ages.set(Waiter("patient"), 0.0, 0)
    blocked = Waiter("blocked")

    for order in range(1, 5_000, 2):
        ages.set(blocked, 1.0, order)
        ages.set(blocked, None, order + 1)

    assert len(ages) <= 2 + FEW


@pytest.mark.parametrize("seed", range(20))
def test_whoever_comes_and_goes_the_oldest_is_found(seed: int) -> None:
    chance = Random(seed)
    ages: AgeHeap[Waiter] = AgeHeap()
    waiters = [Waiter(str(number)) for number in range(30)]

    for order in range(2_000):
        since = chance.choice((None, float(chance.randint(0, 50))))
        ages.set(chance.choice(waiters), since, order)

        oldest = ages.oldest()
        assert (None if oldest is None else oldest.waiting_since) == min(
            (each.waiting_since for each in waiters if each.waiting_since is not None), default=None
        )
        assert len(ages) <= 2 * len(waiters) + FEW
