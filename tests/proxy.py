# An HTTP proxy as companies run them: it connects whoever knows the password, and keeps a list of who asked for what.
#
# It runs in a thread, on 127.0.0.1, and understands CONNECT alone. No test is here, and nothing of the worker's.

from __future__ import annotations

import base64
import selectors
import socket
import threading
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Final, Self

ENOUGH: Final = 64 * 1024


class Proxy:
    """
    A context manager.

    Attributes:
        credentials: The user:password that it wants now; None for none.
        status: What it answers instead of connecting; 0 to connect.
        asked: The targets of the requests, host:port, in order, refused ones too.
        tunnels: How many connections it has made.
        passed: The bytes that went through it in either direction: the first of each connection's.

    """

    def __init__(
        self, credentials: str | None = None, *, family: socket.AddressFamily = socket.AF_INET
    ) -> None:
        self.credentials = credentials
        self.status = 0
        self.asked: list[str] = []
        self.tunnels = 0
        self.passed = bytearray()
        self._open: set[socket.socket] = set()
        self._lock = threading.Condition()
        proxy = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    proxy._serve(self)

        class Server(ThreadingTCPServer):
            daemon_threads = True
            address_family = family
            request_queue_size = 256

        self._server = Server(("127.0.0.1" if family == socket.AF_INET else "::1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def wait_until_unused(self, deadline: float = 10.0) -> None:
        """Returns when no connection goes through it any more."""
        with self._lock:
            assert self._lock.wait_for(lambda: not self._open, deadline)

    def cut(self) -> None:
        """Ends every connection that goes through it, as a balancer's restart does."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _serve(self, handler: StreamRequestHandler) -> None:
        method, target, _ = handler.rfile.readline(ENOUGH).decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := handler.rfile.readline(ENOUGH).decode("latin-1").strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self.asked.append(target)
        status = self._status(method, headers.get("proxy-authorization", ""))
        if status != 200:
            handler.wfile.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as beyond:
            self.tunnels += 1
            with self._lock:
                self._open.add(handler.connection)
            handler.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            try:
                self._pass(handler.connection, beyond)
            finally:
                with self._lock:
                    self._open.discard(handler.connection)
                    self._lock.notify_all()

    def _status(self, method: str, authorization: str) -> int:
        if self.credentials is not None:
            wanted = base64.b64encode(self.credentials.encode()).decode()
            if authorization != f"Basic {wanted}":
                return 407
        return self.status or (200 if method == "CONNECT" else 405)

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(one, selectors.EVENT_READ, other)
            ready.register(other, selectors.EVENT_READ, one)
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(ENOUGH)  # type: ignore[union-attr]
                    if not data:
                        return
                    if len(self.passed) < 8 * ENOUGH:
                        self.passed += data
                    key.data.sendall(data)
