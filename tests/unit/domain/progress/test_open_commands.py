# An open command: what it waits for, what its outcome will list of its attempts, and which commands make others needless.

from __future__ import annotations

from itertools import product
from time import process_time
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.factories import (
    call_attempt,
    give,
    members,
    open_command,
    partition,
    rejected_record,
)
from tests.unit.domain.samples import BAN, KICK, LIVE_UNBAN, UNBAN, UPDATE, command, without
from worker.domain.contract.outcomes import CALLS_AT_EITHER_END, ResultStatus
from worker.domain.progress.open_commands import MemberQueue, MemberTask
from worker.domain.progress.redundant_commands import may_share_result, overwrites
from worker.domain.state_transitions import TaskState

if TYPE_CHECKING:
    from worker.domain.progress.open_commands import OpenCommand

BANNED_UNTIL = {**without(BAN, "duration"), "banned_until": "2030-06-01T00:00:00Z"}
PARTIAL_UPDATE = {**UPDATE, "member_info": {"name_card": "jack"}}
MOST = 2 * CALLS_AT_EITHER_END


# Waiting for earlier commands


def commands(number: int) -> list[OpenCommand]:
    """Commands of one partition."""
    of = partition()
    return [open_command(offset=offset, of=of) for offset in range(number)]


def test_a_later_command_waits_for_an_earlier_one_that_is_not_finished() -> None:
    earlier, later = commands(2)

    later.wait_for(earlier)

    assert later.blocker_count == 1
    assert later.predecessors == [earlier]
    assert earlier.successors == [later]


def test_it_waits_for_each_of_several() -> None:
    first, second, later, follower = commands(4)

    later.wait_for(first)
    later.wait_for(second)
    follower.wait_for(first)

    assert later.blocker_count == 2
    assert later.predecessors == [first, second]
    assert first.release_successors() == [later, follower]
    assert (later.blocker_count, follower.blocker_count) == (1, 0)


@pytest.mark.parametrize("end", ["emitted", "dropped"])
def test_nothing_waits_for_a_command_that_is_over(end: str) -> None:
    earlier, later = commands(2)
    setattr(earlier, end, True)

    later.wait_for(earlier)

    assert later.blocker_count == 0
    assert later.predecessors is None
    assert earlier.successors is None


def test_the_last_command_that_names_a_member_is_known_for_each_partition() -> None:
    """The second of three partitions is the right one."""
    queue = member_queue()
    (a,), (b1, b2), (c,) = commands(1), commands(2), commands(1)

    assert [queue.set_last(each) for each in (b1, a, c, b2)] == [None, None, None, b1]
    assert queue.set_last(a) is a, "it is still known, and so are the others"
    for gone in (b1, c, a, c):
        queue.clear_last(gone)
    assert not queue.is_idle(0.0)
    queue.clear_last(b2)

    assert queue.is_idle(0.0)


# Steps that the table of states does not have


def test_a_task_goes_nowhere_once_it_is_settled() -> None:
    (task, _) = give(open_command(), ResultStatus.APPLIED, ResultStatus.APPLIED).tasks

    with pytest.raises(AssertionError, match="settled> cannot become waiting"):
        task.move_to(TaskState.WAITING)


def test_a_task_is_not_called_before_it_waits() -> None:
    with pytest.raises(AssertionError, match="behind> cannot become called"):
        open_command().tasks[0].move_to(TaskState.CALLED)


# The tasks of one member


def member_queue(*tasks: MemberTask) -> MemberQueue:
    queue = MemberQueue(("main", "g", "u"))
    for task in tasks:
        queue.append(task)
    return queue


def in_order(queue: MemberQueue) -> list[MemberTask]:
    """Its tasks, oldest first; in the other direction they are the same."""
    found, task = [], queue.first
    while task is not None:
        found.append(task)
        task = task.behind
    assert list(queue.newest_first()) == found[::-1]
    return found


def test_tasks_leave_a_member_queue_at_either_end_and_in_the_middle() -> None:
    a, b, c, d = tasks = members("a", "b", "c", "d")
    queue = member_queue(*tasks)

    queue.remove(b)
    assert in_order(queue) == [a, c, d]
    queue.remove(a)
    queue.remove(d)
    assert in_order(queue) == [c]
    queue.remove(c)

    assert in_order(queue) == []
    assert all(task.before is task.behind is None for task in tasks), "they would hold each other"


def test_an_heir_takes_the_place_of_a_task_or_the_one_behind_it() -> None:
    a, b, c, d, e = members("a", "b", "c", "d", "e")
    queue = member_queue(a, b)

    queue.replace(a, c)
    queue.put_after(c, d)
    queue.replace(b, e)

    assert in_order(queue) == [c, d, e]


def test_a_task_leaves_a_member_queue_as_fast_however_many_there_are() -> None:
    """One detector of two that name the same user is cancelled: looked for, each would cost as much as there are of them."""

    def seconds(number: int) -> float:
        command, queue = open_command(), member_queue()
        tasks = [MemberTask(command, "u", queue) for _ in range(number)]
        for task in tasks:
            queue.append(task)
        began = process_time()
        for task in tasks[1::2]:
            queue.remove(task)
        return process_time() - began

    few, many = (min(seconds(number) for _ in range(3)) for number in (1_000, 8_000))
    assert many < 25 * few  # eight times as long, with room for a busy machine; it was sixty times


# Attempts


def test_its_first_try_begins_and_its_last_ends_the_calling() -> None:
    command = open_command()

    command.record_attempt(call_attempt(1), 10.0, 10.5)
    command.record_attempt(call_attempt(2), 11.0, 12.5)

    assert (command.first_sent_at, command.last_ended_at) == (10.0, 12.5)
    assert command.attempts == 2
    assert command.request_ids == ["request-1", "request-2"]


def test_a_try_that_carried_several_of_its_members_counts_once() -> None:
    command, once = open_command(), call_attempt()

    for _ in command.tasks:
        command.record_attempt(once, 10.0, 10.5)

    assert command.attempts == 1
    assert command.attempt_records == [once]
    assert command.request_ids == ["request-1"]


def test_a_try_without_a_request_id_is_listed_without_one() -> None:
    """The group service returns none."""
    command = open_command()

    command.record_attempt(call_attempt(1, request_id=None), 10.0, 10.5)

    assert command.request_ids is None
    assert len(command.attempt_records or ()) == 1


def test_of_very_many_tries_the_first_and_the_last_fifty_are_listed() -> None:
    command = open_command()

    for number in range(1, MOST + 31):
        command.record_attempt(call_attempt(number), 10.0, 10.5)

    listed = [f"{number}" for number in (*range(1, 51), *range(81, 131))]
    assert [each.call_id for each in command.attempt_records or ()] == [f"call-{number}" for number in listed]
    assert command.request_ids == [f"request-{number}" for number in listed]
    assert command.attempts_omitted == 30
    assert command.attempts == 130


# What one command does to another


@pytest.mark.parametrize(
    ("fields", "may"), [(BAN, True), ({**BAN, "duration": 0}, False), (KICK, True), (UNBAN, True)]
)
def test_a_duration_of_which_nobody_knows_what_it_means_is_never_taken_for_the_same(
    fields: dict[str, Any], may: bool
) -> None:
    assert may_share_result(command(fields)) is may


OVERWRITES = [
    ("an unban undoes a ban", UNBAN, BAN),
    ("a ban undoes an unban", BAN, UNBAN),
    ("a ban replaces a ban", {**BAN, "duration": 60}, BAN),
    ("a ban replaces a ban until then", BAN, BANNED_UNTIL),
    ("a ban replaces a ban of duration 0", BAN, {**BAN, "duration": 0}),
    ("a ban replaces one that may expire", BAN, {**BAN, "not_after": "2030-01-01T00:00:00Z"}),
    ("an update of all fields replaces one of some", UPDATE, PARTIAL_UPDATE),
    ("an unban of a live room replaces its like", LIVE_UNBAN, LIVE_UNBAN),
]
LEAVES = [
    ("a command that may expire overwrites nothing", {**UNBAN, "not_after": "2030-01-01T00:00:00Z"}, BAN),
    ("a ban that ends at a time overwrites nothing", BANNED_UNTIL, UNBAN),
    ("a duration of 0 overwrites nothing", {**BAN, "duration": 0}, UNBAN),
    ("an update of some fields leaves the others", PARTIAL_UPDATE, UPDATE),
    ("a kick happens again each time", KICK, KICK),
    ("a kick is not undone by an update", UPDATE, KICK),
    ("an update is not undone by a kick", KICK, UPDATE),
    ("a live room's unban has nothing to do with a group's ban", LIVE_UNBAN, BAN),
]


@pytest.mark.parametrize(("later", "earlier"), [pytest.param(*pair, id=name) for name, *pair in OVERWRITES])
def test_a_later_command_makes_an_earlier_one_needless(
    later: dict[str, Any], earlier: dict[str, Any]
) -> None:
    assert overwrites(command(later), command(earlier))


@pytest.mark.parametrize(("later", "earlier"), [pytest.param(*pair, id=name) for name, *pair in LEAVES])
def test_a_later_command_leaves_an_earlier_one_to_be_carried_out(
    later: dict[str, Any], earlier: dict[str, Any]
) -> None:
    assert not overwrites(command(later), command(earlier))


def test_what_overwrites_leaves_the_state_that_both_would_leave() -> None:
    """Judged by a member's state as Tencent keeps it, for all pairs."""
    samples = [
        BAN,
        {**BAN, "duration": 60},
        {**BAN, "duration": 0},
        BANNED_UNTIL,
        UNBAN,
        LIVE_UNBAN,
        UPDATE,
        PARTIAL_UPDATE,
    ]

    for later, earlier in product(samples, samples):
        if overwrites(command(later), command(earlier)):
            assert _after(_after({}, earlier), later) == _after({}, later)


def _after(state: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    match fields["action"]:
        case "group.ban_group_member":
            return {**state, "ban": (fields.get("duration"), fields.get("banned_until"))}
        case "group.unban_group_member":
            return {**state, "ban": None}
        case "live.unban_member":
            return {**state, "live ban": None}
        case _:
            return {**state, **fields["member_info"]}


def test_its_state_can_be_read_from_its_text() -> None:
    made = open_command(offset=7)
    made.tasks[0].move_to(TaskState.WAITING)

    assert repr(made) == "<OpenCommand moderation.commands-3-7, 2 unsettled, 0 before it>"
    assert repr(made.tasks[0]) == "<MemberTask main/@TGS#aJRGC4MH6/brennanli3, waiting>"
    assert repr(rejected_record(b"?", offset=8)) == "<RejectedRecord moderation.commands-3-8, not_json>"
