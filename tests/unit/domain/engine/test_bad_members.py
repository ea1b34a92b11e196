# Whose fault a refused batch is: the search for one bad member, what becomes of the others, and when it is the target's.
#
# How halves are chosen is proven in test_bad_member_search.py; here the members get their results.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.domain.engine_harness import WALL, EngineHarness, ban, kick, live_unban, unban, users
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Container

BAD = 10019
AMBIGUOUS = 10004


def drive(harness: EngineHarness, bad: Container[str], code: int = BAD) -> None:
    """Answers until nothing is out: a request that carries a bad user is refused and applies nothing."""
    for _ in range(500):
        if not harness.out:
            return
        request = harness.out[0]
        if any(user in bad for user in request.users):
            harness.code(request, code, f"bad user in {len(request.users)}")
        else:
            harness.ok(request)
    raise AssertionError(harness.out)


@pytest.mark.parametrize("place", range(20))
def test_one_bad_member_of_twenty_costs_at_most_seven_calls_and_nobody_else(place: int) -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(20), command_id="c"))
    drive(harness, {f"u{place}"})

    assert len(harness.sent) <= 7
    assert harness.results("c") == {
        user: "failed" if user == f"u{place}" else "applied" for user in users(20)
    }
    assert harness.status("c") == "partially_succeeded"
    snapshot = harness.engine.snapshot(harness.now)
    assert snapshot.counts.splits == 1


@pytest.mark.parametrize("bad", [{"u0", "u1"}, {"u0", "u19"}, {"u7", "u8", "u9"}, set(users(20))])
def test_every_bad_member_of_a_batch_is_found(bad: set[str]) -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(20), command_id="c"))
    drive(harness, bad)

    assert harness.results("c") == {user: "failed" if user in bad else "applied" for user in users(20)}


def test_the_last_one_standing_is_refused_by_inference() -> None:
    harness = EngineHarness()
    harness.receive(live_unban("u", "v", command_id="c"))
    harness.code(harness.request(), BAD, "somebody", request_id="r1")
    assert harness.request().users == ["u"]
    harness.ok(request_id="r2")

    applied, refused = harness.outcome("c").results

    assert (applied.status.value, applied.request_id, applied.inferred) == ("applied", "r2", False)
    assert (refused.status.value, refused.request_id, refused.inferred) == ("failed", "r1", True)
    assert (refused.error_code, refused.error_info) == (BAD, "somebody")
    assert harness.engine.snapshot(harness.now).counts.inferred == 1


def test_a_member_refused_alone_is_not_inferred() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", "v", command_id="c"))
    drive(harness, {"u"})

    assert not harness.result("c", "u").inferred


def test_a_refusal_without_a_text_says_so() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    harness.code(harness.request(), BAD)

    assert harness.result("c", "u").error_info == "refused without a text"
    error = harness.outcome("c").error
    assert error is not None
    assert error.code == str(BAD)


def test_of_several_failed_users_the_outcome_names_the_first_and_counts_the_others() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(3), command_id="c"))
    harness.code(harness.request(), 10010, "no such group")

    error = harness.outcome("c").error

    assert error is not None
    assert error.message == (
        "user 'u0': no such group (10010); 2 more of its users failed, each result says why"
    )


def test_the_untested_wait_until_the_search_ends() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(8), command_id="c"))
    harness.code(harness.request(), BAD)
    harness.code(harness.request(), BAD)  # u0-u3 refused: u4-u7 rest
    harness.code(harness.request(), BAD)  # u0-u1 refused: u2-u3 rest

    assert [each.users for each in harness.out] == [["u0"]]

    harness.code(harness.request(), BAD)

    assert [sorted(each.users) for each in harness.out] == [users(8)[1:]]


def test_the_untested_go_at_once_when_with_others_they_fill_a_batch() -> None:
    harness = EngineHarness(default_calls_per_second=32, overdue_after=60.0)
    harness.receive(ban(*users(20), command_id="c"))
    harness.code(harness.request(), BAD)
    harness.code(harness.request(), BAD)  # u8-u19 rest
    assert len(harness.out) == 1
    harness.receive_together(*(ban(user) for user in users(8, "v")))

    assert sorted(len(each.users) for each in harness.out) == [4, 20]


def test_the_untested_of_two_searches_together_fill_a_batch() -> None:
    harness = EngineHarness(default_calls_per_second=32)
    harness.receive(ban(*users(40), command_id="c"))
    for request in list(harness.out):
        harness.code(request, BAD)
    first, second = harness.out
    harness.code(first, BAD)  # 12 rest
    assert sorted(len(each.users) for each in harness.out) == [4, 8]
    harness.code(second, BAD)  # and 12 more

    assert sorted(len(each.users) for each in harness.out) == [4, 4, 20]


def test_a_later_command_of_an_untested_member_is_behind_it() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(4), command_id="c"))
    harness.code(harness.request(), BAD)
    harness.code(harness.request(), BAD)
    harness.receive(unban("u3"))

    assert [each.users for each in harness.out] == [["u0"]]


def test_an_untested_member_whose_time_is_over_is_not_sent_again() -> None:
    harness = EngineHarness(default_calls_per_second=32)
    harness.receive(ban("a", "b", "c", "d", banned_until=rfc3339(WALL + 13.0), command_id="c"))
    harness.code(harness.request(), BAD)
    harness.code(harness.request(), BAD)
    harness.wait(20.0)
    harness.code(harness.request(), BAD)

    assert harness.out == []
    assert harness.results("c") == {"a": "failed", "b": "expired", "c": "expired", "d": "expired"}


def test_a_half_whose_time_is_over_before_it_has_a_permit_is_not_sent() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("a", "b", banned_until=rfc3339(WALL + 4.5), command_id="c"))
    harness.code(harness.request(), BAD)
    harness.wait(3.0)

    assert harness.out == []
    assert harness.status("c") == "expired"


@pytest.mark.parametrize(
    ("command", "code"), [(kick("u", command_id="c"), 100005), (ban("u", command_id="c"), 100016)]
)
def test_a_member_alone_of_which_the_wished_state_already_holds_has_succeeded(
    command: dict[str, object], code: int
) -> None:
    harness = EngineHarness()
    harness.receive(command)
    harness.code(harness.request(), code, "it is so")

    assert harness.status("c") == "succeeded"
    result = harness.result("c", "u")
    assert (result.status.value, result.error_code, result.error_info) == (
        "already_applied",
        code,
        "it is so",
    )


def test_the_same_code_is_a_failure_where_the_wished_state_does_not_hold() -> None:
    harness = EngineHarness()
    harness.receive(live_unban("u", command_id="c"))
    harness.code(harness.request(), 100005)

    assert harness.status("c") == "failed"


def test_the_last_one_standing_may_be_so_already_by_inference() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", "v", command_id="c"))
    drive(harness, {"v"}, 100005)

    result = harness.result("c", "v")

    assert (result.status.value, result.inferred) == ("already_applied", True)


# A code that may be the target's


def test_two_members_alone_with_an_ambiguous_code_condemn_the_rest_of_their_batch() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(20), command_id="c"))
    drive(harness, users(20), AMBIGUOUS)

    assert set(harness.results("c").values()) == {"failed"}
    assert sum(each.inferred for each in harness.outcome("c").results) == 18
    assert len(harness.sent) <= 2 + 2 * 5


def test_a_room_that_does_not_exist_costs_two_calls_a_batch() -> None:
    """Its batches stay whole: that every member is refused says nothing about the members."""
    harness = EngineHarness(default_calls_per_second=8, max_gap=2_000)  # one or two calls of a room at a time
    harness.receive(ban("x", command_id="first"))
    harness.receive_together(*(ban(user) for user in users(400)))
    for _ in range(400):
        for request in list(harness.out):
            harness.code(request, AMBIGUOUS)
        harness.publish()
        harness.wait(0.25)

    assert harness.engine.open_count == 0
    assert {each.status.value for each in harness.published.outcomes} == {"failed"}
    assert len(harness.sent) <= 1 + 2 * 400 // 20 + 6


def test_a_member_that_passes_alone_shows_that_the_search_must_go_on() -> None:
    harness = EngineHarness()
    harness.receive(ban("x", command_id="x"))
    harness.code(harness.request(), AMBIGUOUS)
    harness.receive(ban(*users(8), command_id="c"))
    harness.code(harness.request(), AMBIGUOUS)

    assert harness.request().users == ["u0"]
    harness.ok()
    assert harness.request().users == ["u1", "u2", "u3"]
    drive(harness, {"u6"}, AMBIGUOUS)
    assert [user for user, status in harness.results("c").items() if status == "failed"] == ["u6"]


def test_an_ambiguous_code_condemns_no_command_that_was_not_in_the_batch() -> None:
    harness = EngineHarness(default_calls_per_second=1, overdue_after=60.0)
    harness.receive(ban("a", "b", "c", command_id="c"))
    harness.code(harness.request(), AMBIGUOUS)
    harness.receive(ban("x", duration=7, command_id="other"))
    for _ in range(10):
        if not harness.is_open("c"):
            break
        for request in [each for each in harness.out if each.body["Duration"] == 3600]:
            harness.code(request, AMBIGUOUS)
        harness.wait(1.0)

    assert harness.status("c") == "failed"
    assert harness.is_open("other")


def test_an_ambiguous_code_of_commands_alone_condemns_nobody() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(*(ban(user, duration=number, command_id=user) for number, user in enumerate("abc", 1)))
    for user in "ab":
        assert harness.request().users == [user]
        harness.code(harness.request(), AMBIGUOUS)
        harness.wait(1.0)
    harness.ok()

    assert [harness.status(each) for each in "abc"] == ["failed", "failed", "succeeded"]


def test_a_member_that_passes_shows_that_an_ambiguous_code_is_not_the_targets() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(20), command_id="c"))
    bad = {"u0", "u11", "u13"}
    drive(harness, bad, AMBIGUOUS)

    assert {user for user, status in harness.results("c").items() if status == "failed"} == bad


def test_different_ambiguous_codes_are_not_the_same_fault() -> None:
    harness = EngineHarness()
    harness.receive(kick("a", "b", "c", "d", command_id="c"))
    harness.code(harness.request(), 10004)
    harness.code(harness.request(), 10004)
    harness.code(harness.request(), 10004)  # a, alone
    harness.code(harness.request(), 100002)
    harness.code(harness.request(), 100002)  # one of the three alone: the first with this code

    drive(harness, ())

    assert sorted(harness.results("c").values()) == ["applied", "applied", "failed", "failed"]


# What ends a search before its end


def test_a_half_that_used_up_its_tries_fails_alone() -> None:
    harness = EngineHarness(max_attempts=2)
    harness.receive(ban(*users(4), command_id="c"))
    harness.code(harness.request(), BAD)
    harness.code(harness.request(), 60008)
    harness.request_permit()
    harness.code(harness.request(), 60008)

    assert sorted(harness.request().users) == ["u2", "u3"]
    harness.ok()
    assert harness.results("c") == {"u0": "failed", "u1": "failed", "u2": "applied", "u3": "applied"}


def test_a_half_that_will_never_be_accepted_fails_alone() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(4), command_id="c"))
    harness.code(harness.request(), BAD)
    harness.code(harness.request(), 10010)
    drive(harness, ())

    assert harness.results("c") == {"u0": "failed", "u1": "failed", "u2": "applied", "u3": "applied"}


@pytest.mark.parametrize("is_passed", [True, False])
def test_a_search_does_not_go_on_while_the_app_is_halted(is_passed: bool) -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(8), command_id="c"), unban("x"))
    harness.code(harness.request("ban"), BAD)
    half = harness.request("ban")
    harness.code(harness.request("unban"), 70013)
    assert len(harness.engine.halts) == 1
    if is_passed:
        harness.ok(half)
    else:
        harness.code(half, BAD)
    assert harness.out == []

    harness.wait(1.0)
    drive(harness, {"u2" if not is_passed else "u6"})

    assert list(harness.results("c").values()).count("failed") == 1


def test_a_half_that_waits_for_a_permit_is_withdrawn_by_a_halt() -> None:
    """The client has not heard of it, so nothing is cancelled there."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban(*users(4), command_id="c"), unban("x"))
    harness.code(harness.request("ban"), BAD)  # the half has no permit yet, and no client
    harness.code(harness.request("unban"), 70013)

    assert harness.cancelled == []
    assert harness.engine.snapshot(harness.now).counts.recalled == 1

    harness.wait(1.0)
    assert sorted(harness.request("ban").users) == users(4)


# Codes that nobody knows


def test_an_unknown_code_is_tried_three_times_and_believed_where_another_room_passes() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    harness.code(harness.request(), 123456, "whatever")
    harness.wait(0.25)
    harness.receive(ban("v", group="another"))
    harness.ok()
    for _ in range(2):
        harness.request_permit()
        harness.code(harness.request(), 123456, "whatever")

    assert harness.waiting == []
    assert harness.status("c") == "failed"
    assert harness.outcome("c").attempts == 3


@pytest.mark.parametrize("code", [123456, 70999])
@pytest.mark.parametrize("happens", ["outage", "halt"])
def test_an_unknown_code_fails_nobody_when_an_outage_or_a_halt_comes_between(code: int, happens: str) -> None:
    """Its call had attempts left, which it gets afterwards."""
    harness = EngineHarness()
    harness.receive(*(ban("u", group=group, command_id=group) for group in "abc"))
    first, *others = harness.out
    for other in others:
        if happens == "outage":
            harness.refuse_connection(other)
        else:
            harness.code(other, 10007)
    while harness.waiting and len(harness.sent) < 6:
        harness.request_permit(harness.waiting[0])
        harness.refuse_connection(harness.out[-1])
    harness.code(first, code)

    assert harness.limited_by("ban") == ("breaker" if happens == "outage" else "halt")
    assert harness.is_open("a")

    while harness.is_open("a"):
        harness.wait(0.1)
        harness.ok()
    assert harness.status("a") == "succeeded"


def test_an_unknown_code_is_not_believed_of_what_left_before_something_else_passed() -> None:
    """What all got for a second has failed whose last try was under way at its end."""
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    for _ in range(2):
        harness.code(harness.request(), 123456)
        harness.wait(0.1)
        harness.request_permit()
    harness.wait(0.1)
    harness.receive(ban("v", group="another"))
    harness.ok(harness.request(target="another"))
    harness.code(harness.request(), 123456)
    assert harness.is_open("c")

    passing_elsewhere(harness)
    harness.ok()
    assert harness.status("c") == "succeeded"


def test_of_an_unknown_code_that_every_target_gets_no_more_is_kept_than_is_needed() -> None:
    """Memory: an endpoint with a new code for every call has no success that would clear what is kept."""
    harness = EngineHarness()
    for number in range(50):
        harness.receive(kick("u", room=f"r{number}"))
        for code in (123456, 123456, 60999):
            if harness.out:
                harness.code(harness.out[0], code)
            if harness.waiting:
                harness.request_permit()
        harness.wait(1.0)

    codes = harness.engine._scheduler.apps["main"].unknown_codes
    assert {code: len(targets) for code, targets in codes.items()} == {60999: 2}


def passing_elsewhere(harness: EngineHarness) -> None:
    """Another group's command comes, and is applied."""
    harness.wait(0.01)
    harness.receive(ban("somebody", group=f"other {harness.now}"))
    harness.ok(next(each for each in harness.out if each.target.startswith("other")))


def test_an_unknown_code_is_searched_for_like_a_members_where_another_room_passes() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", "v", command_id="c"))
    for _ in range(30):
        if harness.waiting:
            passing_elsewhere(harness)
            harness.request_permit()
        elif not harness.out:
            break
        elif "v" in harness.request().users:
            harness.end(harness.request(), Verdict.UNKNOWN, http_status=200, error_code=123456)
        else:
            harness.ok()

    assert harness.results("c") == {"u": "applied", "v": "failed"}


def test_in_a_search_for_an_unknown_code_a_half_that_passes_proves_enough() -> None:
    """Else a single bad user of the only busy room would halt the endpoint."""
    harness = EngineHarness(default_calls_per_second=2)
    harness.receive(ban(*users(4), command_id="c"))
    for _ in range(2):
        harness.code(harness.request(), 123456)
        passing_elsewhere(harness)
        harness.request_permit()
        harness.wait(1.0)
    harness.receive(ban("somebody", group="the second permit"))
    for _ in range(6):
        request = harness.request(target="g")
        if "u2" in request.users:
            harness.code(request, 123456)
        else:
            harness.ok(request)
        if harness.waiting:
            harness.request_permit()
        harness.wait(1.0)

    assert harness.results("c") == {f"u{place}": "failed" if place == 2 else "applied" for place in range(4)}


def test_of_the_only_room_a_user_that_passes_as_a_probe_condemns_one_with_an_unknown_code() -> None:
    """Else that one would halt the endpoint again and again."""
    harness = EngineHarness()
    harness.receive(ban("u", command_id="bad"))
    for second in range(40):
        if second == 10:
            assert harness.engine.halts
            harness.receive(ban("v", duration=60, command_id="good"))
        for request in list(harness.out):
            if "u" in request.users:
                harness.code(request, 123456)
            else:
                harness.ok(request)
        if harness.waiting:
            harness.request_permit()
        harness.wait(1.0)

    assert [harness.status(each) for each in ("bad", "good")] == ["failed", "succeeded"]
    assert harness.engine.halts == []


def test_an_unknown_platform_code_from_one_target_refuses_its_call() -> None:
    """Another target passes, so it is not the app's fault."""
    harness = EngineHarness()
    harness.receive(ban("u", "v", command_id="c"))
    for _ in range(2):
        harness.code(harness.request(), 70999)
        passing_elsewhere(harness)
        harness.request_permit()
    harness.code(harness.request(), 70999)

    assert harness.results("c") == {"u": "failed", "v": "failed"}
    assert harness.engine.halts == []


def test_where_most_members_are_bad_each_is_soon_asked_for_alone() -> None:
    """Searching whole batches for them would cost almost three calls a member."""
    harness = EngineHarness()
    harness.receive_together(*(kick(user) for user in users(100)))
    drive(harness, {f"u{number}" for number in range(100) if number % 4})

    assert len(harness.publish()) == 100
    assert len(harness.sent) <= 170
