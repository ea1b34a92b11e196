# The control topic, read whole and written: what is in force, and how an order gets into it.
#
# For the commands of the command line, and for the thread that follows the topic (control_follower.py). What a record says
# is read in domain/contract/control_records.py; whether a topic fits is judged in topic_admin.py.

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors
from msgspec import Struct

from worker.broker.client_config import control_arguments, order_arguments
from worker.broker.error_mapping import sentence, unreachable
from worker.broker.kafka_private_parts import discard, known_partitions, known_topic_id, open_client
from worker.broker.topic_admin import CREATE, control_problems, inspect_control
from worker.domain.contract.control_records import (
    MAX_VALUE_BYTES,
    ControlRecord,
    UnreadableControl,
    control_value,
    end_of,
    gives_way,
    is_over,
    read_control,
)
from worker.errors import BrokerError, ControlTopicError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from worker.broker.options import KafkaOptions
    from worker.broker.topic_admin import Topic
    from worker.domain.contract.control_records import Order, Scope

BY: Final = "by"
REASON: Final = "reason"
"""Headers of a record. Of a resume they are the only place for who and why."""
MOST_SCOPES: Final = 10_000
"""The most orders at a time: far more than people give. Each is looked at once a second, for the metrics."""
READ_SECONDS: Final = 30.0
"""How long the broker may return nothing although there is something to read."""
POLL_SECONDS: Final = 0.25
WRITE_SECONDS: Final = 45.0
RIGHTS: Final = "config/running.md lists the rights under “What its Kafka user may do”"


class ControlEntry(Struct, frozen=True):
    """
    One record of the topic.

    Attributes:
        record: What it says, or why it cannot be read.
        by: Who wrote it, and ``reason`` why, as its headers say: nothing else records that of a resume.

    """

    offset: int
    record: ControlRecord | UnreadableControl
    by: str | None = None
    reason: str | None = None


class ControlTopicReader:
    """A consumer of the control topic from its beginning, as a context manager. Its methods raise kafka-python's errors."""

    def __init__(self, options: KafkaOptions, topic: str) -> None:
        self._place = TopicPartition(topic, 0)
        self._consumer = open_client(KafkaConsumer, control_arguments(options), options.secrets_for("common"))
        try:
            self._consumer.assign([self._place])
            start = int(self._consumer.beginning_offsets([self._place])[self._place])
            self._consumer.seek(self._place, start)
            self.end: Final = int(self._consumer.end_offsets([self._place])[self._place])
        except BaseException:
            # BaseException, so Ctrl-C too: `__exit__` does not run for what was never entered.
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ControlTopicReader of {self._place.topic} up to {self.end}>"

    @property
    def at_end(self) -> bool:
        """Whether everything was read that was there when the reader was opened."""
        return int(self._consumer.position(self._place)) >= self.end

    @property
    def topic_id(self) -> str | None:
        """The topic's id as of the last metadata; None if unknown, or if there is no such topic any more."""
        return known_topic_id(self._consumer, self._place.topic)

    @property
    def partitions(self) -> int | None:
        """How many partitions the topic has as of the last metadata; None if there is no such topic."""
        return known_partitions(self._consumer, self._place.topic)

    @property
    def consumer(self) -> KafkaConsumer:
        """The consumer, to ask what is wrong with its connections."""
        return self._consumer

    def poll(self, seconds: float = POLL_SECONDS) -> list[ControlEntry]:
        """Return the next records; none if none comes within ``seconds``."""
        polled = self._consumer.poll(timeout_ms=round(seconds * 1000))
        return [_entry(record) for record in polled.get(self._place, ())]

    def read_to_end(self) -> Iterator[ControlEntry]:
        """Yield everything that was there when the reader was opened. Raises BrokerError if the broker returns nothing."""
        progressed = time.monotonic()
        while not self.at_end:
            entries = self.poll()
            yield from entries
            if entries:
                progressed = time.monotonic()
            elif time.monotonic() - progressed > READ_SECONDS:
                raise BrokerError(f"{self._place.topic} returns nothing although it has more")

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(autocommit=False)


def _entry(record: Any) -> ControlEntry:
    given = {
        name: value[:MAX_VALUE_BYTES].decode("utf-8", "replace")
        for name, value in record.headers or ()
        if name in {BY, REASON} and value is not None
    }
    return ControlEntry(
        record.offset, read_control(record.key, record.value), given.get(BY), given.get(REASON)
    )


class ControlTopicState:
    """The latest order of each scope, of which at most ``MOST_SCOPES`` are kept."""

    def __init__(self) -> None:
        self.orders: dict[Scope, Order] = {}
        # No order ends by itself before this time.
        self._first_end = math.inf

    def add(self, entry: ControlEntry, wall: float) -> ControlRecord | UnreadableControl:
        """Note a record, read at ``wall`` (seconds since 1970). Return it, or why it changes nothing."""
        record = entry.record
        if isinstance(record, UnreadableControl):
            return record
        if record.order is None:
            self.orders.pop(record.scope, None)
        elif gives_way(record.order, self.orders.get(record.scope), wall):
            pass
        elif record.scope in self.orders or len(self.orders) < MOST_SCOPES or self._make_room(wall):
            self.orders[record.scope] = record.order
            self._first_end = min(self._first_end, end_of(record.order))
        else:
            return UnreadableControl(f"{MOST_SCOPES:,} scopes have an order already: resume some of them")
        return record

    def try_record(self, record: ControlRecord, wall: float) -> str | None:
        """Add a further record. Return why workers that have read the same would ignore it; None if they would follow it."""
        read = self.add(ControlEntry(-1, record), wall)
        return read.reason if isinstance(read, UnreadableControl) else None

    def in_force(self, wall: float) -> dict[Scope, Order]:
        """Return the orders that hold at ``wall``."""
        return {scope: order for scope, order in self.orders.items() if not is_over(order, wall)}

    def _make_room(self, wall: float) -> bool:
        """
        Forget orders that are over, and return whether there were any.

        They are looked for only once one can be over: otherwise each record beyond ``MOST_SCOPES`` would require a look at every order.
        """
        if wall < self._first_end:
            return False
        before = len(self.orders)
        self.orders = self.in_force(wall)
        self._first_end = min(map(end_of, self.orders.values()), default=math.inf)
        return len(self.orders) < before

    def __repr__(self) -> str:
        return f"<ControlTopicState of {len(self.orders)} scopes>"


def fitting_control_topic(options: KafkaOptions) -> Topic:
    """Return the control topic. Raises ControlTopicError if there is none that can be followed, BrokerError if Kafka refuses."""
    name = options.control_topic
    if name is None:
        raise ControlTopicError(
            "kafka.control_topic is null: name a topic there, and restart the workers with it"
        )
    try:
        topic = inspect_control(options)
    except errors.TopicAuthorizationFailedError as exc:
        raise BrokerError(
            f"the topic {name} cannot be inspected: {sentence(exc)}; it needs Describe"
        ) from exc
    except errors.KafkaError as exc:
        raise unreachable(options.bootstrap_servers, exc) from exc
    if topic is None:
        raise ControlTopicError(
            f"the topic {name} (kafka.control_topic) does not exist: {CREATE} creates it, and running workers follow it "
            "within a minute"
        )
    unfit = control_problems(topic)
    if unfit:
        raise ControlTopicError(
            "; ".join(
                f"the topic {name} (kafka.control_topic) does not fit: {problem.remedy}" for problem in unfit
            )
        )
    return topic


def read_orders(options: KafkaOptions) -> tuple[ControlTopicState, list[ControlEntry]]:
    """
    Return the latest order of each scope, and the records that cannot be read.

    Raises ControlTopicError and BrokerError, as ``fitting_control_topic``.
    """
    topic = fitting_control_topic(options)
    topic_state, unreadable = ControlTopicState(), []
    try:
        with ControlTopicReader(options, topic.name) as reader:
            for entry in reader.read_to_end():
                read = topic_state.add(entry, time.time())
                if isinstance(read, UnreadableControl):
                    unreadable.append(ControlEntry(entry.offset, read))
    except errors.KafkaError as exc:
        raise _refusal_error(topic.name, "read", "Read and Describe", exc) from exc
    return topic_state, unreadable


def write_record(options: KafkaOptions, record: ControlRecord, by: str, reason: str) -> int:
    """
    Write a record and return its offset, when all replicas in sync have it. Blocks for ``WRITE_SECONDS`` at most.

    Raises BrokerError if Kafka refuses; then nothing was written, or it does not say so.
    """
    topic = options.control_topic
    assert topic is not None
    value = None if record.order is None else control_value(record.order)
    try:
        producer: Any = open_client(KafkaProducer, order_arguments(options), options.secrets_for("common"))
    except errors.KafkaError as exc:
        raise unreachable(options.bootstrap_servers, exc) from exc
    try:
        headers = [(BY, by.encode()), (REASON, reason.encode())]
        sent = producer.send(topic, key=record.scope.key, value=value, headers=headers, partition=0)
        return int(sent.get(WRITE_SECONDS).offset)
    except errors.KafkaError as exc:
        raise _refusal_error(topic, "written", "Write and Describe", exc) from exc
    finally:
        discard(producer, 1.0)


def _refusal_error(topic: str, done: str, rights: str, error: errors.KafkaError) -> BrokerError:
    if isinstance(error, errors.TopicAuthorizationFailedError):
        return BrokerError(
            f"the topic {topic} cannot be {done}: this Kafka user needs {rights} on it ({RIGHTS})"
        )
    return BrokerError(f"the topic {topic} cannot be {done}: {sentence(error)}")
