# Where a broker, or the proxy on the way to it, is: its name is looked up again for each connection, off kafka-python's I/O thread.
#
# kafka-python asks the resolver on that thread, where heartbeats run: a DNS that hangs for longer than the session timeout would cost
# the membership, although every connection is sound. Nothing that was found is kept, so a name that has changed leads the next
# connection to its new address. Not here: what a failure means (kafka_private_parts.py), the threads (name_lookup.py).

from __future__ import annotations

import ipaddress
import time
from itertools import product
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from kafka import errors
from kafka.net.inet import create_connection

from worker.broker.secured_connection import done_within
from worker.name_lookup import NameLookups

if TYPE_CHECKING:
    from urllib.parse import SplitResult

ITS: Final = "its name"
PROXYS: Final = "the proxy's name"
UNUSABLE: Final = "the proxy's URL is not usable"
PROXY_SCHEMES: Final = frozenset({"http", "socks5", "socks5h"})
"""The kinds of proxies that kafka-python supports (a test compares)."""
UNKNOWN: Final = "cannot be resolved"
LATE: Final = "is not resolved in time"
LOOKUP_SECONDS: Final = 10.0
"""How long a connection without a deadline of its own waits: as long as kafka-python waits for TCP."""
WANTS_ADDRESS: Final = "socks5"
"""The scheme of a proxy to which kafka-python gives the broker's address; the others get its name."""
LOOKUPS: Final = NameLookups("kafka-names")


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

    Raises KafkaConnectionError. On the way through a proxy, it is the proxy's name that is looked up here, and that of the broker only
    if the proxy wants its address.
    """
    proxy = None if proxy_url is None else _usable(proxy_url)
    ways: list[str | None] = [None]
    if proxy is not None:
        addresses = await _addresses(net, proxy.hostname or "", PROXYS, timeout_at)
        ways = [_with_host(proxy, address) for address in addresses]
    hosts = [host]
    if proxy is None or proxy.scheme == WANTS_ADDRESS:
        hosts = await _addresses(net, host, ITS, timeout_at)
    failure = errors.KafkaConnectionError(f"{ITS} {UNKNOWN}")
    for way, destination in product(ways, hosts):
        try:
            return await create_connection(net, destination, port, socket_options, way, timeout_at)
        except errors.KafkaConnectionError as error:
            failure = error
    raise failure


async def _addresses(net: Any, host: str, whose: str, timeout_at: float | None) -> list[str]:
    if _is_address(host):
        return [host]
    asked = LOOKUPS.addresses(host)
    seconds = LOOKUP_SECONDS if timeout_at is None else timeout_at - time.monotonic()
    if not await done_within(net, asked, max(0.0, seconds)):
        raise errors.KafkaConnectionError(f"{whose} {LATE}")
    try:
        return asked.result()
    except OSError as error:
        raise errors.KafkaConnectionError(f"{whose} {UNKNOWN}") from error


def _usable(proxy_url: str) -> SplitResult:
    """
    Return the parts of a proxy's URL. Raises KafkaConnectionError, which shows nothing of it, unless it has all that is needed.

    The file that holds the URL may have changed since the start, and kafka-python repeats a URL that it refuses, password and all.
    """
    try:
        proxy = urlsplit(proxy_url)
        if proxy.scheme in PROXY_SCHEMES and proxy.hostname and proxy.port:
            return proxy
    except ValueError:
        pass  # its text would show a part of the URL, which may be the password
    raise errors.KafkaConnectionError(UNUSABLE)


def _with_host(proxy: SplitResult, address: str) -> str:
    """Return the proxy's URL with this address instead of its name."""
    user, at, _ = proxy.netloc.rpartition("@")
    place = f"[{address}]" if ":" in address else address
    return f"{proxy.scheme}://{user}{at}{place}:{proxy.port}"


def in_words(error: BaseException) -> str:
    """Return why a connection could not be made, for an operator."""
    return next((words for words in _WORDS if words in str(error)), str(error))


_WORDS: Final = (UNUSABLE, *(f"{whose} {what}" for whose, what in product((ITS, PROXYS), (UNKNOWN, LATE))))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
