# Start and stop: signals, the drain and its deadline, the order in which things end.
#
# The order of a stop: nothing new is started; what is started ends or its time is over; the consumer hands over and
# leaves, while the publisher still publishes; then the publisher; then connections; then health, last, so that probes are
# answered to the end. A second signal ends the process at once.

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.errors import WorkerError
    from worker.runtime import ports
    from worker.runtime.service import Service

CLEAN: Final = 0
FAILED: Final = 1
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """
    The wish to stop, by a signal.

    The first signal is waited for; its handler then makes way for one that ends the process at once.
    """

    def __init__(self, log: "ports.Log") -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[str] = self._loop.create_future()
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._first, number)

    async def wait(self) -> str:
        """
        Until a signal comes; returns its name.
        """
        return await self._asked

    def _first(self, number: signal.Signals) -> None:
        for each in SIGNALS:
            self._loop.remove_signal_handler(each)
            self._loop.add_signal_handler(each, self._second, each)
        if not self._asked.done():
            self._asked.set_result(number.name)

    def _second(self, number: signal.Signals) -> None:
        self._log("worker.killed", signal=number.name)
        os._exit(FAILED)


async def until_stopped(service: "Service", stop: Stop) -> "str | WorkerError":
    """
    Waits for a signal or for the end of what the worker needs; returns the signal's name or the error.
    """
    asked = asyncio.ensure_future(stop.wait())
    await asyncio.wait((asked, service.stopped), return_when=asyncio.FIRST_COMPLETED)
    if service.stopped.done():
        asked.cancel()
        return service.stopped.result()
    return asked.result()


async def drain(service: "Service", seconds: float) -> int:
    """
    Finishes what is started, at most so many seconds long. Returns how many commands are left open, for the next owner.
    """
    service.stop()
    drained = asyncio.ensure_future(service.drained.wait())
    await asyncio.wait((drained, service.stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    drained.cancel()
    return service.open
