# Instants on the monotonic clock and in seconds since 1970.

from __future__ import annotations

from worker.domain.wall_clock import WallClock


def test_the_two_scales_keep_their_distance() -> None:
    clock = WallClock(100.0, 1_900_000_000.0)

    assert clock.wall(130.0) == 1_900_000_030.0
    assert clock.monotonic(1_900_000_030.0) == 130.0


def test_a_stepped_system_clock_is_followed() -> None:
    clock = WallClock(100.0, 1_900_000_000.0)

    clock.set(110.0, 1_899_999_000.0)

    assert clock.wall(110.0) == 1_899_999_000.0
    assert clock.monotonic(clock.wall(123.5)) == 123.5
