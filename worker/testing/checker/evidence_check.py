# The checker: commands, topics and the API's log in, findings out. It trusts no counters.
#
# Pure. member_history.py judges the order and end state of each user, reported_answers.py RequestIds and codes. Judged here are
# records (lost, doubled, with a wrong status), the quota and dead letters.

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.testing.checker.contract import (
    DEAD_LETTERED,
    IN_PLACE,
    KICK,
    NEVER_CALLED,
    NO_ACCOUNT,
    NOT_IN_ROOM,
    ORDERED,
    QUOTA,
    REMEMBERED,
    REPEATED,
    SETTLED,
    TARGET_FIELDS,
    TRIED,
    UPDATE,
    outcome_id,
    status_of,
)
from worker.testing.checker.evidence import ExpectedFate, Finding, ViolationKind
from worker.testing.checker.member_history import CommandForUser, ObservedEffect, judge
from worker.testing.checker.references import wrong_references
from worker.testing.checker.reported_answers import judge_answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from worker.testing.checker.contract import SeenOutcome, SeenResult
    from worker.testing.checker.evidence import (
        Evidence,
        LoggedRequest,
        ProducedCommand,
        PublishedDeadLetter,
        PublishedOutcome,
    )

EXAMPLES: Final = 5
"""How many findings of a kind are kept as examples; all are counted."""
SECOND: Final = 1.0


@dataclass(slots=True)
class CheckReport:
    """
    What the check found.

    Attributes:
        counts: The number of findings of every kind; all 0 in a clean run.
        examples: The first few findings of each kind.
        highest_second: The most requests in any rolling second, by endpoint.

    """

    counts: dict[ViolationKind, int] = field(default_factory=lambda: dict.fromkeys(ViolationKind, 0))
    examples: list[Finding] = field(default_factory=list)
    highest_second: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        return not any(self.counts.values())

    def add(self, findings: Iterable[Finding]) -> None:
        """Count findings, and keep the first of each kind as examples."""
        for finding in findings:
            if self.counts[finding.violation] < EXAMPLES:
                self.examples.append(finding)
            self.counts[finding.violation] += 1


def check(evidence: Evidence, quota: int = QUOTA, remembered: int = REMEMBERED) -> CheckReport:
    """
    Judge a complete run: everything is published and read, and the API's log is complete. ``remembered`` is the number of outcomes
    for which the worker was told to know a command_id.
    """
    report = CheckReport()
    by_id = _by_id(evidence)
    first = {name: found[0] for name, found in by_id.items()}
    report.add(_lost_or_doubled(evidence, by_id))
    report.add(_wrong_status(evidence, first))
    report.add(_repeated_ids(evidence, first, remembered))
    report.add(_members(evidence, first))
    report.add(judge_answers(evidence.outcomes, evidence.requests, evidence.interruptions))
    report.add(_letters(evidence, first))
    report.highest_second = highest_seconds(evidence.requests)
    for endpoint, highest in report.highest_second.items():
        if highest > quota:
            report.add([Finding(ViolationKind.OVER_QUOTA, f"{endpoint}: {highest} requests in one second")])
    return report


def highest_seconds(requests: Iterable[LoggedRequest]) -> dict[str, int]:
    """Return the most requests that each endpoint read in any rolling second."""
    stamps: dict[str, list[float]] = defaultdict(list)
    for request in requests:
        stamps[request.endpoint].append(request.read_at)
    return {endpoint: _highest(sorted(found)) for endpoint, found in sorted(stamps.items())}


def _highest(stamps: Sequence[float]) -> int:
    return max(number - bisect_right(stamps, stamp - SECOND) for number, stamp in enumerate(stamps, 1))


def _by_id(evidence: Evidence) -> dict[str, list[PublishedOutcome]]:
    found: dict[str, list[PublishedOutcome]] = defaultdict(list)
    for published in evidence.outcomes:
        found[published.body.outcome_id].append(published)
    return found


def _name(evidence: Evidence, sent: ProducedCommand) -> str:
    return outcome_id(evidence.topic, sent.partition, sent.offset)


def _lost_or_doubled(
    evidence: Evidence, by_id: Mapping[str, Sequence[PublishedOutcome]]
) -> Iterator[Finding]:
    known = {_name(evidence, sent): sent for sent in evidence.sent}
    for name, sent in known.items():
        if sent.planned.fate is not ExpectedFate.UNREADABLE and name not in by_id:
            yield Finding(ViolationKind.LOST, f"{name} ({sent.planned.command_id} {sent.planned.kind})")
    for name, found in by_id.items():
        if len(found) > 1:
            yield Finding(
                ViolationKind.DOUBLED, f"{name}: {len(found)} outcomes, {[one.body.status for one in found]}"
            )
        command = known.get(name)
        if command is None or command.planned.fate is ExpectedFate.UNREADABLE:
            yield Finding(ViolationKind.STRAY, f"{name} is the outcome of no command")
            continue
        for outcome in found:
            if (outcome.partition, outcome.key) != (command.partition, command.planned.key):
                yield Finding(
                    ViolationKind.STRAY,
                    f"{name} is in partition {outcome.partition} under key {outcome.key!r}",
                )
            if outcome.body.command_id != command.planned.command_id:
                yield Finding(
                    ViolationKind.STRAY,
                    f"{name} names {outcome.body.command_id} and not {command.planned.command_id}",
                )


def _wrong_status(evidence: Evidence, first: Mapping[str, PublishedOutcome]) -> Iterator[Finding]:
    kicked = _kicked(evidence.requests)
    known = {_name(evidence, sent): sent for sent in evidence.sent}
    for name, sent in known.items():
        published = first.get(name)
        if published is None:
            continue
        for problem in _problems(sent, published.body, evidence, kicked):
            yield Finding(
                ViolationKind.WRONG_STATUS,
                f"{name} {sent.planned.command_id} is {published.body.status}: {problem}",
            )
        for problem in wrong_references(sent, published.body, first, known):
            yield Finding(ViolationKind.WRONG_STATUS, f"{name} {sent.planned.command_id}: {problem}")


def _kicked(requests: Iterable[LoggedRequest]) -> set[tuple[str, str]]:
    return {(one.target, user) for one in requests if one.effect.action == KICK for user in one.applied}


def _problems(
    sent: ProducedCommand, body: SeenOutcome, evidence: Evidence, kicked: set[tuple[str, str]]
) -> Iterator[str]:
    planned = sent.planned
    if planned.fate is ExpectedFate.REJECTED:
        named = body.error.field if body.error else None
        if body.status != "rejected":
            yield f"it has {planned.kind}, and must be rejected"
        elif planned.field is not None and not (named or "").startswith(planned.field):
            yield f"it has {planned.kind}, and its outcome names {named} instead of {planned.field}"
        return
    if body.status == "rejected":
        yield f"there is nothing wrong with it ({body.error.message if body.error else 'no reason given'})"
        return
    if planned.effect is not None:
        if body.action != planned.effect.action:
            yield f"its action is {planned.effect.action}"
        if getattr(body, TARGET_FIELDS[planned.effect.action]) != planned.target:
            yield f"its target is {planned.target}"
    if tuple(result.user_id for result in body.results) != planned.users:
        yield "its results do not name its users, each once and in order"
        return
    statuses = [result.status for result in body.results]
    if body.status != status_of(statuses):
        yield f"its results make it {status_of(statuses)}"
    if planned.fate is ExpectedFate.EXPIRED and not (NEVER_CALLED | {"expired"}).issuperset(statuses):
        yield "its not_after had passed before it was sent"
    for result in body.results:
        if result.status in ORDERED - evidence.ordered:
            yield f"{result.user_id} is {result.status}, and nobody ordered it"
        problem = _wrong_result(
            sent,
            result,
            is_bad=result.user_id in evidence.bad_users,
            was_kicked=(planned.target, result.user_id) in kicked,
        )
        if problem:
            yield problem


def _wrong_result(sent: ProducedCommand, result: SeenResult, *, is_bad: bool, was_kicked: bool) -> str | None:
    effect = sent.planned.effect
    if sent.planned.fate is ExpectedFate.EXPIRED or effect is None:
        return None
    if is_bad and result.status in IN_PLACE:
        return f"{result.user_id} does not exist, and is said to be {result.status}"
    if is_bad and result.status == "failed" and result.error_code not in NO_ACCOUNT:
        return f"{result.user_id} does not exist, and failed with {result.error_code}"
    if is_bad or result.status not in TRIED:
        return None
    # A user who was kicked during the run may rightly be missing when a later update comes.
    if effect.action == UPDATE and result.error_code == NOT_IN_ROOM and was_kicked:
        return None
    return f"{result.user_id} exists, and is {result.status} with {result.error_code}"


def _repeated_ids(
    evidence: Evidence, first: Mapping[str, PublishedOutcome], remembered: int
) -> Iterator[Finding]:
    # A record without a key may be in another partition than its repeat: nothing is promised for those. Nor is it for a repeat that
    # comes when more outcomes than ``remembered`` were published, as behind a long backlog of the partition.
    places = _places(evidence.outcomes)
    records: dict[tuple[int, str], list[ProducedCommand]] = defaultdict(list)
    for sent in sorted(evidence.sent, key=lambda one: (one.partition, one.offset)):
        if sent.planned.command_id is not None and sent.planned.effect is not None:
            records[sent.partition, sent.planned.command_id].append(sent)
    for repeats in records.values():
        done: dict[str, str] = {}
        for sent in repeats if len(repeats) > 1 else ():
            name = _name(evidence, sent)
            published = first.get(name)
            for result in published.body.results if published else ():
                earlier = done.get(result.user_id)
                if (
                    earlier is not None
                    and result.status not in REPEATED
                    and places[name] - places[earlier] <= remembered
                ):
                    what = f"{name} repeats {earlier}, and {result.user_id} is {result.status}"
                    yield Finding(ViolationKind.EXECUTED_AGAIN, what)
                if result.status in SETTLED:
                    done[result.user_id] = name  # of several the newest: its outcome renews what is known


def _places(outcomes: Iterable[PublishedOutcome]) -> dict[str, int]:
    """Return for each record how many outcomes its partition had before its first one."""
    counts: Counter[int] = Counter()
    places: dict[str, int] = {}
    for published in outcomes:
        places.setdefault(published.body.outcome_id, counts[published.partition])
        counts[published.partition] += 1
    return places


UserKey = tuple[str, str]
"""(target, user)."""


def _members(evidence: Evidence, first: Mapping[str, PublishedOutcome]) -> Iterator[Finding]:
    parts = _parts(evidence, first)
    effects = _effects(evidence.requests)
    for user_key in parts.keys() | effects.keys():
        for violation, what in judge(
            parts.get(user_key, ()), effects.get(user_key, ()), evidence.interruptions
        ):
            yield Finding(violation, f"{user_key[1]} in {user_key[0]}: {what}")


def _parts(evidence: Evidence, first: Mapping[str, PublishedOutcome]) -> dict[UserKey, list[CommandForUser]]:
    by_user: dict[UserKey, list[CommandForUser]] = defaultdict(list)
    held: set[tuple[int, str | None, str]] = set()
    for sent in sorted(evidence.sent, key=lambda one: (one.partition, one.offset)):
        planned = sent.planned
        if planned.effect is None:
            continue
        published = first.get(_name(evidence, sent))
        results = {one.user_id: one for one in published.body.results} if published else {}
        attempts, succeeded = _attempts(published.body) if published else (None, frozenset())
        for user in planned.users:
            result = results.get(user)
            record = (sent.partition, planned.command_id, user)
            by_user[planned.target, user].append(
                CommandForUser(
                    planned.effect,
                    result.status if result else "",
                    attempts,
                    published.at if published else float("inf"),
                    repeats=record in held,
                    request_id=result.request_id if result else None,
                    name=_name(evidence, sent),
                    succeeded=succeeded,
                )
            )
            if result is not None and result.status in SETTLED:
                held.add(record)
    return by_user


Attempts = frozenset[tuple[str, str]]


def _attempts(body: SeenOutcome) -> tuple[Attempts | None, Attempts]:
    """Return the requests that an outcome lists, None if it does not list all, and those that were answered with a success."""
    succeeded = frozenset(
        (one.call_id, one.sent_at) for one in body.calls if one.error is None and one.error_code == 0
    )
    if body.calls_omitted:
        return None, succeeded
    return frozenset((one.call_id, one.sent_at) for one in body.calls), succeeded


def _effects(requests: Iterable[LoggedRequest]) -> dict[UserKey, list[ObservedEffect]]:
    ordered: list[tuple[tuple[float, int], UserKey, LoggedRequest]] = []
    for request in requests:
        ordered += [(place, (request.target, user), request) for user, place in request.applied.items()]
    by_user: dict[UserKey, list[ObservedEffect]] = defaultdict(list)
    for (at, _), user_key, request in sorted(ordered, key=lambda one: one[0]):
        by_user[user_key].append(ObservedEffect(request.effect, at))
    return by_user


def _letters(evidence: Evidence, first: Mapping[str, PublishedOutcome]) -> Iterator[Finding]:
    known = {_name(evidence, sent): sent for sent in evidence.sent}
    wanted = {name for name, one in first.items() if one.body.status in DEAD_LETTERED}
    wanted |= {name for name, sent in known.items() if sent.planned.fate is ExpectedFate.UNREADABLE}
    found = Counter(letter.outcome_id for letter in evidence.letters)
    for name in sorted(wanted - found.keys()):
        yield Finding(ViolationKind.LETTER_MISSING, name)
    for name, count in found.items():
        if name not in wanted or count > 1:
            yield Finding(
                ViolationKind.LETTER_EXTRA,
                f"{name}: {count} dead letters, {1 if name in wanted else 0} expected",
            )
    for letter in evidence.letters:
        sent = known.get(letter.outcome_id)
        problem = _altered(letter, sent, first.get(letter.outcome_id)) if sent else None
        if problem:
            yield Finding(ViolationKind.LETTER_EXTRA, f"{letter.outcome_id}: {problem}")


def _altered(
    letter: PublishedDeadLetter, sent: ProducedCommand, published: PublishedOutcome | None
) -> str | None:
    if letter.key != sent.planned.key:
        return f"its key is {letter.key!r}"
    if not letter.value_omitted and letter.value != sent.planned.value:
        return "its value is not that of the command"
    error = published.body.error if published else None
    if not letter.error_code or (error is not None and error.code != letter.error_code):
        return f"its error code is {letter.error_code!r}, the outcome's {error.code if error else None!r}"
    return None
