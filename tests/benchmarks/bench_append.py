# What appending a record costs, beside kafka-python's own way: `python tests/benchmarks/bench_append.py`.
#
# A transaction's outcomes of one partition are appended, their batches answered, and each record's result is looked at, with
# no broker: kafka-python's accumulator and batches are its own. Reported is CPU time a record, alternately of both ways.
# No test: it asserts nothing but that each was written.

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition
from kafka.producer.record_accumulator import RecordAccumulator

sys.path.insert(0, str(Path(__file__).parents[2]))

from worker.broker.producer_records import ProducerRecord
from worker.broker.record_appending import append

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE: Final = TopicPartition("outcomes", 0)
RECORDS: Final = 1000
TRANSACTIONS: Final = 50
ROUNDS: Final = 4
BATCH_BYTES: Final = 128 * 1024


def record_of(number: int) -> ProducerRecord:
    """An outcome, as large as most are."""
    name = f"command-{number:06}"
    headers = [("command_id", name.encode()), ("status", b"applied")]
    return ProducerRecord("outcomes", 0, b"room-01", b"x" * 600, headers, name)


def appended_one_by_one(accumulator: Any, records: list[ProducerRecord]) -> list[Any]:
    """The results, by kafka-python's `append`."""
    return [accumulator.append(PLACE, None, each.key, each.value, each.headers)[0] for each in records]


def appended_together(accumulator: Any, records: list[ProducerRecord]) -> list[Any]:
    """The results, by ours."""
    producer: Any = SimpleNamespace(_accumulator=accumulator)
    return [*append(producer, PLACE, records)]


def microseconds(
    way: Callable[[Any, list[ProducerRecord]], list[Any]], records: list[ProducerRecord]
) -> float:
    """CPU time a record."""
    begun = time.process_time()
    for _ in range(TRANSACTIONS):
        accumulator: Any = RecordAccumulator(batch_size=BATCH_BYTES)
        results = way(accumulator, records)
        for batch in [*accumulator._batches[PLACE]]:
            batch.complete(0, -1)
        assert all(result.succeeded() for result in results)
    return 1e6 * (time.process_time() - begun) / (TRANSACTIONS * len(records))


def main() -> None:
    records = [record_of(number) for number in range(RECORDS)]
    for _ in range(ROUNDS):
        theirs, ours = (microseconds(way, records) for way in (appended_one_by_one, appended_together))
        print(f"one by one {theirs:.1f} us a record, together {ours:.1f} us")


if __name__ == "__main__":
    main()
