# The simulator as a whole: it builds the parts, opens the door and closes it again.
#
# Use it in a test's own loop (`async with Simulator(config) as sim`), or as a process of its own (`moderation-worker
# simulate`). Everything runs in one loop; only the log's file is written by a thread, so that a slow disk stalls nothing.

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from worker.testing.simulator.auth import Authenticator
from worker.testing.simulator.connection import Connection
from worker.testing.simulator.control import Control, check_start
from worker.testing.simulator.decision import Decider
from worker.testing.simulator.executor import Executor
from worker.testing.simulator.fault_store import FaultStore
from worker.testing.simulator.faults import Faults
from worker.testing.simulator.loop_heartbeat import LoopHeartbeat
from worker.testing.simulator.request_log import FLUSH_SECONDS, RequestLog
from worker.testing.simulator.state import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from worker.testing.simulator.request_log import AppliedLine, RequestLine
    from worker.testing.simulator.signature import SimulatedApp

BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""
ACCEPT_AGAIN_SECONDS: Final = 0.1
"""After an accept that failed for want of file descriptors."""


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """
    How a simulator starts.

    Attributes:
        apps: The apps that it knows, one at least. The control speaks of the first where none is named.
        faults: The faults in force until the control changes them.
        host: Where it listens. The control asks nobody for a password: keep it on the loopback.
        port: 0 takes a free one.
        seed: Of every choice: latencies, bad users, which requests fail.
        log: The file of the log, written anew; None: no file.
        keep_lines: How many lines of the log are kept in memory, for a test.
        clock: Monotonic seconds. Of the machine's own, so that stamps can be compared between processes.
        wall_clock: Seconds since 1970, against which signatures expire.

    """

    apps: tuple[SimulatedApp, ...]
    faults: Faults = field(default_factory=Faults)
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    log: Path | None = None
    keep_lines: int = 100_000
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time


class FaultsHandle:
    """The faults of a running simulator, for a program in the same process."""

    def __init__(self, board: FaultStore, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self._board = board
        self._clock = clock
        self._changed = changed

    def __repr__(self) -> str:
        return f"<Faults {len(self._board.rules(self._clock()))} set>"

    def put(self, **given: object) -> None:
        """
        Set faults by name; None takes one back. ``endpoint``, ``target`` and ``for_seconds`` limit them.

        Raises ValueError with every problem found, and then sets none.
        """
        problems = self._board.put(given, self._clock())
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        self._changed()

    def clear(self) -> None:
        """Back to the faults of the start."""
        self._board.clear()
        self._changed()


class Simulator:
    """
    A local Tencent Chat REST API.

    ``async with Simulator(config) as sim:`` listens until the block ends. Raises ValueError for a config that cannot be
    started with, and OSError when the address is not to be had.

    Attributes:
        url: ``http://127.0.0.1:PORT``; what a worker calls base_url.
        faults: To change faults while it runs.

    """

    def __init__(self, config: SimulatorConfig) -> None:
        problems = check_start(config.faults)
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        if not config.apps:
            raise ValueError("apps: name at least one")
        self._config = config
        self._clock = config.clock
        self._epoch = config.wall_clock() - config.clock()
        self._board = FaultStore(config.faults)
        self._world = World()
        self._journal = RequestLog(config.keep_lines, to_file=config.log is not None)
        self._door = Authenticator(config.apps)
        run = uuid.uuid4().hex[:20]
        self._judge = Decider(
            self._door, self._board, self._world,
            seed=config.seed, rng=random.Random(config.seed),
            request_id=lambda seq: f"Id-{run}{seq:012x}-O-Seq-{seq}",
        )  # fmt: skip
        self._connections: set[Connection] = set()
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._welcomes: set[asyncio.Task[None]] = set()
        self._writer = ThreadPoolExecutor(1, "simulator-log")
        self._file: io.FileIO | None = None
        self._address = (config.host, config.port)
        self.faults = FaultsHandle(self._board, self._clock, self._changed.set)

    def __repr__(self) -> str:
        return f"<Simulator {self.url} {len(self._connections)} connections>"

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def log(self) -> list[RequestLine | AppliedLine]:
        """The last lines of the log."""
        return list(self._journal.lines)

    @property
    def stats(self) -> dict[str, Any]:
        """The figures, as ``GET /__control/stats`` shows them."""
        return self._desk.stats(self._pulse)

    def state(self, target: str, sdk_app_id: int | None = None) -> dict[str, Any]:
        """The state of one target, as ``GET /__control/state`` shows it."""
        app = self._config.apps[0].sdk_app_id if sdk_app_id is None else sdk_app_id
        return self._world.shown(app, target, self._clock(), self._epoch)

    async def start(self) -> None:
        """Listen. When this returns, connections are accepted."""
        loop = asyncio.get_running_loop()
        self._desk = Executor(
            self._judge, self._world, self._journal, loop, clock=self._clock, epoch=self._epoch
        )
        self._pulse = LoopHeartbeat(loop, self._clock)
        self._control = Control(
            self._config.apps, self._board, self._world, self._door, self._desk, pulse=self._pulse,
            clock=self._clock, epoch=self._epoch, changed=self._changed.set, host=self._config.host,
        )  # fmt: skip
        listener = self._bind()
        try:
            listener.listen(BACKLOG)
            if self._config.log:
                self._file = io.FileIO(str(self._config.log), "wb")
        except OSError:
            listener.close()
            raise
        self._address = listener.getsockname()[:2]
        self._pulse.start()
        self._tasks = [loop.create_task(self._keep_door(listener)), loop.create_task(self._keep_log())]

    async def stop(self) -> None:
        """Close the door and every connection, and write the log to its end. Raises OSError when that cannot be done."""
        door, log = self._tasks
        door.cancel()
        await asyncio.gather(door, *self._welcomes, return_exceptions=True)
        self._pulse.stop()
        self._desk.stop()
        for connection in tuple(self._connections):
            connection.reset()
        self._closing.set()
        try:
            await log  # never cancelled: lines that the thread has not begun to write would be lost
        finally:
            self._writer.shutdown()
            if self._file:
                self._file.close()

    async def broken(self) -> None:
        """
        Waits for as long as the simulator is well.

        Raises OSError when its log cannot be written, or when another process has taken its port in a refusal.
        """
        ended, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in ended:
            task.result()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        try:
            sock.bind(self._address)
        except OSError:
            sock.close()
            raise
        return sock

    async def _keep_door(self, listener: socket.socket) -> None:
        # Open, but for an outage of the kind "refuse". While it lasts the port is held by a socket that does not
        # listen: connections are refused, and nobody else can take the port.
        loop = asyncio.get_running_loop()
        while True:
            loop.add_reader(listener.fileno(), self._accept, listener)
            try:
                while self._board.at(None, None, self._clock()).outage != "refuse":
                    self._changed.clear()
                    await self._changed.wait()
            finally:
                loop.remove_reader(listener.fileno())
                listener.close()
            listener = self._bind()
            for connection in tuple(self._connections):
                if not connection.is_control:
                    connection.reset()
            try:
                await self._outlast_refusal()
            except asyncio.CancelledError:
                listener.close()
                raise
            listener.listen(BACKLOG)

    async def _outlast_refusal(self) -> None:
        while self._board.at(None, None, now := self._clock()).outage == "refuse":
            self._changed.clear()
            until = self._board.next_change(now)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if until is None else until - now)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it has gone again
            return
        except OSError:  # no file descriptors are left: the callers wait in the backlog
            loop.remove_reader(listener.fileno())
            loop.call_later(ACCEPT_AGAIN_SECONDS, self._accept_again, listener)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        welcome = loop.create_task(self._welcome(sock))
        self._welcomes.add(welcome)
        welcome.add_done_callback(self._welcomes.discard)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    async def _welcome(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, sock)
        except OSError:  # it has gone before it was served
            sock.close()

    def _connection(self) -> Connection:
        return Connection(self._desk, self._control, self._clock, self._connections)

    async def _keep_log(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FLUSH_SECONDS / 2)
            lines = self._journal.take()
            if lines and self._file:
                await asyncio.get_running_loop().run_in_executor(
                    self._writer, _write_whole, self._file, lines
                )


def _write_whole(file: io.FileIO, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[file.write(rest) :]
