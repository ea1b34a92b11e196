# What a new owner of a partition must know before it begins, read from Kafka: where to begin, what is done above it, and
# which command ids the outcome topic tells of. The order of the steps is the promise (nothing is done twice):
# the stable committed offset, then the high watermark of the outcomes, then the outcomes up to that mark.
#
# Nothing is written here, and the group is not joined.

from __future__ import annotations

import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, OffsetSpec, TopicPartition, errors

from worker.broker import offset_ranges
from worker.broker.client_config import admin_arguments, reader_arguments
from worker.broker.kafka_patches import opened
from worker.domain.effects import LogEvent, Restored
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from worker.broker.options import KafkaOptions
    from worker.domain.contract.outcomes import Known

CLEANUP_SECONDS: Final = 15.0
"""A broker looks for transactions that are too old every 10 s."""
MARK_WAIT: Final = (0.02, 0.5)
"""Between two looks at a transaction that is still open: the first wait, which doubles up to the second."""
SPARE: Final = 1.25
"""The first step back, in records wanted: transaction markers take offsets too."""


class Restorer:
    """
    Restores partitions, each call with connections of its own: it may be called from several threads at once.

    ``decode`` makes of an outcome's bytes what is known of its command id, or None.
    """

    def __init__(
        self,
        options: KafkaOptions,
        decode: Callable[[bytes], Known | None],
        notice: Callable[[LogEvent], None],
    ) -> None:
        self._options = options
        self._decode = decode
        self._notice = notice

    def __repr__(self) -> str:
        return f"<Restorer {self._options.outcome_topic}>"

    def restore(self, partition: int) -> Restored:
        """
        Blocks until the partition's past is known. Call it only for a partition that this member owns.

        Raises BrokerError when Kafka cannot be reached, or a dead owner's transaction stays open for longer than the broker
        should allow; the same can be tried again.
        """
        began = time.monotonic()
        try:
            with _Lookup(self._options) as lookup:
                position, metadata, fresh = self._position(lookup, partition)
                known = self._known(lookup, partition)
        except errors.KafkaError as exc:
            raise BrokerError(f"partition {partition} cannot be restored: {exc!r}") from exc
        self._notice(
            LogEvent(
                "kafka.partition_restored",
                "info",
                {
                    "partition": partition,
                    "position": position,
                    "known": len(known),
                    "seconds": round(time.monotonic() - began, 3),
                },
            )
        )
        return Restored(position=position, metadata=metadata, known=known, fresh=fresh)

    def _position(self, lookup: _Lookup, partition: int) -> tuple[int, str, bool]:
        """Where to begin, the bitmap, and whether nothing was ever committed."""
        place = TopicPartition(self._options.command_topic, partition)
        committed = lookup.committed(place, self._open_transaction_seconds())
        if committed is not None:
            return committed.offset, committed.metadata or "", False
        position = lookup.start(place, self._options.start)
        records, first_at = lookup.rest(place, position)
        age = None if first_at is None else round(max(0.0, time.time() - first_at), 3)
        self._notice(
            LogEvent(
                "kafka.no_committed_offset",
                "warning",
                {
                    "partition": partition,
                    "start": str(self._options.start),
                    "position": position,
                    "records": records,
                    "oldest_age_seconds": age,
                },
            )
        )
        return position, "", True

    def _known(self, lookup: _Lookup, partition: int) -> list[Known]:
        place = TopicPartition(self._options.outcome_topic, partition)
        mark = lookup.high_watermark(place)
        lookup.wait_until_stable(place, mark, self._open_transaction_seconds())
        floor = lookup.first_since(place, time.time() - self._options.restore_window)
        values: deque[bytes] = deque(maxlen=self._options.restore_records)
        if floor is not None and floor < mark:
            values.extend(self._read_back(lookup, place, floor, mark))
        decoded = (self._decode(value) for value in values)
        return [known for known in decoded if known is not None]

    def _read_back(self, lookup: _Lookup, place: Any, floor: int, mark: int) -> list[bytes]:
        """
        At least ``restore_records`` values below ``mark``, oldest first, or all since ``floor``.

        It reads backwards in steps: markers and aborted records leave it unknown how many offsets that takes.
        """
        wanted = self._options.restore_records
        found: list[bytes] = []
        end = mark
        step = max(1, round(SPARE * wanted))
        while end > floor and len(found) < wanted:
            begin = max(floor, end - step)
            found = lookup.values(place, begin, end) + found
            end = begin
            step *= 2
        return found

    def _open_transaction_seconds(self) -> float:
        return self._options.transaction_timeout + CLEANUP_SECONDS


class _Lookup:
    """The questions that a restoration asks, over one consumer that is in no group's membership and one admin client."""

    def __init__(self, options: KafkaOptions) -> None:
        self._reader = opened(KafkaConsumer, reader_arguments(options))
        try:
            self._admin = opened(KafkaAdminClient, admin_arguments(options))
        except BaseException:
            self._reader.close(autocommit=False)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()
        self._reader.close(autocommit=False)

    def committed(self, place: Any, timeout: float) -> Any:
        """The committed offset and metadata, after any transaction that is about to move them; None if there is none."""
        return self._reader.committed(place, metadata=True, timeout_ms=round(timeout * 1000))

    def start(self, place: Any, start: object) -> int:
        """The offset of ``kafka.start``."""
        if isinstance(start, datetime):
            first = self.first_since(place, start.timestamp())
            return self._end(place) if first is None else first
        return self._end(place) if start == "latest" else self._beginning(place)

    def rest(self, place: Any, position: int) -> tuple[int, float | None]:
        """How many offsets there are from ``position`` on, and when the first of them was written, in seconds since 1970."""
        count = max(0, self._end(place) - position)
        if not count:
            return 0, None
        self._reader.assign([place])
        self._reader.seek(place, position)
        for batch in self._reader.poll(
            timeout_ms=round(offset_ranges.READ_SECONDS * 1000), max_records=1
        ).values():
            return count, batch[0].timestamp / 1000
        return count, None

    def high_watermark(self, place: Any) -> int:
        """
        The end of everything written, whether committed or not.

        A read_committed consumer's end is the last *stable* offset: it can miss what was committed last.
        """
        offsets = self._admin.list_partition_offsets(
            {place: OffsetSpec.LATEST}, IsolationLevel.READ_UNCOMMITTED
        )
        return int(offsets[place].offset)

    def wait_until_stable(self, place: Any, mark: int, timeout: float) -> None:
        """Waits until no transaction below ``mark`` is open. Raises BrokerError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        wait = MARK_WAIT[0]
        while self._end(place) < mark:
            if time.monotonic() >= deadline:
                raise BrokerError(
                    f"a transaction in {place.topic}[{place.partition}] stays open: is it hanging?"
                )
            time.sleep(wait)
            wait = min(2 * wait, MARK_WAIT[1])

    def first_since(self, place: Any, since: float) -> int | None:
        """The first offset that was written at or after ``since``, in seconds since 1970; None if there is none."""
        return offset_ranges.first_since(self._reader, [place], since)[place]

    def values(self, place: Any, begin: int, end: int) -> list[bytes]:
        """The values of the committed records from ``begin`` up to ``end``, oldest first."""
        return [
            record.value
            for batch in offset_ranges.batches(self._reader, place, begin, end)
            for record in batch
            if record.value is not None
        ]

    def _end(self, place: Any) -> int:
        return offset_ranges.ends(self._reader, [place])[place]

    def _beginning(self, place: Any) -> int:
        return int(self._reader.beginning_offsets([place])[place])
