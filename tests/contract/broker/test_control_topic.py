# The control topic on a real Kafka: written, read whole, and refused with a remedy where it does not fit.

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaProducer, errors
from kafka.producer import transaction_manager

from tests.unit.broker.test_client_config import options
from worker.broker import control_topic
from worker.broker.control_topic import ControlTopicState, fitting_control_topic, read_orders, write_record
from worker.domain.contract.control_records import ControlRecord, Order, OrderState, Scope
from worker.errors import BrokerError, ControlTopicError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cluster as Running
    from worker.broker.options import KafkaOptions

pytestmark = pytest.mark.kafka

AT = "2026-11-28T03:00:00.000Z"


def order(state: OrderState = OrderState.PAUSED, until: str | None = None) -> Order:
    return Order(state, "it bans everybody", "alice", AT, until)


def written(chosen: KafkaOptions, record: ControlRecord) -> int:
    return write_record(chosen, record, "alice", "it bans everybody")


@pytest.fixture
def fit(kafka: Running, make_topic: Callable[..., str]) -> KafkaOptions:
    topic = make_topic("control", partitions=1, configs={"cleanup.policy": "compact"})
    return _of(kafka, topic)


def _of(kafka: Running, topic: str | None) -> KafkaOptions:
    changes: dict[str, Any] = {"control_topic": topic}
    return options(bootstrap_servers=kafka.bootstrap_servers, **changes)


def test_the_latest_record_of_a_scope_is_read_and_a_resumed_one_is_gone(fit: KafkaOptions) -> None:
    one, other = Scope(issuer="one"), Scope(issuer="other")

    offsets = [
        written(fit, ControlRecord(one, order())),
        written(fit, ControlRecord(other, order())),
        written(fit, ControlRecord(one, order(OrderState.CANCEL))),
        written(fit, ControlRecord(other, None)),
    ]
    topic_state, unreadable = read_orders(fit)

    assert offsets == [0, 1, 2, 3]
    assert topic_state.orders == {one: order(OrderState.CANCEL)}
    assert unreadable == []


def test_an_empty_topic_has_no_orders(fit: KafkaOptions) -> None:
    topic_state, unreadable = read_orders(fit)

    assert (topic_state.orders, unreadable) == ({}, [])


def test_what_cannot_be_read_is_returned_with_its_offset_and_changes_nothing(
    fit: KafkaOptions, real_producer: Callable[..., int]
) -> None:
    scope = Scope(issuer="one")
    written(fit, ControlRecord(scope, order()))
    broken = real_producer(fit, scope.key, b'{"state": "paus')

    topic_state, unreadable = read_orders(fit)

    assert topic_state.orders == {scope: order()}
    assert [entry.offset for entry in unreadable] == [broken]


@pytest.fixture
def real_producer(kafka: Running) -> Any:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)

    def send(chosen: KafkaOptions, key: bytes | None, value: bytes | None) -> int:
        return int(producer.send(chosen.control_topic, key=key, value=value).get(30).offset)

    yield send
    producer.close(timeout=5)


def test_more_orders_than_can_be_looked_at_are_refused_unless_some_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control_topic, "MOST_SCOPES", 2)
    topic_state, now = ControlTopicState(), time.time()

    def add(issuer: str, until: str | None = None) -> object:
        entry = control_topic.ControlEntry(0, ControlRecord(Scope(issuer=issuer), order(until=until)))
        return topic_state.add(entry, now)

    add("a")
    add("b", until=AT)

    assert add("a") == ControlRecord(Scope(issuer="a"), order())
    assert add("c") == ControlRecord(Scope(issuer="c"), order())
    assert "2 scopes have an order already" in getattr(add("d"), "reason", "")
    further = ControlRecord(Scope(issuer="d"), order())
    assert "2 scopes have an order already" in str(topic_state.try_record(further, now))
    assert topic_state.try_record(ControlRecord(Scope(issuer="a"), order()), now) is None
    assert set(topic_state.orders) == {Scope(issuer="a"), Scope(issuer="c")}

    add("a", until=AT)
    add("d")
    assert set(topic_state.orders) == {Scope(issuer="c"), Scope(issuer="d")}


def test_the_order_of_a_guard_does_not_replace_a_persons() -> None:
    topic_state = ControlTopicState()

    def add(given: Order | None) -> None:
        topic_state.add(control_topic.ControlEntry(0, ControlRecord(Scope(issuer="a"), given)), time.time())

    by_guard = Order(OrderState.PAUSED, "too many", "guard", AT)
    add(by_guard)
    add(order())
    add(by_guard)
    assert topic_state.orders == {Scope(issuer="a"): order()}
    add(order(until=AT))
    add(by_guard)
    assert topic_state.orders == {Scope(issuer="a"): by_guard}
    add(None)
    assert not topic_state.orders


def test_records_beyond_the_most_cost_no_look_at_those_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_topic, "MOST_SCOPES", 2)
    topic_state, looks = ControlTopicState(), list[float]()
    in_force = ControlTopicState.in_force

    def look(self: ControlTopicState, wall: float) -> dict[Scope, Order]:
        looks.append(wall)
        return in_force(self, wall)

    monkeypatch.setattr(ControlTopicState, "in_force", look)

    def add(issuer: str, until: str, now: float) -> None:
        topic_state.add(
            control_topic.ControlEntry(0, ControlRecord(Scope(issuer=issuer), order(until=until))), now
        )

    for number in range(10):
        add(f"i{number}", "2030-01-31T12:00:00Z", 1_800_000_000.0)
    assert not looks

    add("late", "2040-01-31T12:00:00Z", 1_900_000_000.0)
    assert len(looks) == 1
    assert set(topic_state.orders) == {Scope(issuer="late")}


def test_without_a_topic_nothing_can_be_ordered_and_the_remedy_is_said(kafka: Running) -> None:
    with pytest.raises(ControlTopicError, match=r"kafka\.control_topic is null"):
        fitting_control_topic(_of(kafka, None))
    with pytest.raises(ControlTopicError, match="does not exist: moderation-worker topics create"):
        fitting_control_topic(_of(kafka, "no-such-topic"))


@pytest.mark.parametrize(
    ("partitions", "policy", "sentence"),
    [
        (2, "compact", "it has 2 partitions"),
        (1, "delete", "cleanup.policy is delete, which deletes a pause that is still in force"),
        (1, "compact,delete", "cleanup.policy is compact,delete"),
    ],
)
def test_a_topic_that_does_not_fit_is_refused_before_anything_is_written(
    kafka: Running, make_topic: Callable[..., str], partitions: int, policy: str, sentence: str
) -> None:
    chosen = _of(kafka, make_topic("unfit", partitions=partitions, configs={"cleanup.policy": policy}))

    with pytest.raises(ControlTopicError, match=sentence):
        read_orders(chosen)


def test_a_cluster_that_cannot_be_reached_is_said_in_one_sentence(fit: KafkaOptions) -> None:
    away = replace(fit, bootstrap_servers="127.0.0.1:1", common={"bootstrap_timeout_ms": 500})

    for attempt in (lambda: fitting_control_topic(away), lambda: written(away, _record())):
        with pytest.raises(BrokerError, match=r"cannot be reached at 127\.0\.0\.1:1"):
            attempt()


def _record() -> ControlRecord:
    return ControlRecord(Scope(), order())


def test_a_producer_that_gets_no_id_is_refused_in_time_and_leaves_no_thread(
    fit: KafkaOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an id for its producer the broker takes nothing, and kafka-python waits for one without a limit."""
    monkeypatch.setattr(control_topic, "WRITE_SECONDS", 1.0)
    handle: Any = transaction_manager.InitProducerIdHandler.handle_response

    def none_yet(self: Any, response: Any) -> Any:
        response.error_code = errors.CoordinatorLoadInProgressError.errno
        return handle(self, response)

    monkeypatch.setattr(transaction_manager.InitProducerIdHandler, "handle_response", none_yet)
    before = set(threading.enumerate())

    with pytest.raises(BrokerError, match="cannot be written"):
        written(fit, ControlRecord(Scope(issuer="one"), order()))

    assert set(threading.enumerate()) <= before
