# Whoever the consumer tells of what happens: the loop implements this, consumer.py calls it.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from worker.domain.contract.records import Record
    from worker.errors import WorkerError


class Listener(Protocol):
    """Whoever the consumer tells. Every method is called from a thread of the consumer, in order, and must not block."""

    def assigned(self, partitions: Mapping[int, int]) -> None:
        """These partitions are ours, each with the epoch of this ownership. Each stays paused until ``begin``."""

    def revoked(self, partitions: Sequence[int]) -> Future[None]:
        """These partitions go. They are ours until the future is done, or the handover's time is over; nothing more is fetched."""

    def lost(self, partitions: Sequence[int]) -> None:
        """These partitions are gone already: nothing of them can be published any more."""

    def received(self, records: Sequence[Record]) -> None:
        """The next records. ``Consumer.taken()`` must be called once for each call."""

    def reached(self, positions: Mapping[int, int]) -> None:
        """Where the consumer stands in each partition: every record below was told of by ``received``, or will never come."""

    def out_of_range(self, partition: int, was: int, now: int) -> None:
        """The records from ``was`` up to ``now`` are not there any more: it goes on from ``now``."""

    def failed(self, error: WorkerError) -> None:
        """The poll thread has ended and will not come back."""
