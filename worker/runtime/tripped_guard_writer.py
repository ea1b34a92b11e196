# The orders of guards on their way to the control topic: each is written until Kafka has it, or something newer is read back.
#
# A guard's order holds on this replica at once; the others learn of it from the topic alone. Not here: when a guard gives one
# (domain/runaway_guards.py), and how a record is written (broker/control_topic.py).

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from worker.errors import WorkerError
from worker.runtime.daemon_thread import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.domain.contract.control_records import ControlRecord, Scope
    from worker.runtime import ports

BACKOFF: Final = (1.0, 30.0)
"""Seconds to wait after a record that was not written: the first wait, and the longest; it doubles in between."""


class TrippedGuardWriter:
    """Writes the orders of guards to the control topic."""

    def __init__(self, write: Callable[[ControlRecord], None], log: ports.Log) -> None:
        self._write = write
        self._log = log
        self._unwritten: dict[Scope, ControlRecord] = {}

    async def write(self, record: ControlRecord) -> None:
        """Write a guard's record, until Kafka has it or a newer one for its scope comes."""
        wait, longest = BACKOFF
        self._unwritten[record.scope] = record
        while self._unwritten.get(record.scope) is record:
            try:
                await in_daemon_thread("control-write", lambda: self._write(record))
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

    def read_back(self, records: Iterable[ControlRecord]) -> None:
        """Give up what is unwritten for the scopes of these records, which are newer: somebody has decided meanwhile."""
        for record in records:
            self._unwritten.pop(record.scope, None)

    def __repr__(self) -> str:
        return f"<TrippedGuardWriter, {len(self._unwritten)} unwritten>"
