# What is told of a finished command: its Outcome, its dead letter, and what is remembered of its id.
#
# From a OpenCommand to values, nothing else: what the results are was decided before.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.actions import TargetField
from worker.domain.contract.deadletters import DeadLetter
from worker.domain.contract.outcomes import (
    Outcome,
    OutcomeError,
    Parameters,
    ResultStatus,
    Source,
    Status,
    status_of,
)
from worker.domain.contract.times import rfc3339
from worker.domain.progress.dedupe import NO_PARAMETERS, known

if TYPE_CHECKING:
    from worker.domain.contract.commands import Command
    from worker.domain.contract.outcomes import (
        Known,
        Result,
    )
    from worker.domain.progress.open_commands import OpenCommand
    from worker.domain.rules import Rules

DEAD: Final = frozenset({Status.REJECTED, Status.FAILED})
"""The commands that are dead-lettered, besides records without a readable id."""


def outcome_of(work: OpenCommand, rules: Rules, now: float, wall: float) -> Outcome | None:
    """
    The outcome of a command whose members all have a result; None for a record without a readable ``command_id``.

    ``wall`` is ``now`` in seconds since 1970.
    """
    rejected = work.rejected
    first_sent = work.first_sent_at
    queued_ms = _ms((now if first_sent is None else first_sent) - work.received_at)
    received_at = rfc3339(wall - now + work.received_at)
    finished_at = rfc3339(wall)
    source = Source(rules.topic, work.partition.number, work.offset)
    if rejected is not None:
        if rejected.command_id is None:
            return None
        return Outcome(
            outcome_id=work.outcome_id,
            command_id=rejected.command_id,
            status=Status.REJECTED,
            source=source,
            worker=rules.worker,
            received_at=received_at,
            finished_at=finished_at,
            queued_ms=queued_ms,
            attempts=0,
            action=rejected.action,
            app=rejected.app,
            group_id=rejected.group_id,
            room_id=rejected.room_id,
            issuer=rejected.issuer,
            issued_at=rejected.issued_at,
            metadata=rejected.metadata,
            user_ids=rejected.user_ids,
            error=OutcomeError(rejected.code, rejected.message, rejected.field, rejected.also),
        )
    command = work.command
    results: list[Result] = [member.result for member in work.members if member.result is not None]
    overall = status_of(results)
    is_group = command.action.target is TargetField.GROUP
    last_answer = work.last_answer_at
    return Outcome(
        outcome_id=work.outcome_id,
        command_id=command.command_id,
        status=overall,
        source=source,
        worker=rules.worker,
        received_at=received_at,
        finished_at=finished_at,
        queued_ms=queued_ms,
        attempts=work.attempts,
        action=command.action.name,
        app=command.app,
        group_id=command.target if is_group else None,
        room_id=None if is_group else command.target,
        issuer=command.issuer,
        issued_at=command.issued_at,
        metadata=command.metadata,
        parameters=_parameters(command),
        results=results,
        request_ids=work.request_ids or [],
        calls=work.call_tries or [],
        calls_omitted=work.calls_omitted,
        calling_ms=None if first_sent is None or last_answer is None else _ms(last_answer - first_sent),
        duplicate_of=_first(results, "duplicate_of") if overall is Status.DUPLICATE else None,
        superseded_by=_first(results, "superseded_by") if overall is Status.SUPERSEDED else None,
        error=_fault(results) if overall is Status.FAILED else None,
    )


def known_of(work: OpenCommand, wall: float) -> Known | None:
    """What is remembered of an emitted command's id: the same as ``dedupe.remembered`` reads from its outcome."""
    outcome = work.outcome
    if outcome is None or work.rejected is not None:
        return None
    return known(outcome, work.fingerprint, wall)


def is_dead(work: OpenCommand) -> bool:
    """Whether the emitted command gets a dead letter: it was rejected or has failed."""
    return work.rejected is not None or (work.outcome is not None and work.outcome.status in DEAD)


def dead_letter_of(work: OpenCommand, topic: str) -> DeadLetter | None:
    """The dead letter of a command that was rejected or failed; None for all others."""
    outcome, rejected = work.outcome, work.rejected
    if work.record is None:
        return None
    if rejected is not None:
        return DeadLetter(work.record, topic, work.outcome_id, rejected.code, rejected.message)
    if outcome is None or outcome.status not in DEAD or outcome.error is None:
        return None
    return DeadLetter(work.record, topic, work.outcome_id, outcome.error.code, outcome.error.message)


def traceparent_of(work: OpenCommand) -> str | None:
    """The trace that the command belongs to."""
    return (work.rejected or work.command).traceparent


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 1)


def _parameters(command: Command) -> Parameters:
    if not command.action.takes:
        return NO_PARAMETERS
    return Parameters(
        duration=command.duration,
        banned_until=command.banned_until_text,
        reason=command.reason,
        member_info=command.member_info,
    )


def _first(results: list[Result], attribute: str) -> str | None:
    return next((value for result in results if (value := getattr(result, attribute)) is not None), None)


def _fault(results: list[Result]) -> OutcomeError:
    """Of a failed command, the first failure, in words."""
    failed = next(result for result in results if result.status is ResultStatus.FAILED)
    others = sum(result.status is ResultStatus.FAILED for result in results) - 1
    code = "no_answer" if failed.error_code is None else str(failed.error_code)
    info = failed.error_info or "no text"
    more = f"; {others} more of its users failed, each result says why" if others else ""
    return OutcomeError(code, f"user {failed.user_id!r}: {info} ({code}){more}")
