# Decides when the next transaction starts, and returns its result to the engine. One runs at a time.
#
# Not here: what a transaction contains (domain/progress/outbox.py), how it is carried out (broker/publisher.py).

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

from worker.domain.progress.outbox import PER_TRANSACTION
from worker.domain.publish_results import Aborted, Fenced, MetadataRefused, Published
from worker.errors import FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.domain.effects import Effect, Transaction
    from worker.domain.engine import Engine
    from worker.domain.publish_results import PublishResult
    from worker.errors import WorkerError
    from worker.runtime import ports
    from worker.runtime.metrics import Metrics

INTERVAL: Final = 0.05
"""
Seconds between the starts of two transactions. Each costs some 10 ms of round trips and the same number of requests,
whether it holds one outcome or a hundred: under load they grow. The first after a pause starts at once.
"""
MANY: Final = 100
"""After a transaction with fewer outcomes the interval is shorter, in proportion: at low load nobody waits for it."""
BUSY: Final = 200
"""
After a transaction with more outcomes the interval is longer, in proportion, up to LONGEST: a transaction costs as much CPU as some
hundred of its records. One endpoint's quota makes no more in an interval; outcomes of several wait up to 0.1 s longer.
"""
LONGEST: Final = 0.15
"""In seconds."""
REST: Final = 2
"""
A shortened interval is at least this many times what the transaction took, so that the broker rests half of the time. It is never
longer than INTERVAL.
"""
FULL: Final = PER_TRANSACTION
"""From this many unpublished commands on, the next transaction does not wait for the interval."""


class PublishScheduler:
    """
    Takes the engine's transactions to the publisher, one at a time.

    ``carry_out`` carries out the engine's effects; ``guarded`` runs the loop's callbacks, and ``tell`` an observer's; ``fail`` receives
    the error when another process has replaced this one; ``publish_observers`` see every transaction that is committed.

    Attributes:
        hurry: Whether to skip the interval, because a handover or a drain waits for the results.
        is_running: Whether a transaction is running.
        is_closed: Whether no further one will start. The result of a running one is still taken.

    """

    def __init__(
        self,
        engine: Engine,
        publisher: ports.Publisher,
        metrics: Metrics,
        *,
        carry_out: Callable[[list[Effect]], None],
        guarded: Callable[..., None],
        tell: Callable[..., None],
        fail: Callable[[WorkerError], None],
        publish_observers: Sequence[ports.PublishObserver] = (),
    ) -> None:
        self._engine = engine
        self._publisher = publisher
        self._metrics = metrics
        self._carry_out = carry_out
        self._guarded = guarded
        self._tell = tell
        self._fail = fail
        self._publish_observers = publish_observers
        self._loop = asyncio.get_running_loop()
        self._began = float("-inf")
        self._interval = INTERVAL
        self._timer: asyncio.TimerHandle | None = None
        self.hurry = False
        self.is_closed = False
        self.is_running = False

    def start_next(self) -> None:
        """Start the next transaction if there is one and it is time; else set the timer for it."""
        if self.is_running or self.is_closed:
            return
        now = time.monotonic()
        unpublished = self._engine.unpublished
        next_at = self._began + self._interval
        if not self.hurry and unpublished < FULL and now < next_at:
            if unpublished and self._timer is None:
                self._timer = self._loop.call_at(next_at, self._guarded, self._due)
            return
        transaction = self._engine.take_transaction(now)
        if transaction is not None:
            self.is_running = True
            self._began = now
            self._publisher.publish(transaction, partial(self._post, transaction))

    def close(self) -> None:
        """Start no more transactions. The result of a running one is still taken."""
        self.is_closed = True

    def publisher_ended(self) -> None:
        """Start no more transactions, and wait for the result of none: nobody will bring it."""
        self.close()
        self.is_running = False

    def _due(self) -> None:
        self._timer = None
        self.start_next()

    def _post(self, transaction: Transaction, result: PublishResult) -> None:
        # Runs in the publisher's thread. A closed loop means that the process is ending: nobody needs the result.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._guarded, self._ended, transaction, result)

    def _ended(self, transaction: Transaction, result: PublishResult) -> None:
        self.is_running = False
        now = time.monotonic()
        self._interval = INTERVAL  # what has failed is not tried again at once, however fast the last one was
        match result:
            case Published():
                self._interval = interval_after(len(transaction.outcomes), now - self._began)
                self._tell(self._metrics.published, transaction, now - self._began)
                for observer in self._publish_observers:
                    self._tell(observer.published, transaction, now)
                self._carry_out(self._engine.published(now, now - self._began))
                return
            case Aborted(took_too_long=took_too_long, dead_letters_refused=dead_letters_refused):
                effects = self._engine.aborted(
                    now, took_too_long=took_too_long, dead_letters_refused=dead_letters_refused
                )
            case MetadataRefused(partition):
                effects = self._engine.metadata_refused(partition, now)
            case Fenced(reason):
                self.close()
                self._fail(FencedError(reason))
                return
            case _:
                assert_never(result)
        self._tell(self._metrics.aborted, now - self._began)
        self._carry_out(effects)

    def __repr__(self) -> str:
        state = "running" if self.is_running else "closed" if self.is_closed else "idle"
        return f"<PublishScheduler {state}, {self._engine.unpublished} unpublished>"


def interval_after(outcomes: int, took: float) -> float:
    """Return the seconds from the start of a transaction of ``outcomes`` that ``took`` seconds to the start of the next."""
    if outcomes > BUSY:
        return min(LONGEST, INTERVAL * outcomes / BUSY)
    return min(INTERVAL, max(INTERVAL * outcomes / MANY, REST * took))
