# The environment of one engine: the poll loop, the client, the publisher and the clock, as the runtime has them, but with
# nobody's order: whatever may happen next is for the machine to choose. When the process dies, another engine begins.
#
# It carries out effects and tells of events. What must hold at each of them is judged here and in requests.py, topic.py.

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from tests.property.requests import (
    PartitionAssignment,
    Request,
    Requests,
    effect_of,
    judge_body,
    read_body,
)
from tests.property.topic import Topic
from worker.domain.contract.control_records import ControlRecord, Order
from worker.domain.effects import (
    AllowAttempt,
    CancelWaitingCall,
    LogEvent,
    PausePartition,
    ResumePartition,
    RetryCall,
    StartCall,
)
from worker.domain.engine import Engine
from worker.domain.memory_budget import record_bytes
from worker.domain.progress.open_commands import OpenCommand
from worker.domain.state_transitions import CallState, TaskState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.property.topic import Record
    from worker.domain.contract.control_records import OrderState, Scope
    from worker.domain.effects import Attempt, AttemptResult, Effect, Transaction
    from worker.domain.engine_settings import EngineSettings

GRAIN: Final = 1 / 1024
"""Instants are whole multiples of it, so that sums of floats are exact."""
START: Final = 1000.0
WALL: Final = 1_900_000_000.0
"""Seconds since 1970 at the start."""


class CallPhase(Enum):
    """What a call is doing, as its client sees it."""

    OUT = "a request of it is out"
    BACKING_OFF = "it waits for its backoff"
    AWAITING_PERMIT = "it has asked for a permit"


@dataclass(slots=True, eq=False)
class OpenCall:
    """One call that is not over."""

    request: Request
    phase: CallPhase = CallPhase.OUT

    @property
    def call_id(self) -> str:
        """The engine's name for it."""
        return self.request.send.call_id


@dataclass(slots=True, eq=False)
class Publication:
    """
    A transaction that is not answered for.

    Attributes:
        claim: The generations of the partitions it speaks for, as they were when it began.
        committed: What the broker has decided, or None while it has not.

    """

    transaction: Transaction
    claim: dict[int, int]
    committed: bool | None = None


class EngineEnvironment:
    """One history."""

    def __init__(
        self, settings: EngineSettings, metadata_bytes: int, max_unpublished: int, memory: int
    ) -> None:
        self.settings = settings
        self.metadata_bytes = metadata_bytes
        self._max_unpublished = max_unpublished
        self._memory = memory
        self.topic = Topic(settings.partitions)
        self.requests = Requests(settings, self.topic)
        self.now = START
        self.wall = WALL
        self.orders: dict[Scope, OrderState] = {}
        self.lives = 0
        self.ids = 0
        self._begin()

    def _begin(self) -> None:
        """A process starts."""
        self.lives += 1
        self.owned: dict[int, PartitionAssignment] = {}
        self.calls: dict[str, OpenCall] = {}
        self.publication: Publication | None = None
        self.is_stopping = False
        self._engine_epoch = self.wall - self.now
        self.requests.latest = max(self.requests.latest, self.wall)
        self.engine = Engine(self.settings, self.now, self.wall, f"life{self.lives}")
        self.engine._outbox.max_unpublished = self._max_unpublished
        self.engine._admission.memory.limit = self._memory
        self.settle(
            self.engine.control_records_received([_record(*each) for each in self.orders.items()], self.now)
        )

    # Time

    @property
    def engine_wall(self) -> float:
        """What the engine holds for the time since 1970."""
        return self.now + self._engine_epoch

    def pass_time(self, seconds: float) -> None:
        """Time goes on, and the engine does not hear of it."""
        self.now += seconds
        self.wall += seconds

    def tick(self) -> None:
        """The engine hears what time it is."""
        self._engine_epoch = self.wall - self.now
        self.requests.latest = max(self.requests.latest, self.wall)
        effects = self.engine.tick(self.now, self.wall)
        known = {
            (endpoint.key, name)
            for endpoint in self.engine._scheduler.endpoints.values()
            for name in endpoint.targets
        }
        self.requests.forgotten(known)
        self.settle(effects)

    def wake(self) -> None:
        """The timer that the engine has asked for goes off: never before its time, and no clock stands still."""
        wake_at = ceil(self.engine.wake_at / GRAIN) * GRAIN
        self.pass_time(max(GRAIN, wake_at - self.now))
        self.tick()

    # Partitions

    def assign(self, number: int) -> None:
        """The partition is this process's, and restored."""
        partition = self.topic.partitions[number]
        restored = self.topic.restored(number, self.settings.restore_records)
        assignment = PartitionAssignment(
            number, self.now, partition.generation, restored.position, restored.position
        )
        if restored.slice_free_in is not None:
            assignment.cooling_off = restored.slice_free_in
        if self.is_stopping:
            assignment.may_end = frozenset()
        self.owned[number] = assignment
        self.settle(self.engine.assigned(number, restored, self.now))

    def begin_to_revoke(self, numbers: Sequence[int]) -> None:
        """The partitions are about to go."""
        self._close(numbers)
        self.settle(self.engine.revoking(numbers, self.now))

    def stop(self) -> None:
        """SIGTERM."""
        self.is_stopping = True
        self._close(list(self.owned))
        self.settle(self.engine.stopping(self.now))

    def _close(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            assignment = self.owned[number]
            commands = self.engine._partitions[number].open_records.values()
            started = frozenset(
                each.offset for each in commands if isinstance(each, OpenCommand) and each.started
            )
            if assignment.may_end is None:
                assignment.may_end = started

    def take_away(self, number: int) -> None:
        """Another owner has the partition; this process does not know yet."""
        self.topic.partitions[number].generation += 1

    def revoke(self, numbers: Sequence[int]) -> None:
        """The partitions are gone."""
        for number in numbers:
            del self.owned[number]
            self.take_away(number)
        self.settle(self.engine.revoked(numbers, self.now))

    def is_own(self, number: int) -> bool:
        """Whether the broker holds this process for the owner of the partition."""
        assignment = self.owned.get(number)
        return assignment is not None and assignment.generation == self.topic.partitions[number].generation

    def crash(self) -> None:
        """The process dies, and another one begins. A transaction that the broker has not decided on is aborted."""
        for number in self.owned:
            self.take_away(number)
        self.requests.crashed()
        self._begin()

    # The poll loop

    def fetch(self, number: int, most: int) -> None:
        """Records are fetched: in the order of their offsets, and after a pause at most once more."""
        assignment = self.owned[number]
        if assignment.paused and assignment.refetched:
            return
        assignment.refetched = assignment.paused
        records = [
            record for record in self.topic.partitions[number].records if record.offset >= assignment.position
        ]
        if records:
            assignment.position = records[:most][-1].offset + 1
            self.settle(self.engine.received(records[:most], self.now))

    # The operator

    def order(self, scope: Scope, state: OrderState | None) -> None:
        """A record is written to the control topic, and read."""
        if state is None:
            self.orders.pop(scope, None)
        else:
            self.orders[scope] = state
        for partition in self.topic.partitions:
            for record in partition.records:
                self._note_order(record)
        self.settle(self.engine.control_records_received([_record(scope, state)], self.now))

    def append(self, number: int, key: bytes | None, value: dict[str, Any] | bytes | None, skip: int) -> None:
        """A producer writes a record, ``skip`` offsets above the last one."""
        self._note_order(self.topic.append(number, key, value, skip))

    def _note_order(self, record: Record) -> None:
        self.requests.ordered[record.outcome_id] |= {
            state for scope, state in self.orders.items() if _covers(scope, record)
        }

    # The client

    def _send(self, send: Attempt) -> None:
        call = self.engine._scheduler.calls[send.call_id]
        carried = []
        for task in call.tasks:
            command = task.command
            assignment = self.owned.get(command.partition.number)
            assert assignment is not None, f"{command!r} of a partition that is gone was sent"
            assert self.engine._partitions[assignment.number] is command.partition
            carried.append((assignment, self.topic.find(assignment.number, command.offset), task.user))
        users = [user for _, _, user in carried]
        records = [record for _, record, _ in carried]
        action, target, _, _ = read_body(send)
        assert target == judge_body(send, records, users, self.engine_wall)
        assert all(record.fields is not None and record.fields["action"] == action.name for record in records)
        effect = effect_of(records[0], reasons_matter=self.settings.reasons_matter)
        if call.endpoint.only_probes_may_go or call.target.held_at is not None:
            assert call.is_probe, (
                "P7, P8: nothing but a probe goes while the endpoint is down, halted or its target held"
            )
        request = Request(send, target, effect, carried, self.now, call.bisection is not None, call.is_probe)
        for record in records:
            orders = [state for scope, state in self.orders.items() if _covers(scope, record)]
            assert not orders, f"{record.outcome_id} is {orders}, and was sent"
        self.requests.left(request, self.owned, self.engine_wall)
        open_call = self.calls.get(send.call_id)
        if send.number == 1:
            assert open_call is None
            self.calls[send.call_id] = OpenCall(request)
        else:
            assert open_call is not None
            assert open_call.phase is CallPhase.AWAITING_PERMIT, (
                f"a permit for a call of which {open_call.phase.value}"
            )
            assert send.number == open_call.request.send.number + 1
            open_call.request, open_call.phase = request, CallPhase.OUT

    def end_attempt(self, open_call: OpenCall, result: AttemptResult) -> None:
        """The request of the call has ended."""
        self.requests.ended(open_call.request, result, self.now)
        effects = self.engine.attempt_finished(open_call.call_id, result, self.now)
        if RetryCall(open_call.call_id) in effects:
            assert result.verdict.retry_budget, f"another attempt after {result.verdict}"
            open_call.phase = CallPhase.BACKING_OFF
        else:
            del self.calls[open_call.call_id]
            self.requests.over(open_call.call_id)
        self.settle(effects)

    def request_permit(self, open_call: OpenCall) -> None:
        """Its backoff is over."""
        open_call.phase = CallPhase.AWAITING_PERMIT
        self.settle(self.engine.permit_requested(open_call.call_id, self.now))

    def _recall(self, call_id: str) -> None:
        open_call = self.calls.pop(call_id)
        assert open_call.phase is not CallPhase.OUT, "a call was taken back whose request is out"
        self.requests.over(call_id)

    # The publisher

    def begin_transaction(self) -> None:
        """The publisher is free, and asks what there is to publish."""
        transaction = self.engine.take_transaction(self.now)
        if transaction is not None:
            assert self.engine.take_transaction(self.now) is None, "two transactions at a time"
            assert transaction.commits
            for number in transaction.commits:
                assert number in self.owned
            claim = {number: self.owned[number].generation for number in transaction.commits}
            self.publication = Publication(transaction, claim)

    def refused_metadata(self) -> int | None:
        """A partition whose metadata the broker does not take."""
        assert self.publication is not None
        commits = self.publication.transaction.commits.items()
        return next((n for n, commit in commits if len(commit.metadata) > self.metadata_bytes), None)

    def end_transaction(self, *, commit: bool) -> None:
        """The broker decides. It commits only what speaks for present owners, with metadata that it takes."""
        publication = self.publication
        assert publication is not None
        valid = all(
            self.topic.partitions[number].generation == generation
            for number, generation in publication.claim.items()
        )
        publication.committed = commit and valid and self.refused_metadata() is None
        if publication.committed:
            self.topic.publish(publication.transaction)
            for outgoing in publication.transaction.outcomes:
                source = outgoing.outcome.source
                record = self.topic.find(source.partition, source.offset)
                self.requests.judge_outcome(outgoing.outcome, record, self.owned[source.partition])

    def tell_of_transaction(self, *, took_too_long: bool = False, dead_letters_refused: bool = False) -> None:
        """The engine hears what the broker has decided; of a refusal, also why."""
        publication, self.publication = self.publication, None
        assert publication is not None
        assert publication.committed is not None
        if publication.committed:
            for outgoing in publication.transaction.outcomes:
                self.requests.remembered_at[outgoing.outcome.outcome_id] = self.engine_wall
            self.settle(self.engine.published(self.now))
            return
        self.publication = publication
        refused = self.refused_metadata()
        self.publication = None
        if refused is not None:
            self.settle(self.engine.metadata_refused(refused, self.now))
        else:
            dead_letters_refused = dead_letters_refused and bool(publication.transaction.dead_letters)
            self.settle(
                self.engine.aborted(
                    self.now, took_too_long=took_too_long, dead_letters_refused=dead_letters_refused
                )
            )

    def refuse_dead_letters(self) -> None:
        """The next transaction, if there is one to begin, is refused for its dead letters."""
        self.begin_transaction()
        if self.publication is not None:
            self.end_transaction(commit=False)
            self.tell_of_transaction(dead_letters_refused=True)

    def publish(self) -> None:
        """A transaction that goes well, if there is one to begin."""
        if self.publication is None:
            self.begin_transaction()
        if self.publication is not None:
            if self.publication.committed is None:
                self.end_transaction(commit=True)
            self.tell_of_transaction()

    # Effects

    def settle(self, effects: list[Effect]) -> None:
        """Carries out what the engine asks for."""
        for effect in effects:
            match effect:
                case StartCall(send) | AllowAttempt(send):
                    self._send(send)
                case CancelWaitingCall(call_id):
                    self._recall(call_id)
                case PausePartition(number):
                    assert not self.owned[number].paused
                    self.owned[number].paused = True
                case ResumePartition(number):
                    assert self.owned[number].paused
                    self.owned[number].paused = self.owned[number].refetched = False
                case RetryCall(call_id):
                    assert self.calls[call_id].phase is CallPhase.BACKING_OFF
                case LogEvent():
                    assert effect.level in ("info", "warning", "error")

    # What must hold at any time

    def _judge_places(self) -> None:
        """P1: what waits is counted, and the first of each member waits, is called, or stays for a reason that ends."""
        ordering = self.engine._ordering
        delayed = {id(member_queue) for _, _, member_queue in ordering._delays}
        for partition in self.engine._partitions.values():
            for each in partition.open_records.values():
                for task in each.tasks if isinstance(each, OpenCommand) else ():
                    if task.state is TaskState.BEHIND and task.member_queue.first is task:
                        assert task.command.policy.waits or id(task.member_queue) in delayed, (
                            f"P1: {task} stays"
                        )
        for endpoint in self.engine._scheduler.endpoints.values():
            for queue in (endpoint.queue, endpoint.shadow_queue):
                waiting = [len(group.tasks) + len(group.resting) for group in queue._groups.values()]
                assert sum(waiting) == queue.waiting

    def judge(self) -> None:
        """P1: every fetched record is settled, open, or waits to be admitted. P10: what is held is what is open."""
        engine = self.engine
        held_bytes = 0
        assert set(engine._partitions) == set(self.owned)
        for number, partition in engine._partitions.items():
            assignment, kept = self.owned[number], self.topic.partitions[number]
            waiting = {record.offset for record in partition.backlog}
            for record in kept.records:
                if assignment.first <= record.offset < assignment.position and not partition.is_closing:
                    known = kept.is_settled(record.offset) or record.offset in waiting
                    assert known or record.offset in partition.open_records, (
                        f"P1: {record.outcome_id} is forgotten"
                    )
            if partition.open_records:
                gap = max(partition.open_records) - min(partition.open_records)
                assert gap < self.settings.max_gap, f"P10: {gap} offsets are held up"
            assert partition.offsets.open_count >= len(partition.open_records)
            held = sum(each.size for each in partition.open_records.values())
            held += sum(record_bytes(record) for record in partition.backlog)
            assert engine._admission.memory.of(partition) == held
            held_bytes += held
        self._judge_places()
        snapshot = engine.snapshot(self.now)
        assert snapshot.memory["commands"] == held_bytes
        assert snapshot.unpublished <= engine.open_count or self.publication is not None
        assert set(engine._scheduler.calls) >= set(self.calls)
        for call_id, call in engine._scheduler.calls.items():
            assert (call_id in self.calls) or (call.number == 0 and call.state is CallState.AWAITING_PERMIT)

    def find_unfetched(self, number: int) -> list[Record]:
        """The records that were never fetched in this assignment."""
        position = self.owned[number].position
        return [record for record in self.topic.partitions[number].records if record.offset >= position]


def _record(scope: Scope, state: OrderState | None) -> ControlRecord:
    return ControlRecord(scope, None if state is None else Order(state, "r", "b", "2030-01-01T00:00:00Z"))


def _covers(scope: Scope, record: Record) -> bool:
    fields = record.fields
    if fields is None:
        return False
    given = {
        "app": fields.get("app", "main"),
        "action": fields["action"],
        "issuer": fields.get("issuer"),
        "target": record.target,
    }
    return all(given[name] == value for name, value in scope.fields())
