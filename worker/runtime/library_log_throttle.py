# Bounds what libraries repeat: a few lines a minute of one logger and one template pass, the others are counted.
#
# kafka-python logs every attempt of everything: thousands of equal lines in an outage. Not here: the worker's own events,
# which have bounds of their own.

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LINES: Final = 10
SECONDS: Final = 60.0
"""At most ``LINES`` lines of one template pass in ``SECONDS``: more say nothing new."""
MOST_TEMPLATES: Final = 1_000
"""The bound on remembered templates: some libraries format the text themselves, so that each line is its own template."""


class LibraryLogThrottle(logging.Filter):
    """Passes the first ``LINES`` of a template in each ``SECONDS``; the next line that passes says how many did not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[tuple[str, str], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the line. Thread-safe, except that the count may be off by one."""
        key = (record.name, str(record.msg)[:200])
        now = self._clock()
        window = self._windows.get(key)
        if window is None or now >= window[0] + SECONDS:
            missed = 0 if window is None else int(window[1]) - LINES
            if len(self._windows) >= MOST_TEMPLATES:
                self._windows.clear()
            window = self._windows[key] = [now, 0.0]
            if missed > 0:
                record.msg = f"{record.msg} (and {missed} more such lines)"
        window[1] += 1
        return window[1] <= LINES
