# What happens to a consumer's partitions: assigned, handed over, lost. Most of it runs on kafka-python's I/O thread.
#
# Here kafka-python's events become bookkeeping (partition_ownership.py) and calls of the listener, in an order that it can rely on.
# A rebalance waits for the handover without blocking that thread, so heartbeats go on.

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition, errors
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener

from worker.broker.error_mapping import ID_TAKEN
from worker.broker.kafka_private_parts import wait_until_done, witness_membership
from worker.domain.effects import LogEvent
from worker.errors import FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka import KafkaConsumer

    from worker.broker.consumer_listener import ConsumerListener
    from worker.broker.options import KafkaOptions
    from worker.broker.partition_ownership import PartitionOwnership


class RebalanceListener(AsyncConsumerRebalanceListener):
    """
    What kafka-python calls during a rebalance. It accepts only subclasses of its own class, so this is one.

    Attributes:
        notifying: Held while the listener is notified of a loss or of records, so that it gets no record after a loss.

    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        options: KafkaOptions,
        ownership: PartitionOwnership,
        listener: ConsumerListener,
        notice: Callable[[LogEvent], None],
    ) -> None:
        self._consumer = consumer
        self._topic = options.command_topic
        self._budget = options.handover + options.handover_margin
        self._ownership = ownership
        self._listener = listener
        self._notice = notice
        self._fenced: Exception | None = None
        self.notifying = threading.Lock()
        witness_membership(consumer, ownership.proven, self._membership_ended)

    def raise_if_fenced(self) -> None:
        """Raise FencedError if another process has taken the static member id, which ``poll()`` does not report."""
        if self._fenced is not None:
            raise FencedError(ID_TAKEN) from self._fenced

    def take_over_kept(self) -> None:
        """
        Start a new ownership of partitions that kafka-python seems to have kept although the membership ended in between.

        It reports no change if a membership ends and starts again within one rebalance, though another process may have owned
        the partitions meanwhile. Call it on the poll thread after each poll.
        """
        unknown = {tp.partition for tp in self._consumer.assignment()} - self._ownership.partitions
        if unknown and self._consumer.group_metadata().generation_id >= 0:
            self._take_over(unknown)

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """Hand over the partitions. They are ours until the listener's handover is over or times out."""
        owned = tuple(sorted(self._ownership.partitions.intersection(tp.partition for tp in revoked)))
        if not owned:
            return
        try:
            future = self._listener.revoking(owned)
            if await wait_until_done(self._consumer, future, self._budget):
                future.result(timeout=0)
            else:
                self._log("kafka.handover_timed_out", "warning", partitions=owned, seconds=self._budget)
        except Exception as exc:  # noqa: BLE001 - raising it would only leave kafka-python half closed
            self._log("kafka.handover_failed", "error", partitions=owned, error=repr(exc))
        finally:
            self._ownership.gone(owned)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Take over the partitions, which stay paused until they are begun."""
        self._take_over(tp.partition for tp in assigned)

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        """Drop the partitions: they may have a new owner, so there is no handover. kafka-python's own method would begin one."""
        with self.notifying:
            gone = self._ownership.gone(sorted(tp.partition for tp in lost))
            if gone:
                self._listener.lost(gone)

    def _membership_ended(self, error: Exception) -> None:
        if isinstance(error, errors.FencedInstanceIdError):
            self._fenced = error
        with self.notifying:
            gone = self._ownership.ended()
            if gone:
                self._listener.lost(gone)

    def _take_over(self, partitions: Iterable[int]) -> None:
        tps = [TopicPartition(self._topic, partition) for partition in sorted(partitions)]
        self._consumer.pause(*tps)
        for tp in tps:
            # Any position keeps kafka-python from looking one up; `begin` sets the right one.
            self._consumer.seek(tp, 0)
        with self.notifying:
            self._listener.assigned(self._ownership.assigned(tp.partition for tp in tps))

    def _log(self, event: str, level: str, **fields: object) -> None:
        self._notice(LogEvent(event, level, fields))
