# The engine: the stages in order, and the only door. It hears what happened and answers with what is to happen.
#
# The path of one command, each stage in the file of its name:
#
#   received          admission_control bytes -> an OpenCommand, or a RejectedRecord that needs no call
#                     member_ordering   its tasks take their places; repeats get their results here
#                     endpoint_queue    tasks whose turn it is wait, in groups that may share a call
#                     scheduler         at a free permit a batch is sent
#   attempt_finished  response_handler  the verdict -> results, another attempt, a bisection, a halt
#                     outbox            commands with all their results, in an order that is safe at a crash
#   transaction       outbox            outcomes, dead letters and offsets for one Kafka transaction
#   published         partitions        offsets are finished, ids are remembered
#
# `_follow_through` is what joins them. No clock, thread, I/O or logging: `now` is the monotonic clock's float seconds, and never
# goes back. One thread owns it.

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.domain.admission_control import AdmissionControl
from worker.domain.calls.response_handler import ResponseHandler
from worker.domain.calls.scheduler import Scheduler
from worker.domain.effects import EffectQueue, LogEvent
from worker.domain.engine_snapshot import EndpointSnapshot, EngineSnapshot, EventCounts, PartitionSnapshot
from worker.domain.memory_budget import share
from worker.domain.operator_order_enforcement import OperatorOrderEnforcement
from worker.domain.progress.dedupe import CommandIdBudget
from worker.domain.progress.member_ordering import MemberOrdering
from worker.domain.progress.outbox import Outbox
from worker.domain.progress.partitions import START_CREDIT, Partition
from worker.domain.revocation import Revocation
from worker.domain.runaway_guards import GuardCounters
from worker.domain.state_transitions import PartitionState
from worker.domain.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.domain.calls.endpoint_state import EndpointState
    from worker.domain.contract.control_records import ControlRecord
    from worker.domain.contract.raw_records import Record
    from worker.domain.effects import AttemptResult, Effect, HaltReason, RestoredPartition, Transaction
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.engine_snapshot import LimitedBy
    from worker.domain.progress.open_commands import OpenCommand

CATCH_UP_FETCH = 250
"""A fetch of this many records shows that the worker is catching up; at one endpoint's full quota a fetch brings some 80."""
HOUSEKEEPING_SECONDS = 1.0
"""Between two rounds of housekeeping: admitting what fits now, forgetting what is too old, summing up, committing positions."""
COMMIT_POSITIONS_SECONDS = 5.0
"""Between two transactions that hold nothing but offsets, of partitions with nothing open."""


class Engine:
    """
    Decides everything about commands, and does nothing.

    Each method for an event, except ``reached``, returns the effects that follow from the event, in order. Between two events, call
    ``tick`` no later than ``wake_at``. When the publisher is free, call ``take_transaction``, and answer with ``published``,
    ``aborted`` or ``metadata_refused``.

    To drive it by hand:

    >>> from worker.domain.contract.error_codes import Verdict
    >>> from worker.domain.contract.outcomes import Worker
    >>> from worker.domain.effects import AttemptResult, RestoredPartition
    >>> from worker.domain.engine_settings import EngineSettings
    >>> from types import SimpleNamespace as Record
    >>> settings = EngineSettings("commands", 1, {"main": "admin"}, "main", Worker("me", "1"))
    >>> engine = Engine(settings, now=0.0, wall=1.9e9, call_prefix="call")
    >>> engine.assigned(0, RestoredPartition(position=0), now=0.0)
    []
    >>> engine.tick(now=3.0, wall=1.9e9 + 3)  # what a predecessor had sent has been applied by now
    []
    >>> value = b'{"command_id": "c", "action": "group.unban_group_member", "group_id": "g", "user_ids": ["u"]}'
    >>> record = Record(partition=0, offset=0, key=b"g", value=value, headers=())
    >>> (start,) = engine.received([record], now=3.0)
    >>> start.attempt.endpoint, start.attempt.body
    ('group_open_http_svc/unban_group_member', b'{"GroupId":"g","Members_Account":["u"]}')
    >>> result = AttemptResult(3.0, 3.03, Verdict.DONE, http_status=200, error_code=0)
    >>> engine.attempt_finished(start.attempt.call_id, result, now=3.03)
    []
    >>> transaction = engine.take_transaction(now=3.03)
    >>> [(each.outcome.command_id, each.outcome.status.value) for each in transaction.outcomes]
    [('c', 'succeeded')]
    >>> transaction.commits[0].offset
    1
    >>> engine.published(now=3.05), engine.idle
    ([], True)

    """

    def __init__(
        self, settings: EngineSettings, now: float, wall: float, call_prefix: str, began: float | None = None
    ) -> None:
        self._settings = settings
        # When this process began. By then an earlier process of its name was dead.
        self._began = now if began is None else began
        self._ever_assigned: set[int] = set()
        self._clock = WallClock(now, wall)
        self._effects = EffectQueue()
        self._partitions: dict[int, Partition] = {}
        self._ids = CommandIdBudget(share("ids", settings.memory_budget))
        self._ordering = MemberOrdering(settings, self._clock)
        self._outbox = Outbox(settings)
        self._guards = GuardCounters(settings.guards)
        self._scheduler = Scheduler(
            settings, self._clock, self._ordering, self._effects, self._guards, call_prefix
        )
        self._enforcement = OperatorOrderEnforcement(
            settings,
            self._clock,
            self._ordering,
            self._scheduler,
            self._effects,
            self._guards,
            self._partitions,
        )
        self._responses = ResponseHandler(
            settings, self._clock, self._ordering, self._scheduler, self._effects
        )
        self._admission = AdmissionControl(
            settings,
            self._clock,
            self._ordering,
            self._scheduler,
            self._outbox,
            self._effects,
            self._enforcement.orders,
            self._partitions,
        )
        self._revocation = Revocation(self._ordering, self._scheduler, self._admission)
        self._stopping = False
        self._housekeeping_at = now
        self._positions_at = now
        self._foreign_metadata = 0

    # Partitions

    def assigned(
        self, number: int, restored: RestoredPartition, now: float, assigned_at: float | None = None
    ) -> list[Effect]:
        """
        Take on a partition that was assigned at ``assigned_at`` (None: now). Calls begin three seconds after the assignment, or, after
        a clean handover, once its slice is free.

        If its last owner was the static member of this name, these seconds count from this process's beginning, at most
        ``START_CREDIT`` before the assignment: nobody else has called for it, and two live processes never share a name.
        """
        assert number not in self._partitions
        begins_at = now if assigned_at is None else assigned_at
        if (
            restored.owner
            and restored.owner == self._settings.owner_mark
            and number not in self._ever_assigned
        ):
            begins_at = max(min(begins_at, self._began), begins_at - START_CREDIT)
        self._ever_assigned.add(number)
        partition = Partition(number, restored, self._settings, begins_at, self._ids)
        self._partitions[number] = partition
        if self._stopping:
            self._revocation.close(partition)
        self._share_memory()
        # Committed metadata that says the slice is free must be replaced before this partition's first call.
        if restored.fresh or restored.foreign is not None or (partition.is_marked and not self._stopping):
            self._outbox.anchor(partition)
        if restored.foreign is not None:
            self._foreign_metadata += 1
            fields = {"topic": self._settings.topic, "partition": number, "excerpt": restored.foreign}
            self._effects.ask_for(LogEvent("kafka.foreign_metadata", "warning", fields))
        return self._follow_through(now)

    def revoking(self, numbers: Iterable[int], now: float) -> list[Effect]:
        """Close the partitions: start nothing new of them, and finish started commands (see ``quiet``)."""
        for number in numbers:
            if number in self._partitions:
                self._revocation.close(self._partitions[number])
        return self._follow_through(now)

    def revoked(self, numbers: Iterable[int], now: float) -> list[Effect]:
        """Release the partitions, which are not ours any more, and drop their open records."""
        for number in numbers:
            partition = self._partitions.pop(number, None)
            if partition is not None:
                self._revocation.release(partition, now)
        # A call that waits may never get another permit here.
        self._scheduler.take_back_unwanted(now)
        self._outbox.forget_dropped()
        self._share_quota()
        self._share_memory()
        self._admission.admit_backlogs(now)
        return self._follow_through(now)

    def stopping(self, now: float) -> list[Effect]:
        """Begin to stop: close all partitions, as ``revoking`` does."""
        self._stopping = True
        return self.revoking(list(self._partitions), now)

    def quiet(self, numbers: Iterable[int]) -> bool:
        """Return whether the partitions have nothing in progress or unpublished."""
        return all(number not in self._partitions or self._partitions[number].is_quiet for number in numbers)

    @property
    def idle(self) -> bool:
        """Whether nothing at all is in progress or unpublished."""
        return self.quiet(self._partitions)

    # Commands

    def received(self, records: Sequence[Record], now: float) -> list[Effect]:
        """Take fetched records. Records of a partition that is not ours (any more) are ignored."""
        self._admission.received(records, now)
        if len(records) >= CATCH_UP_FETCH:
            self._scheduler.note_catching_up(now)
        return self._follow_through(now)

    def reached(self, positions: Mapping[int, int]) -> None:
        """
        Note where the consumer is: every record below was given to ``received``, or will never come.

        After the last record come transaction markers and aborted records. Unless their position is committed, they count as lag
        for ever. ``tick`` has it committed from time to time.
        """
        for number, position in positions.items():
            if number in self._partitions:
                self._partitions[number].reached(position)

    def permit_requested(self, call_id: str, now: float) -> list[Effect]:
        """Queue the call, whose backoff is over, for another attempt: ``AllowAttempt`` or ``CancelWaitingCall`` will follow."""
        call = self._scheduler.calls.get(call_id)
        if call is not None:
            call.endpoint.request_permit(call)
        return self._follow_through(now)

    def may_send(self, call_id: str, now: float) -> bool:
        """
        Return whether the call's attempt, which has a permit, may still be sent: the permit is still good, none of its commands was
        dropped or is expired, and, if it has waited longer than ``LONG_WAIT``, no order withholds one of them.

        Checked again because a request may outwait the next owner, the lender, an operator or its commands' last moment.
        """
        call = self._scheduler.calls.get(call_id)
        if call is None or not call.endpoint.may_still_send(call, now):
            return False
        is_expired = self._ordering.is_expired
        return not any(task.command.dropped or is_expired(task, now) for task in call.tasks)

    def attempt_finished(self, call_id: str, result: AttemptResult, now: float) -> list[Effect]:
        """Draw the consequences of one HTTP request. The call goes on if ``RetryCall`` is among the effects; else it is over."""
        call = self._scheduler.calls.get(call_id)
        if call is not None:
            self._responses.attempt_finished(call, result, now)
        return self._follow_through(now)

    def quota_messages(self, payloads: Sequence[bytes], now: float, *, may_lend: bool) -> list[Effect]:
        """
        Take messages of the quota channel, in order, including this replica's own. ``may_lend``: False once the group may have given
        its partitions to another replica.
        """
        self._scheduler.lending.heard(payloads, now, may_lend=may_lend and not self._stopping)
        return self._follow_through(now)

    # Orders

    def control_records_received(self, records: Sequence[ControlRecord], now: float) -> list[Effect]:
        """Put these records of the control topic in force, in order."""
        self._enforcement.put_in_force(records, now)
        return self._follow_through(now)

    # Results

    def take_transaction(self, now: float) -> Transaction | None:
        """Take the next transaction; None if there is nothing to publish, or one is under way."""
        return self._outbox.take_transaction(now)

    def published(self, now: float, seconds: float = 0.0) -> list[Effect]:
        """Finish the records of the transaction: it is committed, and took ``seconds``."""
        self._admission.free_memory_of(self._outbox.committed(self._clock.wall(now), seconds))
        self._admission.admit_backlogs(now)
        return self._follow_through(now)

    def aborted(
        self, now: float, *, took_too_long: bool = False, dead_letters_refused: bool = False
    ) -> list[Effect]:
        """
        Keep the results of the transaction, which was not committed: they are published again.

        ``took_too_long``: the next transaction must be smaller. ``dead_letters_refused``: only dead letters were refused, so results
        that need none are published without them.
        """
        self._outbox.aborted(took_too_long=took_too_long, dead_letters_refused=dead_letters_refused)
        return self._follow_through(now)

    def metadata_refused(self, number: int, now: float) -> list[Effect]:
        """Shorten this partition's commit metadata: the broker refused the last as too long. Otherwise as ``aborted``."""
        if number in self._partitions:
            self._partitions[number].shorten_metadata()
        self._outbox.aborted()
        return self._follow_through(now)

    # Time

    def tick(self, now: float, wall: float) -> list[Effect]:
        """Do everything that is due by time. ``wall`` is ``now`` in seconds since 1970."""
        self._clock.set(now, wall)
        if sum(partition.activate(now) for partition in self._partitions.values()):
            self._share_quota()
            self._admission.admit_backlogs(now)
        self._ordering.due(now)
        self._responses.check_held(now)
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING_SECONDS
            self._enforcement.expire(now)
            self._outbox.schedule_trial(now)
            # Results that were put aside, or dropped records, have left room.
            self._admission.admit_backlogs(now)
            self._forget_old(now, wall)
            self._commit_positions(now)
        return self._follow_through(now)

    @property
    def wake_at(self) -> float:
        """When to ``tick`` next, if no event comes before; in the past: as soon as possible."""
        if self._revocation.unchecked:
            return 0.0
        times = [self._housekeeping_at]
        times += [endpoint.wake_at for endpoint in self._scheduler.endpoints.values()]
        times += [
            partition.wake_at
            for partition in self._partitions.values()
            if partition.state is not PartitionState.ACTIVE
        ]
        due_at = self._ordering.wake_at
        if due_at is not None:
            times.append(due_at)
        return min(times)

    # Reports

    @property
    def halts(self) -> list[HaltReason]:
        """All halts in force, and all endpoints for which something other than Tencent answers. With any, the worker is not ready."""
        found = [app.halt.reason for app in self._scheduler.apps.values()]
        found += [
            endpoint.halt.reason or endpoint.impostor for endpoint in self._scheduler.endpoints.values()
        ]
        return [halt for halt in found if halt is not None]

    @property
    def open_count(self) -> int:
        """How many records are open."""
        return self.count_open(self._partitions)

    def count_open(self, numbers: Iterable[int]) -> int:
        """Count the open records of these partitions."""
        return sum(
            len(self._partitions[number].open_records) for number in numbers if number in self._partitions
        )

    @property
    def unpublished(self) -> int:
        """How many records have a result that is not committed."""
        return self._outbox.unpublished

    def snapshot(self, now: float) -> EngineSnapshot:
        """Take a picture of now, for metrics."""
        orders, paused = self._enforcement.survey()
        return EngineSnapshot(
            endpoints=tuple(
                self._endpoint_snapshot(each, now, is_paused=each.key in paused)
                for each in self._scheduler.endpoints.values()
            ),
            partitions=tuple(
                PartitionSnapshot(
                    partition=each.number,
                    open=each.offsets.open_count,
                    gap=each.offsets.gap,
                    backlog=len(each.backlog),
                    known_ids=len(each.ids),
                    held_up=each.is_held_up,
                )
                for each in self._partitions.values()
            ),
            halts=tuple(self.halts),
            known_effects=len(self._ordering.applied_states),
            unpublished=self._outbox.unpublished,
            memory={
                "commands": self._admission.memory.bytes_used,
                "ids": self._ids.bytes_used,
                "applied": self._ordering.applied_states.bytes_used,
                "results": self._outbox.bytes_used,
            },
            counts=self._counts(),
            orders=orders,
        )

    def _endpoint_snapshot(self, endpoint: EndpointState, now: float, *, is_paused: bool) -> EndpointSnapshot:
        oldest_since, limiter = endpoint.queue.oldest_since(), endpoint.limiter
        return EndpointSnapshot(
            app=endpoint.app.name,
            endpoint=endpoint.name,
            waiting=endpoint.queue.waiting + endpoint.shadow_queue.waiting,
            calls=len(endpoint.calls),
            oldest_age=0.0 if oldest_since is None else now - oldest_since,
            permits_used=limiter.used(now),
            permits_granted=limiter.granted(now),
            permits_owned=limiter.owned,
            permits_lent=limiter.lender.lent(now),
            permits_borrowed=limiter.borrower.usable(now),
            throttle_factor=limiter.factor(now),
            limited_by=self._limited_by(endpoint, now, is_paused=is_paused),
            breaker_open=endpoint.breaker.is_tripped,
            breaker_openings=endpoint.breaker.openings,
        )

    def _limited_by(self, endpoint: EndpointState, now: float, *, is_paused: bool) -> LimitedBy:
        if self._outbox.is_full:
            return "publishing"
        found = endpoint.limited_by(now)
        return "pause" if is_paused and found == "nothing" else found

    def _counts(self) -> EventCounts:
        ordering, bisections = self._ordering, self._responses.bisections
        return EventCounts(
            repeated_records=self._admission.repeated_records,
            repeated_ids=ordering.repeated_ids,
            repeated_effects=ordering.repeated_effects,
            coalesced=ordering.coalesced,
            superseded=ordering.superseded,
            splits=bisections.begun,
            inferred=bisections.inferred,
            recalled=self._scheduler.recalled,
            misplaced=dict(self._admission.misplaced),
            given_up=self._revocation.given_up,
            forgotten_ids=self._ids.forgotten,
            forgotten_effects=ordering.applied_states.forgotten,
            foreign_metadata=self._foreign_metadata,
            strange_quota_messages=self._scheduler.lending.strange,
        )

    # Inside

    def _follow_through(self, now: float) -> list[Effect]:
        """Run the stages until nothing more follows from the event. Return its effects."""
        revocation = self._revocation
        if revocation.closing:
            revocation.drop_unstarted(now)
            revocation.give_up(now)
        goes_on = True
        while goes_on:
            goes_on = self._send(now)
            completed = self._ordering.take_completed()
            if completed:
                self._emit(completed, now)
            if revocation.closing and revocation.give_up(now):
                goes_on = True  # what waited for the dropped commands may be sent
        if revocation.closing:
            stranded = self._outbox.stranded()
            if stranded:
                revocation.drop_stranded(stranded, now)
                self._outbox.forget_dropped()
            self._advance_clean_handovers(now)
        return self._effects.drain()

    def _send(self, now: float) -> bool:
        """Send all that may be sent. Return whether further tasks may have become ready."""
        self._scheduler.apply_changes(now)
        if self._revocation.unchecked:
            return False
        any_ready = self._scheduler.pump(now, outbox_has_room=not self._outbox.is_full)
        if self._guards.tripped:
            self._enforcement.enforce_guards(now)
            self._scheduler.apply_changes(now)
            # Nothing more in this event: to enforce an order all open commands are looked at, and hundreds of scopes may trip together.
            return False
        return any_ready

    def _emit(self, completed: Iterable[OpenCommand], now: float) -> None:
        """Emit completed commands, and those that waited only for them."""
        emitted = self._outbox.emit(completed, now, self._clock.wall(now))
        self._ordering.forget_emitted(emitted, now)
        self._admission.forget_records_of(emitted)

    def _advance_clean_handovers(self, now: float) -> None:
        """Let the last commits of closing partitions say, where it is true, that none of their requests can act any more."""
        awaited = [partition for partition in self._revocation.closing if partition.clean_handover.is_awaited]
        if not awaited:
            return
        released = [partition for partition in awaited if partition.release_slice(now)]
        if released:
            self._share_quota()
        scheduler, until_covered = self._scheduler, None
        if scheduler.permits_cover_in_flight(now):
            until_covered = scheduler.seconds_until_covered(now)
        is_possible = until_covered is not None or scheduler.may_soon_cover_in_flight(now)
        for partition in awaited:
            if partition.clean_handover.deadline is not None and not is_possible:
                partition.clean_handover.give_up()  # not in time: the next owner waits its three seconds anyway
            elif partition.advance_handover(now, until_covered):
                self._outbox.anchor(partition)

    def _share_quota(self) -> None:
        self._scheduler.use_slices(
            number for number, partition in self._partitions.items() if partition.holds_slice
        )

    def _share_memory(self) -> None:
        for budget in (self._admission.memory, self._outbox):
            budget.share_out(self._partitions.values())

    def _commit_positions(self, now: float) -> None:
        if now >= self._positions_at:
            for partition in self._partitions.values():
                if partition.commit_lags:
                    self._outbox.anchor(partition)
                    self._positions_at = now + COMMIT_POSITIONS_SECONDS

    def _forget_old(self, now: float, wall: float) -> None:
        for partition in self._partitions.values():
            partition.ids.expire(wall)
        self._ordering.applied_states.expire(now, self._settings.effect_window)
        for endpoint in self._scheduler.endpoints.values():
            endpoint.release_idle_held(now)
            endpoint.forget_idle()
        self._admission.sum_up()
        self._enforcement.sum_up()

    def __repr__(self) -> str:
        return f"<Engine {self.open_count} open, {len(self._scheduler.calls)} in flight, {self._outbox.unpublished} unpublished>"
