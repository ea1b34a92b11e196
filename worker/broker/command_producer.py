# Writes commands into the command topic, for the command line: `send`, `undo` and `dead-letters replay`.
#
# Each is judged by the worker's own decoder before any is written (`prepare`), keyed by its target, and placed by murmur2 as
# Java's producers do, so that a target stays on one partition. Which commands are sent is decided by the caller. The worker
# itself never uses this: it publishes outcomes (publisher.py).

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaProducer, errors
from msgspec import Struct

from worker.broker import kafka_private_parts
from worker.broker.client_config import command_producer_arguments
from worker.broker.error_mapping import sentence, unreachable
from worker.broker.kafka_refusals import refusal_of
from worker.domain.contract.placement_check import partition_of
from worker.domain.contract.raw_records import BareRecord
from worker.domain.contract.rejections import Rejected
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from worker.broker.options import KafkaOptions
    from worker.domain.contract.command_decoding import CommandDecoder

METADATA_SECONDS: Final = 10.0
"""How long to ask for the command topic."""
ACKNOWLEDGE_SECONDS: Final = 60.0
"""How long to wait for one acknowledgement, all retries included."""
CLOSE_SECONDS: Final = 2.0
OUTSTANDING: Final = 20_000
"""The most commands that are sent and not acknowledged: the results that are unknown after a crash of this process."""
POLL_SECONDS: Final = 0.2
"""How often an interrupt is looked for while waiting."""
PROGRESS_EVERY: Final = 500
UNACKNOWLEDGED: Final = "interrupted before Kafka acknowledged it"
"""Why it is not known at an interrupt whether a command is in the topic."""
SKIPPED: Final = "not sent, since an earlier one was not written: {}"


class OutgoingCommand(Struct, frozen=True):
    """
    One command as it is sent.

    Attributes:
        key: The target's id; of a replayed record what it had.
        partition: Where a record without a key goes; otherwise its key decides.

    """

    value: bytes
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


class WrittenCommand(Struct, frozen=True):
    """A command that Kafka has acknowledged: all replicas in sync have it."""

    partition: int
    offset: int


class UnconfirmedCommand(Struct, frozen=True):
    """
    A command that is not known to be in the topic.

    Attributes:
        reason: A sentence.
        may_be_written: Whether it was sent and the answer is unknown.
        interrupted: Whether nothing failed: Ctrl-C came before the answer.

    """

    reason: str
    may_be_written: bool = False
    interrupted: bool = False


def prepare(decoder: CommandDecoder, value: bytes) -> OutgoingCommand | Rejected:
    """Return the command keyed by its target, or what the worker would reject it for. ``value`` is sent as it is."""
    read = decoder.decode(BareRecord(value))
    return read if isinstance(read, Rejected) else OutgoingCommand(value, read.target.encode())


class CommandProducer:
    """
    An idempotent producer of commands over its own connection, as a context manager.

    Opening it raises BrokerError with a sentence if Kafka cannot be reached, or the topic is missing or may not be described.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        try:
            self._producer = kafka_private_parts.open_client(
                KafkaProducer, command_producer_arguments(options), options.secrets_for("producer")
            )
        except errors.KafkaError as exc:
            raise unreachable(options.bootstrap_servers, exc) from exc
        try:
            self._partitions = self._count_partitions()
        except BaseException:
            # BaseException, so Ctrl-C too: `__exit__` does not run for what was never entered.
            kafka_private_parts.discard(self._producer, CLOSE_SECONDS)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kafka_private_parts.discard(self._producer, CLOSE_SECONDS)

    def __repr__(self) -> str:
        return f"<CommandProducer of {self._options.command_topic}, {self._partitions} partitions>"

    def place_of(self, command: OutgoingCommand) -> int:
        """Return the partition that a command will go to."""
        if command.key is not None:
            return partition_of(command.key, self._partitions)
        return 0 if command.partition is None else command.partition % self._partitions

    def produce(
        self, commands: Iterable[OutgoingCommand], progress: Callable[[int], None] = lambda _: None
    ) -> list[WrittenCommand | UnconfirmedCommand]:
        """
        Write the commands in order, and wait until each is acknowledged. Return what became of each, in their order.

        After the first that fails no further one is sent: a later command of its member must not overtake it. Ctrl-C ends it:
        the results are those of the commands that were sent until then. ``progress`` is called with their number so far.
        """
        results: list[WrittenCommand | UnconfirmedCommand] = []
        waiting: deque[Any] = deque()
        failed: str | None = None
        try:
            for command in commands:
                failed = failed or self._collect(waiting, results, progress, down_to=OUTSTANDING)
                pending = (
                    self._send(command) if failed is None else UnconfirmedCommand(SKIPPED.format(failed))
                )
                if failed is None and isinstance(pending, UnconfirmedCommand):
                    failed = pending.reason
                waiting.append(pending)
            self._collect(waiting, results, progress, down_to=0)
        except KeyboardInterrupt:
            results += (self._result_now(pending) for pending in waiting)
        return results

    def _send(self, command: OutgoingCommand) -> Any:
        """Send it. Return kafka-python's future of its result; where that refuses it at once, the result."""
        try:
            return self._producer.send(
                self._options.command_topic,
                value=command.value,
                key=command.key,
                headers=list(command.headers),
                partition=self.place_of(command),
            )
        except errors.KafkaError as exc:
            return UnconfirmedCommand(self._reason(exc))

    def _collect(
        self,
        waiting: deque[Any],
        results: list[WrittenCommand | UnconfirmedCommand],
        progress: Callable[[int], None],
        *,
        down_to: int,
    ) -> str | None:
        """Collect results until at most ``down_to`` commands wait. Return why one of them was not written, if any was not."""
        failed: str | None = None
        before = len(results)
        while waiting and (len(waiting) > down_to or _is_over(waiting[0])):
            pending = waiting[0]
            result = pending if isinstance(pending, UnconfirmedCommand) else self._acknowledged(pending)
            waiting.popleft()
            results.append(result)
            if isinstance(result, UnconfirmedCommand) and failed is None:
                failed = result.reason
            if len(results) % PROGRESS_EVERY == 0:
                progress(len(results))
        if len(results) != before:
            progress(len(results))
        return failed

    def _acknowledged(self, future: Any) -> WrittenCommand | UnconfirmedCommand:
        deadline = time.monotonic() + ACKNOWLEDGE_SECONDS
        while not future.is_done and time.monotonic() < deadline:
            try:
                future.get(timeout=POLL_SECONDS)
            except errors.KafkaError:
                continue  # not yet, or the failure that is looked at below
        if not future.is_done:
            failure = kafka_private_parts.connection_failure(self._producer)
            reason = f"Kafka did not acknowledge it in time: {failure or 'no answer'}"
            return UnconfirmedCommand(reason, may_be_written=True)
        return self._result_of(future)

    def _result_now(self, pending: Any) -> WrittenCommand | UnconfirmedCommand:
        """Return what is known of a command at an interrupt: ``pending`` is the future of its result, or the result."""
        if isinstance(pending, UnconfirmedCommand):
            return pending
        if pending.is_done:
            return self._result_of(pending)
        return UnconfirmedCommand(UNACKNOWLEDGED, may_be_written=True, interrupted=True)

    def _result_of(self, future: Any) -> WrittenCommand | UnconfirmedCommand:
        """Return the result of a future that is done."""
        if future.exception is not None:
            is_unknown = isinstance(future.exception, errors.KafkaTimeoutError)
            return UnconfirmedCommand(self._reason(future.exception), may_be_written=is_unknown)
        return WrittenCommand(future.value.partition, future.value.offset)

    def _reason(self, error: BaseException) -> str:
        refusal = refusal_of(error, self._options, self._options.command_topic)
        return sentence(error) if refusal is None else f"{refusal.reason}: {refusal.remedy}"

    def _count_partitions(self) -> int:
        topic = self._options.command_topic
        try:
            count = kafka_private_parts.partition_count(self._producer, topic, METADATA_SECONDS)
        except errors.KafkaError as exc:
            raise BrokerError(f"{topic} cannot be written: {self._reason(exc)}") from exc
        if not count:
            raise BrokerError(
                f"there is no topic {topic}, or this user may not write it: `moderation-worker topics create` makes it"
            )
        return count


def _is_over(pending: Any) -> bool:
    """Return whether it is known what became of a command: ``pending`` is the future of its result, or the result."""
    return isinstance(pending, UnconfirmedCommand) or pending.is_done
