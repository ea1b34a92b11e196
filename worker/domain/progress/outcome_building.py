# What is made of an open record at the end: its Outcome, its dead letter, and what is remembered of its command id.
#
# From a record to values, nothing else: its results were decided before.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.actions import TargetField
from worker.domain.contract.dead_letter_encoding import DeadLetter
from worker.domain.contract.outcomes import (
    DEAD_LETTERED,
    NO_ANSWER,
    REMEMBERED,
    Outcome,
    OutcomeError,
    ResultStatus,
    Source,
    Status,
    has_field,
    status_of,
)
from worker.domain.contract.timestamps import rfc3339
from worker.domain.progress.dedupe import known_id
from worker.domain.progress.open_commands import RejectedRecord

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import RememberedCommandId, Result
    from worker.domain.contract.rejections import Rejected
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.open_commands import OpenCommand, OpenRecord


def outcome_of(command: OpenCommand, settings: EngineSettings, now: float, wall: float) -> Outcome:
    """Make the outcome of a command whose members all have a result. ``wall`` is ``now`` in seconds since 1970."""
    spec, first_sent, last_ended = command.spec, command.first_sent_at, command.last_ended_at
    results: list[Result] = [task.result for task in command.tasks if task.result is not None]
    overall = status_of(results)
    is_group = spec.action.target is TargetField.GROUP
    queued_ms = _ms((now if first_sent is None else first_sent) - command.received_at)
    calling_ms = None if first_sent is None or last_ended is None else _ms(last_ended - first_sent)
    return Outcome(  # by position: by name, so many fields take a microsecond longer
        command.outcome_id,
        spec.command_id,
        overall,
        Source(settings.topic, command.partition.number, command.offset),
        settings.worker,
        rfc3339(wall - now + command.received_at),
        rfc3339(wall),
        queued_ms,
        command.attempts,
        spec.action.name,
        spec.app,
        spec.target if is_group else None,
        None if is_group else spec.target,
        spec.issuer,
        spec.issued_at,
        spec.metadata,
        spec.parameters,
        results,
        (),  # user_ids: the results tell
        command.request_ids or [],
        command.attempt_records or [],
        command.attempts_omitted,
        0,  # results_omitted
        calling_ms,
        _of_all(results, "duplicate_of") if overall in _AS_REPEATED else None,
        _of_all(results, "superseded_by") if overall in _AS_SUPERSEDED else None,
        _error_of(overall, results) if overall in DEAD_LETTERED else None,
    )


def rejection_outcome(
    rejected: RejectedRecord, settings: EngineSettings, now: float, wall: float
) -> Outcome | None:
    """Make the outcome of a record that was rejected; None if its ``command_id`` cannot be read."""
    why = rejected.rejection
    if why.command_id is None:
        return None
    return Outcome(
        outcome_id=rejected.outcome_id,
        command_id=why.command_id,
        status=Status.REJECTED,
        source=Source(settings.topic, rejected.partition.number, rejected.offset),
        worker=settings.worker,
        received_at=rfc3339(wall - now + rejected.received_at),
        finished_at=rfc3339(wall),
        queued_ms=_ms(now - rejected.received_at),
        attempts=0,
        action=why.action,
        app=why.app,
        group_id=why.group_id,
        room_id=why.room_id,
        issuer=why.issuer,
        issued_at=why.issued_at,
        metadata=why.metadata,
        user_ids=why.user_ids,
        error=OutcomeError(why.code, why.message, why.field, why.also),
    )


def known_from(open_record: OpenRecord, wall: float) -> RememberedCommandId | None:
    """Return what is remembered of an emitted command's id: the same that ``dedupe.remembered`` reads from its outcome."""
    if isinstance(open_record, RejectedRecord) or open_record.outcome is None:
        return None
    if open_record.was_always_in_shadow:
        return known_id(open_record.outcome, open_record.fingerprint, wall, name=open_record.known_as)
    if open_record.outcome.status not in REMEMBERED:
        return None
    return known_id(open_record.outcome, open_record.fingerprint, wall)


def is_dead(command: OpenCommand) -> bool:
    """Return whether the emitted command gets a dead letter: it has failed, or was cancelled."""
    return command.outcome is not None and command.outcome.status in DEAD_LETTERED


def dead_letter_of(open_record: OpenRecord, topic: str) -> DeadLetter | None:
    """Make the dead letter of a record that was rejected, failed or was cancelled; None for all others."""
    error: OutcomeError | Rejected | None
    if isinstance(open_record, RejectedRecord):
        error = open_record.rejection
    else:
        error = None if open_record.outcome is None else open_record.outcome.error
    if error is None or open_record.record is None:
        return None
    return DeadLetter(open_record.record, topic, open_record.outcome_id, error.code, error.message)


def traceparent_of(open_record: OpenRecord) -> str | None:
    """Return the trace that the record belongs to."""
    if isinstance(open_record, RejectedRecord):
        return open_record.rejection.traceparent
    return open_record.spec.traceparent


def _ms(seconds: float) -> float:
    return round(seconds * 10_000) / 10 if seconds > 0 else 0.0  # many times as fast as round(…, 1)


_AS_REPEATED: Final = frozenset(status for status in Status if has_field("duplicate_of", status))
_AS_SUPERSEDED: Final = frozenset(status for status in Status if has_field("superseded_by", status))


def _of_all(results: list[Result], attribute: str) -> str | None:
    """Return the first of the results' values, if each of them has one."""
    values = [getattr(result, attribute) for result in results]
    return None if None in values else values[0]


def _error_of(overall: Status, results: list[Result]) -> OutcomeError:
    """Describe in words why a command has failed or was cancelled."""
    if overall is not Status.CANCELLED:
        return _fault(results)
    cause = next(result.error_info for result in results if result.status is ResultStatus.CANCELLED)
    return OutcomeError(Status.CANCELLED, cause or "")


def _fault(results: list[Result]) -> OutcomeError:
    """Describe the first failure of a failed command, in words."""
    failed = next(result for result in results if result.status is ResultStatus.FAILED)
    others = sum(result.status is ResultStatus.FAILED for result in results) - 1
    code = NO_ANSWER if failed.error_code is None else str(failed.error_code)
    info = failed.error_info or "no text"
    more = f"; {others} more of its users failed, each result says why" if others else ""
    return OutcomeError(code, f"user {failed.user_id!r}: {info} ({code}){more}")
