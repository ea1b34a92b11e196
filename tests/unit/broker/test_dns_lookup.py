# Which names are looked up for a connection to a broker, and what kafka-python is given instead of them.

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from kafka import errors
from kafka.net.inet import KafkaNetSocket

from worker.broker import dns_lookup
from worker.broker.dns_lookup import PROXY_SCHEMES, UNUSABLE, connect, in_words

if TYPE_CHECKING:
    from concurrent.futures import Future

ADDRESSES = {"broker.test": ["10.0.0.1", "10.0.0.2"], "proxy.test": ["10.0.0.8", "fd00::8"]}


class Connections:
    """What kafka-python was asked to connect to, each with the way; only ``takes`` takes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes: tuple[str, str | None] | None = None) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.looked_up: list[str] = []
        self.takes = takes
        self.answers = True
        monkeypatch.setattr(dns_lookup, "create_connection", self._connect)
        monkeypatch.setattr(dns_lookup, "done_within", self._done)
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    async def _connect(self, _: Any, host: str, __: int, ___: Any, way: str | None, ____: Any) -> str:
        self.asked.append((host, way))
        if (host, way) != self.takes:
            raise errors.KafkaConnectionError("refused")
        return "a socket"

    async def _done(self, _: Any, future: Future[Any], __: float) -> bool:
        if self.answers:
            future.exception(10)
        return self.answers

    def _resolve(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.looked_up.append(host)
        if host not in ADDRESSES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in ADDRESSES[host]]


def connected(host: str, proxy_url: str | None = None) -> Any:
    return asyncio.run(connect(None, host, 9092, (), proxy_url))


def test_the_first_address_of_a_broker_that_takes_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = Connections(monkeypatch, takes=("10.0.0.2", None))

    assert connected("broker.test") == "a socket"
    assert connections.asked == [("10.0.0.1", None), ("10.0.0.2", None)]


def test_the_name_of_a_proxy_is_looked_up_here_and_the_brokers_by_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kafka-python looked it up on its I/O thread, where heartbeats run."""
    last = ("broker.test", "http://us%40er:pass@[fd00::8]:3128")
    connections = Connections(monkeypatch, takes=last)

    assert connected("broker.test", "http://us%40er:pass@proxy.test:3128") == "a socket"
    assert connections.asked == [("broker.test", "http://us%40er:pass@10.0.0.8:3128"), last]
    assert connections.looked_up == ["proxy.test"]


def test_a_proxy_that_wants_the_brokers_address_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = Connections(monkeypatch, takes=("10.0.0.1", "socks5://10.0.0.8:1080"))

    assert connected("broker.test", "socks5://proxy.test:1080") == "a socket"
    assert sorted(connections.looked_up) == ["broker.test", "proxy.test"]


def test_addresses_are_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = Connections(monkeypatch, takes=("::1", "socks5://[::1]:1080"))

    assert connected("::1", "socks5://[::1]:1080") == "a socket"
    assert connections.looked_up == []


@pytest.mark.parametrize(
    ("proxy", "answers", "words"),
    [
        (None, True, "its name cannot be resolved"),
        (None, False, "its name is not resolved in time"),
        ("http://nowhere.test:3128", True, "the proxy's name cannot be resolved"),
        ("socks5h://nowhere.test:3128", False, "the proxy's name is not resolved in time"),
    ],
)
def test_the_error_says_which_name_it_was(
    monkeypatch: pytest.MonkeyPatch, proxy: str | None, answers: bool, words: str
) -> None:
    Connections(monkeypatch).answers = answers

    with pytest.raises(errors.KafkaConnectionError) as raised:
        connected("nowhere.test", proxy)

    assert in_words(raised.value) == words


@pytest.mark.parametrize(
    "proxy",
    [
        "//user:hunter2secret@localhost:1",
        "user:hunter2secret@localhost:1",
        "socks4://user:hunter2secret@localhost:1",
        "http://user:hunter2secret@:1",
        "http://user:hunter2secret@localhost",
        "http://user:hunter2secret@localhost:0",
        "http://user:hunter2secret@localhost:99999",
        "http://user:hunter2secret@localhost:abc",
        "http://user:hunter2secret/x@localhost:1",
        "http://user:hunter2secret@[localhost:1",
        "",
    ],
)
def test_a_proxys_url_that_is_not_usable_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """kafka-python repeated it with the address in it, which is no text that the logs know as a secret."""
    connections = Connections(monkeypatch)

    with pytest.raises(errors.KafkaConnectionError) as raised:
        connected("broker.test", proxy)

    assert in_words(raised.value) == UNUSABLE
    assert "hunter2" not in f"{raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"
    assert not connections.asked
    assert not connections.looked_up


def test_the_kinds_of_proxies_are_those_of_kafka_python() -> None:
    assert KafkaNetSocket._registry.keys() == PROXY_SCHEMES
