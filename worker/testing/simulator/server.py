# The simulator as a whole: builds its parts, listens, and stops.
#
# Use it in a test's own loop (`async with Simulator(config) as sim`), or as a process (`moderation-worker simulate`).
# Everything runs in one loop; only the log file is written in a thread, so that a slow disk does not stall the loop.

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import random
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from worker.testing.simulator.admin import AdminApi, check_start
from worker.testing.simulator.auth import Authenticator
from worker.testing.simulator.chat_state import ChatState
from worker.testing.simulator.connection import Connection
from worker.testing.simulator.decision import Decider
from worker.testing.simulator.fault_store import FaultStore
from worker.testing.simulator.faults import FaultValues
from worker.testing.simulator.loop_heartbeat import LoopHeartbeat
from worker.testing.simulator.reaction_executor import ReactionExecutor
from worker.testing.simulator.request_log import FLUSH_SECONDS, RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from worker.testing.simulator.request_log import AppliedLaterLine, RequestLine
    from worker.testing.simulator.signature import SimulatedApp

BACKLOG: Final = 1024
"""Connections that may await acceptance."""
ACCEPT_AGAIN_SECONDS: Final = 0.1
"""The pause after an accept that failed because file descriptors ran out."""


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """
    How a simulator starts.

    Attributes:
        apps: The known apps, at least one. The control uses the first where none is named.
        faults: The faults in force until the control changes them.
        host: Where it listens. The control has no password: keep it on the loopback.
        port: 0 picks a free one.
        seed: Determines every random choice: latencies, bad users, which requests fail.
        log: The log file, which is overwritten; None for no file.
        keep_lines: How many lines of the log are kept in memory, for a test.
        clock: Monotonic seconds; by default of the machine's clock, so that processes can compare timestamps.
        wall_clock: Seconds since 1970, for the expiry of signatures.

    """

    apps: tuple[SimulatedApp, ...]
    faults: FaultValues = field(default_factory=FaultValues)
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    log: Path | None = None
    keep_lines: int = 100_000
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time


class FaultsHandle:
    """Changes the faults of a running simulator from the same process."""

    def __init__(self, store: FaultStore, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._changed = changed

    def __repr__(self) -> str:
        return f"<Faults {len(self._store.rules(self._clock()))} set>"

    def put(self, /, **given: object) -> None:
        """
        Set faults by name; None removes one. ``endpoint``, ``target`` and ``for_seconds`` limit them.

        Raises ValueError with every problem found; then none is set.
        """
        problems = self._store.put(given, self._clock())
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        self._changed()

    def clear(self) -> None:
        """Return to the faults of the start."""
        self._store.clear()
        self._changed()


class Simulator:
    """
    A local Tencent Chat REST API.

    ``async with Simulator(config) as sim:`` listens until the block ends. Raises ValueError for an invalid config, and
    OSError if the address is not available.

    Attributes:
        faults: Changes faults while it runs.

    """

    def __init__(self, config: SimulatorConfig) -> None:
        problems = check_start(config.faults)
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        if not config.apps:
            raise ValueError("apps: name at least one")
        if not config.host:
            raise ValueError("host: name one; the empty one is every address of this machine")
        self._config = config
        self._clock = config.clock
        self._epoch = config.wall_clock() - config.clock()
        self._store = FaultStore(config.faults)
        self._world = ChatState()
        self._request_log = RequestLog(config.keep_lines, to_file=config.log is not None)
        self._authenticator = Authenticator(config.apps)
        run = uuid.uuid4().hex[:20]
        self._decider = Decider(
            self._authenticator, self._store, self._world,
            seed=config.seed, rng=random.Random(config.seed),
            request_id=lambda seq: f"Id-{run}{seq:012x}-O-Seq-{seq}",
        )  # fmt: skip
        self._connections: set[Connection] = set()
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._accepting: set[asyncio.Task[None]] = set()
        self._writer = ThreadPoolExecutor(1, "simulator-log")
        self._file: io.FileIO | None = None
        self._address = (config.host, config.port)
        self.faults = FaultsHandle(self._store, self._clock, self._changed.set)

    def __repr__(self) -> str:
        return f"<Simulator {self.url} {len(self._connections)} connections>"

    @property
    def url(self) -> str:
        """The address, ``http://127.0.0.1:PORT``: the base_url of a worker."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def log(self) -> list[RequestLine | AppliedLaterLine]:
        """The latest lines of the log."""
        return list(self._request_log.lines)

    @property
    def stats(self) -> dict[str, Any]:
        """The figures, as ``GET /__control/stats`` shows them."""
        return self._executor.stats(self._heartbeat)

    def state(self, target: str, sdk_app_id: int | None = None) -> dict[str, Any]:
        """Return the state of one target, as ``GET /__control/state`` shows it."""
        app = self._config.apps[0].sdk_app_id if sdk_app_id is None else sdk_app_id
        return self._world.shown(app, target, self._clock(), self._epoch)

    async def start(self) -> None:
        """Start to listen. When this returns, connections are accepted."""
        loop = asyncio.get_running_loop()
        self._executor = ReactionExecutor(
            self._decider, self._world, self._request_log, loop, clock=self._clock, epoch=self._epoch
        )
        self._heartbeat = LoopHeartbeat(loop, self._clock)
        self._admin = AdminApi(
            self._config.apps, self._store, self._world, self._authenticator, self._executor, heartbeat=self._heartbeat,
            clock=self._clock, epoch=self._epoch, changed=self._changed.set, host=self._config.host,
        )  # fmt: skip
        listener = self._bind()
        try:
            listener.listen(BACKLOG)
            if self._config.log:
                self._file = _open_to_overwrite(self._config.log)
        except OSError:
            listener.close()
            raise
        self._address = listener.getsockname()[:2]
        self._heartbeat.start()
        self._tasks = [loop.create_task(self._listen_on(listener)), loop.create_task(self._write_log())]

    async def stop(self) -> None:
        """Stop listening, close every connection and write the rest of the log. Raises OSError if that cannot be written."""
        listening, log = self._tasks
        listening.cancel()
        await asyncio.gather(listening, *self._accepting, return_exceptions=True)
        self._heartbeat.stop()
        self._executor.stop()
        for connection in tuple(self._connections):
            connection.reset()
        self._closing.set()
        try:
            await log  # not cancelled: lines that the thread has not begun to write would be lost
        finally:
            self._writer.shutdown()
            if self._file:
                self._file.close()

    async def broken(self) -> None:
        """
        Wait until the simulator fails.

        Raises OSError if the log cannot be written, or if another process took the port during an outage.
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
        except (TypeError, UnicodeError) as error:  # what cannot be encoded as a name is no OSError
            sock.close()
            raise socket.gaierror(socket.EAI_NONAME, "no host can have this name") from error
        except OSError:
            sock.close()
            raise
        return sock

    async def _listen_on(self, listener: socket.socket) -> None:
        # During an outage of the kind "refuse" the port is bound by a socket that does not listen: connections are
        # refused, and no other process can take the port.
        loop = asyncio.get_running_loop()
        while True:
            loop.add_reader(listener.fileno(), self._accept, listener)
            try:
                while self._store.at(None, None, self._clock()).outage != "refuse":
                    self._changed.clear()
                    await self._changed.wait()
            finally:
                loop.remove_reader(listener.fileno())
                listener.close()
            listener = self._bind()
            for connection in tuple(self._connections):
                if not connection.is_admin:
                    connection.reset()
            try:
                await self._outlast_refusal()
            except asyncio.CancelledError:
                listener.close()
                raise
            listener.listen(BACKLOG)

    async def _outlast_refusal(self) -> None:
        while self._store.at(None, None, now := self._clock()).outage == "refuse":
            self._changed.clear()
            until = self._store.next_change(now)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if until is None else until - now)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # the client disconnected first
            return
        except OSError:  # no file descriptors are left: clients wait in the backlog
            loop.remove_reader(listener.fileno())
            loop.call_later(ACCEPT_AGAIN_SECONDS, self._accept_again, listener)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepting = loop.create_task(self._serve_socket(sock))
        self._accepting.add(accepting)
        accepting.add_done_callback(self._accepting.discard)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    async def _serve_socket(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, sock)
        except OSError:  # the client disconnected first
            sock.close()

    def _connection(self) -> Connection:
        return Connection(self._executor, self._admin, self._clock, self._connections)

    async def _write_log(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FLUSH_SECONDS / 2)
            lines = self._request_log.take()
            if lines and self._file:
                await asyncio.get_running_loop().run_in_executor(
                    self._writer, _write_whole, self._file, lines
                )


def _open_to_overwrite(path: Path) -> io.FileIO:
    """Open a file for writing without waiting for anything: the wait for a pipe's reader would keep even signals from the loop."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "it is a pipe that nobody reads, or a socket", str(path)) from error
        raise
    os.set_blocking(descriptor, True)  # it is written in a thread
    return io.FileIO(descriptor, "wb")


def _write_whole(file: io.FileIO, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[file.write(rest) :]
