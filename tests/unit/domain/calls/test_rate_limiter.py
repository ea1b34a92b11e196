# Permits: the slices add up to the quota, a permit comes back a window after its answer, throttling takes and gives back.

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.calls.rate_limiter import RateLimiter, quota_slice
from worker.domain.calls.replica_lending import LoanRequest


def permits(owned: int, *, from_send: bool = False) -> RateLimiter:
    """This many permits, for a second."""
    made = RateLimiter(1.0, window_from_send=from_send)
    made.set_share(owned)
    return made


def use(some: RateLimiter, count: int, sent_at: float, answered_at: float, *, accepted: bool = True) -> None:
    """This many requests are sent and answered."""
    for _ in range(count):
        some.acquire(sent_at)
    for _ in range(count):
        some.request_ended(answered_at, accepted=accepted)


@given(limit=st.integers(1, 1000), partitions=st.integers(1, 300))
def test_over_all_partitions_the_slices_add_up_to_the_limit(limit: int, partitions: int) -> None:
    slices = [quota_slice(limit, number, partitions) for number in range(partitions)]

    assert sum(slices) == limit
    assert max(slices) - min(slices) <= 1


@given(partitions=st.integers(1, 200))
def test_with_a_limit_of_no_less_than_the_partitions_each_has_a_permit(partitions: int) -> None:
    assert all(quota_slice(200, number, partitions) for number in range(partitions))


def test_a_permit_is_taken_until_a_second_after_the_answer() -> None:
    some = permits(2)

    use(some, 1, sent_at=10.0, answered_at=15.0)

    assert some.free(15.0) == 1
    assert some.free(15.999) == 1
    assert some.free(16.0) == 2


def test_what_is_not_answered_keeps_its_permit() -> None:
    some = permits(1)

    some.acquire(10.0)

    assert some.free(10_000.0) == 0
    assert some.next_return() is None
    assert repr(some) == "<RateLimiter 1 out, 0 returning, 1 owned>"


def test_the_next_permit_to_come_back_by_itself_is_that_of_the_oldest_answer() -> None:
    some = permits(2)
    use(some, 1, sent_at=10.0, answered_at=10.5)
    use(some, 1, sent_at=10.0, answered_at=10.75)

    assert some.next_return() == 11.5


def test_a_request_that_did_not_leave_gives_its_permit_back_at_once() -> None:
    some = permits(1)
    some.acquire(10.0)

    some.release()

    assert some.free(10.0) == 1


def test_counted_from_the_sending_a_permit_comes_back_whatever_the_answer_does() -> None:
    some = permits(1, from_send=True)

    some.acquire(10.0)
    some.request_ended(10.5, accepted=True)

    assert some.free(10.999) == 0
    assert some.free(11.0) == 1


def test_a_request_that_did_not_leave_holds_its_permit_no_longer_than_others() -> None:
    """Even when that it did not leave becomes known only after its second: it waited for a connection."""
    some = permits(2, from_send=True)
    some.acquire(10.0)
    some.acquire(10.5)

    some.release()
    assert some.used(10.5) == 2

    assert some.used(11.5) == 0
    some.release()
    assert some.free(11.5) == 2


def test_when_partitions_go_there_is_less_than_nothing_free_and_none_is_given() -> None:
    some = permits(4)
    use(some, 3, sent_at=10.0, answered_at=10.0)

    some.set_share(1)

    assert some.free(10.5) == 0
    assert some.used(10.5) == 3


def test_a_throttled_replica_uses_a_little_less_than_what_was_accepted() -> None:
    some = permits(200)
    use(some, 100, sent_at=10.0, answered_at=10.0)
    use(some, 20, sent_at=10.0, answered_at=10.0, accepted=False)

    some.throttled(10.5)

    assert some.granted(10.5) == 95
    assert some.factor(10.5) == 0.475


def test_what_was_accepted_more_than_a_second_ago_says_nothing_about_the_limit() -> None:
    some = permits(200)
    use(some, 100, sent_at=10.0, answered_at=10.0)
    use(some, 40, sent_at=11.5, answered_at=11.5)

    some.throttled(11.75)

    assert some.granted(11.75) == 38


def test_the_ceiling_is_lowered_at_most_once_a_second() -> None:
    some = permits(200)
    use(some, 100, sent_at=10.0, answered_at=10.0)

    some.throttled(10.0)
    some.throttled(10.9)

    assert some.granted(10.0) == 95

    some.throttled(11.5)

    assert some.granted(11.5) == 1, "nothing was accepted in the last second"


def test_what_is_accepted_within_a_second_after_a_refusal_counts_as_well() -> None:
    """Of requests that left together, a refused one may be answered before those that were accepted."""
    some = permits(200)
    for _ in range(121):
        some.acquire(10.0)
    some.request_ended(10.0, accepted=False)
    some.throttled(10.0)

    assert some.granted(10.0) == 1

    for _ in range(120):
        some.request_ended(10.1, accepted=True)

    assert some.granted(10.1) == 114


def test_the_ceiling_recovers_by_a_hundredth_of_the_limit_a_second() -> None:
    some = permits(200)
    use(some, 100, sent_at=10.0, answered_at=10.0)
    some.throttled(10.0)

    assert some.granted(11.0) == 97
    assert some.granted(20.0) == 115
    assert some.granted(62.0) == 199
    assert some.granted(62.5) == 200
    assert some.granted(10_000.0) == 200


def test_a_recovered_replica_forgets_that_it_was_throttled() -> None:
    some = permits(200)
    use(some, 100, sent_at=10.0, answered_at=10.0)
    some.throttled(10.0)
    some.granted(63.0)

    some.set_share(400)

    assert some.granted(63.0) == 400


def test_throttling_leaves_one_permit_to_go_on_with() -> None:
    some = permits(3)

    some.throttled(10.0)

    assert some.granted(10.0) == 1
    assert some.free(10.0) == 1


def test_a_throttled_replica_that_loses_partitions_has_no_more_than_it_owns() -> None:
    some = permits(200)
    use(some, 100, sent_at=10.0, answered_at=10.0)
    some.throttled(10.0)

    some.set_share(0)

    assert some.granted(10.0) == 0
    assert some.factor(10.0) == 1.0


@pytest.mark.parametrize(("owned", "seconds"), [(4, 0.0), (3, 0.7), (2, 0.8), (1, 0.9), (0, 1.0)])
def test_what_remains_covers_all_that_counts_once_as_many_permits_as_went_are_back(
    owned: int, seconds: float
) -> None:
    some = permits(4)
    for place in range(4):
        use(some, 1, sent_at=10.0, answered_at=10.0 + place / 10)

    some.set_share(owned)

    assert some.seconds_until_covered(10.3) == pytest.approx(seconds)
    assert some.seconds_until_covered(11.3) == 0.0


def test_what_is_out_and_what_is_lent_count_as_long_as_they_are() -> None:
    """Three remain: of the two answers before, the first one must be back, since one is out and one is lent."""
    some = permits(6)
    use(some, 1, sent_at=10.0, answered_at=10.1)
    use(some, 1, sent_at=10.0, answered_at=10.2)
    some.acquire(10.3)
    assert some.lend(LoanRequest("", "b", 1, 1, {}), 10.3, waiting=0, may_lend=True) is not None

    some.set_share(3)

    assert some.seconds_until_covered(10.4) == pytest.approx(0.7)


@pytest.mark.parametrize("seed", range(20))
def test_a_server_that_counts_any_rolling_second_never_sees_more_than_the_permits(seed: int) -> None:
    """Whatever the way there and back takes: the server reads a request between its sending and its answer."""
    chance, now = Random(seed), 100.0
    owned = chance.randint(1, 10)
    some = permits(owned)
    out: list[tuple[float, float]] = []
    read: list[float] = []

    for _ in range(400):
        now += chance.choice((0.0, 0.01, 0.1, 0.5))
        if some.free(now) and chance.random() < 0.9:
            some.acquire(now)
            out.append((now, now))
        elif out:
            sent_at, _ = out.pop(chance.randrange(len(out)))
            read.append(chance.uniform(sent_at, now))
            some.request_ended(now, accepted=chance.random() < 0.9)
    read += [chance.uniform(sent_at, now) for sent_at, _ in out]

    window: deque[float] = deque()
    for instant in sorted(read):
        window.append(instant)
        while window[0] <= instant - 1.0:
            window.popleft()
        assert len(window) <= owned


@pytest.mark.parametrize("seed", range(40))
def test_the_two_owners_of_a_slice_send_no_more_than_the_quota_in_any_rolling_second(seed: int) -> None:
    """The old one goes on with what remains, and the next one begins when the slice is free: both as fast as they can."""
    chance, now = Random(seed), 100.0
    owned, going = chance.randint(2, 8), chance.randint(1, 4)
    old, heir = permits(owned + going), permits(0)
    out: list[tuple[RateLimiter, float]] = []
    read: list[float] = []
    gone_at, begins_at = now + chance.uniform(1.0, 3.0), float("inf")
    is_gone = False

    while now < 106.0:
        now += chance.choice((0.001, 0.01, 0.05))
        if not is_gone and now >= gone_at:
            old.set_share(owned)
            if old.permits_cover_in_flight(now):
                is_gone, begins_at = True, now + old.seconds_until_covered(now)
        if now >= begins_at:
            heir.set_share(going)
        for some in (old, heir):
            while some.free(now) and chance.random() < 0.9:
                some.acquire(now)
                out.append((some, now))
        while out and chance.random() < 0.5:
            some, sent_at = out.pop(chance.randrange(len(out)))
            read.append(chance.uniform(sent_at, now))
            some.request_ended(now, accepted=True)

    assert begins_at < now
    read.sort()
    for first, last in enumerate(range(owned + going, len(read))):
        assert read[last] > read[first] + 1.0
