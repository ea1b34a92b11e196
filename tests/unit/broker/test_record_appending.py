# What becomes of a record, by what becomes of its batch: with kafka-python's own accumulator and batches, without a broker.

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka import TopicPartition, errors
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record.memory_records import MemoryRecords

from worker.broker.producer_records import ProducerRecord
from worker.broker.record_appending import append

if TYPE_CHECKING:
    from worker.broker.record_appending import RecordResult

PLACE: Final = TopicPartition("outcomes", 3)


def record(value: bytes, key: bytes | None = b"room") -> ProducerRecord:
    return ProducerRecord("outcomes", 3, key, value, [("status", b"applied")], "id")


def appended(accumulator: Any, *values: bytes) -> list[RecordResult]:
    producer: Any = SimpleNamespace(_accumulator=accumulator)
    return append(producer, PLACE, [record(value) for value in values])


def batches(accumulator: Any) -> list[Any]:
    return [*accumulator._batches[PLACE]]


def values_of(batch: Any) -> list[bytes]:
    batch.records.close()
    return [each.value for packed in MemoryRecords(batch.records.buffer()) for each in packed]


def test_the_records_of_a_partition_are_in_their_order_and_open_batches_as_they_need() -> None:
    accumulator = RecordAccumulator(batch_size=400)

    results = appended(accumulator, *(bytes([65 + number]) * 100 for number in range(7)))

    assert len(results) == 7
    assert not any(result.is_done or result.succeeded() or result.exception for result in results)
    written = [value for batch in batches(accumulator) for value in values_of(batch)]
    assert written == [bytes([65 + number]) * 100 for number in range(7)]
    assert len(batches(accumulator)) == 4
    assert all(batch.max_record_size > 100 for batch in batches(accumulator))


def test_a_later_call_fills_the_batch_that_is_open() -> None:
    accumulator = RecordAccumulator(batch_size=4000)

    appended(accumulator, b"one")
    appended(accumulator, b"two")

    (batch,) = batches(accumulator)
    assert values_of(batch) == [b"one", b"two"]


def test_a_batch_that_waits_to_be_sent_again_gets_no_more_records() -> None:
    accumulator = RecordAccumulator(batch_size=4000)
    appended(accumulator, b"one")
    batches(accumulator)[0].records.close()

    appended(accumulator, b"two")

    assert [values_of(batch) for batch in batches(accumulator)] == [[b"one"], [b"two"]]


def test_a_batch_that_is_written_is_the_success_of_each_record() -> None:
    accumulator = RecordAccumulator(batch_size=4000)
    results = appended(accumulator, b"one", b"two")

    batches(accumulator)[0].complete(17, -1)

    for result in results:
        result.get(0.0)
        assert result.succeeded()


def test_each_record_of_a_refused_batch_has_its_own_reason() -> None:
    accumulator = RecordAccumulator(batch_size=4000)
    results = appended(accumulator, b"one", b"two")
    reasons: list[Exception] = [errors.InvalidRecordError("first"), errors.InvalidRecordError("second")]

    batches(accumulator)[0].complete_exceptionally(reasons[0], reasons.__getitem__)

    assert [result.exception for result in results] == reasons
    assert not any(result.succeeded() for result in results)
    with pytest.raises(errors.InvalidRecordError, match="second"):
        results[1].get(0.0)


def test_an_aborted_batch_is_the_failure_of_each_record() -> None:
    accumulator = RecordAccumulator(batch_size=4000)
    results = appended(accumulator, b"one", b"two")

    batches(accumulator)[0].abort(errors.TransactionAbortedError())

    assert all(isinstance(result.exception, errors.TransactionAbortedError) for result in results)


def test_what_is_not_answered_in_time_is_a_timeout() -> None:
    (result,) = appended(RecordAccumulator(batch_size=4000), b"one")

    with pytest.raises(errors.KafkaTimeoutError, match="not answered"):
        result.get(0.01)


def test_who_waits_for_a_batch_that_is_split_waits_for_the_halves() -> None:
    accumulator: Any = RecordAccumulator(batch_size=4000)
    results = appended(accumulator, b"one", b"two", b"three")
    batch = accumulator._batches[PLACE].popleft()
    batch.records.close()
    waiting = threading.Thread(target=results[2].get, args=(30.0,))
    waiting.start()

    accumulator.split_and_reenqueue(batch)
    first, second = batches(accumulator)
    second.complete(2, -1)
    waiting.join(30.0)

    assert not waiting.is_alive()
    assert [result.is_done for result in results] == [False, False, True]
    first.complete_exceptionally(errors.InvalidRecordError(), lambda index: errors.KafkaError(str(index)))
    assert [str(result.exception) for result in results[:2]] == ["KafkaError: 0", "KafkaError: 1"]


def test_a_producer_that_is_closed_takes_no_records() -> None:
    accumulator = RecordAccumulator(batch_size=4000)
    accumulator.close()

    with pytest.raises(errors.IllegalStateError):
        appended(accumulator, b"one")
    assert batches(accumulator) == []
