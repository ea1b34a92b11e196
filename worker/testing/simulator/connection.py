# One connection: bytes in, requests to the desk or to the control, answers out in the order of the requests.
#
# The stamp of a request is taken here, where its bytes are read from the socket. Nothing is decided here.

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, cast

from worker.testing.simulator.auth import ApiRequest
from worker.testing.simulator.decision import ExchangeEnd
from worker.testing.simulator.http1 import CONTINUE, Parser, Unreadable, answer, query_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.testing.simulator.executor import Executor
    from worker.testing.simulator.http1 import HttpRequest

API: Final = "/v4/"
CONTROL: Final = "/__control"

MAX_PIPELINED: Final = 64
"""Requests of one connection that may wait for their answers; the rest waits in the socket."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset instead of an orderly end."""

_HTML: Final = "text/html"


class Controls(Protocol):
    """Answers requests to the control."""

    def answer(self, request: HttpRequest) -> tuple[int, bytes]:
        """An HTTP status and a JSON body."""


class _AnswerSlot:
    """The place of one answer on its connection."""

    __slots__ = ("_connection", "keep_alive", "payload", "status", "then", "way")

    def __init__(self, connection: Connection, *, keep_alive: bool) -> None:
        self._connection = connection
        self.keep_alive = keep_alive
        self.way: ExchangeEnd | None = None
        self.status: int | None = None
        self.payload = b""
        self.then: Callable[[], None] | None = None

    def end(self, way: ExchangeEnd, status: int | None, payload: bytes) -> bool:
        self.way, self.status, self.payload = way, status, payload
        return self._connection.ended()

    def when_gone(self, then: Callable[[], None]) -> None:
        if self._connection.is_gone:
            then()
        else:
            self.then = then


class Connection(asyncio.Protocol):
    """
    One caller's connection.

    Attributes:
        is_gone: It is closed.
        is_control: It has carried nothing but requests to the control.

    """

    def __init__(
        self, desk: Executor, control: Controls, clock: Callable[[], float], all_open: set[Connection]
    ) -> None:
        self.is_gone = False
        self.is_control = True
        self._desk = desk
        self._control = control
        self._clock = clock
        self._all_open = all_open
        self._parser = Parser()
        self._slots: deque[_AnswerSlot] = deque()
        self._is_reading = True
        self._is_taking = False
        self._can_write = True
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<Connection {len(self._slots)} waiting{' gone' if self.is_gone else ''}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The caller is here."""
        self._transport = cast("asyncio.Transport", transport)
        self._all_open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        """The caller has gone."""
        self.is_gone = True
        self._transport = None  # else the two hold each other until a garbage collection
        self._all_open.discard(self)
        slots, self._slots = self._slots, deque()
        for slot in slots:
            if slot.then is not None:
                slot.then()

    def data_received(self, data: bytes) -> None:
        """Bytes were read: this is the moment that the quota counts."""
        at = self._clock()
        self._parser.feed(data)
        self._read_on(at)

    def pause_writing(self) -> None:
        """The caller does not take its answers: read no more of its requests."""
        self._can_write = False

    def resume_writing(self) -> None:
        """The caller takes its answers again."""
        self._can_write = True
        self._read_on(self._clock())

    def reset(self) -> None:
        """End the connection with a reset, whatever is under way."""
        if self._transport is None or self.is_gone:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def ended(self) -> bool:
        """A slot has its end: write what can be written. False when the caller has gone."""
        if self.is_gone or self._transport is None or self._transport.is_closing():
            return False
        self._write_out(self._transport)
        if not self._is_reading and not self._is_taking:
            self._read_on(self._clock())
        return True

    def _read_on(self, at: float) -> None:
        while self._can_write and len(self._slots) < MAX_PIPELINED and not self.is_gone:
            item = self._parser.next()
            if item is None:
                if self._parser.wants_continue and self._transport is not None:
                    self._parser.wants_continue = False
                    self._transport.write(CONTINUE)
                self._set_reading(wanted=True)
                return
            self._is_taking = True  # an answer given at once must not read on from inside this loop
            self._take(item, at)
            self._is_taking = False
        self._set_reading(wanted=False)

    def _set_reading(self, *, wanted: bool) -> None:
        if self._transport is None or self._transport.is_closing() or wanted == self._is_reading:
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _take(self, item: HttpRequest | Unreadable, at: float) -> None:
        if isinstance(item, Unreadable):
            slot = self._slot(keep_alive=False)
            slot.end(ExchangeEnd.ANSWER, item.status, f'{{"error":"{item.message}"}}'.encode())
            return
        slot = self._slot(keep_alive=item.keep_alive)
        if item.path.startswith(API):
            self.is_control = False
            request = ApiRequest(item.method, item.path.removeprefix(API), query_of(item.query), item.body)
            self._desk.take(request, at, slot)
        elif item.path.startswith(CONTROL):
            slot.end(ExchangeEnd.ANSWER, *self._control.answer(item))
        else:
            slot.end(
                ExchangeEnd.ANSWER, 404, b'{"error":"there is only /v4/<service>/<command>, and /__control"}'
            )

    def _slot(self, *, keep_alive: bool) -> _AnswerSlot:
        slot = _AnswerSlot(self, keep_alive=keep_alive)
        self._slots.append(slot)
        return slot

    def _write_out(self, transport: asyncio.Transport) -> None:
        while self._slots and self._slots[0].way is not None:
            slot = self._slots.popleft()
            match slot.way:
                case ExchangeEnd.ANSWER:
                    transport.write(_answer(slot))
                case ExchangeEnd.CUT:
                    whole = _answer(slot)
                    transport.write(whole[: len(whole) - len(slot.payload) // 2])
                case ExchangeEnd.RESET:
                    self.reset()
                    return
                case _:
                    pass
            if slot.way is not ExchangeEnd.ANSWER or not slot.keep_alive:
                transport.close()
                return


def _answer(slot: _AnswerSlot) -> bytes:
    status = slot.status or 200
    content_type = _HTML if slot.payload.startswith(b"<") else "application/json"
    return answer(status, slot.payload, content_type=content_type, keep_alive=slot.keep_alive)
