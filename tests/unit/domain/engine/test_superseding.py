# What makes a waiting command needless, and what does not.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, live_unban, unban, update


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (ban("u"), unban("u")),
        (unban("u"), ban("u")),
        (ban("u", duration=60), ban("u", duration=90)),
        (ban("u", duration=0), ban("u", duration=90)),
        (ban("u", not_after="2040-01-01T00:00:00Z"), unban("u")),
        (ban("u", banned_until="2040-01-01T00:00:00Z"), unban("u")),
        (update("u", name_card="a"), update("u", name_card="b", role="Admin", custom_info="c")),
    ],
    ids=["unban", "ban", "longer", "zero", "not_after", "until", "update"],
)
def test_a_later_command_makes_a_waiting_one_needless(earlier: dict[str, Any], later: dict[str, Any]) -> None:
    harness = EngineHarness()
    harness.receive_together(earlier | {"command_id": "a"}, later | {"command_id": "b"})
    harness.ok()

    assert len(harness.sent) == 1
    assert harness.status("a") == "superseded"
    assert harness.outcome("a").superseded_by == harness.result("a", "u").superseded_by == "commands-0-1"
    assert harness.status("b") == "succeeded"
    assert harness.engine.snapshot(harness.now).counts.superseded == 1


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (ban("u"), unban("u", not_after="2040-01-01T00:00:00Z")),
        (unban("u"), ban("u", banned_until="2040-01-01T00:00:00Z")),
        (unban("u"), ban("u", duration=0)),
        (update("u"), update("u", name_card="b")),
        (update("u"), update("u", name_card="b", role="Admin")),
        (update("u"), live_unban("u")),
        (kick("u"), update("u")),
        (update("u"), kick("u")),
    ],
    ids=[
        "not_after",
        "until",
        "zero",
        "update-one",
        "update-two",
        "unrelated",
        "event-before",
        "event-after",
    ],
)
def test_what_may_leave_something_of_the_earlier_supersedes_nothing(
    earlier: dict[str, Any], later: dict[str, Any]
) -> None:
    harness = EngineHarness()
    harness.receive_together(earlier, later)

    for _ in range(2):
        assert len(harness.out) == 1
        harness.ok()
    assert [each.status.value for each in harness.publish()] == ["succeeded", "succeeded"]


def test_nothing_is_superseded_when_the_settings_say_so() -> None:
    harness = EngineHarness(supersede=False)
    harness.receive_together(ban("u"), unban("u"))
    harness.ok()
    harness.ok()

    assert [each.status.value for each in harness.publish()] == ["succeeded", "succeeded"]


def test_what_was_sent_once_is_not_superseded() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="a"))
    harness.code(harness.request(), 70050)  # it waits in its queue again, until the app is let in
    assert harness.out == []
    harness.receive(unban("u", command_id="b"))
    harness.wait(60.0)
    harness.ok(harness.request("ban"))

    assert [each.action for each in harness.out] == ["unban"]


def test_a_waiting_command_behind_one_on_its_way_is_superseded() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="a"), unban("u", command_id="b"), ban("u", command_id="c"))
    harness.ok()

    assert [harness.status(each) for each in "abc"] == ["succeeded", "superseded", "duplicate"]
    assert len(harness.sent) == 1


def test_a_superseded_command_takes_along_those_that_ride_with_it() -> None:
    harness = EngineHarness()
    harness.receive_together(ban("u", command_id="a"), ban("u", command_id="b"), unban("u", command_id="c"))
    harness.ok()

    assert [harness.outcome(each).superseded_by for each in "ab"] == ["commands-0-2"] * 2
    assert [each.action for each in harness.sent] == ["unban"]


def test_one_command_supersedes_several() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("x", group="other"))
    harness.receive_together(
        ban("u", duration=60, command_id="a"),
        ban("u", duration=90, command_id="b"),
        unban("u", command_id="c"),
    )
    harness.ok()
    harness.wait(2.0)
    harness.ok()

    assert [harness.status(each) for each in "abc"] == ["superseded", "superseded", "succeeded"]


def test_of_a_superseded_command_the_other_users_are_carried_out() -> None:
    harness = EngineHarness()
    harness.receive_together(ban("u", "v", command_id="a"), unban("u", command_id="b"))
    harness.ok()

    assert harness.results("a") == {"u": "superseded", "v": "applied"}
    assert harness.status("a") == "succeeded"


def test_a_repeat_of_an_open_id_is_not_superseded_before_its_turn() -> None:
    """It is not known yet whether it will be sent at all."""
    harness = EngineHarness()
    harness.receive(ban("u", command_id="a"), ban("u", command_id="a"), unban("u", command_id="b"))
    harness.ok()

    assert [each.action for each in harness.out] == ["unban"]
    assert [each.status.value for each in harness.publish()] == ["succeeded", "duplicate"]
