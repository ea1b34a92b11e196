# The demo's Kafka: commands go in, outcomes and dead letters come out. Nothing is judged here.
#
# The load is produced by a thread of its own, so that reading and showing progress do not slow it down.

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from worker.testing.demo.contract import SeenOutcome
from worker.testing.demo.evidence import FoundDeadLetter, ProducedCommand, PublishedOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.testing.demo.environment import Topics
    from worker.testing.demo.scenario import Planned

LARGEST_REQUEST: Final = 4 * 1024 * 1024
SEND_DEADLINE: Final = 60.0
CLOSE_DEADLINE: Final = 5.0
PACE: Final = 0.01
"""How often a paced load catches up, in seconds."""
POLL_MS: Final = 100
MOST_RECORDS: Final = 2000


class Load:
    """
    Produces records in their order, in a thread.

    Attributes:
        sent: The records that Kafka has taken, with their places, in the order of its answers.

    """

    def __init__(
        self, bootstrap_servers: str, topic: str, records: Sequence[Planned], rate: float | None = None
    ) -> None:
        self.sent: list[ProducedCommand] = []
        self._records = records
        self._topic = topic
        self._rate = rate
        self._bootstrap_servers = bootstrap_servers
        self._error: BaseException | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __repr__(self) -> str:
        return f"<Load {len(self.sent)} of {len(self._records)} sent>"

    def start(self) -> None:
        """Begins to produce: as fast as it can, or ``rate`` records a second."""
        self._thread.start()

    def close(self) -> None:
        """Produces no more, and leaves Kafka."""
        self._stopping = True
        if self._thread.ident is not None:
            self._thread.join(CLOSE_DEADLINE)

    @property
    def done(self) -> bool:
        """Whether every record has its place. Raises KafkaError if one could not be produced."""
        if self._error is not None:
            raise KafkaError(f"the load could not be produced: {self._error}") from self._error
        return len(self.sent) == len(self._records)

    def _run(self) -> None:
        try:
            self._produce()
        except BaseException as exc:  # noqa: BLE001 - it is raised again in the thread that asks
            self._error = exc

    def _produce(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            compression_type="lz4",
            linger_ms=5,
            batch_size=128 * 1024,
            max_request_size=LARGEST_REQUEST,
        )
        try:
            self._send_all(producer)
            if not self._stopping:
                producer.flush(SEND_DEADLINE)
        finally:
            producer.close(CLOSE_DEADLINE)

    def _send_all(self, producer: KafkaProducer) -> None:
        begin = time.monotonic()
        for number, planned in enumerate(self._records):
            while (
                self._rate is not None
                and number > (time.monotonic() - begin) * self._rate
                and not self._stopping
            ):
                time.sleep(PACE)
            if self._stopping:
                return
            future = producer.send(self._topic, key=planned.key, value=planned.value)
            future.add_callback(self._taken, planned)
            future.add_errback(self._refused)

    def _taken(self, planned: Planned, metadata: Any) -> None:
        self.sent.append(
            ProducedCommand(planned, metadata.partition, metadata.offset, metadata.timestamp / 1000)
        )

    def _refused(self, error: BaseException) -> None:
        self._error = error


@dataclass(slots=True)
class Read:
    """
    What was read so far.

    Attributes:
        raw: The text of each outcome, beside ``outcomes``.

    """

    outcomes: list[PublishedOutcome] = field(default_factory=list)
    letters: list[FoundDeadLetter] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)


class Reader:
    """Reads the outcome and dead-letter topics from their beginnings, read_committed: what any consumer of them would see."""

    def __init__(self, bootstrap_servers: str, topics: Topics, partitions: int) -> None:
        self.read = Read()
        self._topics = topics
        self._decode = msgspec.json.Decoder(SeenOutcome).decode
        self._places = [
            TopicPartition(topic, partition)
            for topic in (topics.outcomes, topics.dead_letters)
            for partition in range(partitions)
        ]
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=MOST_RECORDS,
        )
        self._consumer.assign(self._places)

    def __repr__(self) -> str:
        return f"<Reader {len(self.read.outcomes)} outcomes, {len(self.read.letters)} dead letters>"

    def poll(self) -> int:
        """Reads what is there, waiting a moment if there is nothing. Returns how many records came."""
        count = 0
        for place, records in self._consumer.poll(timeout_ms=POLL_MS).items():
            count += len(records)
            for record in records:
                if place.topic == self._topics.outcomes:
                    self._outcome(record)
                else:
                    self.read.letters.append(letter_of(record))
        return count

    def read_to_the_end(self, deadline: float) -> None:
        """Reads on until nothing is left that can be read now. Raises KafkaError after ``deadline`` seconds."""
        limit = time.monotonic() + deadline
        ends = self._consumer.end_offsets(self._places)
        while any(self._consumer.position(place) < end for place, end in ends.items()):
            if time.monotonic() > limit:
                raise KafkaError(f"the topics could not be read to their end within {deadline:g} s")
            self.poll()

    def close(self) -> None:
        """Leaves Kafka."""
        self._consumer.close()

    def _outcome(self, record: Any) -> None:
        self.read.raw.append(record.value)
        self.read.outcomes.append(
            PublishedOutcome(
                self._decode(record.value), record.partition, record.key, record.timestamp / 1000
            )
        )


def letter_of(record: Any) -> FoundDeadLetter:
    """A record of the dead-letter topic as evidence. An omitted or null value is told by its headers."""
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    value = record.value
    if headers.get("x-value-null") == "1":
        value = None
    return FoundDeadLetter(
        headers.get("x-outcome-id", ""),
        headers.get("x-error-code", ""),
        record.key,
        value,
        value_omitted="x-value-omitted" in headers,
    )
