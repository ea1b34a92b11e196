# Instants as texts: RFC 3339, no more and no less.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.contract.timestamps import instant_of, rfc3339

INSTANT = 1_893_456_000.0


@pytest.mark.parametrize(
    "text",
    [
        "2030-01-01T00:00:00Z",
        "2030-01-01t00:00:00z",
        "2030-01-01T00:00:00.000000+00:00",
        "2030-01-01T00:00:00-00:00",
        "2030-01-01T08:00:00+08:00",
        "2029-12-31T19:30:00-04:30",
    ],
)
def test_one_instant_may_be_written_in_many_ways(text: str) -> None:
    assert instant_of(text) == INSTANT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2030-01-01",
        "2030-01-01T00:00:00",
        "2030-01-01 00:00:00Z",
        "2030-01-01T00:00Z",
        "2030-1-1T00:00:00Z",
        "20300101T000000Z",
        "2030-01-01T24:00:00Z",
        "2030-01-01T00:60:00Z",
        "2030-01-01T00:00:61Z",
        "2030-01-01T00:00:00.Z",
        "2030-01-01T00:00:00+8",
        "2030-01-01T00:00:00+24:00",
        "2030-01-01T00:00:00Z ",
        "\uff12030-01-01T00:00:00Z",
        "2030-13-01T00:00:00Z",
        "2030-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_what_is_no_rfc_3339_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        instant_of(text)


def test_a_time_without_an_offset_is_refused_with_how_to_write_one() -> None:
    with pytest.raises(ValueError, match="2030-01-31T12:00:00Z"):
        instant_of("2030-01-01T00:00:00")


def test_a_leap_second_counts_as_the_second_before() -> None:
    assert instant_of("2016-12-31T23:59:60Z") == instant_of("2016-12-31T23:59:59Z")
    assert instant_of("2016-12-31T23:59:60.5Z") == instant_of("2016-12-31T23:59:59.5Z")


def test_instants_are_written_in_utc_with_milliseconds() -> None:
    assert rfc3339(INSTANT) == "2030-01-01T00:00:00.000Z"
    assert rfc3339(INSTANT + 0.25) == "2030-01-01T00:00:00.250Z"


@given(st.integers(0, 4_102_444_800_000))
def test_what_is_written_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    instant = milliseconds / 1000

    assert instant_of(rfc3339(instant)) == pytest.approx(instant, abs=0.001)
