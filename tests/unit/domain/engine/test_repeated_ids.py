# The same record again, and the same command id in another one: what is not carried out a second time, and what is.
#
# What is remembered of ids: test_dedupe.py; a repeat that comes too late: test_expired_repeats.py.

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from tests.unit.domain.engine_harness import COOLING_OFF, WALL, EngineHarness, ban, kick, unban, update
from worker.domain.contract.timestamps import rfc3339
from worker.domain.progress.commit_metadata import decode, label
from worker.domain.progress.dedupe import known_of
from worker.domain.progress.open_commands import OpenCommand

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import Outcome

TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


# The same record again


def test_a_record_that_comes_again_while_it_is_open_has_no_second_outcome() -> None:
    harness = EngineHarness()
    record = harness.record(ban("u", command_id="c"))
    harness.fetch([record, record])
    harness.fetch([record])
    harness.ok()

    assert [each.command_id for each in harness.publish()] == ["c"]
    assert len(harness.sent) == 1
    assert harness.engine.snapshot(harness.now).counts.repeated_records == 2


def test_a_record_that_an_earlier_owner_has_finished_is_not_carried_out_again() -> None:
    harness = EngineHarness()
    first, second, third = (harness.record(ban(user, group=user, command_id=user)) for user in "abc")
    harness.fetch([first, second, third])
    harness.ok(harness.request(target="b"))
    transaction = harness.take()
    harness.commit(transaction)
    left_behind = transaction.commits[0]

    heir = EngineHarness(settled=False)
    heir.revoked(0)
    whose = label(harness.settings.topic, harness.settings.topic_id, 0)
    heir.assign(0, left_behind.offset, done=decode(left_behind.metadata, whose, left_behind.offset))
    heir.wait(3.0)
    heir.fetch([first, second, third])

    assert [each.target for each in heir.out] == ["a", "c"]


# The same command id


def test_a_command_id_that_has_succeeded_is_not_carried_out_again() -> None:
    harness = EngineHarness(effect_window=0.0)
    harness.receive(ban("u", "v", command_id="c"))
    harness.ok()
    harness.publish()
    harness.receive(ban("v", "u", command_id="c"))

    (again,) = harness.publish()

    assert again.status.value == "duplicate"
    assert again.duplicate_of == "commands-0-0"
    assert [each.duplicate_of for each in again.results] == ["commands-0-0", "commands-0-0"]
    assert len(harness.sent) == 1
    assert harness.engine.snapshot(harness.now).counts.repeated_ids == 2


def test_a_kick_whose_command_id_has_succeeded_is_not_carried_out_again() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c"))
    harness.ok()
    harness.publish()
    harness.receive(kick("u", command_id="c"))

    (again,) = harness.publish()

    assert again.status.value == "duplicate"


def test_the_same_command_id_waits_for_the_open_one() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c"), kick("u", command_id="c"))

    assert len(harness.out) == 1
    assert harness.publish() == []

    harness.ok()
    first, second = harness.publish()

    assert (first.status.value, second.status.value) == ("succeeded", "duplicate")
    assert second.duplicate_of == first.outcome_id


def test_of_a_chain_of_repeats_each_names_the_command_that_was_carried_out() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c"), kick("u", command_id="c"), kick("u", command_id="c"))
    harness.ok()

    first, second, third = harness.publish()

    assert second.duplicate_of == third.duplicate_of == first.outcome_id


def test_the_same_command_id_is_carried_out_when_the_open_one_fails() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c"), kick("u", command_id="c"))
    harness.code(harness.request(), 10010)
    harness.ok()

    assert [each.status.value for each in harness.publish()] == ["failed", "succeeded"]


@pytest.mark.parametrize("code", [10010, 70107])
def test_a_command_id_that_has_failed_is_carried_out_again(code: int) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    harness.code(harness.request(), code)
    harness.publish()
    harness.receive(ban("u", command_id="c"))
    harness.ok()

    assert [each.status.value for each in harness.publish()] == ["succeeded"]


def test_a_command_id_that_has_expired_is_carried_out_again() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c", not_after=rfc3339(WALL)))
    harness.publish()
    harness.receive(ban("u", command_id="c"))
    harness.ok()

    assert [each.status.value for each in harness.published.outcomes] == ["expired"]
    assert [each.status.value for each in harness.publish()] == ["succeeded"]


LATE = pytest.mark.parametrize("known", ["open", "published", "restored"])
"""When the copy comes: while the first one has no outcome yet, after that, or when another owner has read it back."""


def later(harness: EngineHarness, known: str) -> EngineHarness:
    """The harness to which the copy comes."""
    if known == "open":
        return harness
    harness.publish()
    if known == "published":
        return harness
    found = [_read(each) for each in harness.published.outcomes]
    heir = EngineHarness(settled=False)
    heir.revoked(0)
    heir.assign(0, position=len(found), known=[each for each in found if each is not None])
    heir.wait(COOLING_OFF)
    return heir


@LATE
def test_a_late_copy_of_a_superseded_command_does_not_undo_what_came_after_it(known: str) -> None:
    """ban, unban, ban: carried out late, the copy of the unban would lift the ban."""
    harness = EngineHarness()
    harness.receive_together(ban("u", duration=60), unban("u", command_id="x"), ban("u"))
    harness.ok()
    harness = later(harness, known)
    sent = len(harness.sent)
    harness.receive(unban("u", command_id="x"))
    again = harness.publish()[-1]

    assert len(harness.sent) == sent
    assert (again.status.value, again.duplicate_of) == ("duplicate", "commands-0-1")


@LATE
def test_a_copy_of_a_copy_of_a_superseded_command_names_the_first_one(known: str) -> None:
    harness = EngineHarness()
    harness.receive_together(ban("u", command_id="x"), unban("u"))
    harness.ok()
    for _ in range(3):
        harness = later(harness, known)
        harness.receive(ban("u", command_id="x"))
    outcomes = harness.publish() or harness.published.outcomes
    again = [each for each in outcomes if each.command_id == "x" and each.status.value == "duplicate"]

    assert again
    assert {each.duplicate_of for each in again} == {"commands-0-0"}
    assert harness.out == []


def test_a_copy_of_a_superseded_command_that_is_open_calls_nobody() -> None:
    """The superseded one still waits for its other users."""
    harness = EngineHarness()
    harness.receive_together(ban("u", "v", command_id="x"), unban("v"), ban("u", "v", command_id="x"))
    harness.ok()

    assert [(each.action, each.users) for each in harness.sent] == [("ban", ["u"]), ("unban", ["v"])]
    assert harness.publish()[-1].status.value == "duplicate"


@LATE
@pytest.mark.parametrize("code", [10010, 70107])
def test_a_copy_of_a_partly_superseded_command_is_for_its_failed_users_only(known: str, code: int) -> None:
    harness = EngineHarness()
    harness.receive_together(ban("u", "v", command_id="x"), unban("v"))
    harness.code(harness.request("ban"), code)
    harness.ok()
    harness = later(harness, known)
    harness.receive(ban("u", "v", command_id="x"))

    assert harness.request("ban").users == ["u"]
    harness.ok()
    (again,) = harness.publish()[-1:]
    assert [(each.status.value, each.duplicate_of) for each in again.results] == [
        ("applied", None),
        ("duplicate", "commands-0-0"),
    ]


@LATE
def test_a_copy_of_an_expired_command_leaves_out_superseded_users(
    known: str,
) -> None:
    """The command expired for one user, and a later one made another user needless."""
    harness = EngineHarness()
    harness.receive(kick("u"))  # so that u's update waits, and is too late in the end
    harness.receive_together(
        update("u", "v", command_id="x") | {"not_after": rfc3339(WALL + 5.0)}, update("v")
    )
    harness.wait(9.0)
    harness.ok()
    assert harness.results("x") == {"u": "expired", "v": "superseded"}
    harness = later(harness, known)
    harness.receive(update("u", "v", command_id="x"))

    assert harness.request().users == ["u"]


@LATE
def test_a_late_copy_that_has_expired_is_a_duplicate_and_so_is_the_next_one(known: str) -> None:
    harness = EngineHarness()
    harness.receive_together(ban("u", command_id="x"), unban("u"))
    harness.ok()
    harness = later(harness, known)
    harness.receive(ban("u", command_id="x", not_after=rfc3339(WALL)))
    harness = later(harness, known)
    harness.receive(ban("u", command_id="x"))

    assert harness.publish()[-1].status.value == "duplicate"
    assert harness.out == []


def test_a_command_id_that_was_rejected_is_carried_out_once_it_is_right() -> None:
    harness = EngineHarness()
    harness.receive(ban("administrator", command_id="c"))
    assert harness.status("c") == "rejected"
    harness.receive(ban("u", command_id="c"))
    harness.ok()

    assert [each.status.value for each in harness.publish()] == ["succeeded"]


def test_a_copy_of_a_partial_success_carries_out_the_other_users_only() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", "v", command_id="c"))
    harness.code(harness.request(), 10019)
    harness.code(harness.request(), 10019)
    harness.ok()
    assert harness.results("c") == {"u": "failed", "v": "applied"}
    harness.receive(kick("u", "v", command_id="c"))

    assert harness.request().users == ["u"]

    harness.ok()
    (again,) = harness.publish()
    assert again.status.value == "succeeded"
    assert [(each.status.value, each.duplicate_of) for each in again.results] == [
        ("applied", None),
        ("duplicate", "commands-0-0"),
    ]


def test_the_third_time_a_partial_success_is_completed_it_is_a_duplicate() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", "v", command_id="c"))
    harness.code(harness.request(), 10019)
    harness.code(harness.request(), 10019)
    harness.ok()
    harness.publish()
    harness.receive(kick("u", "v", command_id="c"))
    harness.ok()
    harness.publish()
    harness.receive(kick("u", "v", command_id="c"))

    assert [each.status.value for each in harness.publish()] == ["duplicate"]


def test_what_is_waited_for_may_hold_for_some_users_only() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", "v", command_id="c"), kick("u", "v", command_id="c"))
    harness.code(harness.request(), 10019)
    harness.code(harness.request(), 10019)  # u has failed, and goes again as the second command's
    harness.ok()

    first, second = harness.publish()

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
    harness = EngineHarness()
    harness.receive(ban("u", "v", command_id="c"))
    harness.ok()
    harness.publish()
    reused = other | {"command_id": "c", "issuer": "i", "metadata": {"n": 1}}
    harness.fetch([replace(harness.record(reused), headers=(("traceparent", TRACE.encode()),))])

    transaction = harness.take()
    harness.commit(transaction)

    assert [each.traceparent for each in transaction.outcomes] == [TRACE]
    again = transaction.outcomes[0].outcome
    assert again.status.value == "rejected"
    assert again.error is not None
    assert (again.error.code, again.error.field) == ("command_id_reused", "command_id")
    assert again.error.message.startswith("commands-0-0 had the same command_id with another app, action, ")
    assert (again.issuer, again.metadata) == ("i", {"n": 1})
    assert (again.group_id, again.room_id) == (other.get("group_id"), other.get("room_id"))
    assert [each.error_code for each in harness.published.dead_letters] == ["command_id_reused"]


def test_an_open_command_id_that_stands_for_something_else_is_refused_at_once() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"), unban("u", command_id="c"))

    assert [each.status.value for each in harness.publish()] == ["rejected"]


def test_a_reused_id_leaves_what_is_known_of_the_first_use() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c"))
    harness.ok()
    harness.receive(unban("u", command_id="c"))
    harness.publish()
    harness.receive(kick("u", command_id="c"))

    assert [each.status.value for each in harness.publish()] == ["duplicate"]


def test_an_id_is_forgotten_after_the_window() -> None:
    harness = EngineHarness(dedupe_window=100.0)
    harness.receive(kick("u", command_id="c"))
    harness.ok()
    harness.publish()
    harness.wait(100.25)
    harness.receive(kick("u", command_id="c"))

    assert len(harness.out) == 1


def test_a_repeat_of_an_id_renews_it() -> None:
    harness = EngineHarness(dedupe_window=100.0)
    harness.receive(kick("u", command_id="c"))
    harness.ok()
    harness.publish()
    for _ in range(3):
        harness.wait(90.0)
        harness.receive(kick("u", command_id="c"))
        assert [each.duplicate_of for each in harness.publish()] == ["commands-0-0"]


def test_an_id_is_forgotten_after_so_many_outcomes_of_its_partition() -> None:
    harness = EngineHarness(restore_records=2)
    for command_id in ("a", "b", "c"):
        harness.receive(kick("u", command_id=command_id))
        harness.ok()
        harness.publish()
    harness.receive(kick("u", command_id="b"))
    assert harness.out == []
    harness.receive(kick("u", command_id="a"))

    assert len(harness.out) == 1


def test_a_rejected_command_counts_as_an_outcome_of_its_partition() -> None:
    """A restoration counts records, and what is remembered must not depend on who remembers it."""
    harness = EngineHarness(restore_records=2)
    harness.receive(kick("u", command_id="a"))
    harness.ok()
    harness.receive(kick("u", command_id="b", bogus=1), kick("u", command_id="c", bogus=1))
    harness.publish()
    harness.receive(kick("u", command_id="a"))

    assert len(harness.out) == 1


def test_a_record_without_an_outcome_makes_no_id_forgotten() -> None:
    harness = EngineHarness(restore_records=2)
    harness.receive(kick("u", command_id="a"))
    harness.ok()
    harness.fetch([replace(harness.record({}), value=b"garbage") for _ in range(9)])
    harness.publish()
    harness.receive(kick("u", command_id="a"))

    assert harness.out == []


def test_an_id_that_is_too_old_takes_no_memory() -> None:
    harness = EngineHarness(dedupe_window=100.0)
    harness.receive(kick("u"))
    harness.ok()
    harness.publish()
    assert [each.known_ids for each in harness.engine.snapshot(harness.now).partitions] == [1]
    harness.wait(102.0)

    assert [each.known_ids for each in harness.engine.snapshot(harness.now).partitions] == [0]


def live_command_count() -> int:
    """How many commands are in memory."""
    gc.collect()
    return sum(isinstance(each, OpenCommand) for each in gc.get_objects())


def test_of_a_stream_of_repeats_each_keeps_only_the_one_before_it() -> None:
    """With always one of them open, all of them would be kept for ever."""
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c"))
    harness.ok()
    before = live_command_count()
    for _ in range(100):
        transaction = harness.take()
        harness.receive(kick("u", command_id="c"))
        harness.commit(transaction)

    assert harness.engine.open_count == 1
    assert live_command_count() <= before + 1


def test_an_id_counts_for_its_own_partition_only() -> None:
    harness = EngineHarness(0, 1)
    harness.receive(kick("u", command_id="c"), partition=0)
    harness.ok()
    harness.publish()
    harness.receive(kick("u", command_id="c"), partition=1)

    assert len(harness.out) == 1


def test_an_id_that_an_earlier_owner_published_is_not_carried_out_again() -> None:
    harness = EngineHarness()
    harness.receive(kick("u", "v", command_id="c"))
    harness.ok()
    outcome = harness.outcome("c")

    heir = EngineHarness(settled=False)
    heir.revoked(0)
    heir.assign(0, 1, known=[_read(outcome)])
    heir.wait(3.0)
    heir.receive(kick("v", "u", command_id="c"))

    assert heir.out == []
    assert heir.outcome("c").duplicate_of == outcome.outcome_id


def _read(outcome: Outcome) -> Any:
    return known_of(msgspec.json.encode(outcome))
