# Looks at the worker once a second: sets the gauges, tells the page, reports a blocked loop, and notices a command topic that was
# replaced.
#
# Not here: which gauges there are (metric_table.py), counters (whoever counts), why the worker is not ready (readiness.py).

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.runtime.metrics import LoopSnapshot
from worker.runtime.readyz_operator_orders import notes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.runtime import ports
    from worker.runtime.engine_runner import EngineRunner
    from worker.runtime.failed_command_log import FailedCommandLog
    from worker.runtime.logging_setup import Log
    from worker.runtime.metrics import Metrics
    from worker.runtime.readiness import Readiness
    from worker.runtime.status_page import StatusPage

OBSERVE_SECONDS: Final = 1.0
"""How often gauges are set."""
STALL_SECONDS: Final = 1.0
"""A loop that was blocked for longer is logged."""


@dataclass(frozen=True, slots=True)
class TopicFault:
    """
    Why the worker must not go on with the command topic as it is now.

    Attributes:
        can_publish: Whether what is done can still be published; not if another topic has its name, where nothing is committed.

    """

    reason: str
    can_publish: bool


class SelfMonitor:
    """
    Observes the worker until it is cancelled.

    ``topic_fault`` returns what is wrong with the command topic, or None.

    Attributes:
        notes: What /readyz says of orders, as of the last look.

    """

    def __init__(
        self,
        runner: EngineRunner,
        consumer: ports.Consumer,
        client: ports.Client,
        refusals: ports.ActiveKafkaRefusals,
        readiness: Readiness,
        metrics: Metrics,
        log: Log,
        failures: FailedCommandLog,
        page: StatusPage | None,
        *,
        topic_fault: Callable[[], TopicFault | None],
        follower: ports.ControlFollower | None = None,
    ) -> None:
        self._runner = runner
        self._consumer = consumer
        self._client = client
        self._refusals = refusals
        self._readiness = readiness
        self._metrics = metrics
        self._log = log
        self._failures = failures
        self._page = page
        self._topic_fault = topic_fault
        self._follower = follower
        self.notes: Mapping[str, object] = {}

    async def run(self) -> None:
        """Observe every ``OBSERVE_SECONDS``."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(OBSERVE_SECONDS)
            stalled = time.monotonic() - before - OBSERVE_SECONDS
            if stalled > STALL_SECONDS:
                self._log("loop.stalled", seconds=round(stalled, 3))
            self.observe()

    def observe(self) -> None:
        """Set the gauges, tell the page, and refuse work if the command topic is another one now."""
        snapshot = self._runner.snapshot()
        lags = {
            # The consumer counts from what it has fetched, the metric from what is committed.
            partition.partition: unfetched + partition.gap
            for partition in snapshot.partitions
            if (unfetched := self._consumer.lag(partition.partition)) is not None
        }
        loop_snapshot = LoopSnapshot(
            pulse_age=time.monotonic() - self._runner.last_tick_at,
            ready=not self._readiness.obstacles(),
            lags=lags,
            signatures={
                app: (signer.age(), signer.expires_in()) for app, signer in self._client.signers.items()
            },
            lines_dropped=self._log.dropped,
            partitions_in_doubt=len(self._runner.partitions_in_doubt),
            refused=frozenset(refusal.kind for refusal in self._refusals.lasting),
            wall=time.time(),
            unreadable_orders=0 if self._follower is None else self._follower.unreadable,
        )
        self._metrics.observe(snapshot, loop_snapshot)
        if self._page is not None:
            self._page.observe(snapshot, loop_snapshot)
        self.notes = notes_of(snapshot)
        self._failures.summarize()
        if (fault := self._topic_fault()) is not None:
            self._runner.refuse_work(fault.reason, can_publish=fault.can_publish)

    def __repr__(self) -> str:
        return f"<SelfMonitor of {self._runner!r}>"
