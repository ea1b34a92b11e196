# The client's options: apps, regions, and how to make HTTP requests.
#
# Values only, already validated by whoever read the settings. Durations are float seconds.
# Not here: what a signature needs of an app (usersig.py checks it), which settings exist (worker/settings).

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

DAY: Final = 86_400.0

REGIONS: Final[dict[str, str]] = {
    "china": "console.tim.qq.com",
    "singapore": "adminapisgp.im.qcloud.com",
    "seoul": "adminapikr.im.qcloud.com",
    "tokyo": "adminapijpn.im.qcloud.com",
    "frankfurt": "adminapiger.im.qcloud.com",
    "usa": "adminapiusa.im.qcloud.com",
    "jakarta": "adminapiidn.im.qcloud.com",
}
"""Tencent's data centres, each with the host of its REST API (Tencent: RESTful API Overview)."""


def base_url(region: str) -> str:
    """Return the base URL for apps of ``region``. Raises KeyError for an unlisted region."""
    return f"https://{REGIONS[region]}"


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """
    One SDKAppID, with its administrator and its key: either ``secret_key`` or ``secret_key_file``.

    Attributes:
        name: What commands call it.
        identifier: The administrator in whose name calls are made. Any printable characters: it is percent-encoded.
        base_url: Scheme and authority, without a path (``https://console.tim.qq.com``).
        secret_key: The key itself. Never shown.
        secret_key_file: A file that holds the key; it is read again when a signature is refused.
        lifetime: Seconds for which a signature is valid. It is renewed at half of its life, so two days keep the 24 hours
            that Tencent recommends.

    """

    name: str
    sdk_app_id: int
    identifier: str
    base_url: str
    secret_key: str | None = field(default=None, repr=False)
    secret_key_file: Path | None = None
    lifetime: float = 2 * DAY


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """
    How one call and its attempts behave. Durations are seconds.

    Attributes:
        timeout: For one attempt, from asking for a connection to the last byte of the answer. Tencent's own budget for a
            request is 3 s, so it must be longer than that.
        connect_timeout: The part of it for getting a connection (a free one in the pool, or DNS, TCP and TLS).
        max_connections: Of one endpoint of one app. At least as many as permits, else attempts wait for a connection.
        keepalive: How long an idle connection is kept. Shorter than servers and load balancers keep theirs (60 s and
            more), so that no request is written into a connection that the other end has just closed.
        proxy: The HTTP proxy for all connections with TLS, ``http://host:port``; None for none.
        proxy_credentials_file: Its first line is the proxy's user:password.
        ca_file: The authorities to trust instead of the public ones.
        answer_bytes: The longest answer that is read; Tencent's are below 1 KiB.
        first_wait: The mean backoff after the first attempt is half of this; it doubles with each attempt.
        longest_backoff: The longest backoff.
        max_retry_after: The longest that an answer's ``Retry-After`` is honoured.

    """

    timeout: float = 10.0
    connect_timeout: float = 3.0
    max_connections: int = 200
    keepalive: float = 15.0
    proxy: str | None = None
    proxy_credentials_file: str | None = None
    ca_file: str | None = None
    answer_bytes: int = 64 * 1024
    first_wait: float = 0.2
    longest_backoff: float = 10.0
    max_retry_after: float = 60.0
