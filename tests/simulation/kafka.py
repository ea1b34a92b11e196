# A model of Kafka: partitions whose offsets have gaps, a group that moves them, transactions that commit or do not.
#
# It knows records, offsets and metadata as bytes and numbers; what they mean is the replicas' business.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from tests.simulation.expectations import TOPIC
from worker.domain.effects import RestoredPartition
from worker.domain.progress.commit_metadata import decode, label, owner_of, slice_free_in_ms
from worker.domain.progress.dedupe import known_of

if TYPE_CHECKING:
    from tests.simulation.loop import VirtualClock
    from worker.domain.effects import OffsetCommit, Transaction

COOLING_OFF: Final = 3.0
"""How long a new owner calls nothing after a death; after a clean handover as long as its last owner says."""

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the command topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Owner(Protocol):
    """A process of the group."""

    name: str

    @property
    def mark(self) -> str:
        """What names it in its commits, if it is a static member."""

    @property
    def born(self) -> float:
        """When it started. Others of its mark were dead by then."""

    def fetch_soon(self) -> None:
        """There is a new record."""


@dataclass(frozen=True, slots=True)
class PublishedRecord:
    """An outcome or a dead letter, as a read_committed reader sees it."""

    at: float
    outcome_id: str
    value: bytes
    owner: str


@dataclass(slots=True)
class Partition:
    """
    Attributes:
        owner: Whose commits the broker accepts.
        generation: It rises with each assignment: a transaction of an earlier one is not accepted.
        handovers: Who got it, when, and from when on something of it may be called.
        outcomes: The outcome topic's partition of the same number.

    """

    number: int
    records: list[Record] = field(default_factory=list)
    next_offset: int = 0
    committed: OffsetCommit | None = None
    outcomes: list[PublishedRecord] = field(default_factory=list)
    dead_letters: list[PublishedRecord] = field(default_factory=list)
    owner: Owner | None = None
    generation: int = 0
    handovers: list[tuple[float, float, str]] = field(default_factory=list)


def done_above(number: int, commit: OffsetCommit) -> int:
    """The bitmap that a partition's commit holds."""
    done = decode(commit.metadata, label(TOPIC, None, number), commit.offset)
    assert done is not None, f"metadata that a next owner would not believe: {commit}"
    return done


class Kafka:
    """
    One cluster.

    Attributes:
        metadata_bytes: The broker's ``offset.metadata.max.bytes``.
        aborts: The share of transactions that fail for no fault of the worker.

    ``holes`` is the share of records before which offsets are skipped.

    """

    def __init__(
        self,
        clock: VirtualClock,
        partitions: int,
        *,
        metadata_bytes: int = 4096,
        aborts: float = 0.0,
        holes: float = 0.1,
    ) -> None:
        self._clock = clock
        self.partitions = [Partition(number) for number in range(partitions)]
        self.metadata_bytes = metadata_bytes
        self.aborts = aborts
        self._holes = holes
        self.commits = 0

    def append(self, number: int, key: bytes | None, value: bytes | None) -> Record:
        """A producer writes a record. Now and then offsets are skipped, as transaction markers and compaction do."""
        partition = self.partitions[number]
        chance = self._clock.chance
        if chance.random() < self._holes:
            partition.next_offset += chance.choice((1, 1, 1, 2, 7, 300))
        record = Record(number, partition.next_offset, key, value)
        partition.next_offset += 1
        partition.records.append(record)
        if partition.owner is not None:
            partition.owner.fetch_soon()
        return record

    def restore(self, number: int, *, restore_records: int, window: float) -> RestoredPartition:
        """What a new owner reads: the committed offset, and the end of the outcome topic."""
        partition = self.partitions[number]
        known = []
        for published in partition.outcomes[-restore_records:]:
            found = known_of(published.value)
            if found is not None and found.at >= self._clock.wall - window:
                known.append(found)
        commit = partition.committed
        if commit is None:
            return RestoredPartition(0, known=known, fresh=True)
        free_in_ms, owner = slice_free_in_ms(commit.metadata), owner_of(commit.metadata)
        free_in = None if free_in_ms is None else free_in_ms / 1000
        return RestoredPartition(
            commit.offset, done_above(number, commit), known, slice_free_in=free_in, owner=owner
        )

    def assign(self, number: int, replica: Owner) -> None:
        """The partition has a new owner."""
        partition = self.partitions[number]
        assert partition.owner is None
        partition.owner = replica
        partition.generation += 1
        commit = partition.committed
        text = "" if commit is None else commit.metadata
        is_clean = text.startswith(("mw2;", "mw4;"))
        rest = int(text.split(";")[-3]) / 1000 if is_clean else COOLING_OFF
        is_back = bool(replica.mark) and f";{replica.mark};" in text
        has_had_it = any(owner == replica.name for *_, owner in partition.handovers)
        begin = replica.born if is_back and not has_had_it else self._clock.now
        partition.handovers.append((self._clock.now, max(self._clock.now, begin + rest), replica.name))

    def claim(self, transaction: Transaction) -> dict[int, int]:
        """The generations that a transaction speaks for."""
        return {number: self.partitions[number].generation for number in transaction.commits}

    def owns(self, replica: Owner, claim: dict[int, int]) -> bool:
        """Whether the broker accepts offsets of these generations from this replica."""
        return all(
            self.partitions[number].owner is replica and self.partitions[number].generation == generation
            for number, generation in claim.items()
        )

    def refuses_metadata(self, transaction: Transaction) -> int | None:
        """The partition whose metadata is too long for this broker; None if none is."""
        for number, commit in transaction.commits.items():
            if len(commit.metadata) > self.metadata_bytes:
                return number
        return None

    def commit(self, replica: Owner, transaction: Transaction) -> None:
        """The transaction is committed: everything in it is visible from now on."""
        self.commits += 1
        written_to = {outgoing.partition for outgoing in transaction.outcomes}
        written_to |= {letter.record.partition for letter in transaction.dead_letters}
        assert written_to <= set(transaction.commits), (
            "without its offset, the broker would not check who owns a partition"
        )
        for outgoing in transaction.outcomes:
            outcome = outgoing.outcome
            published = PublishedRecord(
                self._clock.now, outcome.outcome_id, _encoder.encode(outcome), replica.name
            )
            self.partitions[outgoing.partition].outcomes.append(published)
        for letter in transaction.dead_letters:
            published = PublishedRecord(
                self._clock.now, letter.outcome_id, letter.error_code.encode(), replica.name
            )
            self.partitions[letter.record.partition].dead_letters.append(published)
        for number, commit in transaction.commits.items():
            before = self.partitions[number].committed
            assert before is None or commit.offset >= before.offset, "a committed offset never goes back"
            self.partitions[number].committed = commit
