# A cancelled scope: what waits and what comes gets its outcome, unsent; everybody else goes on.

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, unban

MAD = {"issuer": "mad"}
WRONG_IDENTIFIER: Final = 70013


def mad(*who: str, **fields: Any) -> dict[str, Any]:
    return ban(*who, **MAD, **fields)


def test_what_comes_is_cancelled_and_says_who_and_why() -> None:
    harness = EngineHarness()
    harness.order("cancel", **MAD)
    harness.receive(mad("u", "v", command_id="a"), ban("u", command_id="b"))
    assert harness.request().users == ["u"]
    harness.ok()

    outcome = harness.outcome("a")
    assert outcome.status.value == "cancelled"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == (
        "cancelled",
        "cancelled by alice: it bans everybody",
    )
    assert harness.results("a") == {"u": "cancelled", "v": "cancelled"}
    assert harness.status("b") == "succeeded"
    (letter,) = harness.published.dead_letters
    assert letter.outcome_id == outcome.outcome_id


def test_a_cancelled_follower_of_a_call_that_waits_is_not_carried_by_its_next_request() -> None:
    harness = EngineHarness()
    harness.receive_together(ban("u", command_id="good"), mad("u", command_id="mad"))
    harness.code(harness.request(), 10002)

    harness.order("cancel", **MAD)

    harness.request_permit()
    harness.ok()
    assert (harness.status("good"), harness.status("mad")) == ("succeeded", "cancelled")


def test_what_waits_is_cancelled_and_what_was_to_come_after_it_goes_on() -> None:
    harness = EngineHarness(default_calls_per_second=1, supersede=False)
    harness.receive(ban("first"))
    harness.receive_together(mad("u", command_id="a"), unban("u", command_id="b"))
    harness.order("cancel", **MAD)
    assert harness.status("a") == "cancelled"
    harness.ok(harness.request("unban"))
    assert harness.status("b") == "succeeded"


def test_what_was_paused_can_be_cancelled() -> None:
    harness = EngineHarness()
    harness.order("paused", **MAD)
    harness.receive(mad("u", command_id="a"), mad("v", command_id="b"))
    harness.order("cancel", **MAD)
    assert harness.status("a") == harness.status("b") == "cancelled"
    assert not harness.sent


def test_another_issuers_command_on_the_same_call_is_sent() -> None:
    """It was coalesced with one that is cancelled now: it takes its place, and takes the others along."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(
        mad("u", command_id="a"), ban("u", command_id="b"), mad("u", command_id="c"), ban("u", command_id="d")
    )
    harness.order("cancel", **MAD)
    for _ in range(2):
        harness.ok()
        harness.wait(1.0)
    assert [harness.status(each) for each in "abcd"] == ["cancelled", "succeeded", "cancelled", "succeeded"]
    assert len(harness.sent) == 2


def test_what_is_on_its_way_ends_and_is_not_tried_again() -> None:
    harness = EngineHarness()
    harness.receive(mad("u", command_id="a"))
    harness.receive(mad("v", command_id="b"))
    harness.order("cancel", **MAD)
    first, second = harness.out
    harness.ok(first)
    harness.code(second, 10002)
    assert harness.status("a") == "succeeded"
    assert harness.status("b") == "cancelled"


def test_what_may_have_been_applied_is_not_said_to_be_cancelled() -> None:
    """Its outcome comes at once: its call, which would wait for its backoff, is over."""
    harness = EngineHarness()
    harness.receive(mad("u", command_id="a"))
    harness.timeout(harness.request())
    harness.order("cancel", **MAD)
    assert harness.cancelled
    assert harness.status("a") == "failed"
    assert "an earlier attempt without an answer may have taken effect" in str(
        harness.result("a", "u").error_info
    )


def test_a_copy_of_a_command_that_was_carried_out_stays_a_duplicate() -> None:
    """Reported as cancelled, its id would be free again, and a third copy would be carried out a second time."""
    harness = EngineHarness()
    harness.receive(ban("u", command_id="x", issuer="mad"))
    harness.order("cancel", **MAD)
    harness.receive(ban("u", command_id="x", issuer="mad"))
    harness.ok()
    statuses = [each.status.value for each in harness.publish()]
    assert statuses == ["succeeded", "duplicate"]
    harness.receive(ban("u", command_id="x", issuer="mad"))
    harness.resume(**MAD)
    harness.receive(ban("u", command_id="x", issuer="mad"))
    assert [each.status.value for each in harness.publish()] == ["duplicate", "duplicate"]


def test_a_copy_that_waits_for_its_turn_is_cancelled_in_its_turn() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="x", issuer="mad"))
    harness.receive(ban("u", command_id="x", issuer="mad"))
    harness.order("cancel", **MAD)
    harness.code(harness.request(), 10004)
    assert [each.status.value for each in harness.publish()] == ["failed", "cancelled"]


def test_a_cancelled_command_can_be_sent_again_under_its_id() -> None:
    harness = EngineHarness()
    harness.order("cancel", **MAD)
    harness.receive(mad("u", command_id="x"))
    assert harness.status("x") == "cancelled"
    harness.resume(**MAD)
    harness.receive(mad("u", command_id="x"))
    harness.ok()
    assert [each.status.value for each in harness.publish()] == ["succeeded"]


def test_of_a_command_that_is_partly_done_the_rest_is_cancelled() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(mad(*(f"u{number}" for number in range(21)), command_id="a"))
    harness.ok()
    harness.order("cancel", **MAD)
    assert harness.status("a") == "partially_succeeded"
    assert sorted(harness.results("a").values()) == ["applied"] * 20 + ["cancelled"]


def test_a_member_whose_queue_goes_on_meets_the_next_cancelled_one() -> None:
    """One order cancels several commands of one member, with others' tasks coalesced with them."""
    harness = EngineHarness(default_calls_per_second=1, supersede=False)
    harness.receive(ban("u", issuer="good", duration=5))
    harness.receive(
        mad("u", "v", command_id="a"),
        unban("u", command_id="b", **MAD),
        unban("u", command_id="c"),
        mad("u", command_id="d"),
    )
    harness.order("cancel", **MAD)
    harness.ok()
    harness.ok()
    assert [harness.status(each) for each in "abcd"] == ["cancelled", "cancelled", "succeeded", "cancelled"]


def test_one_that_another_took_along_is_not_said_to_be_cancelled_either() -> None:
    """A ban that two issuers asked for was carried by a request without an answer: whichever is cancelled, it may be in place."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(
        ban("u", command_id="a", issuer="b1"),
        mad("u", command_id="b"),
        ban("v", command_id="c", issuer="b1", group="h"),
    )
    harness.ok()
    harness.wait(1.0)
    harness.timeout(harness.request(target="g"))
    harness.order("cancel", issuer="b1")
    harness.order("cancel", **MAD)
    assert [harness.status(each) for each in "abc"] == ["failed", "failed", "cancelled"]
    assert harness.outcome("b").attempts == 1


def test_one_that_goes_with_a_call_on_its_way_ends_as_that_does() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(ban("u", command_id="a"), mad("u", command_id="b"))
    harness.ok()
    harness.wait(1.0)
    harness.order("cancel", **MAD)
    harness.ok()
    assert [harness.status(each) for each in "ab"] == ["succeeded", "succeeded"]


def test_one_that_went_with_a_call_of_which_nothing_came_is_not_sent_again() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(ban("u", command_id="a"), mad("u", command_id="b"), ban("u", command_id="c"))
    harness.ok()
    harness.wait(1.0)
    harness.order("cancel", **MAD)
    harness.code(harness.request(), WRONG_IDENTIFIER)
    harness.wait(1.0)
    harness.ok()
    assert [harness.status(each) for each in "abc"] == ["succeeded", "cancelled", "succeeded"]


@pytest.mark.parametrize("is_out", [True, False])
def test_one_that_went_with_a_call_does_not_go_with_the_next_one_after_a_pause(is_out: bool) -> None:
    """The command that shared its call is paused while a request of that is out, or before the next try."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(ban("u", command_id="a"), mad("u", command_id="b"))
    harness.ok()
    harness.wait(1.0)
    harness.order("cancel", **MAD)
    if is_out:
        harness.order("paused", target="g")
    harness.code(harness.request(), 10002)
    if not is_out:
        harness.order("paused", target="g")
    if harness.waiting:
        harness.request_permit()
    harness.wait(1.0)
    harness.resume(target="g")
    harness.ok()
    assert [harness.status(each) for each in "ab"] == ["succeeded", "cancelled"]


def test_a_ban_that_gave_way_to_a_cancelled_one_stays_superseded() -> None:
    """Its outcome may be published already: nobody carries out either."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(ban("u", command_id="a"), mad("u", command_id="b", duration=1))
    harness.order("cancel", **MAD)
    harness.ok()
    assert [harness.status(each) for each in "ab"] == ["superseded", "cancelled"]
    assert len(harness.sent) == 1
