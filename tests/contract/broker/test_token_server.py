# Tokens from an OpenID provider: each way in which it can fail has its sentence, in time and without a secret. No Kafka is needed.

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest

from tests.certificate import self_signed
from tests.token_server import CLIENT, SCOPE, SECRET, TokenServer
from worker.broker import access_token_cache, oauth
from worker.broker.access_token_cache import AccessToken, AccessTokenCache
from worker.broker.error_mapping import CredentialError
from worker.broker.oauth import OAuthOptions, fetch_token
from worker.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 20.0


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with TokenServer() as started:
        yield started


def options(url: str, **changes: Any) -> OAuthOptions:
    given: dict[str, Any] = {
        "token_url": url,
        "client_id": CLIENT,
        "client_secret_file": "/etc/kafka/client-secret",
        "read_secret": lambda: SECRET,
        "scope": SCOPE,
    }
    return OAuthOptions(**{**given, **changes})


def failure(given: OAuthOptions) -> CredentialError:
    with pytest.raises(CredentialError) as raised:
        fetch_token(given)
    assert SECRET not in str(raised.value)
    return raised.value


def test_a_token_is_asked_for_as_the_standard_says(server: TokenServer) -> None:
    """The secret has a colon, a plus and a slash in it, which are encoded before they are joined."""
    token = fetch_token(options(server.token_url))

    assert server.given == [token.value]
    assert token.lifetime == 3600
    assert server.asked == [{"grant_type": ["client_credentials"], "scope": [SCOPE]}]


def test_without_a_scope_none_is_sent(server: TokenServer) -> None:
    fetch_token(options(server.token_url, scope=None))

    assert server.asked == [{"grant_type": ["client_credentials"]}]


def jwt(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("answer", "lifetime"),
    [
        ({"access_token": "opaque"}, oauth.DEFAULT_LIFETIME),
        ({"access_token": "opaque", "expires_in": "120"}, 120),
        ({"access_token": "opaque", "expires_in": 1e300}, oauth.LONGEST_LIFETIME),
        ({"access_token": "opaque", "expires_in": True}, oauth.DEFAULT_LIFETIME),
        ({"access_token": "a.b.c"}, oauth.DEFAULT_LIFETIME),
        ({"access_token": jwt(exp=time.time() + 9_000)}, 9_000),
        ({"access_token": jwt(exp=10**400)}, oauth.LONGEST_LIFETIME),
        ({"access_token": "opaque", "token_type": "bearer", "expires_in": 60.5}, 60.5),
    ],
)
def test_how_long_a_token_lives_is_what_the_server_says_or_the_token(
    server: TokenServer, answer: dict[str, object], lifetime: float
) -> None:
    server.answer = (200, json.dumps(answer).encode())

    assert fetch_token(options(server.token_url)).lifetime == pytest.approx(
        lifetime, abs=600 if lifetime == 9_000 else 0
    )


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"{}", "put the right secret into /etc/kafka/client-secret"),
        (400, b'{"error": "invalid_client"}', "put the right secret into /etc/kafka/client-secret"),
        (400, b'{"error": "unauthorized_client"}', "allow this client the client credentials grant"),
        (400, b'{"error": "invalid_scope", "error_description": "no such scope"}', "no such scope.*kafka.oauth.scope"),
        (302, b"", "HTTP 302.*set kafka.oauth.token_url"),
        (404, b"<html>", "HTTP 404.*set kafka.oauth.token_url"),
        (503, b"", "HTTP 503.*asks again"),
        (429, b"", "HTTP 429.*asks again"),
        (200, b"<html>", "something else than JSON"),
        (200, b"[" * 100_000, "something else than JSON"),
        (200, b"\xff\xfe", "something else than JSON"),
        (200, b"[]", "something else than JSON"),
        (200, b"{}", "no access_token"),
        (200, b'{"access_token": 7}', "no access_token"),
        (200, b'{"access_token": "two words"}', "characters that no token has"),
        (200, b'{"access_token": "a\\u0001b"}', "characters that no token has"),
        (200, json.dumps({"access_token": "x" * 70_000}).encode(), "too long"),
        (200, b'{"access_token": "t", "token_type": "mac"}', "no bearer token"),
        (200, b'{"access_token": "t", "expires_in": 0}', "has expired already"),
        (200, b'{"access_token": "t", "expires_in": NaN}', "has expired already"),
        (200, json.dumps({"access_token": jwt(exp=1)}).encode(), "has expired already"),
        (200, b" " * (oauth.ANSWER_BYTES + 1), "more than 131,072 bytes"),
    ],
)  # fmt: skip
def test_an_answer_without_a_token_is_explained_with_its_remedy(
    server: TokenServer, status: int, body: bytes, says: str
) -> None:
    server.answer = (status, body)

    error = failure(options(f"{server.token_url}?tenant=secretive"))

    assert error.kind == "token"
    assert re.search(says, str(error)), str(error)
    assert "secretive" not in str(error)


def test_a_description_that_repeats_what_was_sent_shows_no_secret(server: TokenServer) -> None:
    """The description is shown by `check` and /readyz, which know no secret."""
    header = base64.b64encode(f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}".encode()).decode()
    said = f"wrong secret {SECRET} ({quote_plus(SECRET)}) in Basic {header}"
    server.answer = (401, json.dumps({"error": "invalid_client", "error_description": said}).encode())

    text = str(failure(options(server.token_url)))

    assert "wrong secret [redacted]" in text
    assert quote_plus(SECRET) not in text
    assert header[:-4] not in text


def test_a_description_is_cut_and_shows_no_key_and_no_control_characters(server: TokenServer) -> None:
    key = "3f9a5c0d1b7e48266a0cf2d98e4b71535d27c1e80fa6b394862de0475c1b9fa8"
    said = f"\x1b[31m bad {key} " + "x" * 10_000
    server.answer = (400, json.dumps({"error": "\x1b[0m", "error_description": said}).encode())

    text = str(failure(options(server.token_url)))

    assert "\x1b" not in text
    assert key not in text
    assert len(text) < 600


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://token-server.invalid/token", "name of the token server http://token-server.invalid/token cannot be resolved"),
        ("http://127.0.0.1:1/token", "cannot be reached \\(Connection refused\\)"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_reached_is_named(url: str, says: str) -> None:
    assert re.search(says, str(failure(options(url))))


def test_a_secret_that_cannot_be_read_is_reported_with_its_file(server: TokenServer) -> None:
    def unreadable() -> str:
        raise FileError("/etc/kafka/client-secret: no such file or directory")

    error = failure(options(server.token_url, read_secret=unreadable))

    assert error.kind == "secret"
    assert "/etc/kafka/client-secret: no such file" in error.reason
    assert server.asked == []


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n{"])
def test_a_server_that_says_no_more_is_given_up(monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    """Whether it is silent, or sends a byte now and then: the deadline is for all of the answer."""
    monkeypatch.setattr(oauth, "DEADLINE_SECONDS", 0.5)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(words)
                while not ended.wait(0.1):
                    try:
                        connection.sendall(b"x" if words else b"")
                    except OSError:
                        return

        dripping = threading.Thread(target=drip)
        dripping.start()
        began = time.monotonic()
        error = failure(options(f"http://127.0.0.1:{listener.getsockname()[1]}/token"))
        ended.set()
        dripping.join()

    assert time.monotonic() - began < 2
    assert "has not answered within 0.5 s" in str(error)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    certificate, key = self_signed("/CN=localhost", "subjectAltName=IP:127.0.0.1")
    (tmp_path / "key").write_text(key)
    (tmp_path / "ca.crt").write_text(certificate)
    return tmp_path / "ca.crt"


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[TokenServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key"))
    with TokenServer(context) as started:
        yield started


def test_a_company_s_own_authority_is_trusted_if_it_is_given(
    tls_server: TokenServer, certificate: Path
) -> None:
    token = fetch_token(options(tls_server.token_url, ca_file=str(certificate)))
    error = failure(options(tls_server.token_url))

    assert tls_server.given == [token.value]
    assert "certificate of the token server" in error.reason
    assert "kafka.oauth.ca_file" in error.remedy


def test_an_authority_that_is_none_is_reported_and_trusted_again_once_it_is_mended(
    tls_server: TokenServer, certificate: Path
) -> None:
    whole = certificate.read_text()
    given = options(tls_server.token_url, ca_file=str(certificate))
    certificate.write_text("no certificate")

    error = failure(given)
    certificate.write_text(whole)

    assert str(certificate) in error.reason
    assert fetch_token(given).lifetime == 3600


# The cache


class Source:
    """Gives tokens that are numbered, or what a test says."""

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.lifetime = lifetime
        self.count = 0
        self.failure: CredentialError | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self) -> AccessToken:
        self.may_answer.wait(PATIENCE)
        self.count += 1
        if self.failure is not None:
            raise self.failure
        return AccessToken(f"token-{self.count}", self.lifetime)


def asked(cache: AccessTokenCache) -> str:
    cache.request().result(PATIENCE)
    return cache.token()


def test_one_token_serves_all_connections_until_most_of_its_life_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, now = Source(100.0), [1000.0]
    monkeypatch.setattr("worker.broker.access_token_cache.time.monotonic", lambda: now[0])
    cache = AccessTokenCache(source)

    first = [asked(cache) for _ in range(3)]
    now[0] += 79.0
    late = asked(cache)
    now[0] += 2.0

    assert {*first, late} == {"token-1"}
    assert asked(cache) == "token-2"


def test_an_old_token_serves_to_its_end_while_no_new_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    source, now = Source(100.0), [1000.0]
    monkeypatch.setattr("worker.broker.access_token_cache.time.monotonic", lambda: now[0])
    cache = AccessTokenCache(source)
    asked(cache)
    source.failure = CredentialError("token", "the server is away", "wait")

    now[0] += 99.0
    still = asked(cache)
    now[0] += 2.0

    assert still == "token-1"
    with pytest.raises(CredentialError, match="the server is away"):
        asked(cache)


def test_many_who_ask_at_once_cause_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    source, now = Source(), [1000.0]
    monkeypatch.setattr("worker.broker.access_token_cache.time.monotonic", lambda: now[0])
    source.may_answer.clear()
    cache = AccessTokenCache(source)

    waiting = [cache.request() for _ in range(5)]
    with pytest.raises(CredentialError, match="no token has come yet"):
        cache.token()
    source.may_answer.set()
    for each in waiting:
        each.result(PATIENCE)
    source.failure = CredentialError("token", "away", "wait")
    cache.discard()
    failed = [cache.request().result(PATIENCE) for _ in range(5)]

    assert source.count == 2
    assert len(failed) == 5
    now[0] += access_token_cache.RETRY_SECONDS
    source.failure = None
    assert asked(cache) == "token-3"


def test_a_token_that_was_refused_is_not_used_again() -> None:
    cache = AccessTokenCache(Source())
    first = asked(cache)

    cache.discard()

    assert (first, asked(cache)) == ("token-1", "token-2")


def test_each_new_token_is_hidden_from_logs_before_it_is_used() -> None:
    learned: list[str] = []
    cache = AccessTokenCache(Source(), {"logicalCluster": "lkc-1"}, learned.append)

    token = asked(cache)

    assert learned == [token]
    assert token not in repr(cache)
    assert cache.extensions() == {"logicalCluster": "lkc-1"}


def test_whatever_a_library_raises_ends_the_wait() -> None:
    def broken() -> AccessToken:
        raise RuntimeError("secret")

    cache = AccessTokenCache(broken)

    with pytest.raises(CredentialError, match="no token: RuntimeError") as raised:
        asked(cache)
    assert "secret" not in str(raised.value)


class OneThreadShort:
    """A machine that gives no thread the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        start = threading.Thread.start

        def fails_once(thread: threading.Thread) -> None:
            self.asked += 1
            if self.asked == 1:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", fails_once)


def test_a_token_that_no_thread_could_fetch_is_fetched_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_token_cache, "RETRY_SECONDS", 0.0)
    OneThreadShort(monkeypatch)
    cache = AccessTokenCache(lambda: AccessToken("secret", 60.0))

    cache.request().result(PATIENCE)
    with pytest.raises(CredentialError, match="RuntimeError"):
        cache.token()
    cache.request().result(PATIENCE)

    assert cache.token() == "secret"


def test_connections_that_fail_for_want_of_a_token_are_kept_by_nobody() -> None:
    """An error that is raised again keeps the frames of each place where it was."""
    cache = AccessTokenCache(lambda: AccessToken("secret", 60.0))
    seen = []
    for _ in range(3):
        with pytest.raises(CredentialError) as raised:
            cache.token()
        seen.append(len(list(traceback.walk_tb(raised.value.__traceback__))))

    assert len(set(seen)) == 1
