# A part of the memory budget that the partitions use together, so that none can take it all.
#
# It only counts. What happens to a partition that has no room is decided where the things are kept: admission_control.py for records and
# commands, outbox.py for results that are put aside.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.progress.partitions import Partition


class PartitionedBudget:
    """
    A part of the budget that the partitions use together.

    Half of it is divided equally among the partitions, and each partition is sure of its guaranteed part whatever the others hold. The
    other half is first come, first served.

    Attributes:
        bytes_used: The bytes that all partitions hold.
        limit: The bytes that they may hold.

    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes_used = 0
        self._by_partition: dict[Partition, int] = {}
        self._guaranteed = limit // 2  # to each partition
        self._common = limit - limit // 2
        self._common_used = 0  # the bytes that partitions hold beyond their guaranteed parts

    @property
    def is_full(self) -> bool:
        """Whether the common half is used up."""
        return self._common_used >= self._common

    def of(self, partition: Partition) -> int:
        """Return the bytes that one partition holds."""
        return self._by_partition.get(partition, 0)

    def share_out(self, partitions: Iterable[Partition]) -> None:
        """Divide the guaranteed half among these partitions, which are ours now."""
        here = set(partitions)
        self._by_partition = {
            partition: self.of(partition)
            for partition in {*here, *self._by_partition}
            if partition in here or self.of(partition)
        }
        self._guaranteed = self.limit // 2 // max(1, len(here))
        self._common_used = sum(max(0, self.of(partition) - self._guaranteed) for partition in here)

    def add(self, partition: Partition, size: int) -> None:
        """Count ``size`` further bytes that the partition holds; a negative ``size`` frees them."""
        before, guaranteed = self._by_partition.get(partition, 0), self._guaranteed
        after = self._by_partition[partition] = before + size
        self.bytes_used += size
        if (before > guaranteed or after > guaranteed) and not partition.is_gone:
            self._common_used += max(after, guaranteed) - max(before, guaranteed)

    def takes_more_of(self, partition: Partition, size: int = 0) -> bool:
        """Return whether the partition stays within its guaranteed part with ``size`` bytes more, or the common half has room."""
        return self.of(partition) + size < self._guaranteed or not self.is_full

    def has_room_for(self, partition: Partition, size: int) -> bool:
        """Return whether the partition may hold ``size`` bytes more."""
        after = self._by_partition.get(partition, 0) + size
        if after <= self._guaranteed:
            return True
        return self._common_used + min(size, after - self._guaranteed) <= self._common
