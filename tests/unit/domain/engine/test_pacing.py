# Pacing: while more waits than a second's permits can carry, calls leave evenly, not in the bunches in which permits come back.

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.unit.domain.engine_harness import ENDPOINT_OF, EngineHarness, ban, users
from worker.domain.calls.endpoint_state import PACE, SLOWEST_PACE, TIMER_GRAIN
from worker.domain.calls.lending_router import lane_of
from worker.domain.calls.replica_lending import LoanRequest, encode

QUOTA = 200
LIMIT = QUOTA * 20
"""The most members that a second's permits carry."""
INTERVAL = 1 / (PACE * QUOTA)
assert PACE * QUOTA >= SLOWEST_PACE


def backlog(members: int, **settings: Any) -> EngineHarness:
    """This many members wait at once, over forty rooms."""
    harness = EngineHarness(default_calls_per_second=QUOTA, **settings)
    harness.receive_together(
        *(ban(*users(20, f"u{place}-"), group=f"g{place % 40}") for place in range(members // 20))
    )
    return harness


def left_in(harness: EngineHarness, seconds: float) -> list[float]:
    """When requests leave in this time, each answered at once."""
    begin, before = harness.now, len(harness.sent)
    while harness.now < begin + seconds:
        harness.wait(INTERVAL / 4)
        harness.ok()
    return [round(each.at - begin, 6) for each in harness.sent[before:]]


def test_what_a_seconds_permits_can_carry_leaves_at_once() -> None:
    harness = backlog(LIMIT)

    assert len(harness.out) == QUOTA


def test_while_more_waits_calls_leave_one_by_one() -> None:
    harness = backlog(2 * LIMIT)
    assert len(harness.out) == 1
    harness.ok()

    times = left_in(harness, 0.5)

    assert len(times) == pytest.approx(0.5 * PACE * QUOTA, abs=2)
    assert min(after - before for before, after in pairwise(times)) >= INTERVAL - TIMER_GRAIN


def test_what_left_at_once_delays_nothing_when_more_comes() -> None:
    harness = backlog(LIMIT)
    harness.receive_together(
        *(ban(*users(20, f"v{place}-"), group=f"g{place}") for place in range(QUOTA + 1))
    )
    harness.fence(harness.out[0])  # its permit is free at once

    harness.wait(2 * INTERVAL)

    assert len(harness.out) == QUOTA


def test_the_whole_quota_is_used_all_the_same() -> None:
    harness = backlog(5 * LIMIT)
    harness.ok()
    left_in(harness, 1.0)

    assert len(left_in(harness, 2.0)) >= 2 * QUOTA * 0.97


def test_after_a_stall_calls_do_not_leave_in_one_bunch() -> None:
    harness = backlog(2 * LIMIT)
    harness.be_busy(1.0)
    before = len(harness.sent)

    harness.wait(0.0)

    assert len(harness.sent) == before + 1


def test_few_permits_are_not_spread_for_they_never_overload_a_core() -> None:
    few = 20
    harness = EngineHarness(default_calls_per_second=few)
    harness.receive_together(*(ban(*users(20, f"u{place}-"), group=f"g{place}") for place in range(2 * few)))
    harness.ok()

    left_in(harness, few / SLOWEST_PACE + INTERVAL)

    assert len(harness.sent) == few


def test_at_a_high_quota_several_leave_at_once_for_timers_are_coarse() -> None:
    harness = EngineHarness(default_calls_per_second=1000)
    harness.receive_together(*(ban(*users(20, f"u{place}-"), group=f"g{place % 8}") for place in range(1100)))
    before = len(harness.sent)
    harness.be_busy(TIMER_GRAIN + 1 / (PACE * 1000))

    harness.wait(0.0)

    assert 1 < len(harness.sent) - before <= 1 + TIMER_GRAIN * PACE * 1000


def test_a_paced_endpoint_is_limited_by_its_quota_though_a_permit_is_free() -> None:
    harness = backlog(3 * LIMIT)

    assert harness.limited_by("ban") == "quota"


def test_a_paced_endpoint_lends_nothing() -> None:
    harness = backlog(3 * LIMIT, quota_pools={"main": "pool"})
    lane = lane_of(harness.settings, "main", ENDPOINT_OF["ban"])

    harness.hear_quota_messages(encode(LoanRequest(lane, "another", 1, 5, {})))

    endpoint = next(each for each in harness.engine.snapshot(harness.now).endpoints if each.waiting)
    assert endpoint.permits_used < endpoint.permits_owned
    assert endpoint.permits_lent == 0
