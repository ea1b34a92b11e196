# The engine: the stages in order. It is told what happened and answers with what shall happen; everything that changes
# state goes through it.
#
#   records -> intake -> lines -> dispatch -> (a call) -> answers -> lines -> ledger -> (a transaction) -> finished
#
# No clock, thread, I/O or logging: `now` is the monotonic clock's float seconds, and never goes back. One thread owns it.

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.domain.admission import Admission
from worker.domain.calls.response_handler import ResponseHandler
from worker.domain.calls.scheduler import Scheduler
from worker.domain.clock import Clock
from worker.domain.effects import LogEvent
from worker.domain.memory import share
from worker.domain.progress.dedupe import IdMemory
from worker.domain.progress.member_ordering import MemberOrdering
from worker.domain.progress.open_commands import Partition
from worker.domain.progress.outbox import Outbox
from worker.domain.revocation import Revocation
from worker.domain.snapshots import Counts, EndpointSnapshot, PartitionSnapshot, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.domain.contract.records import Record
    from worker.domain.effects import AttemptResult, Effect, Halt, Restored, Transaction
    from worker.domain.rules import Rules

HOUSEKEEPING = 1.0
"""Seconds between two looks at what has become too old."""
COMMIT_POSITIONS = 5.0
"""Seconds between two transactions that hold nothing but offsets, of partitions with nothing open."""


class Engine:
    """
    Decides everything about commands, and does nothing.

    Every method that is told of an event returns the effects that follow from it, in order. Between two events, call
    ``tick`` no later than ``wake_at``. When the publisher is free, take ``transaction``, and answer for it with
    ``published``, ``aborted`` or ``metadata_refused``.
    """

    def __init__(self, rules: Rules, now: float, wall: float, call_prefix: str) -> None:
        self._rules = rules
        self._clock = Clock(now, wall)
        self._counts = Counts()
        self._lines = MemberOrdering(rules, self._clock, self._counts)
        self._ledger = Outbox(rules)
        self._dispatch = Scheduler(rules, self._clock, self._lines, self._ledger, self._counts, call_prefix)
        self._answers = ResponseHandler(rules, self._clock, self._lines, self._dispatch, self._counts)
        self._partitions: dict[int, Partition] = {}
        self._intake = Admission(
            rules, self._clock, self._lines, self._dispatch, self._ledger, self._counts, self._partitions
        )
        self._departures = Revocation(self._lines, self._ledger, self._intake, self._counts)
        self._ids = IdMemory(share("ids", rules.memory_budget), self._counts)
        self._stopping = False
        self._housekeeping_at = now
        self._positions_at = now

    # What happens to partitions

    def assigned(self, number: int, restored: Restored, now: float) -> list[Effect]:
        """The partition is ours and what was done before is known. Its commands are called from three seconds on."""
        assert number not in self._partitions
        partition = self._partitions[number] = Partition(number, restored, self._rules, now, self._ids)
        partition.closing = self._stopping
        self._intake.own()
        if restored.fresh or restored.foreign is not None:
            self._ledger.anchor(partition)
        if restored.foreign is not None:
            self._counts.foreign_metadata += 1
            fields = {"topic": self._rules.topic, "partition": number, "excerpt": restored.foreign}
            self._dispatch.effects.append(LogEvent("kafka.foreign_metadata", "warning", fields))
        return self._flush(now)

    def revoking(self, numbers: Iterable[int], now: float) -> list[Effect]:
        """The partitions are about to go: starts nothing new of them, finishes what is started (see ``quiet``)."""
        for number in numbers:
            if number in self._partitions:
                self._departures.close(self._partitions[number], now)
        return self._flush(now)

    def revoked(self, numbers: Iterable[int], now: float) -> list[Effect]:
        """The partitions are gone: what of them is open is the next owner's."""
        for number in numbers:
            partition = self._partitions.pop(number, None)
            if partition is not None:
                self._departures.leave(partition, now)
        self._ledger.forget_dropped()
        self._own()
        self._intake.own()
        self._intake.catch_up(now)
        return self._flush(now)

    def stopping(self, now: float) -> list[Effect]:
        """The worker is asked to stop: as ``revoking`` of everything."""
        self._stopping = True
        return self.revoking(list(self._partitions), now)

    def quiet(self, numbers: Iterable[int]) -> bool:
        """Whether nothing of the partitions is in progress or unpublished."""
        return all(number not in self._partitions or self._partitions[number].quiet for number in numbers)

    @property
    def idle(self) -> bool:
        """Whether nothing at all is in progress or unpublished."""
        return self.quiet(self._partitions)

    # What happens to commands

    def received(self, records: Sequence[Record], now: float) -> list[Effect]:
        """Records were fetched. Those of a partition that is not ours (any more) are ignored."""
        for record in records:
            partition = self._partitions.get(record.partition)
            if partition is not None:
                self._intake.received(partition, record, now)
        return self._flush(now)

    def reached(self, positions: Mapping[int, int]) -> None:
        """
        The consumer stands there: every record below was given to ``received``, or will never come.

        Behind the last record are the markers of its producer's transaction, and what was aborted. Uncommitted, they would be
        lag for ever. ``tick`` has them committed, now and then.
        """
        for number, position in positions.items():
            partition = self._partitions.get(number)
            # What a partition that goes had in its backlog is the next owner's, though the consumer has passed it.
            if partition is not None and not partition.backlog and not partition.closing:
                partition.offsets.reached(position)

    def permit_requested(self, call_id: str, now: float) -> list[Effect]:
        """Queue the call, whose backoff is over, for another attempt: ``GrantPermit`` or ``CancelCall`` will follow."""
        flight = self._dispatch.flights.get(call_id)
        if flight is not None:
            self._dispatch.asked(flight)
        return self._flush(now)

    def attempt_finished(self, call_id: str, result: AttemptResult, now: float) -> list[Effect]:
        """Draw the consequences of one HTTP request. With ``RetryCall`` among the effects the call goes on, else it is over."""
        flight = self._dispatch.flights.get(call_id)
        if flight is not None:
            self._answers.attempt_finished(flight, result, now)
        return self._flush(now)

    # What happens to results

    def transaction(self) -> Transaction | None:
        """What shall be published next, in one transaction; None if there is nothing, or one is under way."""
        return self._ledger.transaction()

    def published(self, now: float, seconds: float = 0.0) -> list[Effect]:
        """The transaction is committed; it took so many seconds."""
        finished = self._ledger.committed(self._clock.wall(now), seconds)
        self._intake.finished(work for work in finished if not work.dropped)
        self._intake.catch_up(now)
        return self._flush(now)

    def aborted(self, now: float, *, aged: bool = False, letters: bool = False) -> list[Effect]:
        """
        The transaction was not committed: its results are kept and go again.

        ``aged``: it took too long. ``letters``: only its dead letters were refused; what needs none goes on without them.
        """
        self._ledger.aborted(aged=aged, letters=letters)
        return self._flush(now)

    def metadata_refused(self, number: int, now: float) -> list[Effect]:
        """
        The broker takes less metadata than the partition's commit had: as ``aborted``, and it stays closer to its oldest
        open record from now on.
        """
        if number in self._partitions:
            self._partitions[number].offsets.halve()
        self._ledger.aborted()
        return self._flush(now)

    # Time

    def tick(self, now: float, wall: float) -> list[Effect]:
        """Time has passed. ``wall`` is now in seconds since 1970."""
        self._clock.set(now, wall)
        active = False
        for partition in self._partitions.values():
            if not partition.active and now >= partition.active_at:
                partition.active = active = True
        if active:
            self._own()
            self._intake.catch_up(now)
        self._lines.due(now)
        self._answers.check_held(now)
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING
            self._ledger.probe(now)
            self._forget_old(now, wall)
            self._commit_positions(now)
        return self._flush(now)

    def wake_at(self) -> float:
        """When to ``tick`` next, if nothing happens before."""
        times = [self._housekeeping_at]
        times += [lane.wake_at for lane in self._dispatch.lanes]
        times += [partition.active_at for partition in self._partitions.values() if not partition.active]
        if self._lines.wake_at is not None:
            times.append(self._lines.wake_at)
        return min(times)

    # What it tells of itself

    @property
    def halts(self) -> list[Halt]:
        """What is halted, or answered by another than Tencent, and why: with any, the worker is not ready."""
        found = [app.halts.current for app in self._dispatch.apps.values()]
        found += [lane.halts.current or lane.impostor for lane in self._dispatch.lanes]
        return [halt for halt in found if halt is not None]

    @property
    def open(self) -> int:
        """How many commands are open."""
        return self.open_of(self._partitions)

    def open_of(self, numbers: Iterable[int]) -> int:
        """How many commands of these partitions are open."""
        return sum(len(self._partitions[number].works) for number in numbers if number in self._partitions)

    @property
    def unpublished(self) -> int:
        """How many commands have an outcome that is not committed."""
        return self._ledger.unpublished

    def snapshot(self, now: float) -> Snapshot:
        """A picture of now, for metrics."""
        lanes = []
        for lane in self._dispatch.lanes:
            oldest = lane.queue.oldest()
            lanes.append(
                EndpointSnapshot(
                    app=lane.app.name,
                    endpoint=lane.endpoint,
                    waiting=lane.queue.waiting,
                    calls=len(lane.flights),
                    oldest_age=0.0 if oldest is None else now - oldest,
                    permits_used=lane.permits.used(now),
                    permits_granted=lane.permits.granted(now),
                    permits_owned=lane.permits.owned,
                    throttle_factor=lane.permits.factor(now),
                    limited_by="publishing" if self._ledger.is_full else lane.limited_by(now),
                    breaker_open=lane.breaker.is_open,
                    breaker_openings=lane.breaker.opened,
                )
            )
        return Snapshot(
            lanes=tuple(lanes),
            partitions=tuple(
                PartitionSnapshot(
                    each.number, each.offsets.open, each.offsets.gap, len(each.backlog), len(each.ids)
                )
                for each in self._partitions.values()
            ),
            halts=tuple(self.halts),
            known_effects=len(self._lines.effects),
            unpublished=self._ledger.unpublished,
            memory={
                "commands": self._intake.held,
                "ids": self._ids.held,
                "applied": self._lines.effects.held,
                "results": self._ledger.held,
            },
            counts=self._counts,
        )

    # Inside

    def _flush(self, now: float) -> list[Effect]:
        """Lets everything follow that follows from the event."""
        if any(lane.is_blocked for lane in self._dispatch.lanes):
            self._departures.give_up(self._partitions.values(), now)
        self._dispatch.pump(now)
        while self._lines.complete:
            works, self._lines.complete = self._lines.complete, []
            for work in self._ledger.emit(works, now, self._clock.wall(now)):
                self._lines.emitted(work, now)
                self._intake.emitted(work)
            self._dispatch.pump(now)
        effects, self._dispatch.effects = self._dispatch.effects, []
        return effects

    def _own(self) -> None:
        self._dispatch.own(number for number, partition in self._partitions.items() if partition.active)

    def _commit_positions(self, now: float) -> None:
        if now < self._positions_at:
            return
        for partition in self._partitions.values():
            if partition.offsets.is_behind and partition.active and not partition.closing:
                self._ledger.anchor(partition)
                self._positions_at = now + COMMIT_POSITIONS

    def _forget_old(self, now: float, wall: float) -> None:
        for partition in self._partitions.values():
            partition.ids.expire(wall)
        self._lines.effects.expire(now, self._rules.effect_window)
        for lane in self._dispatch.lanes:
            lane.forget_idle(now)
            lane.queue.sweep()
        self._intake.sum_up()

    def __repr__(self) -> str:
        return f"<Engine {self.open} open, {len(self._dispatch.flights)} in flight, {self._ledger.unpublished} unpublished>"
