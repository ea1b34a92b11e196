# How fast the client is, and what a call costs: `python tests/benchmarks/bench_client.py [--profile]`.
#
# A server in a process of its own answers at once; the client calls it over 50 connections. It prints calls a
# second and CPU time of this process a call, the median of some rounds. No test: it asserts nothing.

from __future__ import annotations

import argparse
import asyncio
import cProfile
import multiprocessing
import pstats
import re
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

from worker.domain.effects import Attempt
from worker.tencent.client import Client
from worker.tencent.client_options import AppCredentials, HttpOptions

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from worker.domain.effects import AttemptResult

ANSWER = b'{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","RequestId":"Id-8c9858f01e954611ae2d4c1b1ed7d583-O-Seq-52720"}'
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ANSWER),
    ANSWER,
)
BODY = b'{"GroupId":"@TGS#2J4SZEAEL","Members_Account":["%s"],"Duration":3600}' % b'","'.join(
    b"user-%06d" % n for n in range(20)
)
ENDPOINT = "group_open_http_svc/ban_group_member"


class Echo(asyncio.Protocol):
    """Answers each request as soon as its body is complete. A request arrives in one or two pieces, never pipelined."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.missing = len(BODY)

    def data_received(self, data: bytes) -> None:
        head, _, body = data.rpartition(b"\r\n\r\n")
        self.missing -= len(body if head else data)
        if self.missing <= 0:
            self.missing = len(BODY)
            self.transport.write(REPLY)


def serve(port: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


class Free:
    """A control that lets everything go, and wants no second attempt."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt

    def may_send(self) -> bool:
        return True

    def finished(self, _: AttemptResult) -> bool:
        return False

    async def next_attempt(self) -> Attempt:
        return self.attempt


async def round_of(client: Client, connections: int, calls: int) -> tuple[float, float]:
    """Calls a second, and CPU seconds a call."""
    send = Attempt(call_id="c", number=1, app="main", endpoint=ENDPOINT, target="room", body=BODY, members=20)
    left = calls
    control = Free(send)

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            try_ = await client.call(control)
            if try_.error_code != 0:
                raise SystemExit(f"a call failed: {try_}")

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(connections)))
    return calls / (time.perf_counter() - wall), (time.process_time() - cpu) / calls


async def measure(port: int, options: argparse.Namespace) -> None:
    app = AppCredentials(
        "main", 1400000000, "administrator", f"http://127.0.0.1:{port}", secret_key="0123456789abcdef" * 4
    )
    client = Client([app], HttpOptions())
    await round_of(client, options.connections, options.connections * 4)
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    rounds = [await round_of(client, options.connections, options.calls) for _ in range(options.rounds)]
    profile.disable()
    await client.aclose()
    rate, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
    sys.stdout.write(
        f"{rate:,.0f} calls/s, {cpu * 1000:.3f} ms CPU a call, at {options.connections} connections\n"
    )
    if options.profile:
        sys.stdout.write(by_library(profile))


def by_library(profile: cProfile.Profile) -> str:
    """The share of each library in the time, itself only."""
    spent: Counter[str] = Counter()
    for (file, _, _), (_, _, itself, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        found = re.search(r"/site-packages/(\w+)", file) or re.search(r"/(worker|python3\.\d+)/", file)
        spent[found[1] if found else "built in" if file == "~" else "the benchmark"] += itself
    whole = sum(spent.values())
    return "".join(f"{share / whole:6.1%} {library}\n" for library, share in spent.most_common(12))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        uvloop.run(measure(here.recv(), options))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
