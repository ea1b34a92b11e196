# An open command: what it waits for, what its outcome will list of its tries, and which commands make others needless.

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.unit.domain.factories import call_try, open_work
from tests.unit.domain.samples import BAN, KICK, LIVE_UNBAN, UNBAN, UPDATE, command, without
from worker.domain.contract.outcomes import CALLS_AT_EITHER_END
from worker.domain.progress.open_commands import TaskState
from worker.domain.progress.repeats import may_share_result, overwrites

BANNED_UNTIL = {**without(BAN, "duration"), "banned_until": "2030-06-01T00:00:00Z"}
PARTIAL_UPDATE = {**UPDATE, "member_info": {"name_card": "jack"}}
MOST = 2 * CALLS_AT_EITHER_END


# Waiting for earlier commands


def test_a_later_command_waits_for_an_earlier_one_that_is_not_finished() -> None:
    earlier, later = open_work(offset=1), open_work(offset=2)

    later.wait_for(earlier)

    assert later.waits == 1
    assert later.before == [earlier]
    assert earlier.followers == [later]


def test_it_waits_for_each_of_several() -> None:
    first, second, later = (open_work(offset=offset) for offset in (1, 2, 3))
    follower = open_work(offset=4)

    later.wait_for(first)
    later.wait_for(second)
    follower.wait_for(first)

    assert later.waits == 2
    assert later.before == [first, second]
    assert first.followers == [later, follower]


@pytest.mark.parametrize("end", ["emitted", "dropped"])
def test_nothing_waits_for_a_command_that_is_over(end: str) -> None:
    earlier, later = open_work(offset=1), open_work(offset=2)
    setattr(earlier, end, True)

    later.wait_for(earlier)

    assert later.waits == 0
    assert later.before is None
    assert earlier.followers is None


# Tries


def test_its_first_try_begins_and_its_last_ends_the_calling() -> None:
    work = open_work()

    work.tried(call_try(1), 10.0, 10.5)
    work.tried(call_try(2), 11.0, 12.5)

    assert (work.first_sent_at, work.last_answer_at) == (10.0, 12.5)
    assert work.attempts == 2
    assert work.request_ids == ["request-1", "request-2"]


def test_a_try_that_carried_several_of_its_members_counts_once() -> None:
    work, once = open_work(), call_try()

    for _ in work.members:
        work.tried(once, 10.0, 10.5)

    assert work.attempts == 1
    assert work.call_tries == [once]
    assert work.request_ids == ["request-1"]


def test_a_try_without_a_request_id_is_listed_without_one() -> None:
    """
    The group service returns none.
    """
    work = open_work()

    work.tried(call_try(1, request_id=None), 10.0, 10.5)

    assert work.request_ids is None
    assert work.call_tries == [call_try(1, request_id=None)]


def test_of_very_many_tries_the_first_and_the_last_fifty_are_listed() -> None:
    work = open_work()

    for number in range(1, MOST + 31):
        work.tried(call_try(number), 10.0, 10.5)

    listed = [f"{number}" for number in (*range(1, 51), *range(81, 131))]
    assert [each.call_id for each in work.call_tries or ()] == [f"call-{number}" for number in listed]
    assert work.request_ids == [f"request-{number}" for number in listed]
    assert work.calls_omitted == 30
    assert work.attempts == 130


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
    ("a kick happens anew each time", KICK, KICK),
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
    """
    Judged by a member's state as Tencent keeps it, for all pairs.
    """
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
    work = open_work(offset=7)
    work.members[0].state = TaskState.CALLED

    assert repr(work) == "<OpenCommand moderation.commands-3-7, 2 left, 0 before it>"
    assert repr(work.members[0]) == "<MemberTask main/@TGS#aJRGC4MH6/brennanli3, called>"
