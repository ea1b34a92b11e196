# The publisher: one thread that owns the transactional producer and carries out one transaction at a time.
#
# A transaction holds outcomes, dead letters, and the offsets with metadata of every partition that it is about; the broker
# checks the member's generation with them, so a zombie publishes nothing. Whatever goes wrong becomes a PublishResult
# (domain/publishing.py), and "aborted" is only said when it is certain that nothing was committed.
# What a record looks like is not here (records.py), nor what is published when (the engine).

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from msgspec import structs

from worker.broker import kafka_patches
from worker.broker.client_config import producer_arguments, reader_arguments
from worker.broker.error_mapping import FENCED, NAME_TAKEN, TRANSIENT, RecordRefusedError, verdict
from worker.broker.record_limits import RecordLimits
from worker.broker.records import sendings
from worker.broker.refusals import OTHER, refusal_of, told
from worker.broker.troubles import Troubles
from worker.domain.effects import LogEvent
from worker.domain.publish_results import Aborted, Fenced, Published
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker.membership import Claim, Owner
    from worker.broker.options import KafkaOptions
    from worker.broker.records import Sending
    from worker.broker.refusals import Refusal
    from worker.domain.effects import Transaction
    from worker.domain.publish_results import PublishResult

PARTY: Final = "publish"
"""What this is called among those that Kafka may refuse (troubles.py)."""
LETTERS: Final = "publish dead letters"
"""These can be refused alone, while outcomes go on."""
METADATA_SECONDS: Final = 3.0
"""How long a topic that is not known yet is asked for; a broker answers within milliseconds."""
TEXT: Final = 500
"""Characters of an error that is in no table."""
AGE_SHARE: Final = 0.8
"""Of the transaction timeout: what is not accepted by then is aborted, before the broker does it."""
OLD_SHARE: Final = 0.75
"""From this share on it is said to have been too slow; a wait may end a moment before its time."""
START_SECONDS: Final = 60.0
"""How long ``start`` tries to reach Kafka."""
CLOSE_SECONDS: Final = 1.0
"""How long a producer with which nothing is wrong any more takes to close."""
ABORT_SECONDS: Final = 5.0
"""How long an abort is waited for. If it is not answered, the next producer's start ends the transaction."""
REBALANCE_WAIT: Final = 0.05
"""After an abort because of a rebalance: it lasts some round trips, and each attempt costs the broker one transaction."""
BACKOFF_SECONDS: Final = (0.2, 5.0)
"""After any other failure: the first wait, which doubles up to the second."""
STALL_SECONDS: Final = 5.0
"""How often an unanswered commit is told of."""


class Publisher:
    """
    Publishes transactions. ``start()`` ends what a predecessor of the same name left open, and fences it.

    It must outlive the consumer's ``close()``, which hands over through it.
    """

    def __init__(
        self,
        options: KafkaOptions,
        membership: Owner,
        notice: Callable[[LogEvent], None],
        troubles: Troubles | None = None,
    ) -> None:
        self._options = options
        self._membership = membership
        self._notice = notice
        self._troubles = troubles or Troubles(notice)
        self._limits = RecordLimits(options, notice)
        self._producer: KafkaProducer | None = None
        self._wake = threading.Condition()
        self._job: tuple[Transaction, Claim | None, Callable[[PublishResult], None]] | None = None
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
        Starts the thread and waits until the producer is ready.

        Raises BrokerError if it is not within ``timeout`` seconds, or at once when trying again cannot help.
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
        Publishes it; ``done`` is called with the result, from the publisher's thread, exactly once (at once when it is closed).

        One at a time: the next may be given when ``done`` was called. Call it from the thread that begins partitions
        (``Consumer.begin``): what is owned is noted now, so nothing can be published for an ownership that ended since.
        """
        claim = self._membership.claim(transaction.commits)
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
        Ends the transaction that is on its way, if it can be within ``timeout`` seconds, and the thread. Whether it was over.

        One that has not reached Kafka yet has nothing to end, and takes no time.
        """
        with self._wake:
            started = self._started.done() and self._started.exception() is None
            timeout = timeout if started else 0.0
            self._closing_at = time.monotonic() + timeout
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout + CLOSE_SECONDS)
        return not self._thread.is_alive()

    # The publisher's thread.

    def _run(self) -> None:
        self._first_producer()
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._job is not None or self._closing_at is not None)
                job = self._job
            if job is None:
                break
            transaction, claim, done = job
            result = self._carry_out(transaction, claim)
            self._pace(result)
            with self._wake:
                self._job = None
            done(result)
        self._drop_producer()

    def _first_producer(self) -> None:
        wait = BACKOFF_SECONDS[0]
        while not self._started.done() and not self._is_over():
            try:
                self._ready()
            except TRANSIENT as exc:
                self._refused(exc)
                self._last_failure = str(exc)
                self._tell("kafka.connect_failed", exc, next_try_seconds=wait)
                self._sleep(wait)
                wait = min(2 * wait, BACKOFF_SECONDS[1])
            except Exception as exc:  # noqa: BLE001 - whatever it is, start() tells it
                refusal = refusal_of(exc, self._options)
                why = repr(exc) if refusal is None else f"{refusal.reason}: {refusal.remedy}"
                failure = BrokerError(f"the producer cannot be made: {why}")
                failure.__cause__ = exc
                self._started.set_exception(failure)
            else:
                self._started.set_result(None)

    def _carry_out(self, transaction: Transaction, claim: Claim | None) -> PublishResult:
        try:
            if claim is None:
                return Aborted("a partition inside has gone", generation=True)
            return self._publish(transaction, claim)
        except Exception as exc:  # noqa: BLE001 - no failure may end the thread in silence, or lose the caller's answer
            self._tell("kafka.publish_failed", exc)
            self._refused(exc)
            self._drop_producer()
            return Aborted(repr(exc))

    def _publish(self, transaction: Transaction, claim: Claim) -> PublishResult:
        producer = self._ready()
        records = sendings(transaction, self._options, self._limits.by_topic)
        missing = self._missing(producer, records)
        if missing is not None:
            return self._without_topic(missing)
        metadata = self._membership.group_metadata(claim)
        if metadata is None:
            return Aborted("a partition inside has gone, or the group is being joined", generation=True)
        begun = time.monotonic()
        try:
            self._fill(producer, transaction, records, metadata)
            commit = kafka_patches.begin_commit(producer)
        except errors.KafkaError as exc:
            return self._abort(producer, transaction, exc, begun)
        try:
            answered = self._await(commit)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong, the commit may have taken effect
            if isinstance(exc, FENCED) and not self._timed_out(begun):
                return Fenced(NAME_TAKEN.format(name=self._options.client_name, error=exc))
            answered = self._find_out(transaction, claim, exc)
        if not answered:
            return Aborted(
                "the end of the commit is not known, or it was not committed", aged=self._timed_out(begun)
            )
        self._troubles.passed(PARTY)
        if transaction.dead_letters:
            self._troubles.passed(LETTERS)
        self._limits.told(records)
        return Published(time.monotonic() - begun, len(records), sum(record.size for record in records))

    def _fill(
        self, producer: KafkaProducer, transaction: Transaction, records: list[Sending], metadata: Any
    ) -> None:
        """
        Everything but the commit. Raises kafka-python's error unless every record and every offset was accepted.

        Each record's own answer is looked at: kafka-python would commit without those that ran out of time.
        """
        deadline = time.monotonic() + min(
            self._options.publish_timeout, AGE_SHARE * self._options.transaction_timeout
        )
        producer.begin_transaction()
        offsets = {
            TopicPartition(self._options.command_topic, partition): OffsetAndMetadata(
                commit.offset, commit.metadata, -1
            )
            for partition, commit in transaction.commits.items()
        }
        accepted = kafka_patches.begin_offsets(producer, offsets, metadata)
        sent = [(record, _send(producer, record)) for record in records]
        if not accepted.wait(deadline - time.monotonic()):
            raise errors.KafkaTimeoutError("the offsets were not answered in time")
        for record, future in sent:
            try:
                future.get(timeout=max(0.0, deadline - time.monotonic()))
            except errors.KafkaTimeoutError:
                self._limits.too_slow(records)
                raise
            except errors.KafkaError as exc:
                raise self._guilty(sent) or RecordRefusedError(record) from exc

    def _guilty(self, sent: list[tuple[Sending, Any]]) -> RecordRefusedError | None:
        """The record that brought the transaction down, of several the largest: others failed with it, perhaps before it."""
        guilty: RecordRefusedError | None = None
        for record, future in sent:
            reason = future.exception if future.is_done else None
            if (
                isinstance(reason, errors.KafkaError)
                and (guilty is None or record.size > guilty.record.size)
                and refusal_of(reason, self._options) is not None
            ):
                guilty = RecordRefusedError(record)
                guilty.__cause__ = reason
        return guilty

    def _missing(self, producer: KafkaProducer, records: list[Sending]) -> RecordRefusedError | None:
        """The first record for which there is no topic, or no such partition: kafka-python would wait for it in silence."""
        counts: dict[str, int] = {}
        for record in records:
            error = RecordRefusedError(record)
            if record.topic not in counts:
                try:
                    counts[record.topic] = kafka_patches.partition_count(
                        producer, record.topic, METADATA_SECONDS
                    )
                except errors.KafkaError as exc:
                    error.__cause__ = exc
                    return error
            if (record.partition or 0) >= counts[record.topic]:
                known = counts[record.topic] > 0
                kind = errors.InvalidPartitionsError if known else errors.UnknownTopicOrPartitionError
                error.__cause__ = kind(record.topic)
                return error
        return None

    def _without_topic(self, missing: RecordRefusedError) -> Aborted:
        refusal = self._refused(missing)
        self._drop_producer()  # what it knows of the topic may be old
        return Aborted(repr(missing.__cause__), letters=self._is_of_letters(refusal))

    def _is_of_letters(self, refusal: Refusal | None) -> bool:
        """Whether only the dead letters are refused."""
        return refusal is not None and refusal.topic == self._options.dead_letter_topic

    def _abort(
        self, producer: KafkaProducer, transaction: Transaction, error: errors.KafkaError, begun: float
    ) -> PublishResult:
        """
        Nothing of it was committed: says why, and leaves a producer that can begin anew, or none.

        After a rebalance the producer is sound. After any other failure it is not trusted: its count of what the broker has
        accepted may be off by what was refused.
        """
        cause = kafka_patches.error_of(producer) or error
        result = verdict(transaction, error, cause, timed_out=self._timed_out(begun))
        if isinstance(error, RecordRefusedError) and error.too_large and self._limits.lower(error.record):
            return self._aborted_for_size(producer)
        if isinstance(result, Fenced):
            result = Fenced(NAME_TAKEN.format(name=self._options.client_name, error=cause))
        if isinstance(result, Aborted) and not result.generation:
            refusal = self._refused(error, cause)
            result = structs.replace(result, letters=self._is_of_letters(refusal))
        sound = isinstance(result, Aborted) and result.generation and not kafka_patches.is_broken(producer)
        if not kafka_patches.is_broken(producer):
            try:
                sound = kafka_patches.begin_abort(producer).wait(ABORT_SECONDS) and sound
            except errors.KafkaError as exc:
                self._tell("kafka.abort_failed", exc)
                sound = False
        if not sound:
            self._drop_producer()
        return result

    def _aborted_for_size(self, producer: KafkaProducer) -> PublishResult:
        """The broker takes smaller records than was thought: what is left of them goes at once."""
        if not kafka_patches.is_broken(producer):
            with contextlib.suppress(errors.KafkaError):
                kafka_patches.begin_abort(producer).wait(ABORT_SECONDS)
        self._drop_producer()
        return Aborted("the broker takes smaller records", generation=True)

    def _refused(self, *found: BaseException) -> Refusal | None:
        """Notes what Kafka has refused, as far as one of the errors, or a connection that fails, tells it."""
        options = self._options
        failure = kafka_patches.connection_failure(self._producer) if self._producer is not None else None
        refusals = (refusal_of(error, options) for error in (*found, failure) if error is not None)
        refusal = next((each for each in refusals if each is not None), None)
        party = LETTERS if self._is_of_letters(refusal) else PARTY
        self._troubles.failed(party, refusal or told(OTHER, repr(found[-1])[:TEXT], options))
        return refusal

    def _await(self, commit: kafka_patches.Pending) -> bool:
        """Whether the commit was answered; False only when the publisher is closed before."""
        while not commit.wait(self._remaining(STALL_SECONDS)):
            if self._is_over():
                return False
            self._tell("kafka.commit_unanswered", None)
        return True

    def _find_out(self, transaction: Transaction, claim: Claim, error: Exception) -> bool:
        """
        Whether a commit took effect whose answer is unknown.

        A new producer of the same id ends what the old one left, one way or the other. Then the committed offset and
        metadata tell: nobody else commits for a partition that is still ours, and no two transactions commit the same.
        """
        wait = BACKOFF_SECONDS[0]
        self._tell("kafka.commit_unknown", error, next_try_seconds=0.0)
        self._drop_producer()
        while not self._is_over():
            held = [each for each in claim if self._membership.claim([each[0]]) == (each,)]
            if not held:
                return False
            partition = held[0][0]
            try:
                self._ready()
                committed = self._committed(partition)
            except Exception as exc:  # noqa: BLE001 - not before it is known may anything else be said
                self._tell("kafka.commit_unknown", exc, next_try_seconds=wait)
                self._sleep(wait)
                wait = min(2 * wait, BACKOFF_SECONDS[1])
                continue
            ours = transaction.commits[partition]
            return committed == (ours.offset, ours.metadata)
        return False

    def _committed(self, partition: int) -> tuple[int, str] | None:
        reader = kafka_patches.opened(
            KafkaConsumer, reader_arguments(self._options), self._options.secrets_for("common")
        )
        try:
            place = TopicPartition(self._options.command_topic, partition)
            timeout = round(self._options.publish_timeout * 1000)
            committed = reader.committed(place, metadata=True, timeout_ms=timeout)
        finally:
            reader.close(autocommit=False)
        return None if committed is None else (committed.offset, committed.metadata)

    def _ready(self) -> KafkaProducer:
        if self._producer is None:
            producer = kafka_patches.opened(
                KafkaProducer,
                self._limits.fitted(producer_arguments(self._options)),
                self._options.secrets_for("producer"),
            )
            try:
                producer.init_transactions()
            except BaseException as exc:
                reason = kafka_patches.connection_failure(producer)
                kafka_patches.discard(producer, CLOSE_SECONDS)
                if isinstance(exc, errors.KafkaTimeoutError) and reason is not None:
                    raise errors.KafkaTimeoutError(f"{exc}: {reason}") from reason
                raise
            self._producer = producer
        return self._producer

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            kafka_patches.discard(producer, CLOSE_SECONDS)

    def _timed_out(self, begun: float) -> bool:
        """Whether the broker may have ended the transaction for its age, which looks as if another producer had taken over."""
        return time.monotonic() - begun >= OLD_SHARE * self._options.transaction_timeout

    def _pace(self, result: PublishResult) -> None:
        if not isinstance(result, Aborted):
            self._failures = 0
        elif result.generation:
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

    def _tell(self, event: str, error: BaseException | None, **fields: object) -> None:
        self._notice(LogEvent(event, "warning", {"error": None if error is None else repr(error), **fields}))


def _send(producer: KafkaProducer, record: Sending) -> Any:
    try:
        return producer.send(
            record.topic,
            value=record.value,
            key=record.key,
            headers=record.headers,
            partition=record.partition,
        )
    except errors.KafkaError as exc:
        raise RecordRefusedError(record) from exc
