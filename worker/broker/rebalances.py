# What happens to a consumer's partitions: assigned, handed over, lost. Most of it runs on kafka-python's I/O thread.
#
# The bookkeeping is membership.py's; here kafka-python's events are turned into it, and told to the listener in an order that
# it can rely on. A rebalance waits for the handover without blocking that thread: heartbeats go on.

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition, errors
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener

from worker.broker.error_mapping import ID_TAKEN
from worker.broker.kafka_patches import settled, witness_membership
from worker.domain.effects import LogEvent
from worker.errors import FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka import KafkaConsumer

    from worker.broker.listener import Listener
    from worker.broker.membership import Membership
    from worker.broker.options import KafkaOptions


class Rebalances(AsyncConsumerRebalanceListener):
    """
    What kafka-python calls during a rebalance. It takes nothing but a class of its own, hence the inheritance.

    Attributes:
        telling: Held while the listener is told of a loss, or of records: it hears no record of a partition after its loss.

    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        options: KafkaOptions,
        membership: Membership,
        listener: Listener,
        notice: Callable[[LogEvent], None],
    ) -> None:
        self._consumer = consumer
        self._topic = options.command_topic
        self._budget = options.handover + options.handover_margin
        self._membership = membership
        self._listener = listener
        self._notice = notice
        self._fenced: Exception | None = None
        self.telling = threading.Lock()
        witness_membership(consumer, membership.proven, self._put_out)

    def raise_if_fenced(self) -> None:
        """Raises FencedError when another process has taken the static member id. ``poll()`` would not tell."""
        if self._fenced is not None:
            raise FencedError(ID_TAKEN) from self._fenced

    def readopt(self) -> None:
        """
        Begins anew what kafka-python believes it has kept, though the membership has ended in between.

        It tells of no change when a membership ends and begins again within one rebalance; another process may have had
        the partitions meanwhile. To be called by the poll thread after each poll.
        """
        unknown = {where.partition for where in self._consumer.assignment()} - self._membership.partitions
        if unknown and self._consumer.group_metadata().generation_id >= 0:
            self._adopt(unknown)

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """They go when the listener's handover is over, or its time."""
        ours = tuple(sorted(self._membership.partitions.intersection(where.partition for where in revoked)))
        if not ours:
            return
        try:
            future = self._listener.revoked(ours)
            if await settled(self._consumer, future, self._budget):
                future.result(timeout=0)
            else:
                self._tell("kafka.handover_timed_out", "warning", partitions=ours, seconds=self._budget)
        except Exception as exc:  # noqa: BLE001 - raised on, it would only leave kafka-python half closed
            self._tell("kafka.handover_failed", "error", partitions=ours, error=repr(exc))
        finally:
            self._membership.gone(ours)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """They stay paused until they are begun."""
        self._adopt(where.partition for where in assigned)

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        """They are another's already: there is nothing to hand over. By default this would call ``on_partitions_revoked``."""
        with self.telling:
            gone = self._membership.gone(sorted(where.partition for where in lost))
            if gone:
                self._listener.lost(gone)

    def _put_out(self, error: Exception) -> None:
        if isinstance(error, errors.FencedInstanceIdError):
            self._fenced = error
        with self.telling:
            gone = self._membership.out()
            if gone:
                self._listener.lost(gone)

    def _adopt(self, partitions: Iterable[int]) -> None:
        places = [TopicPartition(self._topic, partition) for partition in sorted(partitions)]
        self._consumer.pause(*places)
        for place in places:
            # Any position keeps kafka-python from looking for one; `begin` sets the right one.
            self._consumer.seek(place, 0)
        with self.telling:
            self._listener.assigned(self._membership.assigned(place.partition for place in places))

    def _tell(self, event: str, level: str, **fields: object) -> None:
        self._notice(LogEvent(event, level, fields))
