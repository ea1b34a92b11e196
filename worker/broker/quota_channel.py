# The quota topic: what replicas say to each other about lending permits (domain/calls/replica_lending.py), sent and heard within
# milliseconds.
#
# Nothing depends on it: while the topic is absent, refused or away, nothing is lent, and each replica has its own slices. So
# nothing is sent again, nothing that is old is read, and no failure ends the worker. Two threads: one hears, one sends.

from __future__ import annotations

import threading
import time
from queue import Empty, Queue
from typing import TYPE_CHECKING, Final

from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors

from worker.broker.client_config import quota_reader_arguments, quota_writer_arguments
from worker.broker.error_mapping import TRANSIENT, sentence
from worker.broker.kafka_private_parts import discard, known_partitions, open_client
from worker.domain.effects import LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.broker.options import KafkaOptions

POLL_SECONDS: Final = 0.5
"""How long one poll waits at most; a message ends it at once."""
WAIT_SECONDS: Final = 10.0
"""Until the next attempt after a failure, or while there is no such topic. Meanwhile nothing is lent."""
MOST_UNSENT: Final = 1_000
"""The most messages that wait to be sent. Any further one is dropped, since it would come too late anyway."""
CLOSE_SECONDS: Final = 0.5
HEAR: Final = "hear"
SEND: Final = "send"


class QuotaChannel:
    """
    Sends and hears messages of the quota topic.

    ``heard`` receives payloads in order, including those of this replica, on a thread of this channel. ``start`` returns at once.

    Attributes:
        is_open: Whether messages arrive, as far as is known.

    """

    def __init__(
        self,
        options: KafkaOptions,
        heard: Callable[[Sequence[bytes]], None],
        notice: Callable[[LogEvent], None],
    ) -> None:
        self._options = options
        self._heard = heard
        self._notice = notice
        self._unsent: Queue[bytes] = Queue(MOST_UNSENT)
        self._stopping = threading.Event()
        # Which of HEAR and SEND fails, and when it last did.
        self._failed_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self.is_open = False
        self._threads = [
            threading.Thread(
                target=self._retry_until_stopped, args=(name, work), name=f"kafka-quota-{name}", daemon=True
            )
            for name, work in ((HEAR, self._hear), (SEND, self._send))
        ]

    def start(self) -> None:
        """Start to hear and to send, if a topic is configured."""
        if self._options.quota_topic is not None:
            for thread in self._threads:
                thread.start()

    def send(self, payload: bytes) -> None:
        """Publish this soon, or never. Does not wait."""
        if self.is_open and not self._unsent.full():
            self._unsent.put_nowait(payload)

    def close(self, timeout: float) -> bool:
        """Stop hearing and sending. Return whether both threads have ended, each within ``timeout`` seconds."""
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)

    def __repr__(self) -> str:
        return f"<QuotaChannel {self._options.quota_topic} {'open' if self.is_open else 'closed'}>"

    # On the threads of the channel.

    def _retry_until_stopped(self, name: str, work: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                work()
            except errors.KafkaError as exc:
                self._failed(name, sentence(exc))
                self._stopping.wait(WAIT_SECONDS)

    def _failed(self, name: str, reason: str) -> None:
        """Note that hearing or sending has failed, and log it if nothing else fails already."""
        if self._stopping.is_set():
            return
        with self._lock:
            if not self._failed_at:
                fields = {"topic": self._options.quota_topic, "reason": reason}
                self._notice(LogEvent("quota.unavailable", "warning", fields))
            self._failed_at[name] = time.monotonic()

    def _succeeded(self, name: str) -> None:
        """Note that hearing or sending works, and log it if nothing else fails."""
        with self._lock:
            self._failed_at.pop(name, None)
            if not self._failed_at:
                self._notice(LogEvent("quota.lending", "info", {"topic": self._options.quota_topic}))

    def _hear(self) -> None:
        """Hear until the end or a failure. Raises kafka-python's errors."""
        consumer = open_client(
            KafkaConsumer, quota_reader_arguments(self._options), self._options.secrets_for("common")
        )
        try:
            topic = self._options.quota_topic
            assert topic is not None
            if not consumer.partitions_for_topic(topic):
                raise errors.UnknownTopicOrPartitionError("there is no such topic")
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            consumer.seek_to_end(place)
            while not self._stopping.is_set():
                records = consumer.poll(timeout_ms=round(POLL_SECONDS * 1000)).get(place, ())
                if not known_partitions(consumer, topic):
                    raise errors.UnknownTopicOrPartitionError("the topic was deleted")
                if not self.is_open:
                    self.is_open = True
                    self._succeeded(HEAR)
                payloads = [record.value for record in records if record.value is not None]
                if payloads:
                    self._heard(payloads)
        finally:
            self.is_open = False
            consumer.close(autocommit=False)

    def _send(self) -> None:
        """Send until the end or a failure. Raises kafka-python's errors."""
        producer = open_client(
            KafkaProducer, quota_writer_arguments(self._options), self._options.secrets_for("producer")
        )
        try:
            while not self._stopping.is_set():
                try:
                    payload = self._unsent.get(timeout=POLL_SECONDS)
                except Empty:
                    continue
                sent = producer.send(self._options.quota_topic, payload, partition=0)
                sent.add_callback(self._taken)
                sent.add_errback(self._refused)
        finally:
            discard(producer, CLOSE_SECONDS)

    # On the producer's thread.

    def _taken(self, _: object) -> None:
        """Note that Kafka took a message. It may refuse others, larger ones, so that counts only if none was refused for a while."""
        failed_at = self._failed_at.get(SEND)
        if failed_at is not None and time.monotonic() >= failed_at + WAIT_SECONDS:
            self._succeeded(SEND)

    def _refused(self, error: Exception) -> None:
        """Note that Kafka did not take a message. One that was only too late, or not sent as the producer closed, is no failure."""
        if not isinstance(error, (*TRANSIENT, errors.IllegalStateError)):
            self._failed(SEND, sentence(error))
