# What the loop needs of the world, as protocols: the adapters fulfil them, wiring.py chooses them, tests bring their own.
#
# No behaviour here, and nothing of Kafka or HTTP.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.domain.effects import AttemptResult, Restored, Transaction
    from worker.domain.publish_results import PublishResult
    from worker.runtime.call_tasks import CallTask


class Client(Protocol):
    """Makes calls."""

    async def call(self, call: CallTask) -> AttemptResult:
        """Make one call with all its attempts; return the result of the last one."""

    async def aclose(self) -> None:
        """Ends all connections."""

    @property
    def signers(self) -> Mapping[str, Any]:
        """The signer of each app, which tells the age of its signature."""


class Consumer(Protocol):
    """The poll thread. All methods may be called from any thread."""

    def start(self) -> None:
        """Begins to poll."""

    def close(self, timeout: float) -> bool:
        """Hands over and leaves; blocks. Whether it was over in time."""

    def begin(self, partition: int, position: int, epoch: int) -> None:
        """Fetch a newly assigned partition."""

    def forget(self, partitions: Iterable[int]) -> None:
        """Note that nothing of these partitions, which have gone, is sent any more."""

    def pause(self, partition: int) -> None:
        """Fetch no more of it."""

    def resume(self, partition: int) -> None:
        """Fetch it again."""

    def taken(self) -> None:
        """One batch is taken care of."""

    def fence(self) -> float:
        """The monotonic time until which a request may leave."""

    def lag(self, partition: int) -> int | None:
        """How many records of the partition are not fetched."""

    def topic_id(self) -> str | None:
        """What the cluster calls the command topic now."""

    def partition_count(self) -> int | None:
        """How many partitions the command topic has now."""


class Publisher(Protocol):
    """The publisher thread."""

    def publish(self, transaction: Transaction, done: Callable[[PublishResult], None]) -> None:
        """Publishes; ``done`` is called from another thread, exactly once. One at a time."""

    def close(self, timeout: float) -> bool:
        """Ends; blocks. Whether it was over in time."""


class Restorer(Protocol):
    """Reads back what is known of a partition."""

    def restore(self, partition: int) -> Restored:
        """Blocks. Raises BrokerError."""


class Log(Protocol):
    """Where events are told."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """
        Tells an event of the catalogue at its level. ``exc_info`` (an exception) adds a traceback.

        A name that is not in the catalogue is told as ``log.event_unlisted``, at level error: a typo must not end a worker.
        """
