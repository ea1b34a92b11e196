# Blocking work on a thread that nobody has to wait for: a step of the start, a restoration, a question to the cluster.
#
# An executor is for what ends soon: its threads are waited for when the interpreter ends.

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def in_daemon_thread(name: str, work: Callable[[], Result]) -> Result:
    """
    Return the result of ``work``, which may block for long, or raise what it raises. Raises BrokerError if no thread can be
    started, so that callers that retry do.

    If the wait is cancelled the work goes on, and the end of the process cuts it off: it must do nothing that needs to be undone.
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
            result = work()
        except Exception as caught:  # noqa: BLE001 - raised again by the await of `done`
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(end, result, error)

    try:
        threading.Thread(target=carry_out, name=name, daemon=True).start()
    except RuntimeError as exc:
        raise BrokerError(f"this machine gives no further thread to ask Kafka with: {exc}") from exc
    return await done
