# The name of a broker, looked up on a thread of its own for each new connection.
#
# kafka-python asks the resolver on its I/O thread, where heartbeats run: a DNS that hangs for longer than the session timeout
# would cost the membership, although every connection is sound. Nothing that was found is kept, so a name that has changed leads
# the next connection to its new address. Not here: what a failure means (kafka_private_parts.py).

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any, Final

from kafka import errors
from kafka.net.inet import create_connection

from worker.broker.secured_connection import done_within

UNKNOWN: Final = "its name cannot be resolved"
LATE: Final = "its name is not resolved in time"
LOOKUP_SECONDS: Final = 10.0
"""How long a connection without a deadline of its own waits: as long as kafka-python waits for TCP."""


class DnsLookups:
    """The look-ups under way: one thread for a name, however many connections ask for it while the resolver is slow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[list[str]]] = {}

    def __repr__(self) -> str:
        return f"<DnsLookups of {', '.join(self._under_way) or 'nothing'}>"

    def addresses(self, host: str) -> Future[list[str]]:
        """Return a future of the addresses of ``host``; of none if it has none. It may take as long as the resolver does."""
        with self._lock:
            asked = self._under_way.get(host)
            if asked is not None:
                return asked
            asked = self._under_way[host] = Future()
        try:
            threading.Thread(target=self._run, args=(host, asked), name="kafka-names", daemon=True).start()
        except RuntimeError:  # this machine gives no thread now: the next connection asks again
            self._end(host, asked, [])
        return asked

    def _run(self, host: str, asked: Future[list[str]]) -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # no such name, or no name at all
            found = []
        self._end(host, asked, list(dict.fromkeys(str(place[0]) for *_, place in found)))

    def _end(self, host: str, asked: Future[list[str]], addresses: list[str]) -> None:
        with self._lock:
            del self._under_way[host]
        asked.set_result(addresses)


LOOKUPS: Final = DnsLookups()


async def connect(
    net: Any,
    host: str,
    port: int,
    socket_options: Any = (),
    proxy_url: str | None = None,
    timeout_at: float | None = None,
) -> Any:
    """
    Return a socket that is connected to the first address of ``host`` that takes it, as kafka-python's own function does.

    Raises KafkaConnectionError. Through a proxy, the proxy's name is looked up by kafka-python.
    """
    if proxy_url is not None or _is_address(host):
        return await create_connection(net, host, port, socket_options, proxy_url, timeout_at)
    asked = LOOKUPS.addresses(host)
    seconds = LOOKUP_SECONDS if timeout_at is None else timeout_at - time.monotonic()
    if not await done_within(net, asked, max(0.0, seconds)):
        raise errors.KafkaConnectionError(LATE)
    failure = errors.KafkaConnectionError(UNKNOWN)
    for address in asked.result():
        try:
            return await create_connection(net, address, port, socket_options, None, timeout_at)
        except errors.KafkaConnectionError as error:
            failure = error
    raise failure


def in_words(error: BaseException) -> str:
    """Return why a connection could not be made, for an operator."""
    return next((words for words in (UNKNOWN, LATE) if words in str(error)), str(error))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
