# A token server as OpenID providers run them: it gives signed tokens to a client that knows its secret, and the keys to brokers.
#
# It counts what it was asked, and misbehaves as a test says. No test is here, and nothing of the worker's.

from __future__ import annotations

import base64
import json
import tempfile
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, unquote_plus

from tests.openssl import openssl

if TYPE_CHECKING:
    import ssl

CLIENT: Final = "moderation-worker"
SECRET: Final = "s3cret+of/the:client=="
AUDIENCE: Final = "kafka"
ISSUER: Final = "https://identity.example"
SCOPE: Final = "kafka"


@cache
def signing_key() -> tuple[str, str]:
    """A private key in PEM, and its modulus as JWKS spell it; the same for the whole run."""
    pem = openssl("genrsa", "2048").decode()
    modulus = openssl("rsa", "-noout", "-modulus", given=pem.encode()).decode().strip().partition("=")[2]
    return pem, _encoded(bytes.fromhex(modulus))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed_token(lifetime: float, **claims: Any) -> str:
    """A JWT of this issuer, which lives that many seconds from now on."""
    now = int(time.time())
    body = {"iss": ISSUER, "sub": CLIENT, "aud": AUDIENCE, "iat": now, "exp": now + int(lifetime), **claims}
    head = {"alg": "RS256", "typ": "JWT", "kid": "test"}
    text = ".".join(_encoded(json.dumps(part).encode()) for part in (head, body))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as key:
        key.write(signing_key()[0])
        key.flush()
        signature = openssl("dgst", "-sha256", "-sign", key.name, given=text.encode())
    return f"{text}.{_encoded(signature)}"


class TokenServer:
    """
    Listens on a port of this machine. A context manager.

    Attributes:
        secret: What the client must know now.
        lifetime: Seconds for which a token lives.
        answer: Given, this status and body are the answer to everything.
        delay: Seconds until it answers.
        asked: The forms of the requests for a token, in order.
        given: The tokens that were given.

    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.secret = SECRET
        self.lifetime = 3600.0
        self.answer: tuple[int, bytes] | None = None
        self.delay = 0.0
        self.asked: list[dict[str, list[str]]] = []
        self.given: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = {
                    "kty": "RSA",
                    "kid": "test",
                    "alg": "RS256",
                    "use": "sig",
                    "e": "AQAB",
                    "n": signing_key()[1],
                }
                server._reply(self, 200, json.dumps({"keys": [key]}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                server._reply(self, *server._token(body, self.headers.get("Authorization", "")))

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def token_url(self) -> str:
        return f"{self._address}/token"

    @property
    def jwks_url(self) -> str:
        return f"{self._address}/jwks"

    @property
    def _address(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}"

    def _token(self, body: str, authorization: str) -> tuple[int, bytes]:
        form = parse_qs(body)
        self.asked.append(form)
        if self.delay:
            threading.Event().wait(self.delay)
        if self.answer is not None:
            return self.answer
        name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (unquote_plus(name), unquote_plus(secret)) != (CLIENT, self.secret):
            error = {
                "error": "invalid_client",
                "error_description": "Invalid client or Invalid client credentials",
            }
            return 401, json.dumps(error).encode()
        if form.get("grant_type") != ["client_credentials"] or form.get("scope", [SCOPE]) != [SCOPE]:
            return 400, json.dumps({"error": "invalid_scope"}).encode()
        token = signed_token(self.lifetime)
        self.given.append(token)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.lifetime)}
        return 200, json.dumps(answer).encode()

    def _reply(self, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
