# What a new owner of a partition must know before it begins, read from Kafka: where to begin, what is done above it, and
# which command ids the outcome topic tells of. The order of the steps is the promise (nothing is done twice):
# the stable committed offset, then the high watermark of the outcomes, then the outcomes up to that mark.
#
# Nothing is written here, and the group is not joined. What outcomes prove when a commit is lost, or its metadata foreign,
# is decided in domain/progress/outcome_evidence.py.

from __future__ import annotations

import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, OffsetSpec, TopicPartition, errors

from worker.broker import offset_ranges
from worker.broker.client_config import admin_arguments, reader_arguments
from worker.broker.error_mapping import TRANSIENT
from worker.broker.kafka_patches import connection_failure, opened
from worker.broker.refusals import refusal_of
from worker.broker.troubles import Troubles
from worker.domain.effects import LogEvent, Restored
from worker.domain.progress import commit_metadata
from worker.domain.progress.dedupe import known_bytes
from worker.domain.progress.outcome_evidence import (
    ENOUGH,
    Doubt,
    is_nameless,
    nameless,
    nameless_hash,
    place_of,
    proven,
    told_by,
    window,
)
from worker.errors import BrokerError, CommitLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self

    from worker.broker.options import KafkaOptions
    from worker.domain.contract.outcomes import Known
    from worker.domain.contract.records import Record

CLEANUP_SECONDS: Final = 15.0
"""A broker looks for transactions that are too old every 10 s."""
MARK_WAIT: Final = (0.02, 0.5)
"""Between two looks at a transaction that is still open: the first wait, which doubles up to the second."""
SPARE: Final = 1.25
"""The first step back, in records wanted: transaction markers take offsets too."""
DECIDE: Final = (
    "stop all replicas and say where to go on: kafka-consumer-groups --bootstrap-server {servers} --group {group} --topic "
    "{topic}:{partition} --reset-offsets --to-offset <n> --execute, with {first} to carry out what is in doubt, perhaps again, "
    "or {next} to take it for done"
)


class Restorer:
    """
    Restores partitions, each call with connections of its own: it may be called from several threads at once.

    ``decode`` makes of an outcome's bytes what is known of its command id, or None; ``command_id_of`` tells a command
    record's id, or None. ``topic_id`` is the cluster's id of the command topic.
    """

    def __init__(
        self,
        options: KafkaOptions,
        decode: Callable[[bytes], Known | None],
        notice: Callable[[LogEvent], None],
        troubles: Troubles | None = None,
        *,
        command_id_of: Callable[[Record], str | None],
        topic_id: str | None,
    ) -> None:
        self._options = options
        self._decode = decode
        self._notice = notice
        self._command_id_of = command_id_of
        self._topic_id = topic_id
        self._troubles = troubles or Troubles(notice)

    def __repr__(self) -> str:
        return f"<Restorer {self._options.outcome_topic}>"

    def restore(self, partition: int) -> Restored:
        """
        Blocks until the partition's past is known. Call it only for a partition that this member owns.

        Raises BrokerError when Kafka cannot be reached, or a dead owner's transaction stays open for longer than the broker
        should allow; the same can be tried again. Raises CommitLostError where a person must decide.
        """
        began = time.monotonic()
        party = f"restore {partition}"
        try:
            with _Lookup(self._options) as lookup:
                restored = self._restored(lookup, partition)
        except errors.KafkaError as exc:
            refusal = refusal_of(exc, self._options)
            self._troubles.failed(party, refusal)
            reason = exc if refusal is None else f"{refusal.reason} ({exc!r})"
            raise BrokerError(f"partition {partition} cannot be restored: {reason}") from exc
        self._troubles.passed(party)
        self._notice(
            LogEvent(
                "kafka.partition_restored",
                "info",
                {
                    "partition": partition,
                    "position": restored.position,
                    "known": len(restored.known),
                    "seconds": round(time.monotonic() - began, 3),
                },
            )
        )
        return restored

    def _restored(self, lookup: _Lookup, partition: int) -> Restored:
        place = TopicPartition(self._options.command_topic, partition)
        committed = lookup.committed(place, self._open_transaction_seconds())
        outcomes = TopicPartition(self._options.outcome_topic, partition)
        mark = lookup.high_watermark(outcomes)
        lookup.wait_until_stable(outcomes, mark, self._open_transaction_seconds())
        known = self._known(lookup, outcomes, mark)
        if committed is None:
            return self._uncommitted(lookup, place, outcomes, mark, known)
        position, metadata = committed.offset, committed.metadata or ""
        whose = commit_metadata.label(place.topic, self._topic_id, partition)
        done = commit_metadata.decode(metadata, whose, position)
        if done is not None:
            return Restored(position, done, known)
        ids = self._told(lookup, place, outcomes, mark)
        span = range(position, min(window(position, ids).stop, position + commit_metadata.MAX_SPAN))
        records = self._ids(lookup, place, span)
        done = proven(position, records, ids | self._dead(lookup, place, records))
        return Restored(position, done, known, foreign=commit_metadata.excerpt(metadata))

    def _uncommitted(
        self, lookup: _Lookup, place: Any, outcomes: Any, mark: int, known: list[Known]
    ) -> Restored:
        """Tells a group that never committed here from one whose commit is lost: of the second there are outcomes."""
        ids = self._told(lookup, place, outcomes, mark)
        if not ids:
            position = lookup.start(place, self._options.start)
            self._tell_start("kafka.no_committed_offset", lookup, place, position)
            return Restored(position, known=known, fresh=True)
        start = lookup.beginning(place)
        records = self._ids(lookup, place, window(start, ids))
        found = place_of(
            start,
            lookup.high_watermark(place),
            records,
            ids | self._dead(lookup, place, records),
            is_whole=lookup.beginning(outcomes) == 0,
            from_start=self._options.start == "earliest",
        )
        if isinstance(found, Doubt):
            options = self._options
            remedy = DECIDE.format(
                servers=options.bootstrap_servers,
                group=options.group_id,
                topic=place.topic,
                partition=place.partition,
                first=found.first,
                next=found.next,
            )
            raise CommitLostError(
                f"partition {place.partition} has outcomes and no committed offset (expired, or deleted): {found.reason}",
                remedy,
            )
        self._tell_start("kafka.commit_lost", lookup, place, found.position)
        return Restored(found.position, found.done, known, fresh=True)

    def _tell_start(self, event: str, lookup: _Lookup, place: Any, position: int) -> None:
        records, first_at = lookup.rest(place, position)
        age = None if first_at is None else round(max(0.0, time.time() - first_at), 3)
        fields = {
            "partition": place.partition,
            "position": position,
            "records": records,
            "oldest_age_seconds": age,
        }
        if event == "kafka.no_committed_offset":
            fields["start"] = str(self._options.start)
        self._notice(LogEvent(event, "warning", fields))

    def _known(self, lookup: _Lookup, place: Any, mark: int) -> list[Known]:
        """
        What the newest ``restore_records`` outcomes since the window's beginning tell, as far as memory goes, oldest first.

        It reads backwards in steps: markers and aborted records leave it unknown how many offsets that takes.
        """
        floor = lookup.first_since(place, time.time() - self._options.restore_window)
        if floor is None:
            return []
        found: deque[Known | None] = deque()
        wanted, allowed = self._options.restore_records, self._options.restore_bytes
        end = mark
        step = max(1, round(SPARE * wanted))
        while end > floor and len(found) < wanted and allowed > 0:
            begin = max(floor, end - step)
            told = map(self._decode, lookup.values(place, begin, end))
            older, allowed = newest(told, wanted - len(found), allowed)
            older.extend(found)
            found = older
            end = begin
            step *= 2
        return [known for known in found if known is not None]

    def _told(self, lookup: _Lookup, place: Any, outcomes: Any, mark: int) -> dict[int, str]:
        """The newest ``ENOUGH`` outcomes of this partition's records: offset -> command_id, as the newest of each offset says."""
        ids: dict[int, str] = {}
        begin, end = lookup.beginning(outcomes), mark
        while end > begin and len(ids) < ENOUGH:
            floor = max(begin, end - ENOUGH)
            older = {
                told.source.offset: told.command_id
                for value in lookup.values(outcomes, floor, end)
                if (told := told_by(value)) is not None
                and (told.source.topic, told.source.partition) == (place.topic, place.partition)
            }
            ids = older | ids
            end = floor
        return ids

    def _ids(self, lookup: _Lookup, place: Any, span: range) -> dict[int, str]:
        """The command records in that span of offsets: offset -> command_id, or what stands for one that cannot be read."""
        begin, end = max(span.start, lookup.beginning(place)), min(span.stop, lookup.end(place))
        records = lookup.records(place, begin, end) if begin < end else ()
        return {record.offset: self._command_id_of(record) or nameless(record.value) for record in records}

    def _dead(self, lookup: _Lookup, place: Any, records: Mapping[int, str]) -> dict[int, str]:
        """Of those records whose id cannot be read, the ones that have a dead letter: offset -> what stands for the id."""
        wanted = {offset for offset, command_id in records.items() if is_nameless(command_id)}
        if not wanted:
            return {}
        source = (place.topic.encode(), str(place.partition).encode())
        found = {}
        for letters in lookup.places(self._options.dead_letter_topic):
            for letter in lookup.records(letters, lookup.beginning(letters), lookup.end(letters)):
                headers = dict(letter.headers)
                if (headers.get("x-source-topic"), headers.get("x-source-partition")) != source:
                    continue
                offset, omitted = headers.get("x-source-offset") or b"", headers.get("x-value-sha256")
                if offset.isdigit() and int(offset) in wanted:
                    found[int(offset)] = (
                        nameless(letter.value)
                        if omitted is None
                        else nameless_hash(omitted.decode(errors="replace"))
                    )
        return found

    def _open_transaction_seconds(self) -> float:
        return self._options.transaction_timeout + CLEANUP_SECONDS


def newest(told: Iterable[Known | None], most: int, allowed: int) -> tuple[deque[Known | None], int]:
    """
    The newest of them, at most ``most``, in ``allowed`` bytes of memory; and how many of those are left: none, if one did not fit.

    Never more is held than that, however many there are: the pod would die of it, and so would the next owner's.
    """
    found: deque[Known | None] = deque()
    left, did_fit = allowed, True
    for known in told:
        found.append(known)
        left -= _size(known)
        while left < 0 or len(found) > most:
            did_fit = did_fit and left >= 0
            left += _size(found.popleft())
    return found, left if did_fit else 0


def _size(known: Known | None) -> int:
    return 0 if known is None else known_bytes(known)


class _Lookup:
    """The questions that a restoration asks, over one consumer that is in no group's membership and one admin client."""

    def __init__(self, options: KafkaOptions) -> None:
        self._reader = opened(KafkaConsumer, reader_arguments(options), options.secrets_for("common"))
        try:
            self._admin = opened(KafkaAdminClient, admin_arguments(options), options.secrets_for("common"))
        except BaseException:
            self._reader.close(autocommit=False)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        reason = connection_failure(self._reader) or connection_failure(self._admin)
        self._admin.close()
        self._reader.close(autocommit=False)
        if isinstance(error, TRANSIENT) and reason is not None:  # what failed says only that it took too long
            raise errors.KafkaConnectionError(f"{error}: {reason}") from reason

    def committed(self, place: Any, timeout: float) -> Any:
        """The committed offset and metadata, after any transaction that is about to move them; None if there is none."""
        return self._reader.committed(place, metadata=True, timeout_ms=round(timeout * 1000))

    def start(self, place: Any, start: object) -> int:
        """The offset of ``kafka.start``."""
        if isinstance(start, datetime):
            first = self.first_since(place, start.timestamp())
            return self.end(place) if first is None else first
        return self.end(place) if start == "latest" else self.beginning(place)

    def rest(self, place: Any, position: int) -> tuple[int, float | None]:
        """How many offsets there are from ``position`` on, and when the first of them was written, in seconds since 1970."""
        count = max(0, self.end(place) - position)
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
        while self.end(place) < mark:
            if time.monotonic() >= deadline:
                raise BrokerError(
                    f"a transaction in {place.topic}[{place.partition}] stays open: is it hanging?"
                )
            time.sleep(wait)
            wait = min(2 * wait, MARK_WAIT[1])

    def first_since(self, place: Any, since: float) -> int | None:
        """The first offset that was written at or after ``since``, in seconds since 1970; None if there is none."""
        return offset_ranges.first_since(self._reader, [place], since)[place]

    def records(self, place: Any, begin: int, end: int) -> Iterator[Any]:
        """The committed records from ``begin`` up to ``end``, oldest first, as they come."""
        for batch in offset_ranges.batches(self._reader, place, begin, end):
            yield from batch

    def values(self, place: Any, begin: int, end: int) -> Iterator[bytes]:
        """The values of those that have one."""
        return (record.value for record in self.records(place, begin, end) if record.value is not None)

    def places(self, topic: str) -> list[Any]:
        """All partitions of a topic."""
        return [
            TopicPartition(topic, number) for number in sorted(self._reader.partitions_for_topic(topic) or ())
        ]

    def end(self, place: Any) -> int:
        """Where the partition ends for a reader of committed records."""
        return offset_ranges.ends(self._reader, [place])[place]

    def beginning(self, place: Any) -> int:
        """The partition's first offset."""
        return int(self._reader.beginning_offsets([place])[place])
