# How large a record may be in each topic, while brokers accept less than they did at the start.
#
# It belongs to the publisher's thread. What is omitted from a record that is too large is decided in producer_records.py.

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from kafka import errors

from worker.broker.topic_admin import BATCH_BYTES, message_bytes
from worker.domain.contract.dead_letter_encoding import SMALLEST_LIMIT
from worker.domain.effects import LogEvent
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.broker.options import KafkaOptions
    from worker.broker.producer_records import ProducerRecord

FORGET_SECONDS: Final = 300.0
"""After this time a lowered limit is forgotten, to try whether the brokers accept the usual size again."""
ALONE: Final = 2
"""A transaction of at most this many records cannot be made smaller by publishing fewer of them."""
SLOW_TIMES: Final = 3
"""How many transactions in a row must be too slow before limits are lowered: an outage of seconds must not shorten a dead letter."""


class RecordLimits:
    """The lowered limits of the topics whose brokers accept less than ``record_limit``. ``notice`` is called once for each change."""

    def __init__(self, options: KafkaOptions, notice: Callable[[LogEvent], None]) -> None:
        self._options = options
        self._notice = notice
        self._by_topic: dict[str, int] = {}
        self._forget_at = 0.0
        self._shortened = 0
        self._log_at = 0.0
        self._slow = 0

    @property
    def by_topic(self) -> Mapping[str, int]:
        """The lowered limits by topic, in bytes."""
        if self._by_topic and time.monotonic() >= self._forget_at:
            self._by_topic.clear()
        return self._by_topic

    def lower(self, refused: ProducerRecord) -> bool:
        """
        Lower the limit of a topic whose broker refused this record for its size. Return False if it was the lowest already.

        The new limit is the topic's ``max.message.bytes``, or half of the record if that may not be read or explains nothing.
        """
        topic = refused.topic
        before = self._by_topic.get(topic, self._options.record_limit)
        smallest = before <= SMALLEST_LIMIT
        found = self._message_bytes(topic)
        wanted = before if found is None else found - BATCH_BYTES
        if wanted >= min(before, refused.size):
            wanted = min(before, refused.size) // 2
        limit = max(SMALLEST_LIMIT, wanted)
        self._lower(topic, refused.size, limit, found)
        return not smallest

    def _lower(self, topic: str, size: int, limit: int, message_bytes: int | None) -> None:
        if limit == self._by_topic.get(topic):
            return
        self._by_topic[topic] = limit
        self._forget_at = time.monotonic() + FORGET_SECONDS
        fields = {"topic": topic, "record_bytes": size, "limit_bytes": limit, "message_bytes": message_bytes}
        self._notice(LogEvent("kafka.record_limit_lowered", "warning", fields))

    def too_slow(self, records: Sequence[ProducerRecord]) -> None:
        """
        Note that these records could not be sent in time although the broker answered.

        If that happens ``SLOW_TIMES`` in a row to hardly more than one record, the link is too slow for this size, and the limits
        are lowered.
        """
        if len(records) > ALONE:
            return
        self._slow += 1
        if self._slow >= SLOW_TIMES:
            self._slow = 0
            for record in records:
                self._lower(record.topic, record.size, max(SMALLEST_LIMIT, record.size // 2), None)

    def fitted(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the producer's arguments with batches that fit: brokers limit the batch, not the record."""
        smallest = min(self._by_topic.values(), default=None)
        if smallest is None:
            return arguments
        return {**arguments, "batch_size": min(arguments["batch_size"], smallest)}

    def published(self, records: Sequence[ProducerRecord]) -> None:
        """Note that these were published. Log how many were shortened to fit, at most once a minute."""
        self._slow = 0
        self._shortened += sum(record.is_shortened for record in records)
        now = time.monotonic()
        if self._shortened and now >= self._log_at:
            self._notice(LogEvent("kafka.records_shortened", "warning", {"records": self._shortened}))
            self._shortened, self._log_at = 0, now + 60.0

    def _message_bytes(self, topic: str) -> int | None:
        try:
            return message_bytes(self._options, topic)
        except (BrokerError, errors.KafkaError):
            return None

    def __repr__(self) -> str:
        return f"<RecordLimits {self._by_topic}>"
