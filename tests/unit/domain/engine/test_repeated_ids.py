# The same record again, and the same command id in another one: what is not carried out a second time, and what is.
#
# What is known of ids is proven in test_dedupe.py; a repeat that comes too late in test_expired_repeats.py.

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.unit.domain.engine_harness import SETTLING, WALL, Desk, ban, kick, unban, update
from worker.domain.contract.times import rfc3339
from worker.domain.progress.commit_metadata import decode, label
from worker.domain.progress.dedupe import known_of
from worker.domain.progress.open_commands import OpenCommand

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import Outcome


# The same record again


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
    whose = label(desk.rules.topic, desk.rules.topic_id, 0)
    heir.assign(0, left_behind.offset, done=decode(left_behind.metadata, whose, left_behind.offset))
    heir.wait(3.0)
    heir.fetch([first, second, third])

    assert [each.target for each in heir.out] == ["a", "c"]


# The same command id


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


LATE = pytest.mark.parametrize("known", ["open", "published", "restored"])
"""When the copy comes: while the first one has no outcome yet, after that, or when another owner has read it back."""


def later(desk: Desk, known: str) -> Desk:
    """
    The desk at which the copy comes.
    """
    if known == "open":
        return desk
    desk.publish()
    if known == "published":
        return desk
    told = [_read(each) for each in desk.told.outcomes]
    heir = Desk(settled=False)
    heir.revoked(0)
    heir.assign(0, position=len(told), known=[each for each in told if each is not None])
    heir.wait(SETTLING)
    return heir


@LATE
def test_a_late_copy_of_a_superseded_command_does_not_undo_what_came_after_it(known: str) -> None:
    """
    ban, unban, ban: carried out late, the copy of the unban would lift the ban.
    """
    desk = Desk()
    desk.receive_together(ban("u", duration=60), unban("u", command_id="x"), ban("u"))
    desk.ok()
    desk = later(desk, known)
    sent = len(desk.sent)
    desk.receive(unban("u", command_id="x"))
    again = desk.publish()[-1]

    assert len(desk.sent) == sent
    assert (again.status.value, again.duplicate_of) == ("duplicate", "commands-0-1")


@LATE
def test_a_copy_of_a_copy_of_a_superseded_command_names_the_first_one(known: str) -> None:
    desk = Desk()
    desk.receive_together(ban("u", command_id="x"), unban("u"))
    desk.ok()
    for _ in range(3):
        desk = later(desk, known)
        desk.receive(ban("u", command_id="x"))
    outcomes = desk.publish() or desk.told.outcomes
    again = [each for each in outcomes if each.command_id == "x" and each.status.value == "duplicate"]

    assert again
    assert {each.duplicate_of for each in again} == {"commands-0-0"}
    assert desk.out == []


def test_a_copy_that_comes_while_the_superseded_one_waits_for_its_other_users_calls_nobody() -> None:
    desk = Desk()
    desk.receive_together(ban("u", "v", command_id="x"), unban("v"), ban("u", "v", command_id="x"))
    desk.ok()

    assert [(each.action, each.users) for each in desk.sent] == [("ban", ["u"]), ("unban", ["v"])]
    assert desk.publish()[-1].status.value == "duplicate"


@LATE
@pytest.mark.parametrize("code", [10010, 70107])
def test_of_a_partly_superseded_command_a_copy_carries_out_only_whom_it_failed_for(
    known: str, code: int
) -> None:
    desk = Desk()
    desk.receive_together(ban("u", "v", command_id="x"), unban("v"))
    desk.code(desk.request("ban"), code)
    desk.ok()
    desk = later(desk, known)
    desk.receive(ban("u", "v", command_id="x"))

    assert desk.request("ban").users == ["u"]
    desk.ok()
    (again,) = desk.publish()[-1:]
    assert [(each.status.value, each.duplicate_of) for each in again.results] == [
        ("applied", None),
        ("duplicate", "commands-0-0"),
    ]


@LATE
def test_of_a_command_that_expired_for_one_user_a_copy_leaves_out_whom_a_later_one_made_needless(
    known: str,
) -> None:
    desk = Desk()
    desk.receive(kick("u"))  # so that u's update waits, and is too late in the end
    desk.receive_together(update("u", "v", command_id="x") | {"not_after": rfc3339(WALL + 5.0)}, update("v"))
    desk.wait(9.0)
    desk.ok()
    assert desk.results("x") == {"u": "expired", "v": "superseded"}
    desk = later(desk, known)
    desk.receive(update("u", "v", command_id="x"))

    assert desk.request().users == ["u"]


@LATE
def test_a_late_copy_that_has_expired_is_a_duplicate_and_so_is_the_next_one(known: str) -> None:
    desk = Desk()
    desk.receive_together(ban("u", command_id="x"), unban("u"))
    desk.ok()
    desk = later(desk, known)
    desk.receive(ban("u", command_id="x", not_after=rfc3339(WALL)))
    desk = later(desk, known)
    desk.receive(ban("u", command_id="x"))

    assert desk.publish()[-1].status.value == "duplicate"
    assert desk.out == []


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


def test_a_rejected_command_counts_as_an_outcome_of_its_partition() -> None:
    """
    A restoration counts records, and what is remembered must not depend on who remembers it.
    """
    desk = Desk(restore_records=2)
    desk.receive(kick("u", command_id="a"))
    desk.ok()
    desk.receive(kick("u", command_id="b", bogus=1), kick("u", command_id="c", bogus=1))
    desk.publish()
    desk.receive(kick("u", command_id="a"))

    assert len(desk.out) == 1


def test_an_id_that_is_too_old_takes_no_memory() -> None:
    desk = Desk(dedupe_window=100.0)
    desk.receive(kick("u"))
    desk.ok()
    desk.publish()
    assert [each.known_ids for each in desk.engine.snapshot(desk.now).partitions] == [1]
    desk.wait(102.0)

    assert [each.known_ids for each in desk.engine.snapshot(desk.now).partitions] == [0]


def works() -> int:
    """
    How many commands are in memory.
    """
    gc.collect()
    return sum(isinstance(each, OpenCommand) for each in gc.get_objects())


def test_of_a_stream_of_repeats_each_keeps_only_the_one_before_it() -> None:
    """
    With always one of them open, all of them would be kept for ever.
    """
    desk = Desk()
    desk.receive(kick("u", command_id="c"))
    desk.ok()
    before = works()
    for _ in range(100):
        transaction = desk.take()
        desk.receive(kick("u", command_id="c"))
        desk.commit(transaction)

    assert desk.engine.open == 1
    assert works() <= before + 1


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


def _read(outcome: Outcome) -> Any:
    return known_of(msgspec.json.encode(outcome))
