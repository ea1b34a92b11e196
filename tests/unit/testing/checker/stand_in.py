# A worker that is too simple to be wrong, for the checker's tests: one command after the other, one call for every twenty
# members, no time, no Kafka. Its evidence is clean; the tests then break it in one place.

from __future__ import annotations

import dataclasses
from itertools import count
from typing import TYPE_CHECKING, Any

from worker.testing.checker.contract import (
    ENDPOINTS,
    MEMBERS_PER_CALL,
    REQUEST_ID_ENDPOINTS,
    TARGET_FIELDS,
    SeenAttempt,
    SeenError,
    SeenOutcome,
    SeenResult,
    outcome_id,
)
from worker.testing.checker.evidence import (
    Evidence,
    ExpectedFate,
    LoggedRequest,
    ProducedCommand,
    PublishedDeadLetter,
    PublishedOutcome,
)

if TYPE_CHECKING:
    from worker.testing.checker.contract import (
        CommandedEffect,
    )
    from worker.testing.checker.evidence import PlannedRecord
    from worker.testing.demo.scenario import Scenario

TOPIC = "commands"
PARTITIONS = 6
BEGIN = 1_800_000_000.0
STEP = 0.05
"""Seconds between two requests."""


class StandIn:
    """Carries out a list of records and keeps the evidence."""

    def __init__(self, bad_users: tuple[str, ...] = ()) -> None:
        self._bad_users = frozenset(bad_users)
        self._numbers = count(1)
        self._offsets = dict.fromkeys(range(PARTITIONS), 0)
        self._done: dict[tuple[str, str], str] = {}
        self._sent: list[ProducedCommand] = []
        self._outcomes: list[PublishedOutcome] = []
        self._letters: list[PublishedDeadLetter] = []
        self._requests: list[LoggedRequest] = []

    @property
    def evidence(self) -> Evidence:
        return Evidence(
            TOPIC,
            tuple(self._sent),
            tuple(self._outcomes),
            tuple(self._letters),
            tuple(self._requests),
            self._bad_users,
        )

    def carry_out(self, planned: PlannedRecord) -> None:
        partition = sum(planned.key or b"") % PARTITIONS
        offset = self._offsets[partition]
        self._offsets[partition] = offset + 1
        sent = ProducedCommand(planned, partition, offset)
        self._sent.append(sent)
        name = outcome_id(TOPIC, partition, offset)
        body = self._body(planned, name)
        if body is not None:
            self._outcomes.append(PublishedOutcome(body, partition, planned.key, at=self._now()))
        if body is None or body.status in {"rejected", "failed"}:
            code = body.error.code if body and body.error else "unreadable"
            self._letters.append(PublishedDeadLetter(name, code, planned.key, planned.value))

    def _now(self) -> float:
        return BEGIN + STEP * len(self._requests)

    def _body(self, planned: PlannedRecord, name: str) -> SeenOutcome | None:
        if planned.fate is ExpectedFate.UNREADABLE:
            return None
        command_id = planned.command_id or ""
        if planned.fate is ExpectedFate.REJECTED or planned.effect is None:
            return SeenOutcome(
                name, command_id, "rejected", error=SeenError("bad_field", planned.kind, planned.field)
            )
        action = planned.effect.action
        target: dict[str, Any] = {TARGET_FIELDS[action]: planned.target}
        if planned.fate is ExpectedFate.EXPIRED:
            late = [SeenResult(user, "expired") for user in planned.users]
            return SeenOutcome(name, command_id, "expired", action, results=late, **target)
        done = {
            user: self._done[command_id, user] for user in planned.users if (command_id, user) in self._done
        }
        rest = tuple(user for user in planned.users if user not in done)
        results, calls = self._executed(planned, planned.effect, rest)
        results |= {
            user: SeenResult(user, "duplicate", duplicate_of=earlier) for user, earlier in done.items()
        }
        for user in rest:
            if results[user].status == "applied":
                self._done[command_id, user] = name
        statuses = {result.status for result in results.values()}
        status = "partially_succeeded" if "failed" in statuses else "succeeded"
        if len(statuses) == 1:
            status = {"applied": "succeeded"}.get(*statuses, *statuses)
        return SeenOutcome(
            name,
            command_id,
            status,
            action,
            results=[results[user] for user in planned.users],
            calls=calls,
            request_ids=[one.request_id for one in calls if one.request_id],
            duplicate_of=next(iter(done.values())) if status == "duplicate" else None,
            error=SeenError("10019", "no such account") if status == "failed" else None,
            **target,
        )

    def _executed(
        self, planned: PlannedRecord, effect: CommandedEffect, members: tuple[str, ...]
    ) -> tuple[dict[str, SeenResult], list[SeenAttempt]]:
        bad = [user for user in members if user in self._bad_users]
        good = [user for user in members if user not in self._bad_users]
        calls: list[tuple[str, ...]] = [(user,) for user in bad]
        calls += [tuple(good[at : at + MEMBERS_PER_CALL]) for at in range(0, len(good), MEMBERS_PER_CALL)]
        results: dict[str, SeenResult] = {}
        attempts = []
        for users in calls:
            request = self._request(planned, effect, users)
            attempts.append(_attempt_of(request))
            for user in users:
                if request.code == 0:
                    results[user] = SeenResult(user, "applied", request.request_id)
                else:
                    results[user] = SeenResult(user, "failed", request.request_id, request.code)
        return results, attempts

    def _request(
        self, planned: PlannedRecord, effect: CommandedEffect, users: tuple[str, ...]
    ) -> LoggedRequest:
        at = self._now()
        number = next(self._numbers)
        endpoint = ENDPOINTS[effect.action]
        room = endpoint in REQUEST_ID_ENDPOINTS
        bad = users[0] in self._bad_users
        request = LoggedRequest(
            at,
            endpoint,
            planned.target,
            users,
            as_sent(effect, at),
            (70107 if room else 10019) if bad else 0,
            f"Id-{number}" if room else None,
            {} if bad else dict.fromkeys(users, (at, number)),
        )
        self._requests.append(request)
        return request


def as_sent(effect: CommandedEffect, at: float) -> CommandedEffect:
    """Return what the request says when it is read at ``at``: the end of a ban has become a duration."""
    if effect.until is None:
        return effect
    return dataclasses.replace(effect, until=None, duration=round(effect.until - at))


def honest_run(raid: Scenario) -> Evidence:
    """Return the evidence of a run without any violation."""
    worker = StandIn(raid.bad_users)
    for planned in raid.records:
        worker.carry_out(planned)
    return worker.evidence


def _attempt_of(request: LoggedRequest) -> SeenAttempt:
    name = f"call-{request.read_at:.3f}"
    return SeenAttempt(
        name,
        request.endpoint,
        f"{request.read_at:.3f}",
        len(request.users),
        request.request_id,
        200,
        request.code,
    )
