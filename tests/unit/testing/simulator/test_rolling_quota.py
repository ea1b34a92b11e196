# The quota: never more than the limit in any rolling second, and the highest second found exactly.

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.testing.simulator.rolling_quota import EndpointRequests, RollingSecond

STAMPS = st.lists(st.floats(0, 0.4), max_size=200).map(
    lambda gaps: [sum(gaps[: n + 1]) for n in range(len(gaps))]
)


def highest_of(stamps: list[float]) -> int:
    return max((sum(1 for other in stamps if 0 <= stamp - other < 1.0) for stamp in stamps), default=0)


@given(STAMPS)
def test_the_highest_rolling_second_is_the_one_that_counting_every_second_finds(stamps: list[float]) -> None:
    window = RollingSecond()

    for stamp in stamps:
        window.add(stamp)

    assert window.highest == highest_of(stamps)


@given(STAMPS, st.integers(0, 5))
def test_no_rolling_second_ever_holds_more_than_the_limit(stamps: list[float], limit: int) -> None:
    counter = EndpointRequests()

    admitted = [stamp for stamp in stamps if counter.admit(stamp, limit)]

    assert highest_of(admitted) <= limit
    assert counter.admitted.highest == highest_of(admitted)


def test_a_request_is_admitted_again_a_second_after_the_oldest() -> None:
    counter = EndpointRequests()

    assert [counter.admit(at, 2) for at in (0.0, 0.9, 0.95, 1.0, 1.5, 1.95)] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_the_highest_second_has_the_time_when_it_was_first_reached() -> None:
    window = RollingSecond()
    for at in (0.0, 0.5, 5.0, 5.5):
        window.add(at)

    assert (window.highest, window.highest_at) == (2, 0.5)


def test_resetting_the_highest_count_keeps_the_quota() -> None:
    counter = EndpointRequests()
    counter.admit(0.0, 1)

    counter.admitted.forget()

    assert not counter.admit(0.5, 1)
    assert counter.admitted.highest == 0
