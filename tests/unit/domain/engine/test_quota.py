# The quota: which permits a replica has, when they come back, and what becomes of them when Tencent says "too many".

from __future__ import annotations

import pytest

from tests.unit.domain.engine_harness import ENDPOINT_OF, Desk, ban, kick, unban, users
from worker.domain.calls.rate_limiter import slice_of


def spread(desk: Desk, number: int, name: str = "t") -> None:
    """
    So many bans that have nothing to do with each other.
    """
    for place in range(number):
        desk.receive(ban("u", group=f"{name}{place}"))


def test_no_command_is_called_until_three_seconds_after_the_assignment() -> None:
    """
    Until then what the owner before has sent has taken effect, and its permits are back.
    """
    desk = Desk(settled=False)
    desk.receive(ban("u"))
    desk.wait(2.75)
    assert desk.out == []
    assert desk.paused == {0}

    desk.wait(0.25)

    assert len(desk.out) == 1
    assert desk.paused == set()


def test_a_replica_uses_the_slices_of_its_partitions() -> None:
    desk = Desk(1, 2, partitions=8, default_calls_per_second=30)
    spread_over_two = 30 * 3 // 8 - 30 * 1 // 8
    for place in range(30):
        desk.receive(ban("u", group=f"t{place}"), partition=1 + place % 2)

    assert len(desk.out) == spread_over_two == slice_of(30, 1, 8) + slice_of(30, 2, 8)
    assert desk.limited_by("ban") == "quota"


def test_a_slice_is_used_from_three_seconds_after_its_assignment() -> None:
    desk = Desk(0, partitions=2, default_calls_per_second=10)
    desk.assign(1)
    spread(desk, 10)
    desk.wait(2.75)
    assert len(desk.out) == 5

    desk.wait(0.25)

    assert len(desk.out) == 10


def test_the_slice_of_a_partition_that_has_gone_is_not_used() -> None:
    desk = Desk(0, 1, default_calls_per_second=10)
    desk.revoked(1)
    spread(desk, 10)

    assert len(desk.out) == 5


def test_a_partition_that_comes_back_settles_anew() -> None:
    desk = Desk()
    desk.revoked(0)
    desk.assign(0)
    desk.receive(ban("u"))
    desk.wait(2.75)

    assert desk.out == []


def test_each_endpoint_and_app_has_its_own_permits() -> None:
    desk = Desk(calls_per_second={ENDPOINT_OF["kick"]: 1}, default_calls_per_second=2)
    for place in range(3):
        target = f"t{place}"
        desk.receive(ban("u", group=target), ban("u", group=target, app="second"), kick("v", room=target))

    requests = [(each.send.app, each.action) for each in desk.out]
    assert [requests.count(each) for each in (("main", "ban"), ("second", "ban"), ("main", "kick"))] == [
        2,
        2,
        1,
    ]


def test_a_permit_comes_back_one_second_after_the_answer() -> None:
    desk = Desk(default_calls_per_second=1)
    spread(desk, 2)
    desk.wait(30.0)
    assert len(desk.out) == 1
    answered_at = desk.now
    desk.ok()
    assert desk.out == []
    assert desk.engine.wake_at() <= answered_at + 1.0

    desk.wait(0.75)
    assert desk.out == []
    desk.wait(0.25)

    assert [each.at for each in desk.out] == [answered_at + 1.0]


@pytest.mark.parametrize("failure", ["timeout", "refuse_connection"])
def test_a_permit_comes_back_one_second_after_a_failure(failure: str) -> None:
    desk = Desk(default_calls_per_second=1)
    spread(desk, 2)
    getattr(desk, failure)(desk.request())
    desk.wait(0.75)
    assert desk.out == []
    desk.wait(0.25)

    assert [each.target for each in desk.out] == ["t1"]


def test_a_permit_counted_from_sending_comes_back_without_an_answer() -> None:
    desk = Desk(default_calls_per_second=1, window_from_send=True, window=1.25)
    spread(desk, 2)
    sent_at = desk.now
    desk.wait(1.0)
    assert len(desk.out) == 1
    desk.wait(0.25)

    assert [each.at for each in desk.out] == [sent_at, sent_at + 1.25]


def test_a_permit_counted_from_sending_is_not_counted_from_its_answer() -> None:
    desk = Desk(default_calls_per_second=1, window_from_send=True, window=1.0)
    spread(desk, 2)
    desk.wait(0.75)
    desk.ok()
    desk.wait(0.25)

    assert len(desk.out) == 1


def test_what_was_not_sent_gives_its_permit_back_at_once() -> None:
    desk = Desk(default_calls_per_second=1)
    spread(desk, 2)
    desk.fence(desk.request())

    assert [each.target for each in desk.out] == ["t1"]


def test_a_permit_counted_from_sending_comes_back_by_itself_even_if_nothing_was_sent() -> None:
    desk = Desk(default_calls_per_second=1, window_from_send=True)
    spread(desk, 2)
    desk.fence(desk.request())
    assert desk.out == []
    desk.wait(1.0)

    assert [each.target for each in desk.out] == ["t1"]


def test_what_was_not_sent_is_no_attempt_and_goes_again() -> None:
    desk = Desk(max_attempts=1)
    desk.receive(ban("u", command_id="c"))
    for _ in range(3):
        desk.fence(desk.request())
        desk.ask()
    desk.ok()

    assert desk.outcome("c").attempts == 1


def test_throttling_lowers_the_permits_to_less_than_was_accepted() -> None:
    desk = Desk(default_calls_per_second=100)
    spread(desk, 100)
    for request in list(desk.out)[:40]:
        desk.ok(request)
    desk.code(desk.out[0], 60007)
    lane = next(
        each for each in desk.engine.snapshot(desk.now).endpoints if each.endpoint == ENDPOINT_OF["ban"]
    )

    assert lane.permits_granted == 38
    assert lane.permits_owned == 100
    assert lane.throttle_factor == 0.38


def test_throttling_counts_at_most_once_a_second() -> None:
    desk = Desk(default_calls_per_second=100)
    spread(desk, 100)
    for request in list(desk.out)[:40]:
        desk.ok(request)
    for request in list(desk.out)[:20]:
        desk.code(request, 60007)

    assert granted(desk, "ban") == 38


def granted(desk: Desk, action: str) -> int:
    """
    The permits of the endpoint that may be used at once.
    """
    lanes = desk.engine.snapshot(desk.now).endpoints
    return next(each.permits_granted for each in lanes if each.endpoint == ENDPOINT_OF[action])


def test_throttling_leaves_one_permit_and_recovers_by_a_hundredth_a_second() -> None:
    desk = Desk(default_calls_per_second=100)
    desk.receive(ban("u"))
    desk.code(desk.request(), 60007)
    assert granted(desk, "ban") == 1

    desk.wait(10.0)
    assert granted(desk, "ban") == 11
    desk.wait(90.0)
    assert granted(desk, "ban") == 100


def test_throttling_of_one_endpoint_leaves_the_others_alone() -> None:
    desk = Desk(default_calls_per_second=100)
    desk.receive(ban("u"))
    desk.code(desk.request(), 60007)

    assert granted(desk, "kick") == 100


def test_throttling_of_the_app_lowers_all_its_endpoints_and_no_other_app() -> None:
    desk = Desk(default_calls_per_second=100)
    desk.receive(ban("u"))
    desk.code(desk.request(), 60011)

    by_app = {
        app: {each.permits_granted for each in desk.engine.snapshot(desk.now).endpoints if each.app == app}
        for app in ("main", "second")
    }
    assert by_app == {"main": {1}, "second": {100}}


def test_a_throttled_lane_tells_what_limits_it() -> None:
    desk = Desk(default_calls_per_second=100)
    spread(desk, 2)
    desk.code(desk.out[0], 60007)
    desk.ask()

    assert desk.limited_by("ban") == "throttle"


def test_throttle_codes_are_no_attempts() -> None:
    desk = Desk(max_attempts=1)
    desk.receive(ban("u", command_id="c"))
    for _ in range(5):
        desk.code(desk.request(), 60007)
        desk.ask()
        desk.wait(1.0)
    desk.ok()

    assert desk.status("c") == "succeeded"


def test_an_endpoint_waits_as_long_as_it_is_asked_to() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a"))
    desk.code(desk.request(), None, status=429, retry_after=7.5)
    until = desk.now + 7.5
    desk.ask()
    desk.receive(ban("v", group="b"), kick("w"))
    assert [each.action for each in desk.out] == ["kick"]
    assert desk.limited_by("ban") == "throttle"
    desk.wait(7.25)
    assert [each.action for each in desk.out] == ["kick"]
    desk.wait(0.25)

    assert [each.at for each in desk.out if each.action == "ban"] == [until, until]


def test_an_endpoint_waits_at_most_a_minute() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.code(desk.request(), None, status=429, retry_after=86_400.0)
    desk.ask()
    desk.wait(59.75)
    assert desk.out == []
    desk.wait(0.25)

    assert len(desk.out) == 1


def test_a_shorter_wait_does_not_end_a_longer_one() -> None:
    desk = Desk()
    spread(desk, 2)
    first, second = desk.out
    desk.code(first, None, status=429, retry_after=20.0)
    desk.code(second, None, status=429, retry_after=1.0)
    desk.ask(desk.waiting[0])
    desk.wait(19.75)

    assert desk.out == []


def test_a_search_needs_a_permit_for_each_half() -> None:
    desk = Desk(default_calls_per_second=2)
    desk.receive(ban(*users(4)))
    desk.code(desk.request(), 10019)
    assert desk.request().users == ["u0", "u1"]
    desk.code(desk.request(), 10019)

    assert desk.out == []
    desk.wait(1.0)
    assert desk.request().users == ["u0"]


def test_members_of_other_actions_have_permits_of_their_own() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("u"), unban("v"), kick("w"))

    assert [each.action for each in desk.out] == ["ban", "unban", "kick"]
