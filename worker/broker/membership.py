# What this process may believe about its partitions: which are its own, since when, and until when a request may leave.
#
# Pure bookkeeping behind one lock, for four threads: kafka-python's I/O thread (rebalances, heartbeats), the poll thread,
# the loop (begin, fence) and the publisher (claims). No Kafka in here. Times are monotonic seconds.

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

Claim = tuple[tuple[int, int], ...]
"""Partitions with the epoch in which each was owned when something was made of its records."""


@dataclass(slots=True)
class _Ownership:
    epoch: int
    begun: bool = False


class Membership:
    """
    The partitions of one consumer.

    An *epoch* is one uninterrupted ownership of a partition, from its assignment until it is revoked or lost. It is what
    keeps a result that was made in one ownership from being published in the next: in between, another process may have
    redone it, and the broker, which compares only the group's generation, would not notice.
    """

    def __init__(self, *, session_timeout: float, max_poll_interval: float, margin: float) -> None:
        self._session_timeout = session_timeout
        self._max_poll_interval = max_poll_interval
        self._margin = margin
        self._lock = threading.Lock()
        self._owned: dict[int, _Ownership] = {}
        self._epochs = 0
        self._proven = -math.inf
        self._polled = -math.inf

    def __repr__(self) -> str:
        with self._lock:
            return f"<Membership {sorted(self._owned)}>"

    @property
    def partitions(self) -> frozenset[int]:
        """Those that are owned, begun or not."""
        with self._lock:
            return frozenset(self._owned)

    def assigned(self, partitions: Iterable[int]) -> dict[int, int]:
        """New ownerships begin. Returns each partition's epoch; none is ever used twice."""
        with self._lock:
            fresh = {}
            for partition in partitions:
                self._epochs += 1
                self._owned[partition] = _Ownership(self._epochs)
                fresh[partition] = self._epochs
            return fresh

    def begin(self, partition: int, epoch: int) -> bool:
        """The partition's past is known: it may be fetched and published. False if that ownership is over."""
        with self._lock:
            owned = self._owned.get(partition)
            if owned is None or owned.epoch != epoch:
                return False
            owned.begun = True
            return True

    def begun(self, partition: int) -> bool:
        """Whether it is owned, and was begun in this ownership."""
        owned = self._owned.get(partition)
        return owned is not None and owned.begun

    def gone(self, partitions: Iterable[int]) -> tuple[int, ...]:
        """Ownerships end. Returns those of the partitions that were owned until now."""
        with self._lock:
            return tuple(
                partition for partition in partitions if self._owned.pop(partition, None) is not None
            )

    def claim(self, partitions: Iterable[int]) -> Claim | None:
        """What is owned now of these partitions; None unless all of them are, and were begun."""
        with self._lock:
            claim = []
            for partition in partitions:
                owned = self._owned.get(partition)
                if owned is None or not owned.begun:
                    return None
                claim.append((partition, owned.epoch))
            return tuple(claim)

    def holds(self, claim: Claim) -> bool:
        """Whether every ownership of the claim still lasts."""
        with self._lock:
            return all(
                partition in self._owned and self._owned[partition].epoch == epoch
                for partition, epoch in claim
            )

    def proven(self, sent_at: float) -> None:
        """The broker has answered, to a request sent then, that this process is a member."""
        with self._lock:
            self._proven = max(self._proven, sent_at)

    def out(self) -> tuple[int, ...]:
        """The broker has answered that it is none. All partitions are gone; returns them."""
        with self._lock:
            self._proven = -math.inf
            gone = tuple(self._owned)
            self._owned.clear()
            return gone

    def polled(self, now: float) -> None:
        """``poll()`` is being called."""
        self._polled = now

    def fence(self) -> float:
        """Until when a request may leave. Before that time the broker gives none of these partitions to another process."""
        with self._lock:
            session = self._proven + self._session_timeout
        return min(session, self._polled + self._max_poll_interval) - self._margin


class Owner(Protocol):
    """What the publisher asks the consumer: Consumer is one."""

    def claim(self, partitions: Iterable[int]) -> Claim | None:
        """What is owned now of these partitions; None if one of them is not."""

    def group_metadata(self, claim: Claim) -> Any:
        """The member's identity, if every ownership of the claim still lasts; else None."""
