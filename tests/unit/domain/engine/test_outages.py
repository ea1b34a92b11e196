# An outage is not poison: when the breaker of an endpoint opens, what goes while it is open, and which failures count.
#
# The breaker by itself is proven in test_breaker.py; here the worker behaves by it.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, users
from worker.domain.contract.error_codes import Verdict


def down(failures: int = 5, **settings: Any) -> EngineHarness:
    """A harness whose ban endpoint has had this many failures in a row, each of another group (five make an outage)."""
    harness = EngineHarness(**settings)
    for number in range(failures):
        harness.receive(ban("u", group=f"g{number}", command_id=f"g{number}"))
    for request in list(harness.out):
        harness.refuse_connection(request)
    return harness


def test_five_failures_in_a_row_open_the_breaker() -> None:
    harness = down(4)
    assert harness.events() == []
    assert len(harness.waiting) == 4
    harness.receive(ban("v", group="fifth"))
    harness.refuse_connection(harness.request())

    assert harness.events() == ["breaker.opened"]
    endpoint = harness.engine.snapshot(harness.now).endpoints[0]
    assert (endpoint.breaker_open, endpoint.breaker_openings) == (True, 1)
    assert harness.limited_by("ban") == "breaker"


def test_a_success_between_keeps_the_breaker_closed() -> None:
    harness = EngineHarness()
    for number in range(9):
        harness.receive(ban("u", group=f"g{number}"))
    for number, request in enumerate(list(harness.out)):
        if number == 4:
            harness.ok(request)
        else:
            harness.refuse_connection(request)

    assert harness.events() == []


def busy(harness: EngineHarness, times: int = 5) -> None:
    """The next attempts get a retry code, oldest first; those whose backoff is over ask at once."""
    for _ in range(times):
        if not harness.out:
            harness.request_permit(harness.waiting[0])
        harness.code(harness.out[0], 10002)


def test_five_retry_codes_of_two_targets_open_the_breaker() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"), ban("u", group="b"))
    busy(harness, 4)
    assert harness.events() == []
    busy(harness, 1)

    assert harness.events() == ["breaker.opened"]


@pytest.mark.parametrize("code", [10019, 10010, 10004])
def test_a_refusal_between_retry_codes_shows_that_the_endpoint_works(code: int) -> None:
    """At 1 % of transient codes and 2 % of bad users, a breaker that counts successes only would open every minute."""
    harness = EngineHarness()
    for number in range(30):
        for group in "ab":
            harness.receive(ban("u", group=f"{group}{number}"))
        busy(harness, 4)
        harness.receive(ban("v", group=f"c{number}"))
        harness.code(harness.request(target=f"c{number}"), code)
        while harness.waiting:
            harness.request_permit(harness.waiting[0])
            harness.ok()
        harness.wait(1.0)

    assert harness.events() == []


def test_retry_codes_of_one_target_are_its_own_and_count() -> None:
    harness = EngineHarness(max_attempts=7)
    harness.receive(ban("u", command_id="c"))
    for _ in range(6):
        harness.code(harness.request(), 10002, "busy")
        harness.request_permit()
    harness.code(harness.request(), 10002, "busy")

    assert harness.events() == []
    assert harness.status("c") == "failed"
    assert harness.outcome("c").attempts == 7
    assert harness.result("c", "u").error_info == "busy"


def test_an_open_breaker_takes_the_waiting_calls_back_at_once() -> None:
    harness = down()

    assert len(harness.cancelled) == 4
    assert harness.waiting == []
    assert harness.engine.snapshot(harness.now).counts.recalled == 4


def test_an_open_breaker_delays_no_other_endpoint() -> None:
    harness = down()
    harness.receive(kick("v"), ban("v", app="second", group="x"))

    assert [(each.send.app, each.action) for each in harness.out] == [("main", "kick"), ("second", "ban")]


def test_probes_go_one_at_a_time_and_later_each_time() -> None:
    harness = down()
    opened_at = harness.now
    probed_after = []
    for _ in range(7):
        harness.wait(0.0)
        while not harness.out:
            harness.wait(harness.engine.wake_at - harness.now)
        probe = harness.request()
        probed_after.append(round(harness.now - opened_at, 3))
        opened_at = harness.now
        harness.refuse_connection(probe)
        assert harness.waiting == [], "a probe is tried once"

    assert probed_after == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_while_a_probe_is_out_nothing_else_goes() -> None:
    harness = down()
    harness.wait(0.25)
    assert len(harness.out) == 1
    harness.receive(ban("x", group="more"))
    harness.wait(30.0)

    assert len(harness.out) == 1


def test_probes_try_the_targets_in_turn() -> None:
    harness = down()
    probed = []
    for _ in range(6):
        harness.wait(6.0)
        probed.append(harness.request().target)
        harness.timeout(harness.request())

    assert sorted(probed[:5]) == [f"g{number}" for number in range(5)]
    assert probed[5] == probed[0]


def test_a_room_that_hangs_is_not_the_probe_when_another_one_waits() -> None:
    """
    Its calls have ended together, with no success between: that looks like an outage. As the probe it would hang for ten
    seconds more, and all others with it.
    """
    harness = EngineHarness()
    harness.receive(*(kick(f"u{number}", room="hangs", reason=str(number)) for number in range(5)))
    harness.wait(10.0)
    for request in list(harness.out):
        harness.timeout(request)
    assert harness.events() == ["breaker.opened"]
    harness.receive(kick("x", room="well", command_id="well"))
    harness.wait(0.25)
    harness.ok(harness.request())

    assert harness.status("well") == "succeeded"
    assert harness.events() == ["breaker.closed"]


def test_the_first_success_closes_the_breaker_and_all_goes_on() -> None:
    harness = down()
    harness.wait(0.25)
    harness.events()
    harness.ok()

    assert harness.events() == ["breaker.closed"]
    assert len(harness.out) == 4
    harness.ok()
    assert {harness.status(f"g{number}") for number in range(5)} == {"succeeded"}


@pytest.mark.parametrize("code", [10019, 10010, 60007, 70001, 123456])
def test_any_answer_of_tencents_own_closes_the_breaker(code: int) -> None:
    harness = down()
    harness.wait(0.25)
    harness.events()
    harness.code(harness.request(), code)

    assert harness.events() == ["breaker.closed"]


def test_a_probe_that_could_not_be_sent_says_nothing() -> None:
    harness = down()
    harness.wait(0.25)
    harness.events()
    for _ in range(3):
        harness.fence(harness.request())
        assert (harness.events(), harness.out) == ([], [])
        harness.wait(0.25)

    assert len(harness.out) == 1


def test_the_answer_to_a_call_that_was_under_way_closes_the_breaker() -> None:
    harness = EngineHarness()
    harness.receive(ban("slow", group="slow"))
    slow = harness.request()
    for number in range(5):
        harness.receive(ban("u", group=f"g{number}"))
        harness.refuse_connection(harness.out[-1])
    assert harness.events() == ["breaker.opened"]
    harness.ok(slow)

    assert harness.events() == ["breaker.closed"]


def test_a_call_that_fails_while_the_breaker_is_open_is_not_tried_again() -> None:
    """It was under way when the breaker opened; its members wait for the probes."""
    harness = EngineHarness()
    harness.receive(ban("slow", group="slow", command_id="slow"))
    slow = harness.request()
    for number in range(5):
        harness.receive(ban("u", group=f"g{number}"))
        harness.refuse_connection(harness.out[-1])
    harness.timeout(slow)

    assert harness.waiting == []
    assert harness.is_open("slow")


def test_an_outage_is_no_attempt_of_anybody() -> None:
    harness = down(max_attempts=2)
    for _ in range(10):
        harness.wait(6.0)
        harness.timeout(harness.request())
    harness.wait(6.0)
    harness.ok()
    harness.ok()

    assert {harness.status(f"g{number}") for number in range(5)} == {"succeeded"}


def test_an_endpoint_that_answers_with_retry_codes_only_is_down_for_as_long_as_it_does() -> None:
    harness = EngineHarness(max_attempts=2)
    harness.receive(ban("u", group="a"), ban("u", group="b"))
    busy(harness)
    for _ in range(5):
        harness.wait(6.0)
        harness.code(harness.request(), 10002)
        assert harness.limited_by("ban") == "breaker"
    harness.wait(6.0)
    harness.ok()
    harness.ok()

    assert [each.status.value for each in harness.publish()] == ["succeeded", "succeeded"]


def test_whose_last_try_may_show_an_outage_is_kept() -> None:
    harness = EngineHarness(max_attempts=1)
    harness.receive(ban("u", group="a", command_id="a"), ban("u", group="b", command_id="b"))
    first, second = harness.out
    harness.code(first, 10002)
    assert harness.status("a") == "failed"
    harness.code(second, 10002)
    harness.request_permit()
    busy(harness, 3)
    assert harness.events() == ["breaker.opened"]
    assert harness.is_open("b")
    harness.wait(1.0)
    harness.ok()

    assert harness.status("b") == "succeeded"


def test_the_time_to_give_up_stands_still_in_an_outage() -> None:
    harness = down(give_up_after=10.0)
    harness.wait(100.0)
    harness.ok()
    for request in list(harness.out)[:2]:
        harness.refuse_connection(request)
        assert harness.waiting, "it is not given up"
        harness.request_permit()
    harness.wait(2.0)
    harness.ok()

    assert {harness.status(f"g{number}") for number in range(5)} == {"succeeded"}


def test_a_member_is_given_up_after_so_long() -> None:
    harness = EngineHarness(give_up_after=10.0)
    harness.receive(ban("u", command_id="c"))
    harness.wait(10.25)
    harness.refuse_connection(harness.request())

    assert harness.status("c") == "failed"
    error = harness.outcome("c").error
    assert error is not None
    assert error.code == "no_answer"
    assert harness.result("c", "u").error_info == "connect"


def test_the_time_to_give_up_runs_from_the_first_try() -> None:
    harness = EngineHarness(give_up_after=10.0)
    harness.receive(ban("u", command_id="c"))
    for _ in range(2):
        harness.wait(4.0)
        harness.refuse_connection(harness.request())
        harness.request_permit()
    harness.wait(2.25)
    harness.refuse_connection(harness.request())

    assert harness.status("c") == "failed"


@pytest.mark.parametrize("verdict", [Verdict.THROTTLE, Verdict.THROTTLE_APP, Verdict.RESIGN, Verdict.UNSENT])
def test_nobody_is_given_up_for_what_is_no_members_fault(verdict: Verdict) -> None:
    harness = EngineHarness(give_up_after=10.0, max_attempts=1)
    harness.receive(ban("u", command_id="c"))
    harness.wait(10.25)
    harness.end(harness.request(), verdict)
    assert harness.waiting
    harness.wait(2.0)
    harness.request_permit()
    harness.ok()

    assert harness.status("c") == "succeeded"


@pytest.mark.parametrize("verdict", [Verdict.THROTTLE, Verdict.THROTTLE_APP, Verdict.RESIGN])
def test_nobody_fails_for_it_either_whose_attempts_are_used_up(verdict: Verdict) -> None:
    """The probe of an open breaker got such an answer, and its members were dead-lettered for that."""
    harness = EngineHarness(max_attempts=1)
    harness.receive(ban("u", group="spent", command_id="spent"))
    harness.refuse_connection(harness.request())
    harness.wait(0.01)
    harness.receive(ban("u", group="later"))
    harness.ok(harness.request())
    harness.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(harness.out):
        harness.refuse_connection(request)
    harness.wait(6.0)
    while (probe := harness.request()).target != "spent":
        harness.refuse_connection(probe)
        harness.wait(6.0)

    harness.end(probe, verdict)
    while harness.is_open("spent"):
        harness.wait(1.0)
        harness.ok()

    assert harness.status("spent") == "succeeded"


def test_without_a_time_to_give_up_only_attempts_end_it() -> None:
    harness = EngineHarness(give_up_after=None)
    harness.receive(ban("u", command_id="c"))
    harness.wait(2000.0)
    harness.refuse_connection(harness.request())

    assert len(harness.waiting) == 1


def test_failures_count_once_a_call_that_was_sent_after_them_has_succeeded() -> None:
    harness = EngineHarness(max_attempts=2)
    harness.receive(ban("u", group="bad", command_id="bad"))
    for _ in range(2):
        harness.wait(1.0)
        harness.refuse_connection(harness.request())
        harness.request_permit()
    harness.receive(ban("v", group="good"))
    harness.ok(harness.request(target="good"))
    harness.refuse_connection(harness.request(target="bad"))

    assert harness.waiting == []
    assert harness.status("bad") == "failed"


def test_failures_do_not_count_for_a_success_that_was_sent_before_them() -> None:
    harness = EngineHarness(max_attempts=1)
    harness.receive(ban("v", group="good"))
    harness.wait(1.0)
    harness.receive(ban("u", group="bad", command_id="bad"))
    harness.refuse_connection(harness.request(target="bad"))
    harness.ok()

    assert len(harness.waiting) == 1


def test_a_probe_needs_a_permit() -> None:
    harness = EngineHarness(default_calls_per_second=5)
    for number in range(5):
        harness.receive(ban("u", group=f"g{number}"))
    for request in list(harness.out):
        harness.refuse_connection(request)
    assert harness.events() == ["breaker.opened"]
    harness.wait(0.75)
    assert harness.out == []
    harness.wait(0.25)

    assert len(harness.out) == 1


def test_a_probe_carries_a_whole_batch_of_its_target() -> None:
    harness = down()
    harness.receive(*(ban(user, group="g0") for user in users(3, "v")))
    harness.wait(0.25)

    assert harness.request().target == "g0"
    assert len(harness.request().users) == 4


def test_a_breaker_with_nothing_to_send_probes_with_what_comes_next() -> None:
    harness = EngineHarness()
    for number in range(5):
        harness.receive(ban("u", group=f"g{number}", not_after="2030-03-17T17:46:43.100Z"))
    for request in list(harness.out):
        harness.refuse_connection(request)
    harness.wait(30.0)
    assert harness.out == []
    assert len(harness.publish()) == 5
    harness.receive(ban("x"))

    assert harness.request().users == ["x"]


def test_a_probe_whose_time_is_over_is_not_sent_and_the_next_one_goes_at_once() -> None:
    harness = EngineHarness()
    for number in range(5):
        harness.receive(ban("u", group=f"g{number}", not_after="2030-03-17T17:46:48Z"))
        harness.refuse_connection(harness.out[-1])
    harness.be_busy(20.0)
    harness.receive(ban("x", group="new"))
    harness.wait(1.0)

    assert [each.target for each in harness.out] == ["new"]
    assert [each.status.value for each in harness.publish()] == ["expired"] * 5
