# The nouns of what became of a command: Outcome, its Results and Calls, and RememberedCommandId, by which its command is recognised again. The
# status of a command follows from its results by one rule, and the consequences of a status from one table, both here.
#
# Outcome, and the Structs and enums that it is made of, are the wire format: config/outcome.schema.json is generated from them.
# The rows of the tables, LeftToDo, HashedUserSet and RememberedCommandId are not: they stay within this process.

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from worker.domain.contract.parameters import Parameters
from worker.domain.contract.raw_records import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT_BYTES: Final = 512
"""The most of a text that came from Tencent or the transport; what the command brought is never cut."""
CALLS_AT_EITHER_END: Final = 50
"""Of a command with more than twice as many attempts, only this many at each end are listed."""


class Status(StrEnum):
    """What became of a command; ``STATUSES`` has what follows."""

    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    """An operator's decision: it was not sent, and no attempt will be made."""
    SIMULATED = "simulated"
    """Shadow: all was done but the request."""


class ResultStatus(StrEnum):
    """What became of one member of a command; ``RESULTS`` has what follows."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SIMULATED = "simulated"


class LeftToDo(Enum):
    """What is left of a command for whoever sent it."""

    NOTHING = 0
    """It has, or needs, no effect of its own."""
    UNSENT = 1
    """No request carried it: the same may be sent again."""
    NOT_APPLIED = 2
    """It was refused, for some of its users at least."""


@dataclass(frozen=True, slots=True)
class StatusRow:
    """
    What follows from a command's status.

    Attributes:
        left_to_do: What the sender may still have to do.
        dead_letter: The record goes to the dead-letter topic as well.
        remembered: A copy of its id is compared with it.
        applies: Its effect may hold for some of its users.
        tells_of_target: It was carried out, or waited until it expired: how it ended tells of its group or room.
        has: Fields of the outcome that are always there.
        may_have: Fields that may be there. A field that only one row names occurs with that status alone.

    """

    left_to_do: LeftToDo
    dead_letter: bool = False
    remembered: bool = True
    applies: bool = False
    tells_of_target: bool = False
    has: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()


STATUSES: Final[dict[Status, StatusRow]] = {
    Status.SUCCEEDED: StatusRow(LeftToDo.NOTHING, applies=True, tells_of_target=True),
    Status.PARTIALLY_SUCCEEDED: StatusRow(LeftToDo.NOT_APPLIED, applies=True, tells_of_target=True),
    Status.FAILED: StatusRow(LeftToDo.NOT_APPLIED, dead_letter=True, tells_of_target=True, has=("error",)),
    Status.REJECTED: StatusRow(
        LeftToDo.NOT_APPLIED, dead_letter=True, remembered=False, has=("error",), may_have=("user_ids",)
    ),
    Status.DUPLICATE: StatusRow(LeftToDo.NOTHING, has=("duplicate_of",)),
    Status.SUPERSEDED: StatusRow(LeftToDo.NOTHING, has=("superseded_by",)),
    Status.EXPIRED: StatusRow(LeftToDo.UNSENT, tells_of_target=True),
    Status.CANCELLED: StatusRow(LeftToDo.UNSENT, dead_letter=True, has=("error",)),
    Status.SIMULATED: StatusRow(
        LeftToDo.NOTHING, remembered=False, may_have=("duplicate_of", "superseded_by")
    ),
}
"""A row for each status: schemas, dead letters, memory, page and exit codes read it."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """
    What follows from a member's result.

    Attributes:
        status: Of a command all of whose members ended like this.
        holds: The commanded effect is in place.
        done_for_id: The command_id asks for nothing more. What a later command has made needless is among them: a copy that comes
            late (a producer's retry) would undo the later command.
        done_for_shadow_id: It does so among commands in shadow alone.

    """

    status: Status
    holds: bool = False
    done_for_id: bool = False
    done_for_shadow_id: bool = False


RESULTS: Final[dict[ResultStatus, ResultRow]] = {
    ResultStatus.APPLIED: ResultRow(Status.SUCCEEDED, holds=True, done_for_id=True),
    ResultStatus.ALREADY_APPLIED: ResultRow(Status.SUCCEEDED, holds=True, done_for_id=True),
    ResultStatus.DUPLICATE: ResultRow(Status.DUPLICATE, holds=True, done_for_id=True),
    ResultStatus.SUPERSEDED: ResultRow(Status.SUPERSEDED, done_for_id=True),
    ResultStatus.FAILED: ResultRow(Status.FAILED),
    ResultStatus.CANCELLED: ResultRow(Status.CANCELLED),
    ResultStatus.SIMULATED: ResultRow(Status.SIMULATED, done_for_shadow_id=True),
    ResultStatus.EXPIRED: ResultRow(Status.EXPIRED),
}
"""A row for each result. Of several that settle nothing, the one that comes first here decides the status of the command."""

HOLDS: Final = frozenset(result for result, row in RESULTS.items() if row.holds)
DONE_FOR_ID: Final = frozenset(result for result, row in RESULTS.items() if row.done_for_id)
DONE_FOR_SHADOW_ID: Final = DONE_FOR_ID | {
    result for result, row in RESULTS.items() if row.done_for_shadow_id
}
DEAD_LETTERED: Final = frozenset(status for status, row in STATUSES.items() if row.dead_letter)
"""The commands that are dead-lettered, besides records without a readable id."""
REMEMBERED: Final = frozenset(status for status, row in STATUSES.items() if row.remembered)


def has_field(field: str, status: Status) -> bool:
    """Return whether an outcome of this status may have a field that some statuses have and others have not."""
    row = STATUSES[status]
    return field in row.has or field in row.may_have


class Result(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    What became of one member.

    Attributes:
        request_id: Tencent's, of the call that decided; live and room services only.
        inferred: The member was never refused alone; it is what remained when all others of its batch had passed.
        duplicate_of: The outcome_id whose call did this.
        superseded_by: The outcome_id of the later command that made this one needless.

    """

    user_id: str
    status: ResultStatus
    request_id: str | None = None
    error_code: int | None = None
    error_info: str | None = None
    inferred: bool = False
    duplicate_of: str | None = None
    superseded_by: str | None = None


class AttemptRecord(Struct, frozen=True, omit_defaults=True):
    """
    One HTTP request that carried the command.

    Attributes:
        call_id: Ours; attempts of one call share it.
        error: What kept an answer away (``timeout``, ``connect``, ``reset``, ``cut``, ``not_json`` …).
        sent_at: RFC 3339.
        members: How many members the request carried, of all commands.

    """

    call_id: str
    endpoint: str
    sent_at: str
    elapsed_ms: float
    members: int
    request_id: str | None = None
    http_status: int | None = None
    error_code: int | None = None
    error_info: str | None = None
    error: str | None = None


NO_ANSWER: Final = "no_answer"
"""The code of a command or member that has failed without an answer of Tencent."""


class RecordProblem(Struct, frozen=True, omit_defaults=True):
    """A further problem of a rejected record."""

    code: str
    message: str
    field: str | None = None


class OutcomeError(Struct, frozen=True, omit_defaults=True):
    """
    Why a command was rejected, failed or was cancelled.

    Attributes:
        code: Why it was rejected (a word), Tencent's error code, "no_answer" or "cancelled".
        also: Further problems of the same record, at most 10.

    """

    code: str
    message: str
    field: str | None = None
    also: tuple[RecordProblem, ...] = ()


class Source(Struct, frozen=True):
    """Where the command stood."""

    topic: str
    partition: int
    offset: int

    @property
    def outcome_id(self) -> str:
        """The same record always has the same outcome_id."""
        return place_of(self.topic, self.partition, self.offset)


class Worker(Struct, frozen=True):
    """Who carried the command out."""

    name: str
    version: str


class Outcome(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    What became of one command: exactly one for each record with a readable ``command_id``.

    Fields without a value are left out. Times are RFC 3339 in UTC, milliseconds exact.

    Attributes:
        calling_ms: From the first attempt to the last answer; absent when nothing was sent.
        queued_ms: From the receipt to the first attempt, or to the end when nothing was sent.
        calls_omitted: How many attempts between the first and last 50 are not listed.
        user_ids: Of a rejected command, whom it named, as far as that can be read; of all others ``results`` tell.
        results_omitted: How many results are not listed, because Kafka takes only very small records.

    """

    outcome_id: str
    command_id: str
    status: Status
    source: Source
    worker: Worker
    received_at: str
    finished_at: str
    queued_ms: float
    attempts: int
    action: str | None = None
    app: str | None = None
    group_id: str | None = None
    room_id: str | None = None
    issuer: str | None = None
    issued_at: str | None = None
    metadata: dict[str, Any] | None = None
    parameters: Parameters | None = None
    results: list[Result] = []
    user_ids: tuple[str, ...] = ()
    request_ids: list[str] = []
    calls: list[AttemptRecord] = []
    calls_omitted: int = 0
    results_omitted: int = 0
    calling_ms: float | None = None
    duplicate_of: str | None = None
    superseded_by: str | None = None
    error: OutcomeError | None = None

    @property
    def target(self) -> str | None:
        """The group or room that the command named, if it could be read."""
        return self.group_id or self.room_id


def status_of(results: Sequence[Result]) -> Status:
    """
    Return the status of a command whose members ended like this.

    If all ended alike, that status. If none settles the id, the first status in ``RESULTS`` that occurs. If only some do, partially
    succeeded. Otherwise succeeded.
    """
    if len(results) == 1:  # as most commands have
        return _AS_STATUS[results[0].status]
    kinds = {_AS_STATUS[result.status] for result in results}
    if len(kinds) == 1:
        return kinds.pop()
    undone = [status for status in _UNDONE if status in kinds]
    if not undone:
        return Status.SUCCEEDED
    return undone[0] if len(undone) == len(kinds) else Status.PARTIALLY_SUCCEEDED


_AS_STATUS: Final = {result: row.status for result, row in RESULTS.items()}
_UNDONE: Final = tuple(row.status for row in RESULTS.values() if not row.done_for_id)


def cut(text: str) -> str:
    """Shorten a text from outside to at most ``TEXT_BYTES`` bytes of UTF-8, never cut inside a character, and always encodable."""
    if text.isascii():
        return text[:TEXT_BYTES]
    return text.encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore")


class HashedUserSet(Struct, frozen=True, gc=False):
    """
    Some of a command's users, asked only about users of that command: 8 bytes a user of the smaller side.

    Only good within this process, whose hashes they are; two users of one hash come once in 10^17 commands.
    """

    hashes: bytes
    are_the_others: bool

    @classmethod
    def of(cls, users: Sequence[str], others: Sequence[str]) -> HashedUserSet:
        """Keep these users, and not the others."""
        are_the_others = len(others) < len(users)
        smaller = others if are_the_others else users
        return cls(b"".join(map(_hashed, smaller)), are_the_others)

    def __contains__(self, user: str) -> bool:
        """Return whether the user is one of them."""
        hashed, hashes = _hashed(user), self.hashes
        found = any(hashes[at : at + 8] == hashed for at in range(0, len(hashes), 8))
        return found is not self.are_the_others

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return 72 + len(self.hashes)


def _hashed(user: str) -> bytes:
    return hash(user).to_bytes(8, "little", signed=True)


class RememberedCommandId(Struct, frozen=True, gc=False):
    """
    What is known of one command id.

    Attributes:
        fingerprint: Of what the id stands for; another one is a misuse of the id.
        outcome_id: Of the command that was carried out, or whose outcome names those that were.
        done: The users for whom nothing is left to do (``DONE_FOR_ID``); None means all of them.
        at: When it finished, in seconds since 1970.

    """

    command_id: str
    fingerprint: int
    outcome_id: str
    done: HashedUserSet | None
    at: float
