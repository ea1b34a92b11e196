# Which members share a call, which batch leaves at a permit, and how much of the permits one group or room may have.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, unban, update, users
from worker.domain.calls.endpoint_state import FILL_SECONDS
from worker.domain.engine import CATCH_UP_FETCH

if TYPE_CHECKING:
    from tests.unit.domain.engine_harness import Request


def busy(permits: int = 1, **settings: Any) -> EngineHarness:
    """A harness all of whose permits for bans are out, with one target each, so that what comes now waits."""
    harness = EngineHarness(**{"default_calls_per_second": permits, "overdue_after": 60.0} | settings)
    for number in range(permits):
        harness.receive(ban("x", group=f"busy{number}"))
    assert len(harness.out) == permits
    return harness


def next_after_answer(harness: EngineHarness) -> Request:
    """The request that leaves when the permit of the only one that is out has come back."""
    harness.ok(harness.request())
    harness.wait(1.0)
    return harness.request()


def test_a_command_leaves_at_once_and_alone_when_a_permit_is_free() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))

    assert harness.request().users == ["u"]
    assert harness.request().at == harness.now


def test_while_the_worker_catches_up_batches_wait_for_records_that_fill_them() -> None:
    harness = EngineHarness()
    harness.receive_together(
        *(ban(f"u{number}", group=f"g{number % 30}") for number in range(CATCH_UP_FETCH))
    )
    assert harness.out == []
    assert harness.limited_by("ban") == "nothing"

    harness.receive_together(*(ban(f"v{number}", group=f"g{number % 30}") for number in range(400)))

    assert [len(each.users) for each in harness.out] == [20] * 30


def test_a_batch_waits_a_moment_to_be_filled_and_not_for_ever() -> None:
    harness = EngineHarness()
    harness.receive_together(
        *(ban(f"u{number}", group=f"g{number % 30}") for number in range(CATCH_UP_FETCH))
    )

    harness.wait(FILL_SECONDS)

    assert sum(len(each.users) for each in harness.out) == CATCH_UP_FETCH


def test_while_permits_are_scarce_no_batch_waits_to_be_filled() -> None:
    """Batches fill by themselves then, and a permit that waits is lost."""
    harness = EngineHarness(default_calls_per_second=1)

    harness.receive_together(*(ban("u", group=f"g{number}") for number in range(CATCH_UP_FETCH)))

    assert len(harness.out) == 1


def test_batches_of_few_records_at_once_do_not_wait_to_be_filled() -> None:
    harness = EngineHarness()

    harness.receive_together(
        *(ban(f"u{number}", group=f"g{number % 30}") for number in range(CATCH_UP_FETCH - 1))
    )

    assert len(harness.out) == 30


def test_commands_of_one_target_and_effect_share_a_call() -> None:
    harness = busy()
    for user in ("u", "v", "w"):
        harness.receive(ban(user))

    assert next_after_answer(harness).users == ["u", "v", "w"]


def test_a_call_carries_at_most_twenty_members() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(45)))

    assert [len(each.users) for each in harness.out] == [20, 20, 5]


def test_an_update_carries_one_member_a_call() -> None:
    harness = EngineHarness()
    harness.receive(update("u", "v"))

    assert [each.users for each in harness.out] == [["u"], ["v"]]


@pytest.mark.parametrize(
    "other",
    [ban("v", group="h"), ban("v", duration=60), ban("v", reason="r"), unban("v"), ban("v", app="second")],
    ids=["target", "duration", "reason", "action", "app"],
)
def test_commands_that_differ_in_more_than_the_user_do_not_share_a_call(other: dict[str, Any]) -> None:
    harness = EngineHarness()
    harness.receive_together(ban("u"), other)

    assert [each.users for each in harness.out] == [["u"], ["v"]]


def test_bans_until_the_same_instant_share_a_call_however_that_is_written() -> None:
    harness = EngineHarness()
    harness.receive_together(
        ban("u", banned_until="2031-01-01T00:00:00Z"), ban("v", banned_until="2031-01-01T01:00:00+01:00")
    )

    assert [each.users for each in harness.out] == [["u", "v"]]


def test_commands_with_different_reasons_share_a_call_when_the_settings_say_so() -> None:
    harness = EngineHarness(reasons_matter=False)
    harness.receive_together(
        kick("u", reason="score 0.97", command_id="a"), kick("v", reason="score 0.98", command_id="b")
    )

    assert harness.request().users == ["u", "v"]
    assert harness.request().body["Reason"] == "score 0.97"

    harness.ok()

    for command_id, reason in (("a", "score 0.97"), ("b", "score 0.98")):
        parameters = harness.outcome(command_id).parameters
        assert parameters is not None
        assert parameters.reason == reason


def test_at_a_permit_the_fullest_group_leaves() -> None:
    harness = busy()
    harness.receive(ban("u", group="small"), ban("v", "w", group="large"), ban("y", group="late"))

    assert next_after_answer(harness).target == "large"


def test_of_groups_alike_the_one_that_has_waited_longest_leaves() -> None:
    harness = busy()
    harness.receive(ban("u", group="first"), ban("v", group="second"))

    assert next_after_answer(harness).target == "first"


def test_a_group_that_has_waited_longer_than_max_wait_goes_before_the_fullest() -> None:
    harness = busy(overdue_after=5.0)
    harness.receive(ban("u", group="old"))
    harness.wait(4.0)
    harness.receive(ban("v", "w", group="large"))

    assert next_after_answer(harness).target == "old"
    assert next_after_answer(harness).target == "large"


def test_of_several_overdue_groups_the_oldest_goes_first() -> None:
    harness = busy(overdue_after=1.0)
    harness.receive(ban("u", group="a"))
    harness.wait(0.5)
    harness.receive(ban("v", group="b"))
    harness.wait(0.5)
    harness.receive(ban("w", "x", group="c"))
    harness.wait(5.0)

    assert [next_after_answer(harness).target for _ in range(3)] == ["a", "b", "c"]


def test_a_group_whose_oldest_member_has_left_counts_by_its_next_one() -> None:
    harness = busy(overdue_after=2.0)
    harness.receive(ban(*users(20), group="a"))
    harness.wait(1.0)
    harness.receive(ban("late", group="a"))
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    assert len(next_after_answer(harness).users) == 20
    harness.wait(3.0)

    assert next_after_answer(harness).users == ["late"]
    assert next_after_answer(harness).target == "b"


def test_a_full_group_does_not_go_twice_before_another_full_one() -> None:
    harness = busy()
    harness.receive(*(ban(*users(20, name), group="a") for name in "uvw"))
    harness.receive(*(ban(*users(20, name), group="b") for name in "uv"))

    assert [next_after_answer(harness).target for _ in range(5)] == ["a", "b", "a", "b", "a"]


def test_a_started_command_goes_before_a_fuller_group() -> None:
    """What is started must be finished at a drain, so it had better be few."""
    harness = busy()
    harness.receive(ban(*users(21), group="a"))
    harness.receive(ban("v", "w", group="b"))
    assert len(next_after_answer(harness).users) == 20

    assert next_after_answer(harness).users == ["u20"]
    assert next_after_answer(harness).target == "b"


def test_a_command_for_which_a_started_one_waits_goes_before_a_fuller_group() -> None:
    harness = busy()
    harness.receive(ban("v", "w", group="full"))
    harness.receive(ban("a", group="g"))  # waits in its queue
    harness.receive(kick("b", room="other"))
    harness.ok(harness.request("kick"))
    harness.receive(unban("a", "z", group="g", not_after="2040-01-01T00:00:00Z"))  # z starts it, and a waits
    assert harness.request("unban").users == ["z"]
    harness.ok(harness.request("ban"))
    harness.wait(1.0)

    assert harness.request("ban").users == ["a"]


def test_one_target_has_at_most_an_eighth_of_the_permits_out() -> None:
    harness = EngineHarness(default_calls_per_second=32)
    harness.receive(ban(*users(100), group="large"))

    assert len(harness.out) == 4
    assert harness.limited_by("ban") == "target"

    harness.receive(ban("v", group="other"))
    assert len(harness.out) == 5

    harness.ok(harness.out[0])
    assert [each.target for each in harness.out] == ["large"] * 3 + ["other", "large"]


def test_one_target_may_have_two_requests_out_however_few_permits_there_are() -> None:
    harness = EngineHarness(default_calls_per_second=8)
    harness.receive(ban(*users(100)))

    assert len(harness.out) == 2


def test_a_target_without_an_answer_has_one_call_until_one_is_answered() -> None:
    harness = EngineHarness(default_calls_per_second=32)
    harness.receive(ban(*users(100)))
    hanging = harness.out[0]
    harness.timeout(hanging)
    for request in list(harness.out):
        harness.timeout(request) if request is harness.out[-1] else harness.refuse_connection(request)

    assert harness.out == []

    harness.request_permit(harness.waiting[0])
    assert len(harness.out) == 1
    harness.request_permit(harness.waiting[0])
    harness.wait(5.0)
    assert len(harness.out) == 1, "the second retry waits until the first is answered"

    harness.ok()
    assert len(harness.out) > 1


def test_a_retry_of_a_full_target_waits_behind_its_bound_and_lets_others_pass() -> None:
    harness = EngineHarness(default_calls_per_second=16)
    harness.receive(ban(*users(20), group="g"), ban(*users(20, "v"), group="g"))
    first, second = harness.out
    harness.code(first, 60008)
    harness.request_permit()
    assert harness.out == [second], "a suspect target has one request out"
    harness.receive(ban("x", group="other"))

    assert [each.target for each in harness.out] == ["g", "other"]

    harness.ok(second)
    assert [each.users for each in harness.out] == [["x"], users(20)]


def test_retries_go_before_new_commands() -> None:
    harness = busy()
    harness.code(harness.request(), 10002)
    harness.receive(ban("u", group="new"))
    harness.request_permit()
    harness.wait(1.0)

    assert harness.request().target == "busy0"


def test_the_body_is_what_tencent_takes() -> None:
    harness = EngineHarness()
    harness.receive(
        ban("u", duration=60, reason="spam"),
        unban("u", group="h"),
        kick("v", room="r"),
        update("w", room="s", name_card="n", role="Admin", custom_info="i"),
    )

    assert {each.action: each.body for each in harness.out} == {
        "ban": {"GroupId": "g", "Members_Account": ["u"], "Duration": 60, "Description": "spam"},
        "unban": {"GroupId": "h", "Members_Account": ["u"]},
        "kick": {"RoomId": "r", "MemberList_Account": ["v"], "Reason": "spam"},
        "update": {
            "RoomId": "s",
            "MemberInfo": {"Member_Account": "w", "NameCard": "n", "Role": "Admin", "CustomInfo": "i"},
        },
    }
