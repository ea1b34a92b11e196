# Appends the records of a transaction to kafka-python's batches: all of a partition at once, each with a small result.
#
# kafka-python's own `append` makes a future for each record, with a lock and callbacks, and looks everything up each time: 8 us a
# record, here 3 (tests/benchmarks/bench_append.py). What becomes of a batch that is refused, split or aborted is the same.
# How records are grouped, and what a refusal means, is decided in publisher.py.

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kafka import errors
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka import KafkaProducer, TopicPartition
    from kafka.producer.future import FutureProduceResult

    from worker.broker.producer_records import ProducerRecord


class RecordResult:
    """
    What became of one record: a look at the result of its batch.

    It has what the publisher, and kafka-python when it splits a batch, need of a ``FutureRecordMetadata``.
    """

    __slots__ = ("_index", "_result")

    def __init__(self, result: FutureProduceResult, index: int) -> None:
        self._result = result
        self._index = index

    @property
    def is_done(self) -> bool:
        """Whether its batch was answered, aborted or given up."""
        result: Any = self._result
        return bool(result.is_done)

    @property
    def exception(self) -> BaseException | None:
        """Why it was not written; None while that is not known, and if it was."""
        result: Any = self._result
        if not result.is_done:
            return None
        _, _, exception_of = result.value
        found: BaseException | None = exception_of and exception_of(self._index)
        return found

    def succeeded(self) -> bool:
        """Return whether it was written."""
        return self.is_done and self.exception is None

    def get(self, timeout: float) -> None:
        """Wait until it is written. Raises kafka-python's error if it was not, and KafkaTimeoutError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self.is_done:
            result: Any = self._result
            # A batch that is split is never done: `rebind` wakes who waits for it.
            if not result.wait(max(0.0, deadline - time.monotonic())):
                raise errors.KafkaTimeoutError(f"the record was not answered within {timeout:.1f} s")
        reason = self.exception
        if reason is not None:
            raise reason

    def rebind(self, result: FutureProduceResult, index: int) -> None:
        """Belong to another batch. kafka-python calls it, by this name, when it splits one that is too large."""
        split: Any = self._result
        self._result, self._index = result, index
        split._latch.set()  # noqa: SLF001


def append(
    producer: KafkaProducer, place: TopicPartition, records: Iterable[ProducerRecord]
) -> list[RecordResult]:
    """
    Return the results of these records of one partition, which leave with the next flush, in their order.

    ``partition_count`` must know their topic, and the transaction their partition. Raises IllegalStateError if the producer is closed.
    """
    accumulator: Any = producer._accumulator  # noqa: SLF001
    results: list[RecordResult] = []
    timestamp = int(time.time() * 1000)
    # As in `RecordAccumulator.append`: who aborts waits for those who append.
    accumulator._appends_in_progress.increment()  # noqa: SLF001
    try:
        with accumulator._tp_lock(place):  # noqa: SLF001
            if accumulator._closed:  # noqa: SLF001
                raise errors.IllegalStateError("the producer is closed")
            queue = accumulator._batches[place]  # noqa: SLF001
            batch: Any = queue[-1] if queue else _open_batch(accumulator, place)
            for record in records:
                written = batch.records.append(timestamp, record.key, record.value, record.headers)
                if written is None:  # it is full, or was sent before and waits to be sent again
                    batch = _open_batch(accumulator, place)
                    written = batch.records.append(timestamp, record.key, record.value, record.headers)
                batch.max_record_size = max(batch.max_record_size, written.size)
                result = RecordResult(batch.produce_future, written.offset)
                batch._record_futures.append(result)  # noqa: SLF001
                results.append(result)
    finally:
        accumulator._appends_in_progress.decrement()  # noqa: SLF001
    return results


def _open_batch(accumulator: Any, place: TopicPartition) -> Any:
    config = accumulator.config
    records = MemoryRecordsBuilder(
        config["message_version"], config["compression_attrs"], config["batch_size"]
    )
    batch = ProducerBatch(place, records)
    accumulator._batches[place].append(batch)  # noqa: SLF001
    accumulator._incomplete.add(batch)  # noqa: SLF001
    return batch
