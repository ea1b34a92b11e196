# Servers that send more than was asked for: the bytes and the time that an answer may take are bounded, whatever its headers say.

from __future__ import annotations

import asyncio
import resource
import zlib
from typing import TYPE_CHECKING, Final

import pytest

from tests.contract.tencent.call_owner import RecordingCallOwner
from tests.fakes.tencent import an_app
from worker.domain.contract.error_codes import Verdict
from worker.tencent.client import Client
from worker.tencent.client_options import HttpOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.anyio

TIMEOUT: Final = 1.5
OK_HEAD: Final = b"HTTP/1.1 200 OK\r\n"
GROWTH_MIB: Final = 40


def bomb() -> Iterator[bytes]:
    """Yield 100 MB of zeros in 100 kB, as a gzipped answer."""
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join(packer.compress(b"0" * 1_000_000) for _ in range(100)) + packer.flush()
    yield OK_HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed


def endless(head: bytes, more: bytes) -> Iterator[bytes]:
    yield OK_HEAD + head
    while True:
        yield more


SERVERS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "a gzip bomb": bomb,
    "chunks without end": lambda: endless(
        b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    ),
    "a body until the connection ends": lambda: endless(b"\r\n", b"x" * 65_536),
    "headers without end": lambda: endless(b"", b"X-More: y\r\n" * 5_000),
    "one header without end": lambda: endless(b"X-More: ", b"y" * 65_536),
    "informational answers without end": lambda: iter([b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000] * 2_000),
    "a length of a terabyte": lambda: endless(b"Content-Length: 1000000000000\r\n\r\n", b"x" * 65_536),
    "a length that is negative": lambda: iter([OK_HEAD + b"Content-Length: -5\r\n\r\n{}"]),
    "two lengths": lambda: iter([OK_HEAD + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}"]),
    "a length that is too long": lambda: iter([OK_HEAD + b"Content-Length: 99\r\n\r\n{}"]),
    "a chunk's extension without end": lambda: endless(
        b"Transfer-Encoding: chunked\r\n\r\n2;", b"x=y;" * 16_384
    ),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in SERVERS[request.param]():
                writer.write(part)
                await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Client([an_app(f"http://127.0.0.1:{port}")], HttpOptions(timeout=TIMEOUT))
    yield client
    await client.aclose()
    server.close()


@pytest.mark.parametrize("client", SERVERS, indirect=True)
async def test_no_server_can_fill_the_memory_or_hold_a_call(client: Client) -> None:
    """A gateway on the way, or whoever answers in Tencent's place."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = asyncio.get_running_loop().time()

    last = await client.call(RecordingCallOwner())

    assert last.verdict is Verdict.TRANSPORT
    assert last.error in {"too_long", "http", "cut", "timeout", "not_json"}
    assert asyncio.get_running_loop().time() - began < 4 * TIMEOUT
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < GROWTH_MIB
