# A cluster that has IPv6 addresses alone, as the settings name it and as its brokers advertise themselves.

from __future__ import annotations

import socket

import pytest

from tests.contract.broker.kafka_fixture import RealCluster
from worker.broker import topics
from worker.testing.kafka.embedded_kafka import EmbeddedKafka, free_ports

pytestmark = pytest.mark.kafka


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_topics_are_found_at_an_address_in_brackets() -> None:
    (port,) = free_ports(1)
    listeners = f"PLAINTEXT://127.0.0.1:{{broker}},SIX://[::1]:{port},CONTROLLER://127.0.0.1:{{controller}}"
    properties = {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SIX:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
    }
    with EmbeddedKafka(properties=properties) as kafka:
        cluster = RealCluster(kafka.bootstrap_servers)
        report = topics.inspect(cluster.options("a", bootstrap_servers=f"[::1]:{port}"))
        cluster.close()

    assert report.command is not None
    assert report.command.partitions == 2
