# The same effect on the same user by another command: one call for both while the first one waits, none just after it.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.engine_harness import WALL, EngineHarness, ban, kick, live_unban, unban, update
from worker.domain.contract.outcomes import ResultStatus
from worker.domain.contract.timestamps import rfc3339

# Waiting, with the same effect


def test_two_commands_with_the_same_effect_share_one_call() -> None:
    harness = EngineHarness()
    harness.receive_together(ban("u", command_id="a"), ban("u", command_id="b"))
    assert harness.request().users == ["u"]
    harness.code(harness.request(), 10002, request_id="r1")
    harness.request_permit()
    harness.ok(request_id="r2")

    for command_id in ("a", "b"):
        outcome = harness.outcome(command_id)
        assert outcome.results[0].status is ResultStatus.APPLIED
        assert outcome.request_ids == ["r1", "r2"]
    assert harness.engine.snapshot(harness.now).counts.coalesced == 1


def test_a_shared_refusal_is_in_both_outcomes() -> None:
    harness = EngineHarness()
    harness.receive_together(kick("u", command_id="a"), kick("u", command_id="b"))
    harness.code(harness.request(), 70107, "no such user")

    assert [harness.result(each, "u").error_info for each in ("a", "b")] == ["no such user"] * 2
    assert len(harness.published.dead_letters) == 2


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
    harness = EngineHarness()
    harness.receive_together(*pair)

    assert len(harness.out) == 1
    harness.ok()
    assert len(harness.out) == 1
    harness.ok()
    assert [each.status.value for each in harness.publish()] == ["succeeded", "succeeded"]


def test_a_kick_on_its_way_is_not_shared() -> None:
    harness = EngineHarness()
    harness.receive(kick("u"), kick("u"))
    harness.ok()

    assert len(harness.out) == 1


def test_a_third_command_rides_with_the_second_while_the_first_is_on_its_way() -> None:
    harness = EngineHarness()
    harness.receive(kick("u"), kick("u"), kick("u"))
    harness.ok()
    harness.ok()

    assert len(harness.sent) == 2
    assert len(harness.publish()) == 3


# Just applied


def test_an_effect_that_was_just_applied_is_a_duplicate_with_its_request_id() -> None:
    harness = EngineHarness()
    harness.receive(update("u", command_id="a", role="Admin"))
    harness.ok(request_id="r")
    harness.wait(59.0)
    harness.receive(update("u", command_id="b", role="Admin"))

    result = harness.result("b", "u")

    assert harness.status("b") == "duplicate"
    assert (result.request_id, result.duplicate_of) == ("r", "commands-0-0")
    assert harness.engine.snapshot(harness.now).counts.repeated_effects == 1


def test_the_window_runs_from_the_call_that_applied_it() -> None:
    harness = EngineHarness()
    harness.receive(unban("u"))
    harness.ok()
    harness.wait(30.0)
    harness.receive(unban("u"))
    harness.wait(30.0)
    harness.receive(unban("u"))

    assert len(harness.out) == 1


def test_a_command_behind_the_one_on_its_way_gets_its_effect() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="a"), ban("u", command_id="b"))
    harness.ok()

    assert harness.out == []
    assert harness.status("b") == "duplicate"


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
    harness = EngineHarness()
    harness.receive(command)
    harness.ok()
    if keeps:
        harness.wait(keeps * 0.96)
        harness.receive(command)
        assert harness.out == []
        harness.wait(keeps * 0.05)
    harness.receive(command)

    assert len(harness.out) == 1


OTHERS_CHANGE_IT = pytest.mark.parametrize(
    "command", [live_unban("u"), update("u", name_card="n"), update("u")], ids=["live", "card", "update"]
)


@OTHERS_CHANGE_IT
def test_what_others_change_as_well_is_sent_again(command: dict[str, Any]) -> None:
    """
    The ban that ``live.unban_member`` lifts is never set by this worker, and users set their own name cards: in between
    another may have changed what was done a moment ago.
    """
    harness = EngineHarness()
    harness.receive(command)
    harness.ok()
    harness.wait(20.0)
    harness.receive(command)
    harness.ok()

    assert [each.status.value for each in harness.publish()] == ["succeeded", "succeeded"]
    assert len(harness.sent) == 2


@OTHERS_CHANGE_IT
def test_what_others_change_as_well_counts_as_done_when_the_settings_say_so(command: dict[str, Any]) -> None:
    harness = EngineHarness(all_effects=True)
    harness.receive(command)
    harness.ok()
    harness.wait(20.0)
    harness.receive(command | {"command_id": "b"})

    assert harness.status("b") == "duplicate"


@OTHERS_CHANGE_IT
def test_what_others_change_as_well_is_shared_while_it_waits(command: dict[str, Any]) -> None:
    """Both have been commanded before the one call leaves, so it does what both want."""
    harness = EngineHarness()
    harness.receive_together(command, command)
    harness.ok()

    assert len(harness.sent) == 1
    assert [each.status.value for each in harness.publish()] == ["succeeded", "succeeded"]


def test_what_others_change_as_well_is_sent_after_the_same_that_is_on_its_way() -> None:
    harness = EngineHarness()
    harness.receive(live_unban("u"), live_unban("u"))
    harness.ok()

    assert [each.action for each in harness.out] == ["live_unban"]


def test_another_ban_of_the_same_user_is_carried_out() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", duration=3600))
    harness.ok()
    harness.receive(ban("u", duration=7200))

    assert len(harness.out) == 1


def test_an_effect_counts_no_more_once_something_else_was_sent() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), unban("u"))
    harness.ok()
    harness.code(harness.request("unban"), 10010)  # refused, but who knows
    harness.receive(ban("u"))

    assert [each.action for each in harness.out] == ["ban"]


def test_a_refused_command_between_does_not_make_the_effect_new() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.ok()
    harness.receive(unban("u", not_after=rfc3339(WALL)), ban("u", command_id="again"))

    assert harness.status("again") == "duplicate"


def test_an_effect_counts_for_no_longer_than_the_setting_says() -> None:
    harness = EngineHarness(effect_window=5.0)
    harness.receive(unban("u"))
    harness.ok()
    harness.wait(4.75)
    harness.receive(unban("u"))
    assert harness.out == []
    harness.be_busy(0.5)
    harness.receive(unban("u"))

    assert len(harness.out) == 1


def test_of_an_earlier_assignment_nothing_is_known_of_effects() -> None:
    """Another owner may have changed the state since."""
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.ok()
    harness.publish()
    harness.revoked(0)
    harness.assign(0, 1)
    harness.wait(3.0)
    harness.receive(ban("u"))

    assert len(harness.out) == 1


def test_the_effects_known_are_those_of_the_last_minute() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"))
    harness.ok()
    harness.wait(30.0)
    harness.receive(ban("u", group="b"))
    harness.ok()
    assert harness.engine.snapshot(harness.now).known_effects == 2
    harness.wait(32.0)

    assert harness.engine.snapshot(harness.now).known_effects == 1
