# Where a record should be: order, deduplication and full batches rest on one target -> one partition, so a record in the wrong
# place is recognised and gets a reason.
#
# A replica sees only its own partitions. So it also asks whether the hash of the key leads to the record's partition: Java's and
# kafka-python's producers place by murmur2, librdkafka's by CRC32 unless it is configured otherwise, and the two agree only by chance.

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.domain.contract.raw_records import Record

MAX_TARGETS: Final = 50_000
"""This many targets, the newest, are remembered, as numbers: some 5 MB."""


class Misplacement(StrEnum):
    """Why a record is in the wrong place; the first that applies."""

    NO_KEY = "no_key"
    """It has no key, so its partition was chosen at random."""
    KEY_NOT_TARGET = "key_not_target"
    """Its key is not the id of its group or room."""
    TWO_PARTITIONS = "two_partitions"
    """The last command for this target came on another partition of this replica."""
    PARTITIONER = "partitioner"
    """Its key leads to another partition by murmur2: harmless only if every producer places by the same other hash."""


class PlacementCheck:
    """The partition of each target, as far as this replica has seen it. Bounded by ``MAX_TARGETS``."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        # A target's hash -> its partition; ~partition where murmur2 would have chosen another one.
        self._seen: dict[int, int] = {}

    def judge(self, record: Record, target: tuple[str, str] | None) -> Misplacement | None:
        """
        Return why the record is in the wrong place; None if it is not. ``target`` is its app and its group or room, None for a record
        that could not be decoded.

        Hashing a key takes longer than all else here, and is done once for a target and partition.
        """
        key = record.key
        if key is None:
            return Misplacement.NO_KEY
        if target is None:
            return None
        if key != target[1].encode():
            return Misplacement.KEY_NOT_TARGET
        name = hash(target)
        seen = self._seen.get(name)
        if seen == record.partition:
            return None
        if seen == ~record.partition:
            return Misplacement.PARTITIONER
        is_right = partition_of(key, self._partitions) == record.partition
        if seen is None and len(self._seen) >= MAX_TARGETS:
            del self._seen[next(iter(self._seen))]
        self._seen[name] = record.partition if is_right else ~record.partition
        if seen is not None:
            return Misplacement.TWO_PARTITIONS
        return None if is_right else Misplacement.PARTITIONER

    def __len__(self) -> int:
        return len(self._seen)


_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Java's default partitioner, and kafka-python's, choose for a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(key: bytes) -> int:
    """Return the 32-bit hash by which Java's default partitioner, and kafka-python's, choose a key's partition."""
    length = len(key)
    hashed = _SEED ^ length
    whole = length - length % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * _MULTIPLIER & _WORD
        word = (word ^ word >> 24) * _MULTIPLIER & _WORD
        hashed = (hashed * _MULTIPLIER & _WORD) ^ word
    if whole < length:
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _WORD
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _WORD
    return hashed ^ hashed >> 15
