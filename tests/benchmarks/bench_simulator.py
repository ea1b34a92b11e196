# How many requests a second one core of the simulator carries, and what each costs: `python tests/benchmarks/bench_simulator.py`.
#
# Figures for a person to read, nothing is asserted. The simulator runs in a process of its own; the load comes from
# raw sockets in this one, which cost it less than an HTTP client would. The quota is lifted: its count still runs.

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from subprocess import PIPE, Popen

import uvloop
from TLSSigAPIv2 import TLSSigAPIv2

from worker.testing.simulator import FaultValues, SimulatedApp, Simulator, SimulatorConfig

APP = 1400000000
KEY = "a key for a benchmark"
MEMBERS = 20


def request(number: int, usersig: str, rng: random.Random) -> bytes:
    users = [f"user-{rng.randrange(100_000)}" for _ in range(MEMBERS)]
    body = json.dumps({
        "GroupId": f"group-{number % 50}", "Members_Account": users, "Duration": 3600, "Description": "spam",
    }).encode()  # fmt: skip
    head = (
        "POST /v4/group_open_http_svc/ban_group_member"
        f"?sdkappid={APP}&identifier=administrator&usersig={usersig}&random={rng.getrandbits(32)}&contenttype=json HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: bench\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def caller(host: str, port: int, requests: list[bytes], until: float) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    done = 0
    while time.monotonic() < until:
        writer.write(requests[done % len(requests)])
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        done += 1
    writer.close()
    return done


async def load(port: int, connections: int, seconds: float) -> float:
    rng = random.Random(1)
    usersig = TLSSigAPIv2(APP, KEY).gen_sig("administrator", 3600)
    requests = [request(number, usersig, rng) for number in range(500)]
    began = time.monotonic()
    done = await asyncio.gather(
        *(caller("127.0.0.1", port, requests, began + seconds) for _ in range(connections))
    )
    return sum(done) / (time.monotonic() - began)


async def serve(log: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    apps = (SimulatedApp(APP, (KEY,)),)
    async with Simulator(
        SimulatorConfig(apps=apps, faults=FaultValues(limit=1_000_000), log=log, keep_lines=0)
    ) as simulator:
        sys.stdout.write(f"{simulator.url}\n")
        sys.stdout.flush()
        await stop.wait()


def measure(connections: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests.jsonl"
        process = Popen([sys.executable, __file__, "--serve", str(log)], stdout=PIPE, text=True)
        assert process.stdout
        try:
            url = process.stdout.readline().strip()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rate = runner.run(load(int(url.rpartition(":")[2]), connections, seconds))
            with urllib.request.urlopen(f"{url}/__control/stats") as answer:  # noqa: S310 - our own process
                stats = json.load(answer)
        finally:
            process.terminate()
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
            process.stdout.close()
        served = sum(stats["requests"]["group_open_http_svc/ban_group_member"].values())
        lines = sum(1 for _ in log.open("rb"))
    used = usage.ru_utime + usage.ru_stime
    sys.stdout.write(
        f"{connections} connections: {rate:,.0f} requests/s, {used / served * 1e6:.0f} us of CPU a request"
        f" (so {served / used:,.0f}/s on a whole core), longest stall {stats['longest_stall_seconds'] * 1000:.1f} ms,"
        f" {lines:,} lines logged for {served:,} requests\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 50, 200])
    given = parser.parse_args()
    if given.serve:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(given.serve))
        return
    for connections in given.connections:
        measure(connections, given.seconds)


if __name__ == "__main__":
    main()
