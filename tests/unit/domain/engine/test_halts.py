# Wrong configuration halts, loudly, and fails nothing: fatal codes, refused signatures, locked apps, and how each goes on by itself.
#
# When a probe may go is proven in test_breaker.py; targets without permission in test_held_targets.py.

from __future__ import annotations

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, live_unban
from worker.domain.contract.timestamps import rfc3339

FATAL = 70013
FORBIDDEN = 10007


# Fatal codes


def test_a_fatal_code_halts_the_app_and_fails_nothing() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    harness.code(harness.request(), FATAL, "wrong identifier")

    (halt,) = harness.engine.halts
    assert (halt.app, halt.endpoint, halt.error_code, halt.since) == ("main", None, FATAL, harness.now)
    assert halt.reason == "70013: wrong identifier"
    assert "identifier" in halt.remedy
    assert harness.events() == ["app.halted"]
    assert harness.is_open("c")
    assert harness.limited_by("ban") == "halt"
    assert harness.engine.snapshot(harness.now).halts == (halt,)


def test_a_halt_stops_all_endpoints_of_its_app_and_no_other_app() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.code(harness.request(), FATAL)
    harness.receive(kick("v"), kick("v", app="second"))

    assert [(each.send.app, each.action) for each in harness.out] == [("second", "kick")]


def test_a_halt_takes_waiting_calls_back() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), kick("v"))
    harness.code(harness.request("kick"), 60008)
    harness.code(harness.request("ban"), FATAL)

    assert len(harness.cancelled) == 1
    assert harness.waiting == []


def test_a_halt_is_probed_each_second_and_then_each_half_minute() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.code(harness.request(), FATAL)
    last, after = harness.now, []
    for _ in range(7):
        while not harness.out:
            harness.wait(0.25)
        after.append(harness.now - last)
        last = harness.now
        assert harness.request().send.probe
        harness.code(harness.request(), FATAL)

    assert after == [1.0, 1.0, 1.0, 1.0, 1.0, 30.0, 30.0]
    assert harness.events() == ["app.halted"]


@pytest.mark.parametrize("code", [FATAL, FORBIDDEN])
def test_a_probe_of_a_halt_that_could_not_be_sent_does_not_cost_half_a_minute(code: int) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="g"), ban("u", group="h"))
    for each in list(harness.out):
        harness.code(each, code)
    for _ in range(7):
        while not harness.out:
            harness.wait(0.25)
        harness.code(harness.request(), code)
    harness.wait(30.0)
    harness.fence(harness.request())
    assert harness.out == []
    harness.wait(1.0)

    assert len(harness.out) == 1


def test_a_halt_lasts_since_its_beginning_however_often_it_is_probed() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.code(harness.request(), FATAL, "wrong identifier")
    began = harness.now
    harness.wait(1.0)
    harness.code(harness.request(), FATAL, "wrong still")

    (halt,) = harness.engine.halts
    assert (halt.since, halt.reason) == (began, "70013: wrong still")


def test_a_probe_of_a_halt_whose_time_is_over_is_not_sent_and_the_next_one_goes_at_once() -> None:
    """It would cost half a minute, in which nobody looks whether the key was fixed."""
    harness = EngineHarness()
    harness.receive(ban("u", group="a"))
    harness.code(harness.request(), FATAL)
    harness.wait(1.0)
    harness.code(harness.request(), FATAL)
    harness.receive(ban("u", group="b", command_id="b", not_after=rfc3339(harness.wall + 0.5)))
    harness.be_busy(2.0)
    harness.receive(ban("v", group="a"))
    harness.wait(0.1)

    assert [each.target for each in harness.out] == ["a"]
    assert harness.status("b") == "expired"


@pytest.mark.parametrize(
    ("code", "status"),
    [(0, "succeeded"), (10019, "failed"), (10010, "failed"), (FORBIDDEN, "succeeded"), (123456, "succeeded")],
)
def test_a_probe_that_tencent_lets_in_ends_the_halt(code: int, status: str) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"), kick("v", command_id="d"))
    harness.code(harness.request("ban"), FATAL)
    harness.wait(1.0)
    assert [each.action for each in harness.out] == ["kick", "ban"]
    harness.code(harness.request("ban"), code)

    assert "app.resumed" in harness.events()
    assert harness.engine.halts == []
    harness.ok()
    harness.wait(10.0)
    harness.ok()
    assert harness.status("c") == status


def test_a_probe_without_an_answer_does_not_end_the_halt() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.code(harness.request(), FATAL)
    harness.wait(1.0)
    harness.timeout(harness.request())

    assert len(harness.engine.halts) == 1
    assert harness.waiting == []


def test_the_endpoints_of_a_halted_app_are_its_probes_in_turn() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), kick("v"), live_unban("w"))
    for request in list(harness.out):
        harness.code(request, FATAL)
    probed = []
    for _ in range(4):
        harness.wait(1.0)
        probed.append(harness.request().action)
        harness.code(harness.request(), FATAL)

    assert set(probed[:3]) == {"ban", "kick", "live_unban"}
    assert probed[3] == probed[0]


def test_an_endpoint_whose_members_all_rest_takes_no_turn_among_the_probes() -> None:
    harness = EngineHarness()
    harness.receive(ban(*(f"u{number}" for number in range(20))))
    for _ in range(2):
        harness.code(harness.request("ban"), 10019)
    assert len(harness.request("ban").users) == 4, "twelve rest until this search ends"
    harness.receive(kick("v"))
    harness.code(harness.request("kick"), FATAL)

    harness.wait(1.25)

    assert harness.request("kick").send.probe


def test_an_answer_to_what_was_sent_before_the_remedy_halts_nothing() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), kick("v", command_id="late"))
    late = harness.request("kick")
    harness.code(harness.request("ban"), FATAL)
    harness.wait(1.0)
    harness.ok(harness.request("ban"))
    assert harness.engine.halts == []
    harness.code(late, FATAL)

    assert harness.engine.halts == []
    harness.ok()
    assert harness.status("late") == "succeeded"


def test_a_success_that_was_under_way_does_not_end_an_apps_halt() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), kick("v"))
    harness.code(harness.request("ban"), FATAL)
    harness.ok(harness.request("kick"))

    assert len(harness.engine.halts) == 1


def try_thrice(harness: EngineHarness, code: int) -> None:
    """All calls that are out get this code at each of their three attempts."""
    for _ in range(3):
        for request in list(harness.out):
            harness.code(request, code)
        for call_id in list(harness.waiting):
            harness.request_permit(call_id)


def test_unknown_codes_of_two_targets_with_a_success_between_are_their_own() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="a"))
    try_thrice(harness, 70999)
    harness.wait(0.25)
    harness.receive(ban("u", group="b"))
    harness.ok()
    try_thrice(harness, 70999)
    harness.receive(ban("u", group="d"))
    harness.ok()
    harness.receive(ban("u", group="c", command_id="c"))
    try_thrice(harness, 70999)

    assert harness.engine.halts == []
    assert harness.status("a") == "failed"
    assert harness.is_open("c"), "nothing has passed since"


def test_an_unknown_code_that_comes_in_a_halt_fails_nobody() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"), kick("v"))
    for _ in range(2):
        harness.code(harness.request("ban"), 70999)
        harness.request_permit()
    harness.code(harness.request("kick"), FATAL)
    harness.code(harness.request("ban"), 70999)

    assert harness.is_open("c")


def test_an_unknown_code_of_the_platform_from_two_targets_halts_the_app() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="a"), ban("u", group="b", command_id="b"))
    try_thrice(harness, 70999)

    assert [(halt.endpoint, halt.error_code) for halt in harness.engine.halts] == [(None, 70999)]
    assert harness.publish() == []

    harness.wait(1.0)
    harness.code(harness.request(), 70999)
    assert len(harness.engine.halts) == 1, "a probe that gets it again stays halted"


def test_a_fatal_answer_without_a_code_tells_the_status() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"), ban("u", group="b"))
    for request in list(harness.out):
        harness.code(request, None, status=403)

    (halt,) = harness.engine.halts
    assert "HTTP 403" in halt.reason
    assert "base_url" in halt.remedy


# Signatures


def test_a_refused_signature_goes_again_and_is_no_attempt() -> None:
    harness = EngineHarness(max_attempts=1)
    harness.receive(ban("u", command_id="c"))
    for _ in range(3):
        harness.code(harness.request(), 70001)
        harness.request_permit()
    harness.ok()

    assert harness.status("c") == "succeeded"


def test_a_locked_app_sends_nothing_for_a_minute() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"), kick("v", app="second"))
    harness.code(harness.request("ban"), 70050)
    harness.receive(live_unban("w"))
    assert harness.events() == ["app.locked"]
    harness.wait(59.75)
    assert [each.send.app for each in harness.out] == ["second"]
    assert harness.limited_by("ban") == "throttle"
    harness.wait(0.25)

    assert sorted(each.action for each in harness.out) == ["ban", "kick", "live_unban"]


def test_a_target_that_alone_halts_its_app_takes_not_every_turn_of_the_held_ones() -> None:
    harness = EngineHarness()
    harness.receive(*(ban("u", group=group, command_id=group) for group in "ab"))
    for request in list(harness.out):
        harness.code(request, 10007)
    harness.receive(ban("v", group="strange"))
    probed = []
    for _ in range(8):
        harness.wait(30.0)
        for request in list(harness.out):
            probed.append(request.target)
            harness.code(request, 65432 if request.target == "strange" else 0)

    assert [harness.status(group) for group in "ab"] == ["succeeded", "succeeded"], probed


def test_a_lock_lasts_no_time_of_the_members() -> None:
    """As long as another program signs wrongly in the app's name, Tencent locks it again each minute."""
    harness = EngineHarness(give_up_after=100.0)
    harness.receive(ban("u", command_id="c"))
    for _ in range(3):
        harness.code(harness.request(), 70050)
        harness.wait(60.0)
    harness.code(harness.request(), 10002)
    assert harness.waiting, "it is not given up"
    harness.request_permit()
    harness.ok()

    assert harness.status("c") == "succeeded"


def test_a_batch_that_is_refused_in_a_halt_may_be_a_probe_like_any_other() -> None:
    """Its search cannot go on, and nothing else of the endpoint may be there to be tried."""
    harness = EngineHarness()
    harness.receive(ban("u", "v", command_id="c"), kick("w"))
    harness.code(harness.request("kick"), FATAL)
    harness.code(harness.request("ban"), 10019)
    harness.wait(1.0)

    assert [each.users for each in harness.out] == [["u", "v"]]
    harness.ok()
    assert harness.status("c") == "succeeded"


def test_a_halt_lasts_no_time_of_the_members() -> None:
    harness = EngineHarness(give_up_after=10.0)
    harness.receive(ban("u", command_id="c"), kick("v"))
    for request in list(harness.out):
        harness.code(request, FATAL)
    harness.wait(600.0)
    harness.code(harness.request("ban"), FATAL)
    harness.wait(1.0)
    harness.ok(harness.request("kick"))
    harness.refuse_connection(harness.request("ban"))
    assert harness.waiting, "it is not given up"
    harness.request_permit()
    harness.ok()

    assert harness.status("c") == "succeeded"
