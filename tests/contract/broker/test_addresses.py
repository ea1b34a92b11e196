# Where brokers are: at IPv6 addresses alone, at a name that leads elsewhere after a while, at a name that nobody resolves in time,
# behind a proxy with such a name.

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.contract.broker.kafka_fixture import RealCluster, until
from tests.contract.broker.links import Link
from tests.proxy import Proxy
from worker.broker import topic_admin
from worker.testing.kafka.embedded_kafka import EmbeddedKafka, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.broker.conftest import Join

pytestmark = pytest.mark.kafka

NAME: Final = "broker.test"
OLD, NEW = "127.0.0.1", "127.0.0.2"
MAPS: Final = "PLAINTEXT:PLAINTEXT,SIX:PLAINTEXT,NAMED:PLAINTEXT,CONTROLLER:PLAINTEXT"


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


class Addressed(RealCluster):
    """
    A broker of its own that has one address in IPv6, and a name, behind a link.

    Attributes:
        six: The address in IPv6.
        named: The name and its port.

    """

    def __init__(self, kafka: EmbeddedKafka, six: int, behind: int, port: int) -> None:
        super().__init__(kafka.bootstrap_servers)
        self.six, self.named = f"[::1]:{six}", f"{NAME}:{port}"
        self._behind, self._port = behind, port

    def link(self, address: str) -> Link:
        return Link(self._port, self._behind, address=address)


@pytest.fixture(scope="module")
def broker() -> Iterator[tuple[EmbeddedKafka, int, int, int]]:
    six, behind, port = free_ports(3)
    of_six = f"SIX://[::1]:{six}," if has_ipv6() else ""
    listeners = (
        f"PLAINTEXT://127.0.0.1:{{broker}},{of_six}NAMED://{{named}},CONTROLLER://127.0.0.1:{{controller}}"
    )
    properties = {
        "listeners": listeners.replace("{named}", f"127.0.0.1:{behind}"),
        "advertised.listeners": listeners.replace("{named}", f"{NAME}:{port}"),
        "listener.security.protocol.map": MAPS,
        "inter.broker.listener.name": "PLAINTEXT",
    }
    with EmbeddedKafka(properties=properties) as kafka:
        yield kafka, six, behind, port


@pytest.fixture
def cluster(broker: tuple[EmbeddedKafka, int, int, int]) -> Iterator[Addressed]:
    made = Addressed(*broker)
    yield made
    made.close()


class Resolver:
    """
    What the system's resolver says of the name of the broker, or of its proxy. While ``answers`` is not set, it says nothing.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = OLD
        self.answers = threading.Event()
        self.answers.set()
        self.waiting = threading.Event()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host: Any, *others: Any, **named: Any) -> Any:
        if host == NAME and not self.answers.is_set():
            self.waiting.set()
            assert self.answers.wait(30)
        return self._real(self.address if host == NAME else host, *others, **named)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver(monkeypatch)
    yield made
    made.answers.set()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_topics_are_found_at_an_address_in_brackets(cluster: Addressed) -> None:
    report = topic_admin.inspect(cluster.options("a", bootstrap_servers=cluster.six))

    assert report.command is not None
    assert report.command.partitions == 2


def test_a_brokers_name_that_has_a_new_address_leads_there_at_once(
    cluster: Addressed, resolver: Resolver, join: Join
) -> None:
    """All clients of a member go on: the records come, and so do the commits."""
    old, new = cluster.link(OLD), cluster.link(NEW)
    member = join(cluster, bootstrap_servers=cluster.named)
    cluster.produce(0, b"before")
    until(lambda: member.values(0), "a record")
    member.publish_for(0, 0)

    resolver.address = NEW
    old.close()
    cluster.produce(0, b"after")
    until(lambda: b"after" in member.values(0), "a record by the new address")
    member.publish_for(0, 1)

    assert member.values(0) == [b"before", b"after"]
    assert cluster.committed(0) == (2, "")
    member.close()
    new.close()


def test_a_resolver_that_hangs_holds_up_no_other_connection(
    cluster: Addressed, resolver: Resolver, join: Join
) -> None:
    """
    Heartbeats run on the same thread as the connections: held up for longer than the session timeout, they would cost the
    membership.
    """
    link = cluster.link(OLD)
    member = join(cluster, bootstrap_servers=cluster.named)
    ran = threading.Event()

    resolver.answers.clear()
    link.close()
    assert resolver.waiting.wait(30)
    member.consumer._consumer._net.call_soon_threadsafe(ran.set)
    went_on = ran.wait(10)
    resolver.answers.set()
    link = cluster.link(OLD)
    cluster.produce(0, b"after")

    assert went_on
    until(lambda: member.values(0), "a record after it")
    member.close()
    link.close()


def test_a_resolver_that_hangs_on_the_name_of_a_proxy_holds_up_no_other_connection(
    cluster: Addressed, resolver: Resolver, join: Join
) -> None:
    with Proxy() as way:
        url = way.url.replace(OLD, NAME)
        member = join(cluster, common={"proxy_url": url})
        ran = threading.Event()

        resolver.answers.clear()
        way.cut()
        assert resolver.waiting.wait(30)
        member.consumer._consumer._net.call_soon_threadsafe(ran.set)
        went_on = ran.wait(10)
        resolver.answers.set()
        cluster.produce(0, b"after")

        assert went_on
        until(lambda: member.values(0), "a record after it")
        member.close()
