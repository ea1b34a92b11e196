# HTTP/1.1 as far as the simulator needs it: bytes -> requests, and an answer -> bytes. Values only, no socket.
#
# It understands keep-alive, pipelining and bodies with a Content-Length, in whatever pieces they arrive. Chunked bodies
# are refused with 411: no client of a JSON API with a known body needs them.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

MAX_HEAD: Final = 32 * 1024
"""Bytes of request line and headers; a UserSig in the URL has some 300."""
MAX_BODY: Final = 1024 * 1024
"""Bytes; the largest honest body is below 3 KiB."""

_REASONS: Final = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 411: "Length Required",
    413: "Content Too Large", 431: "Request Header Fields Too Large", 502: "Bad Gateway",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """
    One request as read. ``query`` is raw (each byte a character) and may hold a UserSig: never log it.

    Attributes:
        keep_alive: Whether the client wants to reuse the connection.
        host: The ``Host`` header, if any.
        origin: The ``Origin`` header, which only a browser sends, if any.

    """

    method: str
    path: str
    query: str = field(repr=False)
    body: bytes = field(repr=False)
    keep_alive: bool
    host: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class UnreadableRequest:
    """Bytes that are no request, or too large a one: the answer has this status, and the connection is closed."""

    status: int
    message: str


class HttpParser:
    """
    Turns pieces of bytes into requests, in order.

    After an UnreadableRequest, and after a request that wants the connection closed (RFC 9112, 9.6), it returns nothing more.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[str, str, str, bool, int, str | None, str | None] | None = None
        self._is_over = False
        self.wants_continue = False

    def __repr__(self) -> str:
        return f"<HttpParser {len(self._buffer)} bytes waiting>"

    def feed(self, data: bytes) -> None:
        """Append bytes read from the connection; once nothing more is returned, drop them."""
        if not self._is_over:
            self._buffer += data

    def end(self) -> None:
        """Return nothing more: what follows is no request of this connection."""
        self._is_over = True
        self.wants_continue = False
        self._buffer.clear()

    def next(self) -> HttpRequest | UnreadableRequest | None:
        """Return the next complete request, or None if more bytes are needed."""
        if self._is_over:
            return None
        if self._head is None:
            head = self._read_head()
            if head is None:
                return None
            if isinstance(head, UnreadableRequest):
                self.end()
                return head
            self._head = head
        method, path, query, keep_alive, length, host, origin = self._head
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        self.wants_continue = False  # nobody waits for it any more: the body is here
        if not keep_alive:
            self.end()
        return HttpRequest(method, path, query, body, keep_alive, host, origin)

    def _read_head(
        self,
    ) -> tuple[str, str, str, bool, int, str | None, str | None] | UnreadableRequest | None:
        while self._buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request are ignored
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            return (
                UnreadableRequest(431, f"more than {MAX_HEAD} bytes of headers")
                if len(self._buffer) > MAX_HEAD
                else None
            )
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[1].startswith("/") or parts[2] not in {"HTTP/1.1", "HTTP/1.0"}:
            return UnreadableRequest(400, "no HTTP/1.1 request line")
        method, url, version = parts
        keep_alive, length = version == "HTTP/1.1", 0
        host: str | None = None
        origin: str | None = None
        self.wants_continue = False
        for line in lines[1:]:
            name, _, value = line.partition(":")
            match name.lower():
                case "content-length":
                    value = value.strip()
                    if not (value.isascii() and value.isdigit() and len(value) < 12):
                        return UnreadableRequest(400, "Content-Length is no number")
                    length = int(value)
                case "connection":
                    keep_alive = _keeps(value, keep_alive=keep_alive)
                case "host":
                    host = value.strip()
                case "origin":
                    origin = value.strip()
                case "transfer-encoding":
                    return UnreadableRequest(411, "send a Content-Length: chunked bodies are not understood")
                case "expect":
                    self.wants_continue = value.strip().lower() == "100-continue"
                case _:
                    pass
        if length > MAX_BODY:
            return UnreadableRequest(413, f"more than {MAX_BODY} bytes of body")
        path, _, query = url.partition("?")
        path = path.encode("latin-1").decode("utf-8", "replace")
        return method, path, query, keep_alive, length, host, origin


def _keeps(value: str, *, keep_alive: bool) -> bool:
    tokens = {token.strip() for token in value.lower().split(",")}
    return "close" not in tokens and (keep_alive or "keep-alive" in tokens)


def query_of(raw: str) -> dict[str, str]:
    """
    Parse the query of a URL, as it is in the request. The last of several parameters with one name counts.

    Not every client encodes with per cent what is not ASCII: curl sends UTF-8 as it was typed.
    """
    pairs = (pair.partition("=") for pair in raw.split("&") if pair)
    return {_unquoted(name): _unquoted(value) for name, _, value in pairs}


def _unquoted(part: str) -> str:
    if part.isascii() and "%" not in part and "+" not in part:
        return part
    return unquote_to_bytes(part.replace("+", " ").encode("latin-1")).decode("utf-8", "replace")


def answer(
    status: int, body: bytes, *, content_type: str = "application/json", keep_alive: bool = True
) -> bytes:
    """Encode an answer for the socket."""
    closing = "" if keep_alive else "Connection: close\r\n"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nServer: moderation-worker-simulator\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{closing}\r\n"
    )
    return head.encode("ascii") + body


CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
