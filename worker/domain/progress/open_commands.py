# The nouns of work in progress: an OpenCommand is an admitted command whose outcome is not committed yet, a MemberTask one
# user of it, a MemberQueue the tasks of all commands for one (app, target, user) in the order of the commands. A
# RejectedRecord is an admitted record that was rejected.
#
# They are mutable, and nobody but their own methods writes to them; each method keeps and asserts what must hold of its
# object. When something happens to them is decided in member_ordering.py, outbox.py and calls/.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.domain.contract.control_records import NO_ORDER
from worker.domain.contract.outcomes import CALLS_AT_EITHER_END
from worker.domain.state_transitions import TASK_STEPS, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from worker.domain.contract.command_decoding import Command
    from worker.domain.contract.control_records import OrderPolicy
    from worker.domain.contract.outcomes import AttemptRecord, Outcome, RememberedCommandId, Result
    from worker.domain.contract.parameters import EffectKey
    from worker.domain.contract.raw_records import Record
    from worker.domain.contract.rejections import Rejected
    from worker.domain.operator_orders import ActiveOrder
    from worker.domain.progress.dedupe import MemberKey
    from worker.domain.progress.partitions import Partition

EndpointKey = tuple[str, str]
"""(app, endpoint): where a command's calls go."""


@dataclass(slots=True, eq=False, repr=False)
class CoalescedGroup:
    """The tasks of one member that share one call: followers find their leader through it."""

    leader: MemberTask  # the one that is sent


@dataclass(slots=True, eq=False, repr=False)
class MemberTask:
    """One user of one open command."""

    command: OpenCommand  # deleted once the command is finished (``OpenCommand.unlink``)
    user: str
    member_queue: MemberQueue
    state: TaskState = TaskState.BEHIND
    # its neighbours in its member queue: the older and the newer one
    before: MemberTask | None = None
    behind: MemberTask | None = None
    result: Result | None = None
    # the tasks that are coalesced with it, oldest first: perhaps thousands
    followers: dict[MemberTask, None] | None = None
    coalesced_group: CoalescedGroup | None = None  # that it leads or follows
    was_sent: bool = False  # an attempt carried it: it may have taken effect, so nothing supersedes it
    unknown_end: bool = False  # an attempt that carried it ended without an answer
    counted_attempts: int = 0  # its attempts that count against ``retry.max_attempts``
    # since when its time to give up runs, on its endpoint's clock (outages stop it); None: not yet, or not any more
    give_up_clock_from: float | None = None
    waiting_since: float = 0.0  # when it first waited in its endpoint's queue (monotonic); 0: it never did
    goes_alone: bool = False  # its user was refused lately: it shares no call
    urgent: bool = False  # it goes before others
    batch_peers: tuple[MemberTask, ...] | None = None  # the tasks of the refused batch that it was last in

    def move_to(self, state: TaskState) -> None:
        """Take a step of the table."""
        assert state in TASK_STEPS[self.state], f"{self!r} cannot become {state.value}"
        self.state = state

    def mark_waiting(self, now: float) -> None:
        """Note that it waits for a permit from now on, unless it has waited for one before."""
        self.waiting_since = self.waiting_since or now

    def hurry(self) -> None:
        """Make it urgent: its command is, or an urgent command waits for it."""
        self.urgent = True

    def set_goes_alone(self, *, goes_alone: bool) -> None:
        """Note whether it needs a call of its own."""
        self.goes_alone = goes_alone

    def mark_sent(self, at: float) -> None:
        """Note that an attempt carries it. ``at`` is on the endpoint's clock."""
        self.was_sent = True
        if self.give_up_clock_from is None:
            self.give_up_clock_from = at

    def mark_unknown_end(self) -> None:
        """Note that an attempt which carried it ended without an answer: it may have taken effect."""
        self.unknown_end = True

    def count_attempt(self) -> None:
        """Count an attempt that failed while the endpoint lived."""
        self.counted_attempts += 1

    def restart_clock(self) -> None:
        """Let the time to give up begin with the next attempt, if none has counted so far."""
        if not self.counted_attempts:
            self.give_up_clock_from = None

    def set_batch_peers(self, peers: tuple[MemberTask, ...]) -> None:
        """Note the tasks of the refused batch that it was in."""
        self.batch_peers = peers

    def coalesce(self, follower: MemberTask) -> None:
        """Let a later task with the same effect follow it."""
        follower.move_to(TaskState.COALESCED)
        if self.followers is None:
            self.followers = {}
        if self.coalesced_group is None:
            self.coalesced_group = CoalescedGroup(self)
        follower.coalesced_group = self.coalesced_group
        self.followers[follower] = None

    @property
    def leader(self) -> MemberTask:
        """The task on whose call it is; it must be coalesced."""
        assert self.coalesced_group is not None
        return self.coalesced_group.leader

    @property
    def is_in_call(self) -> bool:
        """Whether a call carries it that is not over: its own or that of its leader."""
        carried = self.leader if self.state is TaskState.COALESCED else self
        return carried.state is TaskState.CALLED

    def release_follower(self, follower: MemberTask) -> None:
        """Let a task follow it no longer."""
        assert self.followers is not None
        del self.followers[follower]
        follower.coalesced_group = None

    def bequeath(self) -> MemberTask | None:
        """Let the first of its followers lead the others in its place. Return that one; None if it has none."""
        followers, self.followers = self.followers or {}, None
        group, self.coalesced_group = self.coalesced_group, None
        return self._heir_of(followers, group)

    def part(self) -> MemberTask | None:
        """
        Keep only the followers of its own kind: in shadow if it is, else sent. Let the first of the others lead the rest. Return that
        one; None if there is none.
        """
        others = {follower: None for follower in self.followers or () if not self.is_like(follower)}
        if not others:
            return None
        assert self.followers is not None
        self.followers = {follower: None for follower in self.followers if follower not in others}
        group = CoalescedGroup(self)
        for follower in others:
            follower.coalesced_group = group
        return self._heir_of(others, group)

    def is_like(self, other: MemberTask) -> bool:
        """Return whether both are in shadow, or both are sent."""
        return self.command.policy.simulates is other.command.policy.simulates

    def _heir_of(self, followers: dict[MemberTask, None], group: CoalescedGroup | None) -> MemberTask | None:
        """Let the first of these followers lead the others. Return that one; None if there are none."""
        heir = next(iter(followers), None)
        if heir is not None:
            assert group is not None
            del followers[heir]
            heir.move_to(TaskState.BEHIND)
            heir.followers = followers
            heir.urgent = self.urgent
            group.leader = heir
        return heir

    def stand_back(self) -> None:
        """Return to its place in its member queue, unsent. Its time to give up begins with its next attempt."""
        self.move_to(TaskState.BEHIND)
        self.give_up_clock_from = None

    def settle(self, result: Result) -> bool:
        """Give it its result. Return whether that completes its command."""
        self.move_to(TaskState.SETTLED)
        self.result = result
        self.batch_peers = None
        self.coalesced_group = None
        command = self.command
        command.unsettled -= 1
        assert command.unsettled >= 0
        return not command.unsettled

    def abandon(self) -> None:
        """Settle it without a result: its command was dropped."""
        self.move_to(TaskState.SETTLED)
        self.coalesced_group = None

    def __repr__(self) -> str:
        return f"<MemberTask {'/'.join(self.member_queue.key)}, {self.state.value}>"


@dataclass(slots=True, eq=False, repr=False)
class MemberQueue:
    """
    The tasks of all open commands for one (app, target, user), oldest first.

    Only the first one may be in an endpoint's queue or in a call.
    """

    key: MemberKey
    # the oldest task and the newest one; what lies between is found through ``MemberTask.before`` and ``behind``
    first: MemberTask | None = None
    newest: MemberTask | None = None
    # the newest command that names this member, for the order of finishing on its partition
    last_command: OpenCommand | None = None
    # the newest one of each other partition that names it: a producer has misplaced records
    last_elsewhere: dict[Partition, OpenCommand] | None = None
    # until then an attempt of unknown end may take effect: a different effect must wait
    unknown_until: float = 0.0
    unknown_effect: EffectKey | None = None  # that attempt's effect

    def set_last(self, command: OpenCommand) -> OpenCommand | None:
        """Note that the command is the newest of its partition that names the member. Return the one before it; None if none is open."""
        earlier, self.last_command = self.last_command, command
        if earlier is not None and earlier.partition is not command.partition:
            if self.last_elsewhere is None:
                self.last_elsewhere = {}
            self.last_elsewhere[earlier.partition] = earlier
            earlier = self.last_elsewhere.pop(command.partition, None)
        return earlier

    def clear_last(self, command: OpenCommand) -> None:
        """Forget the command if it is the newest of its partition that names the member."""
        elsewhere = self.last_elsewhere
        if self.last_command is command:
            self.last_command = elsewhere.popitem()[1] if elsewhere else None
        elif elsewhere and elsewhere.get(command.partition) is command:
            del elsewhere[command.partition]

    def append(self, task: MemberTask) -> None:
        """Put a task at the end."""
        self.put_after(self.newest, task)

    def put_after(self, before: MemberTask | None, task: MemberTask) -> None:
        """Put a task right behind this one; None: first."""
        behind = self.first if before is None else before.behind
        task.before, task.behind = before, behind
        if before is None:
            self.first = task
        else:
            before.behind = task
        if behind is None:
            self.newest = task
        else:
            behind.before = task

    def remove(self, task: MemberTask) -> None:
        """Take a task out."""
        before, behind = task.before, task.behind
        task.before = task.behind = None
        if before is None:
            assert self.first is task
            self.first = behind
        else:
            before.behind = behind
        if behind is None:
            self.newest = before
        else:
            behind.before = before

    def replace(self, task: MemberTask, heir: MemberTask) -> None:
        """Give a task's place to its heir."""
        self.put_after(task, heir)
        self.remove(task)

    def newest_first(self) -> Iterator[MemberTask]:
        """Go through the tasks from the end."""
        task = self.newest
        while task is not None:
            yield task
            task = task.before

    def last_like(self, command: OpenCommand) -> MemberTask | None:
        """Return the last task of the command's kind: in shadow if it is, else sent. The two kinds do not affect each other."""
        shadow, task = command.policy.simulates, self.newest
        while task is not None and task.command.policy.simulates is not shadow:
            task = task.before
        return task

    def delay(self, until: float, effect: EffectKey) -> None:
        """Delay every other effect until an attempt with this one, whose end is unknown, cannot act any more."""
        self.unknown_until = until
        self.unknown_effect = effect

    def must_wait(self, effect: EffectKey, now: float) -> bool:
        """Return whether a command with this effect must not be sent yet."""
        return now < self.unknown_until and effect != self.unknown_effect

    def is_idle(self, now: float) -> bool:
        """Return whether nothing needs to be known of the member."""
        return self.first is None and self.last_command is None and self.unknown_until <= now


@dataclass(slots=True, eq=False, repr=False)
class OpenCommand:
    """One open command: from the admission of its record until its outcome is committed."""

    record: Record | None  # as it was fetched, for a dead letter; None once it is known that none is needed
    partition: Partition
    received_at: float
    spec: Command
    effect_key: EffectKey  # must be equal for two tasks to share a call, or to be repeats of each other
    fingerprint: int
    endpoint: EndpointKey
    # an earlier command with the same id: open, or known from before
    repeat_of: OpenCommand | RememberedCommandId | None
    size: int  # its bytes in memory without its outcome (memory_budget.py)
    record_size: int  # of these, the bytes of its record
    order: ActiveOrder | None = None  # the order that holds for it
    policy: OrderPolicy = field(init=False)  # what that order does with it
    known_as: str = field(init=False)  # its command_id, or in shadow a name that no command_id has
    key: bytes | None = field(init=False)  # its record's
    offset: int = field(init=False)
    last_moment: float | None = field(init=False)  # as in its ``spec``
    tasks: Sequence[MemberTask] = ()
    unsettled: int = 0  # how many of its tasks have no result yet
    started: bool = False  # an attempt carried one of its tasks, or a started command waits for it
    emitted: bool = False  # its outcome is made, and handed on to be published
    dropped: bool = False  # it is the next owner's: its partition is closing or gone, or the worker stops
    # The order of finishing: see ``wait_for``.
    blocker_count: int = 0  # how many predecessors it still waits for
    predecessors: list[OpenCommand] | None = None  # the earlier commands that must be emitted before it
    successors: list[OpenCommand] | None = None  # the later commands that wait for it
    # What its outcome will list:
    attempts: int = 0
    attempt_records: list[AttemptRecord] | None = None
    attempts_omitted: int = 0
    request_ids: list[str] | None = None
    first_sent_at: float | None = None
    last_ended_at: float | None = None
    outcome: Outcome | None = None
    outcome_size: int = 0  # the bytes of its outcome in memory

    def __post_init__(self) -> None:
        assert self.record is not None
        self.key = self.record.key
        self.offset = self.record.offset
        self.last_moment = self.spec.last_moment
        self.policy = NO_ORDER if self.order is None else self.order.policy
        command_id = self.spec.command_id
        self.known_as = in_shadow(command_id) if self.policy.simulates else command_id

    @property
    def was_always_in_shadow(self) -> bool:
        """Whether it was in shadow from the beginning, so that its id was never a live one."""
        return self.known_as != self.spec.command_id

    def set_order(self, order: ActiveOrder | None) -> None:
        """Note that another order holds for it, or none."""
        assert not self.policy.is_final
        self.order = order
        self.policy = NO_ORDER if order is None else order.policy

    @property
    def outcome_id(self) -> str:
        """The id of its record's outcome, and of no other."""
        return f"{self.partition.topic}-{self.partition.number}-{self.offset}"

    def take_places(self, member_queues: Iterable[MemberQueue]) -> None:
        """Open a task for each of its users, behind the earlier commands that name the same member."""
        self.tasks = tuple(
            [MemberTask(self, member_queue.key[2], member_queue) for member_queue in member_queues]
        )
        self.unsettled = len(self.tasks)
        for task in self.tasks:
            if self.spec.urgent:
                task.hurry()
            earlier = task.member_queue.set_last(self)
            if earlier is not None:
                self.wait_for(earlier)

    def wait_for(self, earlier: OpenCommand) -> None:
        """
        Let it be emitted only after this earlier command of its partition, with which it shares a member: else a crash could redo the
        earlier and skip the later.
        """
        assert earlier.partition is self.partition
        if earlier.emitted or earlier.dropped:
            return
        self.blocker_count += 1
        if self.predecessors is None:
            self.predecessors = []
        self.predecessors.append(earlier)
        if earlier.successors is None:
            earlier.successors = []
        earlier.successors.append(self)

    def release_successors(self) -> Sequence[OpenCommand]:
        """Let its successors wait for it no longer. Return them."""
        released, self.successors = self.successors, None
        for successor in released or ():
            successor.blocker_count -= 1
            assert successor.blocker_count >= 0
        return released or ()

    @property
    def may_be_emitted(self) -> bool:
        """Whether it has all its results, and all its predecessors are emitted or dropped."""
        return not (self.unsettled or self.blocker_count or self.emitted or self.dropped)

    def start(self) -> Sequence[OpenCommand]:
        """Start it, unless it is started, emitted or dropped. Return its predecessors: they must be started, too."""
        if self.started or self.emitted or self.dropped:
            return ()
        self.started = True
        return self.predecessors or ()

    def record_attempt(self, attempt: AttemptRecord, sent_at: float, ended_at: float) -> None:
        """List a request that carried it. Called once for each of its tasks in the request; listed once."""
        records = self.attempt_records
        if records is None:
            records = self.attempt_records = []
        elif records[-1] is attempt:
            return
        self.attempts += 1
        if self.first_sent_at is None:
            self.first_sent_at = sent_at
        self.last_ended_at = ended_at
        records.append(attempt)
        if len(records) > 2 * CALLS_AT_EITHER_END:
            del records[CALLS_AT_EITHER_END]
            self.attempts_omitted += 1
        if attempt.request_id is not None:
            if self.request_ids is None:
                self.request_ids = []
            self.request_ids.append(attempt.request_id)
            if len(self.request_ids) > 2 * CALLS_AT_EITHER_END:
                del self.request_ids[CALLS_AT_EITHER_END]

    def emit(self, outcome: Outcome, size: int) -> None:
        """Emit it with its outcome of ``size`` bytes in memory: from now on it only waits to be published."""
        assert self.may_be_emitted
        self.emitted = True
        self.outcome = outcome
        self.outcome_size = size
        self.predecessors = None
        self.repeat_of = None

    def forget_record(self) -> int:
        """Forget its record: it gets no dead letter. Return how many bytes that frees."""
        self.record = None
        self.size -= self.record_size
        return self.record_size

    def drop(self) -> None:
        """Hand it over to the next owner of its partition."""
        self.dropped = True
        self.predecessors = None

    def unlink(self) -> None:
        """
        Part it from its tasks: it is finished, and only their results are still needed.

        Otherwise they would hold each other, and only the garbage collector would find them: measured, half a second
        without a call in the middle of a backlog of 60,000.
        """
        for task in self.tasks:
            del task.command

    def __repr__(self) -> str:
        return f"<OpenCommand {self.outcome_id}, {self.unsettled} unsettled, {self.blocker_count} before it>"


@dataclass(slots=True, eq=False, repr=False)
class RejectedRecord:
    """One admitted record that was rejected: it has an outcome, or at least a dead letter, from the beginning."""

    record: Record
    partition: Partition
    received_at: float
    rejection: Rejected
    size: int
    dropped: bool = False
    outcome: Outcome | None = None
    outcome_size: int = 0

    @property
    def key(self) -> bytes | None:
        """The key of its record."""
        return self.record.key

    @property
    def offset(self) -> int:
        """The offset of its record."""
        return self.record.offset

    @property
    def outcome_id(self) -> str:
        """The id of its record's outcome, and of no other."""
        return f"{self.partition.topic}-{self.partition.number}-{self.offset}"

    def emit(self, outcome: Outcome | None, size: int) -> None:
        """Emit it with its outcome of ``size`` bytes in memory; None if its ``command_id`` cannot be read."""
        self.outcome = outcome
        self.outcome_size = size

    def drop(self) -> None:
        """Hand it over to the next owner of its partition."""
        self.dropped = True

    def __repr__(self) -> str:
        return f"<RejectedRecord {self.outcome_id}, {self.rejection.code}>"


def in_shadow(name: str) -> str:
    """Return the name that replaces an id or an app in shadow: no live one is called so."""
    return f"\0{name}"


OpenRecord = OpenCommand | RejectedRecord
"""An admitted record until its offset is committed."""
