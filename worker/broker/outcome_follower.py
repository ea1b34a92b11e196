# Reads outcomes as they are published, from the moment at which it is opened: for a command line that waits for them.
#
# No group is joined and nothing is committed. Which outcomes matter is decided by the caller; those of before are looked up
# by outcome_reader.py.

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka import KafkaConsumer, TopicPartition, errors

from worker.broker import offset_ranges
from worker.broker.client_config import reader_arguments
from worker.broker.error_mapping import sentence, unreachable
from worker.broker.kafka_patches import open_client
from worker.errors import BrokerError

if TYPE_CHECKING:
    from typing import Self

    from worker.broker.options import KafkaOptions

POLL_RECORDS = 2_000


class OutcomeFollower:
    """
    The committed outcomes from now on, over its own connection, as a context manager.

    Opening it raises BrokerError with a sentence if Kafka cannot be reached or the topic may not be read.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        arguments = {**reader_arguments(options), "client_id": f"{options.client_name}-follower"}
        try:
            self._reader = open_client(KafkaConsumer, arguments)
        except errors.KafkaError as exc:
            raise unreachable(options.bootstrap_servers, exc) from exc
        try:
            self._go_to_the_end()
        except BaseException:
            # An interrupt as well: what was never entered has no exit that would close it.
            self._reader.close(autocommit=False)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close(autocommit=False)

    def __repr__(self) -> str:
        return f"<OutcomeFollower of {self._options.outcome_topic}>"

    def poll(self, seconds: float) -> list[bytes]:
        """Return the outcomes that were published since the last call; wait at most this long for the first."""
        try:
            batches = self._reader.poll(timeout_ms=max(0, round(seconds * 1000)), max_records=POLL_RECORDS)
        except errors.KafkaError as exc:
            raise self._unreadable(exc) from exc
        return [record.value for batch in batches.values() for record in batch if record.value is not None]

    def _go_to_the_end(self) -> None:
        topic = self._options.outcome_topic
        try:
            partitions = self._reader.partitions_for_topic(topic)
            if not partitions:
                raise BrokerError(f"there is no topic {topic}, or this user may not read it")
            tps = [TopicPartition(topic, partition) for partition in sorted(partitions)]
            self._reader.assign(tps)
            for tp, end in offset_ranges.ends(self._reader, tps).items():
                self._reader.seek(tp, end)
        except errors.KafkaError as exc:
            raise self._unreadable(exc) from exc

    def _unreadable(self, error: errors.KafkaError) -> BrokerError:
        return BrokerError(f"{self._options.outcome_topic} cannot be read: {sentence(error)}")
