# One user's history against what the API did: what may happen more than once, what must not, and what a crash excuses.

from __future__ import annotations

import pytest

from worker.testing.checker.contract import (
    BAN,
    BANS,
    KICK,
    LIVE_UNBAN,
    UNBAN,
    UPDATE,
    CommandedEffect,
    SeenMemberInfo,
)
from worker.testing.checker.evidence import Interruption, ViolationKind
from worker.testing.checker.member_history import CommandForUser, ObservedEffect, judge

HOUR = CommandedEffect(BAN, 3600, reason="spam")
DAY = CommandedEffect(BAN, 86_400, reason="spam")
FREE = CommandedEffect(UNBAN)
OUT = CommandedEffect(KICK, reason="spam")
CARD = CommandedEffect(UPDATE, info=SeenMemberInfo(name_card="a"))
ROLE = CommandedEffect(UPDATE, info=SeenMemberInfo(role="Member"))


def applied(effect: CommandedEffect, *attempts: str, published: float = 1000.0) -> CommandForUser:
    return CommandForUser(effect, "applied", frozenset((one, one) for one in attempts), published)


def ended(
    effect: CommandedEffect, status: str, *attempts: str, published: float = 1000.0, repeats: bool = False
) -> CommandForUser:
    return CommandForUser(effect, status, frozenset((one, one) for one in attempts), published, repeats)


def done(*effects: CommandedEffect, begin: float = 100.0) -> list[ObservedEffect]:
    return [ObservedEffect(effect, begin + number) for number, effect in enumerate(effects)]


def found(parts: list[CommandForUser], effects: list[ObservedEffect], *crashes: float) -> set[ViolationKind]:
    return {
        violation for violation, _ in judge(parts, effects, [Interruption(crash, crash) for crash in crashes])
    }


def test_commands_applied_once_each_and_in_order_are_fine() -> None:
    assert found([applied(HOUR, "1"), applied(FREE, "2"), applied(DAY, "3")], done(HOUR, FREE, DAY)) == set()


def test_swapped_effects_are_out_of_order() -> None:
    assert ViolationKind.OUT_OF_ORDER in found([applied(HOUR, "1"), applied(FREE, "2")], done(FREE, HOUR))


def test_an_earlier_effect_that_comes_back_after_a_later_one_is_out_of_order() -> None:
    parts = [applied(HOUR, "1", "1b"), applied(FREE, "2")]

    assert found(parts, done(HOUR, FREE, HOUR)) == {ViolationKind.OUT_OF_ORDER, ViolationKind.WRONG_STATE}


def test_order_holds_across_actions() -> None:
    assert ViolationKind.OUT_OF_ORDER in found(
        [applied(OUT, "1"), applied(CommandedEffect(LIVE_UNBAN), "2")], done(CommandedEffect(LIVE_UNBAN), OUT)
    )


def test_a_retry_that_the_outcome_lists_may_have_applied_it_twice() -> None:
    assert found([applied(HOUR, "1", "2")], done(HOUR, HOUR)) == set()


def test_an_effect_more_than_there_were_tries_was_executed_again() -> None:
    assert found([applied(HOUR, "1")], done(HOUR, HOUR)) == {ViolationKind.EXECUTED_AGAIN}


def test_an_effect_after_an_answered_success_was_executed_again() -> None:
    """A retry that the outcome lists excuses nothing if the attempt before it had succeeded."""
    attempts = frozenset({("1", "1"), ("2", "2")})

    assert found(
        [CommandForUser(HOUR, "applied", attempts, 1000.0, succeeded=attempts)], done(HOUR, HOUR)
    ) == {ViolationKind.EXECUTED_AGAIN}


def test_commands_that_shared_a_call_need_one_effect_together() -> None:
    assert found([applied(HOUR, "1"), applied(HOUR, "1")], done(HOUR)) == set()


def test_commands_with_calls_of_their_own_need_one_effect_each() -> None:
    parts = [applied(OUT, "1"), applied(OUT, "2")]

    assert found(parts, done(OUT, OUT)) == set()
    assert found(parts, done(OUT)) == {ViolationKind.NOT_EXECUTED}


def test_commands_with_unlisted_requests_are_joined_by_the_request_id() -> None:
    first = CommandForUser(OUT, "applied", frozenset({("1", "1")}), request_id="Id-1")
    riding = CommandForUser(OUT, "applied", None, request_id="Id-1")
    own = CommandForUser(OUT, "applied", None, request_id="Id-2")

    assert found([first, riding], done(OUT)) == set()
    assert found([first, own], done(OUT)) == {ViolationKind.NOT_EXECUTED}
    assert found([first, own], done(OUT, OUT)) == set()


@pytest.mark.parametrize("status", ["superseded", "duplicate"])
def test_a_command_that_ended_without_a_call_has_no_effect_of_its_own(status: str) -> None:
    parts = [applied(HOUR, "1"), ended(OUT, status, repeats=True), applied(FREE, "3")]

    assert found(parts, done(HOUR, FREE)) == set()
    assert found(parts, done(HOUR, OUT, FREE)) == {ViolationKind.EXECUTED_AGAIN}


def test_a_failed_command_may_have_taken_effect_in_an_attempt_without_answer() -> None:
    parts = [applied(HOUR, "1"), ended(FREE, "failed", "2")]

    assert found(parts, done(HOUR, FREE)) == set()
    assert found(parts, done(HOUR)) == set()


def test_a_command_that_expired_unsent_must_not_take_effect() -> None:
    assert ViolationKind.EXECUTED_AGAIN in found([ended(HOUR, "expired")], done(HOUR))


def test_the_last_command_that_was_carried_out_decides_the_state() -> None:
    parts = [applied(HOUR, "1"), applied(FREE, "2")]

    assert ViolationKind.WRONG_STATE in found(parts, done(HOUR))


def test_a_duplicate_by_effect_that_was_none_leaves_the_wrong_state() -> None:
    parts = [applied(HOUR, "1"), applied(FREE, "2"), ended(HOUR, "duplicate")]

    assert found(parts, done(HOUR, FREE)) == {ViolationKind.WRONG_STATE}


def test_a_repeated_id_does_not_bring_its_old_effect_back() -> None:
    parts = [applied(HOUR, "1"), applied(FREE, "2"), ended(HOUR, "duplicate", repeats=True)]

    assert found(parts, done(HOUR, FREE)) == set()


def test_updates_of_different_fields_both_hold() -> None:
    assert found([applied(CARD, "1"), applied(ROLE, "2")], done(CARD, ROLE)) == set()


def test_a_ban_until_a_time_is_recognised_by_its_end() -> None:
    until = applied(CommandedEffect(BAN, until=4000.0, reason="spam"), "1")

    assert found([until], [ObservedEffect(CommandedEffect(BAN, 3900, reason="spam"), 100.5)]) == set()
    assert ViolationKind.UNASKED in found(
        [until], [ObservedEffect(CommandedEffect(BAN, 4000, reason="spam"), 100.5)]
    )


def test_what_was_in_flight_at_a_crash_may_be_done_again() -> None:
    parts = [applied(HOUR, "1", published=110)]

    assert found(parts, done(HOUR, HOUR)) == {ViolationKind.EXECUTED_AGAIN}
    assert found(parts, done(HOUR, HOUR), 100.5) == set()


def test_all_that_was_unpublished_at_a_crash_may_be_done_again_in_order() -> None:
    parts = [applied(HOUR, "1", published=110), applied(FREE, "2", published=110)]

    assert found(parts, done(HOUR, FREE, HOUR, FREE), 101.5) == set()
    assert found(parts, done(HOUR, FREE, HOUR), 101.5) == {ViolationKind.WRONG_STATE}


def test_a_crash_does_not_excuse_what_was_published_before_it() -> None:
    parts = [applied(HOUR, "1", published=100.2), applied(FREE, "2", published=110)]

    assert found(parts, done(HOUR, FREE, HOUR, FREE), 101.5) == {ViolationKind.OUT_OF_ORDER}


def test_a_crash_does_not_excuse_what_was_repeated_and_published_before_it() -> None:
    parts = [applied(HOUR, "1", published=102)]

    assert found(parts, done(HOUR, HOUR), 110.0) == {ViolationKind.EXECUTED_AGAIN}


def test_a_crash_does_not_excuse_what_happened_long_after_it() -> None:
    parts = [applied(HOUR, "1", published=200), applied(FREE, "2", published=210)]

    assert ViolationKind.OUT_OF_ORDER in found(parts, done(FREE, HOUR, begin=120.0), 101.5)


def test_a_command_superseded_after_a_crash_may_have_been_applied_before_it() -> None:
    parts = [ended(HOUR, "superseded", published=110), applied(FREE, "2", published=110)]

    assert found(parts, done(HOUR, FREE)) == {ViolationKind.EXECUTED_AGAIN}
    assert found(parts, done(HOUR, FREE), 100.5) == set()


def test_a_command_without_an_outcome_excuses_no_other() -> None:
    parts = [CommandForUser(HOUR, "", None), applied(FREE, "2")]

    assert found(parts, done(FREE, HOUR)) >= {ViolationKind.OUT_OF_ORDER}


def test_a_command_superseded_in_its_first_life_may_be_applied_in_its_second() -> None:
    """The ban waits and is superseded, the unban is applied; a crash comes before either is published; both are repeated."""
    parts = [applied(HOUR, "1", published=110), applied(FREE, "2", published=110)]

    assert found(parts, done(FREE, HOUR, FREE), 100.5) == set()
    assert found(parts, done(FREE, HOUR, FREE)) == {ViolationKind.OUT_OF_ORDER}


def test_a_second_life_must_be_whole() -> None:
    parts = [applied(HOUR, "1", published=110), applied(FREE, "2", published=110)]

    assert found(parts, done(FREE), 100.5) == {ViolationKind.NOT_EXECUTED}


def test_a_handover_that_takes_its_time_excuses_what_was_unpublished_when_it_began() -> None:
    parts = [applied(HOUR, "1", published=120), applied(FREE, "2", published=120)]
    redone = [*done(HOUR, FREE), *done(HOUR, FREE, begin=115.0)]

    assert {violation for violation, _ in judge(parts, redone, [Interruption(101.5, 110)])} == set()
    assert {violation for violation, _ in judge(parts, redone, [Interruption(121, 130)])} == {
        ViolationKind.OUT_OF_ORDER
    }


def test_a_rider_whose_command_was_not_published_is_done_again_by_itself() -> None:
    """Two commands shared a call; one of them was published before the crash, the other and a later one were not."""
    parts = [
        applied(HOUR, "1", published=100.2),
        applied(HOUR, "2", published=110),
        applied(OUT, "3", published=110),
    ]

    assert found(parts, [*done(HOUR, OUT), *done(HOUR, OUT, begin=105.0)], 101.5) == set()


@pytest.mark.parametrize("action", ["group.ban_group_member", "live.ban_member"])
def test_where_a_ban_is_kept_is_a_row_of_the_table(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ban of another service is judged like the group's, also one that has an end instead of a duration."""
    monkeypatch.setitem(BANS, "live.ban_member", ("live", True))
    name, _ = BANS[action]
    lifting = CommandedEffect(next(each for each in (UNBAN, LIVE_UNBAN) if BANS[each][0] == name))
    until = applied(CommandedEffect(action, until=4000.0), "2")
    real = [ObservedEffect(lifting, 90.0), ObservedEffect(CommandedEffect(action, 3900), 100.5)]

    assert found([applied(lifting, "1"), until], real) == set()
    assert found([until, applied(lifting, "1")], real) >= {ViolationKind.WRONG_STATE}
