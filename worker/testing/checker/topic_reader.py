# Reads the outcome and dead-letter topics as evidence, as any consumer of them would. Nothing is judged here.
#
# It has a Kafka client of its own and knows the fields of the contract, not the worker's types.

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from worker.testing.checker.contract import SeenOutcome
from worker.testing.checker.evidence import PublishedDeadLetter, PublishedOutcome

POLL_MS: Final = 100
MOST_RECORDS: Final = 2000


@dataclass(slots=True)
class TopicContents:
    """
    What was read so far.

    Attributes:
        raw: The bytes of each outcome, in the order of ``outcomes``.

    """

    outcomes: list[PublishedOutcome] = field(default_factory=list)
    letters: list[PublishedDeadLetter] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)


class TopicReader:
    """Reads the outcome and dead-letter topics from the beginning with ``read_committed``."""

    def __init__(self, bootstrap_servers: str, outcomes: str, dead_letters: str, partitions: int) -> None:
        self.read = TopicContents()
        self._outcomes = outcomes
        self._decode = msgspec.json.Decoder(SeenOutcome).decode
        self._partitions = [
            TopicPartition(topic, partition)
            for topic in (outcomes, dead_letters)
            for partition in range(partitions)
        ]
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=MOST_RECORDS,
        )
        self._consumer.assign(self._partitions)

    def __repr__(self) -> str:
        return f"<TopicReader {len(self.read.outcomes)} outcomes, {len(self.read.letters)} dead letters>"

    def poll(self) -> int:
        """Read what is available, waiting briefly if there is nothing. Return the number of records."""
        count = 0
        for partition, records in self._consumer.poll(timeout_ms=POLL_MS).items():
            count += len(records)
            for record in records:
                if partition.topic == self._outcomes:
                    self._outcome(record)
                else:
                    self.read.letters.append(letter_of(record))
        return count

    def read_to_the_end(self, deadline: float) -> None:
        """Read up to the present end of the topics. Raises KafkaError after ``deadline`` seconds."""
        limit = time.monotonic() + deadline
        ends = self._consumer.end_offsets(self._partitions)
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            if time.monotonic() > limit:
                raise KafkaError(f"the topics could not be read to their end within {deadline:g} s")
            self.poll()

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _outcome(self, record: Any) -> None:
        self.read.raw.append(record.value)
        self.read.outcomes.append(
            PublishedOutcome(
                self._decode(record.value), record.partition, record.key, record.timestamp / 1000
            )
        )


def letter_of(record: Any) -> PublishedDeadLetter:
    """Return a record of the dead-letter topic as evidence. Its headers say whether the value is null or omitted."""
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    value = record.value
    if headers.get("x-value-null") == "1":
        value = None
    return PublishedDeadLetter(
        headers.get("x-outcome-id", ""),
        headers.get("x-error-code", ""),
        record.key,
        value,
        value_omitted="x-value-omitted" in headers,
    )
