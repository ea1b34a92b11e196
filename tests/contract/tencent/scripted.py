# A small HTTP server on loopback that gives scripted replies over real sockets, well-behaved or not.
#
# It speaks HTTP by hand, because an HTTP library would refuse to misbehave. It judges nothing but the shape of a request.

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.tencent import Seen

if TYPE_CHECKING:
    import ssl

    from tests.fakes.tencent import Reply, Script

ABORT = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset


class ScriptedServer:
    """``async with`` starts and ends it. Every request that was read whole is in ``seen``; each connection has a number."""

    def __init__(
        self, script: Script, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.script = script
        self._place = address, port
        self.seen: list[Seen] = []
        self.connections = 0
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen_more = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, *self._place, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http{'s' if self._tls else ''}://{self._place[0]}:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def requests(self, count: int) -> None:
        """Wait until ``count`` requests were seen."""
        async with self._seen_more:
            await self._seen_more.wait_for(lambda: len(self.seen) >= count)

    def close_connections(self) -> None:
        """Close every open connection, as a server does with idle ones."""
        for writer in self._writers:
            writer.close()

    def push(self, data: bytes) -> None:
        """Send bytes that nobody asked for on every open connection."""
        for writer in self._writers:
            writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        number = self.connections
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer_one(reader, writer, number):
                    pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _answer_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        line, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = tuple((name, value) for name, _, value in (text.partition(": ") for text in rest))
        length = next(int(value) for name, value in headers if name.lower() == "content-length")
        body = await reader.readexactly(length)
        method, target, version = line.split(" ")
        assert (method, version) == ("POST", "HTTP/1.1")
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=True))
        seen = Seen(url.path.removeprefix("/v4/"), query, body, headers=headers, connection=number)
        self.seen.append(seen)
        async with self._seen_more:
            self._seen_more.notify_all()
        return await self._reply(self.script(seen), writer)

    async def _reply(self, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        if reply.end == "hang":
            await asyncio.Event().wait()
        if reply.end == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            writer.transport.abort()
            return False
        head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
        if not any(name.lower() == "transfer-encoding" for name, _ in reply.headers):
            head += f"Content-Length: {len(reply.body)}\r\n"
        whole = f"HTTP/1.1 {reply.status} Reply\r\n{head}\r\n".encode() + reply.body
        writer.write(whole[: -max(1, len(reply.body) // 2)] if reply.end == "cut" else whole)
        await writer.drain()
        return reply.end != "cut"


def closed_port() -> str:
    """An address on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
