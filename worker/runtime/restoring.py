# What is known of a partition is read back before anything of it begins, as often as it takes.
#
# Here are the threads for it and the patience; what is read stands in broker/restore.py.

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from worker.errors import BrokerError, CommitLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.effects import Restored
    from worker.runtime import ports
    from worker.runtime.metrics import Metrics

BACKOFF: Final = (0.5, 10.0)
"""After a restoration that failed: the first wait, which doubles up to the second."""
AT_ONCE: Final = 2
DOUBT_SECONDS: Final = 60.0
"""After a restoration that left a doubt: how long until it is looked whether a person has decided."""


class Restoring:
    """
    Restores partitions, a few at a time.

    ``is_ours`` tells whether the partition still belongs to this epoch of ours; ``begin`` is told of what was restored.

    Attributes:
        doubts: The partitions that wait for a person to say where to go on.

    """

    def __init__(
        self,
        restorer: ports.Restorer,
        metrics: Metrics,
        log: ports.Log,
        *,
        is_ours: Callable[[int, int], bool],
        begin: Callable[[int, int, Restored], None],
    ) -> None:
        self._restorer = restorer
        self._metrics = metrics
        self._log = log
        self._is_ours = is_ours
        self._begin = begin
        self.doubts: dict[int, CommitLostError] = {}
        self._executor = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="restore")

    async def restore(self, number: int, epoch: int) -> None:
        """Reads until it succeeds or the partition is no longer ours."""
        wait, longest = BACKOFF
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        while self._is_ours(number, epoch):
            try:
                restored = await loop.run_in_executor(self._executor, self._restorer.restore, number)
            except CommitLostError as error:
                if number not in self.doubts:
                    self._log("partition.refused", partition=number, reason=str(error), remedy=error.remedy)
                self.doubts[number] = error
                await asyncio.sleep(DOUBT_SECONDS)
                continue
            except BrokerError as error:
                self._log(
                    "partition.restore_failed", partition=number, reason=str(error), next_try_seconds=wait
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, longest)
                continue
            if self._is_ours(number, epoch):
                self.doubts.pop(number, None)
                self._metrics.restored(time.monotonic() - began)
                self._begin(number, epoch, restored)
            return

    def forget(self, number: int) -> None:
        """The partition is not ours any more: its doubt is its next owner's."""
        self.doubts.pop(number, None)

    def close(self) -> None:
        """Nothing further is read."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def __repr__(self) -> str:
        return f"<Restoring from {self._restorer!r}>"
