# The consumer of commands: one thread that polls Kafka, hands batches to a listener and keeps the membership.
#
# What it is told by other threads (pause, resume, begin) waits in a queue until the poll thread does it: kafka-python's
# consumer belongs to one thread. Rebalances run on kafka-python's I/O thread while the poll thread sits inside poll(), so the
# handover (finish, publish, commit) is done by others, and whoever publishes must outlive `close`.
# No offset is committed here: publisher.py does it, inside transactions.

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, TopicPartition, errors
from msgspec import Struct

from worker.broker.assignor import Assignor
from worker.broker.client_config import consumer_arguments
from worker.broker.error_mapping import TRANSIENT, ending
from worker.broker.kafka_patches import (
    connection_failure,
    finish_join,
    known_partitions,
    known_topic_id,
    opened,
    release_parked,
)
from worker.broker.membership import Membership
from worker.broker.rebalances import Rebalances
from worker.broker.refusals import refusal_of
from worker.broker.troubles import Troubles
from worker.domain.effects import LogEvent
from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka.consumer.fetcher import ConsumerRecord

    from worker.broker.listener import Listener
    from worker.broker.membership import Claim
    from worker.broker.options import KafkaOptions

POLL_SECONDS: Final = 0.1
"""The longest that one poll waits for records, and so the longest that a pause or a begin waits for the poll thread."""
BACKOFF_SECONDS: Final = (0.2, 5.0)
"""After a poll that failed: the first wait, which doubles up to the second."""
LOOK_SECONDS: Final = 0.25
"""How often positions, lags and the count of partitions are looked at."""
METADATA_SECONDS: Final = 1.0
"""How long the first join waits for the topic's metadata; longer than a broker needs."""


PARTY: Final = "consume"
"""What this is called among those that Kafka may refuse (troubles.py)."""
CALM_SECONDS: Final = 6.0
"""Longer than the longest backoff: polls that fail again and again have good ones between."""


class Polled(Struct, frozen=True, gc=False):
    """What of a record is needed: kafka-python's own takes five times as much memory, for as long as its command is open."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Consumer:
    """
    Consumes the command topic as a member of the group.

    ``start()`` returns at once; Kafka may be away then, and at any later time: it is tried again without end, and told through
    ``notice``. ``close()`` hands over what is owned (the listener is asked) and leaves the group.
    """

    def __init__(
        self,
        options: KafkaOptions,
        listener: Listener,
        notice: Callable[[LogEvent], None],
        troubles: Troubles | None = None,
    ) -> None:
        self._troubles = troubles or Troubles(notice)
        self._failed_at = 0.0
        arguments = consumer_arguments(options)
        self._options = options
        self._listener = listener
        self._notice = notice
        self._membership = Membership(
            session_timeout=arguments["session_timeout_ms"] / 1000,
            max_poll_interval=arguments["max_poll_interval_ms"] / 1000,
            margin=options.fence_margin,
        )
        assignor = Assignor(lambda: self._membership.partitions)
        self._arguments = {**arguments, "partition_assignment_strategy": (assignor,)}
        self._consumer: KafkaConsumer | None = None
        self._orders: deque[Callable[[KafkaConsumer], None]] = deque()
        self._wake = threading.Condition()
        self._outstanding = 0
        self._stopping = False
        self._lags: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._partition_count: int | None = None
        self._topic_id: str | None = None
        self._replaced = False
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._run, name="kafka-poll", daemon=True)

    def __repr__(self) -> str:
        state = "stopping" if self._stopping else "running" if self._thread.is_alive() else "not running"
        return f"<Consumer {self._options.command_topic}{sorted(self.partitions)} {state}, {self._outstanding} batches out>"

    def start(self) -> None:
        """Starts the poll thread."""
        self._thread.start()

    def stop(self) -> None:
        """Asks the poll thread to hand over, leave the group and end. Returns at once."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def close(self, timeout: float) -> bool:
        """``stop()``, and waits. Whether it was over within ``timeout`` seconds."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def begin(self, partition: int, position: int, epoch: int) -> None:
        """The partition's past is restored: fetch it from ``position``. Ignored when that ownership is over."""
        if self._membership.begin(partition, epoch):
            self._order(lambda consumer: self._begin(consumer, partition, position, epoch))

    def pause(self, partition: int) -> None:
        """Fetch no more of it. What is on its way may still be handed over."""
        self._order(lambda consumer: self._pause(consumer, partition))

    def resume(self, partition: int) -> None:
        """Fetch it again. Nothing is skipped or repeated."""
        self._order(lambda consumer: self._resume(consumer, partition))

    def taken(self) -> None:
        """One batch that was handed over is taken care of: another may come."""
        with self._wake:
            self._outstanding -= 1
            self._wake.notify_all()

    def fence(self) -> float:
        """The monotonic time until which a request may leave; minus infinity when nothing proves the membership."""
        return self._membership.fence()

    def claim(self, partitions: Iterable[int]) -> Claim | None:
        """For the publisher: what is owned now, to be asked about later. None if one of the partitions is not owned."""
        return self._membership.claim(partitions)

    def group_metadata(self, claim: Claim) -> Any:
        """
        For the publisher: this member's fresh identity, with which the broker fences; None if the claim no longer holds.

        A member that has lost its generation has the identity of nobody, which the broker does not check at all: it is
        never given away. It is read before the claim is checked, so a loss in between leaves an old one, which is refused.
        """
        consumer = self._consumer
        if consumer is None:
            return None
        metadata = consumer.group_metadata()
        if metadata.generation_id < 0 or not metadata.member_id or not self._membership.holds(claim):
            return None
        return metadata

    @property
    def partitions(self) -> frozenset[int]:
        """Those that are owned now."""
        return self._membership.partitions

    def lag(self, partition: int) -> int | None:
        """How many offsets are not fetched yet, as of the last poll; None while nothing was fetched."""
        return self._lags.get(partition)

    def topic_id(self) -> str | None:
        """The command topic's id as of the last metadata; None before the first, or from brokers older than 2.8."""
        return self._topic_id

    def partition_count(self) -> int | None:
        """How many partitions the command topic has, as of the last metadata (a minute old at most); None before the first."""
        return self._partition_count

    # The poll thread.

    def _run(self) -> None:
        try:
            connected = self._connected()
            if connected is None:
                return
            consumer, rebalances = connected
            try:
                self._poll_until_stopped(consumer, rebalances)
            finally:
                self._leave(consumer)
        except WorkerError as exc:
            self._listener.failed(exc)
        except Exception as exc:  # noqa: BLE001 - whatever it was, the thread is over and must not be so in silence
            self._listener.failed(ending(exc))

    def _connected(self) -> tuple[KafkaConsumer, Rebalances] | None:
        wait = BACKOFF_SECONDS[0]
        while not self._stopping:
            try:
                consumer = opened(KafkaConsumer, self._arguments, self._options.secrets_for("consumer"))
            except TRANSIENT as exc:
                self._refused(exc)
                self._tell_failure("kafka.connect_failed", exc, wait)
                wait = self._back_off(wait)
                continue
            rebalances = Rebalances(consumer, self._options, self._membership, self._listener, self._notice)
            consumer.subscribe([self._options.command_topic], listener=rebalances)
            self._consumer = consumer
            self._wait_for_metadata(consumer)
            return consumer, rebalances
        return None

    def _wait_for_metadata(self, consumer: KafkaConsumer) -> None:
        """Without it the first to join assigns nothing to anybody, and a second rebalance follows at once."""
        deadline = time.monotonic() + METADATA_SECONDS
        while known_partitions(consumer, self._options.command_topic) is None and time.monotonic() < deadline:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping, METADATA_SECONDS / 100)

    def _poll_until_stopped(self, consumer: KafkaConsumer, rebalances: Rebalances) -> None:
        wait = BACKOFF_SECONDS[0]
        while not self._stopping:
            try:
                self._step(consumer, rebalances)
                wait = BACKOFF_SECONDS[0]
            except errors.OffsetOutOfRangeError as exc:
                self._skip_to_earliest(consumer, exc.args[0])
            except errors.LogTruncationError as exc:
                self._skip_to_earliest(consumer, dict.fromkeys(exc.divergent_offsets))
            except errors.KafkaError as exc:
                # A right that was revoked comes back: what is refused is tried again as an outage is.
                if not self._refused(exc) and not isinstance(exc, TRANSIENT):
                    raise
                self._tell_failure("kafka.poll_failed", exc, wait)
                wait = self._back_off(wait)

    def _step(self, consumer: KafkaConsumer, rebalances: Rebalances) -> None:
        while self._orders:
            self._orders.popleft()(consumer)
        joining = finish_join(consumer)
        if self._has_room(0.0 if joining else POLL_SECONDS):
            polled = self._poll(consumer, POLL_SECONDS)
            self._watch_id(consumer)
            self._deliver(polled, rebalances)
        else:
            self._poll_without_fetching(consumer, POLL_SECONDS if joining else 0.0)
        rebalances.raise_if_fenced()
        rebalances.readopt()
        self._look(consumer)

    def _poll(self, consumer: KafkaConsumer, timeout: float) -> dict[Any, list[ConsumerRecord]]:
        self._membership.polled(time.monotonic())
        release_parked(consumer)
        polled: dict[Any, list[ConsumerRecord]] = consumer.poll(timeout_ms=round(timeout * 1000))
        return polled

    def _poll_without_fetching(self, consumer: KafkaConsumer, timeout: float) -> None:
        """Keeps the membership, and takes part in rebalances, while the listener has enough to do."""
        held = consumer.assignment() - consumer.paused()
        consumer.pause(*held)
        self._poll(consumer, timeout)
        consumer.resume(
            *(where for where in held & consumer.assignment() if self._membership.begun(where.partition))
        )

    def _has_room(self, timeout: float) -> bool:
        with self._wake:
            self._wake.wait_for(
                lambda: self._stopping or self._outstanding < self._options.batches_outstanding, timeout
            )
            return self._outstanding < self._options.batches_outstanding

    def _deliver(self, polled: dict[Any, list[ConsumerRecord]], rebalances: Rebalances) -> None:
        with rebalances.telling:
            begun = {where for where in polled if self._membership.begun(where.partition)}
            records = [_polled(record) for where in begun for record in polled[where]]
            if records and not self._replaced:
                with self._wake:
                    self._outstanding += 1
                self._listener.received(records)

    def _begin(self, consumer: KafkaConsumer, partition: int, position: int, epoch: int) -> None:
        where = self._at(partition)
        if self._membership.holds(((partition, epoch),)) and where in consumer.assignment():
            consumer.seek(where, position)
            self._positions = {}
            self._resume(consumer, partition)

    def _pause(self, consumer: KafkaConsumer, partition: int) -> None:
        if self._at(partition) in consumer.assignment():
            consumer.pause(self._at(partition))

    def _resume(self, consumer: KafkaConsumer, partition: int) -> None:
        if self._membership.begun(partition) and self._at(partition) in consumer.assignment():
            consumer.resume(self._at(partition))

    def _watch_id(self, consumer: KafkaConsumer) -> None:
        """Notices when another topic has the name: nothing of it is handed over, it would be taken for the old one's."""
        known = known_topic_id(consumer, self._options.command_topic)
        if known is not None and self._topic_id not in (None, known):
            self._replaced = True
        self._topic_id = known or self._topic_id

    def _look(self, consumer: KafkaConsumer) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        failure = connection_failure(consumer)
        if failure is not None and now >= self._membership.fence():
            self._refused(failure)
        elif now >= self._failed_at + CALM_SECONDS:
            self._troubles.passed(PARTY)
        lags, positions = {}, {}
        for where in consumer.assignment():
            if self._membership.begun(where.partition):
                position, highwater = consumer.position(where, timeout_ms=0), consumer.highwater(where)
                if position is not None:
                    positions[where.partition] = position
                if position is not None and highwater is not None:
                    lags[where.partition] = max(0, highwater - position)
        self._lags = lags
        if positions != self._positions and not self._replaced:
            self._positions = positions
            self._listener.reached(positions)
        self._partition_count = (
            known_partitions(consumer, self._options.command_topic) or self._partition_count
        )

    def _skip_to_earliest(self, consumer: KafkaConsumer, places: Iterable[Any]) -> None:
        was = {where: consumer.position(where, timeout_ms=0) or 0 for where in places}
        for where, now in consumer.beginning_offsets(list(was)).items():
            if where in consumer.assignment():
                consumer.seek(where, now)
                self._listener.out_of_range(where.partition, was[where], now)

    def _refused(self, error: BaseException) -> bool:
        """Notes what Kafka refuses; whether it does."""
        self._failed_at = time.monotonic()
        refusal = refusal_of(error, self._options)
        self._troubles.failed(PARTY, refusal)
        return refusal is not None

    def _leave(self, consumer: KafkaConsumer) -> None:
        try:
            consumer.close(autocommit=False, timeout_ms=2000)
        except errors.KafkaError as exc:
            self._tell_failure("kafka.leave_failed", exc, 0.0)
        finally:
            self._consumer = None
            self._lags = {}

    # Any thread.

    def _order(self, order: Callable[[KafkaConsumer], None]) -> None:
        self._orders.append(order)

    def _at(self, partition: int) -> Any:
        return TopicPartition(self._options.command_topic, partition)

    def _back_off(self, wait: float) -> float:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, wait)
        return min(2 * wait, BACKOFF_SECONDS[1])

    def _tell_failure(self, event: str, error: Exception, wait: float) -> None:
        self._notice(LogEvent(event, "warning", {"error": repr(error), "next_try_seconds": wait}))


def _polled(record: ConsumerRecord) -> Polled:
    headers = record.headers
    if not headers and type(headers) is list:
        headers = ()  # each record brings a list of its own
    return Polled(record.partition, record.offset, record.key, record.value, headers)
