# How the quota was used in the last minutes: a ring for each endpoint, oldest first.

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.page.served import KICK, endpoint
from worker.domain.engine_snapshot import EngineSnapshot, EventCounts
from worker.runtime.recent_quota_use import MOST, SECONDS, UNKNOWN, RecentQuotaUse

if TYPE_CHECKING:
    from worker.domain.engine_snapshot import EndpointSnapshot


def snapshot(*endpoints: EndpointSnapshot) -> EngineSnapshot:
    return EngineSnapshot(endpoints, (), (), 0, 0, {}, EventCounts())


def test_the_newest_second_is_last_and_before_the_first_there_is_nothing() -> None:
    recent = RecentQuotaUse()
    for used in range(1, 4):
        recent.sample(snapshot(endpoint(permits_used=used, permits_granted=10 * used)))

    assert recent.used(endpoint())[-4:] == [0, 1, 2, 3]
    assert recent.granted(endpoint())[-4:] == [0, 10, 20, 30]
    assert recent.limited_by(endpoint()) == [(UNKNOWN, SECONDS - 3), ("nothing", 3)]


def test_what_is_older_than_five_minutes_is_forgotten() -> None:
    recent = RecentQuotaUse()
    for used in range(SECONDS + 10):
        recent.sample(snapshot(endpoint(permits_used=used)))

    assert recent.used(endpoint()) == list(range(10, SECONDS + 10))


def test_each_endpoint_has_its_own_past_and_an_unknown_one_has_none() -> None:
    recent = RecentQuotaUse()
    recent.sample(snapshot(endpoint(permits_used=7), endpoint(app="other", permits_used=9)))

    assert recent.used(endpoint())[-1] == 7
    assert recent.used(endpoint(app="other"))[-1] == 9
    assert recent.used(endpoint(endpoint=KICK)) == [0] * SECONDS


def test_what_limited_it_is_a_sequence_of_spans() -> None:
    recent = RecentQuotaUse()
    for second in range(SECONDS):
        limited = "throttle" if second < 100 else "quota" if second < 250 else "nothing"
        recent.sample(snapshot(endpoint(limited_by=limited)))

    assert recent.limited_by(endpoint()) == [("throttle", 100), ("quota", 150), ("nothing", 50)]


def test_a_number_beyond_all_bounds_does_no_harm() -> None:
    recent = RecentQuotaUse()
    recent.sample(snapshot(endpoint(permits_used=10**9)))

    assert recent.used(endpoint())[-1] == MOST
