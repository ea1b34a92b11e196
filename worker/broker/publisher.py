# The publisher: one thread that owns the transactional producer and publishes one transaction at a time.
#
# A transaction contains outcomes, dead letters, and the offsets with metadata of every partition that it concerns. The broker
# checks the member's generation with the offsets, so a zombie publishes nothing. Every failure becomes a PublishResult
# (domain/publish_results.py). `Aborted` means that nothing was committed, or that this process need not know: the publisher
# closes, or owns none of the partitions.
# What a record looks like is not here (producer_records.py), nor what is published when (the engine).

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from msgspec import structs

from worker.broker import kafka_private_parts
from worker.broker.active_kafka_refusals import ActiveKafkaRefusals
from worker.broker.client_config import producer_arguments, reader_arguments
from worker.broker.error_mapping import (
    FENCED,
    NAME_TAKEN,
    TRANSIENT,
    RecordRefusedError,
    publish_failure,
    thread_failure,
)
from worker.broker.kafka_refusals import OTHER, UNANSWERED, refusal_from, refusal_of
from worker.broker.producer_records import producer_records
from worker.broker.record_appending import append
from worker.broker.record_limits import RecordLimits
from worker.domain.effects import LogEvent
from worker.domain.publish_results import Aborted, Fenced, Published
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker.kafka_refusals import Refusal
    from worker.broker.options import KafkaOptions
    from worker.broker.partition_ownership import OwnershipClaim, OwnershipSource
    from worker.broker.producer_records import ProducerRecord
    from worker.domain.effects import Transaction
    from worker.domain.publish_results import PublishResult
    from worker.errors import WorkerError

PARTY: Final = "publish"
"""The publisher's name among the parties that Kafka may refuse (active_kafka_refusals.py)."""
LETTERS: Final = "publish dead letters"
"""Its name for dead letters, which can be refused alone while outcomes are published."""
METADATA_SECONDS: Final = 3.0
"""How long to wait for the metadata of an unknown topic; a broker answers within milliseconds."""
ERROR_CHARACTERS: Final = 500
"""The most characters logged of an error that is in no table."""
SEND_SHARE: Final = 0.8
"""Share of the transaction timeout after which a transaction is aborted that is not accepted yet: before the broker does it."""
TOO_SLOW_SHARE: Final = 0.75
"""
Share of the transaction timeout from which a failure counts as too slow. Less than SEND_SHARE: a wait may end a moment early.
"""
START_SECONDS: Final = 60.0
"""How long ``start`` tries to reach Kafka."""
CLOSE_SECONDS: Final = 1.0
"""How long closing a producer may take once its transaction is over."""
ABORT_SECONDS: Final = 5.0
"""How long to wait for an abort. If it is not answered, the next producer's start ends the transaction."""
REBALANCE_WAIT: Final = 0.05
"""
The wait after an abort with ``retry_soon``: a rebalance takes some round trips. An attempt may cost the broker a transaction, and
the CPU to encode its records, so what may last for ever is no such abort.
"""
BACKOFF_SECONDS: Final = (0.2, 5.0)
"""After any other failure: the first wait, which doubles up to the second."""
STALL_SECONDS: Final = 5.0
"""How often an unanswered commit is logged, and counts as a failure."""


class Publisher:
    """
    Publishes transactions. ``start()`` fences a predecessor of the same name and ends the transaction that it left open.

    It must outlive the consumer's ``close()``, which publishes through it during the handover. ``failed`` receives the error that ended
    its thread: a bug, since the failure of a transaction does not. Nothing is published any more then, and no ``done`` called.
    """

    def __init__(
        self,
        options: KafkaOptions,
        ownership: OwnershipSource,
        notice: Callable[[LogEvent], None],
        refusals: ActiveKafkaRefusals | None = None,
        failed: Callable[[WorkerError], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._ownership = ownership
        self._notice = notice
        self._refusals = refusals or ActiveKafkaRefusals(notice)
        self._failed = failed
        self._limits = RecordLimits(options, notice)
        self._producer: KafkaProducer | None = None
        self._may_be_fenced = False
        self._wake = threading.Condition()
        self._job: tuple[Transaction, OwnershipClaim | None, Callable[[PublishResult], None]] | None = None
        self._closing_at: float | None = None
        self._started: Future[None] = Future()
        self._failures = 0
        self._last_failure = ""
        self._thread = threading.Thread(target=self._run, name="kafka-publish", daemon=True)

    def __repr__(self) -> str:
        state = "closing" if self._closing_at is not None else "busy" if self._job is not None else "idle"
        return f"<Publisher {self._options.transactional_id} {state}>"

    def start(self, timeout: float = START_SECONDS) -> None:
        """
        Start the thread and wait until the producer is ready.

        Raises BrokerError if it is not ready within ``timeout`` seconds, or at once if retrying cannot help.
        """
        self._thread.start()
        try:
            self._started.result(timeout)
        except TimeoutError:
            self.close(0.0)
            why = f": {self._last_failure}" if self._last_failure else ""
            raise BrokerError(f"Kafka could not be reached within {timeout:.0f} s{why}") from None

    def publish(self, transaction: Transaction, done: Callable[[PublishResult], None]) -> None:
        """
        Publish a transaction. ``done`` is called exactly once with the result, on the publisher's thread, unless that fails.

        A closed publisher calls it at once, on this thread.

        One at a time: call it again only after ``done``. Call it on the thread that begins partitions (``Consumer.begin``):
        ownership is recorded now, so nothing is published for an ownership that has ended since.
        """
        claim = self._ownership.claim(transaction.commits)
        with self._wake:
            if self._job is not None:
                raise RuntimeError("a transaction is being published already")
            is_open = self._closing_at is None
            if is_open:
                self._job = (transaction, claim, done)
                self._wake.notify_all()
        if not is_open:
            done(Aborted("the publisher is closed"))

    def close(self, timeout: float) -> bool:
        """
        Finish the current transaction, within ``timeout`` seconds, and end the thread. Return whether it has ended.

        A publisher that has not reached Kafka yet has nothing to finish, and does not wait.
        """
        with self._wake:
            started = self._started.done() and self._started.exception() is None
            timeout = timeout if started else 0.0
            self._closing_at = time.monotonic() + timeout
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout + CLOSE_SECONDS)
        return not self._thread.is_alive()

    # On the publisher's thread.

    def _run(self) -> None:
        try:
            self._publish_until_closed()
        except Exception as exc:  # noqa: BLE001 - whatever it was, the thread must not end silently
            failure = thread_failure("the publisher", exc)
            if not self._started.done():
                self._started.set_exception(failure)
            self._failed(failure)

    def _publish_until_closed(self) -> None:
        self._open_first_producer()
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._job is not None or self._closing_at is not None)
                job = self._job
            if job is None:
                break
            transaction, claim, done = job
            result = self._process(transaction, claim)
            self._pace(result)
            with self._wake:
                self._job = None
            done(result)
        self._drop_producer()

    def _open_first_producer(self) -> None:
        wait = BACKOFF_SECONDS[0]
        while not self._started.done() and not self._is_over():
            try:
                self._open_producer()
            except TRANSIENT as exc:
                self._record_failure(exc)
                self._last_failure = str(exc)
                self._log("kafka.connect_failed", exc, next_try_seconds=wait)
                self._sleep(wait)
                wait = min(2 * wait, BACKOFF_SECONDS[1])
            except Exception as exc:  # noqa: BLE001 - whatever it is, start() raises it
                refusal = refusal_of(exc, self._options)
                why = repr(exc) if refusal is None else f"{refusal.reason}: {refusal.remedy}"
                failure = BrokerError(f"the producer cannot be created: {why}")
                failure.__cause__ = exc
                self._started.set_exception(failure)
            else:
                self._started.set_result(None)

    def _process(self, transaction: Transaction, claim: OwnershipClaim | None) -> PublishResult:
        try:
            if claim is None:
                return Aborted("a partition in it was revoked", retry_soon=True)
            return self._publish(transaction, claim)
        except Exception as exc:  # noqa: BLE001 - no failure may end the thread silently, or leave `done` uncalled
            self._log("kafka.publish_failed", exc)
            self._record_failure(exc)
            self._drop_producer()
            return Aborted(repr(exc))

    def _publish(self, transaction: Transaction, claim: OwnershipClaim) -> PublishResult:
        producer = self._open_producer()
        if self._ownership.group_metadata(claim) is None:
            return self._abort_without_identity()
        records = producer_records(transaction, self._options, self._limits.by_topic)
        missing = self._missing_topic(producer, records)
        if missing is not None:
            return self._abort_for_topic(missing)
        # Asked again: encoding takes a while, and a topic's metadata may take seconds.
        metadata = self._ownership.group_metadata(claim)
        if metadata is None:
            return self._abort_without_identity()
        began_at = time.monotonic()
        try:
            self._send_all(producer, transaction, records, metadata)
            commit = kafka_private_parts.begin_commit(producer)
        except errors.KafkaError as exc:
            return self._abort(producer, transaction, exc, began_at)
        try:
            committed = self._await(commit)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong, the commit may have taken effect
            if isinstance(exc, FENCED) and not self._timed_out(began_at):
                return Fenced(NAME_TAKEN.format(name=self._options.client_name, error=exc))
            committed = self._resolve_commit(transaction, claim, exc)
        if not committed:
            return Aborted(
                "it was not committed, or the result of the commit is unknown",
                took_too_long=self._timed_out(began_at),
            )
        self._refusals.passed(PARTY)
        if transaction.dead_letters:
            self._refusals.passed(LETTERS)
        self._limits.published(records)
        return Published()

    def _send_all(
        self, producer: KafkaProducer, transaction: Transaction, records: list[ProducerRecord], metadata: Any
    ) -> None:
        """
        Send everything except the commit. Raises kafka-python's error unless every record and every offset was accepted.

        Each record's own result is checked: kafka-python would commit without the records that timed out.
        """
        deadline = time.monotonic() + min(
            self._options.publish_timeout, SEND_SHARE * self._options.transaction_timeout
        )
        producer.begin_transaction()
        offsets = {
            TopicPartition(self._options.command_topic, partition): OffsetAndMetadata(
                commit.offset, commit.metadata, -1
            )
            for partition, commit in transaction.commits.items()
        }
        accepted = kafka_private_parts.begin_offsets(producer, offsets, metadata)
        sent = _send(producer, records)
        with kafka_private_parts.flushing(producer):
            if not accepted.wait(deadline - time.monotonic()):
                raise errors.KafkaTimeoutError("the offsets were not answered in time")
            for record, future in sent:
                if future.succeeded():
                    continue  # as nearly all: a batch is answered as a whole
                try:
                    future.get(timeout=max(0.0, deadline - time.monotonic()))
                except errors.KafkaTimeoutError:
                    self._limits.too_slow(records)
                    raise
                except errors.KafkaError as exc:
                    raise culprit_of(sent, self._options) or RecordRefusedError(record) from exc

    def _missing_topic(
        self, producer: KafkaProducer, records: list[ProducerRecord]
    ) -> RecordRefusedError | None:
        """
        Return the error of the first record whose topic or partition does not exist: kafka-python would silently wait for it.

        Raises KafkaTimeoutError if nobody answers, which says nothing of the topic.
        """
        counts: dict[str, int] = {}
        for record in records:
            topic = record.topic
            if topic not in counts:
                try:
                    counts[topic] = kafka_private_parts.partition_count(producer, topic, METADATA_SECONDS)
                except errors.KafkaTimeoutError:
                    raise
                except errors.KafkaError as exc:
                    return RecordRefusedError(record, exc)
            if (record.partition or 0) >= counts[topic]:
                known = counts[topic] > 0
                kind = errors.InvalidPartitionsError if known else errors.UnknownTopicOrPartitionError
                return RecordRefusedError(record, kind(topic))
        return None

    def _abort_without_identity(self) -> Aborted:
        """Return why there is no identity to publish with, before a transaction was begun."""
        if self._ownership.is_topic_gone():
            return Aborted("the command topic is gone, or another has its name")
        return Aborted("a partition in it was revoked, or the group is rebalancing", retry_soon=True)

    def _abort_for_topic(self, missing: RecordRefusedError) -> Aborted:
        """Record that a topic or partition is missing, before a transaction was begun."""
        refusal = self._record_failure(missing)
        self._drop_producer()  # its metadata of the topic may be stale
        return Aborted(repr(missing.__cause__), dead_letters_refused=self._is_of_letters(refusal))

    def _is_of_letters(self, refusal: Refusal | None) -> bool:
        """Return whether the refusal concerns the dead letters alone."""
        return refusal is not None and refusal.topic == self._options.dead_letter_topic

    def _abort(
        self, producer: KafkaProducer, transaction: Transaction, error: errors.KafkaError, began_at: float
    ) -> PublishResult:
        """
        Abort the transaction and return why nothing was committed. Leaves a producer that can start the next transaction, or none.

        After a rebalance the producer can be used again. After any other failure it is dropped: its sequence numbers may count
        records that were refused.
        """
        cause = kafka_private_parts.error_of(producer) or error
        result = publish_failure(transaction, error, cause, timed_out=self._timed_out(began_at))
        is_reusable = isinstance(result, Aborted) and result.retry_soon
        if isinstance(error, RecordRefusedError) and error.too_large and self._limits.lower(error.record):
            result, is_reusable = Aborted("the broker accepts only smaller records", retry_soon=True), False
        elif isinstance(result, Fenced):
            result = Fenced(NAME_TAKEN.format(name=self._options.client_name, error=cause))
        elif isinstance(result, Aborted) and not result.retry_soon:
            refusal = self._record_failure(error, cause)
            result = structs.replace(result, dead_letters_refused=self._is_of_letters(refusal))
        if not (self._abort_transaction(producer) and is_reusable):
            self._drop_producer()
        return result

    def _abort_transaction(self, producer: KafkaProducer) -> bool:
        """Return whether the broker has aborted the transaction."""
        if kafka_private_parts.is_broken(producer):
            return False
        try:
            return kafka_private_parts.begin_abort(producer).wait(ABORT_SECONDS)
        except errors.KafkaError as exc:
            self._log("kafka.abort_failed", exc)
            return False

    def _record_failure(self, *found: BaseException) -> Refusal | None:
        """
        Record and return the refusal that one of the errors, or a failing connection, means.

        If none means one, record that Kafka does not answer, or else what has failed, and return None.
        """
        options = self._options
        failure = (
            kafka_private_parts.connection_failure(self._producer) if self._producer is not None else None
        )
        refusals = (refusal_of(error, options) for error in (*found, failure) if error is not None)
        refusal = next((each for each in refusals if each is not None), None)
        party = LETTERS if self._is_of_letters(refusal) else PARTY
        otherwise = UNANSWERED if isinstance(found[-1], errors.KafkaTimeoutError) else OTHER
        self._refusals.failed(
            party, refusal or refusal_from(otherwise, repr(found[-1])[:ERROR_CHARACTERS], options)
        )
        return refusal

    def _await(self, commit: kafka_private_parts.PendingRequest) -> bool:
        """Return whether the commit was answered; False only if the publisher is closed before."""
        while not commit.wait(self._remaining(STALL_SECONDS)):
            if self._is_over():
                return False
            self._log("kafka.commit_unanswered", None)
            self._record_failure(errors.KafkaTimeoutError("a commit is not answered"))
        return True

    def _resolve_commit(self, transaction: Transaction, claim: OwnershipClaim, error: Exception) -> bool:
        """
        Return whether a commit with an unknown answer took effect.

        False, too, if that cannot be found out before the publisher closes or none of the partitions is owned any more.

        A new producer with the same transactional id completes or aborts what the old one left. After that the committed offset
        and metadata show it: nobody else commits for a partition that is still ours, and no two transactions commit the same.
        """
        wait = BACKOFF_SECONDS[0]
        self._log("kafka.commit_unknown", error, next_try_seconds=0.0)
        self._drop_producer()
        while not self._is_over():
            held = [each for each in claim if self._ownership.claim([each[0]]) == (each,)]
            if not held:
                return False
            partition = held[0][0]
            try:
                self._open_producer()
                committed = self._committed(partition)
            except Exception as exc:  # noqa: BLE001 - any other result would be a guess until it is known
                self._log("kafka.commit_unknown", exc, next_try_seconds=wait)
                self._record_failure(exc)
                if self._closing_at is None:
                    self._sleep(wait)
                else:
                    time.sleep(self._remaining(wait))  # `_sleep` would return at once
                wait = min(2 * wait, BACKOFF_SECONDS[1])
                continue
            self._refusals.passed(PARTY)
            ours = transaction.commits[partition]
            return committed == (ours.offset, ours.metadata)
        return False

    def _committed(self, partition: int) -> tuple[int, str] | None:
        reader = kafka_private_parts.open_client(
            KafkaConsumer, reader_arguments(self._options), self._options.secrets_for("common")
        )
        try:
            tp = TopicPartition(self._options.command_topic, partition)
            timeout = round(self._options.publish_timeout * 1000)
            committed = reader.committed(tp, metadata=True, timeout_ms=timeout)
        finally:
            reader.close(autocommit=False)
        return None if committed is None else (committed.offset, committed.metadata)

    def _open_producer(self) -> KafkaProducer:
        if self._producer is None:
            # A new producer ends any other process of this name. Which of the two is the zombie, the group says.
            if self._may_be_fenced and time.monotonic() >= self._ownership.may_send_until():
                raise errors.KafkaError("the group has not confirmed that this name is still ours")
            producer = kafka_private_parts.open_client(
                KafkaProducer,
                self._limits.fitted(producer_arguments(self._options)),
                self._options.secrets_for("producer"),
            )
            try:
                producer.init_transactions()
            except BaseException as exc:
                # BaseException, so Ctrl-C too: nobody else has this producer.
                reason = kafka_private_parts.connection_failure(producer)
                kafka_private_parts.discard(producer, CLOSE_SECONDS)
                if isinstance(exc, errors.KafkaTimeoutError) and reason is not None:
                    raise errors.KafkaTimeoutError(f"{exc}: {reason}") from reason
                raise
            self._producer = producer
        return self._producer

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._may_be_fenced = isinstance(kafka_private_parts.error_of(producer), FENCED)
            kafka_private_parts.discard(producer, CLOSE_SECONDS)

    def _timed_out(self, began_at: float) -> bool:
        """Return whether the broker may have aborted the transaction because of its age, which looks the same as being fenced."""
        return time.monotonic() - began_at >= TOO_SLOW_SHARE * self._options.transaction_timeout

    def _pace(self, result: PublishResult) -> None:
        if not isinstance(result, Aborted):
            self._failures = 0
        elif result.retry_soon:
            self._sleep(REBALANCE_WAIT)
        else:
            self._sleep(min(BACKOFF_SECONDS[0] * 2**self._failures, BACKOFF_SECONDS[1]))
            self._failures = min(self._failures + 1, 8)

    def _sleep(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._closing_at is not None, seconds)

    def _remaining(self, seconds: float) -> float:
        closing_at = self._closing_at
        return seconds if closing_at is None else max(0.0, min(seconds, closing_at - time.monotonic()))

    def _is_over(self) -> bool:
        closing_at = self._closing_at
        return closing_at is not None and time.monotonic() >= closing_at

    def _log(self, event: str, error: BaseException | None, **fields: object) -> None:
        self._notice(LogEvent(event, "warning", {"error": None if error is None else repr(error), **fields}))


def _send(producer: KafkaProducer, records: list[ProducerRecord]) -> list[tuple[ProducerRecord, Any]]:
    """Send the records. Return each with the future of its result. Raises RecordRefusedError for one that is refused at once."""
    sent: list[tuple[ProducerRecord, Any]] = []
    by_place: dict[tuple[str, int], list[ProducerRecord]] = {}
    unplaced: list[ProducerRecord] = []
    for record in records:
        if record.partition is None:
            unplaced.append(record)
        else:
            by_place.setdefault((record.topic, record.partition), []).append(record)
    places = [TopicPartition(*place) for place in by_place]
    # All before the first record: then one request adds them.
    kafka_private_parts.begin_partitions(producer, places)
    for place, together in zip(places, by_place.values(), strict=True):
        try:
            sent += zip(together, append(producer, place, together), strict=True)
        except errors.KafkaError as exc:
            raise RecordRefusedError(together[0]) from exc
    for record in unplaced:
        try:
            future = producer.send(record.topic, value=record.value, key=record.key, headers=record.headers)
        except errors.KafkaError as exc:
            raise RecordRefusedError(record) from exc
        sent.append((record, future))
    return sent


def culprit_of(sent: list[tuple[ProducerRecord, Any]], options: KafkaOptions) -> RecordRefusedError | None:
    """
    Return the refused record that failed the transaction; of several, the largest. Others may have failed before it.

    ``sent`` has each record with the future of its result.
    """
    culprit: RecordRefusedError | None = None
    for record, future in sent:
        reason = future.exception if future.is_done else None
        if not isinstance(reason, errors.KafkaError):
            continue
        refusal = refusal_of(reason, options)
        # An error that names a topic fails all other records of the transaction as well.
        if refusal is None or refusal.topic not in (None, record.topic):
            continue
        if culprit is None or record.size > culprit.record.size:
            culprit = RecordRefusedError(record, reason)
    return culprit
