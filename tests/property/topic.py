# What Kafka holds: the commands, what was committed, and what a read_committed reader sees. It outlives every engine.
#
# Here P1 and P2 are judged, at each commit and from the outside: from offsets, metadata and outcomes alone.

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.domain.contract.outcomes import Status
from worker.domain.effects import RestoredPartition
from worker.domain.progress.dedupe import known_of

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import Outcome
    from worker.domain.effects import OffsetCommit, Transaction

NAME: Final = "moderation.commands"
_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the command topic. ``fields`` is what its value says, or None for one that is no JSON object."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    fields: dict[str, Any] | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def outcome_id(self) -> str:
        """What its outcome must be called."""
        return f"{NAME}-{self.partition}-{self.offset}"

    @property
    def users(self) -> list[str]:
        """The users it names."""
        users: list[str] = [] if self.fields is None else self.fields.get("user_ids", [])
        return users

    @property
    def target(self) -> str:
        """Its group or room."""
        assert self.fields is not None
        target: str = self.fields.get("group_id") or self.fields["room_id"]
        return target


@dataclass(slots=True)
class Partition:
    """
    Attributes:
        generation: It rises whenever the owner changes: a transaction of an earlier one is refused.
        outcomes: The outcome topic's partition of the same number, oldest first.
        by_offset: The same, by offset of the command.

    """

    number: int
    records: list[Record] = field(default_factory=list)
    generation: int = 0
    committed: OffsetCommit | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    by_offset: dict[int, Outcome] = field(default_factory=dict)
    letters: set[int] = field(default_factory=set)

    @property
    def next_offset(self) -> int:
        """The lowest offset that no record has yet."""
        return self.records[-1].offset + 1 if self.records else 0

    def is_settled(self, offset: int) -> bool:
        """Whether a reader knows what became of the record: by its outcome, or by its dead letter when its id is unreadable."""
        return offset in self.by_offset or offset in self.letters

    def is_done(self, offset: int) -> bool:
        """Whether a restart would leave the record out."""
        if self.committed is None:
            return False
        place = offset - self.committed.offset
        if place < 0:
            return True
        bits = self.bits
        return place // 8 < len(bits) and bool(bits[place // 8] >> place % 8 & 1)

    @property
    def slice_free_in(self) -> float | None:
        """In how many seconds the last owner said that its slice is free, since nothing of it is on its way any more."""
        if self.committed is None or not self.committed.metadata.startswith("mw2;"):
            return None
        return int(self.committed.metadata.split(";")[4]) / 1000

    @property
    def bits(self) -> bytes:
        """The bitmap in the committed metadata, read without the worker's code."""
        assert self.committed is not None
        if not self.committed.metadata:
            return b""
        head, checksum, bitmap = self.committed.metadata.rsplit(";", 2)
        free_in = self.slice_free_in
        tag, last = ("mw1", "") if free_in is None else ("mw2", f";{round(free_in * 1000):04d}")
        assert head == f"{tag};name:{NAME};{self.number};{self.committed.offset:019d}{last}"
        assert int(checksum, 16) == binascii.crc32(f"{head};{bitmap}".encode())
        return base64.b64decode(bitmap, validate=True)


class Topic:
    """All partitions."""

    def __init__(self, partitions: int) -> None:
        self.partitions = [Partition(number) for number in range(partitions)]

    def append(
        self, number: int, key: bytes | None, value: dict[str, Any] | bytes | None, skip: int
    ) -> Record:
        """A producer writes a record, ``skip`` offsets above the last one."""
        partition = self.partitions[number]
        fields = value if isinstance(value, dict) else None
        encoded = json.dumps(value).encode() if isinstance(value, dict) else value
        record = Record(number, partition.next_offset + skip, key, encoded, fields)
        partition.records.append(record)
        return record

    def find(self, number: int, offset: int) -> Record:
        """The record at that offset."""
        return next(record for record in self.partitions[number].records if record.offset == offset)

    def restored(self, number: int, records: int) -> RestoredPartition:
        """What a new owner reads: the committed offset, and the last outcomes."""
        partition = self.partitions[number]
        values = [_encoder.encode(outcome) for outcome in partition.outcomes[-records:]]
        known = [each for each in map(known_of, values) if each is not None]
        if partition.committed is None:
            return RestoredPartition(0, known=known, fresh=True)
        done = int.from_bytes(partition.bits, "little")
        return RestoredPartition(
            partition.committed.offset, done, known, slice_free_in=partition.slice_free_in
        )

    def publish(self, transaction: Transaction) -> None:
        """The transaction is committed. Nothing may be published twice, and no offset be done that is not settled."""
        written = set()
        for outgoing in transaction.outcomes:
            partition, outcome = self.partitions[outgoing.partition], outgoing.outcome
            record = self.find(outcome.source.partition, outcome.source.offset)
            assert outgoing.partition == record.partition
            assert outgoing.key == record.key
            assert outcome.outcome_id == record.outcome_id
            assert record.offset not in partition.by_offset, f"P2: {record.outcome_id} has two outcomes"
            partition.by_offset[record.offset] = outcome
            partition.outcomes.append(outcome)
            written.add(partition.number)
        for letter in transaction.dead_letters:
            number, offset = letter.record.partition, letter.record.offset
            partition = self.partitions[number]
            assert letter.record is self.find(number, offset), "a dead letter is the record, untouched"
            assert offset not in partition.letters, f"P2: {letter.outcome_id} has two dead letters"
            partition.letters.add(offset)
            written.add(number)
        assert written <= set(transaction.commits), "nobody would have checked who owns the partition"
        for number, commit in transaction.commits.items():
            before = self.partitions[number].committed
            assert before is None or commit.offset >= before.offset, "a committed offset went back"
            self.partitions[number].committed = commit
        for number in transaction.commits:
            self.judge(self.partitions[number])

    def judge(self, partition: Partition) -> None:
        """What is committed is settled, what is settled is committed, and the earlier of two commands for one member comes first."""
        unfinished: set[tuple[str, str, str]] = set()
        users_by_id: dict[str, list[str]] = {}
        for record in partition.records:
            offset = record.offset
            done, settled = partition.is_done(offset), partition.is_settled(offset)
            assert settled or not done, f"P1: {record.outcome_id} was committed, and has no outcome"
            assert done or not settled, f"P2: a restart would tell of {record.outcome_id} again"
            outcome = partition.by_offset.get(offset)
            dead = outcome is None or outcome.status in (Status.REJECTED, Status.FAILED, Status.CANCELLED)
            if settled:
                assert (offset in partition.letters) is dead, f"P9: the dead letter of {record.outcome_id}"
            if record.fields is None or (outcome is not None and outcome.status is Status.REJECTED):
                continue
            if users_by_id.setdefault(record.fields["command_id"], record.users) != record.users:
                continue  # rejected as soon as it is read: it is nobody's elder, though its dead letter may be held back
            lines = {(record.fields.get("app", "main"), record.target, user) for user in record.users}
            if done:
                assert not lines & unfinished, f"P4: a crash would put {record.outcome_id} before its elders"
            else:
                unfinished |= lines
