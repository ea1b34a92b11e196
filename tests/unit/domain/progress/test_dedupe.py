# What is known of command ids and effects: from outcomes made and outcomes read the same, and never more than is allowed.

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.unit.domain.factories import give, open_command, partition, rejected_record
from tests.unit.domain.samples import (
    BAN,
    EVERYTHING,
    KICK,
    LIVE_UNBAN,
    ONE_OF_EACH,
    SETTINGS,
    UNBAN,
    UPDATE,
    command,
)
from worker.domain.contract.outcomes import HashedUserSet, RememberedCommandId, ResultStatus
from worker.domain.memory_budget import APPLIED_BYTES, ID_BYTES, USUAL
from worker.domain.progress.dedupe import (
    AppliedState,
    AppliedStates,
    CommandIdBudget,
    CommandIds,
    fingerprint_of,
    known_bytes,
    known_of,
    remembered,
)
from worker.domain.progress.outcome_building import known_from, outcome_of, rejection_outcome

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import Outcome

WALL = 1_900_000_000.0
PLENTY = 1 << 30
APPLIED, FAILED = ResultStatus.APPLIED, ResultStatus.FAILED
DUPLICATE, SUPERSEDED = ResultStatus.DUPLICATE, ResultStatus.SUPERSEDED


def outcome(fields: dict[str, Any], *results: ResultStatus, **details: Any) -> Outcome:
    """The outcome of a command whose members ended like this."""
    return outcome_of(give(open_command(fields), *results, **details), SETTINGS, 100.0, WALL)


def known(command_id: str, at: float = WALL, done: HashedUserSet | None = None) -> RememberedCommandId:
    """What is known of an id."""
    return RememberedCommandId(command_id, 1, f"outcome of {command_id}", done, at)


# Fingerprints

BANNED_UNTIL = {
    **{name: value for name, value in BAN.items() if name != "duration"},
    "banned_until": "2030-06-01T00:00:00Z",
}
FULL_UPDATE = {**UPDATE, "member_info": {"name_card": "jack", "role": "Admin", "custom_info": "custom info"}}
CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (BAN, {"user_ids": ["brennanli3"]}),
    (BAN, {"user_ids": ["brennanli3", "other"]}),
    (BAN, {"group_id": "other"}),
    (BAN, {"duration": 3601}),
    (BAN, {"reason": "another"}),
    (BAN, {"app": "second"}),
    (BANNED_UNTIL, {"banned_until": "2030-06-01T00:00:01Z"}),
    (KICK, {"reason": "another"}),
    (FULL_UPDATE, {"member_info": {"name_card": "jack", "role": "Admin"}}),
    (FULL_UPDATE, {"member_info": {"name_card": "jill", "role": "Admin", "custom_info": "custom info"}}),
    (FULL_UPDATE, {"member_info": {"name_card": "jack", "role": "Member", "custom_info": "custom info"}}),
]
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (BAN, {"user_ids": ["brennanli12", "brennanli3"]}),
    (BAN, {"user_ids": ["brennanli3", "brennanli12", "brennanli3"]}),
    (BAN, {"app": "main"}),
    (BAN, {"metadata": {"score": 1}}),
    (BAN, {"issuer": "another", "issued_at": "2030-01-01T00:00:00Z"}),
    (BAN, {"not_after": "2030-01-01T00:00:00Z"}),
    (BANNED_UNTIL, {"banned_until": "2030-06-01T02:00:00+02:00"}),
]


@pytest.mark.parametrize(("fields", "change"), CHANGES, ids="+".join)
def test_an_id_stands_for_what_is_done_to_which_users(fields: dict[str, Any], change: dict[str, Any]) -> None:
    assert fingerprint_of(command({**fields, **change})) != fingerprint_of(command(fields))


@pytest.mark.parametrize(("fields", "change"), SAME, ids="+".join)
def test_what_changes_nothing_about_it_is_no_other_command(
    fields: dict[str, Any], change: dict[str, Any]
) -> None:
    assert fingerprint_of(command({**fields, **change})) == fingerprint_of(command(fields))


def test_two_actions_with_the_same_parameters_are_not_the_same() -> None:
    assert fingerprint_of(
        command({**LIVE_UNBAN, "room_id": UNBAN["group_id"], "user_ids": UNBAN["user_ids"]})
    ) != (fingerprint_of(command(UNBAN)))


# What an outcome tells


@pytest.mark.parametrize(
    "fields", [*ONE_OF_EACH, EVERYTHING, BANNED_UNTIL], ids=lambda each: str(each["action"])
)
def test_a_restored_id_is_known_like_one_that_was_never_forgotten(fields: dict[str, Any]) -> None:
    """A restart must not change what is a repeat, or a misuse, of an id."""
    work = give(open_command(fields), *[APPLIED for _ in fields["user_ids"]])
    work.outcome = outcome_of(work, SETTINGS, 100.0, WALL)

    in_memory = known_from(work, WALL)
    restored = known_of(msgspec.json.encode(work.outcome))

    assert in_memory is not None
    assert restored == in_memory
    assert restored.fingerprint == fingerprint_of(command(fields))


def test_after_success_all_of_the_users_are_done() -> None:
    found = remembered(outcome(BAN, APPLIED, ResultStatus.ALREADY_APPLIED))

    assert found is not None
    assert found.done is None
    assert found.outcome_id == "moderation.commands-3-42"
    assert found.at == WALL


def test_after_a_partial_success_only_the_users_it_holds_for_are_done() -> None:
    found = remembered(outcome(BAN, FAILED, APPLIED))

    assert found is not None
    assert found.done is not None
    assert [user in found.done for user in BAN["user_ids"]] == [False, True]


def test_what_a_later_command_has_made_needless_is_done() -> None:
    """Carried out late, a copy would undo the later command."""
    wholly, partly = (
        remembered(outcome(BAN, SUPERSEDED, SUPERSEDED)),
        remembered(outcome(BAN, FAILED, SUPERSEDED)),
    )

    assert wholly is not None
    assert wholly.done is None
    assert partly is not None
    assert partly.done is not None
    assert [user in partly.done for user in BAN["user_ids"]] == [False, True]


@pytest.mark.parametrize("status", [FAILED, ResultStatus.EXPIRED])
def test_what_did_not_take_place_is_done_for_nobody(status: ResultStatus) -> None:
    found = remembered(outcome(BAN, status, status))

    assert found is not None
    assert found.done is not None
    assert [user in found.done for user in BAN["user_ids"]] == [False, False]


def test_a_duplicate_points_to_the_command_that_did_it() -> None:
    found = remembered(outcome(BAN, DUPLICATE, DUPLICATE, duplicate_of="moderation.commands-3-7"))

    assert found is not None
    assert found.done is None
    assert found.outcome_id == "moderation.commands-3-7"


def test_of_a_duplicate_of_several_commands_its_own_outcome_names_them() -> None:
    work = give(open_command(BAN), DUPLICATE, DUPLICATE)
    for place, member in enumerate(work.tasks):
        assert member.result is not None
        member.result = msgspec.structs.replace(member.result, duplicate_of=f"moderation.commands-3-{place}")
    made = outcome_of(work, SETTINGS, 100.0, WALL)
    assert made is not None

    found = remembered(made)

    assert found is not None
    assert found.outcome_id == "moderation.commands-3-42"


def test_the_id_of_a_rejected_command_stands_for_nothing() -> None:
    record = rejected_record(json.dumps({**BAN, "duration": -1}).encode())
    made = rejection_outcome(record, SETTINGS, 100.0, WALL)

    assert made is not None
    assert remembered(made) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"{}",
        b'{"outcome_id": "x"}',
        b"\xff",
        b"[" * 2000,
        b'{"x":' + b"[" * 99999 + b"]" * 99999 + b"}",
    ],
)
def test_a_record_that_is_no_outcome_of_ours_tells_nothing(value: bytes) -> None:
    assert known_of(value) is None


def test_an_outcome_with_an_impossible_time_tells_nothing() -> None:
    value = msgspec.json.encode(
        msgspec.structs.replace(outcome(BAN, APPLIED, APPLIED), finished_at="yesterday")
    )

    assert known_of(value) is None


# Ids


def ids_of(max_records: int, memory: CommandIdBudget | None = None) -> CommandIds:
    """The ids of one partition, with memory for all of them."""
    return CommandIds(3600.0, max_records, memory or CommandIdBudget(PLENTY))


@pytest.mark.parametrize("done", [0, 1, 49, 50, 51, 99, 100])
def test_of_a_partial_success_the_smaller_side_is_kept(done: int) -> None:
    """The names of 100 users take 16 kB for an id: a partition of such ids would take more than a pod has."""
    users = [f"a-user-with-a-long-name-{number:06d}" for number in range(100)]

    kept = HashedUserSet.of(users[:done], users[done:])

    assert [user in kept for user in users] == [True] * done + [False] * (100 - done)
    assert len(kept.hashes) == 8 * min(done, 100 - done)
    assert known_bytes(known("c-1", done=kept)) < 1_000


def test_only_a_text_beyond_ascii_is_counted_as_a_wide_one() -> None:
    """Python gives each character of such a text up to four bytes, and those of the other texts one."""
    narrow, wide = "c" * USUAL, "\N{OGHAM LETTER BEITH}" * USUAL
    of_outcome = len("outcome of ")

    assert known_bytes(known(narrow)) == ID_BYTES + USUAL + of_outcome
    assert known_bytes(RememberedCommandId(wide, 1, "an outcome", None, WALL)) == ID_BYTES + 3 * USUAL + len(
        "an outcome"
    )


def test_when_ids_take_too_much_memory_the_oldest_are_forgotten_and_counted() -> None:
    memory = CommandIdBudget(3 * ID_BYTES)
    ids = ids_of(100, memory)
    for number in range(5):
        ids.remember(known(f"c-{number}"))

    assert [number for number in range(5) if ids.find(f"c-{number}", WALL)] == [2, 3, 4]
    assert memory.forgotten == 2
    assert memory.bytes_used == 3 * ID_BYTES


def test_a_partition_that_learns_ids_takes_no_memory_from_one_that_has_less() -> None:
    memory = CommandIdBudget(10 * ID_BYTES)
    few, many = ids_of(100, memory), ids_of(100, memory)
    for number in range(3):
        few.remember(known(f"few-{number}"))
    for number in range(50):
        many.remember(known(f"many-{number}"))

    assert (len(few), len(many)) == (3, 7)


def test_a_partition_that_comes_gets_its_part_from_the_one_that_has_most() -> None:
    """Else a handover would know nothing of what was done before it."""
    memory = CommandIdBudget(10 * ID_BYTES)
    first = ids_of(100, memory)
    for number in range(10):
        first.remember(known(f"first-{number}"))
    second = ids_of(100, memory)
    for number in range(20):
        second.remember(known(f"second-{number}"))
    assert (len(first), len(second)) == (5, 5)

    first.close()
    assert memory.bytes_used == 5 * ID_BYTES


def test_an_id_is_known_for_the_window_and_not_longer() -> None:
    ids = ids_of(10)
    ids.remember(known("c-1", at=WALL))

    assert ids.find("c-1", WALL + 3600.0) is not None
    assert ids.find("c-1", WALL + 3600.5) is None
    assert ids.find("c-2", WALL) is None


def test_the_newest_outcome_of_an_id_counts() -> None:
    ids = ids_of(10)
    ids.remember(known("c-1", done=HashedUserSet.of([], ["u1", "u2"])))
    ids.remember(known("c-1", done=HashedUserSet.of(["u1"], ["u2"])))

    found = ids.find("c-1", WALL)

    assert found is not None
    assert found.done is not None
    assert "u1" in found.done
    assert len(ids) == 1


def test_only_a_bounded_number_of_outcomes_is_remembered_whatever_they_say() -> None:
    """A restoration reads only this many records: memory must not know more than the next owner will."""
    ids = ids_of(3)
    ids.remember(known("c-1"))
    ids.remember(None)
    ids.remember(None)
    assert ids.find("c-1", WALL) is not None

    ids.remember(None)

    assert ids.find("c-1", WALL) is None
    assert len(ids) == 0


def test_forgetting_an_old_outcome_leaves_a_newer_one_of_the_same_id() -> None:
    ids = ids_of(2)
    ids.remember(known("c-1"))
    ids.remember(known("c-2"))

    ids.remember(known("c-1"))

    assert ids.find("c-1", WALL) is not None
    assert ids.find("c-2", WALL) is not None


def test_what_is_older_than_the_window_is_forgotten() -> None:
    ids = ids_of(10)
    for number in range(5):
        ids.remember(known(f"c-{number}", at=WALL + number))
        ids.remember(None)

    ids.expire(WALL + 3602.0)
    assert len(ids) == 3

    ids.expire(WALL + 9999.0)
    assert len(ids) == 0

    ids.expire(WALL + 9999.0)
    assert len(ids) == 0


# AppliedStates


def member(user: str) -> tuple[str, str, str]:
    """Its place."""
    return ("main", "@TGS#1", user)


U1, U2, U3 = member("u1"), member("u2"), member("u3")


def effect(at: float = 10.0, keep: float = 60.0, what: object = "ban") -> AppliedState:
    """An effect that was applied then."""
    return AppliedState(what, at, keep, "moderation.commands-3-42", "request-1", partition())


def test_a_repeat_of_the_last_effect_needs_no_call_for_as_long_as_it_is_kept() -> None:
    effects = AppliedStates(PLENTY)
    made = effect(at=10.0, keep=60.0)
    effects.applied(U1, made)

    assert effects.find(U1, "ban", 69.9) is made
    assert effects.find(U1, "ban", 70.0) is None


def test_another_effect_or_another_member_is_no_repeat() -> None:
    effects = AppliedStates(PLENTY)
    effects.applied(U1, effect(what="ban"))

    assert effects.find(U1, "unban", 11.0) is None
    assert effects.find(U2, "ban", 11.0) is None


def test_only_the_last_effect_of_a_member_counts() -> None:
    effects = AppliedStates(PLENTY)
    effects.applied(U1, effect(what="ban"))
    effects.applied(U1, effect(what="unban"))

    assert effects.find(U1, "ban", 11.0) is None
    assert effects.find(U1, "unban", 11.0) is not None
    assert len(effects) == 1


def test_while_something_is_on_its_way_to_a_member_nothing_is_known_of_its_state() -> None:
    effects = AppliedStates(PLENTY)
    effects.applied(U1, effect())

    effects.forget(U1)
    effects.forget(U2)

    assert effects.find(U1, "ban", 11.0) is None


def test_of_too_many_effects_the_oldest_is_forgotten() -> None:
    effects = AppliedStates(2 * APPLIED_BYTES)
    effects.applied(U1, effect())
    effects.applied(U2, effect())
    effects.applied(U1, effect())

    effects.applied(U3, effect())

    assert effects.find(U2, "ban", 11.0) is None
    assert effects.find(U1, "ban", 11.0) is not None
    assert effects.find(U3, "ban", 11.0) is not None
    assert effects.forgotten == 1
    assert effects.bytes_used == 2 * APPLIED_BYTES


def test_effects_older_than_any_is_kept_are_forgotten() -> None:
    effects = AppliedStates(PLENTY)
    for number in range(5):
        effects.applied(member(f"u{number}"), effect(at=10.0 + number))

    effects.expire(72.0, longest=60.0)
    assert len(effects) == 2
    assert effects.bytes_used == 2 * APPLIED_BYTES

    effects.expire(1000.0, longest=60.0)
    assert len(effects) == 0
