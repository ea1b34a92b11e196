# The publisher: one thread that owns the transactional producer and carries out one transaction at a time.
#
# A transaction holds outcomes, dead letters, and the offsets with metadata of every partition that it is about; the broker
# checks the member's generation with them, so a zombie publishes nothing. Whatever goes wrong becomes a PublishResult
# (domain/publishing.py), and "aborted" is only said when it is certain that nothing was committed.
# What a record looks like is not here (records.py), nor what is published when (the engine).

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors

from worker.broker import kafka_patches
from worker.broker.client_config import producer_arguments, reader_arguments
from worker.broker.error_mapping import FENCED, TOO_LARGE, TRANSIENT, TooLargeError, verdict
from worker.broker.records import fits, sendings
from worker.domain.effects import LogEvent
from worker.domain.publish_results import Aborted, Fenced, Published, RecordTooLarge
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker.membership import Claim, Owner
    from worker.broker.options import KafkaOptions
    from worker.broker.records import Sending
    from worker.domain.effects import Transaction
    from worker.domain.publish_results import PublishResult

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

    def __init__(self, options: KafkaOptions, membership: Owner, notice: Callable[[LogEvent], None]) -> None:
        self._options = options
        self._membership = membership
        self._notice = notice
        self._producer: KafkaProducer | None = None
        self._wake = threading.Condition()
        self._job: tuple[Transaction, Claim | None, Callable[[PublishResult], None]] | None = None
        self._closing_at: float | None = None
        self._started: Future[None] = Future()
        self._failures = 0
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
            raise BrokerError(f"Kafka could not be reached within {timeout:.0f} s") from None

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
                self._tell("kafka.connect_failed", exc, next_try_seconds=wait)
                self._sleep(wait)
                wait = min(2 * wait, BACKOFF_SECONDS[1])
            except Exception as exc:  # noqa: BLE001 - whatever it is, start() tells it
                failure = BrokerError(f"the producer cannot be made: {exc!r}")
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
            self._drop_producer()
            return Aborted(repr(exc))

    def _publish(self, transaction: Transaction, claim: Claim) -> PublishResult:
        records = sendings(transaction, self._options)
        for record in records:
            if not fits(record, self._options):
                return RecordTooLarge(record.outcome_id, record.is_dead_letter)
        producer = self._ready()
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
                return Fenced(repr(exc))
            answered = self._find_out(transaction, claim, exc)
        if not answered:
            return Aborted("the end of the commit is not known, or it was not committed")
        return Published(time.monotonic() - begun, len(records), sum(record.size for record in records))

    def _fill(
        self, producer: KafkaProducer, transaction: Transaction, records: list[Sending], metadata: Any
    ) -> None:
        """
        Everything but the commit. Raises kafka-python's error unless every record and every offset was accepted.

        Each record's own answer is looked at: kafka-python would commit without those that ran out of time.
        """
        deadline = time.monotonic() + self._options.publish_timeout
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
            except TOO_LARGE as exc:
                raise TooLargeError(record) from exc

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
        reader = kafka_patches.opened(KafkaConsumer, reader_arguments(self._options))
        try:
            place = TopicPartition(self._options.command_topic, partition)
            timeout = round(self._options.publish_timeout * 1000)
            committed = reader.committed(place, metadata=True, timeout_ms=timeout)
        finally:
            reader.close(autocommit=False)
        return None if committed is None else (committed.offset, committed.metadata)

    def _ready(self) -> KafkaProducer:
        if self._producer is None:
            producer = kafka_patches.opened(KafkaProducer, producer_arguments(self._options))
            try:
                producer.init_transactions()
                for topic in (self._options.outcome_topic, self._options.dead_letter_topic):
                    producer.partitions_for(topic)  # else the first record of a transaction waits for it
            except BaseException:
                kafka_patches.discard(producer, CLOSE_SECONDS)
                raise
            self._producer = producer
        return self._producer

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            kafka_patches.discard(producer, CLOSE_SECONDS)

    def _timed_out(self, begun: float) -> bool:
        """Whether the broker may have ended the transaction for its age, which looks as if another producer had taken over."""
        return time.monotonic() - begun >= 0.9 * self._options.transaction_timeout

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
    except TOO_LARGE as exc:
        raise TooLargeError(record) from exc
