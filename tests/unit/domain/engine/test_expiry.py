# The end of a command's time: when it is over for one that waits, is behind, rests or is on its way, and what its outcome says.

from __future__ import annotations

from math import ceil

import pytest

from tests.unit.domain.engine_harness import COOLING_OFF, WALL, EngineHarness, ban, kick, unban, users
from worker.domain.contract.timestamps import rfc3339

BEGIN = WALL + COOLING_OFF


def test_a_command_that_comes_too_late_is_expired_and_not_sent() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN - 0.5)))

    assert harness.sent == []
    assert harness.status("c") == "expired"
    assert harness.published.dead_letters == []


def test_a_waiting_command_expires_when_its_time_is_over() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(kick("x", room="busy"), kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    harness.wait(5.0)
    assert harness.is_open("c")
    harness.wait(0.25)

    assert harness.status("c") == "expired"


def test_a_command_behind_another_one_expires_where_it_is() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="a"), kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    harness.wait(5.25)
    assert len(harness.out) == 1
    harness.ok()

    assert harness.status("c") == "expired"


def test_what_is_on_its_way_does_not_expire() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    harness.wait(9.0)
    harness.ok()

    assert harness.status("c") == "succeeded"


def test_a_retry_that_comes_too_late_is_not_sent() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    harness.code(harness.request(), 60008)
    harness.wait(5.25)
    harness.request_permit()

    assert harness.out == []
    assert harness.cancelled == [harness.sent[0].call_id]
    assert harness.status("c") == "expired"


def test_a_call_whose_time_is_over_takes_no_permit_from_the_next() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(kick("u", room="first"))
    late = kick(*users(21), room="late", command_id="late", not_after=rfc3339(harness.wall + 1.5))
    harness.receive(late, kick("u", room="next"))
    harness.ok()
    harness.be_busy(2.0)
    harness.fetch([])

    assert [each.target for each in harness.out] == ["next"]
    assert harness.status("late") == "expired"


def test_only_those_whose_time_is_over_leave_a_call() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(kick("x", room="busy"))
    harness.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)), kick("v", command_id="d"))
    harness.ok()
    harness.wait(1.0)
    assert harness.request().users == ["u", "v"]
    harness.code(harness.request(), 60008)
    harness.wait(5.0)
    harness.request_permit()

    assert harness.request().users == ["v"]
    assert harness.status("c") == "expired"


def test_what_still_waits_for_its_connection_at_its_last_moment_does_not_leave() -> None:
    harness = EngineHarness()
    harness.receive_together(
        kick("u", command_id="c", not_after=rfc3339(BEGIN + 0.5)), kick("v", command_id="d")
    )
    request = harness.request()
    assert request.users == ["u", "v"]
    assert harness.engine.may_send(request.call_id, harness.now + 0.5)
    harness.wait(0.75)
    assert not harness.engine.may_send(request.call_id, harness.now)
    harness.fence(request)
    harness.request_permit()

    assert harness.request().users == ["v"]
    assert harness.engine.may_send(request.call_id, harness.now)
    harness.ok()
    assert (harness.status("c"), harness.status("d")) == ("expired", "succeeded")


def test_a_ban_that_would_be_over_before_it_leaves_ends_with_all_that_ride_on_it() -> None:
    harness = EngineHarness()
    harness.receive_together(*(ban("u", command_id=name, banned_until=rfc3339(BEGIN + 2.0)) for name in "cd"))
    harness.receive(ban("u", command_id="next"))
    request = harness.request()
    harness.wait(1.25)
    assert not harness.engine.may_send(request.call_id, harness.now)
    harness.fence(request)
    harness.ok()

    assert [harness.status(command_id) for command_id in ("c", "d", "next")] == [
        "expired",
        "expired",
        "succeeded",
    ]


def test_one_that_may_have_taken_effect_has_failed_and_says_why() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    harness.timeout(harness.request())
    harness.wait(5.25)
    harness.request_permit()

    assert harness.status("c") == "failed"
    info = harness.result("c", "u").error_info
    assert info is not None
    assert "may have taken effect" in info
    assert [each.error_code for each in harness.published.dead_letters] == ["no_answer"]


def test_a_queue_delay_does_not_lengthen_a_ban() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("x", group="busy"), ban("u", banned_until=rfc3339(BEGIN + 100.5)))
    harness.wait(30.0)
    harness.ok()
    harness.wait(1.0)

    assert harness.request().body["Duration"] == ceil(100.5 - 31.0)


def test_each_try_computes_the_duration_again() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", banned_until=rfc3339(BEGIN + 100.0)))
    harness.code(harness.request(), 60008)
    harness.wait(10.0)
    harness.request_permit()

    assert [each.body["Duration"] for each in harness.sent] == [100, 90]


@pytest.mark.parametrize(("left", "status"), [(1.0, "succeeded"), (0.75, "expired")])
def test_a_ban_of_less_than_a_second_is_none(left: float, status: str) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c", banned_until=rfc3339(BEGIN + left)))
    harness.ok()

    assert harness.status("c") == status


def test_the_earlier_of_two_ends_counts() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("x", group="busy"))
    harness.receive(
        ban("u", command_id="c", banned_until=rfc3339(BEGIN + 100.0), not_after=rfc3339(BEGIN + 5.0))
    )
    harness.wait(5.25)

    assert harness.status("c") == "expired"


def test_one_that_rides_ends_with_the_one_it_rides_on() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    until = rfc3339(BEGIN + 6.0)
    harness.receive(ban("x", group="busy"))
    harness.receive(
        ban("u", command_id="c", banned_until=until), ban("u", command_id="d", banned_until=until)
    )
    harness.wait(5.25)

    assert [harness.status(each) for each in "cd"] == ["expired", "expired"]


def test_one_that_rides_on_a_call_does_not_expire_before_its_answer() -> None:
    harness = EngineHarness()
    until = rfc3339(BEGIN + 6.0)
    harness.receive_together(
        ban("u", command_id="c", banned_until=until), ban("u", command_id="d", banned_until=until)
    )
    harness.wait(9.0)
    harness.ok()

    assert [harness.status(each) for each in "cd"] == ["succeeded", "succeeded"]


def test_what_is_behind_an_expired_one_goes_on() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(
        kick("x", room="busy"), kick("u", not_after=rfc3339(BEGIN + 5.0)), kick("u", command_id="d")
    )
    harness.wait(5.25)
    harness.ok()
    harness.wait(1.0)

    assert harness.request().users == ["u"]


def test_an_expired_command_supersedes_nothing() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("x", group="busy"), ban("u", command_id="c"))
    harness.receive(unban("u", command_id="d", not_after=rfc3339(BEGIN - 1.0)))

    harness.ok()
    harness.wait(1.0)
    harness.ok()

    assert [harness.status(each) for each in "cd"] == ["succeeded", "expired"]


def test_a_stepped_clock_is_followed() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(kick("x", room="busy"), kick("u", command_id="c", not_after=rfc3339(BEGIN + 3600.0)))
    harness.wall += 3700.0
    harness.wait(0.25)

    assert harness.status("c") == "expired"


def test_many_commands_that_are_done_are_not_kept_until_their_last_moment() -> None:
    harness = EngineHarness()
    for number in range(200):
        harness.receive(kick("u", room=f"r{number}", not_after="2040-01-01T00:00:00Z"))
        harness.ok()
        harness.publish()

    assert len(harness.engine._ordering._deadlines) < 150
    assert len(harness.published.outcomes) == 200
