# What this process knows of its membership: which partitions it owns, since when, and until when a request may be sent.
#
# Pure bookkeeping behind one lock, for four threads: kafka-python's I/O thread (rebalances, heartbeats), the poll thread,
# the loop (begin, may_send_until) and the publisher (claims). Kafka is not imported here. Times are monotonic seconds.

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

OwnershipClaim = tuple[tuple[int, int], ...]
"""Partitions, each with the epoch of the ownership in which its records were processed."""


@dataclass(slots=True)
class _Ownership:
    epoch: int
    begun: bool = False


class PartitionOwnership:
    """
    The partitions that one consumer owns.

    An *epoch* is one uninterrupted ownership of a partition, from its assignment until it is revoked or lost. It keeps a
    result of one ownership from being published in the next: in between, another process may have redone it, and the broker
    would not notice, since it compares only the group's generation.
    """

    def __init__(self, *, session_timeout: float, max_poll_interval: float, margin: float) -> None:
        self._session_timeout = session_timeout
        self._max_poll_interval = max_poll_interval
        self._margin = margin
        self._lock = threading.Lock()
        self._owned: dict[int, _Ownership] = {}
        # Partition -> epoch of what the loop works on: it hears of a loss later.
        self._worked_on: dict[int, int] = {}
        self._epochs = 0
        self._proven = -math.inf
        self._polled = -math.inf

    def __repr__(self) -> str:
        with self._lock:
            return f"<PartitionOwnership {sorted(self._owned)}>"

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are owned, begun or not."""
        with self._lock:
            return frozenset(self._owned)

    def assigned(self, partitions: Iterable[int]) -> dict[int, int]:
        """Start a new ownership of each partition. Return their epochs, of which none is ever used twice."""
        with self._lock:
            fresh = {}
            for partition in partitions:
                self._epochs += 1
                self._owned[partition] = _Ownership(self._epochs)
                fresh[partition] = self._epochs
            return fresh

    def begin(self, partition: int, epoch: int) -> bool:
        """Allow fetching and publishing, since the partition is restored. Return False if that ownership is over."""
        with self._lock:
            owned = self._owned.get(partition)
            if owned is None or owned.epoch != epoch:
                return False
            owned.begun = True
            self._worked_on[partition] = epoch
            return True

    def forget(self, partitions: Iterable[int]) -> None:
        """Note that the loop sends nothing more of these partitions."""
        with self._lock:
            for partition in partitions:
                self._worked_on.pop(partition, None)

    def begun(self, partition: int) -> bool:
        """Return whether the partition is owned, and was begun in this ownership."""
        owned = self._owned.get(partition)
        return owned is not None and owned.begun

    def gone(self, partitions: Iterable[int]) -> tuple[int, ...]:
        """End the ownership of these partitions. Return those that were owned until now."""
        with self._lock:
            return tuple(
                partition for partition in partitions if self._owned.pop(partition, None) is not None
            )

    def claim(self, partitions: Iterable[int]) -> OwnershipClaim | None:
        """Return the current ownerships of these partitions; None unless all of them are owned and were begun."""
        with self._lock:
            claim = []
            for partition in partitions:
                owned = self._owned.get(partition)
                if owned is None or not owned.begun:
                    return None
                claim.append((partition, owned.epoch))
            return tuple(claim)

    def holds(self, claim: OwnershipClaim) -> bool:
        """Return whether every ownership of the claim still lasts."""
        with self._lock:
            return all(
                partition in self._owned and self._owned[partition].epoch == epoch
                for partition, epoch in claim
            )

    def proven(self, sent_at: float) -> None:
        """Note that the broker confirmed the membership, in the answer to a request sent at ``sent_at``."""
        with self._lock:
            self._proven = max(self._proven, sent_at)

    def ended(self) -> tuple[int, ...]:
        """End the membership, as the broker no longer knows this member. Return the partitions that were owned: all are lost."""
        with self._lock:
            self._proven = -math.inf
            gone = tuple(self._owned)
            self._owned.clear()
            return gone

    def polled(self, now: float) -> None:
        """Note a call of ``poll()``."""
        self._polled = now

    def may_send_until(self) -> float:
        """
        Return the time until which a request may be sent: before it the broker gives no owned partition to another process.

        Minus infinity while the membership is unproven, and while the loop still works on a partition that is no longer owned: a
        new membership says nothing about what the loop would send of it.
        """
        with self._lock:
            for partition, epoch in self._worked_on.items():
                owned = self._owned.get(partition)
                if owned is None or owned.epoch != epoch:
                    return -math.inf
            session = self._proven + self._session_timeout
        return min(session, self._polled + self._max_poll_interval) - self._margin


class OwnershipSource(Protocol):
    """What the publisher needs of the consumer, which implements it."""

    def claim(self, partitions: Iterable[int]) -> OwnershipClaim | None:
        """Return the current ownerships of these partitions; None unless all of them are owned and were begun."""

    def group_metadata(self, claim: OwnershipClaim) -> Any:
        """Return the member's identity if every ownership of the claim still lasts, else None; None, too, if ``is_topic_gone``."""

    def may_send_until(self) -> float:
        """Return the monotonic time until which the broker gives no owned partition to another process; minus infinity for never."""

    def is_topic_gone(self) -> bool:
        """Return whether the command topic is gone, or another has its name: unlike a rebalance, that may last for ever."""
