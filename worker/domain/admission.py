# From records to open commands: what is admitted, when, and what is known of it already.
#
# A record is admitted when its offset fits into the bitmap and memory allows it; else it waits in its partition's
# backlog and the partition is paused; for want of memory, all are. Bad input becomes a rejected OpenCommand, which goes the
# same way as any other.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.commands import Command, Decoder, Rejected
from worker.domain.contract.placement import Placement
from worker.domain.effects import LogEvent, PausePartition, ResumePartition
from worker.domain.memory import COMMAND_BYTES, command_bytes, record_bytes, share
from worker.domain.progress.dedupe import fingerprint_of
from worker.domain.progress.open_commands import OpenCommand
from worker.domain.progress.outcome_building import is_dead
from worker.domain.rejection_log import RejectionLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.clock import Clock
    from worker.domain.contract.placement import Misplacement
    from worker.domain.contract.records import Record
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import Partition, What
    from worker.domain.progress.outbox import Outbox
    from worker.domain.rules import Rules
    from worker.domain.snapshots import Counts

MAX_WARNED_ISSUERS: Final = 100
"""An issuer of misplaced records is warned of once for each reason; beyond so many warnings they are only counted."""
MAX_ALIKE: Final = 1_000
"""So many different values of ``What`` are kept, to be shared."""


class Admission:
    """
    Admits records, and keeps what waits and what is open within its part of the memory.

    Half of that is shared out: however much the others hold, each partition has an equal part of it. The other half is for
    whoever comes. A partition of which nothing is open may always have one command, whatever it takes.

    Attributes:
        held: What all that waits and all that is open takes.
        limit: What it may take.

    """

    __slots__ = (
        "_alike",
        "_beyond",
        "_clock",
        "_counts",
        "_decoder",
        "_dispatch",
        "_each",
        "_ledger",
        "_lines",
        "_partitions",
        "_placement",
        "_rejections",
        "_rules",
        "_warned",
        "held",
        "limit",
    )  # fmt: skip

    def __init__(
        self,
        rules: Rules,
        clock: Clock,
        lines: MemberOrdering,
        dispatch: Scheduler,
        ledger: Outbox,
        counts: Counts,
        partitions: Mapping[int, Partition],
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._lines = lines
        self._dispatch = dispatch
        self._counts = counts
        self._decoder = Decoder(rules)
        self._placement = Placement(rules.partitions)
        self._rejections = RejectionLog()
        self._warned: set[tuple[str | None, Misplacement]] = set()
        self._ledger = ledger
        self._partitions = partitions
        self.limit = share("commands", rules.memory_budget)
        self._alike: dict[What, What] = {}
        self._each = 0
        self._beyond = 0
        self.held = 0

    def received(self, partition: Partition, record: Record, now: float) -> None:
        """A record was fetched: it is admitted, or waits in the backlog."""
        if partition.backlog or not self._admit(partition, record, now):
            partition.backlog.append(record)
            self._hold(partition, record_bytes(record))
            self._pause(partition)
            if self._is_full:
                for each in self._partitions.values():
                    self._pause(each)

    def catch_up(self, now: float) -> None:
        """Some may fit now: admits what waits in the backlogs."""
        for partition in self._partitions.values():
            backlog = partition.backlog
            while backlog:
                size = record_bytes(backlog[0])
                self._hold(partition, -size)
                if not self._admit(partition, backlog[0], now):
                    self._hold(partition, size)
                    break
                backlog.popleft()
        if self._is_full:
            return
        for partition in self._partitions.values():
            if partition.paused and not partition.backlog and partition.active and not partition.closing:
                partition.paused = False
                self._dispatch.effects.append(ResumePartition(partition.number))

    def own(self) -> None:
        """Other partitions than before are ours."""
        self._each = self.limit // 2 // max(1, len(self._partitions))
        self._beyond = sum(max(0, each.held - self._each) for each in self._partitions.values())

    def finished(self, works: Iterable[OpenCommand]) -> None:
        """These commands are not open any more."""
        for work in works:
            self._hold(work.partition, -work.size)

    def forget_backlog(self, partition: Partition) -> None:
        """What waits there is the next owner's."""
        self._hold(partition, -sum(map(record_bytes, partition.backlog)))
        partition.backlog.clear()

    def emitted(self, work: OpenCommand) -> None:
        """The command's outcome is made: its record is not kept for a dead letter any more, if it gets none."""
        record = work.record
        if record is not None and not is_dead(work):
            work.record = None
            freed = min(work.size, record_bytes(record))
            work.size -= freed
            self._hold(work.partition, -freed)

    def sum_up(self) -> None:
        """Tells how many rejections had no line of their own since it was told last."""
        summary = self._rejections.summary()
        if summary is not None:
            self._dispatch.effects.append(summary)

    @property
    def _is_full(self) -> bool:
        return self._beyond >= self.limit - self.limit // 2 or not self._ledger.takes_more

    def _pause(self, partition: Partition) -> None:
        if not partition.paused:
            partition.paused = True
            self._dispatch.effects.append(PausePartition(partition.number))

    def _hold(self, partition: Partition, size: int) -> None:
        """The partition holds so many bytes more."""
        before = partition.held
        partition.held = after = before + size
        self.held += size
        if not partition.gone:
            self._beyond += max(0, after - self._each) - max(0, before - self._each)

    def _has_memory_for(self, partition: Partition, record: Record) -> bool:
        if not partition.works:
            return True
        after = partition.held + COMMAND_BYTES + record_bytes(record)
        beyond = max(0, after - self._each) - max(0, partition.held - self._each)
        return not beyond or self._beyond + beyond <= self.limit - self.limit // 2

    def _charge(self, work: OpenCommand, decoded: Command | Rejected, *, alone: bool) -> None:
        users = len(decoded.users) if isinstance(decoded, Command) else 0
        assert work.record is not None
        work.size = command_bytes(work.record, decoded, users, alone=alone)
        self._hold(work.partition, work.size)

    def _admit(self, partition: Partition, record: Record, now: float) -> bool:
        offset = record.offset
        if partition.closing or not partition.active:
            return False
        if partition.offsets.is_done(offset):
            partition.offsets.passed(offset)
            self._counts.repeated_records += 1
            return True
        if not partition.offsets.fits(offset) or not self._ledger.takes_more:
            return False
        if not self._has_memory_for(partition, record):
            return False
        self._open(partition, record, now)
        return True

    def _open(self, partition: Partition, record: Record, now: float) -> None:
        offset = record.offset
        decoded = self._decoder.decode(record)
        work = OpenCommand(record, partition, now)
        partition.offsets.admit(offset)
        partition.works[offset] = work
        self._place(record, decoded)
        if isinstance(decoded, Command):
            work.fingerprint = fingerprint_of(decoded)
            reused = self._recognise(work, decoded, now)
            if reused is None:
                work.command = decoded
                work.what = self._what(decoded)
                work.lane = self._dispatch.lane(decoded.app, decoded.action)
                partition.by_id[decoded.command_id] = work
                alone = work.lane.queue.is_new(decoded.target, work.what)
                self._charge(work, decoded, alone=alone)
                self._lines.enter(work, decoded, now)
                return
            decoded = reused
        work.rejected = decoded
        if decoded.code == "not_read":
            told = {"partition": partition.number, "offset": offset, "reason": decoded.message}
            self._dispatch.effects.append(LogEvent("record.not_read", "warning", told))
        elif (line := self._rejections.line(decoded, partition.number, offset)) is not None:
            self._dispatch.effects.append(line)
        self._charge(work, decoded, alone=False)
        self._lines.complete.append(work)

    def _recognise(self, work: OpenCommand, command: Command, now: float) -> Rejected | None:
        """Finds an earlier command with the same id. Rejects this one if the two are not the same."""
        earlier = work.partition.by_id.get(command.command_id)
        known = earlier or work.partition.ids.find(command.command_id, self._clock.wall(now))
        if known is None:
            return None
        if known.fingerprint == work.fingerprint:
            work.repeats = known
            return None
        return Rejected(
            "command_id_reused",
            "command_id",
            f"{known.outcome_id} had the same command_id with another action, target, users or parameters: use a new id",
            command_id=command.command_id,
            action=command.action.name,
            app=command.app,
            group_id=command.target if command.action.target == "group_id" else None,
            room_id=command.target if command.action.target == "room_id" else None,
            issuer=command.issuer,
            issued_at=command.issued_at,
            metadata=command.metadata,
            traceparent=command.traceparent,
            user_ids=command.users,
        )

    def _what(self, command: Command) -> What:
        reason = command.reason if self._rules.reasons_matter else None
        return self._same(
            (command.action.name, command.duration, command.banned_until, reason, command.member_info)
        )

    def _same(self, what: What) -> What:
        """An equal value of an earlier command: most commands are alike, and each holds its own for as long as it is open."""
        if len(self._alike) > MAX_ALIKE:
            self._alike.clear()
        return self._alike.setdefault(what, what)

    def _place(self, record: Record, decoded: Command | Rejected) -> None:
        """A record in the wrong place is carried out all the same, counted, and told."""
        target = (decoded.app, decoded.target) if isinstance(decoded, Command) else None
        reason = self._placement.judge(record, target)
        if reason is None:
            return
        misplaced = self._counts.misplaced
        misplaced[reason] = misplaced.get(reason, 0) + 1
        told = (decoded.issuer, reason)
        if told not in self._warned and len(self._warned) < MAX_WARNED_ISSUERS:
            self._warned.add(told)
            fields = {
                "reason": reason.value,
                "issuer": decoded.issuer,
                "partition": record.partition,
                "offset": record.offset,
            }
            self._dispatch.effects.append(LogEvent("record.misplaced", "warning", fields))
