# The commands of the whole group that have no outcome yet, read from Kafka without joining: those beyond the committed offset that
# the commit's bitmap does not mark as done.
#
# The caller decides how long to read, and what the records mean.

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition, errors

from worker.broker import offset_range_reader
from worker.broker.command_history import CommandHistory
from worker.broker.error_mapping import sentence
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kafka import KafkaConsumer

    from worker.broker.command_history import PartitionProgress
    from worker.broker.options import KafkaOptions
    from worker.domain.contract.raw_records import Record


def unfinished_commands(options: KafkaOptions) -> Iterator[list[Record]]:
    """
    Yield the command records that the group had not finished at the beginning, batch by batch, partition by partition.

    Last come those that the worker cannot read yet: they are in, or behind, a transaction that a producer has not ended.
    Raises BrokerError if Kafka refuses.
    """
    with CommandHistory(options) as history:
        group_progress = history.group_progress()
    begins = {
        TopicPartition(options.command_topic, number): each.position
        for number, each in group_progress.items()
    }
    try:
        for isolation in ("read_committed", "read_uncommitted"):
            reader = offset_range_reader.open_reader(options, "waiting", isolation_level=isolation)
            with closing(reader):
                ends = offset_range_reader.ends(reader, list(begins))
                yield from _between(reader, begins, ends, group_progress)
            begins = {place: max(begin, ends[place]) for place, begin in begins.items()}
    except errors.KafkaError as exc:
        raise BrokerError(f"the topic {options.command_topic} cannot be read: {sentence(exc)}") from exc


def _between(
    reader: KafkaConsumer,
    begins: Mapping[Any, int],
    ends: Mapping[Any, int],
    group_progress: Mapping[int, PartitionProgress],
) -> Iterator[list[Record]]:
    """Yield the records from ``begins`` up to ``ends`` that were not done, batch by batch."""
    for place, begin in begins.items():
        if begin >= ends[place]:
            continue
        is_done = group_progress[place.partition].is_done
        for batch in offset_range_reader.batches(reader, place, begin, ends[place]):
            yield [record for record in batch if not is_done(record.offset)]
