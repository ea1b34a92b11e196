# A link that is too slow for a transaction: it is reported as too slow, smaller ones pass, and in the end even one large record does.

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from tests.contract.broker.kafka_fixture import RealCluster, outcome_for, record, transaction_of
from tests.contract.broker.links import Link
from worker.domain.contract.dead_letter_encoding import DeadLetter
from worker.domain.effects import OffsetCommit
from worker.domain.publish_results import Aborted, Published
from worker.testing.kafka.embedded_kafka import EmbeddedKafka, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.broker.conftest import Join
    from worker.domain.publish_results import PublishResult

pytestmark = pytest.mark.kafka

BYTES_A_SECOND: Final = 100_000


@pytest.fixture
def cluster() -> Iterator[tuple[RealCluster, str]]:
    slow, port = free_ports(2)
    listeners = "PLAINTEXT://127.0.0.1:{broker},SLOW://127.0.0.1:%d,CONTROLLER://127.0.0.1:{controller}"
    properties = {
        "listeners": listeners % slow,
        "advertised.listeners": listeners % port,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SLOW:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
    }
    with EmbeddedKafka(properties=properties) as kafka:
        link = Link(port, slow, bytes_a_second=BYTES_A_SECOND)
        made = RealCluster(kafka.bootstrap_servers)
        yield made, f"127.0.0.1:{port}"
        made.close()
        link.close()


def test_a_transaction_that_is_too_slow_is_aged_and_one_large_record_passes_at_last(
    cluster: tuple[RealCluster, str], join: Join
) -> None:
    """The same size again would be too slow again, for ever."""
    real, servers = cluster
    member = join(real, bootstrap_servers=servers)
    noise = random.Random(1)
    large = DeadLetter(record(0, 1, noise.randbytes(900_000)), "commands", "commands-0-1", "x", "y")

    small = member.publish(transaction_of([outcome_for(0, 1)], {0: OffsetCommit(2, "")}))
    results: list[PublishResult] = []
    while not results or not isinstance(results[-1], Published):
        assert len(results) < 12
        results.append(member.publish(transaction_of([], {0: OffsetCommit(3, "")}, [large])))

    assert isinstance(small, Published)
    assert isinstance(results[0], Aborted)
    assert results[0].took_too_long
    (letter,) = real.dead_letters()
    assert dict(letter.headers)["x-value-omitted"] == b"900000"
