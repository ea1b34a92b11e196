# The consumer of commands: one thread that polls Kafka, passes batches to a listener and keeps the membership alive.
#
# kafka-python's consumer belongs to one thread, so what other threads request (pause, resume, begin) is queued until the
# poll thread does it. Rebalances run on kafka-python's I/O thread while the poll thread is inside poll(), so the loop and the
# publisher do the handover (finish, publish, commit), and the publisher must outlive `close`.
# No offset is committed here: publisher.py does that, inside transactions.

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, TopicPartition, errors
from msgspec import Struct

from worker.broker.active_kafka_refusals import ActiveKafkaRefusals
from worker.broker.assignor import Assignor
from worker.broker.client_config import consumer_arguments
from worker.broker.error_mapping import TRANSIENT, thread_failure
from worker.broker.kafka_private_parts import (
    connection_failure,
    finish_join,
    known_partitions,
    known_topic_id,
    open_client,
    release_parked,
)
from worker.broker.kafka_refusals import refusal_of
from worker.broker.partition_ownership import PartitionOwnership
from worker.broker.rebalance_listener import RebalanceListener
from worker.domain.effects import LogEvent
from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka.consumer.fetcher import ConsumerRecord

    from worker.broker.consumer_listener import ConsumerListener
    from worker.broker.options import KafkaOptions
    from worker.broker.partition_ownership import OwnershipClaim

POLL_SECONDS: Final = 0.1
"""How long one poll waits for records at most, and so how long a pause or a begin may wait for the poll thread."""
BACKOFF_SECONDS: Final = (0.2, 5.0)
"""After a poll that failed: the first wait, which doubles up to the second."""
OF_ONE_PARTITION: Final = (errors.CorruptRecordError, errors.UnknownError)
"""What reading one partition may raise at every poll, while all others are sound."""
PARTITION_BACKOFF_SECONDS: Final = 1.0
"""The longest wait after such an error. The records of the other partitions wait too, and so do calls of ``pause`` and ``begin``."""
OBSERVE_SECONDS: Final = 0.25
"""How often positions, lags and the number of partitions are read."""
METADATA_SECONDS: Final = 1.0
"""How long the first join waits for the topic's metadata; longer than a broker needs."""
PARTY: Final = "consume"
"""The consumer's name among the parties that Kafka may refuse (active_kafka_refusals.py)."""
CALM_SECONDS: Final = 6.0
"""After this long without a failure a refusal is over. Longer than the longest backoff: good polls occur between bad ones."""


class PolledRecord(Struct, frozen=True, gc=False):
    """
    The parts of a record that the worker needs.

    kafka-python's own record takes five times as much memory, for as long as its command is open.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Consumer:
    """
    Consumes the command topic as a member of the group.

    ``start()`` returns at once. Kafka may be down then or at any later time: the consumer retries without end and reports
    it through ``notice``. ``close()`` hands over what is owned (through the listener) and leaves the group.
    """

    def __init__(
        self,
        options: KafkaOptions,
        listener: ConsumerListener,
        notice: Callable[[LogEvent], None],
        refusals: ActiveKafkaRefusals | None = None,
    ) -> None:
        self._refusals = refusals or ActiveKafkaRefusals(notice)
        self._failed_at = 0.0
        arguments = consumer_arguments(options)
        self._options = options
        self._listener = listener
        self._notice = notice
        self._ownership = PartitionOwnership(
            session_timeout=arguments["session_timeout_ms"] / 1000,
            max_poll_interval=arguments["max_poll_interval_ms"] / 1000,
            margin=options.fence_margin,
        )
        assignor = Assignor(lambda: self._ownership.partitions)
        self._arguments = {**arguments, "partition_assignment_strategy": (assignor,)}
        self._consumer: KafkaConsumer | None = None
        self._pending_ops: deque[Callable[[KafkaConsumer], None]] = deque()
        self._wake = threading.Condition()
        self._outstanding = 0
        self._stopping = False
        self._lags: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._partition_count: int | None = None
        self._topic_id: str | None = None
        self._topic_replaced = False
        self._observe_at = 0.0
        self._thread = threading.Thread(target=self._run, name="kafka-poll", daemon=True)

    def __repr__(self) -> str:
        state = "stopping" if self._stopping else "running" if self._thread.is_alive() else "not running"
        return f"<Consumer {self._options.command_topic}{sorted(self.partitions)} {state}, {self._outstanding} batches out>"

    def start(self) -> None:
        """Start the poll thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the poll thread to hand over, leave the group and end. Returns at once."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def close(self, timeout: float) -> bool:
        """Stop, and wait for the poll thread. Return whether it has ended within ``timeout`` seconds."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def begin(self, partition: int, position: int, epoch: int) -> None:
        """Start fetching a restored partition from ``position``. Ignored if that ownership is over."""
        if self._ownership.begin(partition, epoch):
            self._enqueue(lambda consumer: self._begin(consumer, partition, position, epoch))

    def forget(self, partitions: Iterable[int]) -> None:
        """
        Note that the loop sends nothing more of these partitions, which are no longer owned.

        Between a loss and this call ``may_send_until`` is minus infinity.
        """
        self._ownership.forget(partitions)

    def pause(self, partition: int) -> None:
        """Stop fetching the partition. Records that are already on their way may still be delivered."""
        self._enqueue(lambda consumer: self._pause(consumer, partition))

    def resume(self, partition: int) -> None:
        """Fetch the partition again. No record is skipped or repeated."""
        self._enqueue(lambda consumer: self._resume(consumer, partition))

    def acknowledge(self) -> None:
        """Acknowledge one delivered batch, so that another may be delivered."""
        with self._wake:
            self._outstanding -= 1
            self._wake.notify_all()

    def may_send_until(self) -> float:
        """
        Return the monotonic time until which a request may be sent.

        Minus infinity while the membership is unproven, and while the loop still works on a partition that is no longer owned.
        """
        return self._ownership.may_send_until()

    def claim(self, partitions: Iterable[int]) -> OwnershipClaim | None:
        """Return the current ownerships of these partitions, for ``group_metadata``; None unless all are owned and were begun."""
        return self._ownership.claim(partitions)

    def group_metadata(self, claim: OwnershipClaim) -> Any:
        """
        Return this member's current identity, by which the broker fences; None if the claim no longer holds, or while its topic is gone.

        A member that has lost its generation has an anonymous identity, which the broker does not check at all: it is never
        returned. The identity is read before the claim is checked, so that a loss in between yields an old one, which the
        broker refuses. It does not refuse what was read of a topic that another has replaced: a commit would land in the new
        one, whose first records would never be read.
        """
        consumer = self._consumer
        if consumer is None:
            return None
        metadata = consumer.group_metadata()
        if metadata.generation_id < 0 or not metadata.member_id or not self._ownership.holds(claim):
            return None
        return metadata if self._is_same_topic(consumer) else None

    def is_topic_gone(self) -> bool:
        """Return whether the topic whose records were delivered is gone, perhaps for a moment, or another has its name."""
        consumer = self._consumer
        return consumer is not None and not self._is_same_topic(consumer)

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are owned now."""
        return self._ownership.partitions

    def lag(self, partition: int) -> int | None:
        """Return how many offsets of the partition are not fetched yet, as of the last poll; None before anything was fetched."""
        return self._lags.get(partition)

    def topic_id(self) -> str | None:
        """Return the command topic's id as of the last metadata; None before the first, or with brokers older than 2.8."""
        return self._topic_id

    def partition_count(self) -> int | None:
        """Return the number of partitions as of the last metadata, which is a minute old at most; None before the first."""
        return self._partition_count

    # On the poll thread.

    def _run(self) -> None:
        try:
            connected = self._connect()
            if connected is None:
                return
            consumer, rebalance_listener = connected
            try:
                self._poll_until_stopped(consumer, rebalance_listener)
            finally:
                self._leave(consumer)
        except WorkerError as exc:
            self._listener.failed(exc)
        except Exception as exc:  # noqa: BLE001 - whatever it was, the thread must not end silently
            self._listener.failed(thread_failure("the consumer", exc))

    def _connect(self) -> tuple[KafkaConsumer, RebalanceListener] | None:
        wait = BACKOFF_SECONDS[0]
        while not self._stopping:
            try:
                consumer = open_client(KafkaConsumer, self._arguments, self._options.secrets_for("consumer"))
            except TRANSIENT as exc:
                self._record_failure(exc)
                self._log("kafka.connect_failed", exc, wait)
                wait = self._back_off(wait)
                continue
            rebalance_listener = RebalanceListener(
                consumer, self._options, self._ownership, self._listener, self._notice
            )
            consumer.subscribe([self._options.command_topic], listener=rebalance_listener)
            self._consumer = consumer
            self._wait_for_metadata(consumer)
            return consumer, rebalance_listener
        return None

    def _wait_for_metadata(self, consumer: KafkaConsumer) -> None:
        """Wait for the topic's metadata: without it the first leader assigns nothing, and a second rebalance follows at once."""
        deadline = time.monotonic() + METADATA_SECONDS
        while known_partitions(consumer, self._options.command_topic) is None and time.monotonic() < deadline:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping, METADATA_SECONDS / 100)

    def _poll_until_stopped(self, consumer: KafkaConsumer, rebalance_listener: RebalanceListener) -> None:
        wait = BACKOFF_SECONDS[0]
        while not self._stopping:
            try:
                self._step(consumer, rebalance_listener)
                wait = BACKOFF_SECONDS[0]
            except errors.OffsetOutOfRangeError as exc:
                self._enqueue(partial(self._skip_to_earliest, places=tuple(exc.args[0])))
            except errors.LogTruncationError as exc:
                self._enqueue(partial(self._skip_to_earliest, places=tuple(exc.divergent_offsets)))
            except errors.KafkaError as exc:
                # A revoked right may be granted again, so a refusal is retried like an outage.
                if not self._record_failure(exc) and not isinstance(exc, TRANSIENT):
                    raise
                self._log("kafka.poll_failed", exc, wait)
                wait = self._back_off(wait)
                if isinstance(exc, OF_ONE_PARTITION):
                    wait = min(wait, PARTITION_BACKOFF_SECONDS)

    def _step(self, consumer: KafkaConsumer, rebalance_listener: RebalanceListener) -> None:
        while self._pending_ops:
            self._pending_ops.popleft()(consumer)
        # Without room exactly one of the two calls blocks: during a join the poll, which takes part in it; otherwise the wait.
        joining = finish_join(consumer)
        if self._wait_for_room(0.0 if joining else POLL_SECONDS):
            polled = self._poll(consumer, POLL_SECONDS)
            self._watch_topic_id(consumer)
            self._deliver(polled, rebalance_listener)
        else:
            self._poll_without_fetching(consumer, POLL_SECONDS if joining else 0.0)
        rebalance_listener.raise_if_fenced()
        rebalance_listener.take_over_kept()
        self._observe(consumer)

    def _poll(self, consumer: KafkaConsumer, timeout: float) -> dict[Any, list[ConsumerRecord]]:
        self._ownership.polled(time.monotonic())
        release_parked(consumer)
        polled: dict[Any, list[ConsumerRecord]] = consumer.poll(timeout_ms=round(timeout * 1000))
        return polled

    def _poll_without_fetching(self, consumer: KafkaConsumer, timeout: float) -> None:
        """Poll with everything paused, as the listener is busy: that keeps the membership, and takes part in rebalances."""
        held = consumer.assignment() - consumer.paused()
        consumer.pause(*held)
        self._poll(consumer, timeout)
        consumer.resume(*(tp for tp in held & consumer.assignment() if self._ownership.begun(tp.partition)))

    def _wait_for_room(self, timeout: float) -> bool:
        """Wait until another batch may be delivered. Return whether one may."""
        with self._wake:
            self._wake.wait_for(
                lambda: self._stopping or self._outstanding < self._options.batches_outstanding, timeout
            )
            return self._outstanding < self._options.batches_outstanding

    def _deliver(
        self, polled: dict[Any, list[ConsumerRecord]], rebalance_listener: RebalanceListener
    ) -> None:
        with rebalance_listener.notifying:
            begun = {tp for tp in polled if self._ownership.begun(tp.partition)}
            records = [_polled_record(record) for tp in begun for record in polled[tp]]
            if records and not self._topic_replaced:
                with self._wake:
                    self._outstanding += 1
                self._listener.received(records)

    def _begin(self, consumer: KafkaConsumer, partition: int, position: int, epoch: int) -> None:
        tp = self._tp(partition)
        if self._ownership.holds(((partition, epoch),)) and tp in consumer.assignment():
            consumer.seek(tp, position)
            self._positions = {}
            self._resume(consumer, partition)

    def _pause(self, consumer: KafkaConsumer, partition: int) -> None:
        if self._tp(partition) in consumer.assignment():
            consumer.pause(self._tp(partition))

    def _resume(self, consumer: KafkaConsumer, partition: int) -> None:
        if self._ownership.begun(partition) and self._tp(partition) in consumer.assignment():
            consumer.resume(self._tp(partition))

    def _watch_topic_id(self, consumer: KafkaConsumer) -> None:
        """Notice that another topic has the name now. Its records are not delivered, as they would be taken for the old topic's."""
        known = known_topic_id(consumer, self._options.command_topic)
        if known is not None and self._topic_id not in (None, known):
            self._topic_replaced = True
        self._topic_id = known or self._topic_id

    def _is_same_topic(self, consumer: KafkaConsumer) -> bool:
        """
        Return whether the last metadata have the topic whose records were delivered. Called by the publisher's thread.

        A topic that is missing for a moment may be the same again: kafka-python asks for it every tenth of a second.
        """
        delivered = self._topic_id
        if delivered is not None and known_topic_id(consumer, self._options.command_topic) != delivered:
            return False
        return not self._topic_replaced  # read last: `_watch_topic_id` sets it before it changes the id

    def _observe(self, consumer: KafkaConsumer) -> None:
        now = time.monotonic()
        if now < self._observe_at:
            return
        self._observe_at = now + OBSERVE_SECONDS
        failure = connection_failure(consumer)
        if failure is not None and now >= self._ownership.may_send_until():
            self._record_failure(failure)
        elif now >= self._failed_at + CALM_SECONDS:
            self._refusals.passed(PARTY)
        lags, positions = {}, {}
        for tp in consumer.assignment():
            if self._ownership.begun(tp.partition):
                position, highwater = consumer.position(tp, timeout_ms=0), consumer.highwater(tp)
                if position is not None:
                    positions[tp.partition] = position
                if position is not None and highwater is not None:
                    lags[tp.partition] = max(0, highwater - position)
        self._lags = lags
        if positions != self._positions and not self._topic_replaced:
            self._positions = positions
            self._listener.reached(positions)
        self._partition_count = (
            known_partitions(consumer, self._options.command_topic) or self._partition_count
        )

    def _skip_to_earliest(self, consumer: KafkaConsumer, places: tuple[Any, ...]) -> None:
        """Skip to the first record that each partition still has. If Kafka fails meanwhile, the next poll raises for them again."""
        expected = {tp: _position(consumer, tp) for tp in places if tp in consumer.assignment()}
        for tp, earliest in consumer.beginning_offsets(list(expected)).items():
            if tp in consumer.assignment():
                consumer.seek(tp, earliest)
                self._listener.out_of_range(tp.partition, expected[tp], earliest)

    def _record_failure(self, error: BaseException) -> bool:
        """Record a failure. Return whether it is a refusal: one that lasts until somebody changes something."""
        self._failed_at = time.monotonic()
        refusal = refusal_of(error, self._options)
        self._refusals.failed(PARTY, refusal)
        return refusal is not None

    def _leave(self, consumer: KafkaConsumer) -> None:
        try:
            consumer.close(autocommit=False, timeout_ms=2000)
        except errors.KafkaError as exc:
            self._log("kafka.leave_failed", exc, 0.0)
        finally:
            self._consumer = None
            self._lags = {}

    # On any thread.

    def _enqueue(self, operation: Callable[[KafkaConsumer], None]) -> None:
        self._pending_ops.append(operation)

    def _tp(self, partition: int) -> Any:
        return TopicPartition(self._options.command_topic, partition)

    def _back_off(self, wait: float) -> float:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, wait)
        return min(2 * wait, BACKOFF_SECONDS[1])

    def _log(self, event: str, error: Exception, wait: float) -> None:
        self._notice(LogEvent(event, "warning", {"error": repr(error), "next_try_seconds": wait}))


def _position(consumer: KafkaConsumer, tp: TopicPartition) -> int:
    """Return the offset that is read next. kafka-python may raise here for other partitions; the next poll raises it again."""
    try:
        position = consumer.position(tp, timeout_ms=0)
    except errors.LogTruncationError:
        position = consumer.position(tp, timeout_ms=0)
    return position or 0


def _polled_record(record: ConsumerRecord) -> PolledRecord:
    headers = record.headers
    if not headers and type(headers) is list:
        headers = ()  # one shared value instead of a list for each record
    return PolledRecord(record.partition, record.offset, record.key, record.value, headers)
