# What every test may ask for: a real Kafka, and topics of its own on it.
#
# Kafka is started once in each process of the run, and only when a test asks. Where it cannot be had, those tests are
# skipped with the reason; under CI=true they fail. TEST_KAFKA_BOOTSTRAP_SERVERS lets them use another cluster, TEST_KAFKA_LOCK
# another version.

from __future__ import annotations

import gc
import os
import signal
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hypothesis
import pytest
from kafka import KafkaAdminClient

from worker.domain import revocation
from worker.testing.kafka.child_process import ProcessFailedError
from worker.testing.kafka.embedded_kafka import EmbeddedKafka
from worker.testing.kafka.jars import LOCK, FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CLUSTER_VARIABLE: Final = "TEST_KAFKA_BOOTSTRAP_SERVERS"
LOCK_VARIABLE: Final = "TEST_KAFKA_LOCK"
"""The lock file of another version of Kafka (tests/kafka_versions)."""


def pytest_configure() -> None:
    # A busy machine is no fault of the code: where time matters, a test measures it itself.
    hypothesis.settings.register_profile("no deadline", deadline=None)
    hypothesis.settings.load_profile("no deadline")
    # What runs in the background of a shell ignores Ctrl-C, what nohup runs a closed terminal; both hand that on to what they
    # start, and the tests of it would fail.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="module")
def few_members_at_once() -> Iterator[None]:
    """What a partition that goes leaves to its next owner takes many events, as that of a long backlog does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revocation, "MEMBERS_AT_ONCE", 2)
        yield


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running Kafka that all tests share: nobody may stop or pause it."""

    bootstrap_servers: str


@pytest.fixture(scope="session")
def kafka() -> Iterator[Cluster]:
    other = os.environ.get(CLUSTER_VARIABLE)
    if other:
        yield Cluster(other)
        return
    broker = _started_broker()
    yield Cluster(broker.bootstrap_servers)
    broker.stop()


@pytest.fixture
def own_kafka() -> Iterator[EmbeddedKafka]:
    """A broker for one test alone, which may kill, pause and stop it."""
    broker = _started_broker()
    yield broker
    broker.stop()


@pytest.fixture
def fresh_name() -> Callable[[str], str]:
    """Names that no other test uses: ``fresh_name("commands")`` for a topic, a group, an id."""
    return _fresh_name


@pytest.fixture
def make_topic(kafka: Cluster) -> Callable[..., str]:
    """Creates a topic with a fresh name on the shared cluster: ``make_topic("commands", partitions=6, configs={…})``."""

    def make(stem: str, *, partitions: int = 6, configs: Mapping[str, str] | None = None) -> str:
        name = _fresh_name(stem)
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        try:
            spec = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(configs or {})}
            admin.create_topics({name: spec}, wait_for_metadata=True)
        finally:
            admin.close()
        return name

    return make


@pytest.fixture
def collected_sockets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """
    Collects the sockets that kafka-python leaves behind where connections fail, within the test that allows it, and not in
    another's. Log records keep them alive.
    """
    yield
    caplog.clear()
    for phase in ("setup", "call"):
        caplog.get_records(phase).clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _fresh_name(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:12]}"


def _started_broker() -> EmbeddedKafka:
    broker = EmbeddedKafka(lock=Path(os.environ.get(LOCK_VARIABLE, LOCK)))
    try:
        broker.start()
    except (FetchError, ProcessFailedError, OSError) as exc:
        broker.stop()
        if os.environ.get("CI") == "true":
            pytest.fail(f"Kafka cannot be had: {exc}", pytrace=False)
        pytest.skip(f"Kafka cannot be had: {exc}")
    return broker
