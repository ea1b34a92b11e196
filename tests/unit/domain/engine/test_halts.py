# Wrong configuration halts, loudly, and fails nothing: fatal codes, refused signatures, locked apps, and how each goes on by itself.
#
# When a probe may go is proven in test_breaker.py; targets without permission in test_held_targets.py.

from __future__ import annotations

import pytest

from tests.unit.domain.engine_harness import Desk, ban, kick, live_unban
from worker.domain.contract.times import rfc3339

FATAL = 70013
FORBIDDEN = 10007


# Fatal codes


def test_a_fatal_code_halts_the_app_and_fails_nothing() -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="c"))
    desk.code(desk.request(), FATAL, "wrong identifier")

    (halt,) = desk.engine.halts
    assert (halt.app, halt.endpoint, halt.error_code, halt.since) == ("main", None, FATAL, desk.now)
    assert halt.reason == "70013: wrong identifier"
    assert "identifier" in halt.remedy
    assert desk.events() == ["app.halted"]
    assert desk.is_open("c")
    assert desk.limited_by("ban") == "halt"
    assert desk.engine.snapshot(desk.now).halts == (halt,)


def test_a_halt_stops_all_endpoints_of_its_app_and_no_other_app() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.code(desk.request(), FATAL)
    desk.receive(kick("v"), kick("v", app="second"))

    assert [(each.send.app, each.action) for each in desk.out] == [("second", "kick")]


def test_a_halt_takes_waiting_calls_back() -> None:
    desk = Desk()
    desk.receive(ban("u"), kick("v"))
    desk.code(desk.request("kick"), 60008)
    desk.code(desk.request("ban"), FATAL)

    assert len(desk.recalled) == 1
    assert desk.waiting == []


def test_a_halt_is_probed_each_second_and_then_each_half_minute() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.code(desk.request(), FATAL)
    last, after = desk.now, []
    for _ in range(7):
        while not desk.out:
            desk.wait(0.25)
        after.append(desk.now - last)
        last = desk.now
        assert desk.request().send.probe
        desk.code(desk.request(), FATAL)

    assert after == [1.0, 1.0, 1.0, 1.0, 1.0, 30.0, 30.0]
    assert desk.events() == ["app.halted"]


def test_a_halt_lasts_since_its_beginning_however_often_it_is_probed() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.code(desk.request(), FATAL, "wrong identifier")
    began = desk.now
    desk.wait(1.0)
    desk.code(desk.request(), FATAL, "wrong still")

    (halt,) = desk.engine.halts
    assert (halt.since, halt.reason) == (began, "70013: wrong still")


def test_a_probe_of_a_halt_whose_time_is_over_is_not_sent_and_the_next_one_goes_at_once() -> None:
    """
    It would cost half a minute, in which nobody looks whether the key was fixed.
    """
    desk = Desk()
    desk.receive(ban("u", group="a"))
    desk.code(desk.request(), FATAL)
    desk.wait(1.0)
    desk.code(desk.request(), FATAL)
    desk.receive(ban("u", group="b", command_id="b", not_after=rfc3339(desk.wall + 0.5)))
    desk.be_busy(2.0)
    desk.receive(ban("v", group="a"))
    desk.wait(0.1)

    assert [each.target for each in desk.out] == ["a"]
    assert desk.status("b") == "expired"


@pytest.mark.parametrize(
    ("code", "status"),
    [(0, "succeeded"), (10019, "failed"), (10010, "failed"), (FORBIDDEN, "succeeded"), (123456, "succeeded")],
)
def test_a_probe_that_tencent_lets_in_ends_the_halt(code: int, status: str) -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="c"), kick("v", command_id="d"))
    desk.code(desk.request("ban"), FATAL)
    desk.wait(1.0)
    assert [each.action for each in desk.out] == ["kick", "ban"]
    desk.code(desk.request("ban"), code)

    assert "app.resumed" in desk.events()
    assert desk.engine.halts == []
    desk.ok()
    desk.wait(10.0)
    desk.ok()
    assert desk.status("c") == status


def test_a_probe_without_an_answer_does_not_end_the_halt() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.code(desk.request(), FATAL)
    desk.wait(1.0)
    desk.timeout(desk.request())

    assert len(desk.engine.halts) == 1
    assert desk.waiting == []


def test_the_endpoints_of_a_halted_app_are_its_probes_in_turn() -> None:
    desk = Desk()
    desk.receive(ban("u"), kick("v"), live_unban("w"))
    for request in list(desk.out):
        desk.code(request, FATAL)
    probed = []
    for _ in range(4):
        desk.wait(1.0)
        probed.append(desk.request().action)
        desk.code(desk.request(), FATAL)

    assert set(probed[:3]) == {"ban", "kick", "live_unban"}
    assert probed[3] == probed[0]


def test_an_endpoint_whose_members_all_rest_takes_no_turn_among_the_probes() -> None:
    desk = Desk()
    desk.receive(ban(*(f"u{number}" for number in range(20))))
    for _ in range(2):
        desk.code(desk.request("ban"), 10019)
    assert len(desk.request("ban").users) == 5, "ten rest until this search ends"
    desk.receive(kick("v"))
    desk.code(desk.request("kick"), FATAL)

    desk.wait(1.25)

    assert desk.request("kick").send.probe


def test_an_answer_to_what_was_sent_before_the_remedy_halts_nothing() -> None:
    desk = Desk()
    desk.receive(ban("u"), kick("v", command_id="late"))
    late = desk.request("kick")
    desk.code(desk.request("ban"), FATAL)
    desk.wait(1.0)
    desk.ok(desk.request("ban"))
    assert desk.engine.halts == []
    desk.code(late, FATAL)

    assert desk.engine.halts == []
    desk.ok()
    assert desk.status("late") == "succeeded"


def test_a_success_that_was_under_way_does_not_end_an_apps_halt() -> None:
    desk = Desk()
    desk.receive(ban("u"), kick("v"))
    desk.code(desk.request("ban"), FATAL)
    desk.ok(desk.request("kick"))

    assert len(desk.engine.halts) == 1


def try_thrice(desk: Desk, code: int) -> None:
    """
    All calls that are out get this code at each of their three tries.
    """
    for _ in range(3):
        for request in list(desk.out):
            desk.code(request, code)
        for call_id in list(desk.waiting):
            desk.ask(call_id)


def test_unknown_codes_of_two_targets_with_a_success_between_are_their_own() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a", command_id="a"))
    try_thrice(desk, 70999)
    desk.wait(0.25)
    desk.receive(ban("u", group="b"))
    desk.ok()
    try_thrice(desk, 70999)
    desk.receive(ban("u", group="d"))
    desk.ok()
    desk.receive(ban("u", group="c", command_id="c"))
    try_thrice(desk, 70999)

    assert desk.engine.halts == []
    assert desk.status("a") == "failed"
    assert desk.is_open("c"), "nothing has passed since"


def test_an_unknown_code_that_comes_in_a_halt_fails_nobody() -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="c"), kick("v"))
    for _ in range(2):
        desk.code(desk.request("ban"), 70999)
        desk.ask()
    desk.code(desk.request("kick"), FATAL)
    desk.code(desk.request("ban"), 70999)

    assert desk.is_open("c")


def test_an_unknown_code_of_the_platform_from_two_targets_halts_the_app() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a", command_id="a"), ban("u", group="b", command_id="b"))
    try_thrice(desk, 70999)

    assert [halt.error_code for halt in desk.engine.halts] == [70999]
    assert desk.publish() == []

    desk.wait(1.0)
    desk.code(desk.request(), 70999)
    assert len(desk.engine.halts) == 1, "a probe that gets it again stays halted"


def test_a_fatal_answer_without_a_code_tells_the_status() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a"), ban("u", group="b"))
    for request in list(desk.out):
        desk.code(request, None, status=403)

    (halt,) = desk.engine.halts
    assert "HTTP 403" in halt.reason
    assert "base_url" in halt.remedy


# Signatures


def test_a_refused_signature_goes_again_and_is_no_attempt() -> None:
    desk = Desk(max_attempts=1)
    desk.receive(ban("u", command_id="c"))
    for _ in range(3):
        desk.code(desk.request(), 70001)
        desk.ask()
    desk.ok()

    assert desk.status("c") == "succeeded"


def test_a_locked_app_sends_nothing_for_a_minute() -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="c"), kick("v", app="second"))
    desk.code(desk.request("ban"), 70050)
    desk.receive(live_unban("w"))
    assert desk.events() == ["app.locked"]
    desk.wait(59.75)
    assert [each.send.app for each in desk.out] == ["second"]
    assert desk.limited_by("ban") == "throttle"
    desk.wait(0.25)

    assert sorted(each.action for each in desk.out) == ["ban", "kick", "live_unban"]


def test_a_batch_that_is_refused_in_a_halt_may_be_a_probe_like_any_other() -> None:
    """
    Its search cannot go on, and nothing else of the endpoint may be there to be tried.
    """
    desk = Desk()
    desk.receive(ban("u", "v", command_id="c"), kick("w"))
    desk.code(desk.request("kick"), FATAL)
    desk.code(desk.request("ban"), 10019)
    desk.wait(1.0)

    assert [each.users for each in desk.out] == [["u", "v"]]
    desk.ok()
    assert desk.status("c") == "succeeded"


def test_a_halt_lasts_no_time_of_the_members() -> None:
    desk = Desk(give_up_after=10.0)
    desk.receive(ban("u", command_id="c"), kick("v"))
    for request in list(desk.out):
        desk.code(request, FATAL)
    desk.wait(600.0)
    desk.code(desk.request("ban"), FATAL)
    desk.wait(1.0)
    desk.ok(desk.request("kick"))
    desk.refuse_connection(desk.request("ban"))
    assert desk.waiting, "it is not given up"
    desk.ask()
    desk.ok()

    assert desk.status("c") == "succeeded"
