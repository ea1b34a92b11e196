# A cache of the access token for OAUTHBEARER: one for all clients of the process, filled in the background.
#
# kafka-python asks for a token on its I/O thread, where heartbeats run, so nothing here ever blocks that thread: `request` starts a
# fetch and returns a future, `token` returns the token that was fetched. Where tokens come from is not here (oauth.py, msk_iam.py).

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from kafka.net.sasl.oauth import AbstractTokenProvider
from msgspec import Struct

from worker.broker.error_mapping import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FRESH: Final = 0.8
"""
The share of its life after which a token is replaced. Brokers ask for the next one when the old one has expired, and
kafka-python sends it after 85 to 95 % of that time.
"""
RETRY_SECONDS: Final = 2.0
"""How long a failure is remembered: many connections ask at once, and a token server may be down."""


class AccessToken(Struct, frozen=True):
    """
    One access token.

    Attributes:
        lifetime: Seconds for which it is valid.

    """

    value: str
    lifetime: float

    def __repr__(self) -> str:
        return f"<AccessToken for {self.lifetime:.0f} s>"


class AccessTokenCache(AbstractTokenProvider):
    """
    The current token, for kafka-python. Threads share one object.

    ``fetch`` returns a new token or raises CredentialError; it may block, and runs on a thread of its own, one at a time.
    ``learn`` is called with each new token, so that logs can hide it.
    """

    def __init__(
        self,
        fetch: Callable[[], AccessToken],
        extensions: Mapping[str, str] | None = None,
        learn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._fetch = fetch
        self._extensions = dict(extensions or {})
        self._learn = learn
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._fetched_at = 0.0
        self._failure: CredentialError | None = None
        self._failed_at = float("-inf")
        self._fetching: Future[None] | None = None

    def __repr__(self) -> str:
        return f"<AccessTokenCache, now {self._token!r}>"

    def request(self) -> Future[None]:
        """Start a fetch if the token is missing or old. Return a future that is done, perhaps at once, when ``token`` can answer."""
        now = time.monotonic()
        with self._lock:
            if self._fetching is not None:
                return self._fetching
            asked: Future[None] = Future()
            if self._is_valid(now, FRESH) or now < self._failed_at + RETRY_SECONDS:
                asked.set_result(None)
                return asked
            self._fetching = asked
        try:
            threading.Thread(target=self._run, args=(asked,), name="kafka-token", daemon=True).start()
        except RuntimeError as error:
            self._end(asked, time.monotonic(), None, _unforeseen(error))
        return asked

    def token(self) -> str:
        """Return the token. Raises CredentialError if there is none: the last failure, or that none has come yet."""
        with self._lock:
            # While no new token can be had, the old one serves to its end.
            if self._token is not None and self._is_valid(time.monotonic(), 1.0):
                return self._token.value
            if self._failure is None:
                raise CredentialError(
                    "token",
                    "no token has come yet",
                    "see why the token server is slow; the worker keeps asking",
                )
            # A new error each time: one that is raised again keeps the frames that it has passed through.
            raise CredentialError(self._failure.kind, self._failure.reason, self._failure.remedy)

    def extensions(self) -> dict[str, str]:
        """Return the SASL extensions that are sent with each token."""
        return self._extensions

    def discard(self) -> None:
        """Forget the token, which a broker has refused: the next connection fetches another one."""
        with self._lock:
            self._token = None

    def _is_valid(self, now: float, share: float) -> bool:
        return self._token is not None and now < self._fetched_at + self._token.lifetime * share

    def _run(self, asked: Future[None]) -> None:
        began = time.monotonic()
        token, failure = None, None
        try:
            token = self._fetch()
            self._learn(token.value)
        except CredentialError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever a library raises, those who wait must hear of it
            failure = _unforeseen(error)
        self._end(asked, began, token, failure)

    def _end(
        self, asked: Future[None], began: float, token: AccessToken | None, failure: CredentialError | None
    ) -> None:
        with self._lock:
            self._fetching = None
            self._failure = failure
            if token is not None:
                self._token, self._fetched_at = token, began
            if failure is not None:
                self._failed_at = time.monotonic()
        asked.set_result(None)


def _unforeseen(error: Exception) -> CredentialError:
    return CredentialError("token", f"no token: {type(error).__name__}", "see the worker's log")
