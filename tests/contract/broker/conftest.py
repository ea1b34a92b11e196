# The broker package on a real Kafka and in memory: one suite for both.

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.broker.kafka_fixture import Member, MemoryCluster, RealCluster, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster as Running
    from tests.contract.broker.kafka_fixture import Cluster

Join = Callable[..., Member]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Both kinds. A test that asks for it holds for the fake and for the real one."""
    if request.param == "memory":
        made: Cluster = MemoryCluster()
    else:
        running: Running = request.getfixturevalue("kafka")
        made = RealCluster(running.bootstrap_servers)
    yield made
    made.close()


@pytest.fixture
def real_cluster(kafka: Running) -> Iterator[RealCluster]:
    made = RealCluster(kafka.bootstrap_servers)
    yield made
    made.close()


def pytest_itemcollected(item: pytest.Item) -> None:
    """kafka-python leaves to the garbage collector the socket of a connection that fails, or is being made when it closes."""
    if item.path.is_relative_to(Path(__file__).parent):
        item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(autouse=True)
def _collected(collected_sockets: None) -> None:
    pass


@pytest.fixture
def members() -> Iterator[list[Member]]:
    made: list[Member] = []
    yield made
    for member in made:
        member.close()


@pytest.fixture
def join(members: list[Member]) -> Join:
    """A member that has joined: ``join(cluster, "a", owns=(0, 1), batch_records=10)``."""

    def joined(
        cluster: Cluster,
        name: str = "a",
        *,
        owns: tuple[int, ...] | None = (0, 1),
        begins: bool = True,
        takes: bool = True,
        **changes: Any,
    ) -> Member:
        member = Member(cluster, cluster.options(name, **changes))
        member.begins = begins
        member.takes = takes
        members.append(member)
        member.start()
        if owns is not None:
            until(lambda: member.owns(*owns), f"{name} owns {owns}")
            if begins:
                until(lambda: member.consumer.claim(owns) is not None, f"{name} has begun {owns}")
        return member

    return joined
