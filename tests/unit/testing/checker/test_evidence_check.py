# The checker finds what is put in on purpose: an honest run is clean, and each violation is reported under its name.
#
# The runs come from a worker that is too simple to be wrong (stand_in.py). Each test breaks the evidence in one place.

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.unit.testing.checker.stand_in import StandIn, honest_run
from worker.testing.checker.contract import BAN, KICK, UNBAN, CommandedEffect, outcome_id, status_of
from worker.testing.checker.contract import SeenError as ErrorOfOutcome
from worker.testing.checker.evidence import (
    ExpectedFate,
    Interruption,
    PlannedRecord,
    PublishedDeadLetter,
    ViolationKind,
)
from worker.testing.checker.evidence_check import check
from worker.testing.demo.scenario import DURATIONS, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.testing.checker.evidence import Evidence, LoggedRequest, PublishedOutcome

LOAD = plan(600, seed=5)
HONEST = honest_run(LOAD)
LAST_ID = [one.request_id for one in HONEST.requests if one.request_id][-1]


def found(evidence: Evidence) -> set[ViolationKind]:
    return {violation for violation, count in check(evidence).counts.items() if count}


def details(evidence: Evidence) -> str:
    """Return the findings in words: they tell apart two violations of one kind."""
    return "\n".join(finding.what for finding in check(evidence).examples)


def with_outcome(
    change: Callable[[PublishedOutcome], PublishedOutcome],
    choose: Callable[[PublishedOutcome], bool],
    run: Evidence = HONEST,
) -> Evidence:
    """Return the honest run with the first outcome changed that ``choose`` accepts."""
    index = next(number for number, one in enumerate(run.outcomes) if choose(one))
    outcomes = (*run.outcomes[:index], change(run.outcomes[index]), *run.outcomes[index + 1 :])
    return replace(run, outcomes=outcomes)


def body_with(**fields: object) -> Callable[[PublishedOutcome], PublishedOutcome]:
    return lambda one: replace(one, body=msgspec.structs.replace(one.body, **fields))


def result_with(**fields: object) -> Callable[[PublishedOutcome], PublishedOutcome]:
    def change(one: PublishedOutcome) -> PublishedOutcome:
        first = msgspec.structs.replace(one.body.results[0], **fields)
        return body_with(results=[first, *one.body.results[1:]])(one)

    return change


def is_applied_kick(one: PublishedOutcome) -> bool:
    return one.body.action == KICK and one.body.status == "succeeded"


def letter_of_a_good_command() -> PublishedDeadLetter:
    """Whole and unaltered: there must only be none."""
    name = next(one.body.outcome_id for one in HONEST.outcomes if is_applied_kick(one))
    sent = next(one for one in HONEST.sent if outcome_id(HONEST.topic, one.partition, one.offset) == name)
    return PublishedDeadLetter(name, "x", sent.planned.key, sent.planned.value)


@pytest.mark.parametrize("seed", range(5))
def test_a_run_in_which_everything_went_as_it_must_is_clean(seed: int) -> None:
    load = plan(2000, seed)

    report = check(honest_run(load))

    assert report.clean, report.examples
    assert max(report.highest_second.values()) > 1


def test_an_outcome_that_is_missing_is_a_lost_command() -> None:
    evidence = replace(HONEST, outcomes=HONEST.outcomes[:300] + HONEST.outcomes[301:])

    assert ViolationKind.LOST in found(evidence)


def test_a_second_outcome_of_one_record_is_found() -> None:
    assert found(replace(HONEST, outcomes=(*HONEST.outcomes, HONEST.outcomes[17]))) == {ViolationKind.DOUBLED}


def test_an_outcome_of_no_command_is_found() -> None:
    stray = body_with(outcome_id="commands-0-999999")(HONEST.outcomes[0])

    assert found(replace(HONEST, outcomes=(*HONEST.outcomes, stray))) == {ViolationKind.STRAY}


@pytest.mark.parametrize(
    "change",
    [
        lambda one: replace(one, partition=(one.partition + 1) % 6),
        lambda one: replace(one, key=b"another"),
        body_with(command_id="x"),
    ],
    ids=["partition", "key", "command_id"],
)
def test_an_outcome_in_the_wrong_place_or_with_the_wrong_name_is_found(
    change: Callable[[PublishedOutcome], PublishedOutcome],
) -> None:
    assert ViolationKind.STRAY in found(with_outcome(change, is_applied_kick))


def test_a_bad_record_that_is_accepted_is_found() -> None:
    evidence = with_outcome(body_with(status="succeeded"), lambda one: one.body.status == "rejected")

    assert ViolationKind.WRONG_STATUS in found(evidence)


def test_a_rejection_that_names_another_field_is_found() -> None:
    change = body_with(error=ErrorOfOutcome("x", "x", "elsewhere"))
    evidence = with_outcome(change, lambda one: one.body.status == "rejected")

    assert ViolationKind.WRONG_STATUS in found(evidence)


def test_a_good_command_that_is_rejected_is_found() -> None:
    assert ViolationKind.WRONG_STATUS in found(with_outcome(body_with(status="rejected"), is_applied_kick))


def test_a_user_that_exists_and_is_said_to_have_failed_is_found() -> None:
    evidence = with_outcome(result_with(status="failed", error_code=10002), is_applied_kick)

    assert ViolationKind.WRONG_STATUS in found(evidence)
    assert "exists, and is failed with 10002" in details(evidence)


def test_a_user_that_does_not_exist_and_is_said_to_be_applied_is_found() -> None:
    evidence = with_outcome(
        result_with(status="applied", error_code=None), lambda one: one.body.status == "failed"
    )

    assert ViolationKind.WRONG_STATUS in found(evidence)
    assert "does not exist, and is said to be applied" in details(evidence)


def test_a_user_that_does_not_exist_and_failed_for_another_reason_is_found() -> None:
    evidence = with_outcome(result_with(error_code=20003), lambda one: one.body.status == "failed")

    assert "does not exist, and failed with 20003" in details(evidence)


def test_a_late_command_that_is_carried_out_is_found() -> None:
    change = result_with(status="applied")
    evidence = with_outcome(
        lambda one: body_with(status="succeeded")(change(one)), lambda one: one.body.status == "expired"
    )

    assert ViolationKind.WRONG_STATUS in found(evidence)


def test_a_late_command_of_which_one_user_was_superseded_is_partially_succeeded() -> None:
    evidence = with_outcome(
        lambda one: body_with(status="partially_succeeded")(result_with(status="superseded")(one)),
        lambda one: one.body.status == "expired" and len(one.body.results) > 1,
        honest_run(plan(6000, seed=5)),
    )

    (only,) = check(evidence).examples
    assert "with superseded of None" in only.what, "nothing else is wrong with it"


def test_a_status_that_its_results_do_not_make_is_found() -> None:
    evidence = with_outcome(body_with(status="partially_succeeded"), is_applied_kick)

    assert [finding.what for finding in check(evidence).examples if "make it succeeded" in finding.what]


@pytest.mark.parametrize(
    ("results", "status"),
    [
        (["applied"], "succeeded"),
        (["applied", "already_applied", "duplicate"], "succeeded"),
        (["duplicate", "superseded"], "succeeded"),
        (["superseded", "superseded"], "superseded"),
        (["failed", "expired"], "failed"),
        (["applied", "expired"], "partially_succeeded"),
        (["duplicate", "failed"], "partially_succeeded"),
        (["expired"], "expired"),
        (["cancelled", "failed"], "failed"),
        (["expired", "cancelled"], "cancelled"),
        (["simulated", "expired"], "simulated"),
        (["cancelled", "superseded"], "partially_succeeded"),
    ],
)
def test_the_status_that_results_make(results: list[str], status: str) -> None:
    assert status_of(results) == status


@pytest.mark.parametrize("status", ["cancelled", "simulated"])
def test_an_unsent_command_that_was_sent_is_found(status: str) -> None:
    change = result_with(status=status, request_id=None)
    evidence = with_outcome(lambda one: body_with(status=status)(change(one)), is_applied_kick)

    assert ViolationKind.EXECUTED_AGAIN in found(evidence)


@pytest.mark.parametrize("status", ["cancelled", "simulated"])
def test_a_command_that_nobody_ordered_to_be_withheld_is_found(status: str) -> None:
    """Else a worker that does nothing at all would keep every promise."""
    worker = StandIn()
    worker.carry_out(_unban("one"))
    (outcome,), (sent,) = worker.evidence.outcomes, worker.evidence.sent
    withheld = body_with(status=status, calls=[])(result_with(status=status)(outcome))
    letter = PublishedDeadLetter(outcome.body.outcome_id, status, sent.planned.key, sent.planned.value)
    letters = (letter,) if status == "cancelled" else ()
    evidence = replace(worker.evidence, outcomes=(withheld,), letters=letters, requests=())

    assert found(evidence) == {ViolationKind.WRONG_STATUS}
    assert f"someone is {status}, and nobody ordered it" in details(evidence)
    assert found(replace(evidence, ordered=frozenset({status}))) == set()


def test_a_cancelled_command_has_a_dead_letter() -> None:
    change = result_with(status="cancelled", request_id=None)
    evidence = with_outcome(lambda one: body_with(status="cancelled")(change(one)), is_applied_kick)

    assert ViolationKind.LETTER_MISSING in found(evidence)


@pytest.mark.parametrize("action", [None, UNBAN])
def test_an_outcome_that_names_another_action_is_found(action: str | None) -> None:
    assert "its action is group.ban_group_member" in details(
        with_outcome(body_with(action=action), lambda one: one.body.action == BAN)
    )


def test_results_that_leave_a_user_out_are_found() -> None:
    assert ViolationKind.WRONG_STATUS in found(with_outcome(body_with(results=[]), is_applied_kick))


def test_results_that_name_the_right_users_in_the_wrong_order_are_found() -> None:
    def turn(one: PublishedOutcome) -> PublishedOutcome:
        return body_with(results=one.body.results[::-1])(one)

    evidence = with_outcome(turn, lambda one: len(one.body.results) > 1)

    assert found(evidence) == {ViolationKind.WRONG_STATUS}
    assert "each once and in order" in details(evidence)


def test_a_duplicate_of_an_outcome_that_does_not_exist_is_found() -> None:
    evidence = with_outcome(
        result_with(duplicate_of="commands-0-777777"), lambda one: one.body.status == "duplicate"
    )

    assert ViolationKind.WRONG_STATUS in found(evidence)


def test_a_duplicate_of_an_outcome_that_is_about_others_is_found() -> None:
    change = result_with(
        duplicate_of=next(one.body.outcome_id for one in HONEST.outcomes if is_applied_kick(one))
    )
    evidence = with_outcome(change, lambda one: one.body.status == "duplicate")

    assert "which does not name it" in details(evidence)


@pytest.mark.parametrize("status", ["applied", "already_applied", "failed", "expired"])
def test_a_repeated_id_that_is_executed_is_found(status: str) -> None:
    change = result_with(status=status, duplicate_of=None)
    evidence = with_outcome(change, lambda one: one.body.status == "duplicate")

    assert ViolationKind.EXECUTED_AGAIN in found(evidence)
    assert f"is {status}" in details(evidence)
    assert " repeats commands-" in details(evidence)


def test_a_repeated_id_is_excused_behind_more_outcomes_than_are_remembered() -> None:
    worker = StandIn()
    first, *others = (_unban(name) for name in ("one", "two", "three", "four"))
    for planned in (first, *others, first):
        worker.carry_out(planned)
    change = result_with(status="already_applied", duplicate_of=None)
    evidence = with_outcome(change, lambda one: one.body.status == "duplicate", worker.evidence)

    def executed_again(remembered: int) -> int:
        return check(evidence, remembered=remembered).counts[ViolationKind.EXECUTED_AGAIN]

    assert executed_again(remembered=3) == 0
    assert executed_again(remembered=4) == 1


def test_a_duplicate_renews_how_long_its_id_must_be_known() -> None:
    worker = StandIn()
    for name in ("one", "two", "one", "three", "one"):
        worker.carry_out(_unban(name))
    change = result_with(status="already_applied", duplicate_of=None)
    run = worker.evidence
    last = run.outcomes[-1]
    evidence = with_outcome(change, lambda one: one is last, run)

    assert check(run, remembered=2).clean
    assert check(evidence, remembered=2).counts[ViolationKind.EXECUTED_AGAIN] == 1
    assert check(evidence, remembered=1).counts[ViolationKind.EXECUTED_AGAIN] == 0


def test_an_effect_that_happened_twice_is_found() -> None:
    again = _shifted(_applied_requests()[0], 1000)

    assert found(replace(HONEST, requests=(*HONEST.requests, again))) == {ViolationKind.EXECUTED_AGAIN}


def test_an_effect_that_happened_in_each_call_of_a_large_command_is_found() -> None:
    """Each of its calls carried other users, so none of them may have got it more than once."""
    worker = StandIn()
    users = tuple(f"user-{number}" for number in range(100))
    worker.carry_out(replace(_ban("one"), users=users))
    again = tuple(_shifted(one, 1 + number) for number, one in enumerate(worker.evidence.requests))

    assert found(worker.evidence) == set()
    assert found(replace(worker.evidence, requests=(*worker.evidence.requests, *again))) == {
        ViolationKind.EXECUTED_AGAIN
    }


def test_an_effect_that_never_happened_is_found() -> None:
    chosen = _applied_requests()[3]
    requests = tuple(replace(one, applied={}) if one is chosen else one for one in HONEST.requests)

    assert ViolationKind.NOT_EXECUTED in found(replace(HONEST, requests=requests))


def test_an_effect_that_no_command_asked_for_is_found() -> None:
    chosen = _applied_requests()[0]
    stranger = replace(chosen, users=("a stranger",), applied={"a stranger": (chosen.read_at, 9)})

    assert found(replace(HONEST, requests=(*HONEST.requests, stranger))) == {
        ViolationKind.UNASKED,
        ViolationKind.WRONG_STATE,
    }


def test_a_ban_applied_after_the_unban_that_followed_it_is_out_of_order() -> None:
    worker = StandIn()
    worker.carry_out(_ban("one"))
    worker.carry_out(_unban("two"))
    first, second = worker.evidence.requests

    evidence = replace(worker.evidence, requests=(_shifted(first, 10), second))

    assert found(worker.evidence) == set()
    assert found(evidence) == {ViolationKind.OUT_OF_ORDER, ViolationKind.WRONG_STATE}


def test_a_repeat_of_a_duplicate_asks_for_nothing_even_after_something_else_came() -> None:
    """unban, unban under another id (a duplicate by its effect), ban, and the second unban's record again."""
    worker = StandIn()
    for planned in (_unban("one"), _unban("two"), _ban("three"), _unban("two")):
        worker.carry_out(planned)
    evidence = worker.evidence
    first, second, third, fourth = evidence.outcomes
    duplicate = result_with(status="duplicate", duplicate_of=first.body.outcome_id)
    second, fourth = (body_with(status="duplicate", calls=[])(duplicate(one)) for one in (second, fourth))
    requests = tuple(one for number, one in enumerate(evidence.requests) if number in {0, 2})

    assert found(replace(evidence, outcomes=(first, second, third, fourth), requests=requests)) == set()


def _late_copy(copy: Callable[[PublishedOutcome], PublishedOutcome]) -> Evidence:
    """unban, superseded by a ban; then the unban's record again, and what ``copy`` makes of its outcome, which is a duplicate."""
    worker = StandIn()
    for planned in (_unban("two"), _ban("three"), _unban("two")):
        worker.carry_out(planned)
    evidence = worker.evidence
    first, second, third = evidence.outcomes
    superseded = result_with(status="superseded", superseded_by=second.body.outcome_id)
    first = body_with(status="superseded", calls=[])(superseded(first))
    return replace(evidence, outcomes=(first, second, copy(third)), requests=evidence.requests[1:])


def test_a_late_copy_of_a_superseded_command_must_be_its_duplicate() -> None:
    assert found(_late_copy(lambda one: one)) == set()


def test_a_late_copy_of_a_superseded_command_that_is_executed_is_found() -> None:
    evidence = _late_copy(result_with(status="applied", duplicate_of=None))

    assert ViolationKind.EXECUTED_AGAIN in found(evidence)
    assert "is applied" in details(evidence)


def test_201_requests_in_a_rolling_second_are_found_even_across_full_seconds() -> None:
    one = _applied_requests()[0]
    burst = tuple(
        replace(one, read_at=1000.5 + number / 201, applied={}, code=10002) for number in range(201)
    )

    report = check(replace(HONEST, requests=HONEST.requests + burst))

    assert report.counts[ViolationKind.OVER_QUOTA] == 1
    assert report.highest_second[one.endpoint] == 201


def test_a_request_exactly_one_second_after_another_is_in_another_second() -> None:
    one = _applied_requests()[0]
    burst = tuple(
        replace(one, read_at=1000.0 + number / 200, applied={}, code=10002) for number in range(400)
    )

    assert check(replace(HONEST, requests=HONEST.requests + burst)).counts[ViolationKind.OVER_QUOTA] == 0


@pytest.mark.parametrize(
    "change",
    [result_with(request_id="Id-invented"), result_with(request_id=None), result_with(request_id=LAST_ID)],
    ids=["invented", "missing", "of another call"],
)
def test_a_request_id_that_the_api_did_not_give_for_this_user_is_found(
    change: Callable[[PublishedOutcome], PublishedOutcome],
) -> None:
    assert ViolationKind.UNKNOWN_ANSWER in found(with_outcome(change, is_applied_kick))


@pytest.mark.parametrize(
    "fields",
    [
        {"error_code": 100001},
        {"request_id": "Id-invented"},
        {"request_id": None},
        {"members": 7},
        {"endpoint": "x/y"},
    ],
    ids=str,
)
def test_a_misreported_call_is_found(fields: dict[str, object]) -> None:
    def change(one: PublishedOutcome) -> PublishedOutcome:
        return body_with(calls=[msgspec.structs.replace(one.body.calls[0], **fields), *one.body.calls[1:]])(
            one
        )

    assert ViolationKind.UNKNOWN_ANSWER in found(with_outcome(change, is_applied_kick))


@pytest.mark.parametrize("change", [lambda _: [], lambda ids: ids[::-1], lambda ids: [*ids, ids[-1]]])
def test_request_ids_that_are_not_those_of_the_calls_in_order_are_found(
    change: Callable[[list[str]], list[str]],
) -> None:
    def changed(one: PublishedOutcome) -> PublishedOutcome:
        return body_with(request_ids=change(one.body.request_ids))(one)

    evidence = with_outcome(changed, lambda one: len(one.body.request_ids) > 1)

    assert found(evidence) == {ViolationKind.UNKNOWN_ANSWER}


def _with_a_silent_retry() -> Evidence:
    """The honest run, in which one kick had got a code to try again before, of which its outcome says nothing."""
    kick = next(one for one in HONEST.requests if one.effect.action == KICK and one.code == 0)
    before = replace(kick, read_at=kick.read_at - 0.01, code=100001, request_id="Id-silent", applied={})
    return replace(HONEST, requests=(*HONEST.requests, before))


def test_a_request_id_that_no_outcome_reports_is_found() -> None:
    assert found(_with_a_silent_retry()) == {ViolationKind.UNKNOWN_ANSWER}
    assert "1 RequestIds of room_engine_http_srv/kick_user_out" in details(_with_a_silent_retry())


def test_a_request_id_may_have_been_lost_with_a_process_or_with_its_answer() -> None:
    evidence = _with_a_silent_retry()
    crash = Interruption(evidence.requests[-1].read_at, evidence.requests[-1].read_at)

    def unanswered(one: PublishedOutcome) -> PublishedOutcome:
        lost = msgspec.structs.replace(
            one.body.calls[0],
            call_id="lost",
            request_id=None,
            http_status=None,
            error_code=None,
            error="timeout",
        )
        return body_with(calls=[lost, *one.body.calls])(one)

    assert found(replace(evidence, interruptions=(crash,))) == set()
    assert found(with_outcome(unanswered, is_applied_kick, evidence)) == set()


@pytest.mark.parametrize(
    ("action", "omitted", "hides"), [(KICK, 1, True), (KICK, 0, False), (BAN, 50, False)]
)
def test_a_request_id_may_be_among_those_that_an_outcome_of_its_endpoint_leaves_out(
    action: str, omitted: int, hides: bool
) -> None:
    """One large command was enough: then no RequestId was looked for in the whole run."""
    change = body_with(calls_omitted=omitted)
    evidence = with_outcome(change, lambda one: one.body.action == action, _with_a_silent_retry())

    assert ("are in no outcome" in details(evidence)) is not hides


def test_a_kick_of_somebody_who_was_not_said_to_be_missing_is_found() -> None:
    evidence = with_outcome(result_with(status="already_applied", error_code=100005), is_applied_kick)

    assert "is already_applied with 100005, a code that the API never gave" in details(evidence)


@pytest.mark.parametrize("fields", [{"call_id": "another"}, {"error_code": 10002}, {"members": 7}], ids=str)
def test_a_call_without_a_request_id_that_was_never_made_is_found(fields: dict[str, object]) -> None:
    """The group service gives no RequestIds: its calls are counted."""

    def change(one: PublishedOutcome) -> PublishedOutcome:
        return body_with(calls=[*one.body.calls, msgspec.structs.replace(one.body.calls[0], **fields)])(one)

    evidence = with_outcome(change, lambda one: one.body.action == BAN and one.body.status == "succeeded")

    assert ViolationKind.UNKNOWN_ANSWER in found(evidence)


def test_a_code_that_the_api_never_said_is_found() -> None:
    evidence = with_outcome(result_with(error_code=20003), lambda one: one.body.status == "failed")

    assert ViolationKind.UNKNOWN_ANSWER in found(evidence)


def test_a_dead_letter_that_is_missing_is_found() -> None:
    assert found(replace(HONEST, letters=HONEST.letters[1:])) == {ViolationKind.LETTER_MISSING}


@pytest.mark.parametrize(
    "letter", [HONEST.letters[0], letter_of_a_good_command()], ids=["twice", "of a good command"]
)
def test_a_dead_letter_too_many_is_found(letter: PublishedDeadLetter) -> None:
    assert ViolationKind.LETTER_EXTRA in found(replace(HONEST, letters=(*HONEST.letters, letter)))


@pytest.mark.parametrize("fields", [{"value": b"changed"}, {"key": b"changed"}, {"error_code": ""}], ids=str)
def test_a_dead_letter_that_was_altered_is_found(fields: dict[str, bytes]) -> None:
    altered = replace(HONEST.letters[0], **fields)  # type: ignore[arg-type]  # each of its own type

    assert found(replace(HONEST, letters=(altered, *HONEST.letters[1:]))) == {ViolationKind.LETTER_EXTRA}


def test_a_dead_letter_may_leave_out_a_value_that_did_not_fit() -> None:
    omitted = replace(HONEST.letters[0], value=None, value_omitted=True)

    assert found(replace(HONEST, letters=(omitted, *HONEST.letters[1:]))) == set()


def test_all_findings_are_counted_and_the_first_few_are_examples() -> None:
    report = check(replace(HONEST, outcomes=()))

    assert report.counts[ViolationKind.LOST] > 500
    assert 0 < len([finding for finding in report.examples if finding.violation is ViolationKind.LOST]) < 10


def test_results_of_the_stand_in_are_of_every_kind() -> None:
    """Otherwise the clean run above would prove little."""
    statuses = {result.status for one in HONEST.outcomes for result in one.body.results}
    fates = {one.planned.fate for one in HONEST.sent}

    assert statuses == {"applied", "failed", "duplicate", "expired"}
    assert fates == set(ExpectedFate)


def _applied_requests() -> list[LoggedRequest]:
    return [
        one
        for one in HONEST.requests
        if one.applied and one.effect.action == BAN and one.effect.duration in DURATIONS
    ]


def _shifted(request: LoggedRequest, seconds: float) -> LoggedRequest:
    applied = {user: (at + seconds, number) for user, (at, number) in request.applied.items()}
    return replace(request, read_at=request.read_at + seconds, applied=applied)


def _ban(command_id: str) -> PlannedRecord:
    return PlannedRecord(
        b"live-001",
        b"{}",
        ExpectedFate.CARRIED_OUT,
        command_id,
        "live-001",
        ("someone",),
        CommandedEffect(BAN, 60, reason="spam"),
    )


def _unban(command_id: str) -> PlannedRecord:
    return PlannedRecord(
        b"live-001",
        b"{}",
        ExpectedFate.CARRIED_OUT,
        command_id,
        "live-001",
        ("someone",),
        CommandedEffect(UNBAN),
    )
