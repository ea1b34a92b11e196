# The stop: signals, blocking steps of the start, the drain and its deadline.
#
# The order of a stop: nothing new starts; started commands finish, or the drain's time runs out; the consumer hands over
# and leaves the group while the publisher still publishes; then the publisher ends, then the connections; health comes
# last, so that probes are answered to the end. A second signal ends the process at once.
# Not here: building and closing the parts (wiring.py).

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final, TypeVar

from worker.runtime.daemon_thread import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.errors import WorkerError
    from worker.runtime import ports
    from worker.runtime.engine_runner import EngineRunner

CLEAN: Final = 0
FAILED: Final = 1
LAST_LINES_SECONDS: Final = 1.0
"""How long a second signal waits for the log's last lines."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that ask for a stop. SIGHUP comes when the terminal closes; under `nohup` it is ignored."""

Result = TypeVar("Result")


class ShutdownRequest:
    """
    A stop requested by a signal.

    The first signal ends ``wait``. It also replaces the handlers, so that a second one ends the process at once, after
    ``flush`` (which takes the seconds it may last) has written the log's last lines.
    """

    def __init__(self, log: ports.Log, flush: Callable[[float], None]) -> None:
        self._log = log
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[str] = self._loop.create_future()
        self._signals = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in self._signals:
            self._loop.add_signal_handler(number, self._on_first_signal, number)

    async def wait(self) -> str:
        """Wait for the first signal and return its name. The wait may be cancelled and begun again."""
        return await asyncio.shield(self._asked)

    def _on_first_signal(self, number: signal.Signals) -> None:
        for handled in self._signals:
            self._loop.add_signal_handler(handled, self._on_second_signal, handled)
        if not self._asked.done():
            self._asked.set_result(number.name)

    def _on_second_signal(self, number: signal.Signals) -> None:
        self._log("worker.killed", signal=number.name)
        self._flush(LAST_LINES_SECONDS)
        os._exit(FAILED)


class StoppedEarlyError(Exception):
    """A signal came before the worker had started. The argument is the signal's name."""


async def unless_stopped(stop: ShutdownRequest, step: Callable[[], Result]) -> Result:
    """
    Run a step of the start in a thread and return its result. It may block for long: Kafka may be away.

    Raises StoppedEarlyError when a signal comes first. The step is then abandoned.
    """
    done = asyncio.ensure_future(in_daemon_thread("start", step))
    asked = asyncio.ensure_future(stop.wait())
    await asyncio.wait((asked, done), return_when=asyncio.FIRST_COMPLETED)
    if not done.done():
        done.cancel()
        raise StoppedEarlyError(asked.result())
    asked.cancel()
    return done.result()


async def until_stopped(runner: EngineRunner, stop: ShutdownRequest) -> str | WorkerError:
    """Wait for a signal or for an error that ends the worker; return the signal's name or the error."""
    asked = asyncio.ensure_future(stop.wait())
    await asyncio.wait((asked, runner.fatal_error), return_when=asyncio.FIRST_COMPLETED)
    if runner.fatal_error.done():
        asked.cancel()
        return runner.fatal_error.result()
    return asked.result()


async def drain(runner: EngineRunner, seconds: float) -> None:
    """Finish the started commands within ``seconds``."""
    runner.stop()
    drained = asyncio.ensure_future(runner.drained.wait())
    await asyncio.wait((drained, runner.fatal_error), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    drained.cancel()
