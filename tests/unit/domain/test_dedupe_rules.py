# Repeats and contradictions: the same record, the same command id, the same effect, and what makes a command needless.
#
# (a) redelivery, (b) command ids, (c) one call for two, (d) just applied, (e) superseded; each rule with its exceptions.

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.unit.domain.desk import WALL, Desk, ban, kick, live_unban, unban, update
from worker.domain.dedupe import known_of
from worker.domain.outcomes import ResultStatus
from worker.domain.times import rfc3339

if TYPE_CHECKING:
    from worker.domain.outcomes import Outcome


# (a) The same record again


def test_a_record_that_comes_again_while_it_is_open_has_no_second_outcome() -> None:
    desk = Desk()
    record = desk.record(ban("u", command_id="c"))
    desk.fetch([record, record])
    desk.fetch([record])
    desk.ok()

    assert [each.command_id for each in desk.publish()] == ["c"]
    assert len(desk.sent) == 1
    assert desk.engine.snapshot(desk.now).counts.repeated_records == 2


def test_a_record_that_an_earlier_owner_has_finished_is_not_carried_out_again() -> None:
    desk = Desk()
    first, second, third = (desk.record(ban(user, group=user, command_id=user)) for user in "abc")
    desk.fetch([first, second, third])
    desk.ok(desk.request(target="b"))
    transaction = desk.take()
    desk.commit(transaction)
    left_behind = transaction.commits[0]

    heir = Desk(settled=False)
    heir.revoked(0)
    heir.assign(0, left_behind.offset, metadata=left_behind.metadata)
    heir.wait(3.0)
    heir.fetch([first, second, third])

    assert [each.target for each in heir.out] == ["a", "c"]


# (b) The same command id


def test_a_command_id_that_has_succeeded_is_not_carried_out_again() -> None:
    desk = Desk(effect_window=0.0)
    desk.receive(ban("u", "v", command_id="c"))
    desk.ok()
    desk.publish()
    desk.receive(ban("v", "u", command_id="c"))

    (again,) = desk.publish()

    assert again.status.value == "duplicate"
    assert again.duplicate_of == "commands-0-0"
    assert [each.duplicate_of for each in again.results] == ["commands-0-0", "commands-0-0"]
    assert len(desk.sent) == 1
    assert desk.engine.snapshot(desk.now).counts.repeated_ids == 2


def test_a_kick_whose_command_id_has_succeeded_is_not_carried_out_again() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c"))
    desk.ok()
    desk.publish()
    desk.receive(kick("u", command_id="c"))

    (again,) = desk.publish()

    assert again.status.value == "duplicate"


def test_the_same_command_id_waits_for_the_open_one() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c"), kick("u", command_id="c"))

    assert len(desk.out) == 1
    assert desk.publish() == []

    desk.ok()
    first, second = desk.publish()

    assert (first.status.value, second.status.value) == ("succeeded", "duplicate")
    assert second.duplicate_of == first.outcome_id


def test_of_a_chain_of_repeats_each_names_the_command_that_was_carried_out() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c"), kick("u", command_id="c"), kick("u", command_id="c"))
    desk.ok()

    first, second, third = desk.publish()

    assert second.duplicate_of == third.duplicate_of == first.outcome_id


def test_the_same_command_id_is_carried_out_when_the_open_one_fails() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c"), kick("u", command_id="c"))
    desk.code(desk.request(), 10010)
    desk.ok()

    assert [each.status.value for each in desk.publish()] == ["failed", "succeeded"]


@pytest.mark.parametrize("code", [10010, 70107])
def test_a_command_id_that_has_failed_is_carried_out_again(code: int) -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="c"))
    desk.code(desk.request(), code)
    desk.publish()
    desk.receive(ban("u", command_id="c"))
    desk.ok()

    assert [each.status.value for each in desk.publish()] == ["succeeded"]


def test_a_command_id_that_has_expired_is_carried_out_again() -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="c", not_after=rfc3339(WALL)))
    desk.publish()
    desk.receive(ban("u", command_id="c"))
    desk.ok()

    assert [each.status.value for each in desk.told.outcomes] == ["expired"]
    assert [each.status.value for each in desk.publish()] == ["succeeded"]


def test_a_command_id_that_was_superseded_is_carried_out_again() -> None:
    desk = Desk()
    desk.receive_together(ban("u", command_id="c"), unban("u", command_id="d"))
    desk.ok()
    assert desk.status("c") == "superseded"
    desk.receive(ban("u", command_id="c"))

    assert [each.action for each in desk.out] == ["ban"]


def test_a_command_id_that_was_rejected_is_carried_out_once_it_is_right() -> None:
    desk = Desk()
    desk.receive(ban("administrator", command_id="c"))
    assert desk.status("c") == "rejected"
    desk.receive(ban("u", command_id="c"))
    desk.ok()

    assert [each.status.value for each in desk.publish()] == ["succeeded"]


def test_of_a_command_id_that_has_partially_succeeded_only_the_other_users_are_carried_out() -> None:
    desk = Desk()
    desk.receive(kick("u", "v", command_id="c"))
    desk.code(desk.request(), 10019)
    desk.code(desk.request(), 10019)
    desk.ok()
    assert desk.results("c") == {"u": "failed", "v": "applied"}
    desk.receive(kick("u", "v", command_id="c"))

    assert desk.request().users == ["u"]

    desk.ok()
    (again,) = desk.publish()
    assert again.status.value == "succeeded"
    assert [(each.status.value, each.duplicate_of) for each in again.results] == [
        ("applied", None),
        ("duplicate", "commands-0-0"),
    ]


def test_the_third_time_a_partial_success_is_completed_it_is_a_duplicate() -> None:
    desk = Desk()
    desk.receive(kick("u", "v", command_id="c"))
    desk.code(desk.request(), 10019)
    desk.code(desk.request(), 10019)
    desk.ok()
    desk.publish()
    desk.receive(kick("u", "v", command_id="c"))
    desk.ok()
    desk.publish()
    desk.receive(kick("u", "v", command_id="c"))

    assert [each.status.value for each in desk.publish()] == ["duplicate"]


def test_what_is_waited_for_may_hold_for_some_users_only() -> None:
    desk = Desk()
    desk.receive(kick("u", "v", command_id="c"), kick("u", "v", command_id="c"))
    desk.code(desk.request(), 10019)
    desk.code(desk.request(), 10019)  # u has failed, and goes again as the second command's
    desk.ok()

    first, second = desk.publish()

    assert first.status.value == "partially_succeeded"
    assert [each.status.value for each in second.results] == ["applied", "duplicate"]


@pytest.mark.parametrize(
    "other",
    [
        unban("u", "v"),
        ban("u", "v", group="h"),
        ban("u"),
        ban("u", "v", duration=60),
        ban("u", "v", reason="because"),
        kick("u", "v"),
        ban("u", "v", app="second"),
    ],
    ids=["action", "target", "users", "duration", "reason", "room", "app"],
)
def test_a_command_id_that_stands_for_something_else_is_refused(other: dict[str, Any]) -> None:
    desk = Desk()
    desk.receive(ban("u", "v", command_id="c"))
    desk.ok()
    desk.publish()
    desk.receive(other | {"command_id": "c", "issuer": "i", "metadata": {"n": 1}})

    (again,) = desk.publish()

    assert again.status.value == "rejected"
    assert again.error is not None
    assert (again.error.code, again.error.field) == ("command_id_reused", "command_id")
    assert "commands-0-0" in again.error.message
    assert (again.issuer, again.metadata) == ("i", {"n": 1})
    assert (again.group_id, again.room_id) == (other.get("group_id"), other.get("room_id"))
    assert [each.error_code for each in desk.told.dead_letters] == ["command_id_reused"]


def test_an_open_command_id_that_stands_for_something_else_is_refused_at_once() -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="c"), unban("u", command_id="c"))

    assert [each.status.value for each in desk.publish()] == ["rejected"]


def test_a_reused_id_leaves_what_is_known_of_the_first_use() -> None:
    desk = Desk()
    desk.receive(kick("u", command_id="c"))
    desk.ok()
    desk.receive(unban("u", command_id="c"))
    desk.publish()
    desk.receive(kick("u", command_id="c"))

    assert [each.status.value for each in desk.publish()] == ["duplicate"]


def test_an_id_is_forgotten_after_the_window() -> None:
    desk = Desk(dedupe_window=100.0)
    desk.receive(kick("u", command_id="c"))
    desk.ok()
    desk.publish()
    desk.wait(100.25)
    desk.receive(kick("u", command_id="c"))

    assert len(desk.out) == 1


def test_a_repeat_of_an_id_renews_it() -> None:
    desk = Desk(dedupe_window=100.0)
    desk.receive(kick("u", command_id="c"))
    desk.ok()
    desk.publish()
    for _ in range(3):
        desk.wait(90.0)
        desk.receive(kick("u", command_id="c"))
        assert [each.duplicate_of for each in desk.publish()] == ["commands-0-0"]


def test_an_id_is_forgotten_after_so_many_outcomes_of_its_partition() -> None:
    desk = Desk(restore_records=2)
    for command_id in ("a", "b", "c"):
        desk.receive(kick("u", command_id=command_id))
        desk.ok()
        desk.publish()
    desk.receive(kick("u", command_id="b"))
    assert desk.out == []
    desk.receive(kick("u", command_id="a"))

    assert len(desk.out) == 1


def test_an_id_counts_for_its_own_partition_only() -> None:
    desk = Desk(0, 1)
    desk.receive(kick("u", command_id="c"), partition=0)
    desk.ok()
    desk.publish()
    desk.receive(kick("u", command_id="c"), partition=1)

    assert len(desk.out) == 1


def test_an_id_that_an_earlier_owner_told_of_is_not_carried_out_again() -> None:
    desk = Desk()
    desk.receive(kick("u", "v", command_id="c"))
    desk.ok()
    outcome = desk.outcome("c")

    heir = Desk(settled=False)
    heir.revoked(0)
    heir.assign(0, 1, known=[_read(outcome)])
    heir.wait(3.0)
    heir.receive(kick("v", "u", command_id="c"))

    assert heir.out == []
    assert heir.outcome("c").duplicate_of == outcome.outcome_id


def _read(outcome: "Outcome") -> Any:
    return known_of(msgspec.json.encode(outcome))


# (c) Waiting, with the same effect


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


# (d) Just applied


def test_an_effect_that_was_just_applied_is_a_duplicate_with_its_request_id() -> None:
    desk = Desk()
    desk.receive(live_unban("u", command_id="a"))
    desk.ok(request_id="r")
    desk.wait(59.0)
    desk.receive(live_unban("u", command_id="b"))

    result = desk.result("b", "u")

    assert desk.status("b") == "duplicate"
    assert (result.request_id, result.duplicate_of) == ("r", "commands-0-0")
    assert desk.engine.snapshot(desk.now).counts.repeated_effects == 1


def test_the_window_runs_from_the_call_that_applied_it() -> None:
    desk = Desk()
    desk.receive(live_unban("u"))
    desk.ok()
    desk.wait(30.0)
    desk.receive(live_unban("u"))
    desk.wait(30.0)
    desk.receive(live_unban("u"))

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
        (update("u"), 60.0),
    ],
    ids=["hour", "100s", "1s", "0s", "until-soon", "until-later", "unban", "kick", "update"],
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


# (e) Superseded


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
    desk = Desk()
    desk.receive_together(earlier | {"command_id": "a"}, later | {"command_id": "b"})
    desk.ok()

    assert len(desk.sent) == 1
    assert desk.status("a") == "superseded"
    assert desk.outcome("a").superseded_by == desk.result("a", "u").superseded_by == "commands-0-1"
    assert desk.status("b") == "succeeded"
    assert desk.engine.snapshot(desk.now).counts.superseded == 1


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
    desk = Desk()
    desk.receive_together(earlier, later)

    for _ in range(2):
        assert len(desk.out) == 1
        desk.ok()
    assert [each.status.value for each in desk.publish()] == ["succeeded", "succeeded"]


def test_nothing_is_superseded_when_the_settings_say_so() -> None:
    desk = Desk(supersede=False)
    desk.receive_together(ban("u"), unban("u"))
    desk.ok()
    desk.ok()

    assert [each.status.value for each in desk.publish()] == ["succeeded", "succeeded"]


def test_what_was_sent_once_is_not_superseded() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("u", command_id="a"))
    desk.code(desk.request(), 10002)
    desk.give_up(desk.waiting[0])  # it waits in its queue again, for a permit
    assert desk.out == []
    desk.receive(unban("u", command_id="b"))
    desk.wait(1.0)
    desk.ok(desk.request("ban"))

    assert [each.action for each in desk.out] == ["unban"]


def test_a_waiting_command_behind_one_on_its_way_is_superseded() -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="a"), unban("u", command_id="b"), ban("u", command_id="c"))
    desk.ok()

    assert [desk.status(each) for each in "abc"] == ["succeeded", "superseded", "duplicate"]
    assert len(desk.sent) == 1


def test_a_superseded_command_takes_along_those_that_ride_with_it() -> None:
    desk = Desk()
    desk.receive_together(ban("u", command_id="a"), ban("u", command_id="b"), unban("u", command_id="c"))
    desk.ok()

    assert [desk.outcome(each).superseded_by for each in "ab"] == ["commands-0-2"] * 2
    assert [each.action for each in desk.sent] == ["unban"]


def test_one_command_supersedes_several() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("x", group="other"))
    desk.receive_together(
        ban("u", duration=60, command_id="a"),
        ban("u", duration=90, command_id="b"),
        unban("u", command_id="c"),
    )
    desk.ok()
    desk.wait(2.0)
    desk.ok()

    assert [desk.status(each) for each in "abc"] == ["superseded", "superseded", "succeeded"]


def test_of_a_superseded_command_the_other_users_are_carried_out() -> None:
    desk = Desk()
    desk.receive_together(ban("u", "v", command_id="a"), unban("u", command_id="b"))
    desk.ok()

    assert desk.results("a") == {"u": "superseded", "v": "applied"}
    assert desk.status("a") == "succeeded"


def test_a_repeat_of_an_open_id_is_not_superseded_before_its_turn() -> None:
    """
    It is not known yet whether it will be sent at all.
    """
    desk = Desk()
    desk.receive(ban("u", command_id="a"), ban("u", command_id="a"), unban("u", command_id="b"))
    desk.ok()

    assert [each.action for each in desk.out] == ["unban"]
    assert [each.status.value for each in desk.publish()] == ["succeeded", "duplicate"]


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
