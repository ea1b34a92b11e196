# A failed or cancelled command has a line in the log once its outcome is published; a flood of them does not flood the log.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, users
from tests.unit.runtime.fakes import attempt, run_scenario, settled
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.outcomes import OutcomeError, Status
from worker.domain.effects import AttemptResult, StartCall
from worker.domain.publish_results import Aborted, Published
from worker.runtime.failed_command_log import CODES, LINES, FailedCommandLog

if TYPE_CHECKING:
    from tests.unit.runtime.fakes import RunnerHarness
    from worker.domain.effects import Transaction

Lines = list[tuple[str, dict[str, Any]]]


def failed_commands() -> tuple[FailedCommandLog, Lines]:
    lines: Lines = []
    return FailedCommandLog(lambda event, /, **fields: lines.append((event, fields))), lines


def failed(*commands: dict[str, Any]) -> Transaction:
    """What the engine publishes of these kicks, whose users do not exist."""
    harness = EngineHarness()
    harness.receive(*commands)
    while harness.out:
        harness.code(harness.out[0], 10019, request_id="Id-7")
    return harness.take()


def with_outcomes(transaction: Transaction, **changes: Any) -> Transaction:
    replace = msgspec.structs.replace
    outcomes = [replace(each, outcome=replace(each.outcome, **changes)) for each in transaction.outcomes]
    return replace(transaction, outcomes=outcomes)


def test_a_failed_command_is_named_with_what_it_takes_to_find_it() -> None:
    log, lines = failed_commands()

    log.published(failed(kick("u", issuer="detector-7") | {"command_id": "c-9"}), 0.0)

    (line,) = lines
    event, fields = line
    assert event == "command.failed"
    assert fields == {
        "partition": 0,
        "offset": 0,
        "issuer": "detector-7",
        "command_id": "c-9",
        "action": "room.kick_user_out",
        "app": "main",
        "target": "r",
        "code": "10019",
        "attempts": 1,
        "request_id": "Id-7",
    }


def test_a_cancelled_command_has_an_event_of_its_own() -> None:
    """An operator decided so: nobody should take it for a failure."""
    log, lines = failed_commands()
    error = OutcomeError("cancelled", "by anna: detector-7 has gone mad")

    log.published(with_outcomes(failed(kick("u")), status=Status.CANCELLED, error=error), 0.0)

    assert [(event, fields["code"]) for event, fields in lines] == [("command.cancelled", "cancelled")]


def test_what_has_not_failed_has_no_line() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), ban("v", duration=-1))
    harness.ok()
    log, lines = failed_commands()

    log.published(harness.take(), 0.0)
    log.summarize()

    assert lines == []


def test_of_a_flood_the_first_have_lines_and_the_rest_are_counted() -> None:
    log, lines = failed_commands()

    log.published(failed(*(kick(user, room=user) for user in users(25))), 0.0)
    log.summarize()
    log.summarize()

    assert [event for event, _ in lines] == ["command.failed"] * LINES + ["failures.omitted"]
    assert lines[-1][1] == {"count": 25 - LINES, "codes": "10019"}


def test_after_a_summary_lines_are_written_again_and_codes_are_bounded() -> None:
    log, lines = failed_commands()
    transaction = failed(kick("u"))
    for number in range(LINES + 30):
        log.published(with_outcomes(transaction, error=OutcomeError(str(number), "no")), 0.0)

    log.summarize()
    log.published(transaction, 0.0)

    (summary,) = [fields for event, fields in lines if event == "failures.omitted"]
    assert summary["count"] == 30
    assert len(summary["codes"].split(", ")) == CODES
    assert lines[-1][0] == "command.failed"


def test_foreign_text_is_short_and_printable_in_the_line() -> None:
    """The issuer is whatever a stranger wrote."""
    log, lines = failed_commands()

    log.published(with_outcomes(failed(kick("u")), issuer="\x1b[31m\u202e" + "x" * 70_000), 0.0)

    issuer = lines[0][1]["issuer"]
    assert issuer.isprintable()
    assert len(issuer) < 200


def test_a_line_is_written_when_the_outcome_is_published_and_not_before() -> None:
    """Whoever reads the line looks for the outcome next."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.transactions.append(failed(kick("u")))
        harness.move()
        await settled()
        harness.end(Aborted("no"))
        await settled()
        assert "command.failed" not in harness.logged

        harness.engine.transactions.append(failed(kick("u")))
        harness.runner._publish_scheduler.hurry = True
        harness.move()
        await settled()
        harness.end(Published())
        await settled()
        assert harness.logged.count("command.failed") == 1

    run_scenario(scenario)


def test_an_answered_batch_names_its_app_its_room_and_its_request_id() -> None:
    """With the line alone an operator can ask Tencent about the request."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.move([StartCall(attempt())])
        await settled()
        call, _ = harness.calls["call-1"]
        call.finished(AttemptResult(1.0, 1.03, Verdict.DONE, 200, 0, request_id="Id-1"))

        (fields,) = [fields for event, fields in harness.lines if event == "batch.answered"]
        assert fields == {
            "call_id": "call-1",
            "app": "main",
            "endpoint": "room_engine_http_srv/kick_user_out",
            "target": "room-7",
            "members": 1,
            "number": 1,
            "verdict": "done",
            "error_code": 0,
            "request_id": "Id-1",
            "elapsed_ms": 30.0,
        }

    run_scenario(scenario)
