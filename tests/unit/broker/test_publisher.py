# What the publisher does without a transaction at a broker: its start and end, bugs, and a member without an identity. All else
# needs a broker, and is in tests/contract/broker/test_publishing.py.

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kafka import errors

from tests.unit.broker.test_client_config import options
from worker.broker import kafka_private_parts
from worker.broker import publisher as module
from worker.broker.publisher import BACKOFF_SECONDS, REBALANCE_WAIT, Publisher
from worker.domain.effects import Transaction
from worker.domain.publish_results import Aborted
from worker.errors import BrokerError

if TYPE_CHECKING:
    from worker.domain.effects import LogEvent
    from worker.domain.publish_results import PublishResult
    from worker.errors import WorkerError

CLAIM = ((0, 1),)
WITHIN = 5.0
NOTHING = Transaction([], [], {})


class Member:
    """A member that has an identity each time that ``identities`` says so."""

    def __init__(self, *identities: object, topic_gone: bool = False) -> None:
        self.identities = [*identities]
        self.topic_gone = topic_gone

    def claim(self, _: object) -> Any:
        return CLAIM

    def group_metadata(self, _: object) -> object:
        return self.identities.pop(0)

    def may_send_until(self) -> float:
        return 0.0

    def is_topic_gone(self) -> bool:
        return self.topic_gone


class Encoding:
    """Counts how often records were encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(module, "producer_records", self._encode)

    def _encode(self, *_: object) -> list[Any]:
        self.count += 1
        return []


def publisher_of(member: Member, events: list[LogEvent] | None = None) -> Publisher:
    publisher = Publisher(options(), member, (lambda _: None) if events is None else events.append)
    producer: Any = SimpleNamespace()
    publisher._producer = producer
    return publisher


def waits_after(
    publisher: Publisher, result: Aborted, count: int, monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(publisher, "_sleep", waits.append)
    for _ in range(count):
        publisher._pace(result)
    return waits


@pytest.mark.parametrize(
    ("topic_gone", "waits"),
    [
        (False, [REBALANCE_WAIT] * 7),
        (
            True,
            [*(BACKOFF_SECONDS[0] * 2**each for each in range(5)), BACKOFF_SECONDS[1], BACKOFF_SECONDS[1]],
        ),
    ],
    ids=["a rebalance", "the topic is gone"],
)
def test_a_rebalance_is_waited_out_briefly_and_a_topic_that_is_gone_ever_longer(
    monkeypatch: pytest.MonkeyPatch, topic_gone: bool, waits: list[float]
) -> None:
    """Nothing is published any more once another topic has the name: the loop turned twenty times a second, for ever."""
    encoding = Encoding(monkeypatch)
    publisher = publisher_of(Member(None, topic_gone=topic_gone))

    result = publisher._process(NOTHING, CLAIM)

    assert isinstance(result, Aborted)
    assert encoding.count == 0
    assert waits_after(publisher, result, 7, monkeypatch) == pytest.approx(waits)


def test_an_identity_that_is_lost_while_records_are_encoded_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoding = Encoding(monkeypatch)
    publisher = publisher_of(Member("an identity", None))

    result = publisher._process(NOTHING, CLAIM)

    assert isinstance(result, Aborted)
    assert result.retry_soon
    assert encoding.count == 1


def test_a_broker_that_does_not_answer_is_not_said_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stood still for some seconds left an error in the log at once: `Kafka refuses repeatedly`."""
    Encoding(monkeypatch)
    events: list[LogEvent] = []
    publisher = publisher_of(Member("an identity", "an identity"), events)
    monkeypatch.setattr(kafka_private_parts, "error_of", lambda _: None)
    monkeypatch.setattr(kafka_private_parts, "connection_failure", lambda _: None)
    monkeypatch.setattr(kafka_private_parts, "is_broken", lambda _: True)
    monkeypatch.setattr(publisher, "_drop_producer", lambda: None)

    def unanswered(*_: object) -> None:
        raise errors.KafkaTimeoutError("the offsets were not answered in time")

    monkeypatch.setattr(publisher, "_send_all", unanswered)

    publisher._process(NOTHING, CLAIM)

    (refused,) = events
    assert refused.event == "kafka.refused"
    assert (refused.fields["kind"], refused.fields["failures"]) == ("unanswered", 1)
    assert refused.fields["reason"] == "Kafka does not answer, so outcomes wait"


def test_a_bug_that_ends_the_thread_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was ready for ever, and published nothing: only a line said that a thread had crashed."""
    failed: Future[WorkerError] = Future()
    publisher = Publisher(options(), Member(None), lambda _: None, failed=failed.set_result)
    monkeypatch.setattr(publisher, "_open_producer", lambda: None)
    monkeypatch.setattr(publisher, "_pace", {}.__getitem__)
    publisher.start(WITHIN)

    publisher.publish(NOTHING, lambda _: None)

    assert str(failed.result(WITHIN)).startswith("the publisher has ended: KeyError(")


def test_a_bug_at_the_start_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(options(), Member(None), lambda _: None)

    def broken() -> None:
        raise KeyError("a fault of the code")

    monkeypatch.setattr(publisher, "_open_first_producer", broken)

    with pytest.raises(BrokerError, match="the publisher has ended: KeyError"):
        publisher.start(WITHIN)


def test_a_revoked_partition_is_no_failure_and_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = publisher_of(Member())

    result = publisher._process(NOTHING, None)

    assert isinstance(result, Aborted)
    assert waits_after(publisher, result, 2, monkeypatch) == [REBALANCE_WAIT] * 2


@pytest.mark.parametrize(("proven_for", "opened"), [(-1.0, 0), (60.0, 1)], ids=["unproven", "proven"])
def test_after_a_fence_a_producer_is_opened_only_as_a_proven_member(
    monkeypatch: pytest.MonkeyPatch, proven_for: float, opened: int
) -> None:
    """A zombie that goes on opened one, and so ended the process that had its name by then."""
    clients: list[object] = []
    member = Member("an identity")
    publisher = publisher_of(member)
    monkeypatch.setattr(kafka_private_parts, "error_of", lambda _: errors.ProducerFencedError())
    monkeypatch.setattr(kafka_private_parts, "discard", lambda *_: None)
    monkeypatch.setattr(member, "may_send_until", lambda: time.monotonic() + proven_for)

    def made(*_: object) -> object:
        clients.append(SimpleNamespace(init_transactions=lambda: None))
        return clients[-1]

    monkeypatch.setattr(kafka_private_parts, "open_client", made)
    publisher._drop_producer()
    with contextlib.suppress(errors.KafkaError):
        publisher._open_producer()

    assert len(clients) == opened


def test_a_bug_in_a_transaction_ends_it_alone_and_costs_the_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[LogEvent] = []
    dropped: list[object] = []
    publisher = Publisher(options(), Member("an identity"), logged.append)
    producer: Any = SimpleNamespace()
    publisher._producer = producer
    monkeypatch.setattr(module, "producer_records", {}.__getitem__)
    monkeypatch.setattr(kafka_private_parts, "discard", lambda discarded, _: dropped.append(discarded))
    monkeypatch.setattr(kafka_private_parts, "connection_failure", lambda _: None)
    monkeypatch.setattr(kafka_private_parts, "error_of", lambda _: None)

    result = publisher._process(NOTHING, CLAIM)

    assert isinstance(result, Aborted)
    assert not result.retry_soon
    assert dropped == [producer]
    assert [event.event for event in logged] == ["kafka.publish_failed", "kafka.refused"]


def test_a_second_transaction_beside_the_first_is_a_bug_of_the_caller() -> None:
    publisher = publisher_of(Member())
    publisher.publish(NOTHING, lambda _: None)

    with pytest.raises(RuntimeError, match="already"):
        publisher.publish(NOTHING, lambda _: None)


def test_a_closed_publisher_says_so_at_once_and_does_not_wait_for_what_never_began() -> None:
    publisher = publisher_of(Member())
    results: list[PublishResult] = []
    began = time.monotonic()

    assert publisher.close(60.0)
    publisher.publish(NOTHING, results.append)

    assert time.monotonic() - began < WITHIN
    assert results == [Aborted("the publisher is closed")]


def test_kafka_that_is_away_at_the_start_is_tried_ever_later_and_the_end_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[LogEvent] = []
    dropped: list[None] = []
    publisher = Publisher(options(), Member(), logged.append)

    def away() -> None:
        raise errors.KafkaConnectionError("broker-3: no route")

    monkeypatch.setattr(publisher, "_open_producer", away)
    monkeypatch.setattr(publisher, "_drop_producer", lambda: dropped.append(None))
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.02, 0.05))

    with pytest.raises(BrokerError, match=r"could not be reached within 1 s: .*broker-3: no route"):
        publisher.start(1.0)

    assert publisher.close(WITHIN)
    assert dropped
    waits = [event.fields["next_try_seconds"] for event in logged if event.event == "kafka.connect_failed"]
    assert waits[:4] == [0.02, 0.04, 0.05, 0.05]
    assert "kafka.refused" in [event.event for event in logged]


def test_what_retrying_cannot_help_ends_the_start_at_once_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher = Publisher(options(), Member(), lambda _: None)

    def refused() -> None:
        raise errors.TransactionalIdAuthorizationFailedError

    monkeypatch.setattr(publisher, "_open_producer", refused)

    with pytest.raises(BrokerError, match=r"cannot be created: .*transactional id") as caught:
        publisher.start(60.0)

    assert isinstance(caught.value.__cause__, errors.TransactionalIdAuthorizationFailedError)
    assert publisher.close(WITHIN)
