# What the loop needs for orders besides the engine: whether those of the control topic are known, so that calls may begin, and
# the records of guards, which are written until Kafka has them.
#
# Not here: what an order means (domain/), and reading and writing the topic (broker/control_follower.py, control_topic.py).

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.contract.orders import ControlRecord, Scope
    from worker.runtime import ports

BACKOFF: Final = (1.0, 30.0)
"""Seconds to wait after a record that was not written: the first wait, and the longest; it doubles in between."""


class GuardOrders:
    """
    Knows whether orders are known, and writes those of guards.

    Attributes:
        known: Set once the control topic was read whole, or is known not to exist. From then on partitions may begin.

    """

    def __init__(self, writer: ports.OrderWriter | None, log: ports.Log) -> None:
        self._writer = writer
        self._log = log
        self._unwritten: dict[Scope, ControlRecord] = {}
        self.known = asyncio.Event()
        if writer is None:
            self.known.set()

    def followed(self, records: Iterable[ControlRecord]) -> None:
        """Note what came from the topic. What a person orders for a scope meanwhile is newer than what a guard could not write."""
        for record in records:
            self._unwritten.pop(record.scope, None)
        self.known.set()

    async def write(self, record: ControlRecord) -> None:
        """Write a guard's record, until Kafka has it or a newer one for its scope comes."""
        assert self._writer is not None
        wait, longest = BACKOFF
        self._unwritten[record.scope] = record
        while self._unwritten.get(record.scope) is record:
            try:
                await asyncio.to_thread(self._writer.write, record)
            except WorkerError as error:
                self._log(
                    "control.write_failed", scope=str(record.scope), reason=str(error), next_try_seconds=wait
                )
                await asyncio.sleep(wait)
                wait = min(2 * wait, longest)
            else:
                if self._unwritten.get(record.scope) is record:
                    del self._unwritten[record.scope]
                return

    def __repr__(self) -> str:
        return f"<GuardOrders, {'known' if self.known.is_set() else 'unknown'}, {len(self._unwritten)} unwritten>"
