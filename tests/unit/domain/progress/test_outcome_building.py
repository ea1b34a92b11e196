# What is published of a finished command: the outcome, the dead letter, and what of it may be left out where it does not fit.

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.unit.domain.factories import call_attempt, give, open_command, rejected_record
from tests.unit.domain.samples import BAN, EVERYTHING, KICK, LIVE_UNBAN, ONE_OF_EACH, SETTINGS, UNBAN, UPDATE
from worker.domain.contract.outcomes import (
    Result,
    ResultStatus,
    Source,
    Status,
    Worker,
)
from worker.domain.contract.parameters import Parameters
from worker.domain.progress.outcome_building import (
    dead_letter_of,
    known_from,
    outcome_of,
    rejection_outcome,
    traceparent_of,
)

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import Outcome
    from worker.domain.progress.open_commands import OpenCommand, RejectedRecord

WALL = 1_893_456_000.0
"""2030-01-01T00:00:00Z."""
APPLIED, FAILED = ResultStatus.APPLIED, ResultStatus.FAILED
BAD = json.dumps({**EVERYTHING, "duration": -1}).encode()
UNREADABLE = b"{"


def outcome_made(command: OpenCommand, now: float = 100.0) -> Outcome:
    """The command's outcome, finished at WALL."""
    made = outcome_of(command, SETTINGS, now, WALL)
    command.emit(made, 1000)
    return made


def finished(fields: dict[str, Any] = BAN, *results: ResultStatus, **details: Any) -> OpenCommand:
    """A command whose outcome is made."""
    command = give(open_command(fields), *results, **details)
    outcome_made(command)
    return command


def made_rejection(value: bytes) -> RejectedRecord:
    """A rejected record whose outcome is made."""
    rejected = rejected_record(value)
    rejected.emit(rejection_outcome(rejected, SETTINGS, 100.0, WALL), 1000)
    return rejected


# Outcomes


def test_an_outcome_says_what_was_commanded_and_where_it_stood() -> None:
    outcome = outcome_made(give(open_command(EVERYTHING), APPLIED, APPLIED))

    assert outcome.outcome_id == "moderation.commands-3-42"
    assert outcome.source == Source("moderation.commands", 3, 42)
    assert outcome.worker == Worker("worker-0", "1.0")
    assert (outcome.command_id, outcome.action, outcome.app) == ("c-1", "group.ban_group_member", "second")
    assert (outcome.group_id, outcome.room_id) == ("@TGS#aJRGC4MH6", None)
    assert outcome.issued_at == EVERYTHING["issued_at"]
    assert outcome.issuer == EVERYTHING["issuer"]
    assert outcome.metadata == EVERYTHING["metadata"]
    assert outcome.parameters == Parameters(duration=3600, reason=BAN["reason"])
    assert outcome.status is Status.SUCCEEDED
    assert [(result.user_id, result.status) for result in outcome.results] == [
        ("brennanli3", "applied"),
        ("brennanli12", "applied"),
    ]
    assert (outcome.duplicate_of, outcome.superseded_by, outcome.error) == (None, None, None)


@pytest.mark.parametrize("fields", ONE_OF_EACH, ids=lambda each: str(each["action"]))
def test_the_target_is_where_the_command_had_it(fields: dict[str, Any]) -> None:
    outcome = outcome_made(give(open_command(fields), *[APPLIED for _ in fields["user_ids"]]))

    assert outcome.group_id == fields.get("group_id")
    assert outcome.room_id == fields.get("room_id")


@pytest.mark.parametrize("fields", [UNBAN, LIVE_UNBAN], ids=lambda each: str(each["action"]))
def test_an_action_without_parameters_tells_none(fields: dict[str, Any]) -> None:
    outcome = outcome_made(give(open_command(fields), APPLIED, APPLIED))

    assert outcome.parameters == Parameters()
    assert msgspec.to_builtins(outcome)["parameters"] == {}


def test_the_end_of_a_ban_is_given_as_it_was_written() -> None:
    fields = {name: value for name, value in BAN.items() if name != "duration"}
    fields["banned_until"] = "2030-06-01T02:00:00.5+02:00"

    outcome = outcome_made(give(open_command(fields), APPLIED, APPLIED))

    assert outcome.parameters == Parameters(banned_until="2030-06-01T02:00:00.5+02:00", reason=BAN["reason"])


def test_an_update_tells_what_it_sets() -> None:
    outcome = outcome_made(give(open_command(UPDATE), APPLIED))

    assert outcome.parameters is not None
    assert msgspec.to_builtins(outcome.parameters) == {"member_info": UPDATE["member_info"]}


def test_times_are_from_receipt_to_first_attempt_and_from_there_to_last_answer() -> None:
    command = give(open_command(BAN), APPLIED, APPLIED)
    command.record_attempt(call_attempt(1), 100.25, 100.5)
    command.record_attempt(call_attempt(2), 101.0, 102.0)

    outcome = outcome_made(command, now=104.0)

    assert outcome.received_at == "2029-12-31T23:59:56.000Z"
    assert outcome.finished_at == "2030-01-01T00:00:00.000Z"
    assert (outcome.queued_ms, outcome.calling_ms) == (250.0, 1750.0)
    assert outcome.attempts == 2
    assert outcome.request_ids == ["request-1", "request-2"]
    assert [each.call_id for each in outcome.calls] == ["call-1", "call-2"]


def test_of_a_command_that_was_never_sent_all_time_was_waiting() -> None:
    outcome = outcome_made(give(open_command(BAN), ResultStatus.EXPIRED, ResultStatus.EXPIRED), now=104.0)

    assert (outcome.queued_ms, outcome.calling_ms, outcome.attempts) == (4000.0, None, 0)


def test_a_clock_that_was_read_too_early_makes_no_negative_time() -> None:
    command = give(open_command(BAN), APPLIED, APPLIED)
    command.record_attempt(call_attempt(), 99.9, 99.8)

    outcome = outcome_made(command)

    assert (outcome.queued_ms, outcome.calling_ms) == (0.0, 0.0)


def test_a_duplicate_names_the_command_that_did_it_and_a_superseded_one_its_successor() -> None:
    duplicate = outcome_made(
        give(open_command(BAN), ResultStatus.DUPLICATE, ResultStatus.DUPLICATE, duplicate_of="t-3-1")
    )
    superseded = outcome_made(
        give(open_command(BAN), ResultStatus.SUPERSEDED, ResultStatus.SUPERSEDED, superseded_by="t-3-9")
    )

    assert (duplicate.duplicate_of, duplicate.superseded_by) == ("t-3-1", None)
    assert (superseded.duplicate_of, superseded.superseded_by) == (None, "t-3-9")


def test_a_partly_repeated_command_is_no_duplicate() -> None:
    command = open_command(BAN)
    command.tasks[0].settle(Result("brennanli3", ResultStatus.DUPLICATE, duplicate_of="t-3-1"))
    command.tasks[1].settle(Result("brennanli12", APPLIED))

    outcome = outcome_made(command)

    assert (outcome.status, outcome.duplicate_of) == (Status.SUCCEEDED, None)


def test_a_failed_command_says_in_a_sentence_what_its_first_failure_was() -> None:
    outcome = outcome_made(
        give(open_command(BAN), FAILED, FAILED, error_code=10019, error_info="no such account")
    )

    assert outcome.error is not None
    assert outcome.error.code == "10019"
    assert outcome.error.message == (
        "user 'brennanli3': no such account (10019); 1 more of its users failed, each result says why"
    )


def test_a_failure_without_an_answer_has_a_code_too() -> None:
    outcome = outcome_made(give(open_command(KICK), FAILED))

    assert outcome.error is not None
    assert outcome.error.code == "no_answer"
    assert outcome.error.message == "user 'user1': no text (no_answer)"


def test_a_failure_after_an_expiry_is_the_one_that_is_reported() -> None:
    command = open_command(BAN)
    command.tasks[0].settle(Result("brennanli3", ResultStatus.EXPIRED))
    command.tasks[1].settle(Result("brennanli12", FAILED, error_code=10010, error_info="no such group"))

    outcome = outcome_made(command)

    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.message == "user 'brennanli12': no such group (10010)"


def test_a_rejected_command_tells_what_could_be_read_of_it_and_why() -> None:
    outcome = made_rejection(BAD).outcome

    assert outcome is not None
    assert outcome.status is Status.REJECTED
    assert (outcome.command_id, outcome.action, outcome.app) == ("c-1", "group.ban_group_member", "second")
    assert (outcome.group_id, outcome.room_id) == ("@TGS#aJRGC4MH6", None)
    assert (outcome.issuer, outcome.issued_at) == (EVERYTHING["issuer"], EVERYTHING["issued_at"])
    assert outcome.metadata == EVERYTHING["metadata"]
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.field) == ("out_of_range", "duration")
    assert outcome.results == []
    assert outcome.attempts == 0


def test_a_record_without_a_readable_id_has_no_outcome() -> None:
    assert made_rejection(UNREADABLE).outcome is None


# Dead letters, ids, traces


def test_a_rejected_record_becomes_a_dead_letter_whether_its_id_is_readable_or_not() -> None:
    for value, code in ((BAD, "out_of_range"), (UNREADABLE, "not_json")):
        rejected = made_rejection(value)

        letter = dead_letter_of(rejected, "moderation.commands")

        assert letter is not None
        assert letter.record is rejected.record
        assert (letter.topic, letter.outcome_id) == ("moderation.commands", "moderation.commands-3-42")
        assert letter.error_code == code


def test_a_failed_command_becomes_a_dead_letter_with_its_error() -> None:
    command = finished(BAN, FAILED, FAILED, error_code=10019, error_info="no such account")

    letter = dead_letter_of(command, "moderation.commands")

    assert letter is not None
    assert letter.error_code == "10019"
    assert "no such account" in letter.error_message


@pytest.mark.parametrize(
    "results",
    [
        (APPLIED, APPLIED),
        (APPLIED, FAILED),
        (ResultStatus.EXPIRED, ResultStatus.EXPIRED),
        (ResultStatus.DUPLICATE, ResultStatus.DUPLICATE),
        (ResultStatus.SUPERSEDED, ResultStatus.SUPERSEDED),
    ],
    ids="+".join,
)
def test_no_other_command_becomes_a_dead_letter(results: tuple[ResultStatus, ResultStatus]) -> None:
    assert dead_letter_of(finished(BAN, *results), "moderation.commands") is None


def test_nothing_is_remembered_of_the_id_of_a_rejected_command() -> None:
    assert known_from(made_rejection(BAD), WALL) is None


def test_nothing_is_remembered_before_there_is_an_outcome() -> None:
    assert known_from(open_command(BAN), WALL) is None


def test_the_trace_goes_on_whether_the_command_was_rejected_or_not() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    good, bad = open_command(BAN), rejected_record(BAD)
    good.spec = msgspec.structs.replace(good.spec, traceparent=trace)
    bad.rejection = msgspec.structs.replace(bad.rejection, traceparent=trace)

    assert (traceparent_of(good), traceparent_of(bad)) == (trace, trace)
