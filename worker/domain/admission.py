# From records to open commands: what is admitted, when, and what is known of it already.
#
# A record is admitted when its offset fits into the bitmap and memory allows it; else it waits in its partition's
# backlog and the partition is paused. Bad input becomes a rejected OpenCommand, which goes the same way as any other.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.commands import Command, Decoder, Rejected
from worker.domain.effects import LogEvent, PausePartition, ResumePartition
from worker.domain.progress.dedupe import fingerprint_of
from worker.domain.progress.open_commands import OpenCommand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.clock import Clock
    from worker.domain.contract.records import Record
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import Partition, What
    from worker.domain.rules import Rules
    from worker.domain.snapshots import Counts

MAX_WARNED_ISSUERS: Final = 100
"""An issuer whose records have no key is warned of once; beyond so many issuers they are only counted."""
COMMAND_BYTES: Final = 1_200
MEMBER_BYTES: Final = 550
"""What an open command, and each of its users, take in memory besides the record's own bytes (measured)."""


class Admission:
    """
    Admits records.

    Attributes:
        open_bytes: What the records of all open commands hold in memory.

    """

    __slots__ = ("_clock", "_counts", "_decoder", "_dispatch", "_lines", "_rules", "_warned", "open_bytes")

    def __init__(
        self, rules: Rules, clock: Clock, lines: MemberOrdering, dispatch: Scheduler, counts: Counts
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._lines = lines
        self._dispatch = dispatch
        self._counts = counts
        self._decoder = Decoder(rules)
        self._warned: set[str | None] = set()
        self.open_bytes = 0

    def received(self, partition: Partition, record: Record, now: float) -> None:
        """A record was fetched: it is admitted, or waits in the backlog."""
        if partition.backlog or not self._admit(partition, record, now):
            partition.backlog.append(record)
            if not partition.paused:
                partition.paused = True
                self._dispatch.effects.append(PausePartition(partition.number))

    def catch_up(self, partitions: Iterable[Partition], now: float) -> None:
        """There may be room again: admits what waits in the backlogs."""
        for partition in partitions:
            backlog = partition.backlog
            while backlog and self._admit(partition, backlog[0], now):
                backlog.popleft()
            if partition.paused and not backlog and partition.active and not partition.closing:
                partition.paused = False
                self._dispatch.effects.append(ResumePartition(partition.number))

    def finished(self, works: Iterable[OpenCommand]) -> None:
        """These commands are not open any more."""
        for work in works:
            self.open_bytes -= work.size

    def _admit(self, partition: Partition, record: Record, now: float) -> bool:
        offset = record.offset
        if partition.closing or not partition.active:
            return False
        if partition.offsets.is_done(offset):
            partition.offsets.passed(offset)
            self._counts.repeated_records += 1
            return True
        if not partition.offsets.fits(offset) or self.open_bytes >= self._rules.max_open_bytes:
            return False
        self._open(partition, record, now)
        return True

    def _open(self, partition: Partition, record: Record, now: float) -> None:
        offset = record.offset
        decoded = self._decoder.decode(record)
        size = _size_of(record, decoded)
        work = OpenCommand(record, partition, f"{self._rules.topic}-{partition.number}-{offset}", now, size)
        partition.offsets.admit(offset)
        partition.works[offset] = work
        self.open_bytes += size
        if record.key is None:
            self._warn_of_missing_key(decoded)
        if isinstance(decoded, Command):
            work.fingerprint = fingerprint_of(decoded)
            reused = self._recognise(work, decoded, now)
            if reused is None:
                work.command = decoded
                work.what = self._what(decoded)
                work.lane = self._dispatch.lane(decoded.app, decoded.action)
                partition.by_id[decoded.command_id] = work
                self._lines.enter(work, decoded, now)
                return
            decoded = reused
        work.rejected = decoded
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
        )

    def _what(self, command: Command) -> What:
        reason = command.reason if self._rules.reasons_matter else None
        return (command.action.name, command.duration, command.banned_until, reason, command.member_info)

    def _warn_of_missing_key(self, decoded: Command | Rejected) -> None:
        self._counts.without_key += 1
        issuer = decoded.issuer
        if issuer not in self._warned and len(self._warned) < MAX_WARNED_ISSUERS:
            self._warned.add(issuer)
            self._dispatch.effects.append(LogEvent("record.key_missed", "warning", {"issuer": issuer}))


def _size_of(record: Record, decoded: Command | Rejected) -> int:
    """About what the command takes in memory: its bytes count twice, as they came and as they were read."""
    users = len(decoded.users) if isinstance(decoded, Command) else 0
    return COMMAND_BYTES + MEMBER_BYTES * users + 2 * len(record.value or b"") + len(record.key or b"")
