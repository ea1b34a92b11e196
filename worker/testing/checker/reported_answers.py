# Judges RequestIds and error codes: an outcome must report what the API's log shows for that request.
#
# Pure. Whether an effect was in order, or wanted at all, is judged in member_history.py.

from __future__ import annotations

from collections import Counter, defaultdict
from math import inf
from typing import TYPE_CHECKING

from worker.testing.checker.contract import ENDPOINTS, IN_PLACE, REQUEST_ID_ENDPOINTS
from worker.testing.checker.evidence import Finding, ViolationKind
from worker.testing.checker.member_history import LATE_EFFECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from worker.testing.checker.contract import SeenAttempt, SeenOutcome, SeenResult
    from worker.testing.checker.evidence import Interruption, LoggedRequest, PublishedOutcome


def judge_answers(
    outcomes: Sequence[PublishedOutcome],
    requests: Sequence[LoggedRequest],
    interruptions: Sequence[Interruption] = (),
) -> Iterator[Finding]:
    """Yield every RequestId and code in the outcomes that the log does not confirm, and every missing RequestId."""
    by_id = {request.request_id: request for request in requests if request.request_id is not None}
    codes: dict[tuple[str, str, str], set[int | None]] = defaultdict(set)
    for request in requests:
        for user in request.users:
            codes[request.endpoint, request.target, user].add(request.code)
    for published in outcomes:
        body = published.body
        for problem in _wrong(body, by_id, codes):
            yield Finding(ViolationKind.UNKNOWN_ANSWER, f"{body.outcome_id} {body.command_id}: {problem}")
    for what in (*_invented(outcomes, requests), *_unreported(outcomes, requests, interruptions)):
        yield Finding(ViolationKind.UNKNOWN_ANSWER, what)


def _invented(outcomes: Iterable[PublishedOutcome], requests: Iterable[LoggedRequest]) -> Iterator[str]:
    """Yield where more answers without a RequestId are reported than the API gave: each was reported by all whom it was for."""
    reported = {
        (
            one.call_id,
            one.sent_at,
            one.endpoint,
            body.group_id or body.room_id or "",
            one.error_code,
            one.members,
        )
        for body in (published.body for published in outcomes)
        for one in body.calls
        if one.request_id is None and one.http_status == 200 and one.error_code is not None
    }
    given = Counter(
        (each.endpoint, each.target, each.code, len(each.users))
        for each in requests
        if each.request_id is None
    )
    for kind, count in Counter(answer[2:] for answer in reported).items():
        if count > given[kind]:
            endpoint, target, code, members = kind
            yield (
                f"{count} calls of {endpoint} for {members} members of {target} are said to be answered with {code}, "
                f"{given[kind]} were"
            )


def _unreported(
    outcomes: Iterable[PublishedOutcome],
    requests: Iterable[LoggedRequest],
    interruptions: Sequence[Interruption],
) -> Iterator[str]:
    """Yield where the API gave RequestIds that no outcome reports: more of them than answers that did not arrive, or are omitted."""
    bodies = [published.body for published in outcomes]
    reported = {request_id for body in bodies for request_id in body.request_ids}
    lost = {
        (one.endpoint, one.call_id, one.sent_at)
        for body in bodies
        for one in body.calls
        if one.request_id is None and one.error is not None
    }
    unlisted = Counter(endpoint for endpoint, _, _ in lost)
    for body in bodies:
        if body.calls_omitted and body.action in ENDPOINTS:
            unlisted[ENDPOINTS[body.action]] += body.calls_omitted
    # What was in flight in a process that was killed is in no outcome.
    since = max((one.end + LATE_EFFECT for one in interruptions), default=-inf)
    missing = [
        each
        for each in requests
        if each.request_id and each.request_id not in reported and each.read_at > since
    ]
    for endpoint, count in Counter(each.endpoint for each in missing).items():
        if count > unlisted[endpoint]:
            names = [each.request_id for each in missing if each.endpoint == endpoint]
            yield f"{count} RequestIds of {endpoint} are in no outcome: {names[:3]}"


def _wrong(
    body: SeenOutcome,
    by_id: Mapping[str, LoggedRequest],
    codes: Mapping[tuple[str, str, str], set[int | None]],
) -> Iterator[str]:
    if body.action not in ENDPOINTS:
        return
    endpoint = ENDPOINTS[body.action]
    target = body.group_id or body.room_id or ""
    for one in body.calls:
        problem = _wrong_call(one, endpoint, target, by_id)
        if problem:
            yield problem
    for result in body.results:
        problem = _wrong_result(result, endpoint, by_id, codes.get((endpoint, target, result.user_id), set()))
        if problem:
            yield problem
    listed = [one.request_id for one in body.calls if one.request_id]
    if not body.calls_omitted and body.request_ids != listed:
        yield f"request_ids are {body.request_ids}, and its calls list {listed}"


def _wrong_call(
    one: SeenAttempt, endpoint: str, target: str, by_id: Mapping[str, LoggedRequest]
) -> str | None:
    if one.endpoint != endpoint:
        return f"call {one.call_id} went to {one.endpoint}"
    if one.request_id is None:
        answered = one.http_status == 200 and one.error_code is not None
        return (
            f"call {one.call_id} was answered and has no RequestId"
            if answered and endpoint in REQUEST_ID_ENDPOINTS
            else None
        )
    request = by_id.get(one.request_id)
    if request is None:
        return f"the API never gave RequestId {one.request_id}"
    if (request.endpoint, request.target, request.code) != (endpoint, target, one.error_code):
        return f"RequestId {one.request_id} was {request.endpoint} for {request.target} with {request.code}, not {one.error_code}"
    if len(request.users) != one.members:
        return f"RequestId {one.request_id} had {len(request.users)} members, not {one.members}"
    return None


def _wrong_result(
    result: SeenResult, endpoint: str, by_id: Mapping[str, LoggedRequest], codes: set[int | None]
) -> str | None:
    if result.request_id is not None and result.status != "duplicate":
        request = by_id.get(result.request_id)
        if request is None:
            return f"the API never gave RequestId {result.request_id} (of {result.user_id})"
        if result.user_id not in request.users:
            return f"RequestId {result.request_id} was not for {result.user_id}"
        if result.status == "applied" and (request.code != 0 or result.user_id not in request.applied):
            return f"RequestId {result.request_id} did not apply it to {result.user_id} (code {request.code})"
    elif result.status in IN_PLACE and endpoint in REQUEST_ID_ENDPOINTS:
        return f"{result.user_id} is {result.status} without a RequestId"
    if result.status in {"failed", "already_applied"} and result.error_code not in codes:
        return f"{result.user_id} is {result.status} with {result.error_code}, a code that the API never gave for it"
    return None
