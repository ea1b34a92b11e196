# What undoes what: the opposite commands, who is left out and why, and ids by which the same undo is one.

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.unit.domain.samples import command
from worker.broker.command_producer import OutgoingCommand, prepare
from worker.cli.filters import Filters
from worker.cli.last_command_per_user import CommandMoment, moment_of
from worker.cli.undo_plan import (
    FIELDS,
    OVER,
    TOUCHED,
    UNANSWERED,
    UNLISTED,
    UndoPlanner,
    opposite_of,
    why_not,
)
from worker.domain.contract.command_decoding import CommandDecoder
from worker.domain.contract.outcomes import Worker
from worker.domain.contract.timestamps import instant_of, rfc3339
from worker.domain.engine_settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.cli.undo_plan import UndoPlan
    from worker.domain.contract.command_decoding import Command

NOW = 1_800_000_000.0
DECODER = CommandDecoder(EngineSettings("commands", 2, {"main": "admin"}, "main", Worker("w", "0")))
BAN = "group.ban_group_member"
UNBAN = "group.unban_group_member"


def view(offset: int, *users: str, status: str = "applied", **changes: Any) -> Any:
    """An outcome of a ban, read as a command line reads it."""
    at = rfc3339(NOW - 1_000 + offset)
    fields = {
        "outcome_id": f"commands-0-{offset}",
        "command_id": f"c-{offset}",
        "status": "succeeded",
        "action": BAN,
        "app": "main",
        "group_id": "g",
        "issuer": "mad",
        "results": [{"user_id": user, "status": status} for user in users],
        "source": {"topic": "commands", "partition": 0, "offset": offset},
        "received_at": at,
        "finished_at": at,
        "parameters": {"duration": 86_400},
    }
    given = {name: value for name, value in (fields | changes).items() if value is not None}
    return Filters(fields=FIELDS).read(json.dumps(given).encode())


def plan_of(applied: Sequence[Any], later: Sequence[Any] = (), waiting: Sequence[int] = ()) -> UndoPlan:
    planner = UndoPlanner()
    for each in applied:
        planner.see_applied(each)
    planner.watch_found_users()
    for offset in waiting:
        planner.see_waiting(_command("u"), CommandMoment("commands", 0, offset, NOW))
    for each in (*applied, *later):
        planner.see_outcome(each)
    return planner.plan(NOW)


def _command(user: str) -> Command:
    return command({"command_id": "w", "action": UNBAN, "group_id": "g", "user_ids": [user]})


def test_users_an_issuer_banned_are_unbanned_in_one_command_for_each_group() -> None:
    plan = plan_of([view(1, "a", "b"), view(2, "c"), view(3, "d", group_id="other")])

    assert [(each.action, each.target, each.users) for each in plan.commands] == [
        (UNBAN, "g", ("a", "b", "c")),
        (UNBAN, "other", ("d",)),
    ]
    assert (plan.applied, plan.users, dict(plan.left_out)) == (4, 4, {})


def test_one_whose_call_had_no_answer_is_left_and_counted_unless_decided_on_since() -> None:
    """It may be banned: to say nothing of it would leave it so."""
    unknown = {"status": "failed"}
    plan = plan_of(
        [
            view(1, "u", **unknown),
            view(2, "v", **unknown),
            view(3, "v"),
            view(4, "w", **unknown),
            view(5, "k", action="room.kick_user_out", **unknown),
            view(6, "r", results=[{"user_id": "r", "status": "failed", "error_code": 10019}]),
        ],
        later=[view(7, "w", action=UNBAN, issuer="good")],
    )
    assert [each.users for each in plan.commands] == [("v",)]
    assert dict(plan.left_out) == {UNANSWERED: 1, TOUCHED: 1}
    assert plan.applied == 3
    assert plan_of([view(1, "u", **unknown)]).applied == 1


def test_no_command_names_more_users_than_it_may() -> None:
    plan = plan_of([view(number, f"u{number}") for number in range(250)])

    assert [len(each.users) for each in plan.commands] == [100, 100, 50]
    assert len({each.command_id for each in plan.commands}) == 3


def test_what_is_sent_is_a_valid_command_with_its_issuer_and_reason() -> None:
    (undo,) = plan_of([view(1, "a")]).commands

    value = undo.value("undo-by-me", "2027-01-01T00:00:00Z", {"of": "issuer mad", "reason": "false alarm"})

    sent = prepare(DECODER, value)
    assert isinstance(sent, OutgoingCommand)
    assert sent.key == b"g"
    read = msgspec.json.decode(value)
    assert (read["issuer"], read["metadata"]) == (
        "undo-by-me",
        {"undo": {"of": "issuer mad", "reason": "false alarm"}},
    )


def test_the_same_undo_has_the_same_ids_and_another_one_has_others() -> None:
    """Sent twice, it is carried out once."""
    first, again, other = (
        plan_of([view(offset, "a"), view(2, "b")]).commands[0].command_id for offset in (1, 1, 3)
    )

    assert first == again
    assert first != other
    assert first.startswith("undo-")


@pytest.mark.parametrize(
    ("status", "left"),
    [("applied", 1), ("already_applied", 1), ("duplicate", 1), ("superseded", 1), ("failed", 0), ("cancelled", 0), ("expired", 0)],
)  # fmt: skip
def test_a_user_a_later_command_touched_is_left_alone(status: str, left: int) -> None:
    """Somebody has decided again since. One that changed nothing has decided nothing."""
    plan = plan_of([view(1, "a", "b")], [view(5, "a", status=status, issuer="desk", action=UNBAN)])

    assert plan.left_out.get(TOUCHED, 0) == left
    assert plan.users == 2 - left


@pytest.mark.parametrize("status", ["already_applied", "duplicate"])
def test_a_repetition_by_what_is_undone_is_no_decision_of_somebody_else(status: str) -> None:
    """A detector that reports a user twice, or whose producer sends a command again, has set one ban, which is undone once."""
    repeated = [view(1, "a", "b"), view(4, "a", status=status)]

    assert plan_of(repeated).commands == plan_of(repeated[:1]).commands
    assert plan_of(repeated, [view(2, "a", issuer="desk")]).left_out == {TOUCHED: 1}
    assert plan_of(repeated, [view(6, "a", status=status, issuer="desk")]).left_out == {TOUCHED: 1}
    assert plan_of([view(1, "a"), view(2, "a", action=UNBAN, status=status)]).left_out == {TOUCHED: 1}


def test_users_a_cut_outcome_does_not_list_are_counted_as_left() -> None:
    cut: dict[str, Any] = {"results": [], "results_omitted": 7}
    refused = view(3, **cut)
    refused.status = "failed"

    plan = plan_of([view(1, "a"), view(2, **cut), refused])

    assert (plan.applied, plan.users, dict(plan.left_out)) == (8, 1, {UNLISTED: 7})
    assert plan_of([view(2, **cut)]).left_out == {UNLISTED: 7}


def test_an_earlier_command_and_a_later_kick_say_nothing() -> None:
    kick = view(9, "a", action="room.kick_user_out", group_id=None, room_id="g")

    plan = plan_of([view(5, "a")], [view(1, "a", issuer="desk"), kick])

    assert (plan.users, plan.left_out.total()) == (1, 0)


def test_a_command_that_waits_touches_its_users_too() -> None:
    plan = plan_of([view(1, "u", "other")], waiting=[7])

    assert (plan.users, plan.left_out[TOUCHED]) == (1, 1)


@pytest.mark.parametrize("status", ["already_applied", "duplicate", "failed", "simulated"])
def test_what_this_command_did_not_change_is_not_undone(status: str) -> None:
    results = [{"user_id": "a", "status": status, "error_code": 10019}]
    assert plan_of([view(1, results=results)]).applied == 0


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("room.kick_user_out", "room.kick_user_out cannot be undone"),
        ("live.unban_member", "live.unban_member cannot be undone"),
        ("room.update_room_member_info", "room.update_room_member_info cannot be undone"),
        (UNBAN, f"{UNBAN} cannot be undone: nobody knows the duration or banned_until that it ended"),
        ("dance", "dance is no action of this version"),
    ],
)
def test_what_cannot_be_undone_is_said_with_its_number(action: str, why: str) -> None:
    plan = plan_of([view(1, "a", "b", action=action)])

    assert (plan.commands, dict(plan.left_out)) == ((), {why: 2})
    assert opposite_of(action) is None
    assert why_not(action) == why


def test_whoever_was_unbanned_again_by_the_same_issuer_is_not_undone() -> None:
    assert plan_of([view(1, "a"), view(2, "a", action=UNBAN)]).commands == ()


@pytest.mark.parametrize(
    ("parameters", "is_over"),
    [
        ({"duration": 100}, True),
        ({"duration": 0}, False),
        ({"duration": 86_400}, False),
        ({"banned_until": rfc3339(NOW - 1)}, True),
        ({"banned_until": rfc3339(NOW + 1)}, False),
        ({"banned_until": "soon"}, False),
        ({"duration": 10**400}, False),
        ("none", False),
    ],
    ids=str,
)
def test_a_ban_that_is_over_needs_no_undo(parameters: Any, is_over: bool) -> None:
    plan = plan_of([view(1, "a", parameters=parameters)])

    assert (plan.left_out[OVER], plan.users) == (int(is_over), int(not is_over))


def test_between_partitions_the_time_of_receipt_says_what_is_later() -> None:
    source = {"topic": "commands", "partition": 1, "offset": 0}
    earlier, later = (
        view(1, "a", source=source, received_at=rfc3339(instant_of(view(5, "a").received_at) + shift))
        for shift in (-1, 1)
    )

    assert plan_of([view(5, "a")], [earlier]).users == 1
    assert plan_of([view(5, "a")], [later]).users == 0


@pytest.mark.parametrize("depth", [500, 950, 2_000, 100_000])
def test_an_outcome_whose_source_is_nested_without_end_has_no_moment(depth: int) -> None:
    """Another program wrote it: `undo` and `replay` go on with the next."""
    nested = msgspec.Raw(b'{"topic":"t","x":' + b"[" * depth + b"]" * depth + b"}")

    assert moment_of(SimpleNamespace(source=nested, received_at=rfc3339(NOW))) is None


@pytest.mark.parametrize(
    "strange",
    [
        {"source": "x"},
        {"source": {"topic": 1}},
        {"received_at": "then"},
        {"action": None},
        {"group_id": None},
    ],
)
def test_an_outcome_that_does_not_say_what_or_when_is_not_undone(strange: dict[str, Any]) -> None:
    assert plan_of([view(1, "a", **strange)]).applied == 0
