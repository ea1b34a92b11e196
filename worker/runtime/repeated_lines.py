# A bound on what libraries repeat: of one logger and one template a few lines a minute go, the others are counted and told.
#
# kafka-python writes a line at each attempt of everything that it attempts: thousands in an outage, all alike. Ours are not here:
# they are events with bounds of their own.

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LINES: Final = 10
SECONDS: Final = 60.0
"""So many lines of one template in so many seconds say what there is to say."""
MOST_TEMPLATES: Final = 1_000
"""Some texts are no templates, but made anew for each line."""


class RepeatedLines(logging.Filter):
    """Lets the first ``LINES`` of a template through in each ``SECONDS``; the next one that goes tells how many did not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[tuple[str, str], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written. Threads may call it at once; the count may then be off by one."""
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
