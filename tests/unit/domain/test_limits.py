# Permits: the quota over all replicas, without a store and without an assumption about the network.

from itertools import pairwise
from random import Random

import pytest

from worker.domain.limits import Permits, slice_of


def owning(permits: int, *, window: float = 1.0, from_send: bool = False) -> Permits:
    made = Permits(window, window_from_send=from_send)
    made.own(permits)
    return made


@pytest.mark.parametrize("partitions", [1, 3, 6, 7, 64, 199, 200])
def test_the_slices_of_all_partitions_add_up_to_the_limit(partitions: int) -> None:
    slices = [slice_of(200, partition, partitions) for partition in range(partitions)]

    assert sum(slices) == 200
    assert max(slices) - min(slices) <= 1
    assert min(slices) >= 1


def test_a_permit_comes_back_one_second_after_the_answer() -> None:
    """
    The server reads a request before it answers: from then on a second must pass, however long the way back was.
    """
    permits = owning(1)

    permits.take(0.0)
    assert permits.free(5.0) == 0  # still out
    permits.answered(5.0, accepted=True)

    assert permits.next_return() == 6.0
    assert permits.free(5.999) == 0
    assert permits.free(6.0) == 1


def test_no_rolling_second_on_the_server_holds_more_than_the_permits_whatever_the_delays() -> None:
    """
    A window that begins at the sending lets a slow request and a fast one of the next window arrive together.
    """
    for seed in range(50):
        chance, now, permits, reads = Random(seed), 0.0, owning(5), list[float]()
        out: list[float] = []
        while len(reads) < 200:
            if permits.free(now):
                permits.take(now)
                read = now + chance.choice((0.001, 0.2, 0.9))
                reads.append(read)
                out.append(read + chance.choice((0.001, 0.3)))
            now += 0.01
            for answer in [answer for answer in out if answer <= now]:
                out.remove(answer)
                permits.answered(now, accepted=True)
        reads.sort()
        assert all(late - early >= 1.0 for early, late in zip(reads, reads[5:], strict=False)), seed


def test_counting_from_the_sending_frees_a_permit_one_window_after_it() -> None:
    permits = owning(1, window=1.05, from_send=True)

    permits.take(0.0)
    permits.answered(0.8, accepted=True)

    assert permits.used(1.04) == 1
    assert permits.free(1.05) == 1
    assert permits.next_return() is None


def test_a_request_that_was_not_sent_gives_its_permit_back_at_once() -> None:
    for from_send in (False, True):
        permits = owning(1, from_send=from_send)

        permits.take(0.0)
        permits.untake()

        assert permits.free(0.0) == 1


def test_losing_a_partition_never_frees_a_negative_number() -> None:
    permits = owning(2)
    permits.take(0.0)
    permits.take(0.0)

    permits.own(1)

    assert permits.free(0.0) == 0
    permits.answered(0.0, accepted=True)
    permits.answered(0.0, accepted=True)
    assert permits.free(0.5) == 0
    assert permits.free(1.0) == 1


def accept(permits: Permits, count: int, now: float) -> None:
    for _ in range(count):
        permits.take(now)
        permits.answered(now, accepted=True)


def test_throttling_lowers_the_ceiling_below_what_was_accepted_in_the_last_second() -> None:
    permits = owning(200)
    accept(permits, 120, 0.5)

    permits.throttled(1.0)

    assert permits.granted(1.0) == 114  # 0.95 * 120
    assert permits.factor(1.0) == pytest.approx(0.57)


def test_refused_requests_do_not_count_as_accepted() -> None:
    permits = owning(200)
    accept(permits, 100, 0.5)
    for _ in range(50):
        permits.take(0.6)
        permits.answered(0.6, accepted=False)

    permits.throttled(0.7)

    assert permits.granted(0.7) == 95


def test_many_throttle_codes_of_one_second_lower_the_ceiling_once() -> None:
    permits = owning(200)
    accept(permits, 100, 0.5)

    for _ in range(20):
        permits.throttled(1.0)

    assert permits.granted(1.0) == 95


def test_the_ceiling_recovers_by_a_hundredth_of_the_limit_a_second_and_then_is_gone() -> None:
    permits = owning(200)
    accept(permits, 100, 0.5)
    permits.throttled(1.0)

    granted = [permits.granted(1.0 + seconds) for seconds in (0, 1, 2, 60)]

    assert granted == [95, 97, 99, 200]
    assert permits.factor(61.0) == 1.0


def test_throttling_leaves_at_least_one_permit() -> None:
    permits = owning(3)

    permits.throttled(1.0)

    assert permits.granted(1.0) == 1


def test_a_replica_without_partitions_has_no_permit_and_no_factor() -> None:
    permits = owning(0)

    assert permits.free(0.0) == 0
    assert permits.factor(0.0) == 1.0


def simulated(true_limit: int, seconds: int) -> tuple[float, float]:
    """
    The share of throttled requests, and how much of the true limit was used, from the tenth second on.
    """
    permits, now, accepted = owning(200), 0.0, list[float]()
    out: list[tuple[float, bool]] = []
    sent = throttled = used = 0
    while now < seconds:
        now += 0.005
        for answer in [each for each in out if each[0] <= now]:
            out.remove(answer)
            permits.answered(now, accepted=answer[1])
            if not answer[1]:
                permits.throttled(now)
        for _ in range(permits.free(now)):
            permits.take(now)
            accepted = [at for at in accepted if at > now - 1.0]
            passes = len(accepted) < true_limit
            accepted += [now] * passes
            out.append((now + 0.03, passes))
            if now > 10:
                sent += 1
                throttled += not passes
                used += passes
    return throttled / sent, used / ((seconds - 10) * true_limit)


def test_at_a_true_limit_of_120_of_200_hardly_anything_is_throttled_and_hardly_anything_unused() -> None:
    """
    Halving with additive recovery used 78 % of it.
    """
    throttled, used = simulated(120, 30)

    assert throttled < 0.02
    assert used > 0.9


def test_permits_tell_themselves_in_a_line() -> None:
    permits = owning(4)
    permits.take(0.0)

    assert repr(permits) == "<Permits 1 out, 0 returning, 4 owned>"


def test_slices_are_fixed_so_that_no_two_partitions_share_a_permit() -> None:
    ends = [200 * (partition + 1) // 7 for partition in range(7)]

    assert [later - earlier for earlier, later in pairwise([0, *ends])] == [
        slice_of(200, p, 7) for p in range(7)
    ]
