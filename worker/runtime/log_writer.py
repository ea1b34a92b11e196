# Writes finished log lines to a file descriptor: a bounded queue, and one thread that writes.
#
# Logging never blocks: not on a pipe that nobody reads, a full disk or a slow terminal. Lines that do not fit into the queue
# are dropped, counted, and reported when writing works again. Not here: what a line says (logging_setup.py).

from __future__ import annotations

import atexit
import errno
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_LINES: Final = 10_000
MOST_BYTES: Final = 4 * 1024 * 1024
"""Bounds of the queue: some 15,000 usual lines, or a minute of a busy worker."""
WRITE_BYTES: Final = 64 * 1024
"""The most bytes of one write: as much as a Linux pipe holds."""
EXIT_SECONDS: Final = 2.0
"""How long the exit of the process waits for the last lines."""
PAUSE_SECONDS: Final = 0.25
"""The pause after a write that failed: a full disk must not be retried in a busy loop."""


class LogWriter:
    """
    Writes lines to a file descriptor, in order.

    ``put`` returns at once, in any thread. Once the queue is full, lines are dropped until half of it is free; then
    ``on_dropped`` is called with their number, and may put a line of its own. At the exit of the process the queue is
    written out, for ``EXIT_SECONDS`` at most.
    """

    def __init__(self, descriptor: int, on_dropped: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._on_dropped = on_dropped
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._unreported = 0
        self._dropped = 0
        self._is_full = False
        self._is_writing = False
        self._is_broken = False
        self._ends_line = True  # False when a failed write left half a line behind
        threading.Thread(target=self._run, name="log", daemon=True).start()
        atexit.register(self.flush, EXIT_SECONDS)

    @property
    def dropped(self) -> int:
        """Lines lost since the start."""
        return self._dropped

    def put(self, line: bytes) -> None:
        """Queue a line (with its line break), or drop it if the queue is full."""
        with self._changed:
            if self._is_full or len(self._lines) >= MOST_LINES or self._bytes + len(line) > MOST_BYTES:
                self._is_full = self._is_full or bool(self._lines)
                self._lose(1)
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until every queued line is written, for ``seconds`` at most. Return whether all are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._is_writing, seconds)

    def __repr__(self) -> str:
        return f"<LogWriter to {self._descriptor}: {len(self._lines)} lines wait, {self._dropped} dropped>"

    def _run(self) -> None:
        while True:
            batch, count = self._take()
            if batch:
                written = self._write(batch)
                with self._changed:
                    self._is_writing = False
                    self._is_broken = not written
                    if not written:
                        self._lose(count)
                    self._changed.notify_all()
                if not written:
                    time.sleep(PAUSE_SECONDS)
            self._report_dropped()

    def _take(self) -> tuple[bytes, int]:
        """Wait for lines. Return the bytes to write next, and how many lines they are."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or (self._unreported and not self._is_broken))
            batch: list[bytes] = []
            size = 0
            while self._lines and (not batch or size + len(self._lines[0]) <= WRITE_BYTES):
                batch.append(self._lines.popleft())
                size += len(batch[-1])
            self._bytes -= size
            self._is_writing = bool(batch)
            return b"".join(batch), len(batch)

    def _write(self, data: bytes) -> bool:
        view = memoryview(data if self._ends_line else b"\n" + data)
        while view:
            try:
                count = os.write(self._descriptor, view)
                self._ends_line = view[count - 1] == ord("\n")
                view = view[count:]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    return False
                select.select((), (self._descriptor,), ())  # another process made it non-blocking
        return True

    def _lose(self, lines: int) -> None:
        self._dropped += lines
        self._unreported += lines

    def _report_dropped(self) -> None:
        """Report how many lines were lost, once writing works and half of the queue is free."""
        with self._changed:
            if self._is_broken or not self._unreported:
                return
            if len(self._lines) > MOST_LINES // 2 or self._bytes > MOST_BYTES // 2:
                return
            count, self._unreported, self._is_full = self._unreported, 0, False
        self._on_dropped(count)
