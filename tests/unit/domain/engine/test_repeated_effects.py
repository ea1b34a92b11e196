# The same effect on the same user by another command: one call for both while the first one waits, none just after it.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.engine_harness import WALL, Desk, ban, kick, live_unban, unban, update
from worker.domain.contract.outcomes import ResultStatus
from worker.domain.contract.times import rfc3339

# Waiting, with the same effect


def test_two_commands_with_the_same_effect_share_one_call() -> None:
    desk = Desk()
    desk.receive_together(ban("u", command_id="a"), ban("u", command_id="b"))
    assert desk.request().users == ["u"]
    desk.code(desk.request(), 10002, request_id="r1")
    desk.ask()
    desk.ok(request_id="r2")

    for command_id in ("a", "b"):
        outcome = desk.outcome(command_id)
        assert outcome.results[0].status is ResultStatus.APPLIED
        assert outcome.request_ids == ["r1", "r2"]
    assert desk.engine.snapshot(desk.now).counts.coalesced == 1


def test_a_shared_refusal_is_told_to_both() -> None:
    desk = Desk()
    desk.receive_together(kick("u", command_id="a"), kick("u", command_id="b"))
    desk.code(desk.request(), 70107, "no such user")

    assert [desk.result(each, "u").error_info for each in ("a", "b")] == ["no such user"] * 2
    assert len(desk.told.dead_letters) == 2


@pytest.mark.parametrize(
    "pair",
    [
        (ban("u", duration=0), ban("u", duration=0)),
        (
            ban("u", not_after="2040-01-01T00:00:00Z"),
            ban("u", not_after="2040-01-01T00:00:00Z", duration=60),
        ),
        (kick("u", not_after="2040-01-01T00:00:00Z"), kick("u")),
        (kick("u"), kick("u", not_after="2040-01-01T00:00:00Z")),
        (kick("u"), kick("u", reason="other")),
        (kick("u"), live_unban("u")),
        (live_unban("u"), kick("u")),
    ],
    ids=["duration-0", "not_after", "first-not_after", "second-not_after", "reason", "event-state", "state-event"],
)  # fmt: skip
def test_what_may_differ_in_effect_or_in_end_goes_one_after_the_other(
    pair: tuple[dict[str, Any], ...],
) -> None:
    desk = Desk()
    desk.receive_together(*pair)

    assert len(desk.out) == 1
    desk.ok()
    assert len(desk.out) == 1
    desk.ok()
    assert [each.status.value for each in desk.publish()] == ["succeeded", "succeeded"]


def test_a_kick_on_its_way_is_not_shared() -> None:
    desk = Desk()
    desk.receive(kick("u"), kick("u"))
    desk.ok()

    assert len(desk.out) == 1


def test_a_third_command_rides_with_the_second_while_the_first_is_on_its_way() -> None:
    desk = Desk()
    desk.receive(kick("u"), kick("u"), kick("u"))
    desk.ok()
    desk.ok()

    assert len(desk.sent) == 2
    assert len(desk.publish()) == 3


# Just applied


def test_an_effect_that_was_just_applied_is_a_duplicate_with_its_request_id() -> None:
    desk = Desk()
    desk.receive(update("u", command_id="a", role="Admin"))
    desk.ok(request_id="r")
    desk.wait(59.0)
    desk.receive(update("u", command_id="b", role="Admin"))

    result = desk.result("b", "u")

    assert desk.status("b") == "duplicate"
    assert (result.request_id, result.duplicate_of) == ("r", "commands-0-0")
    assert desk.engine.snapshot(desk.now).counts.repeated_effects == 1


def test_the_window_runs_from_the_call_that_applied_it() -> None:
    desk = Desk()
    desk.receive(unban("u"))
    desk.ok()
    desk.wait(30.0)
    desk.receive(unban("u"))
    desk.wait(30.0)
    desk.receive(unban("u"))

    assert len(desk.out) == 1


def test_a_command_behind_the_one_on_its_way_gets_its_effect() -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="a"), ban("u", command_id="b"))
    desk.ok()

    assert desk.out == []
    assert desk.status("b") == "duplicate"


@pytest.mark.parametrize(
    ("command", "keeps"),
    [
        (ban("u", duration=3600), 60.0),
        (ban("u", duration=100), 10.0),
        (ban("u", duration=1), 0.1),
        (ban("u", duration=0), 0.0),
        (ban("u", banned_until=rfc3339(WALL + 203.0)), 20.0),
        (ban("u", banned_until=rfc3339(WALL + 7200.0)), 60.0),
        (unban("u"), 60.0),
        (kick("u"), 0.0),
        (update("u", role="Admin", custom_info="i"), 60.0),
        (live_unban("u"), 0.0),
        (update("u", name_card="n"), 0.0),
        (update("u"), 0.0),
    ],
    ids=[
        "hour",
        "100s",
        "1s",
        "0s",
        "until-soon",
        "until-later",
        "unban",
        "kick",
        "role",
        "live",
        "card",
        "update",
    ],
)
def test_an_effect_counts_for_at_most_a_minute_and_a_tenth_of_the_ban(
    command: dict[str, Any], keeps: float
) -> None:
    desk = Desk()
    desk.receive(command)
    desk.ok()
    if keeps:
        desk.wait(keeps * 0.96)
        desk.receive(command)
        assert desk.out == []
        desk.wait(keeps * 0.05)
    desk.receive(command)

    assert len(desk.out) == 1


OTHERS_CHANGE_IT = pytest.mark.parametrize(
    "command", [live_unban("u"), update("u", name_card="n"), update("u")], ids=["live", "card", "update"]
)


@OTHERS_CHANGE_IT
def test_what_others_change_as_well_is_sent_again(command: dict[str, Any]) -> None:
    """
    The ban that ``live.unban_member`` lifts is never set by this worker, and users set their own name cards: in between
    another may have changed what was done a moment ago.
    """
    desk = Desk()
    desk.receive(command)
    desk.ok()
    desk.wait(20.0)
    desk.receive(command)
    desk.ok()

    assert [each.status.value for each in desk.publish()] == ["succeeded", "succeeded"]
    assert len(desk.sent) == 2


@OTHERS_CHANGE_IT
def test_what_others_change_as_well_counts_as_done_when_the_settings_say_so(command: dict[str, Any]) -> None:
    desk = Desk(all_effects=True)
    desk.receive(command)
    desk.ok()
    desk.wait(20.0)
    desk.receive(command | {"command_id": "b"})

    assert desk.status("b") == "duplicate"


@OTHERS_CHANGE_IT
def test_what_others_change_as_well_is_shared_while_it_waits(command: dict[str, Any]) -> None:
    """
    Both have been commanded before the one call leaves, so it does what both want.
    """
    desk = Desk()
    desk.receive_together(command, command)
    desk.ok()

    assert len(desk.sent) == 1
    assert [each.status.value for each in desk.publish()] == ["succeeded", "succeeded"]


def test_what_others_change_as_well_is_sent_after_the_same_that_is_on_its_way() -> None:
    desk = Desk()
    desk.receive(live_unban("u"), live_unban("u"))
    desk.ok()

    assert [each.action for each in desk.out] == ["live_unban"]


def test_another_ban_of_the_same_user_is_carried_out() -> None:
    desk = Desk()
    desk.receive(ban("u", duration=3600))
    desk.ok()
    desk.receive(ban("u", duration=7200))

    assert len(desk.out) == 1


def test_an_effect_counts_no_more_once_something_else_was_sent() -> None:
    desk = Desk()
    desk.receive(ban("u"), unban("u"))
    desk.ok()
    desk.code(desk.request("unban"), 10010)  # refused, but who knows
    desk.receive(ban("u"))

    assert [each.action for each in desk.out] == ["ban"]


def test_a_refused_command_between_does_not_make_the_effect_new() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.ok()
    desk.receive(unban("u", not_after=rfc3339(WALL)), ban("u", command_id="again"))

    assert desk.status("again") == "duplicate"


def test_an_effect_counts_for_no_longer_than_the_setting_says() -> None:
    desk = Desk(effect_window=5.0)
    desk.receive(unban("u"))
    desk.ok()
    desk.wait(4.75)
    desk.receive(unban("u"))
    assert desk.out == []
    desk.be_busy(0.5)
    desk.receive(unban("u"))

    assert len(desk.out) == 1


def test_of_an_earlier_assignment_nothing_is_known_of_effects() -> None:
    """
    Another owner may have changed the state since.
    """
    desk = Desk()
    desk.receive(ban("u"))
    desk.ok()
    desk.publish()
    desk.revoked(0)
    desk.assign(0, 1)
    desk.wait(3.0)
    desk.receive(ban("u"))

    assert len(desk.out) == 1


def test_the_effects_known_are_those_of_the_last_minute() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a"))
    desk.ok()
    desk.wait(30.0)
    desk.receive(ban("u", group="b"))
    desk.ok()
    assert desk.engine.snapshot(desk.now).known_effects == 2
    desk.wait(32.0)

    assert desk.engine.snapshot(desk.now).known_effects == 1
