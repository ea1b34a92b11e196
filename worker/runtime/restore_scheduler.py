# Restores what was done on a partition before its commands begin, and retries until that succeeds.
#
# It owns the threads, the backoff, and the partitions that wait for a person.
# Not here: what is read, and how (broker/partition_restore.py).

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from worker.errors import BrokerError, CommittedOffsetLostError
from worker.runtime.daemon_thread import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.effects import RestoredPartition
    from worker.runtime import ports
    from worker.runtime.metrics import Metrics

BACKOFF: Final = (0.5, 10.0)
"""Seconds to wait after a failed restoration: the first wait, and the longest; it doubles in between."""
AT_ONCE: Final = 2
"""Restorations that run at the same time; each has a thread and a consumer."""
DOUBT_SECONDS: Final = 60.0
"""How often a partition in doubt is looked at again: a person may have decided."""


class RestoreScheduler:
    """
    Restores partitions, a few at a time.

    ``is_ours`` returns whether a partition is still assigned to us with this epoch; ``begin`` receives what was restored.

    Attributes:
        partitions_in_doubt: The partitions that wait for a person to decide where to resume.

    """

    def __init__(
        self,
        restorer: ports.PartitionRestorer,
        metrics: Metrics,
        log: ports.Log,
        *,
        is_ours: Callable[[int, int], bool],
        begin: Callable[[int, int, RestoredPartition], None],
    ) -> None:
        self._restorer = restorer
        self._metrics = metrics
        self._log = log
        self._is_ours = is_ours
        self._begin = begin
        self.partitions_in_doubt: dict[int, CommittedOffsetLostError] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def restore(self, number: int, epoch: int) -> None:
        """Restore the partition, and retry until that succeeds or the partition is no longer ours."""
        wait, longest = BACKOFF
        began = time.monotonic()
        while self._is_ours(number, epoch):
            try:
                async with self._slots:
                    restored = await in_daemon_thread("restore", lambda: self._restorer.restore(number))
            except CommittedOffsetLostError as error:
                if not self._is_ours(number, epoch):
                    return  # it has gone meanwhile: the doubt is the next owner's
                if number not in self.partitions_in_doubt:
                    self._log("partition.refused", partition=number, reason=str(error), remedy=error.remedy)
                self.partitions_in_doubt[number] = error
                await asyncio.sleep(DOUBT_SECONDS)
                continue
            except BrokerError as error:
                if not self._is_ours(number, epoch):
                    self._restorer.forget_refusals(number)
                    return
                self._log(
                    "partition.restore_failed", partition=number, reason=str(error), next_try_seconds=wait
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, longest)
                continue
            if self._is_ours(number, epoch):
                self.partitions_in_doubt.pop(number, None)
                self._metrics.restored(time.monotonic() - began)
                self._begin(number, epoch, restored)
            return

    def forget(self, number: int) -> None:
        """Drop the doubt about a partition that is no longer ours, and what Kafka refuses of it: both are the next owner's."""
        self.partitions_in_doubt.pop(number, None)
        self._restorer.forget_refusals(number)

    def __repr__(self) -> str:
        return f"<RestoreScheduler from {self._restorer!r}>"
