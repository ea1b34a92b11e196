# What a new owner of a partition must know before it begins, read from Kafka: where to begin, what is done above that
# offset, and the command ids in the outcome topic. The promise that nothing is done twice depends on the order of the steps:
# the stable committed offset, then the high watermark of the outcomes, then the outcomes up to that mark.
#
# Nothing is written here, and the group is not joined. What outcomes prove if a commit is lost or its metadata is foreign is
# decided in domain/progress/lost_commit_recovery.py.

from __future__ import annotations

import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, OffsetSpec, TopicPartition, errors

from worker.broker import offset_range_reader
from worker.broker.active_kafka_refusals import ActiveKafkaRefusals
from worker.broker.client_config import admin_arguments, reader_arguments
from worker.broker.error_mapping import TRANSIENT
from worker.broker.kafka_private_parts import connection_failure, open_client
from worker.broker.kafka_refusals import OTHER, Refusal, refusal_of
from worker.domain.contract.dead_letter_decoding import ParsedDeadLetter, read_letter
from worker.domain.effects import LogEvent, RestoredPartition
from worker.domain.progress import commit_metadata
from worker.domain.progress.dedupe import known_bytes
from worker.domain.progress.lost_commit_recovery import (
    ENOUGH,
    UnclearPosition,
    bitmap_of_proven,
    evidence_in,
    is_placeholder,
    offsets_to_compare,
    placeholder_id,
    placeholder_id_from_letter,
    recover_position,
)
from worker.errors import BrokerError, CommittedOffsetLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self

    from worker.broker.options import KafkaOptions
    from worker.domain.contract.outcomes import RememberedCommandId
    from worker.domain.contract.raw_records import Record

CLEANUP_SECONDS: Final = 15.0
"""A broker checks every 10 s for transactions that are too old."""
MARK_WAIT: Final = (0.02, 0.5)
"""Between two checks of a transaction that is still open: the first wait, which doubles up to the second."""
SPARE: Final = 1.25
"""The first step back, as a multiple of the records wanted: transaction markers take offsets too."""
DECIDE: Final = (
    "stop all replicas, wait until the group is empty (its session timeout, 15 s by default) and say where to go on: "
    "kafka-consumer-groups --bootstrap-server {servers} --group {group} --topic {topic}:{partition} --reset-offsets --to-offset <n> "
    "--execute, with {first} to carry out what is in doubt, perhaps again, or {next} to take it for done"
)
END_TRANSACTION: Final = (
    "it ends after its producer's transaction.timeout.ms; one that hangs for longer (kafka-transactions --bootstrap-server {servers} "
    "find-hanging --broker-id <n>) is ended by kafka-transactions --bootstrap-server {servers} abort --topic {topic} "
    "--partition {partition} --start-offset {offset}"
)
FIND_HOLDER: Final = (
    "look whether a transaction that commits for the group {group} is open (kafka-transactions --bootstrap-server {servers} list) and "
    "end its producer, or wait until its transaction.timeout.ms is over; else look at the broker that coordinates the group"
)


class RestoreRefusedError(BrokerError):
    """Kafka answers, but a partition cannot be restored until somebody acts, or a long time has passed."""

    def __init__(self, tp: Any, reason: str, remedy: str) -> None:
        super().__init__(f"partition {tp.partition} cannot be restored: {reason}: {remedy}")
        self.refusal = Refusal(OTHER.kind, reason, remedy, type(self).__name__, tp.topic)


def _party(partition: int) -> str:
    """Return the name of a restoration among the parties that Kafka may refuse (active_kafka_refusals.py)."""
    return f"restore {partition}"


class PartitionRestorer:
    """
    Restores partitions. Each call opens its own connections, so several threads may call it at once.

    ``decode`` returns what an outcome's bytes say of its command id, or None; ``command_id_of`` returns a command record's
    id, or None. ``topic_id`` is the cluster's id of the command topic.
    """

    def __init__(
        self,
        options: KafkaOptions,
        decode: Callable[[bytes], RememberedCommandId | None],
        notice: Callable[[LogEvent], None],
        refusals: ActiveKafkaRefusals | None = None,
        *,
        command_id_of: Callable[[Record], str | None],
        topic_id: str | None,
    ) -> None:
        self._options = options
        self._decode = decode
        self._notice = notice
        self._command_id_of = command_id_of
        self._topic_id = topic_id
        self._refusals = refusals or ActiveKafkaRefusals(notice)

    def __repr__(self) -> str:
        return f"<PartitionRestorer {self._options.outcome_topic}>"

    def restore(self, partition: int) -> RestoredPartition:
        """
        Read the partition's past from Kafka. It blocks; call it only for a partition that this member owns.

        Raises BrokerError if Kafka cannot be reached, or a dead owner's transaction stays open longer than the broker should
        allow; the caller may retry. Raises CommittedOffsetLostError if a person must decide.
        """
        began = time.monotonic()
        party = _party(partition)
        try:
            with _RestoreReader(self._options) as reader:
                restored = self._restore(reader, partition)
        except errors.KafkaError as exc:
            refusal = refusal_of(exc, self._options)
            self._refusals.failed(party, refusal)
            reason = exc if refusal is None else f"{refusal.reason} ({exc!r})"
            raise BrokerError(f"partition {partition} cannot be restored: {reason}") from exc
        except RestoreRefusedError as exc:
            self._refusals.failed(party, exc.refusal)
            raise
        except CommittedOffsetLostError:
            self._refusals.passed(party)
            raise
        self._refusals.passed(party)
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

    def forget_refusals(self, partition: int) -> None:
        """Forget what Kafka has refused of a partition that is not restored any more."""
        self._refusals.forget(_party(partition))

    def _restore(self, reader: _RestoreReader, partition: int) -> RestoredPartition:
        command_tp = TopicPartition(self._options.command_topic, partition)
        committed = reader.committed(command_tp, self._open_transaction_seconds())
        outcome_tp = TopicPartition(self._options.outcome_topic, partition)
        mark = reader.high_watermark(outcome_tp)
        reader.wait_until_stable(outcome_tp, mark, self._open_transaction_seconds())
        known = self._known_ids(reader, outcome_tp, mark)
        if committed is None:
            return self._restore_uncommitted(reader, command_tp, outcome_tp, mark, known)
        position, metadata = committed.offset, committed.metadata or ""
        expected_label = commit_metadata.label(command_tp.topic, self._topic_id, partition)
        done = commit_metadata.decode(metadata, expected_label, position)
        if done is not None:
            free_in_ms = commit_metadata.slice_free_in_ms(metadata)
            return RestoredPartition(
                position,
                done,
                known,
                slice_free_in=None if free_in_ms is None else free_in_ms / 1000,
                owner=commit_metadata.owner_of(metadata),
            )
        ids = self._outcome_ids(reader, command_tp, outcome_tp, mark)
        end = min(offsets_to_compare(position, ids).stop, position + commit_metadata.MAX_SPAN)
        records = self._command_ids(reader, command_tp, range(position, end))
        ids |= self._dead_letter_ids(reader, command_tp, records)
        done = bitmap_of_proven(position, records, ids)
        return RestoredPartition(position, done, known, foreign=commit_metadata.excerpt(metadata))

    def _restore_uncommitted(
        self,
        reader: _RestoreReader,
        command_tp: Any,
        outcome_tp: Any,
        mark: int,
        known: list[RememberedCommandId],
    ) -> RestoredPartition:
        """Restore a partition without a commit. If it has outcomes, a commit was lost; if not, the group never committed here."""
        ids = self._outcome_ids(reader, command_tp, outcome_tp, mark)
        if not ids:
            position = self._choose_start(reader, command_tp)
            return RestoredPartition(position, known=known, fresh=True)
        start = reader.beginning(command_tp)
        records = self._command_ids(reader, command_tp, offsets_to_compare(start, ids))
        found = recover_position(
            start,
            reader.high_watermark(command_tp),
            records,
            ids | self._dead_letter_ids(reader, command_tp, records),
            is_whole=reader.beginning(outcome_tp) == 0,
            from_start=self._options.start == "earliest",
        )
        if isinstance(found, UnclearPosition):
            options = self._options
            remedy = DECIDE.format(
                servers=options.bootstrap_servers,
                group=options.group_id,
                topic=command_tp.topic,
                partition=command_tp.partition,
                first=found.first,
                next=found.next,
            )
            raise CommittedOffsetLostError(
                f"partition {command_tp.partition} has outcomes and no committed offset (expired, or deleted): {found.reason}",
                remedy,
            )
        records_left, first_at = reader.rest(command_tp, found.position)
        self._log_start("kafka.commit_lost", command_tp, found.position, records_left, first_at)
        return RestoredPartition(found.position, found.done, known, fresh=True)

    def _choose_start(self, reader: _RestoreReader, command_tp: Any) -> int:
        """Return where ``kafka.start`` has the group begin in a partition that it never committed, and log it."""
        position = reader.start(command_tp, self._options.start)
        records, first_at = reader.rest(command_tp, position)
        if position == records == 0:  # new, and nothing was ever written: nobody need look at it
            self._notice(LogEvent("kafka.partition_empty", "info", {"partition": command_tp.partition}))
        else:
            start = str(self._options.start)
            self._log_start("kafka.no_committed_offset", command_tp, position, records, first_at, start=start)
        return position

    def _log_start(
        self,
        event: str,
        command_tp: Any,
        position: int,
        records: int,
        first_at: float | None,
        **more: object,
    ) -> None:
        """Log at which position a partition without a commit begins, and how many records are left, the first of them how old."""
        age = None if first_at is None else round(max(0.0, time.time() - first_at), 3)
        fields = {
            "partition": command_tp.partition,
            "position": position,
            "records": records,
            "oldest_age_seconds": age,
            **more,
        }
        self._notice(LogEvent(event, "warning", fields))

    def _known_ids(self, reader: _RestoreReader, outcome_tp: Any, mark: int) -> list[RememberedCommandId]:
        """
        Return the ids that the newest ``restore_records`` outcomes within the window tell of, as far as memory allows, oldest first.

        It reads backwards in steps, since markers and aborted records also take offsets.
        """
        floor = reader.first_since(outcome_tp, time.time() - self._options.restore_window)
        if floor is None:
            return []
        found: deque[RememberedCommandId | None] = deque()
        wanted, allowed = self._options.restore_records, self._options.restore_bytes
        end = mark
        step = max(1, round(SPARE * wanted))
        while end > floor and len(found) < wanted and allowed > 0:
            begin = max(floor, end - step)
            decoded = map(self._decode, reader.values(outcome_tp, begin, end))
            older, allowed = newest(decoded, wanted - len(found), allowed)
            older.extend(found)
            found = older
            end = begin
            step *= 2
        return [known for known in found if known is not None]

    def _outcome_ids(
        self, reader: _RestoreReader, command_tp: Any, outcome_tp: Any, mark: int
    ) -> dict[int, str]:
        """Return offset -> command_id of the newest ``ENOUGH`` outcomes of this partition, by the newest of each offset."""
        ids: dict[int, str] = {}
        begin, end = reader.beginning(outcome_tp), mark
        while end > begin and len(ids) < ENOUGH:
            floor = max(begin, end - ENOUGH)
            older = {
                outcome.source.offset: outcome.command_id
                for value in reader.values(outcome_tp, floor, end)
                if (outcome := evidence_in(value)) is not None
                and (outcome.source.topic, outcome.source.partition)
                == (command_tp.topic, command_tp.partition)
            }
            ids = older | ids
            end = floor
        return ids

    def _command_ids(self, reader: _RestoreReader, command_tp: Any, span: range) -> dict[int, str]:
        """Return offset -> command_id of the command records in that span, with a placeholder for an id that cannot be read."""
        begin, end = max(span.start, reader.beginning(command_tp)), min(span.stop, reader.end(command_tp))
        records = reader.records(command_tp, begin, end) if begin < end else ()
        return {
            record.offset: self._command_id_of(record) or placeholder_id(record.value) for record in records
        }

    def _dead_letter_ids(
        self, reader: _RestoreReader, command_tp: Any, records: Mapping[int, str]
    ) -> dict[int, str]:
        """Return offset -> placeholder id of those records that have no readable id and do have a dead letter."""
        wanted = {offset for offset, command_id in records.items() if is_placeholder(command_id)}
        if not wanted:
            return {}
        found = {}
        for dead_letter_tp in reader.partitions_of(self._options.dead_letter_topic):
            begin, end = reader.beginning(dead_letter_tp), reader.end(dead_letter_tp)
            for record in reader.records(dead_letter_tp, begin, end):
                letter = read_letter(record.key, record.value, record.headers)
                if (
                    isinstance(letter, ParsedDeadLetter)
                    and (letter.topic, letter.partition) == (command_tp.topic, command_tp.partition)
                    and letter.offset in wanted
                ):
                    found[letter.offset] = placeholder_id_from_letter(letter)
        return found

    def _open_transaction_seconds(self) -> float:
        return self._options.transaction_timeout + CLEANUP_SECONDS


def newest(
    decoded: Iterable[RememberedCommandId | None], limit: int, max_bytes: int
) -> tuple[deque[RememberedCommandId | None], int]:
    """
    Return the newest ``limit`` of them that fit into ``max_bytes``, and the bytes left (0 if one did not fit).

    Never holds more than that, however many come: otherwise this pod would run out of memory, and each next owner after it.
    """
    found: deque[RememberedCommandId | None] = deque()
    left, did_fit = max_bytes, True
    for known in decoded:
        found.append(known)
        left -= _size(known)
        while left < 0 or len(found) > limit:
            did_fit = did_fit and left >= 0
            left += _size(found.popleft())
    return found, left if did_fit else 0


def _size(known: RememberedCommandId | None) -> int:
    return 0 if known is None else known_bytes(known)


class _RestoreReader:
    """The lookups of one restoration, over a consumer that joins no group and an admin client."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._reader = open_client(KafkaConsumer, reader_arguments(options), options.secrets_for("common"))
        try:
            self._admin = open_client(
                KafkaAdminClient, admin_arguments(options), options.secrets_for("common")
            )
        except BaseException:
            # BaseException, so Ctrl-C too: `__exit__` does not run for what was never entered.
            self._reader.close(autocommit=False)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        reason = connection_failure(self._reader) or connection_failure(self._admin)
        self._admin.close()
        self._reader.close(autocommit=False)
        if isinstance(error, TRANSIENT) and reason is not None:  # the error says only that it took too long
            raise errors.KafkaConnectionError(f"{error}: {reason}") from reason

    def committed(self, tp: Any, timeout: float) -> Any:
        """Return the committed offset and metadata, after any open transaction that may move them; None if there are none."""
        try:
            return self._reader.committed(tp, metadata=True, timeout_ms=round(timeout * 1000))
        except errors.KafkaTimeoutError as exc:
            if connection_failure(self._reader) is not None:
                raise
            options = self._options
            raise RestoreRefusedError(
                tp,
                f"Kafka does not tell what is committed for {tp.topic}[{tp.partition}]",
                FIND_HOLDER.format(servers=options.bootstrap_servers, group=options.group_id),
            ) from exc

    def start(self, tp: Any, start: object) -> int:
        """Return the offset that ``kafka.start`` means."""
        if isinstance(start, datetime):
            first = self.first_since(tp, start.timestamp())
            return self.end(tp) if first is None else first
        return self.end(tp) if start == "latest" else self.beginning(tp)

    def rest(self, tp: Any, position: int) -> tuple[int, float | None]:
        """Return how many offsets there are from ``position`` on, and when the first was written (seconds since 1970, or None)."""
        end = self.end(tp)
        if position >= end:
            return 0, None
        try:
            first = next(self.records(tp, position, end), None)  # None: only markers and aborted records
        except BrokerError:  # the broker returns none for long, and how old the first one is is only logged
            first = None
        return end - position, None if first is None else first.timestamp / 1000

    def high_watermark(self, tp: Any) -> int:
        """
        Return the end of everything written, committed or not.

        A read_committed consumer's end is the last *stable* offset, which can miss what was committed last.
        """
        offsets = self._admin.list_partition_offsets({tp: OffsetSpec.LATEST}, IsolationLevel.READ_UNCOMMITTED)
        return int(offsets[tp].offset)

    def wait_until_stable(self, tp: Any, mark: int, timeout: float) -> None:
        """Wait until no transaction below ``mark`` is open. Raises RestoreRefusedError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        wait = MARK_WAIT[0]
        while (stable_end := self.end(tp)) < mark:
            if time.monotonic() >= deadline:
                where = {"topic": tp.topic, "partition": tp.partition, "offset": stable_end}
                raise RestoreRefusedError(
                    tp,
                    f"a transaction in {tp.topic}[{tp.partition}] stays open, from offset {stable_end} on",
                    END_TRANSACTION.format(servers=self._options.bootstrap_servers, **where),
                )
            time.sleep(wait)
            wait = min(2 * wait, MARK_WAIT[1])

    def first_since(self, tp: Any, since: float) -> int | None:
        """Return the first offset written at or after ``since`` (seconds since 1970); None if there is none."""
        return offset_range_reader.first_since(self._reader, [tp], since)[tp]

    def records(self, tp: Any, begin: int, end: int) -> Iterator[Any]:
        """Yield the committed records from ``begin`` up to ``end``, oldest first, as they arrive."""
        for batch in offset_range_reader.batches(self._reader, tp, begin, end):
            yield from batch

    def values(self, tp: Any, begin: int, end: int) -> Iterator[bytes]:
        """Return the values of the committed records that have one."""
        return (record.value for record in self.records(tp, begin, end) if record.value is not None)

    def partitions_of(self, topic: str) -> list[Any]:
        """Return all partitions of a topic."""
        return [
            TopicPartition(topic, number) for number in sorted(self._reader.partitions_for_topic(topic) or ())
        ]

    def end(self, tp: Any) -> int:
        """Return where the partition ends for a reader of committed records."""
        return offset_range_reader.ends(self._reader, [tp])[tp]

    def beginning(self, tp: Any) -> int:
        """Return the partition's first offset."""
        return int(self._reader.beginning_offsets([tp])[tp])
