# What is known of the past: command ids, restored through the same door through which they are remembered, and effects.

from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from worker.domain.actions import MemberInfo
from worker.domain.dedupe import Effect, Effects, Ids, Known, fingerprint, known, known_of, remembered
from worker.domain.outcomes import Outcome, Parameters, Result, ResultStatus, Source, Status, Worker
from worker.domain.times import instant_of

if TYPE_CHECKING:
    from worker.domain.partitions import Partition

FINISHED: str = "2030-01-01T00:00:00.000Z"
AT = instant_of(FINISHED)
NOBODY = cast("Partition", None)


def outcome(*results: Result, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "outcome_id": "commands-0-7",
        "command_id": "c-1",
        "status": Status.SUCCEEDED,
        "source": Source("commands", 0, 7),
        "worker": Worker("worker-0", "1"),
        "received_at": FINISHED,
        "finished_at": FINISHED,
        "queued_ms": 0.0,
        "attempts": 1,
        "action": "group.ban_group_member",
        "app": "main",
        "group_id": "room",
        "parameters": Parameters(duration=60),
        "results": list(results),
    }
    return Outcome(**(fields | changes))


def result(user: str, status: ResultStatus = ResultStatus.APPLIED, **changes: Any) -> Result:
    return Result(user, status, **changes)


def a_known(command_id: str, at: float = AT) -> Known:
    return Known(command_id, 1, f"o-{command_id}", None, at)


def test_an_outcome_that_is_read_tells_the_same_as_one_that_was_made() -> None:
    """
    Memory and restoration must not disagree, or a restart would change what is a repeat.
    """
    made = outcome(
        result("u1"),
        result("u2", ResultStatus.FAILED),
        parameters=Parameters(banned_until=FINISHED, reason="spam"),
    )
    stands_for = fingerprint("group.ban_group_member", "main", "room", ["u2", "u1"], None, AT, "spam", None)

    assert known_of(msgspec.json.encode(made)) == known(made, stands_for, AT)


@pytest.mark.parametrize(
    ("status", "holds"),
    [
        (ResultStatus.APPLIED, True),
        (ResultStatus.ALREADY_APPLIED, True),
        (ResultStatus.DUPLICATE, True),
        (ResultStatus.FAILED, False),
        (ResultStatus.EXPIRED, False),
        (ResultStatus.SUPERSEDED, False),
    ],
)
def test_only_a_member_whose_effect_is_in_place_is_not_done_again(
    status: ResultStatus, *, holds: bool
) -> None:
    found = remembered(outcome(result("u1"), result("u2", status)))

    assert found is not None
    assert found.done == (None if holds else frozenset({"u1"}))


def test_a_rejected_outcome_and_what_is_no_outcome_tell_nothing() -> None:
    rejected = outcome(status=Status.REJECTED)

    assert remembered(rejected) is None
    assert known_of(msgspec.json.encode(rejected)) is None
    assert known_of(b"not json") is None
    assert known_of(b"{}") is None
    assert known_of(msgspec.json.encode(outcome(result("u"), finished_at="yesterday"))) is None


def test_a_duplicate_leads_to_the_command_that_was_carried_out() -> None:
    found = remembered(
        outcome(
            result("u1", ResultStatus.DUPLICATE, duplicate_of="commands-0-3"),
            result("u2", ResultStatus.DUPLICATE, duplicate_of="commands-0-3"),
            status=Status.DUPLICATE,
        )
    )

    assert found is not None
    assert found.outcome_id == "commands-0-3"


def test_a_duplicate_of_several_commands_leads_to_itself_which_names_them() -> None:
    """
    One of them alone would be named for users that it never had.
    """
    found = remembered(
        outcome(
            result("u1", ResultStatus.DUPLICATE, duplicate_of="commands-0-3"),
            result("u2", ResultStatus.DUPLICATE, duplicate_of="commands-0-4"),
            status=Status.DUPLICATE,
        )
    )

    assert found is not None
    assert found.outcome_id == "commands-0-7"


def test_the_order_of_users_does_not_make_another_command_but_everything_else_does() -> None:
    same: dict[str, Any] = {
        "action": "ban", "app": "main", "target": "room", "users": ["u1", "u2"], "duration": 60, "banned_until": None,
        "reason": "spam", "member_info": None,
    }  # fmt: skip
    others: dict[str, Any] = {
        "action": "kick", "app": "second", "target": "hall", "users": ["u1"], "duration": 61, "banned_until": 1.0,
        "reason": "abuse", "member_info": MemberInfo(role="Admin"),
    }  # fmt: skip

    assert fingerprint(**same) == fingerprint(**same | {"users": ["u2", "u1"]})
    for name, other in others.items():
        assert fingerprint(**same | {name: other}) != fingerprint(**same), name


def test_ids_are_known_within_the_window_and_not_beyond() -> None:
    ids = Ids(window=10.0, max_records=100)
    ids.remember(a_known("c", at=100.0))

    assert ids.find("c", 110.0) is not None
    assert ids.find("c", 110.1) is None
    assert ids.find("other", 100.0) is None


def test_ids_are_bounded_by_the_number_of_outcome_records_those_that_tell_nothing_included() -> None:
    """
    The restoration reads so many records, whatever they are: memory keeps by the same count.
    """
    ids = Ids(window=1e9, max_records=3)
    ids.remember(a_known("a"))
    ids.remember(None)
    ids.remember(a_known("b"))
    assert ids.find("a", AT) is not None

    ids.remember(None)

    assert ids.find("a", AT) is None
    assert len(ids) == 1


def test_the_newest_outcome_of_an_id_counts_even_when_an_older_one_is_forgotten() -> None:
    ids = Ids(window=1e9, max_records=2)
    newest = Known("a", 1, "newest", None, AT)
    ids.remember(a_known("a"))
    ids.remember(newest)

    ids.remember(a_known("b"))

    assert ids.find("a", AT) is newest


def test_old_ids_are_forgotten_though_nothing_new_comes() -> None:
    ids = Ids(window=10.0, max_records=100)
    ids.remember(a_known("a", at=100.0))
    ids.remember(None)
    ids.remember(a_known("b", at=105.0))

    ids.expire(112.0)

    assert len(ids) == 1
    assert ids.find("b", 112.0) is not None


def effect(what: object = "ban", at: float = 0.0, keep: float = 60.0) -> Effect:
    return Effect(what, at, keep, "o-1", "r-1", NOBODY)


def test_a_repeat_of_the_last_effect_needs_no_call_for_a_while() -> None:
    effects = Effects()
    effects.applied("u", effect())

    assert effects.find("u", "ban", 59.9) is not None
    assert effects.find("u", "ban", 60.0) is None
    assert effects.find("u", "unban", 1.0) is None
    assert effects.find("v", "ban", 1.0) is None


def test_what_is_on_its_way_makes_the_last_effect_unsure() -> None:
    effects = Effects()
    effects.applied("u", effect())

    effects.sent("u")

    assert effects.find("u", "ban", 1.0) is None


def test_effects_are_bounded_and_the_oldest_goes_first() -> None:
    effects = Effects(max_effects=2)
    for user in ("a", "b", "a", "c"):
        effects.applied(user, effect())

    assert len(effects) == 2
    assert effects.find("b", "ban", 0.0) is None
    assert effects.find("a", "ban", 0.0) is not None


def test_effects_that_are_too_old_for_anybody_are_forgotten() -> None:
    effects = Effects()
    effects.applied("a", effect(at=0.0))
    effects.applied("b", effect(at=30.0))

    effects.expire(70.0, longest=60.0)
    assert len(effects) == 1
    effects.expire(100.0, longest=60.0)

    assert len(effects) == 0
