# OAuth 2.0's client credentials grant (RFC 6749, 4.4): one request to the token server, and every way in which it can fail.
#
# The secret and the authorities are read from their files at each request. Nothing of an answer is shown but its error code
# and description, cut; no proxy is used and no redirect followed, so the secret goes to the configured host alone.
# Not here: how long a token is kept (access_token_cache.py), what the settings may be (worker/settings/kafka_authentication.py).

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from worker.broker.access_token_cache import AccessToken
from worker.broker.error_mapping import CredentialError
from worker.errors import FileError
from worker.redaction import Redaction, without_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from urllib.parse import SplitResult

DEADLINE_SECONDS: Final = 5.0
"""The longest that connecting, TLS, and the request with its answer may take, each."""
ANSWER_BYTES: Final = 128 * 1024
"""The longest answer that is read; a token takes a few thousand bytes."""
TOKEN_CHARACTERS: Final = 64 * 1024
DEFAULT_LIFETIME: Final = 300.0
"""For a server that does not say how long its tokens live, and whose tokens do not say it either."""
LONGEST_LIFETIME: Final = 86_400.0
_END_OF_TIME: Final = 1e11
"""In seconds since 1970: beyond it are only mistakes."""
SHOWN: Final = 160
"""The most characters shown of a server's description of an error."""
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")

_OTHER_URL: Final = "set kafka.oauth.token_url to the server's token endpoint"
_REMEDIES: Final[dict[str, str]] = {
    "invalid_client": "put the right secret into {file}, and the right client into kafka.oauth.client_id",
    "unauthorized_client": "allow this client the client credentials grant at the token server",
    "unsupported_grant_type": "allow the client credentials grant at the token server",
    "invalid_scope": "set kafka.oauth.scope to one that the token server knows for this client",
    "access_denied": "allow this client the client credentials grant at the token server",
}
"""What to do about the errors that RFC 6749 names, and some servers' own."""
_STATUS_REMEDIES: Final[dict[int, str]] = {
    401: _REMEDIES["invalid_client"],
    403: _REMEDIES["access_denied"],
    404: _OTHER_URL,
    405: _OTHER_URL,
    429: "wait, or see who else asks it; the worker asks again",
}


@dataclass(frozen=True, slots=True)
class OAuthOptions:
    """
    How to get a token.

    Attributes:
        client_secret_file: Named in messages; ``read_secret`` reads it.
        read_secret: Returns the secret **now**. Raises FileError, which names the file.
        scope: What is asked for; None leaves it to the server.
        ca_file: The authorities that the token server's certificate must be signed by; None for the system's.
        extensions: SASL extensions that the brokers want beside the token.

    """

    token_url: str
    client_id: str
    client_secret_file: str
    read_secret: Callable[[], str] = field(repr=False, compare=False)
    scope: str | None = None
    ca_file: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)


def fetch_token(options: OAuthOptions) -> AccessToken:
    """Return a new token. Raises CredentialError with the cause and the remedy. Each step is bounded by ``DEADLINE_SECONDS``."""
    url, secret = urlsplit(options.token_url), _secret(options)
    connection = _connection(url, options)
    overdue = threading.Event()
    target = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
    try:
        connection.connect()
        with _cut_after(DEADLINE_SECONDS, connection.sock, overdue):
            connection.request("POST", target, _body(options), _headers(options, secret))
            response = connection.getresponse()
            body = response.read(ANSWER_BYTES + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(TimeoutError() if overdue.is_set() else error, url, options) from error
    finally:
        connection.close()
    if overdue.is_set():  # the answer that was cut looks like one that has ended
        raise _unreachable(TimeoutError(), url, options)
    return _token(response.status, body, url, options, secret)


def _secret(options: OAuthOptions) -> str:
    try:
        return options.read_secret()
    except FileError as error:
        raise CredentialError(
            "secret",
            f"the client's secret cannot be read: {error}",
            "put it there, readable for the worker; the file is read again for each token",
        ) from error


def _connection(url: SplitResult, options: OAuthOptions) -> http.client.HTTPConnection:
    host, port = url.hostname or "", url.port
    if url.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=DEADLINE_SECONDS)
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise _failure(
            f"the authorities in {options.ca_file} cannot be used ({_reason(error)})",
            "put their certificates there, in PEM; the file is read again at each request",
        ) from error
    return http.client.HTTPSConnection(host, port, timeout=DEADLINE_SECONDS, context=context)


@contextmanager
def _cut_after(seconds: float, connected: socket.socket, overdue: threading.Event) -> Iterator[None]:
    """Shut the socket down after that time: its own timeout is for each read, and a server may send a byte now and then."""

    def cut() -> None:
        overdue.set()
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _body(options: OAuthOptions) -> str:
    asked = {"grant_type": "client_credentials"}
    if options.scope is not None:
        asked["scope"] = options.scope
    return urlencode(asked)


def _headers(options: OAuthOptions, secret: str) -> dict[str, str]:
    # Encoded before they are joined, as RFC 6749, 2.3.1 says: a colon or a plus in a secret would be lost otherwise.
    pair = f"{quote_plus(options.client_id)}:{quote_plus(secret)}".encode()
    return {
        "Authorization": f"Basic {base64.b64encode(pair).decode()}",
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "moderation-worker",
        "Connection": "close",
    }


def _unreachable(error: Exception, url: SplitResult, options: OAuthOptions) -> CredentialError:
    where = _where(url)
    if isinstance(error, ssl.SSLCertVerificationError):
        trusted = options.ca_file or "the system's authorities"
        return _failure(
            f"the certificate of the token server {where} is not valid for {trusted} ({_reason(error)})",
            "set kafka.oauth.ca_file to the authority that has signed it",
        )
    if isinstance(error, ssl.SSLError):
        return _failure(
            f"no TLS with the token server {where} ({_reason(error)})", "check kafka.oauth.token_url"
        )
    if isinstance(error, socket.gaierror):
        return _failure(
            f"the name of the token server {where} cannot be resolved",
            "check kafka.oauth.token_url, and the worker's DNS",
        )
    if isinstance(error, TimeoutError):
        return _failure(
            f"the token server {where} has not answered within {DEADLINE_SECONDS:g} s",
            "check that the worker may connect to it; it asks again",
        )
    return _failure(
        f"the token server {where} cannot be reached ({_reason(error)})",
        "check kafka.oauth.token_url, and that the worker may connect to it; it asks again",
    )


def _token(status: int, body: bytes, url: SplitResult, options: OAuthOptions, secret: str) -> AccessToken:
    where = _where(url)
    if len(body) > ANSWER_BYTES:
        raise _failure(f"the token server {where} answers with more than {ANSWER_BYTES:,} bytes", _OTHER_URL)
    answer = _object(body)
    if status != http.client.OK:
        raise _refused(status, answer, url, options, secret)
    if answer is None:
        raise _failure(f"the token server {where} answers with something else than JSON", _OTHER_URL)
    token = answer.get("access_token")
    if not isinstance(token, str) or not token:
        raise _failure(f"the answer of the token server {where} has no access_token", _OTHER_URL)
    if len(token) > TOKEN_CHARACTERS or not _TOKEN.fullmatch(token):
        raise _failure(
            f"the access_token of {where} is too long, or has characters that no token has",
            _OTHER_URL,
        )
    kind = answer.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _failure(f"the token of {where} is no bearer token", "let the token server issue bearer tokens")
    lifetime = _lifetime(answer.get("expires_in"), token)
    if not lifetime > 0:  # NaN as well
        raise _failure(
            f"the token of {where} has expired already", "set the clocks of the server and the worker"
        )
    return AccessToken(token, min(lifetime, LONGEST_LIFETIME))


def _refused(
    status: int, answer: dict[str, Any] | None, url: SplitResult, options: OAuthOptions, secret: str
) -> CredentialError:
    code = (answer or {}).get("error")
    code = code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else None
    remedy = _REMEDIES.get(code or "") or _STATUS_REMEDIES.get(status)
    if remedy is None:
        remedy = "wait for it; the worker asks again" if status >= 500 else _OTHER_URL
    said = (answer or {}).get("error_description")
    words = [f"HTTP {status}", code]
    if isinstance(said, str):
        # Made only here: with a long secret it takes tens of milliseconds.
        redaction = Redaction((secret, quote_plus(secret)))
        words.append(_shown(redaction.clean(said, SHOWN + 1)))
    return _failure(
        f"the token server {_where(url)} gives {_shown(options.client_id)} no token ({', '.join(filter(None, words))})",
        remedy.format(file=options.client_secret_file),
    )


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _lifetime(expires_in: object, token: str) -> float:
    """Return for how many seconds the token is valid: what the server says, else what the token says of itself."""
    if isinstance(expires_in, str) and re.fullmatch(r"[0-9]{1,9}", expires_in):
        expires_in = int(expires_in)
    if isinstance(expires_in, int | float) and not isinstance(expires_in, bool):
        return float(min(expires_in, LONGEST_LIFETIME))
    parts = token.split(".")
    claims = None
    if len(parts) == 3:
        with suppress(ValueError):
            claims = _object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    expires = (claims or {}).get("exp")
    if isinstance(expires, int | float) and not isinstance(expires, bool):
        return float(min(expires, _END_OF_TIME)) - time.time()
    return DEFAULT_LIFETIME


def _where(url: SplitResult) -> str:
    # Without the query, which may hold what is nobody's business.
    return f"{url.scheme}://{url.netloc}{url.path}"


def _reason(error: Exception) -> str:
    said = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    said = said or getattr(error, "strerror", None) or type(error).__name__
    return _shown(str(said))


def _shown(text: str) -> str:
    plain = "".join(character if " " <= character <= "~" else " " for character in text[: SHOWN + 1])
    plain = without_keys(" ".join(plain.split()))
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]}…"


def _failure(reason: str, remedy: str) -> CredentialError:
    return CredentialError("token", reason, remedy)
