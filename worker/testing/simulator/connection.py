# One connection: bytes in, requests to the executor or to the control, answers out in the order of the requests.
#
# A request gets its timestamp here, where its bytes are read from the socket. Nothing is decided here.

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from worker.testing.simulator.auth import ApiRequest
from worker.testing.simulator.decision import ExchangeEnd
from worker.testing.simulator.http1 import CONTINUE, HttpParser, UnreadableRequest, answer, query_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.testing.simulator.admin import AdminApi
    from worker.testing.simulator.http1 import HttpRequest
    from worker.testing.simulator.reaction_executor import ReactionExecutor

API: Final = "/v4/"
CONTROL: Final = "/__control"

MAX_PIPELINED: Final = 64
"""Requests of one connection that may await their answers; further ones wait in the socket."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a timeout of zero: closing sends a reset instead of a FIN."""

_HTML: Final = "text/html"


class _PipelineSlot:
    """The place of one answer on its connection."""

    __slots__ = ("_connection", "exchange_end", "keep_alive", "on_close", "payload", "status")

    def __init__(self, connection: Connection, *, keep_alive: bool) -> None:
        self._connection = connection
        self.keep_alive = keep_alive
        self.exchange_end: ExchangeEnd | None = None
        self.status: int | None = None
        self.payload = b""
        self.on_close: Callable[[], None] | None = None

    def end(self, exchange_end: ExchangeEnd, status: int | None, payload: bytes) -> bool:
        self.exchange_end, self.status, self.payload = exchange_end, status, payload
        return self._connection.write_ready_answers()

    def when_closed(self, callback: Callable[[], None]) -> None:
        if self._connection.is_closed:
            callback()
        else:
            self.on_close = callback


class Connection(asyncio.Protocol):
    """
    One client's connection.

    Attributes:
        is_closed: Whether it is closed.
        is_admin: Whether it has carried only requests to the control.

    """

    def __init__(
        self,
        executor: ReactionExecutor,
        admin: AdminApi,
        clock: Callable[[], float],
        all_open: set[Connection],
    ) -> None:
        self.is_closed = False
        self.is_admin = True
        self._executor = executor
        self._admin = admin
        self._clock = clock
        self._all_open = all_open
        self._parser = HttpParser()
        self._slots: deque[_PipelineSlot] = deque()
        self._is_reading = True
        self._is_serving = False
        self._can_write = True
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<Connection {len(self._slots)} waiting{' closed' if self.is_closed else ''}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the new connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._all_open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        """Unregister the connection and call whatever waits for its end."""
        self.is_closed = True
        self._transport = None  # else the two hold each other until a garbage collection
        self._all_open.discard(self)
        slots, self._slots = self._slots, deque()
        for slot in slots:
            if slot.on_close is not None:
                slot.on_close()

    def data_received(self, data: bytes) -> None:
        """Parse what was read. The quota counts requests by the time of this call."""
        at = self._clock()
        self._parser.feed(data)
        self._read_on(at)

    def pause_writing(self) -> None:
        """Stop taking requests while the client does not read its answers."""
        self._can_write = False

    def resume_writing(self) -> None:
        """Take requests again."""
        self._can_write = True
        self._read_on(self._clock())

    def reset(self) -> None:
        """Close the connection with a TCP reset, whatever is in flight."""
        if self._transport is None or self.is_closed:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def write_ready_answers(self) -> bool:
        """Write every answer whose turn it is. Return False when the connection is closed."""
        if self._transport is None or self._is_ending():
            return False
        self._write_out(self._transport)
        if not self._is_reading and not self._is_serving:
            self._read_on(self._clock())
        return True

    def _read_on(self, at: float) -> None:
        # What comes after the last request is read and dropped: the client's end must be noticed, and closing a connection with
        # bytes unread would reset it, so that the last answer might be lost.
        while self._can_write and len(self._slots) < MAX_PIPELINED and not self._is_ending():
            item = self._parser.next()
            if item is None:
                if self._parser.wants_continue and self._transport is not None:
                    self._parser.wants_continue = False
                    self._transport.write(CONTINUE)
                self._set_reading(wanted=True)
                return
            # An immediate answer must not re-enter this loop through write_ready_answers().
            self._is_serving = True
            self._take(item, at)
            self._is_serving = False
        self._set_reading(wanted=False)

    def _is_ending(self) -> bool:
        return self.is_closed or self._transport is None or self._transport.is_closing()

    def _set_reading(self, *, wanted: bool) -> None:
        if self._transport is None or self._transport.is_closing() or wanted == self._is_reading:
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _take(self, item: HttpRequest | UnreadableRequest, at: float) -> None:
        if isinstance(item, UnreadableRequest):
            slot = self._slot(keep_alive=False)
            slot.end(ExchangeEnd.ANSWER, item.status, f'{{"error":"{item.message}"}}'.encode())
            return
        slot = self._slot(keep_alive=item.keep_alive)
        if item.path.startswith(API):
            self.is_admin = False
            request = ApiRequest(item.method, item.path.removeprefix(API), query_of(item.query), item.body)
            self._executor.take(request, at, slot)
        elif item.path.startswith(CONTROL):
            slot.end(ExchangeEnd.ANSWER, *self._admin.answer(item))
        else:
            slot.end(
                ExchangeEnd.ANSWER, 404, b'{"error":"there is only /v4/<service>/<command>, and /__control"}'
            )

    def _slot(self, *, keep_alive: bool) -> _PipelineSlot:
        slot = _PipelineSlot(self, keep_alive=keep_alive)
        self._slots.append(slot)
        return slot

    def _write_out(self, transport: asyncio.Transport) -> None:
        while self._slots and self._slots[0].exchange_end is not None:
            slot = self._slots.popleft()
            match slot.exchange_end:
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
            if slot.exchange_end is not ExchangeEnd.ANSWER or not slot.keep_alive:
                transport.close()
                return


def _answer(slot: _PipelineSlot) -> bytes:
    status = slot.status or 200
    content_type = _HTML if slot.payload.startswith(b"<") else "application/json"
    return answer(status, slot.payload, content_type=content_type, keep_alive=slot.keep_alive)
