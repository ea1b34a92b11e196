# Kafka hangs, dies and comes back: nothing is published twice, nothing is lost, and nobody has to be restarted.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kafka import errors

from tests.conftest import _started_broker
from tests.contract.broker.kafka_fixture import (
    Member,
    RealCluster,
    outcome_for,
    record,
    transaction_of,
    until,
)
from worker.broker import active_kafka_refusals, kafka_private_parts, publisher
from worker.broker.publisher import Publisher
from worker.domain.contract.dead_letter_encoding import DeadLetter
from worker.domain.effects import OffsetCommit
from worker.domain.publish_results import Aborted, Published
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contract.broker.conftest import Join
    from worker.domain.effects import Transaction
    from worker.domain.publish_results import PublishResult
    from worker.testing.kafka.embedded_kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

SHORT = {"request_timeout_ms": 1500, "delivery_timeout_ms": 3000, "max_block_ms": 3000}
"""So that a broker that hangs is noticed within the patience of a test."""


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[EmbeddedKafka]:
    """One broker for these tests. Each leaves it running."""
    broker = _started_broker()
    yield broker
    broker.stop()


@pytest.fixture
def own_cluster(own_kafka: EmbeddedKafka) -> Iterator[RealCluster]:
    made = RealCluster(own_kafka.bootstrap_servers)
    yield made
    made.close()


def publish_until_published(member: Member, transaction: Transaction) -> list[PublishResult]:
    """Do what a caller does: publish the same again as long as the result is that nothing was committed."""
    results = [member.publish(transaction)]
    while not isinstance(results[-1], Published):
        assert isinstance(results[-1], Aborted)
        assert len(results) < 30
        results.append(member.publish(transaction))
    return results


def test_a_consumer_outlives_a_kafka_that_dies_and_comes_back(
    own_kafka: EmbeddedKafka, own_cluster: RealCluster, join: Join
) -> None:
    own_cluster.produce(0, b"before")
    member = join(own_cluster)
    until(lambda: member.values(0), "a record")

    own_kafka.kill()
    until(lambda: own_cluster_is_unreachable(member), "the consumer to notice", 20)
    own_kafka.start()
    own_cluster.produce(0, b"after")

    until(lambda: b"after" in member.values(0), "a record after it came back", 60)
    assert member.failure is None
    assert member.values(0) == [b"before", b"after"]


def own_cluster_is_unreachable(member: Member) -> bool:
    consumer: Any = member.consumer._consumer
    return bool(consumer._coordinator.coordinator_unknown())


def test_a_consumer_starts_before_kafka_does(
    own_kafka: EmbeddedKafka, own_cluster: RealCluster, members: list[Member]
) -> None:
    own_kafka.kill()
    member = Member(own_cluster, own_cluster.options("early", common={"bootstrap_timeout_ms": 300}))
    members.append(member)
    member.consumer.start()
    until(lambda: len(member.noticed("kafka.connect_failed")) > 1, "two failures to connect")

    own_kafka.start()

    until(lambda: member.owns(0, 1), "its partitions", 60)
    assert member.failure is None


def test_a_publisher_says_when_kafka_cannot_be_reached_at_its_start(
    own_kafka: EmbeddedKafka, own_cluster: RealCluster, members: list[Member]
) -> None:
    own_kafka.kill()
    member = Member(own_cluster, own_cluster.options("early", common={"bootstrap_timeout_ms": 300}))
    members.append(member)

    with pytest.raises(BrokerError, match="could not be reached"):
        member.publisher.start(1.0)

    own_kafka.start()


def test_results_are_kept_and_go_when_a_dead_kafka_is_back(
    own_kafka: EmbeddedKafka, own_cluster: RealCluster, join: Join
) -> None:
    member = join(own_cluster, producer=SHORT, publish_timeout=3.0)
    own_kafka.kill()
    transaction = transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "x")})

    while_away = member.publish(transaction)
    own_kafka.start()
    results = publish_until_published(member, transaction)

    assert isinstance(while_away, Aborted)
    assert isinstance(results[-1], Published)
    assert len(own_cluster.outcomes(0)) == 1
    assert own_cluster.committed(0) == (2, "x")


LETTER = DeadLetter(record(0, 1, b"{"), "commands", "commands-0-1", "bad_json", "no JSON")


@pytest.mark.parametrize("of", ["outcomes", "dead letters"])
def test_while_kafka_is_away_no_topic_is_said_to_be_missing(
    own_kafka: EmbeddedKafka, own_cluster: RealCluster, join: Join, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """The log, /readyz and the metric sent an operator to create topics that there are."""
    monkeypatch.setattr(publisher, "METADATA_SECONDS", 1.0)
    common = {"bootstrap_timeout_ms": 300}
    member = join(own_cluster, producer=SHORT, common=common, publish_timeout=3.0)
    if of == "outcomes":
        transaction = transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "x")})
    else:
        transaction = transaction_of([], {0: OffsetCommit(2, "x")}, [LETTER])
    own_kafka.kill()
    results = [member.publish(transaction) for _ in range(active_kafka_refusals.FAILURES)]
    own_kafka.start()

    assert not any(each.dead_letters_refused for each in results if isinstance(each, Aborted))
    logged = [notice.fields for notice in member.noticed("kafka.refused")]
    assert logged
    assert {each["kind"] for each in logged} <= {"unreachable", "unanswered"}, logged
    publish_until_published(member, transaction)


def test_a_kafka_that_hangs_before_the_commit_leaves_one_outcome(
    own_kafka: EmbeddedKafka, own_cluster: RealCluster, join: Join
) -> None:
    member = join(own_cluster, producer=SHORT, publish_timeout=3.0)
    member.publish_for(0, 0)
    transaction = transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "x")})
    own_kafka.pause()

    while_hanging = member.publish(transaction)
    own_kafka.resume()
    publish_until_published(member, transaction)

    assert isinstance(while_hanging, Aborted)
    assert len(own_cluster.outcomes(0)) == 2


@pytest.mark.parametrize("error", [errors.RequestTimedOutError, RuntimeError])
@pytest.mark.parametrize("arrives", [True, False], ids=["committed", "not committed"])
def test_a_commit_whose_answer_is_lost_is_found_out_before_anything_is_said(
    own_cluster: RealCluster,
    join: Join,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    *,
    arrives: bool,
) -> None:
    """If it were called aborted, a committed outcome would be published twice; if published, a lost one never."""
    member = join(own_cluster, producer=SHORT, publish_timeout=3.0)
    member.publish_for(0, 0)
    assert isinstance(member.publisher, Publisher)
    begin_commit = kafka_private_parts.begin_commit

    def answer_lost(producer: Any) -> Any:
        monkeypatch.setattr(kafka_private_parts, "begin_commit", begin_commit)
        if arrives:
            assert begin_commit(producer).wait(10.0)
        return _LostAnswer(error)

    monkeypatch.setattr(kafka_private_parts, "begin_commit", answer_lost)
    # The offset stays where it was, as above an open command: only the metadata shows the commit.
    transaction = transaction_of([outcome_for(0, 1)], {0: OffsetCommit(1, "x")})

    first = member.publish(transaction)
    seen = len(own_cluster.outcomes(0))
    if isinstance(first, Aborted):
        publish_until_published(member, transaction)

    assert isinstance(first, Published if arrives else Aborted)
    assert seen == (2 if arrives else 1)
    assert len(own_cluster.outcomes(0)) == 2
    assert len(member.noticed("kafka.commit_unknown")) == 1


def test_a_commit_that_kafka_does_not_answer_is_an_obstacle_until_it_does(
    own_cluster: RealCluster, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is sent and accepted, so nothing else fails: only the commit says that outcomes wait."""
    member = join(own_cluster)
    assert isinstance(member.publisher, Publisher)
    refusals = member.publisher._refusals
    begin_commit = kafka_private_parts.begin_commit
    slow: list[_SlowAnswer] = []

    def answered_late(producer: Any) -> Any:
        slow.append(_SlowAnswer(begin_commit(producer), lambda: refusals.lasting))
        return slow[-1]

    monkeypatch.setattr(kafka_private_parts, "begin_commit", answered_late)

    result = member.publish_for(0, 0)

    assert isinstance(result, Published)
    ((obstacle,),) = (each.seen for each in slow)
    assert obstacle.kind == "unanswered"
    assert "__transaction_state" in obstacle.remedy
    assert len(member.noticed("kafka.commit_unanswered")) == active_kafka_refusals.FAILURES
    assert refusals.lasting == []


class _SlowAnswer(kafka_private_parts.PendingRequest):
    """A commit that is never answered, often enough to become an obstacle. ``seen`` collects the obstacles."""

    def __init__(self, commit: kafka_private_parts.PendingRequest, obstacles: Callable[[], Any]) -> None:
        super().__init__(None)
        self._commit = commit
        self._obstacles = obstacles
        self._waits = 0
        self.seen: Any = None

    def wait(self, timeout: float) -> bool:
        self._waits += 1
        if self._waits <= active_kafka_refusals.FAILURES:
            return False
        self.seen = self._obstacles()
        return self._commit.wait(timeout)


class _LostAnswer(kafka_private_parts.PendingRequest):
    """A commit whose connection broke before the answer."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__(None)
        self._error = error

    def wait(self, timeout: float) -> bool:
        raise self._error(f"no answer within {timeout} s")


def test_a_transaction_that_the_broker_ended_for_its_age_is_no_other_process(
    own_cluster: RealCluster, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look the same to a producer. This one must go on, and its results must go again."""
    member = join(own_cluster, transaction_timeout=1.0)
    begin_commit = kafka_private_parts.begin_commit

    def late(producer: Any) -> Any:
        monkeypatch.setattr(kafka_private_parts, "begin_commit", begin_commit)
        written = own_cluster.high_watermark("outcomes", 0)
        until(lambda: own_cluster.high_watermark("outcomes", 0) > written, "the broker's abort marker")
        return begin_commit(producer)

    monkeypatch.setattr(kafka_private_parts, "begin_commit", late)
    transaction = transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "x")})

    results = publish_until_published(member, transaction)

    assert len(results) == 2
    assert len(own_cluster.outcomes(0)) == 1


def test_closing_ends_though_kafka_hangs(
    own_kafka: EmbeddedKafka, own_cluster: RealCluster, join: Join
) -> None:
    member = join(own_cluster, producer=SHORT, publish_timeout=2.0, handover=0.5)
    own_kafka.pause()
    pending = member.publishing(transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "")}))

    consumer_over = member.consumer.close(15.0)
    publisher_over = member.publisher.close(15.0)

    own_kafka.resume()
    assert consumer_over
    assert publisher_over
    assert isinstance(pending.result(1), Aborted)
