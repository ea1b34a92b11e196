# Reads outcomes as they are published, from the moment at which it is opened or from an earlier one: for a command line that
# waits for them, or watches them.
#
# No group is joined and nothing is committed. Which outcomes matter is decided by the caller; earlier ones are looked
# up by command_history.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka import TopicPartition

from worker.broker import kafka_private_parts
from worker.broker.offset_range_reader import begins_since, open_reader, partitions_of, reading
from worker.broker.offset_range_reader import ends as ends_of

if TYPE_CHECKING:
    from typing import Self

    from worker.broker.options import KafkaOptions

POLL_RECORDS = 2_000
FETCH_WAIT_MS = 500
"""How long a broker keeps a fetch until an outcome comes."""


class OutcomeFollower:
    """
    The committed outcomes from now on, or written from ``since`` on (seconds since 1970), over its own connection, as a context
    manager.

    Opening it raises BrokerError with a sentence if Kafka cannot be reached or the topic may not be read.
    """

    def __init__(self, options: KafkaOptions, since: float | None = None) -> None:
        self._options = options
        self._reader = open_reader(options, "follower", fetch_max_wait_ms=FETCH_WAIT_MS)
        try:
            self._begin(since)
        except BaseException:
            # BaseException, so Ctrl-C too: `__exit__` does not run for what was never entered.
            self._reader.close(autocommit=False)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close(autocommit=False)

    def __repr__(self) -> str:
        return f"<OutcomeFollower of {self._options.outcome_topic}>"

    @property
    def failure(self) -> BaseException | None:
        """Why brokers cannot be reached now; None while they can."""
        return kafka_private_parts.connection_failure(self._reader)

    def poll(self, seconds: float) -> list[bytes]:
        """Return the outcomes that were published since the last call; wait at most this long for the first."""
        with reading(self._options.outcome_topic):
            self._take_new_partitions()
            batches = self._reader.poll(timeout_ms=max(0, round(seconds * 1000)), max_records=POLL_RECORDS)
        return [record.value for batch in batches.values() for record in batch if record.value is not None]

    def _begin(self, since: float | None) -> None:
        with reading(self._options.outcome_topic):
            tps = partitions_of(self._reader, self._options.outcome_topic)
            begins = ends_of(self._reader, tps)
            self._go_to(begins if since is None else begins_since(self._reader, tps, since, begins))

    def _take_new_partitions(self) -> None:
        """Follow partitions that were added meanwhile from their beginning."""
        topic, taken = self._options.outcome_topic, self._reader.assignment()
        count = kafka_private_parts.known_partitions(self._reader, topic) or 0
        if count > len(taken):
            begins = {tp: self._reader.position(tp) for tp in taken}
            new = (TopicPartition(topic, partition) for partition in range(count))
            self._go_to({tp: 0 for tp in new if tp not in begins} | begins)

    def _go_to(self, begins: dict[Any, int]) -> None:
        self._reader.assign(list(begins))
        for tp, begin in begins.items():
            self._reader.seek(tp, begin)
