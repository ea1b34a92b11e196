# Which waiting members share a call, and which batch is next.

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.factories import members, open_command, steps
from tests.unit.domain.samples import BAN, SETTINGS
from worker.domain.calls.endpoint_queue import EndpointQueue
from worker.domain.state_transitions import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.progress.open_commands import MemberTask, OpenCommand

PATIENT = 1e9
"""An overdue_after that nothing reaches."""


def queue_of(per_call: int, overdue_after: float = PATIENT) -> EndpointQueue:
    """An empty queue of an endpoint."""
    return EndpointQueue(per_call, replace(SETTINGS, overdue_after=overdue_after))


def command_to(target: str, *users: str, **fields: Any) -> OpenCommand:
    """An open ban of these users."""
    return open_command({**BAN, "group_id": target, "user_ids": list(users), "duration": 60, **fields})


def put(queue: EndpointQueue, target: str, *users: str, now: float = 10.0, **fields: Any) -> list[MemberTask]:
    """These users of one command wait, from now on."""
    some = waiting(command_to(target, *users, **fields).tasks)
    for member in some:
        queue.put(member, now)
    return some


def waiting(some: Iterable[MemberTask]) -> list[MemberTask]:
    """The same, which wait from now on."""
    some = list(some)
    for member in some:
        member.move_to(TaskState.WAITING)
    return some


def start(queue: EndpointQueue, command: OpenCommand) -> None:
    """The command is started."""
    command.start()
    for member in command.tasks:
        queue.note_started(member)


def taken(queue: EndpointQueue, now: float = 10.0, patience: float = 0.0) -> list[str]:
    """The users of the next batch."""
    return [member.user for member in queue.take(now, patience)]


def target_of(batch: list[MemberTask]) -> str:
    """Whose members they are."""
    return batch[0].command.spec.target


# What shares a call


def test_an_empty_queue_has_nothing_to_take() -> None:
    queue = queue_of(20)

    assert taken(queue) == []
    assert queue.oldest_since() is None
    assert repr(queue) == "<EndpointQueue 0 waiting in 0 groups>"


def test_a_single_member_leaves_at_once_and_alone() -> None:
    queue = queue_of(20)

    put(queue, "a", "u1")

    assert taken(queue) == ["u1"]
    assert queue.waiting == 0


def test_members_of_several_commands_with_the_same_effect_share_a_call() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1", "u2")
    put(queue, "a", "u3")

    assert repr(queue) == "<EndpointQueue 3 waiting in 1 groups>"
    assert taken(queue) == ["u1", "u2", "u3"]


@pytest.mark.parametrize("other", [{"target": "b"}, {"duration": 61}])
def test_other_targets_and_other_parameters_need_a_call_of_their_own(other: dict[str, Any]) -> None:
    queue = queue_of(20)
    put(queue, "a", "u1")
    put(queue, other.get("target", "a"), "u2", duration=other.get("duration", 60))

    assert [taken(queue), taken(queue), taken(queue)] == [["u1"], ["u2"], []]


def test_a_batch_is_never_larger_than_a_call_may_carry() -> None:
    queue = queue_of(3)
    put(queue, "a", *(f"u{number}" for number in range(7)))

    assert [taken(queue), taken(queue), taken(queue)] == [["u0", "u1", "u2"], ["u3", "u4", "u5"], ["u6"]]


def test_one_action_carries_a_single_member_a_call() -> None:
    queue = queue_of(1)
    put(queue, "a", "u1", "u2")

    assert [taken(queue), taken(queue)] == [["u1"], ["u2"]]


# What waits to be filled


def test_with_patience_a_batch_that_is_not_whole_waits_and_a_whole_one_goes() -> None:
    queue = queue_of(3)
    put(queue, "a", "u1", "u2", now=9.9)
    put(queue, "b", "v1", "v2", "v3", "v4", now=9.95)

    assert taken(queue, 10.0, patience=0.2) == ["v1", "v2", "v3"]
    assert taken(queue, 10.0, patience=0.2) == []
    put(queue, "a", "u3", now=10.0)
    assert taken(queue, 10.0, patience=0.2) == ["u1", "u2", "u3"]


def test_after_its_patience_the_oldest_goes_and_not_the_fullest() -> None:
    queue = queue_of(3)
    put(queue, "a", "u1", now=9.8)
    put(queue, "b", "v1", "v2", now=9.95)
    assert queue.oldest_normal_since == 9.8

    assert taken(queue, 10.0, patience=0.2) == ["u1"]
    assert taken(queue, 10.0, patience=0.2) == []
    assert queue.oldest_normal_since == 9.95


def test_a_batch_that_is_whole_for_its_target_does_not_wait_for_more() -> None:
    """Where many members are bad, and where each goes alone, a batch is smaller."""
    queue = queue_of(20)
    (member,) = put(queue, "a", "u1")
    queue.learn(queue.target("a"), good=10, bad=20)

    assert taken(queue, patience=5.0) == ["u1"]
    assert member.state is TaskState.WAITING


@pytest.mark.parametrize("why", ["urgent", "started", "overdue"])
def test_what_is_not_to_wait_for_others_does_not_wait_to_be_filled(why: str) -> None:
    queue = queue_of(20, overdue_after=0.0 if why == "overdue" else PATIENT)
    (member,) = put(queue, "a", "u1", priority="urgent" if why == "urgent" else "normal")
    if why == "started":
        start(queue, member.command)

    assert taken(queue, patience=5.0) == ["u1"]


# Which is next


def test_the_fullest_group_goes_first() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1")
    put(queue, "b", "u1", "u2", "u3")
    put(queue, "c", "u1", "u2")

    assert [target_of(queue.take(10.0)) for _ in "bca"] == ["b", "c", "a"]


def test_full_groups_take_turns() -> None:
    queue = queue_of(2)
    put(queue, "a", *(f"u{number}" for number in range(6)))
    put(queue, "b", *(f"u{number}" for number in range(6)))

    assert [target_of(queue.take(10.0)) for _ in range(6)] == ["a", "b", "a", "b", "a", "b"]


def test_who_has_waited_too_long_goes_before_the_fullest() -> None:
    queue = queue_of(20, overdue_after=1.0)
    put(queue, "a", "u1", now=10.0)
    put(queue, "b", "u1", "u2", now=10.5)

    assert target_of(queue.take(10.9)) == "b"
    put(queue, "b", "u1", "u2", now=10.5)
    assert target_of(queue.take(11.0)) == "a"


def test_of_those_who_have_waited_too_long_the_oldest_goes_first() -> None:
    queue = queue_of(20, overdue_after=1.0)
    put(queue, "b", "u1", now=10.5)
    put(queue, "a", "u1", now=10.0)
    put(queue, "c", "u1", "u2", now=11.0)

    assert [target_of(queue.take(20.0)) for _ in "abc"] == ["a", "b", "c"]


def test_a_group_is_as_old_as_the_oldest_member_that_still_waits() -> None:
    queue = queue_of(1, overdue_after=1.0)
    put(queue, "a", "u1", now=10.0)
    put(queue, "a", "u2", now=12.0)
    put(queue, "b", "u1", now=11.0)

    assert queue.oldest_since() == 10.0
    assert [target_of(queue.take(20.0)) for _ in "aba"] == ["a", "b", "a"]


def test_a_member_that_comes_back_has_waited_since_it_first_came() -> None:
    queue = queue_of(20, overdue_after=4.5)
    put(queue, "a", "u1", now=10.0)
    batch = queue.take(10.0)
    put(queue, "b", "u1", "u2", now=11.0)

    queue.put(batch[0], 15.0)

    assert queue.oldest_since() == 10.0
    assert target_of(queue.take(15.0)) == "a"


def test_what_is_started_goes_before_the_fullest() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1", "u2", "u3")
    started = put(queue, "b", "u1")[0]

    start(queue, started.command)

    assert [target_of(queue.take(10.0)) for _ in "ba"] == ["b", "a"]


def test_a_member_of_a_started_command_goes_first_from_the_start() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1", "u2", "u3")
    command = command_to("b", "u1")
    command.start()

    queue.put(waiting(command.tasks)[0], 10.0)

    assert [target_of(queue.take(10.0)) for _ in "ba"] == ["b", "a"]


def test_once_the_started_members_have_left_their_group_has_no_precedence() -> None:
    queue = queue_of(2)
    command = command_to("a", "u1", "u2")
    command.start()
    for member in waiting(command.tasks):
        queue.put(member, 10.0)
    put(queue, "a", "u3")
    put(queue, "b", "u1", "u2")

    assert [target_of(queue.take(10.0)) for _ in "aba"] == ["a", "b", "a"]


def test_what_is_not_waiting_cannot_be_brought_forward() -> None:
    queue = queue_of(20)
    member = members("u1")[0]

    queue.note_started(member)

    assert taken(queue) == []


# What may not go


def test_a_blocked_target_waits_and_the_others_go() -> None:
    queue = queue_of(20, overdue_after=1.0)
    put(queue, "a", "u1", "u2")
    put(queue, "b", "u1")

    queue.set_blocked(queue.target("a"), blocked=True)

    assert target_of(queue.take(100.0)) == "b"
    assert taken(queue, now=100.0) == []
    assert queue.waiting == 2


def test_what_comes_for_a_blocked_target_waits_too() -> None:
    queue = queue_of(20, overdue_after=1.0)
    queue.set_blocked(queue.target("a"), blocked=True)

    put(queue, "a", "u1")

    assert taken(queue, now=100.0) == []


def test_a_target_that_is_free_again_has_kept_its_place() -> None:
    queue = queue_of(20, overdue_after=1.0)
    put(queue, "a", "u1", now=10.0)
    put(queue, "b", "u1", now=11.0)
    target = queue.target("a")
    queue.set_blocked(target, blocked=True)
    queue.take(10.0)
    put(queue, "b", "u1", now=11.0)

    queue.set_blocked(target, blocked=False)
    queue.set_blocked(target, blocked=False)

    assert target_of(queue.take(20.0)) == "a"


def test_a_probe_may_go_to_a_blocked_target_with_its_fullest_group() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1", duration=60)
    put(queue, "a", "u2", "u3", duration=61)
    target = queue.target("a")
    queue.set_blocked(target, blocked=True)

    assert target.is_sendable
    assert [member.user for member in queue.take_of(target, 20)] == ["u2", "u3"]
    assert [member.user for member in queue.take_of(target, 20)] == ["u1"]
    assert queue.take_of(target, 20) == []
    assert not target.is_sendable


def test_of_a_target_with_many_groups_the_fullest_goes_first() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1", duration=60)
    put(queue, "a", "u2", "u3", duration=61)
    put(queue, "a", "u4", duration=62)

    assert [taken(queue) for _ in range(3)] == [["u2", "u3"], ["u1"], ["u4"]]


def test_full_groups_of_one_target_take_turns() -> None:
    queue = queue_of(1)
    put(queue, "a", "u1", "u2", duration=60)
    put(queue, "a", "v1", "v2", duration=61)

    assert [taken(queue) for _ in range(4)] == [["u1"], ["v1"], ["u2"], ["v2"]]


def test_of_a_target_with_many_groups_the_oldest_goes_first_when_it_has_waited_too_long() -> None:
    queue = queue_of(20, overdue_after=1.0)
    put(queue, "a", "u1", now=12.0, duration=60)
    put(queue, "a", "u2", now=10.0, duration=61)
    put(queue, "a", "u3", "u4", now=11.0, duration=62)

    assert [taken(queue, now=20.0) for _ in range(3)] == [["u2"], ["u3", "u4"], ["u1"]]


def test_of_a_target_with_many_groups_what_is_started_goes_first() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1", "u2", duration=60)
    started = put(queue, "a", "u3", duration=61)[0]

    start(queue, started.command)

    assert [taken(queue) for _ in range(2)] == [["u3"], ["u1", "u2"]]


@pytest.mark.parametrize("happens", ["blocked", "learnt"])
def test_a_change_of_a_target_costs_no_more_for_many_groups(
    happens: str,
) -> None:
    """Kicks of one room, each with a score in its reason: the room is blocked and set free with every call to it."""

    def cost(groups: int) -> int:
        queue = queue_of(20, overdue_after=1.0)
        for number in range(groups):
            put(queue, "a", f"u{number}", duration=60 + number)
        target = queue.target("a")

        def change() -> None:
            if happens == "blocked":
                queue.set_blocked(target, blocked=True)
                queue.take(100.0)
                queue.set_blocked(target, blocked=False)
            else:
                queue.learn(target, bad=5)
                queue.learn(target, good=200)

        return steps(change)

    assert cost(500) == cost(5)


# Members that leave, and come back


def test_a_member_that_needs_no_call_any_more_leaves_the_others_waiting() -> None:
    queue = queue_of(20)
    some = put(queue, "a", "u1", "u2")

    queue.remove(some[0])

    assert queue.waiting == 1
    assert taken(queue) == ["u2"]


def test_what_came_back_from_a_search_rests_until_it_is_woken() -> None:
    queue = queue_of(20, overdue_after=1.0)
    some = waiting(members("u1", "u2"))

    queue.rest(some)

    assert queue.waiting == 2
    assert taken(queue, now=100.0) == []
    assert not queue.target(target_of(some)).is_sendable

    queue.wake(some)
    assert taken(queue) == ["u1", "u2"]


def test_those_who_rest_go_on_when_others_fill_a_batch_with_them() -> None:
    queue = queue_of(3)
    queue.rest(waiting(command_to("a", "u1", "u2").tasks))

    put(queue, "a", "u3")

    assert taken(queue) == ["u3", "u1", "u2"]


def test_those_who_rest_go_on_when_by_themselves_they_fill_a_batch() -> None:
    queue = queue_of(2)

    queue.rest(waiting(command_to("a", "u1", "u2").tasks))

    assert taken(queue) == ["u1", "u2"]


def test_nobody_may_be_left_to_rest() -> None:
    queue = queue_of(2)

    queue.rest([])

    assert queue.waiting == 0


def test_a_started_member_that_rests_goes_first_once_it_is_woken() -> None:
    queue = queue_of(20)
    put(queue, "b", "u1", "u2")
    command = command_to("a", "u3")
    queue.rest(waiting(command.tasks))
    start(queue, command)

    assert target_of(queue.take(10.0)) == "b"

    put(queue, "b", "u1", "u2")
    queue.wake(command.tasks)
    assert target_of(queue.take(10.0)) == "a"


def test_a_member_may_leave_while_it_rests_and_is_not_woken_any_more() -> None:
    queue = queue_of(20)
    some = waiting(command_to("a", "u1", "u2").tasks)
    queue.rest(some)

    queue.remove(some[0])
    queue.wake(some)

    assert taken(queue) == ["u2"]
    assert queue.waiting == 0


def test_what_comes_and_is_undone_while_nothing_leaves_does_not_pile_up() -> None:
    """A night long an app is halted, and bans are undone before they are sent."""
    queue = queue_of(20, overdue_after=1.0)
    put(queue, "a", "u0", now=1.0)

    for number in range(2_000):
        (member,) = put(queue, "abc"[number % 3], "u1", now=2.0 + number, duration=60 + number)
        queue.remove(member)

    assert len(queue._ages) < 100
    assert sum(len(target._ages or ()) for target in queue.targets.values()) < 100
    assert taken(queue, now=10_000.0) == ["u0"]


# What is kept of a target


def test_a_target_is_forgotten_when_nothing_of_it_waits() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1")
    with pytest.raises(AssertionError):
        queue.forget(["a"])

    queue.take(10.0)
    queue.forget(["a"])

    assert queue.targets == {}
    assert queue.take_emptied() == []


def test_the_targets_that_ran_empty_are_handed_out_once_unless_something_waits_again() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1")
    put(queue, "b", "u1")
    put(queue, "c", "u1")
    queue.take(10.0)
    queue.take(10.0)
    put(queue, "b", "u2")

    assert queue.take_emptied() == ["a"]
    assert queue.take_emptied() == []
    queue.take(10.0)
    queue.take(10.0)
    assert sorted(queue.take_emptied()) == ["b", "c"]


def test_what_waits_can_be_read_from_its_text() -> None:
    queue = queue_of(20)
    put(queue, "a", "u1", "u2")
    target = queue.target("a")

    assert repr(target) == "<TargetQueue a, 2 waiting>"
    assert [repr(group) for group in target.groups] == ["<CompatibleGroup a, 2 waiting, 0 resting>"]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_comes_and_goes_nobody_is_lost_or_sent_twice_or_mixed_up(seed: int) -> None:
    chance, queue, now = Random(seed), queue_of(4, overdue_after=1.0), 0.0
    here: set[MemberTask] = set()
    resting: list[MemberTask] = []
    gone: set[MemberTask] = set()
    used: set[str] = set()

    for _ in range(300):
        now += chance.random()
        match chance.choice(
            ["put", "put", "put", "take", "take", "remove", "rest", "wake", "start", "block", "forget"]
        ):
            case "put":
                target, duration = chance.choice("abc"), chance.choice((60, 61))
                users = [f"u{number}" for number in range(chance.randint(1, 5))]
                here |= set(put(queue, target, *users, now=now, duration=duration))
                used.add(target)
            case "take":
                batch = queue.take(now, chance.choice((0.5, PATIENT)))
                for each in batch:
                    each.move_to(TaskState.CALLED)
                assert len({(member.command.spec.target, member.command.effect_key) for member in batch}) <= 1
                assert len(batch) <= 4
                assert set(batch) <= here
                assert not any(queue.target(target_of([member])).blocked for member in batch)
                here -= set(batch)
                gone |= set(batch)
            case "remove" if here:
                member = chance.choice(sorted(here, key=id))
                queue.remove(member)
                here.discard(member)
            case "rest" if gone:
                some = chance.sample(sorted(gone, key=id), 1)
                gone -= set(some)
                here |= set(some)
                resting += some
                queue.rest(waiting(some))
                used.add(target_of(some))
            case "wake":
                queue.wake([member for member in resting if member in here])
                resting = []
            case "start" if here:
                member = chance.choice(sorted(here, key=id))
                if not member.command.started:
                    start(queue, member.command)
            case "block":
                queue.set_blocked(queue.target(chance.choice("abc")), blocked=chance.random() < 0.5)
            case _:
                emptied = queue.take_emptied()
                assert set(emptied) == {name for name in used if not queue.targets[name].groups_by_level}
                queue.forget(emptied)
                used -= set(emptied)
        assert queue.waiting == len(here)

    queue.wake(resting)
    for name in "abc":
        queue.set_blocked(queue.target(name), blocked=False)
    while batch := queue.take(now):
        here -= set(batch)
    queue.forget(list(queue.targets))
    assert here == set()
    assert queue.waiting == 0
    assert queue.targets == {}
    assert repr(queue) == "<EndpointQueue 0 waiting in 0 groups>"


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_and_goes_the_next_batch_is_the_one_that_the_rules_name(seed: int) -> None:
    chance, now = Random(seed), 0.0
    overdue_after = chance.choice((0.0, 5.0, PATIENT))
    queue = queue_of(4, overdue_after)
    here: list[MemberTask] = []

    for _ in range(400):
        now += chance.random()
        match chance.choice(["put", "put", "put", "take", "remove", "start", "block", "learn"]):
            case "put":
                users = [f"u{number}" for number in range(chance.randint(1, 5))]
                here += put(queue, chance.choice("abc"), *users, now=now, duration=chance.randint(1, 9))
            case "remove" if here:
                queue.remove(here.pop(chance.randrange(len(here))))
            case "start" if here:
                command = chance.choice(here).command
                if not command.started:
                    start(queue, command)
            case "block":
                queue.set_blocked(queue.target(chance.choice("abc")), blocked=chance.random() < 0.5)
            case "learn":
                good, bad = chance.choice(((0, 1), (8, 0)))
                queue.learn(queue.target(chance.choice("abc")), good=good, bad=bad)
            case "take":
                groups: dict[Any, list[MemberTask]] = {}
                for member in here:
                    if not queue.target(target_of([member])).blocked:
                        groups.setdefault((target_of([member]), member.command.effect_key), []).append(member)
                sizes = {
                    key: min(len(some), queue.target(key[0]).batch_size.members)
                    for key, some in groups.items()
                }
                batch = queue.take(now)
                here = [member for member in here if member not in batch]
                if not groups:
                    assert batch == []
                    continue
                key = (target_of(batch), batch[0].command.effect_key)
                oldest = min(some[0].waiting_since for some in groups.values())
                started = {
                    name for name, some in groups.items() if any(each.command.started for each in some)
                }
                assert batch == groups[key][: queue.target(key[0]).batch_size.members]
                if oldest <= now - overdue_after:
                    assert groups[key][0].waiting_since == oldest
                elif started:
                    assert key in started
                else:
                    assert sizes[key] == max(sizes.values())
