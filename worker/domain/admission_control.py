# From fetched records to open ones: which records are admitted, when, and whether their command ids are known already.
#
# A record is admitted when its partition is active, its offset fits into the bitmap, and memory and outbox have room. Otherwise it waits
# in its partition's backlog, and that partition is paused. When memory or the outbox is full, so is every partition that has used up its
# guaranteed part. Bad input becomes a RejectedRecord, which needs no call.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.parameters import without_reason
from worker.domain.contract.placement_check import PlacementCheck
from worker.domain.contract.rejections import Rejected
from worker.domain.effects import LogEvent, PausePartition, ResumePartition
from worker.domain.memory_budget import COMMAND_BYTES, POLL_BYTES, command_bytes, record_bytes, share
from worker.domain.progress.dedupe import fingerprint_of
from worker.domain.progress.open_commands import OpenCommand, RejectedRecord, in_shadow
from worker.domain.progress.outcome_building import is_dead
from worker.domain.progress.partitioned_budget import PartitionedBudget
from worker.domain.rejection_log import RejectionLog
from worker.domain.state_transitions import PartitionState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.contract.parameters import EffectKey
    from worker.domain.contract.placement_check import Misplacement
    from worker.domain.contract.raw_records import Record
    from worker.domain.effects import EffectQueue
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.operator_orders import OperatorOrders
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import OpenRecord
    from worker.domain.progress.outbox import Outbox
    from worker.domain.progress.partitions import Partition
    from worker.domain.wall_clock import WallClock

MAX_MISPLACED_WARNINGS: Final = 100
"""There is one warning for each issuer and reason of misplaced records; after this many warnings misplaced records are only counted."""
MAX_SHARED_KEYS: Final = 1_000
"""This many different effect keys without a reason are kept, to be shared by commands with the same effect."""


class AdmissionControl:
    """
    Admits records, and keeps backlogs and open records within their part of the memory.

    A partition with nothing open may always admit one command, however large.

    Attributes:
        memory: The bytes of the backlogs and the open records.
        repeated_records: Records since the start that were done already and were received again (a redelivery).
        misplaced: Records since the start in the wrong place, by reason: order and deduplication are not promised for them.

    """

    def __init__(
        self,
        settings: EngineSettings,
        clock: WallClock,
        ordering: MemberOrdering,
        scheduler: Scheduler,
        outbox: Outbox,
        effects: EffectQueue,
        orders: OperatorOrders,
        partitions: Mapping[int, Partition],
    ) -> None:
        self._orders = orders
        self._settings = settings
        self._clock = clock
        self._ordering = ordering
        self._scheduler = scheduler
        self._outbox = outbox
        self._effects = effects
        self._partitions = partitions
        self._decoder = CommandDecoder(settings)
        self._placement = PlacementCheck(settings.partitions)
        self._rejections = RejectionLog()
        self._warned: set[tuple[str | None, Misplacement]] = set()
        self._shared_keys: dict[EffectKey, EffectKey] = {}
        self.memory = PartitionedBudget(share("commands", settings.memory_budget))
        self.repeated_records = 0
        self.misplaced: dict[str, int] = {}

    def received(self, records: Iterable[Record], now: float) -> None:
        """Admit fetched records, or keep them in the backlog. Records of a partition that is not ours (any more) are ignored."""
        for record in records:
            partition = self._partitions.get(record.partition)
            if partition is None or (not partition.backlog and self._admit(partition, record, now)):
                continue
            partition.hold_back(record)
            self.memory.add(partition, record_bytes(record))
            self._pause(partition)
            if self._is_full:
                for owned in self._partitions.values():
                    if not self._may_fetch(owned):
                        self._pause(owned)

    def admit_backlogs(self, now: float) -> None:
        """Admit records of the backlogs, as far as there is room now."""
        for partition in self._partitions.values():
            while partition.backlog:
                record = partition.backlog[0]
                size = record_bytes(record)
                self.memory.add(partition, -size)  # once it is admitted, `_admit` counts it
                if not self._admit(partition, record, now):
                    self.memory.add(partition, size)
                    break
                partition.admit_held_back()
        for partition in self._partitions.values():
            if partition.paused and self._may_fetch(partition) and partition.resume():
                self._effects.ask_for(ResumePartition(partition.number))

    def free_memory_of(self, records: Iterable[OpenRecord]) -> None:
        """Free the memory of records that are not open any more: their offsets are finished, or they were dropped."""
        freed: dict[Partition, int] = {}
        for record in records:
            freed[record.partition] = freed.get(record.partition, 0) + record.size
        for partition, size in freed.items():
            self.memory.add(partition, -size)

    def forget_backlog(self, partition: Partition) -> None:
        """Forget the partition's backlog: it is the next owner's."""
        self.memory.add(partition, -sum(map(record_bytes, partition.backlog)))
        partition.clear_backlog()

    def forget_records_of(self, commands: Iterable[OpenCommand]) -> None:
        """Forget the records of the emitted commands that get no dead letter: nothing needs them any more."""
        freed: dict[Partition, int] = {}
        for command in commands:
            if command.record is not None and not is_dead(command):
                freed[command.partition] = freed.get(command.partition, 0) + command.forget_record()
        for partition, size in freed.items():
            self.memory.add(partition, -size)

    def sum_up(self) -> None:
        """Log how many rejections had no line of their own since the last summary."""
        summary = self._rejections.summary()
        if summary is not None:
            self._effects.ask_for(summary)

    @property
    def _is_full(self) -> bool:
        return self.memory.is_full or self._outbox.is_full

    def _may_fetch(self, partition: Partition) -> bool:
        """Return whether there is room for the records that a poll may bring of the partition, if need be within its guaranteed part."""
        return self.memory.takes_more_of(partition, POLL_BYTES) and self._outbox.takes_more_of(partition)

    def _pause(self, partition: Partition) -> None:
        if partition.pause():
            self._effects.ask_for(PausePartition(partition.number))

    def _admit(self, partition: Partition, record: Record, now: float) -> bool:
        """Return False if the record must wait; True once it is admitted, rejected or skipped."""
        if partition.state is not PartitionState.ACTIVE:
            return False
        offsets, offset = partition.offsets, record.offset
        if offsets.is_done(offset):
            offsets.skipped(offset)
            self.repeated_records += 1
            return True
        if not offsets.fits(offset) or not self._outbox.takes_more_of(partition):
            return False
        size = record_bytes(record)
        if partition.open_records and not self.memory.has_room_for(partition, COMMAND_BYTES + size):
            return False
        decoded = self._decoder.decode(record)
        if isinstance(decoded, Command):
            self._check_place(record, (decoded.app, decoded.target), decoded.issuer)
            rejection = self._open_command(partition, record, size, decoded, now)
        else:
            self._check_place(record, None, decoded.issuer)
            rejection = decoded
        if rejection is not None:
            self._reject(partition, record, size, rejection, now)
        return True

    def _reject(
        self, partition: Partition, record: Record, record_size: int, why: Rejected, now: float
    ) -> None:
        """Take in a record that was rejected, and log it."""
        line: LogEvent | None
        if why.code == "not_read":
            fields = {"partition": partition.number, "offset": record.offset, "reason": why.message}
            line = LogEvent("record.not_read", "warning", fields)
        else:
            line = self._rejections.line(why, partition.number, record.offset)
        if line is not None:
            self._effects.ask_for(line)
        size = record_size + command_bytes(record.value or b"", why, 0, opens_group=False)
        rejected = RejectedRecord(record, partition, now, why, size)
        partition.admit(rejected)
        self.memory.add(partition, size)
        self._outbox.reject(rejected, now, self._clock.wall(now))

    def _open_command(
        self, partition: Partition, record: Record, record_size: int, spec: Command, now: float
    ) -> Rejected | None:
        """Open a command, unless its id was used for a different command: then return why it is rejected."""
        fingerprint = fingerprint_of(spec)
        order = self._orders.of(spec)
        earlier = None
        if order is not None and order.policy.simulates:
            # In shadow an id is looked for first among the ids in shadow, which have names of their own.
            earlier = partition.find(in_shadow(spec.command_id), self._clock.wall(now))
        earlier = earlier or partition.find(spec.command_id, self._clock.wall(now))
        if earlier is not None and earlier.fingerprint != fingerprint:
            return _id_reused(spec, earlier.outcome_id)
        endpoint = self._scheduler.endpoints[spec.app, spec.action.endpoint]
        effect_key = spec.effect if self._settings.reasons_matter else self._shared_key_of(spec)
        opens_group = not endpoint.queue.has_group_for(spec.target, effect_key)
        size = record_size + command_bytes(
            record.value or b"", spec, len(spec.users), opens_group=opens_group
        )
        command = OpenCommand(  # by position: by name, eleven fields take half a microsecond longer
            record,
            partition,
            now,
            spec,
            effect_key,
            fingerprint,
            endpoint.key,
            earlier,
            size,
            record_size,
            order,
        )
        partition.admit(command)
        self.memory.add(partition, size)
        self._ordering.enter(command, now)
        self._scheduler.apply_changes(now)  # later commands may share its calls, and then cost less memory
        return None

    def _shared_key_of(self, spec: Command) -> EffectKey:
        """Return the effect key without a reason. Most commands have the same, and share it while they are open."""
        key = without_reason(spec.effect)
        if len(self._shared_keys) > MAX_SHARED_KEYS:
            self._shared_keys.clear()
        return self._shared_keys.setdefault(key, key)

    def _check_place(self, record: Record, target: tuple[str, str] | None, issuer: str | None) -> None:
        """Count the record, and warn of it, if it is in the wrong place. It is carried out all the same."""
        reason = self._placement.judge(record, target)
        if reason is None:
            return
        self.misplaced[reason] = self.misplaced.get(reason, 0) + 1
        warning = (issuer, reason)
        if warning not in self._warned and len(self._warned) < MAX_MISPLACED_WARNINGS:
            self._warned.add(warning)
            fields = {
                "reason": reason.value,
                "issuer": issuer,
                "partition": record.partition,
                "offset": record.offset,
            }
            self._effects.ask_for(LogEvent("record.misplaced", "warning", fields))


def _id_reused(spec: Command, outcome_id: str) -> Rejected:
    return Rejected(
        "command_id_reused",
        "command_id",
        f"{outcome_id} had the same command_id with another app, action, target, users or parameters: use a new id",
        command_id=spec.command_id,
        action=spec.action.name,
        app=spec.app,
        group_id=spec.target if spec.action.target == "group_id" else None,
        room_id=spec.target if spec.action.target == "room_id" else None,
        issuer=spec.issuer,
        issued_at=spec.issued_at,
        metadata=spec.metadata,
        traceparent=spec.traceparent,
        user_ids=spec.users,
    )
