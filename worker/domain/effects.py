# The values that go into and out of the engine: what its events carry, and the effects that it asks for.
#
# No behaviour lives here. Times are float seconds of a monotonic clock unless a name says otherwise.

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from worker.domain.contract.control_records import ControlRecord
from worker.domain.contract.dead_letter_encoding import DeadLetter
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.outcomes import Outcome, RememberedCommandId


class RestoredPartition(Struct, frozen=True):
    """
    What a new owner of a partition must know before it begins.

    Attributes:
        position: The offset to begin at; every record below is done.
        done: The bitmap of the records at and above ``position`` that are done.
        known: The command ids that the outcome topic tells of, oldest first.
        fresh: Nothing was ever committed for the partition: ``position`` comes from the settings. Commit it soon, or the next
            owner, too, begins where its settings say, and with ``latest`` the records in between are lost.
        slice_free_in: After a clean handover, how many seconds after it the partition's slice of the quota is free; None: there was none.
        owner: The mark of the static member that was the last to call for the partition; empty if that was a dynamic member, or is not
            known.
        foreign: The beginning of metadata in the commit that is not ours; None if there was none.

    """

    position: int
    done: int = 0
    known: Sequence[RememberedCommandId] = ()
    fresh: bool = False
    foreign: str | None = None
    slice_free_in: float | None = None
    owner: str = ""


class AttemptResult(Struct, frozen=True):
    """
    What became of one HTTP request.

    Attributes:
        sent_at: When it was handed to the connection.
        ended_at: When its answer was received, or it failed.
        error: Why there was no answer, or None.
        end_unknown: The request may have reached the server and may still take effect, though no answer says so.
        retry_after: Seconds to wait before the next attempt, as the answer asked or until there can be another signature; or None.

    """

    sent_at: float
    ended_at: float
    verdict: Verdict
    http_status: int | None = None
    error_code: int | None = None
    error_info: str = ""
    request_id: str | None = None
    error: str | None = None
    end_unknown: bool = False
    retry_after: float | None = None


class Attempt(Struct, frozen=True):
    """
    One request that may be sent now: a permit for it is taken.

    Attributes:
        number: The number of the attempt in its call, from 1.
        target: The group or room, for the log: the request is ``body``.
        probe: The app is halted and this is its probe: read the key again, and sign with it.

    """

    call_id: str
    number: int
    app: str
    endpoint: str
    target: str
    body: bytes
    members: int
    probe: bool = False


class StartCall(Struct, frozen=True):
    """Start this call, with its first attempt."""

    attempt: Attempt


class AllowAttempt(Struct, frozen=True):
    """The call that asked for a further attempt may send it."""

    attempt: Attempt


class RetryCall(Struct, frozen=True):
    """The call's attempt did not settle it: wait for the backoff, then ask for a permit (``Engine.permit_requested``)."""

    call_id: str


class CancelWaitingCall(Struct, frozen=True):
    """The waiting call (for its backoff or a permit) is to end at once: the engine has put its tasks back into their queue."""

    call_id: str


class PausePartition(Struct, frozen=True):
    """Fetch no more of this partition."""

    partition: int


class ResumePartition(Struct, frozen=True):
    """Fetch this partition again."""

    partition: int


class LogEvent(Struct, frozen=True):
    """A line of the log: an event name of the log catalogue, and its fields."""

    event: str
    level: str
    fields: Mapping[str, object]


class WriteControl(Struct, frozen=True):
    """Write this record to the control topic, for all replicas: a guard's order, say, which is in force here already."""

    record: ControlRecord


class SendQuotaMessage(Struct, frozen=True):
    """Send this to all replicas over the quota channel (calls/replica_lending.py). Nothing depends on its arrival."""

    payload: bytes


Effect = (
    StartCall
    | AllowAttempt
    | RetryCall
    | CancelWaitingCall
    | PausePartition
    | ResumePartition
    | LogEvent
    | WriteControl
    | SendQuotaMessage
)


class EffectQueue:
    """The effects that follow from one event, in order: every part of the core adds to it, and the engine drains it."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def ask_for(self, effect: Effect) -> None:
        """Ask for something to happen in the world."""
        self._effects.append(effect)

    def drain(self) -> list[Effect]:
        """Hand out the effects that were asked for since the last call."""
        effects, self._effects = self._effects, []
        return effects


class HaltReason(Struct, frozen=True):
    """Why an app, or one endpoint of it, is halted, and what to do about it. It makes the worker not ready."""

    app: str
    endpoint: str | None
    error_code: int | None
    reason: str
    remedy: str
    since: float


class OffsetCommit(Struct, frozen=True):
    """A partition's committed offset; ``metadata`` tells which records above it are done (commit_metadata.py)."""

    offset: int
    metadata: str


class OutgoingOutcome(Struct, frozen=True):
    """One outcome to be published: to the same partition number, under the same key, as its command."""

    partition: int
    key: bytes | None
    outcome: Outcome
    traceparent: str | None = None


class Transaction(Struct, frozen=True):
    """
    One Kafka transaction: everything in it becomes visible together, or nothing does.

    ``commits`` names every partition of which it has an outcome or dead letter, even if the offset does not move: only then does the
    broker check that this process still owns the partition.
    """

    outcomes: list[OutgoingOutcome]
    dead_letters: list[DeadLetter]
    commits: dict[int, OffsetCommit]
