# Links between a client and a broker: as slow as a test wants them, and cut when it says so.

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Final

PIECE: Final = 5_000
"""Bytes that are passed on at once."""


class Link:
    """Forward what arrives at ``address`` and ``port`` to the broker's port: at most at ``bytes_a_second``; back at once."""

    def __init__(
        self, port: int, broker: int, *, address: str = "127.0.0.1", bytes_a_second: float = float("inf")
    ) -> None:
        self._broker = broker
        self._pause = PIECE / bytes_a_second
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server((address, port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut every connection, and take no more."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):  # it is closed already
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
                far = socket.socket()
                self._ends += [near, far]
                far.connect(("127.0.0.1", self._broker))
                for source, sink, pause in ((near, far, self._pause), (far, near, 0.0)):
                    threading.Thread(target=_pump, args=(source, sink, pause), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, pause: float) -> None:
    with contextlib.suppress(OSError), source, sink:
        while piece := source.recv(PIECE):
            sink.sendall(piece)
            time.sleep(pause * len(piece) / PIECE)
        sink.shutdown(socket.SHUT_WR)
