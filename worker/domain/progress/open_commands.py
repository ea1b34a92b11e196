# The nouns of work in progress: a OpenCommand is one open command, a Member one (target, user) that it names, a Line the
# members of all commands for the same (app, target, user), in the order of the commands, a Partition what is ours for now.
#
# They are mutable and belong to the engine alone. They hold state and answer questions about themselves; what shall
# happen next is decided in member_ordering.py, scheduler.py, response_handler.py and outbox.py.

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from worker.domain.contract.outcomes import CALLS_AT_EITHER_END, Result, ResultStatus
from worker.domain.progress.commit_metadata import label
from worker.domain.progress.dedupe import CommandIds
from worker.domain.progress.offsets import Offsets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.domain.contract.commands import Command, Rejected
    from worker.domain.contract.outcomes import AttemptRecord, Known, Outcome
    from worker.domain.contract.records import Record
    from worker.domain.effects import Restored
    from worker.domain.progress.dedupe import IdMemory, MemberKey
    from worker.domain.rules import Rules

SETTLING: Final = 3.0
"""
After an assignment nothing of the partition is called for so many seconds: Tencent's own budget for a request. Until
then what a dead predecessor had sent has arrived and been applied, and its slice of the quota is free.
"""

What = tuple[object, ...]
"""The action and those of its parameters that must be equal for two members to share a call, or to have one effect."""


class TaskState(Enum):
    """Where a member is."""

    BEHIND = "behind"
    """In its line, behind an earlier command's member, or delayed by an earlier try of unknown end."""
    WAITING = "waiting"
    """In its queue, for a permit."""
    CALLED = "called"
    """In a call that is not over."""
    RIDING = "riding"
    """On another member's call, which has the same effect."""
    SETTLED = "settled"
    """It has its result."""


class Waiting(Protocol):
    """Where members wait to be sent (calls/endpoint_queue.py)."""

    def put(self, member: MemberTask, now: float) -> None:
        """The member may be sent from now on."""

    def remove(self, member: MemberTask) -> None:
        """The member needs no call any more."""

    def starting(self, member: MemberTask) -> None:
        """The member's command is about to be started."""


class Way(Protocol):
    """The (app, endpoint) that a command goes to, as far as progress is concerned (calls/endpoint_state.py)."""

    @property
    def queue(self) -> Waiting:
        """Where its members wait."""

    @property
    def is_blocked(self) -> bool:
        """Nothing but probes goes there now."""


class MemberTask:
    """
    One user of one command.

    Attributes:
        work: The command; gone when that is finished (``OpenCommand.let_go``).
        group: Its place in the queue, which alone knows what that is.
        since: Since when it waits there (monotonic).
        attempts: Tries that count.
        was_sent: A try has carried it: it may have taken effect, so it can no longer be superseded.
        unknown_end: A try that carried it ended without an answer, so it may have taken effect.
        started_at: When its first try was sent, on the clock of its lane that stands still in an outage.
        riders: Those that ride with it, oldest first: perhaps thousands, so each comes and goes without a look at the others.
        family: The members of the refused batch that it was last in.

    """

    __slots__ = (
        "attempts", "family", "group", "line", "result", "riders", "since", "started_at", "state", "unknown_end", "user",
        "was_sent", "work",
    )  # fmt: skip

    def __init__(self, work: OpenCommand, user: str, line: MemberQueue) -> None:
        self.work = work
        self.user = user
        self.line = line
        self.state = TaskState.BEHIND
        self.group: object | None = None
        self.since = 0.0
        self.attempts = 0
        self.was_sent = False
        self.unknown_end = False
        self.started_at: float | None = None
        self.riders: dict[MemberTask, None] | None = None
        self.family: tuple[MemberTask, ...] | None = None
        self.result: Result | None = None

    def __repr__(self) -> str:
        return f"<MemberTask {'/'.join(self.line.key)}, {self.state.value}>"


class MemberQueue:
    """
    The members of all open commands for one (app, target, user), oldest first.

    Only the first one may be in a queue or a call.

    Attributes:
        unknown_until: A try of unknown end may take effect until then: a different effect must wait.
        unknown_what: Its effect.
        last: The last command that touches this member, for the order of finishing.

    """

    __slots__ = ("key", "last", "members", "unknown_until", "unknown_what")

    def __init__(self, key: MemberKey) -> None:
        self.key = key
        self.members: list[MemberTask] = []
        self.unknown_until = 0.0
        self.unknown_what: What | None = None
        self.last: OpenCommand | None = None


class OpenCommand:
    """
    One open command: from the admission of its record until its outcome is published.

    Attributes:
        record: Untouched, for a dead letter; None once it is known that there will be none.
        key: Its record's.
        rejected: Why the record is no command; then it has neither ``command`` nor ``lane``.
        what: See ``What``.
        repeats: An earlier command with the same id: open, or known from before.
        left: How many of its members have no result yet.
        waits: How many earlier commands, sharing a member with it, must be emitted before it.
        before: Those earlier commands.
        followers: The later commands for which it is such an earlier one.
        lane: The (app, endpoint) it goes to.
        started: A try carried one of its members, or a started command waits for it.
        emitted: Its outcome is made and handed on to be published.
        dropped: It is no longer this process's business: its partition went, or the worker stops.
        size: What it takes in memory without its outcome, and ``outcome_size`` what that takes (memory.py).

    """

    __slots__ = (
        "attempts", "before", "call_tries", "calls_omitted", "command", "dropped", "emitted", "fingerprint", "first_sent_at",
        "followers", "key", "lane", "last_answer_at", "left", "members", "offset", "outcome", "outcome_size", "partition", "received_at",
        "record", "rejected", "repeats", "request_ids", "size", "started", "waits", "what",
    )  # fmt: skip

    def __init__(self, record: Record, partition: Partition, received_at: float) -> None:
        self.record: Record | None = record
        self.key = record.key
        self.partition = partition
        self.offset = record.offset
        self.received_at = received_at
        self.size = 0
        self.rejected: Rejected | None = None
        self.what: What = ()
        self.fingerprint = 0
        self.repeats: OpenCommand | Known | None = None
        self.members: Sequence[MemberTask] = ()
        self.left = 0
        self.waits = 0
        self.before: list[OpenCommand] | None = None
        self.followers: list[OpenCommand] | None = None
        self.started = False
        self.emitted = False
        self.dropped = False
        self.attempts = 0
        self.call_tries: list[AttemptRecord] | None = None
        self.calls_omitted = 0
        self.request_ids: list[str] | None = None
        self.first_sent_at: float | None = None
        self.last_answer_at: float | None = None
        self.outcome: Outcome | None = None
        self.outcome_size = 0
        self.command: Command
        self.lane: Way

    @property
    def outcome_id(self) -> str:
        """Of its record, and of no other."""
        return f"{self.partition.topic}-{self.partition.number}-{self.offset}"

    def wait_for(self, earlier: OpenCommand) -> None:
        """
        The command may not be finished before this earlier one, with which it shares a member: else a crash would redo
        the earlier and skip the later.
        """
        if earlier.emitted or earlier.dropped:
            return
        self.waits += 1
        if self.before is None:
            self.before = []
        self.before.append(earlier)
        if earlier.followers is None:
            earlier.followers = []
        earlier.followers.append(self)

    def tried(self, call_try: AttemptRecord, sent_at: float, ended_at: float) -> None:
        """A request that carried the command has ended. Called once for each of its members in it: counted once."""
        tries = self.call_tries
        if tries is None:
            tries = self.call_tries = []
        elif tries[-1] is call_try:
            return
        self.attempts += 1
        if self.first_sent_at is None:
            self.first_sent_at = sent_at
        self.last_answer_at = ended_at
        tries.append(call_try)
        if len(tries) > 2 * CALLS_AT_EITHER_END:
            del tries[CALLS_AT_EITHER_END]
            self.calls_omitted += 1
        if call_try.request_id is not None:
            if self.request_ids is None:
                self.request_ids = []
            self.request_ids.append(call_try.request_id)
            if len(self.request_ids) > 2 * CALLS_AT_EITHER_END:
                del self.request_ids[CALLS_AT_EITHER_END]

    def let_go(self) -> None:
        """
        The command is finished: from now on its members are asked for their results alone.

        Without this each command and its members would hold each other, and only the garbage collector would find them:
        measured, half a second without a call in the middle of a backlog of 60,000.
        """
        for member in self.members:
            del member.work

    def __repr__(self) -> str:
        return f"<OpenCommand {self.outcome_id}, {self.left} left, {self.waits} before it>"


class Partition:
    """
    One partition of the command topic during one assignment: what belonged to an earlier one is gone.

    Attributes:
        active_at: From then on its commands are called and its slice of the quota is used.
        active: That time has come.
        closing: It starts nothing new: a handover or a drain.
        gone: It is not ours any more.
        works: The open commands, by offset.
        by_id: The newest open command of each id.
        backlog: Records that were fetched and do not fit yet, oldest first.
        held: What they and the open commands take in memory.

    """

    __slots__ = (
        "active",
        "active_at",
        "backlog",
        "by_id",
        "closing",
        "gone",
        "held",
        "ids",
        "number",
        "offsets",
        "paused",
        "topic",
        "works",
    )

    def __init__(self, number: int, restored: Restored, rules: Rules, now: float, memory: IdMemory) -> None:
        self.number = number
        self.topic = rules.topic
        self.active_at = now + SETTLING
        self.active = False
        self.closing = False
        self.gone = False
        self.paused = False
        self.offsets = Offsets(
            restored.position, restored.done, rules.max_gap, label(rules.topic, rules.topic_id, number)
        )
        self.held = 0
        self.ids = CommandIds(rules.dedupe_window, rules.restore_records, memory)
        for known in restored.known:
            self.ids.remember(known)
        self.works: dict[int, OpenCommand] = {}
        self.by_id: dict[str, OpenCommand] = {}
        self.backlog: deque[Record] = deque()

    @property
    def quiet(self) -> bool:
        """Nothing of it is in progress or unpublished: it may be handed over."""
        return not self.works

    def __repr__(self) -> str:
        state = "closing" if self.closing else "active" if self.active else "settling"
        return f"<Partition {self.number} {state}, {self.offsets!r}, {len(self.backlog)} in the backlog>"


def expired(member: MemberTask) -> Result:
    """
    The result of a member whose time is over. One that a request of unknown end has carried may have been applied, so it
    has not expired: it has failed, and says why.
    """
    if member.unknown_end:
        text = "its time was over before a try was answered; an earlier try without an answer may have taken effect"
        return Result(member.user, ResultStatus.FAILED, error_info=text)
    return Result(member.user, ResultStatus.EXPIRED)
