# What Kafka keeps refusing, by the party that was refused: after some failures it keeps the worker from being ready.
#
# The threads of publisher, consumer and restorations write it, the loop reads it. Kafka is not imported here, and what is a
# refusal is decided in kafka_refusals.py.

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from worker.broker.kafka_refusals import OTHER, UNANSWERED, UNREACHABLE, Refusal
from worker.domain.effects import LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES: Final = 3
SECONDS: Final = 10.0
"""A refusal that was repeated this often in a row, or lasts this long, will not pass by itself."""
LOG_SECONDS: Final = 60.0
"""How often the same refusal is logged."""
STALE_SECONDS: Final = 120.0
"""A party without a failure for this long has stopped trying: its partition is gone, or there is nothing to publish."""


class _ActiveRefusal(Struct):
    """
    What one party is refused.

    Attributes:
        failed_at: When the party last failed, for whatever reason.
        repeated_at: When ``refusal`` was last the reason.

    """

    refusal: Refusal
    since: float
    failed_at: float
    repeated_at: float
    failures: int = 1
    logged_at: float = float("-inf")

    def is_replaced_by(self, refusal: Refusal, now: float) -> bool:
        """Return whether ``refusal`` is at least as specific, or this one was not repeated for a while."""
        return _specificity(refusal) >= _specificity(self.refusal) or now >= self.repeated_at + LOG_SECONDS


def _specificity(refusal: Refusal) -> int:
    return {OTHER.kind: 0, UNANSWERED.kind: 0, UNREACHABLE.kind: 1}.get(refusal.kind, 2)


class ActiveKafkaRefusals:
    """
    The current refusals, one for each refused party (``publish``, ``consume``, ``restore 3``).

    The most specific reason is kept: one without a kind of its own does not replace one that has a kind. ``notice`` is
    called for each refusal when it begins, when it changes, and once a minute.
    """

    def __init__(self, notice: Callable[[LogEvent], None]) -> None:
        self._notice = notice
        self._lock = threading.Lock()
        self._refusals: dict[str, _ActiveRefusal] = {}

    def failed(self, party: str, refusal: Refusal | None) -> None:
        """Count another failure of the party. ``refusal`` is what it was refused, or None if that is unknown."""
        now = time.monotonic()
        with self._lock:
            active = self._refusals.get(party)
            if active is not None:
                active.failures += 1
                active.failed_at = now
                if refusal is not None and active.is_replaced_by(refusal, now):
                    if refusal != active.refusal:
                        active.refusal, active.logged_at = refusal, float("-inf")
                    active.repeated_at = now
            elif refusal is not None:
                active = self._refusals[party] = _ActiveRefusal(refusal, now, now, now)
            if active is None or now < active.logged_at + LOG_SECONDS:
                return
            active.logged_at = now
            refusal, failures, since = active.refusal, active.failures, active.since
        fields = {
            "party": party,
            "kind": refusal.kind,
            "topic": refusal.topic,
            "error": refusal.error,
            "reason": refusal.reason,
            "remedy": refusal.remedy,
            "failures": failures,
            "seconds": round(now - since, 3),
        }
        self._notice(LogEvent("kafka.refused", "error", fields))

    def passed(self, party: str) -> None:
        """Note that the party was not refused this time, which ends its refusal."""
        if not self._refusals:
            return
        with self._lock:
            active = self._refusals.pop(party, None)
        if active is not None:
            fields = {
                "party": party,
                "kind": active.refusal.kind,
                "seconds": round(time.monotonic() - active.since, 3),
            }
            self._notice(LogEvent("kafka.accepted", "info", fields))

    def forget(self, party: str) -> None:
        """Forget the refusal of a party that has stopped trying. Kafka may refuse it still, but nobody asks."""
        with self._lock:
            self._refusals.pop(party, None)

    @property
    def lasting(self) -> list[Refusal]:
        """The refusals that will not pass by themselves, without repeats."""
        now = time.monotonic()
        with self._lock:
            self._refusals = {
                party: each for party, each in self._refusals.items() if now < each.failed_at + STALE_SECONDS
            }
            lasting = [
                each.refusal
                for each in self._refusals.values()
                if each.failures >= FAILURES or now >= each.since + SECONDS
            ]
        return list(dict.fromkeys(lasting))

    def __repr__(self) -> str:
        return f"<ActiveKafkaRefusals of {', '.join(self._refusals) or 'nobody'}>"
