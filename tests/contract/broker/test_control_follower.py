# The follower of the control topic on a real Kafka: it has read everything before it reports, misses nothing after, and
# survives whatever happens to the topic and the broker.

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import TopicAuthorizationFailedError

from tests.contract.broker.kafka_fixture import KAFKA_AWAY, until
from tests.unit.broker.test_client_config import options
from worker.broker import control_follower
from worker.broker.active_kafka_refusals import ActiveKafkaRefusals
from worker.broker.control_follower import ControlFollower
from worker.broker.control_topic import ControlTopicReader, write_record
from worker.domain.contract.control_records import ControlRecord, Order, OrderState, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Cluster as Running
    from worker.broker.options import KafkaOptions
    from worker.domain.effects import LogEvent
    from worker.errors import WorkerError
    from worker.testing.kafka.embedded_kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

ONE, OTHER = Scope(issuer="one"), Scope(issuer="other")
COMPACTED = {"num_partitions": 1, "replication_factor": 1, "configs": {"cleanup.policy": "compact"}}


def order(state: OrderState = OrderState.PAUSED) -> Order:
    return Order(state, "it bans everybody", "alice", "2026-11-28T03:00:00.000Z")


class Worker:
    """
    What follows, and what it has heard.

    Attributes:
        calls: The reports, in order; None for that there is no topic.
        held: What is in force by them.

    """

    def __init__(self, chosen: KafkaOptions) -> None:
        self.calls: list[list[ControlRecord] | None] = []
        self.held: dict[Scope, Order] = {}
        self.notices: list[LogEvent] = []
        self.failure: WorkerError | None = None
        self.refusals = ActiveKafkaRefusals(self.notices.append)
        self.follower = ControlFollower(chosen, self, self.notices.append, self.refusals)
        self.follower.start()

    def orders(self, records: Sequence[ControlRecord]) -> None:
        for record in records:
            if record.order is None:
                self.held.pop(record.scope, None)
            else:
                self.held[record.scope] = record.order
        self.calls.append(list(records))

    def no_orders(self) -> None:
        self.calls.append(None)

    def failed(self, error: WorkerError) -> None:
        self.failure = error

    def noticed(self, event: str) -> list[LogEvent]:
        return [notice for notice in self.notices if notice.event == event]


@pytest.fixture
def follow() -> Iterator[Callable[[KafkaOptions], Worker]]:
    workers: list[Worker] = []

    def followed(chosen: KafkaOptions) -> Worker:
        workers.append(Worker(chosen))
        return workers[-1]

    yield followed
    for worker in workers:
        assert worker.follower.close(10.0), worker.follower
        assert worker.failure is None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_follower, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(control_follower, "JUDGE_SECONDS", 0.5)


@pytest.fixture
def fit(kafka: Running, make_topic: Callable[..., str]) -> KafkaOptions:
    return of(
        kafka.bootstrap_servers, make_topic("control", partitions=1, configs={"cleanup.policy": "compact"})
    )


def of(servers: str, topic: str) -> KafkaOptions:
    changes: dict[str, Any] = {"control_topic": topic}
    return options(bootstrap_servers=servers, **changes)


def give(chosen: KafkaOptions, scope: Scope, given: Order | None) -> None:
    write_record(chosen, ControlRecord(scope, given), "bob", "because")


def test_the_first_report_has_everything_and_nothing_that_was_taken_back(
    fit: KafkaOptions, follow: Callable[[KafkaOptions], Worker]
) -> None:
    give(fit, ONE, order())
    give(fit, OTHER, order())
    give(fit, ONE, order(OrderState.CANCEL))
    give(fit, OTHER, None)

    worker = follow(fit)
    until(lambda: worker.calls, "the first report")

    assert worker.calls == [[ControlRecord(ONE, order(OrderState.CANCEL))]]
    (read,) = worker.noticed("control.read")
    assert (read.fields["records"], read.fields["orders"]) == (4, 1)


def test_an_empty_topic_is_reported_as_read(
    fit: KafkaOptions, follow: Callable[[KafkaOptions], Worker]
) -> None:
    worker = follow(fit)

    until(lambda: worker.calls == [[]], "an empty report")


def test_an_order_is_followed_within_two_seconds_and_a_resume_says_who(
    fit: KafkaOptions, follow: Callable[[KafkaOptions], Worker]
) -> None:
    worker = follow(fit)
    until(lambda: worker.calls, "the first report")

    give(fit, ONE, order())
    written = time.monotonic()
    until(lambda: ONE in worker.held, "the order")
    assert time.monotonic() - written < 2.0

    give(fit, ONE, None)
    written = time.monotonic()
    until(lambda: not worker.held, "the resume")
    assert time.monotonic() - written < 2.0
    (resumed,) = worker.noticed("control.resumed")
    assert resumed.fields == {"scope": "issuer one", "by": "bob", "reason": "because"}


def test_a_broken_record_changes_nothing_and_is_logged_within_bounds(
    fit: KafkaOptions, kafka: Running, follow: Callable[[KafkaOptions], Worker]
) -> None:
    """One bad program may write millions of them: they are counted, and the log stays readable."""
    give(fit, ONE, order())
    worker = follow(fit)
    until(lambda: worker.calls, "the first report")
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    broken = [
        (b'{"issuer": "one"}', b"{}"),
        (b'{"isuer":"one"}', b"{}"),
        (ONE.key, b""),
        (ONE.key, b'{"state":"paus'),
        (ONE.key, b'{"state":"stop","reason":"r","by":"b","at":"2026-11-28T03:00:00Z"}'),
        (ONE.key, b'{"state":"paused","reason":"r","by":"b","at":"yesterday"}'),
        (ONE.key, b"x" * 5_000),
        (b"[" * 1_000, b"{}"),
        *[(ONE.key, b"\xff")] * 20,
    ]
    for key, value in broken:
        producer.send(str(fit.control_topic), key=key, value=value)
    producer.flush(30)
    producer.close(timeout=5)

    until(lambda: worker.follower.unreadable == len(broken), "all of them")
    give(fit, OTHER, order())
    until(lambda: OTHER in worker.held, "the order behind them")

    assert worker.held == {ONE: order(), OTHER: order()}
    lines = worker.noticed("control.unreadable")
    assert [line.fields["offset"] for line in lines] == list(range(1, 11))
    assert all(line.fields["reason"] for line in lines)


@pytest.mark.usefixtures("quick")
def test_without_a_topic_the_worker_hears_of_it_and_a_later_one_is_followed(
    kafka: Running,
    fresh_name: Callable[[str], str],
    follow: Callable[[KafkaOptions], Worker],
) -> None:
    chosen = of(kafka.bootstrap_servers, fresh_name("control"))
    worker = follow(chosen)
    until(lambda: worker.calls.count(None) >= 2, "that there is none")
    with _admin(kafka.bootstrap_servers) as admin:
        admin.create_topics({chosen.control_topic: COMPACTED}, wait_for_metadata=True)

    give(chosen, ONE, order())
    until(lambda: ONE in worker.held, "the order")

    assert len(worker.noticed("control.topic_missing")) == 1


@pytest.mark.usefixtures("quick")
def test_a_recreated_topic_is_read_whole_and_what_is_not_in_it_is_over(
    kafka: Running,
    fit: KafkaOptions,
    follow: Callable[[KafkaOptions], Worker],
) -> None:
    """While it is gone, what was in force stays so: to delete a topic is no decision to resume."""
    give(fit, ONE, order())
    give(fit, OTHER, order())
    worker = follow(fit)
    until(lambda: set(worker.held) == {ONE, OTHER}, "both orders")
    with _admin(kafka.bootstrap_servers) as admin:
        admin.delete_topics([fit.control_topic])
        until(lambda: None in worker.calls, "that it has gone")
        assert set(worker.held) == {ONE, OTHER}
        admin.create_topics({fit.control_topic: COMPACTED}, wait_for_metadata=True)

    give(fit, OTHER, order(OrderState.SHADOW))
    until(lambda: worker.held == {OTHER: order(OrderState.SHADOW)}, "what is in the new topic, and no more")


@pytest.mark.usefixtures("quick")
def test_a_topic_that_is_recreated_at_once_is_noticed_as_well(
    kafka: Running, fit: KafkaOptions, follow: Callable[[KafkaOptions], Worker]
) -> None:
    """Within one look at the metadata: the partition is the same, and the topic another."""
    give(fit, ONE, order())
    worker = follow(fit)
    until(lambda: ONE in worker.held, "the order")
    with _admin(kafka.bootstrap_servers) as admin:
        admin.delete_topics([fit.control_topic])
        _until_created(admin, str(fit.control_topic))

    give(fit, OTHER, order())
    until(lambda: worker.held == {OTHER: order()}, "what is in the new topic, and no more")


def _until_created(admin: KafkaAdminClient, topic: str) -> None:
    def created() -> bool:
        answer = admin.create_topics({topic: COMPACTED}, raise_errors=False)
        return bool(answer["topics"][0]["error_code"] == 0)

    until(created, "the new topic")
    admin.wait_for_topics([topic])


@pytest.mark.parametrize(
    ("partitions", "policy", "remedy"),
    [(2, "compact", "it has 2 partitions"), (1, "delete", "--add-config cleanup.policy=compact")],
)
@pytest.mark.usefixtures("quick")
def test_a_topic_that_does_not_fit_is_not_followed_until_it_does(
    kafka: Running,
    make_topic: Callable[..., str],
    follow: Callable[[KafkaOptions], Worker],
    partitions: int,
    policy: str,
    remedy: str,
) -> None:
    chosen = of(
        kafka.bootstrap_servers,
        make_topic("control", partitions=partitions, configs={"cleanup.policy": policy}),
    )

    worker = follow(chosen)
    until(lambda: worker.follower.unfit, "that it does not fit")

    assert remedy in worker.follower.unfit[0].remedy
    assert worker.calls == []
    with _admin(kafka.bootstrap_servers) as admin:
        admin.delete_topics([chosen.control_topic])
        _until_created(admin, str(chosen.control_topic))
    until(lambda: [] in worker.calls, "that it fits")
    assert worker.follower.unfit == []
    assert len(worker.noticed("topic.unfit")) == 1


@KAFKA_AWAY
@pytest.mark.usefixtures("quick")
def test_a_broker_that_goes_and_comes_back_costs_no_order(
    own_kafka: EmbeddedKafka, follow: Callable[[KafkaOptions], Worker]
) -> None:
    chosen = of(own_kafka.bootstrap_servers, "control")
    with _admin(own_kafka.bootstrap_servers) as admin:
        admin.create_topics({"control": COMPACTED}, wait_for_metadata=True)
    give(chosen, ONE, order())
    worker = follow(chosen)
    until(lambda: ONE in worker.held, "the order")

    own_kafka.kill()
    until(lambda: worker.refusals.lasting, "that Kafka is away", 60.0)
    own_kafka.start()
    give(chosen, OTHER, order())
    until(lambda: OTHER in worker.held, "the order after it", 60.0)

    until(lambda: not worker.refusals.lasting, "that Kafka is back")
    assert set(worker.held) == {ONE, OTHER}


@contextlib.contextmanager
def _admin(servers: str) -> Iterator[Any]:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        yield admin


def test_a_resume_is_heard_though_the_topic_could_not_be_read_to_its_end_before(
    fit: KafkaOptions, follow: Callable[[KafkaOptions], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right that is taken away and given back, say: what was in force by then is not forgotten on the way."""
    give(fit, ONE, order(OrderState.CANCEL))
    worker = follow(fit)
    until(lambda: ONE in worker.held, "the order")

    with monkeypatch.context() as denied:

        def refuse(*_: object) -> None:
            raise TopicAuthorizationFailedError({fit.control_topic})

        denied.setattr(ControlTopicReader, "poll", refuse)
        until(lambda: len(worker.noticed("control.read_failed")) >= 2, "a reading that failed half-way")
        give(fit, ONE, None)
    until(lambda: len(worker.calls) >= 2, "the topic, read whole again")

    assert worker.held == {}


def test_an_order_that_is_over_is_not_reported_again_when_the_topic_is_read_again(
    fit: KafkaOptions, follow: Callable[[KafkaOptions], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the order that a guard had given for its scope since, and that was not written yet: nobody had decided that."""
    over = Order(OrderState.PAUSED, "a try", "alice", "2026-11-28T03:00:00.000Z", "2026-11-28T04:00:00.000Z")
    give(fit, ONE, over)
    worker = follow(fit)
    until(lambda: worker.calls, "the first report")

    with monkeypatch.context() as denied:

        def refuse(*_: object) -> None:
            raise TopicAuthorizationFailedError({fit.control_topic})

        denied.setattr(ControlTopicReader, "poll", refuse)
        until(lambda: worker.noticed("control.read_failed"), "a reading that failed")
    until(lambda: len(worker.calls) >= 2, "the topic, read whole again")

    assert worker.calls[1:] == [[]]
