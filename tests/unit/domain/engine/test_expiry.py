# The end of a command's time: when it is over for one that waits, is behind, rests or is on its way, and what is told of it.

from __future__ import annotations

from math import ceil

import pytest

from tests.unit.domain.engine_harness import SETTLING, WALL, Desk, ban, kick, unban, users
from worker.domain.contract.times import rfc3339

BEGIN = WALL + SETTLING


def test_a_command_that_comes_too_late_is_expired_and_not_sent() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN - 0.5)))

    assert desk.sent == []
    assert desk.status("c") == "expired"
    assert desk.told.dead_letters == []


def test_a_waiting_command_expires_when_its_time_is_over() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(kick("x", room="busy"), kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    desk.wait(5.0)
    assert desk.is_open("c")
    desk.wait(0.25)

    assert desk.status("c") == "expired"


def test_a_command_behind_another_one_expires_where_it_stands() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="a"), kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    desk.wait(5.25)
    assert len(desk.out) == 1
    desk.ok()

    assert desk.status("c") == "expired"


def test_what_is_on_its_way_does_not_expire() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    desk.wait(9.0)
    desk.ok()

    assert desk.status("c") == "succeeded"


def test_a_retry_that_comes_too_late_is_not_sent() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    desk.code(desk.request(), 60008)
    desk.wait(5.25)
    desk.ask()

    assert desk.out == []
    assert desk.recalled == [desk.sent[0].call_id]
    assert desk.status("c") == "expired"


def test_a_call_whose_time_is_over_takes_no_permit_from_the_next() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(kick("u", room="first"))
    late = kick(*users(21), room="late", command_id="late", not_after=rfc3339(desk.wall + 1.5))
    desk.receive(late, kick("u", room="next"))
    desk.ok()
    desk.be_busy(2.0)
    desk.fetch([])

    assert [each.target for each in desk.out] == ["next"]
    assert desk.status("late") == "expired"


def test_only_those_whose_time_is_over_leave_a_call() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(kick("x", room="busy"))
    desk.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)), kick("v", command_id="d"))
    desk.ok()
    desk.wait(1.0)
    assert desk.request().users == ["u", "v"]
    desk.code(desk.request(), 60008)
    desk.wait(5.0)
    desk.ask()

    assert desk.request().users == ["v"]
    assert desk.status("c") == "expired"


def test_one_that_may_have_taken_effect_has_failed_and_says_why() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c", not_after=rfc3339(BEGIN + 5.0)))
    desk.timeout(desk.request())
    desk.wait(5.25)
    desk.ask()

    assert desk.status("c") == "failed"
    info = desk.result("c", "u").error_info
    assert info is not None
    assert "may have taken effect" in info
    assert [each.error_code for each in desk.told.dead_letters] == ["no_answer"]


def test_a_queue_delay_does_not_lengthen_a_ban() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("x", group="busy"), ban("u", banned_until=rfc3339(BEGIN + 100.5)))
    desk.wait(30.0)
    desk.ok()
    desk.wait(1.0)

    assert desk.request().body["Duration"] == ceil(100.5 - 31.0)


def test_each_try_computes_the_duration_anew() -> None:
    desk = Desk()
    desk.receive(ban("u", banned_until=rfc3339(BEGIN + 100.0)))
    desk.code(desk.request(), 60008)
    desk.wait(10.0)
    desk.ask()

    assert [each.body["Duration"] for each in desk.sent] == [100, 90]


@pytest.mark.parametrize(("left", "status"), [(1.0, "succeeded"), (0.75, "expired")])
def test_a_ban_of_less_than_a_second_is_none(left: float, status: str) -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="c", banned_until=rfc3339(BEGIN + left)))
    desk.ok()

    assert desk.status("c") == status


def test_the_earlier_of_two_ends_counts() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("x", group="busy"))
    desk.receive(
        ban("u", command_id="c", banned_until=rfc3339(BEGIN + 100.0), not_after=rfc3339(BEGIN + 5.0))
    )
    desk.wait(5.25)

    assert desk.status("c") == "expired"


def test_one_that_rides_ends_with_the_one_it_rides_on() -> None:
    desk = Desk(default_calls_per_second=1)
    until = rfc3339(BEGIN + 6.0)
    desk.receive(ban("x", group="busy"))
    desk.receive(ban("u", command_id="c", banned_until=until), ban("u", command_id="d", banned_until=until))
    desk.wait(5.25)

    assert [desk.status(each) for each in "cd"] == ["expired", "expired"]


def test_one_that_rides_on_a_call_does_not_expire_before_its_answer() -> None:
    desk = Desk()
    until = rfc3339(BEGIN + 6.0)
    desk.receive_together(
        ban("u", command_id="c", banned_until=until), ban("u", command_id="d", banned_until=until)
    )
    desk.wait(9.0)
    desk.ok()

    assert [desk.status(each) for each in "cd"] == ["succeeded", "succeeded"]


def test_what_is_behind_an_expired_one_goes_on() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(kick("x", room="busy"), kick("u", not_after=rfc3339(BEGIN + 5.0)), kick("u", command_id="d"))
    desk.wait(5.25)
    desk.ok()
    desk.wait(1.0)

    assert desk.request().users == ["u"]


def test_an_expired_command_supersedes_nothing() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("x", group="busy"), ban("u", command_id="c"))
    desk.receive(unban("u", command_id="d", not_after=rfc3339(BEGIN - 1.0)))

    desk.ok()
    desk.wait(1.0)
    desk.ok()

    assert [desk.status(each) for each in "cd"] == ["succeeded", "expired"]


def test_a_stepped_clock_is_followed() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(kick("x", room="busy"), kick("u", command_id="c", not_after=rfc3339(BEGIN + 3600.0)))
    desk.wall += 3700.0
    desk.wait(0.25)

    assert desk.status("c") == "expired"


def test_many_commands_that_are_done_are_not_kept_until_their_last_moment() -> None:
    desk = Desk()
    for number in range(200):
        desk.receive(kick("u", room=f"r{number}", not_after="2040-01-01T00:00:00Z"))
        desk.ok()
        desk.publish()

    assert len(desk.engine._ordering._deadlines) < 150
    assert len(desk.told.outcomes) == 200
