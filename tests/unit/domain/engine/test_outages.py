# An outage is not poison: when the breaker of an endpoint opens, what goes while it is open, and which failures count.
#
# The breaker by itself is proven in test_breaker.py; here the worker behaves by it.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.engine_harness import Desk, ban, kick, users
from worker.domain.contract.codes import Verdict


def down(failures: int = 5, **rules: Any) -> Desk:
    """
    A desk whose ban endpoint has had so many failures in a row, each of another group (five make an outage).
    """
    desk = Desk(**rules)
    for number in range(failures):
        desk.receive(ban("u", group=f"g{number}", command_id=f"g{number}"))
    for request in list(desk.out):
        desk.refuse_connection(request)
    return desk


def test_five_failures_in_a_row_open_the_breaker() -> None:
    desk = down(4)
    assert desk.events() == []
    assert len(desk.waiting) == 4
    desk.receive(ban("v", group="fifth"))
    desk.refuse_connection(desk.request())

    assert desk.events() == ["breaker.opened"]
    lane = desk.engine.snapshot(desk.now).endpoints[0]
    assert (lane.breaker_open, lane.breaker_openings) == (True, 1)
    assert desk.limited_by("ban") == "breaker"


def test_a_success_between_keeps_the_breaker_closed() -> None:
    desk = Desk()
    for number in range(9):
        desk.receive(ban("u", group=f"g{number}"))
    for number, request in enumerate(list(desk.out)):
        if number == 4:
            desk.ok(request)
        else:
            desk.refuse_connection(request)

    assert desk.events() == []


def busy(desk: Desk, times: int = 5) -> None:
    """
    The next tries get a retry code, oldest first; those whose backoff is over ask at once.
    """
    for _ in range(times):
        if not desk.out:
            desk.ask(desk.waiting[0])
        desk.code(desk.out[0], 10002)


def test_five_retry_codes_of_two_targets_open_the_breaker() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a"), ban("u", group="b"))
    busy(desk, 4)
    assert desk.events() == []
    busy(desk, 1)

    assert desk.events() == ["breaker.opened"]


@pytest.mark.parametrize("code", [10019, 10010, 10004])
def test_a_refusal_between_retry_codes_shows_that_the_endpoint_works(code: int) -> None:
    """
    At 1 % of transient codes and 2 % of bad users, a breaker that counts successes only would open every minute.
    """
    desk = Desk()
    for number in range(30):
        for group in "ab":
            desk.receive(ban("u", group=f"{group}{number}"))
        busy(desk, 4)
        desk.receive(ban("v", group=f"c{number}"))
        desk.code(desk.request(target=f"c{number}"), code)
        while desk.waiting:
            desk.ask(desk.waiting[0])
            desk.ok()
        desk.wait(1.0)

    assert desk.events() == []


def test_retry_codes_of_one_target_are_its_own_and_count() -> None:
    desk = Desk(max_attempts=7)
    desk.receive(ban("u", command_id="c"))
    for _ in range(6):
        desk.code(desk.request(), 10002, "busy")
        desk.ask()
    desk.code(desk.request(), 10002, "busy")

    assert desk.events() == []
    assert desk.status("c") == "failed"
    assert desk.outcome("c").attempts == 7
    assert desk.result("c", "u").error_info == "busy"


def test_an_open_breaker_takes_the_waiting_calls_back_at_once() -> None:
    desk = down()

    assert len(desk.recalled) == 4
    assert desk.waiting == []
    assert desk.engine.snapshot(desk.now).counts.recalled == 4


def test_an_open_breaker_delays_no_other_endpoint() -> None:
    desk = down()
    desk.receive(kick("v"), ban("v", app="second", group="x"))

    assert [(each.send.app, each.action) for each in desk.out] == [("main", "kick"), ("second", "ban")]


def test_probes_go_one_at_a_time_and_later_each_time() -> None:
    desk = down()
    opened_at = desk.now
    probed_after = []
    for _ in range(7):
        desk.wait(0.0)
        while not desk.out:
            desk.wait(desk.engine.wake_at() - desk.now)
        probe = desk.request()
        probed_after.append(round(desk.now - opened_at, 3))
        opened_at = desk.now
        desk.refuse_connection(probe)
        assert desk.waiting == [], "a probe is tried once"

    assert probed_after == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_while_a_probe_is_out_nothing_else_goes() -> None:
    desk = down()
    desk.wait(0.25)
    assert len(desk.out) == 1
    desk.receive(ban("x", group="more"))
    desk.wait(30.0)

    assert len(desk.out) == 1


def test_probes_try_the_targets_in_turn() -> None:
    desk = down()
    probed = []
    for _ in range(6):
        desk.wait(6.0)
        probed.append(desk.request().target)
        desk.timeout(desk.request())

    assert sorted(probed[:5]) == [f"g{number}" for number in range(5)]
    assert probed[5] == probed[0]


def test_a_room_that_hangs_is_not_the_probe_when_another_one_waits() -> None:
    """
    Its calls have ended together, with no success between: that looks like an outage. As the probe it would hang for ten
    seconds more, and all others with it.
    """
    desk = Desk()
    desk.receive(*(kick(f"u{number}", room="hangs", reason=str(number)) for number in range(5)))
    desk.wait(10.0)
    for request in list(desk.out):
        desk.timeout(request)
    assert desk.events() == ["breaker.opened"]
    desk.receive(kick("x", room="well", command_id="well"))
    desk.wait(0.25)
    desk.ok(desk.request())

    assert desk.status("well") == "succeeded"
    assert desk.events() == ["breaker.closed"]


def test_the_first_success_closes_the_breaker_and_all_goes_on() -> None:
    desk = down()
    desk.wait(0.25)
    desk.events()
    desk.ok()

    assert desk.events() == ["breaker.closed"]
    assert len(desk.out) == 4
    desk.ok()
    assert {desk.status(f"g{number}") for number in range(5)} == {"succeeded"}


@pytest.mark.parametrize("code", [10019, 10010, 60007, 70001, 123456])
def test_any_answer_of_tencents_own_closes_the_breaker(code: int) -> None:
    desk = down()
    desk.wait(0.25)
    desk.events()
    desk.code(desk.request(), code)

    assert desk.events() == ["breaker.closed"]


def test_a_probe_that_could_not_be_sent_says_nothing() -> None:
    desk = down()
    desk.wait(0.25)
    desk.events()
    desk.fence(desk.request())
    assert desk.events() == []
    desk.wait(0.25)
    assert desk.out == []
    desk.wait(0.25)

    assert len(desk.out) == 1


def test_the_answer_to_a_call_that_was_under_way_closes_the_breaker() -> None:
    desk = Desk()
    desk.receive(ban("slow", group="slow"))
    slow = desk.request()
    for number in range(5):
        desk.receive(ban("u", group=f"g{number}"))
        desk.refuse_connection(desk.out[-1])
    assert desk.events() == ["breaker.opened"]
    desk.ok(slow)

    assert desk.events() == ["breaker.closed"]


def test_the_failure_of_a_call_that_was_under_way_is_not_tried_again_while_the_breaker_is_open() -> None:
    desk = Desk()
    desk.receive(ban("slow", group="slow", command_id="slow"))
    slow = desk.request()
    for number in range(5):
        desk.receive(ban("u", group=f"g{number}"))
        desk.refuse_connection(desk.out[-1])
    desk.timeout(slow)

    assert desk.waiting == []
    assert desk.is_open("slow")


def test_an_outage_is_no_attempt_of_anybody() -> None:
    desk = down(max_attempts=2)
    for _ in range(10):
        desk.wait(6.0)
        desk.timeout(desk.request())
    desk.wait(6.0)
    desk.ok()
    desk.ok()

    assert {desk.status(f"g{number}") for number in range(5)} == {"succeeded"}


def test_an_endpoint_that_answers_with_retry_codes_only_is_down_for_as_long_as_it_does() -> None:
    desk = Desk(max_attempts=2)
    desk.receive(ban("u", group="a"), ban("u", group="b"))
    busy(desk)
    for _ in range(5):
        desk.wait(6.0)
        desk.code(desk.request(), 10002)
        assert desk.limited_by("ban") == "breaker"
    desk.wait(6.0)
    desk.ok()
    desk.ok()

    assert [each.status.value for each in desk.publish()] == ["succeeded", "succeeded"]


def test_whose_last_try_may_show_an_outage_is_kept() -> None:
    desk = Desk(max_attempts=1)
    desk.receive(ban("u", group="a", command_id="a"), ban("u", group="b", command_id="b"))
    first, second = desk.out
    desk.code(first, 10002)
    assert desk.status("a") == "failed"
    desk.code(second, 10002)
    desk.ask()
    busy(desk, 3)
    assert desk.events() == ["breaker.opened"]
    assert desk.is_open("b")
    desk.wait(1.0)
    desk.ok()

    assert desk.status("b") == "succeeded"


def test_the_time_to_give_up_stands_still_in_an_outage() -> None:
    desk = down(give_up_after=10.0)
    desk.wait(100.0)
    desk.ok()
    for request in list(desk.out)[:2]:
        desk.refuse_connection(request)
        assert desk.waiting, "it is not given up"
        desk.ask()
    desk.wait(2.0)
    desk.ok()

    assert {desk.status(f"g{number}") for number in range(5)} == {"succeeded"}


def test_a_member_is_given_up_after_so_long() -> None:
    desk = Desk(give_up_after=10.0)
    desk.receive(ban("u", command_id="c"))
    desk.wait(10.25)
    desk.refuse_connection(desk.request())

    assert desk.status("c") == "failed"
    error = desk.outcome("c").error
    assert error is not None
    assert error.code == "no_answer"
    assert desk.result("c", "u").error_info == "connect"


def test_the_time_to_give_up_runs_from_the_first_try() -> None:
    desk = Desk(give_up_after=10.0)
    desk.receive(ban("u", command_id="c"))
    for _ in range(2):
        desk.wait(4.0)
        desk.refuse_connection(desk.request())
        desk.ask()
    desk.wait(2.25)
    desk.refuse_connection(desk.request())

    assert desk.status("c") == "failed"


@pytest.mark.parametrize("verdict", [Verdict.THROTTLE, Verdict.THROTTLE_APP, Verdict.RESIGN, Verdict.UNSENT])
def test_nobody_is_given_up_for_what_is_no_members_fault(verdict: Verdict) -> None:
    desk = Desk(give_up_after=10.0, max_attempts=1)
    desk.receive(ban("u", command_id="c"))
    desk.wait(10.25)
    desk.end(desk.request(), verdict)
    assert desk.waiting
    desk.wait(2.0)
    desk.ask()
    desk.ok()

    assert desk.status("c") == "succeeded"


def test_without_a_time_to_give_up_only_attempts_end_it() -> None:
    desk = Desk(give_up_after=None)
    desk.receive(ban("u", command_id="c"))
    desk.wait(2000.0)
    desk.refuse_connection(desk.request())

    assert len(desk.waiting) == 1


def test_failures_count_once_a_call_that_was_sent_after_them_has_succeeded() -> None:
    desk = Desk(max_attempts=2)
    desk.receive(ban("u", group="bad", command_id="bad"))
    for _ in range(2):
        desk.wait(1.0)
        desk.refuse_connection(desk.request())
        desk.ask()
    desk.receive(ban("v", group="good"))
    desk.ok(desk.request(target="good"))
    desk.refuse_connection(desk.request(target="bad"))

    assert desk.waiting == []
    assert desk.status("bad") == "failed"


def test_failures_do_not_count_for_a_success_that_was_sent_before_them() -> None:
    desk = Desk(max_attempts=1)
    desk.receive(ban("v", group="good"))
    desk.wait(1.0)
    desk.receive(ban("u", group="bad", command_id="bad"))
    desk.refuse_connection(desk.request(target="bad"))
    desk.ok()

    assert len(desk.waiting) == 1


def test_a_probe_needs_a_permit() -> None:
    desk = Desk(default_calls_per_second=5)
    for number in range(5):
        desk.receive(ban("u", group=f"g{number}"))
    for request in list(desk.out):
        desk.refuse_connection(request)
    assert desk.events() == ["breaker.opened"]
    desk.wait(0.75)
    assert desk.out == []
    desk.wait(0.25)

    assert len(desk.out) == 1


def test_a_probe_carries_a_whole_batch_of_its_target() -> None:
    desk = down()
    desk.receive(*(ban(user, group="g0") for user in users(3, "v")))
    desk.wait(0.25)

    assert desk.request().target == "g0"
    assert len(desk.request().users) == 4


def test_a_breaker_with_nothing_to_send_probes_with_what_comes_next() -> None:
    desk = Desk()
    for number in range(5):
        desk.receive(ban("u", group=f"g{number}", not_after="2030-03-17T17:46:43.100Z"))
    for request in list(desk.out):
        desk.refuse_connection(request)
    desk.wait(30.0)
    assert desk.out == []
    assert len(desk.publish()) == 5
    desk.receive(ban("x"))

    assert desk.request().users == ["x"]


def test_a_probe_whose_time_is_over_is_not_sent_and_the_next_one_goes_at_once() -> None:
    desk = Desk()
    for number in range(5):
        desk.receive(ban("u", group=f"g{number}", not_after="2030-03-17T17:46:48Z"))
        desk.refuse_connection(desk.out[-1])
    desk.be_busy(20.0)
    desk.receive(ban("x", group="new"))
    desk.wait(1.0)

    assert [each.target for each in desk.out] == ["new"]
    assert [each.status.value for each in desk.publish()] == ["expired"] * 5
