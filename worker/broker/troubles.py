# What Kafka keeps refusing to this process, by who was refused: after some failures it is an obstacle to being ready.
#
# Written by the publisher's, the consumer's and the restorations' threads, read by the loop. No Kafka in here.

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from worker.broker.refusals import OTHER, UNREACHABLE, Refusal
from worker.domain.effects import LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES: Final = 3
SECONDS: Final = 10.0
"""Refused so often in a row, or for so long, it will not pass by itself."""
TELL_SECONDS: Final = 60.0
"""How often one and the same refusal is logged."""


STALE_SECONDS: Final = 120.0
"""Who was not refused for so long does not ask any more: its partition went, or there is nothing to publish."""


class _Trouble(Struct):
    refusal: Refusal
    since: float
    last: float
    seen: float
    failures: int = 1
    told_at: float = float("-inf")

    def is_replaced_by(self, refusal: Refusal, now: float) -> bool:
        """A reason that tells less must wait until the other was not heard for a while."""
        return _telling(refusal) >= _telling(self.refusal) or now >= self.seen + TELL_SECONDS


def _telling(refusal: Refusal) -> int:
    return {OTHER.kind: 0, UNREACHABLE.kind: 1}.get(refusal.kind, 2)


class Troubles:
    """
    The refusals that last, one for each party that is refused (``publish``, ``consume``, ``restore 3``).

    The most telling reason is kept: one without a kind of its own never replaces one that has it. ``notice`` is told of each
    refusal when it begins, when its kind changes, and once a minute.
    """

    def __init__(self, notice: Callable[[LogEvent], None]) -> None:
        self._notice = notice
        self._lock = threading.Lock()
        self._troubles: dict[str, _Trouble] = {}

    def failed(self, party: str, refusal: Refusal | None) -> None:
        """The party has failed once more; ``refusal``: what it was refused, or None where that is not known."""
        now = time.monotonic()
        with self._lock:
            trouble = self._troubles.get(party)
            if trouble is not None:
                trouble.failures += 1
                trouble.last = now
                if refusal is not None and trouble.is_replaced_by(refusal, now):
                    if refusal != trouble.refusal:
                        trouble.refusal, trouble.told_at = refusal, float("-inf")
                    trouble.seen = now
            elif refusal is not None:
                trouble = self._troubles[party] = _Trouble(refusal, now, now, now)
            if trouble is None or now < trouble.told_at + TELL_SECONDS:
                return
            trouble.told_at = now
            refusal, failures, since = trouble.refusal, trouble.failures, trouble.since
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
        """The party was not refused this time."""
        if not self._troubles:
            return
        with self._lock:
            trouble = self._troubles.pop(party, None)
        if trouble is not None:
            fields = {
                "party": party,
                "kind": trouble.refusal.kind,
                "seconds": round(time.monotonic() - trouble.since, 3),
            }
            self._notice(LogEvent("kafka.accepted", "info", fields))

    @property
    def lasting(self) -> list[Refusal]:
        """What is refused again and again, each once."""
        now = time.monotonic()
        with self._lock:
            self._troubles = {
                party: each for party, each in self._troubles.items() if now < each.last + STALE_SECONDS
            }
            lasting = [
                each.refusal
                for each in self._troubles.values()
                if each.failures >= FAILURES or now >= each.since + SECONDS
            ]
        return list(dict.fromkeys(lasting))

    def __repr__(self) -> str:
        return f"<Troubles of {', '.join(self._troubles) or 'nobody'}>"
