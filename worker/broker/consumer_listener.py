# The interface through which the consumer reports what happens: consumer.py and rebalance_listener.py call it, the loop
# implements it.
#
# Signatures and their contract only; nothing is decided or buffered here.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from worker.domain.contract.raw_records import Record
    from worker.errors import WorkerError


class ConsumerListener(Protocol):
    """What the consumer reports to. Its methods are called from the consumer's threads, one after another, and must not block."""

    def assigned(self, partitions: Mapping[int, int]) -> None:
        """Take over these partitions, each with the epoch of this ownership. Each stays paused until ``Consumer.begin``."""

    def revoking(self, partitions: Sequence[int]) -> Future[None]:
        """Hand over these partitions. They stay ours until the future is done or the handover times out; fetching has ended."""

    def lost(self, partitions: Sequence[int]) -> None:
        """Drop these partitions. They are no longer ours, so nothing of them can be published."""

    def received(self, records: Sequence[Record]) -> None:
        """Take the next records. Call ``Consumer.acknowledge`` once for each call of this."""

    def reached(self, positions: Mapping[int, int]) -> None:
        """Note the consumer's position in each partition: every record below was passed to ``received``, or never will be."""

    def out_of_range(self, partition: int, expected: int, goes_on_at: int) -> None:
        """Note that the record at ``expected``, which was to be read next, no longer exists. The consumer continues at ``goes_on_at``."""

    def failed(self, error: WorkerError) -> None:
        """Note that the poll thread has ended for good."""
