# The quota: which permits a replica has, when they come back, and what becomes of them when Tencent says "too many".

from __future__ import annotations

import pytest

from tests.unit.domain.engine_harness import ENDPOINT_OF, EngineHarness, ban, kick, unban, users
from worker.domain.calls.rate_limiter import quota_slice
from worker.domain.contract.error_codes import RetryBudget, Verdict
from worker.domain.effects import RestoredPartition


def spread(harness: EngineHarness, number: int, name: str = "t") -> None:
    """This many bans that have nothing to do with each other."""
    for place in range(number):
        harness.receive(ban("u", group=f"{name}{place}"))


def test_no_command_is_called_until_three_seconds_after_the_assignment() -> None:
    """Until then what the owner before has sent has taken effect, and its permits are back."""
    harness = EngineHarness(settled=False)
    harness.receive(ban("u"))
    harness.wait(2.75)
    assert harness.out == []
    assert harness.paused == {0}

    harness.wait(0.25)

    assert len(harness.out) == 1
    assert harness.paused == set()


def test_the_three_seconds_run_while_the_partition_is_restored() -> None:
    harness = EngineHarness(1, partitions=2, default_calls_per_second=10)
    assigned_at = harness.now
    harness.wait(2.0)
    harness.engine.assigned(0, RestoredPartition(0), harness.now, assigned_at)
    harness.wait(0.99)
    assert harness.engine.snapshot(harness.now).endpoints[0].permits_owned == 5
    harness.wait(0.01)

    assert harness.engine.snapshot(harness.now).endpoints[0].permits_owned == 10


def test_a_replica_uses_the_slices_of_its_partitions() -> None:
    harness = EngineHarness(1, 2, partitions=8, default_calls_per_second=30)
    spread_over_two = 30 * 3 // 8 - 30 * 1 // 8
    for place in range(30):
        harness.receive(ban("u", group=f"t{place}"), partition=1 + place % 2)

    assert len(harness.out) == spread_over_two == quota_slice(30, 1, 8) + quota_slice(30, 2, 8)
    assert harness.limited_by("ban") == "quota"


def test_a_slice_is_used_from_three_seconds_after_its_assignment() -> None:
    harness = EngineHarness(0, partitions=2, default_calls_per_second=10)
    harness.assign(1)
    spread(harness, 10)
    harness.wait(2.75)
    assert len(harness.out) == 5

    harness.wait(0.25)

    assert len(harness.out) == 10


def test_the_slice_of_a_partition_that_has_gone_is_not_used() -> None:
    harness = EngineHarness(0, 1, default_calls_per_second=10)
    harness.revoked(1)
    spread(harness, 10)

    assert len(harness.out) == 5


def test_what_waits_for_a_connection_leaves_on_no_slice_that_has_gone() -> None:
    """A connection may take longer than the next owner of the slice waits."""
    harness = EngineHarness(0, 1, default_calls_per_second=10)
    harness.receive_together(*(ban("u", group=f"g{place}") for place in range(10)), partition=0)
    calls = list(harness.out)
    assert len(calls) == 10
    harness.revoked(1)

    assert not any(harness.engine.may_send(each.call_id, harness.now) for each in calls)
    for each in calls[:5]:
        harness.fence(each)
    assert all(harness.engine.may_send(each.call_id, harness.now) for each in calls[5:])


def test_a_partition_that_comes_back_settles_again() -> None:
    harness = EngineHarness()
    harness.revoked(0)
    harness.assign(0)
    harness.receive(ban("u"))
    harness.wait(2.75)

    assert harness.out == []


def test_each_endpoint_and_app_has_its_own_permits() -> None:
    harness = EngineHarness(calls_per_second={ENDPOINT_OF["kick"]: 1}, default_calls_per_second=2)
    for place in range(3):
        target = f"t{place}"
        harness.receive(ban("u", group=target), ban("u", group=target, app="second"), kick("v", room=target))

    requests = [(each.send.app, each.action) for each in harness.out]
    assert [requests.count(each) for each in (("main", "ban"), ("second", "ban"), ("main", "kick"))] == [
        2,
        2,
        1,
    ]


def test_a_permit_comes_back_one_second_after_the_answer() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    spread(harness, 2)
    harness.wait(30.0)
    assert len(harness.out) == 1
    answered_at = harness.now
    harness.ok()
    assert harness.out == []
    assert harness.engine.wake_at <= answered_at + 1.0

    harness.wait(0.75)
    assert harness.out == []
    harness.wait(0.25)

    assert [each.at for each in harness.out] == [answered_at + 1.0]


@pytest.mark.parametrize("failure", ["timeout", "refuse_connection"])
def test_a_permit_comes_back_one_second_after_a_failure(failure: str) -> None:
    harness = EngineHarness(default_calls_per_second=1)
    spread(harness, 2)
    getattr(harness, failure)(harness.request())
    harness.wait(0.75)
    assert harness.out == []
    harness.wait(0.25)

    assert [each.target for each in harness.out] == ["t1"]


def test_a_permit_counted_from_sending_comes_back_without_an_answer() -> None:
    harness = EngineHarness(default_calls_per_second=1, window_from_send=True, window=1.25)
    spread(harness, 2)
    sent_at = harness.now
    harness.wait(1.0)
    assert len(harness.out) == 1
    harness.wait(0.25)

    assert [each.at for each in harness.out] == [sent_at, sent_at + 1.25]


def test_a_permit_counted_from_sending_is_not_counted_from_its_answer() -> None:
    harness = EngineHarness(default_calls_per_second=1, window_from_send=True, window=1.0)
    spread(harness, 2)
    harness.wait(0.75)
    harness.ok()
    harness.wait(0.25)

    assert len(harness.out) == 1


def test_what_was_not_sent_gives_its_permit_back_at_once() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    spread(harness, 2)
    harness.fence(harness.request())

    assert [each.target for each in harness.out] == ["t1"]


def test_a_permit_counted_from_sending_comes_back_by_itself_even_if_nothing_was_sent() -> None:
    harness = EngineHarness(default_calls_per_second=1, window_from_send=True)
    spread(harness, 2)
    harness.fence(harness.request())
    assert harness.out == []
    harness.wait(1.0)

    assert [each.target for each in harness.out] == ["t1"]


def test_what_was_not_sent_is_no_attempt_and_goes_again() -> None:
    harness = EngineHarness(max_attempts=1)
    harness.receive(ban("u", command_id="c"))
    for _ in range(3):
        harness.fence(harness.request())
        harness.request_permit()
    harness.ok()

    assert harness.outcome("c").attempts == 1


def test_throttling_lowers_the_permits_to_less_than_was_accepted() -> None:
    harness = EngineHarness(default_calls_per_second=100)
    spread(harness, 100)
    for request in list(harness.out)[:40]:
        harness.ok(request)
    harness.code(harness.out[0], 60007)
    endpoint = next(
        each for each in harness.engine.snapshot(harness.now).endpoints if each.endpoint == ENDPOINT_OF["ban"]
    )

    assert endpoint.permits_granted == 38
    assert endpoint.permits_owned == 100
    assert endpoint.throttle_factor == 0.38


def test_throttling_counts_at_most_once_a_second() -> None:
    harness = EngineHarness(default_calls_per_second=100)
    spread(harness, 100)
    for request in list(harness.out)[:40]:
        harness.ok(request)
    for request in list(harness.out)[:20]:
        harness.code(request, 60007)

    assert granted(harness, "ban") == 38


def granted(harness: EngineHarness, action: str) -> int:
    """The permits of the endpoint that may be used at once."""
    endpoints = harness.engine.snapshot(harness.now).endpoints
    return next(each.permits_granted for each in endpoints if each.endpoint == ENDPOINT_OF[action])


def test_throttling_leaves_one_permit_and_recovers_by_a_hundredth_a_second() -> None:
    harness = EngineHarness(default_calls_per_second=100)
    harness.receive(ban("u"))
    harness.code(harness.request(), 60007)
    assert granted(harness, "ban") == 1

    harness.wait(10.0)
    assert granted(harness, "ban") == 11
    harness.wait(90.0)
    assert granted(harness, "ban") == 100


def test_throttling_of_one_endpoint_leaves_the_others_alone() -> None:
    harness = EngineHarness(default_calls_per_second=100)
    harness.receive(ban("u"))
    harness.code(harness.request(), 60007)

    assert granted(harness, "kick") == 100


def test_throttling_of_the_app_lowers_all_its_endpoints_and_no_other_app() -> None:
    harness = EngineHarness(default_calls_per_second=100)
    harness.receive(ban("u"))
    harness.code(harness.request(), 60011)

    by_app = {
        app: {
            each.permits_granted for each in harness.engine.snapshot(harness.now).endpoints if each.app == app
        }
        for app in ("main", "second")
    }
    assert by_app == {"main": {1}, "second": {100}}


def test_a_throttled_lane_tells_what_limits_it() -> None:
    harness = EngineHarness(default_calls_per_second=100)
    spread(harness, 2)
    harness.code(harness.out[0], 60007)
    harness.request_permit()

    assert harness.limited_by("ban") == "throttle"


def test_throttle_codes_are_no_attempts() -> None:
    harness = EngineHarness(max_attempts=1)
    harness.receive(ban("u", command_id="c"))
    for _ in range(5):
        harness.code(harness.request(), 60007)
        harness.request_permit()
        harness.wait(1.0)
    harness.ok()

    assert harness.status("c") == "succeeded"


@pytest.mark.parametrize("verdict", [each for each in Verdict if each.retry_budget is RetryBudget.ALWAYS])
def test_the_time_to_give_up_does_not_run_on_what_is_no_members_fault(verdict: Verdict) -> None:
    """Else the first transient code after ten minutes of throttling would be a dead letter."""
    harness = EngineHarness(give_up_after=10.0)
    harness.receive(ban("u", command_id="c"))
    for _ in range(30):
        harness.end(harness.request(), verdict)
        harness.request_permit()
        harness.wait(1.0)

    harness.code(harness.request(), 10002)
    harness.wait(3.0)
    harness.request_permit()
    harness.ok()

    assert harness.status("c") == "succeeded"


def test_the_time_to_give_up_runs_on_from_an_attempt_that_counted() -> None:
    harness = EngineHarness(give_up_after=10.0)
    harness.receive(ban("u", command_id="c"))
    for code in (10002, *[60007] * 10):
        harness.code(harness.request(), code)
        harness.request_permit()
        harness.wait(1.0)
    harness.code(harness.request(), 10002)

    assert harness.status("c") == "failed"


def test_an_endpoint_waits_as_long_as_it_is_asked_to() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"))
    harness.code(harness.request(), None, status=429, retry_after=7.5)
    until = harness.now + 7.5
    harness.request_permit()
    harness.receive(ban("v", group="b"), kick("w"))
    assert [each.action for each in harness.out] == ["kick"]
    assert harness.limited_by("ban") == "throttle"
    harness.wait(7.25)
    assert [each.action for each in harness.out] == ["kick"]
    harness.wait(0.25)

    assert [each.at for each in harness.out if each.action == "ban"] == [until, until]


def test_an_endpoint_waits_at_most_a_minute() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.code(harness.request(), None, status=429, retry_after=86_400.0)
    harness.request_permit()
    harness.wait(59.75)
    assert harness.out == []
    harness.wait(0.25)

    assert len(harness.out) == 1


def test_a_shorter_wait_does_not_end_a_longer_one() -> None:
    harness = EngineHarness()
    spread(harness, 2)
    first, second = harness.out
    harness.code(first, None, status=429, retry_after=20.0)
    harness.code(second, None, status=429, retry_after=1.0)
    harness.request_permit(harness.waiting[0])
    harness.wait(19.75)

    assert harness.out == []


def test_a_search_needs_a_permit_for_each_half() -> None:
    harness = EngineHarness(default_calls_per_second=2)
    harness.receive(ban(*users(4)))
    harness.code(harness.request(), 10019)
    assert harness.request().users == ["u0", "u1"]
    harness.code(harness.request(), 10019)

    assert harness.out == []
    harness.wait(1.0)
    assert harness.request().users == ["u0"]


def test_members_of_other_actions_have_permits_of_their_own() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("u"), unban("v"), kick("w"))

    assert [each.action for each in harness.out] == ["ban", "unban", "kick"]
