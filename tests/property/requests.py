# Every request that an engine let go, and how it ended. Each is judged in the moment in which it leaves: P3, P4, P5, P6.
#
# The judgement goes by what was commanded and what has happened, not by the engine's own rules. Of the engine it knows
# only which commands a request stands for: its body does not say.

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.control_records import OrderState
from worker.domain.contract.error_codes import ALREADY, Verdict
from worker.domain.contract.outcomes import DONE_FOR_ID, HOLDS, ResultStatus
from worker.domain.contract.timestamps import instant_of

if TYPE_CHECKING:
    from tests.property.topic import Record, Topic
    from worker.domain.contract.actions import Action
    from worker.domain.contract.outcomes import Outcome, Result
    from worker.domain.effects import Attempt, AttemptResult
    from worker.domain.engine_settings import EngineSettings

Line = tuple[str, str, str]
"""(app, target, user)."""

UNKNOWN_FOR: Final = 3.0
"""Tencent's own budget for a request: for so long one without an answer may still take effect."""
COOLING_OFF: Final = 3.0


@dataclass(slots=True, eq=False)
class PartitionAssignment:
    """
    A partition in an engine's hands, from its assignment until it is gone.

    Attributes:
        position: The next offset to fetch.
        cooling_off: How long nothing of it may be sent: as long as requests of the owner before may be on their way or be counted.
        refetched: It was fetched from once since it was paused: what was under way.
        may_end: While it closes: the offsets of the commands that were started before, and may be finished.
        sent: The last offset that was sent of each line.
        carried: The (offset, user) that a request has carried.
        unknown: Those of them that one without an answer has carried.

    """

    number: int
    since: float
    generation: int
    first: int
    position: int
    cooling_off: float = COOLING_OFF
    paused: bool = False
    refetched: bool = False
    may_end: frozenset[int] | None = None
    sent: dict[Line, int] = field(default_factory=dict)
    carried: set[tuple[int, str]] = field(default_factory=set)
    unknown: set[tuple[int, str]] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Request:
    """
    One try of one call.

    Attributes:
        carried: The commands, by assignment and record, and the users that the request stands for.
        left_at: When the engine let it go.
        half: It belongs to a search.
        probe: It tests whether an endpoint works again.
        ended_at: When its answer, or the failure, was there; None: it is out.

    """

    send: Attempt
    target: str
    effect: tuple[object, ...]
    carried: list[tuple[PartitionAssignment, Record, str]]
    left_at: float
    half: bool
    probe: bool
    ended_at: float | None = None
    try_: AttemptResult | None = None

    @property
    def endpoint_key(self) -> tuple[str, str]:
        """What the quota is counted by."""
        return self.send.app, self.send.endpoint

    @property
    def users(self) -> list[str]:
        """The users it names."""
        return [user for _, _, user in self.carried]

    @property
    def went(self) -> bool:
        """Whether it left the process, as far as is known."""
        return self.try_ is None or self.try_.verdict is not Verdict.UNSENT

    def may_act(self, now: float) -> bool:
        """Whether it may still take effect."""
        if self.ended_at is None:
            return True
        assert self.try_ is not None
        return self.try_.end_unknown and now < self.try_.ended_at + UNKNOWN_FOR


def effect_of(record: Record, *, reasons_matter: bool) -> tuple[object, ...]:
    """What the command does to each of its members: two with equal effects do the same."""
    fields = record.fields
    assert fields is not None
    reason = fields.get("reason") if reasons_matter else None
    info = tuple(sorted(fields.get("member_info", {}).items()))
    return (fields["action"], fields.get("duration"), fields.get("banned_until"), reason, info)


class Requests:
    """
    The requests of one engine, and the calls that they belong to.

    Attributes:
        ordered: What was ever ordered for a record, by its outcome_id.
        latest: The latest time since 1970 that any engine was given: what is old then may be forgotten.
        remembered_at: Outcome → when its engine heard that it is published, by a clock that may have been set back since it was made.

    """

    def __init__(self, settings: EngineSettings, topic: Topic) -> None:
        self._settings = settings
        self._topic = topic
        self._by_line: defaultdict[Line, list[Request]] = defaultdict(list)
        self._by_endpoint: defaultdict[tuple[str, str], list[Request]] = defaultdict(list)
        self._suspects: set[tuple[tuple[str, str], str]] = set()
        self._open_calls: dict[str, Request] = {}
        self.by_id: dict[str, Request] = {}
        self.ordered: defaultdict[str, set[OrderState]] = defaultdict(set)
        self.latest = 0.0
        self.remembered_at: dict[str, float] = {}
        self.counted = 0

    def left(self, request: Request, owned: dict[int, PartitionAssignment], wall: float) -> None:
        """A request leaves now; ``wall`` is what the engine holds for the time since 1970."""
        for assignment, record, user in request.carried:
            self._judge_command(request, assignment, record, user, owned, wall)
        self._judge_order(request)
        self._judge_target(request, owned)
        self._by_endpoint[request.endpoint_key].append(request)
        self._judge_quota(request, owned)
        self._open_calls[request.send.call_id] = request

    def ended(self, request: Request, try_: AttemptResult, now: float) -> None:
        """Its answer, or the lack of one, is there."""
        request.try_, request.ended_at = try_, now
        if try_.end_unknown:
            for assignment, record, user in request.carried:
                assignment.unknown.add((record.offset, user))
        if try_.request_id is not None:
            self.by_id[try_.request_id] = request
        suspect = (request.endpoint_key, request.target)
        if try_.verdict in (Verdict.TRANSPORT, Verdict.RETRY):
            self._suspects.add(suspect)
        elif try_.verdict.proves_life:
            self._suspects.discard(suspect)

    def over(self, call_id: str) -> None:
        """The call makes no further try."""
        self._open_calls.pop(call_id, None)

    def forgotten(self, known: set[tuple[tuple[str, str], str]]) -> None:
        """Of targets without any work the engine may forget how they answered. ``known`` are the others, by endpoint and name."""
        self._suspects &= known

    def crashed(self) -> None:
        """
        Their engine is gone, and with it what it knew. Whatever was under way takes effect within Tencent's budget, and no
        successor sends anything before that has passed.
        """
        self._by_line.clear()
        self._by_endpoint.clear()
        self._suspects.clear()
        self._open_calls.clear()

    # What is judged when a request leaves

    def _judge_command(
        self,
        request: Request,
        assignment: PartitionAssignment,
        record: Record,
        user: str,
        owned: dict[int, PartitionAssignment],
        wall: float,
    ) -> None:
        fields, now = record.fields, request.left_at
        assert fields is not None
        name = f"{user} of {record.outcome_id}"
        assert owned.get(record.partition) is assignment, f"{name} belongs to another owner"
        is_marked = self._topic.partitions[record.partition].slice_free_in is not None
        assert not is_marked, f"P5: {name} was sent under a mark"
        assert now >= assignment.since + assignment.cooling_off, (
            f"P5: {name} was sent before its partition had settled"
        )
        may_end = assignment.may_end
        assert may_end is None or record.offset in may_end, f"P12: {name} was started while it was to go"
        assert not self._topic.partitions[record.partition].is_settled(record.offset), f"P2: {name} is done"
        assert user in record.users
        assert fields.get("app", "main") == request.send.app
        assert record.target == request.target
        assert ACTIONS[fields["action"]].endpoint == request.send.endpoint
        assert effect_of(record, reasons_matter=self._settings.reasons_matter) == request.effect
        for limit in ("not_after", "banned_until"):
            assert limit not in fields or wall <= instant_of(fields[limit]), f"{name} was sent too late"
        assert not self._holds(record, user), f"P3: {name} was carried out under its id before"

    def _holds(self, record: Record, user: str) -> bool:
        """Whether an outcome with the record's command_id, within what is remembered, says that the effect is in place."""
        assert record.fields is not None
        outcomes = self._topic.partitions[record.partition].outcomes[-self._settings.restore_records :]
        command_id, window = record.fields["command_id"], self._settings.dedupe_window - 1
        of_id = [each for each in outcomes if each.command_id == command_id and each.status != "rejected"]
        if not of_id or self._age(of_id[-1]) >= window:  # the newest replaces what the others said
            return False
        return any(
            each.user_id == user and each.status in HOLDS
            for outcome in of_id
            if self._age(outcome) < window
            for each in outcome.results
        )

    def _age(self, outcome: Outcome) -> float:
        """The most seconds that any engine may take for the age of its command_id: a step of the clock ages it."""
        finished_at = instant_of(outcome.finished_at)
        return self.latest - min(finished_at, self.remembered_at.get(outcome.outcome_id, finished_at))

    def _judge_order(self, request: Request) -> None:
        now = request.left_at
        for assignment, record, user in request.carried:
            line = (request.send.app, request.target, user)
            before = assignment.sent.get(line, -1)
            assert before <= record.offset, f"P4: {line} at {record.offset}, after {before}"
            assignment.sent[line] = record.offset
            assignment.carried.add((record.offset, user))
            earlier = [each for each in self._by_line[line] if each.may_act(now)]
            for each in earlier:
                assert each.effect == request.effect, f"P4: {line}: {request.effect} during {each.effect}"
            self._by_line[line] = [*earlier, request]

    def _judge_target(self, request: Request, owned: dict[int, PartitionAssignment]) -> None:
        """A target has its share of the permits, and no more; one that does not answer has one call at a time."""
        if request.probe:
            return
        mine = (request.endpoint_key, request.target)
        out = [
            each
            for each in self._by_endpoint[request.endpoint_key]
            if each.ended_at is None and each.target == request.target
        ]
        bound = max(2, self._owned(request, owned) // 8)
        assert len(out) < bound, f"P6: {request.target} has {len(out)} requests out"
        if mine in self._suspects:
            assert not out, f"P6: {request.target} does not answer, and gets another request"
            others = [
                each
                for each in self._open_calls.values()
                if (each.endpoint_key, each.target) == mine and each.send.call_id != request.send.call_id
            ]
            is_new = request.send.number == 1 and not request.half
            assert not (is_new and others), f"P6: {request.target} does not answer, and gets another call"

    def _judge_quota(self, request: Request, owned: dict[int, PartitionAssignment]) -> None:
        now, window = request.left_at, self._settings.window
        requests = [each for each in self._by_endpoint[request.endpoint_key] if each.went]
        if self._settings.window_from_send:
            counted = [each for each in requests if each.left_at > now - window]
        else:
            counted = [each for each in requests if each.ended_at is None or each.ended_at > now - 1.0]
        self._by_endpoint[request.endpoint_key] = [
            each for each in requests if each.ended_at is None or each in counted
        ]
        slices = self._owned(request, owned)
        assert len(counted) <= slices, f"P5: {len(counted)} requests to {request.send.endpoint} of {slices}"

    def _owned(self, request: Request, owned: dict[int, PartitionAssignment]) -> int:
        """The permits of the partitions that are this engine's and have settled."""
        settings = self._settings
        limit = settings.calls_per_second.get(request.send.endpoint, settings.default_calls_per_second)
        total = 0
        for number, assignment in owned.items():
            if request.left_at >= assignment.since + assignment.cooling_off:
                total += limit * (number + 1) // settings.partitions - limit * number // settings.partitions
        return total

    # What is judged when an outcome is published

    def judge_outcome(self, outcome: Outcome, record: Record, assignment: PartitionAssignment) -> None:
        """
        The outcome tells the truth: what it calls applied was sent and answered so, and what it calls needless was not sent.
        """
        if record.fields is None or outcome.status == "rejected":
            return
        assert [each.user_id for each in outcome.results] == list(dict.fromkeys(record.users))
        for result in outcome.results:
            self._judge_result(result, record, assignment)

    def _judge_result(self, result: Result, record: Record, assignment: PartitionAssignment) -> None:
        fields, user = record.fields, result.user_id
        assert fields is not None
        decided = self.by_id.get(result.request_id or "")
        effect = effect_of(record, reasons_matter=self._settings.reasons_matter)
        mine = (record.offset, user)
        match result.status:
            case ResultStatus.APPLIED:
                assert decided is not None
                assert decided.try_ is not None
                assert decided.try_.verdict is Verdict.DONE, f"{record.outcome_id}: {user} was not applied"
                assert user in decided.users
                assert effect == decided.effect
            case ResultStatus.ALREADY_APPLIED:
                assert decided is not None
                assert (fields["action"], result.error_code) in ALREADY
                assert result.inferred or user in decided.users
            case ResultStatus.FAILED if decided is not None:
                assert decided.try_ is not None
                assert decided.try_.verdict not in (Verdict.DONE, Verdict.FATAL, Verdict.LOCKED)
                assert result.inferred or user in decided.users
            case ResultStatus.SUPERSEDED:
                assert mine not in assignment.carried, (
                    f"{record.outcome_id}: {user} was sent, and is called superseded"
                )
                later = self._named(result.superseded_by)
                assert later.partition != record.partition or later.offset > record.offset
                assert user in later.users
            case ResultStatus.CANCELLED:
                assert OrderState.CANCEL in self.ordered[record.outcome_id]
                assert mine not in assignment.unknown
            case ResultStatus.SIMULATED:
                assert OrderState.SHADOW in self.ordered[record.outcome_id]
                assert mine not in assignment.unknown
            case ResultStatus.EXPIRED:
                assert "not_after" in fields or "banned_until" in fields
                assert mine not in assignment.unknown
            case ResultStatus.DUPLICATE:
                earlier = self._named(result.duplicate_of)
                if earlier.partition != record.partition:  # which may end later, or with its next owner
                    assert decided is None or (decided.effect == effect and user in decided.users)
                    return
                assert earlier.offset < record.offset
                published = self._topic.partitions[record.partition].by_offset[earlier.offset]
                is_same_id = published.command_id == fields["command_id"]
                done = [
                    each.user_id
                    for each in published.results
                    if each.status in (DONE_FOR_ID if is_same_id else HOLDS)
                ]
                assert user in done, f"{record.outcome_id} repeats what {earlier.outcome_id} did not do"

    def _named(self, outcome_id: str | None) -> Record:
        partitions = self._topic.partitions
        return next(
            record
            for partition in partitions
            for record in partition.records
            if record.outcome_id == outcome_id
        )


def read_body(send: Attempt) -> tuple[Action, str, list[str], dict[str, Any]]:
    """What a request says: the action, the target, the users, and the rest of its body."""
    action = next(action for action in ACTIONS.values() if action.endpoint == send.endpoint)
    body = msgspec.json.decode(send.body)
    target = body.pop(action.target_key)
    members = body.pop(action.members_key)
    if isinstance(members, dict):
        return action, target, [members.pop("Member_Account")], members
    return action, target, members, body


def judge_body(send: Attempt, records: list[Record], users: list[str], wall: float) -> str:
    """A request says what its commands say. Returns its target."""
    action, target, named, rest = read_body(send)
    assert named == users
    assert send.members == len(users) <= action.members_per_call
    assert len(set(users)) == len(users)
    fields = records[0].fields
    assert fields is not None
    expected: dict[str, Any] = {}
    if "member_info" in fields:
        names = {"name_card": "NameCard", "role": "Role", "custom_info": "CustomInfo"}
        expected = {names[name]: value for name, value in fields["member_info"].items()}
    if "duration" in fields:
        expected["Duration"] = fields["duration"]
    if "banned_until" in fields:
        expected["Duration"] = ceil(instant_of(fields["banned_until"]) - wall)
    if "reason" in fields:
        expected[action.reason_key] = fields["reason"]
    assert rest == expected
    return target
