# Order per member: what waits for what, and in which order commands are finished.
#
# For how repeats and contradictions are recognised see test_repeated_ids.py, test_repeated_effects.py and
# test_superseding.py; for partitions that go, test_handover.py.

from __future__ import annotations

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, live_unban, unban, update
from worker.domain.contract.error_codes import Verdict
from worker.domain.effects import AttemptResult


def test_an_unban_waits_for_the_ban_that_is_on_its_way() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), unban("u"))

    assert [each.action for each in harness.out] == ["ban"]

    harness.ok()

    assert [each.action for each in harness.out] == ["unban"]


def test_a_member_waits_only_for_its_own_earlier_commands() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="g"), unban("v", group="g"), unban("u", group="h"))

    assert [(each.action, each.target, each.users) for each in harness.out] == [
        ("ban", "g", ["u"]),
        ("unban", "g", ["v"]),
        ("unban", "h", ["u"]),
    ]


def test_the_same_user_of_another_app_is_another_member() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), unban("u", app="second"))

    assert [(each.send.app, each.action) for each in harness.out] == [("main", "ban"), ("second", "unban")]


def test_order_holds_across_the_services_of_one_room() -> None:
    harness = EngineHarness()
    harness.receive(kick("u"), live_unban("u"), update("u"))

    for action in ("kick", "live_unban", "update"):
        assert [each.action for each in harness.out] == [action]
        harness.ok()
    assert harness.out == []


def test_of_a_command_with_several_users_each_goes_when_its_own_turn_comes() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="first"), unban("u", "v", command_id="second"))

    assert [(each.action, each.users) for each in harness.out] == [("ban", ["u"]), ("unban", ["v"])]

    harness.ok()
    assert [(each.action, each.users) for each in harness.out] == [("unban", ["u"])]
    harness.ok()

    assert harness.results("second") == {"u": "applied", "v": "applied"}


def test_a_retry_keeps_the_later_command_waiting() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), unban("u"))
    harness.code(harness.request(), 10002)

    assert harness.out == []

    harness.request_permit()
    assert [each.action for each in harness.out] == ["ban"]
    harness.ok()

    assert [each.action for each in harness.out] == ["unban"]


def test_a_failed_command_lets_the_next_one_go() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="ban"), unban("u", command_id="unban"))
    harness.code(harness.request(), 10010)

    assert [each.action for each in harness.out] == ["unban"]

    harness.ok()

    assert harness.status("ban") == "failed"
    assert harness.status("unban") == "succeeded"


def test_a_done_command_is_not_published_before_an_earlier_one_that_shares_a_member() -> None:
    """Else a crash would redo the earlier one and skip the later one."""
    harness = EngineHarness()
    harness.receive(ban("u", "v", command_id="first"), unban("u", command_id="second"))
    harness.code(harness.request(), 10019)
    harness.code(harness.request(), 10019)  # u, alone: it has failed, and v goes again
    harness.ok(harness.request("unban"))

    assert harness.publish() == []

    harness.ok(harness.request("ban"))

    assert [each.command_id for each in harness.publish()] == ["first", "second"]


def test_a_done_command_is_held_back_while_an_earlier_one_is_open() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="g", command_id="earlier"))
    harness.receive(ban("u", "v", command_id="first"))  # u waits for the earlier one
    harness.receive(unban("v", command_id="second"))
    earlier = next(each for each in harness.out if each.users == ["u"])
    harness.ok(next(each for each in harness.out if each.users == ["v"]))
    harness.ok(harness.request("unban"))

    assert harness.publish() == []

    harness.ok(earlier)

    assert [each.command_id for each in harness.publish()] == ["earlier", "first", "second"]


def test_a_different_effect_waits_three_seconds_after_a_try_of_unknown_end() -> None:
    harness = EngineHarness(give_up_after=1.0)
    harness.receive(ban("u", command_id="ban"), unban("u"))
    harness.wait(1.25)
    harness.timeout(harness.request("ban"))
    ended_at = harness.now

    assert harness.status("ban") == "failed"
    harness.wait(2.75)
    assert harness.out == []
    harness.wait(0.75)
    assert [(each.action, each.at) for each in harness.out] == [("unban", ended_at + 3.0)]


def test_the_same_effect_does_not_wait_after_a_try_of_unknown_end() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.timeout(harness.request())

    harness.request_permit()

    assert [each.action for each in harness.out] == ["ban"]


def test_a_member_without_a_later_command_is_forgotten_once_its_unknown_end_is_over() -> None:
    harness = EngineHarness(max_attempts=1)
    harness.receive(ban("u", command_id="c"), ban("v", group="other"))
    harness.timeout(harness.request(target="g"))
    harness.ok(harness.request(target="other"))
    harness.wait(0.1)
    harness.request_permit()
    harness.timeout(harness.request())
    assert harness.status("c") == "failed"

    harness.wait(3.0)
    harness.receive(unban("u"))

    assert [each.action for each in harness.out] == ["unban"]


def test_an_answer_tells_the_tries_of_a_command_once_each() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", "v", command_id="c"))
    harness.code(harness.request(), 10002, "busy")
    harness.wait(0.5)
    harness.request_permit()
    harness.wait(0.25)
    harness.ok()

    outcome = harness.outcome("c")

    assert outcome.attempts == 2
    assert [(each.error_code, each.error_info, each.members) for each in outcome.calls] == [
        (10002, "busy", 2),
        (0, None, 2),
    ]
    assert outcome.calls[1].elapsed_ms == 250.0
    assert outcome.calling_ms == 750.0


def test_of_a_long_history_the_outcome_lists_the_first_and_last_fifty_attempts() -> None:
    harness = EngineHarness(max_attempts=1000, give_up_after=None)
    harness.receive(kick("u", command_id="c"))
    for number in range(119):
        harness.code(harness.request(), 10002, request_id=f"r{number}")
        harness.request_permit()
    harness.ok(request_id="r119")

    outcome = harness.outcome("c")

    assert outcome.attempts == 120
    assert outcome.calls_omitted == 20
    kept = [f"r{number}" for number in (*range(50), *range(70, 120))]
    assert [each.request_id for each in outcome.calls] == outcome.request_ids == kept


def test_a_repeated_user_of_one_command_is_one_member() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", "u", "v", command_id="c"))

    assert harness.request().users == ["u", "v"]


@pytest.mark.parametrize("tell", ["attempt_finished", "permit_requested"])
def test_news_of_a_call_that_is_over_changes_nothing(tell: str) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    request = harness.request()
    harness.ok()
    effects = {
        "attempt_finished": lambda: harness.engine.attempt_finished(
            request.call_id, AttemptResult(harness.now, harness.now, Verdict.FATAL), harness.now
        ),
        "permit_requested": lambda: harness.engine.permit_requested(request.call_id, harness.now),
    }[tell]()

    assert effects == []
    assert harness.status("c") == "succeeded"
