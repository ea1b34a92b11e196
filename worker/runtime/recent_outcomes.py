# What was published recently, for the page: counts by status, the rooms that are slow or fail, the last failures, and the
# latest outcomes to look a command or user up in.
#
# It sees every outcome, so each may cost half a microsecond, and all of it is bounded. Nothing decides by it, and a restart
# forgets it: `moderation-worker outcomes` reads what is in Kafka. Not here: how the page shows it (status_page.py).

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from worker.domain.contract.outcomes import (
    NO_ANSWER,
    STATUSES,
    LeftToDo,
    OutcomeError,
    Result,
    ResultStatus,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.domain.contract.outcomes import Outcome
    from worker.domain.effects import Transaction

KEPT_BYTES: Final = 8 * 1024 * 1024
KEPT_OUTCOMES: Final = 10_000
"""What can be looked up, whichever is less. Searching through ten thousand stops the loop for some milliseconds."""
SPAN_SECONDS: Final = 30.0
SPANS: Final = 10
"""Rooms and statuses are counted in spans of time; the oldest is forgotten whole."""
ROOMS: Final = 500
"""The most rooms that a span counts one by one: 10 spans of 500 take 2 MiB."""
FAILURES: Final = 30
"""Kept however many outcomes come after them: a failure of last night is still the last one."""

OUTCOME_BYTES: Final = 1_000
USER_BYTES: Final = 260
FAILED_BYTES: Final = 700
PROBLEM_BYTES: Final = 1_200
"""What is kept of an outcome, of each of its users, of each that failed, and of each problem of a rejected record: rounded up."""

SENT: Final = frozenset(status for status, row in STATUSES.items() if row.tells_of_target)
"""The statuses that tell something of the room; commands with any other status ended without it."""
UNDONE: Final = frozenset(status for status in SENT if STATUSES[status].left_to_do is not LeftToDo.NOTHING)
"""The statuses of commands for which calls were made or waited for, and some user did not get what was asked for."""


class RecentOutcome(Struct, frozen=True, gc=False):
    """
    What is kept of one outcome; each field is explained at ``Outcome``.

    Attributes:
        took_ms: From its receipt to its last answer.

    """

    outcome_id: str
    command_id: str
    status: Status
    finished_at: str
    took_ms: float
    action: str | None
    app: str | None
    target: str | None
    issuer: str | None
    results: list[Result]
    user_ids: tuple[str, ...]
    request_ids: list[str]
    error: OutcomeError | None


class RecentFailure(Struct, frozen=True):
    """
    One outcome that is ``UNDONE`` or rejected, or the dead letter of a record whose id cannot be read.

    Attributes:
        code: Tencent's, or why it was rejected; None where time was over.
        users: How many users it names.

    """

    outcome_id: str
    status: str
    code: str | None
    message: str
    finished_at: str | None = None
    command_id: str | None = None
    action: str | None = None
    app: str | None = None
    target: str | None = None
    issuer: str | None = None
    request_id: str | None = None
    users: int = 0


@dataclass(slots=True)
class RoomStatistics:
    """
    The commands of one room that were carried out.

    Attributes:
        commands: How many.
        undone: How many of them are ``UNDONE``.
        total_ms: How long they took, added up.
        longest_ms: How long the slowest took.

    """

    commands: int = 0
    undone: int = 0
    total_ms: float = 0.0
    longest_ms: float = 0.0

    def add(self, other: RoomStatistics) -> None:
        """Add what was counted of the same room in another span."""
        self.commands += other.commands
        self.undone += other.undone
        self.total_ms += other.total_ms
        self.longest_ms = max(self.longest_ms, other.longest_ms)


RoomKey = tuple[str | None, str | None]
"""App and target."""


class _Span:
    """What was published within ``SPAN_SECONDS``: outcomes by status, rooms, and the commands of rooms beyond ``ROOMS``."""

    __slots__ = ("ends", "rooms", "statuses", "uncounted")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.statuses: dict[Status, int] = {}
        self.rooms: dict[RoomKey, RoomStatistics] = {}
        self.uncounted = 0


class RecentOutcomes:
    """
    Remembers what was published recently: a PublishObserver. ``now`` is always the monotonic time.

    Attributes:
        failures: The last ``FAILURES``, oldest first.

    """

    def __init__(self, kept_bytes: int = KEPT_BYTES, kept_outcomes: int = KEPT_OUTCOMES) -> None:
        self._most_bytes = kept_bytes
        self._most_outcomes = kept_outcomes
        # The outcomes of each transaction, with their bytes, oldest first: they come and go by transactions.
        self._blocks: deque[tuple[int, list[RecentOutcome]]] = deque()
        self._bytes = 0
        self._count = 0
        self._spans: deque[_Span] = deque(maxlen=SPANS)
        self._totals: dict[Status, int] = {}
        self.failures: deque[RecentFailure] = deque(maxlen=FAILURES)

    @property
    def kept(self) -> int:
        """How many outcomes can be looked up."""
        return self._count

    @property
    def bytes(self) -> int:
        """What those take in memory, at most."""
        return self._bytes

    @property
    def oldest_at(self) -> str | None:
        """When the oldest of them was finished."""
        return self._blocks[0][1][0].finished_at if self._blocks else None

    @property
    def totals(self) -> dict[Status, int]:
        """Outcomes by status since the start."""
        return self._totals

    # What comes in

    def published(self, transaction: Transaction, now: float) -> None:
        """Remember what was published."""
        span = self._span_of(now)
        rooms = span.rooms
        counts: dict[Status, int] = {}
        block: list[RecentOutcome] = []
        failed: list[Outcome] = []
        size = 0
        # This loop is what the page costs in a raid: nothing is called that the usual outcome does not need.
        for outgoing in transaction.outcomes:
            outcome = outgoing.outcome
            status = outcome.status
            results = outcome.results
            target = outcome.target
            took_ms = outcome.queued_ms + (outcome.calling_ms or 0.0)
            block.append(
                RecentOutcome(
                    outcome.outcome_id, outcome.command_id, status, outcome.finished_at, took_ms, outcome.action, outcome.app, target,
                    outcome.issuer, results, outcome.user_ids, outcome.request_ids, outcome.error,
                )
            )  # fmt: skip
            counts[status] = counts.get(status, 0) + 1
            size += _bytes_of(block[-1])
            if status in UNDONE or status is Status.REJECTED:
                failed.append(outcome)
            if status in SENT:
                key = (outcome.app, target)
                room = rooms.get(key)
                if room is None:
                    if len(rooms) >= ROOMS:
                        span.uncounted += 1
                        continue
                    room = rooms[key] = RoomStatistics()
                room.commands += 1
                room.undone += status in UNDONE
                room.total_ms += took_ms
                room.longest_ms = max(room.longest_ms, took_ms)
        for status, count in counts.items():
            span.statuses[status] = span.statuses.get(status, 0) + count
            self._totals[status] = self._totals.get(status, 0) + count
        self._keep(block, size)
        self._keep_failures(transaction, failed)

    def _span_of(self, now: float) -> _Span:
        if not self._spans or now >= self._spans[-1].ends:
            self._spans.append(_Span(now + SPAN_SECONDS))
        return self._spans[-1]

    def _keep(self, block: list[RecentOutcome], size: int) -> None:
        if size > self._most_bytes // 8:
            # A transaction of the largest records: one block of it could leave no room for any other, nor for itself.
            self._blocks.extend((_bytes_of(each), [each]) for each in block)
        elif block:
            self._blocks.append((size, block))
        self._bytes += size
        self._count += len(block)
        while self._bytes > self._most_bytes or self._count > self._most_outcomes:
            size, block = self._blocks.popleft()
            self._bytes -= size
            self._count -= len(block)

    def _keep_failures(self, transaction: Transaction, failed: list[Outcome]) -> None:
        self.failures.extend(map(_failure_of, failed[-FAILURES:]))
        if len(transaction.dead_letters) > len(failed):
            # Some have no outcome, because their id cannot be read.
            with_outcome = {each.outcome.outcome_id for each in transaction.outcomes}
            alone = [each for each in transaction.dead_letters if each.outcome_id not in with_outcome]
            self.failures.extend(
                RecentFailure(each.outcome_id, Status.REJECTED, each.error_code, each.error_message)
                for each in alone[-FAILURES:]
            )

    # What is asked

    def statuses(self, now: float) -> dict[Status, int]:
        """Count the outcomes of the last five minutes by status."""
        counts: dict[Status, int] = {}
        for span in self._spans_at(now):
            for status, count in span.statuses.items():
                counts[status] = counts.get(status, 0) + count
        return counts

    def rooms(self, now: float) -> tuple[dict[RoomKey, RoomStatistics], int]:
        """Return the rooms of the last five minutes, and how many commands of further ones were not counted."""
        rooms: dict[RoomKey, RoomStatistics] = {}
        uncounted = 0
        for span in self._spans_at(now):
            uncounted += span.uncounted
            for key, room in span.rooms.items():
                rooms.setdefault(key, RoomStatistics()).add(room)
        return rooms, uncounted

    def find(self, text: str) -> Iterator[RecentOutcome]:
        """Find the outcomes of a command, user, room or RequestId of exactly this name, the newest first."""
        for _, block in reversed(self._blocks):
            for each in reversed(block):
                if (
                    text in (each.command_id, each.target)
                    or text in each.request_ids
                    or text in each.user_ids
                    or any(result.user_id == text for result in each.results)
                ):
                    yield each

    def _spans_at(self, now: float) -> Iterator[_Span]:
        return (span for span in self._spans if span.ends > now - SPANS * SPAN_SECONDS)

    def __repr__(self) -> str:
        return f"<RecentOutcomes {self._count} kept, {self._bytes} bytes>"


def request_id_of(outcome: Outcome) -> str | None:
    """Return the RequestId of the call that decided: that of its first user with a code, else the last one."""
    decided = (each.request_id for each in outcome.results if each.error_code and each.request_id)
    return next(decided, outcome.request_ids[-1] if outcome.request_ids else None)


def _failure_of(outcome: Outcome) -> RecentFailure:
    code, message = _why(outcome)
    return RecentFailure(
        outcome_id=outcome.outcome_id,
        status=outcome.status,
        code=code,
        message=message,
        finished_at=outcome.finished_at,
        command_id=outcome.command_id,
        action=outcome.action,
        app=outcome.app,
        target=outcome.target,
        issuer=outcome.issuer,
        request_id=request_id_of(outcome),
        users=len(outcome.results) or len(outcome.user_ids),
    )


def _why(outcome: Outcome) -> tuple[str | None, str]:
    if outcome.error is not None:
        return outcome.error.code, outcome.error.message
    for result in outcome.results:
        if result.status is ResultStatus.FAILED:
            code = NO_ANSWER if result.error_code is None else str(result.error_code)
            return code, f"user {result.user_id!r}: {result.error_info or 'no text'}"
    for result in outcome.results:
        if result.status is ResultStatus.CANCELLED:
            return Status.CANCELLED, f"user {result.user_id!r}: {result.error_info}"
        if result.status is ResultStatus.SIMULATED:
            return None, f"user {result.user_id!r}: only simulated, as it was in shadow by then"
    return None, "its time was over before it could be sent"


def _bytes_of(recent: RecentOutcome) -> int:
    size = OUTCOME_BYTES + USER_BYTES * len(recent.results)
    if recent.status in UNDONE or recent.status is Status.REJECTED:
        size += _bytes_of_failure(recent)
    return size


def _bytes_of_failure(recent: RecentOutcome) -> int:
    """Return what a failure takes beyond what every outcome does: texts of Tencent, or of a record that nobody has checked."""
    problems = 0 if recent.error is None else 1 + len(recent.error.also)
    return FAILED_BYTES * len(recent.results) + PROBLEM_BYTES * problems + USER_BYTES * len(recent.user_ids)
