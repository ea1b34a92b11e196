# Start and stop: signals, the drain and its deadline, the order in which things end.
#
# The order of a stop: nothing new is started; what is started ends or its time is over; the consumer hands over and
# leaves, while the publisher still publishes; then the publisher; then connections; then health, last, so that probes are
# answered to the end. A second signal ends the process at once.

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.errors import WorkerError
    from worker.runtime import ports
    from worker.runtime.service import Service

CLEAN: Final = 0
FAILED: Final = 1
LAST_LINES_SECONDS: Final = 1.0
"""How long an end without a drain waits for the log."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What asks for a stop. SIGHUP comes when the terminal that it runs in is closed; `nohup` has it ignored."""

Result = TypeVar("Result")


class Stop:
    """
    The wish to stop, by a signal.

    The first signal is waited for; its handler then makes way for one that ends the process at once, when ``flush`` has
    written the log's last lines or so many seconds are over.
    """

    def __init__(self, log: ports.Log, flush: Callable[[float], None]) -> None:
        self._log = log
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[str] = self._loop.create_future()
        self._heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in self._heard:
            self._loop.add_signal_handler(number, self._first, number)

    async def wait(self) -> str:
        """Until a signal comes; returns its name. Whoever waits may give up."""
        return await asyncio.shield(self._asked)

    def _first(self, number: signal.Signals) -> None:
        for each in self._heard:
            self._loop.remove_signal_handler(each)
            self._loop.add_signal_handler(each, self._second, each)
        if not self._asked.done():
            self._asked.set_result(number.name)

    def _second(self, number: signal.Signals) -> None:
        self._log("worker.killed", signal=number.name)
        self._flush(LAST_LINES_SECONDS)
        os._exit(FAILED)


class StoppedEarlyError(Exception):
    """A signal came before the worker had begun. The argument is the signal's name."""


async def unless_stopped(stop: Stop, step: Callable[[], Result]) -> Result:
    """
    What a step of the start returns, which may block for long: Kafka may be away.

    Raises StoppedEarlyError when a signal comes first. The step is left behind then, in a thread that does not keep the
    process: so it may do nothing that would have to be ended.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def end(result: Result | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def carry_out() -> None:
        result, error = None, None
        try:
            result = step()
        except Exception as caught:  # noqa: BLE001 - it is raised again, where it is waited for
            error = caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(end, result, error)

    threading.Thread(target=carry_out, name="start", daemon=True).start()
    asked = asyncio.ensure_future(stop.wait())
    await asyncio.wait((asked, done), return_when=asyncio.FIRST_COMPLETED)
    if not done.done():
        done.cancel()
        raise StoppedEarlyError(asked.result())
    asked.cancel()
    return done.result()


async def until_stopped(service: Service, stop: Stop) -> str | WorkerError:
    """Waits for a signal or for the end of what the worker needs; returns the signal's name or the error."""
    asked = asyncio.ensure_future(stop.wait())
    await asyncio.wait((asked, service.stopped), return_when=asyncio.FIRST_COMPLETED)
    if service.stopped.done():
        asked.cancel()
        return service.stopped.result()
    return asked.result()


async def drain(service: Service, seconds: float) -> int:
    """Finishes what is started, at most so many seconds long. Returns how many commands are left open, for the next owner."""
    service.stop()
    drained = asyncio.ensure_future(service.drained.wait())
    await asyncio.wait((drained, service.stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    drained.cancel()
    return service.open
