# One child process with its log: started, awaited, paused, ended. Nothing here knows what the program does.
#
# Children get their own session, so that Ctrl-C reaches only the parent, which ends them in order.

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PARENT_DEATH: Final = str(Path(__file__).with_name("die_with_parent.py"))
TAIL_LINES: Final = 15
POLL: Final = 0.05
"""How often a starting process is checked, in seconds."""


class ProcessFailedError(Exception):
    """A child process did not become ready, or ended unexpectedly. The message ends with the last lines of its log."""


class ChildProcess:
    """
    A program that runs beside this one and, on Linux, dies with it.

    Attributes:
        name: Its name in messages.
        log: The file for its standard output and error; a restart appends to it.

    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        if self._child is None:
            return f"<ChildProcess {self.name} not started>"
        code = self._child.poll()
        return f"<ChildProcess {self.name} pid {self._child.pid} {'running' if code is None else f'ended with {code}'}>"

    @property
    def pid(self) -> int:
        """The process id. Raises ProcessFailedError before the start."""
        return self._started().pid

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative for a signal); None while it runs or before it was started."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start the program, or restart it after it has ended."""
        if self.running:
            raise ProcessFailedError(f"{self.name} is already running")
        environment = {**os.environ, **(self._environment or {})}
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", PARENT_DEATH, str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], deadline: float, what: str) -> None:
        """Return when ``ready()`` is true. Raises ProcessFailedError if the program ends first, or after ``deadline`` seconds."""
        end = time.monotonic() + deadline
        while not ready():
            if not self.running:
                raise ProcessFailedError(
                    f"{self.name} ended with {self.exit_code} before {what}\n{self.tail()}"
                )
            if time.monotonic() > end:
                raise ProcessFailedError(f"{self.name}: not {what} within {deadline:g} s\n{self.tail()}")
            time.sleep(POLL)

    def stop(self, deadline: float = 10.0) -> int | None:
        """Send SIGTERM, and SIGKILL ``deadline`` seconds later if necessary. Return the exit code, or None if it never ran."""
        if self._child is None:
            return None
        self.terminate()
        return self.wait(deadline)

    def terminate(self) -> None:
        """Send SIGTERM without waiting. A paused program is resumed, so that it can react."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def wait(self, deadline: float) -> int:
        """Wait for the end, send SIGKILL after ``deadline`` seconds or at Ctrl-C, and return the exit code."""
        try:
            return self._started().wait(deadline)
        except subprocess.TimeoutExpired:
            return self.kill()
        except KeyboardInterrupt:
            # Whoever ended this begins to remove its files, which it must no longer write.
            self.kill()
            raise

    def kill(self) -> int:
        """Send SIGKILL, like a crash, and return the exit code when the process has ended."""
        child = self._started()
        self._signal(signal.SIGKILL)
        return child.wait()

    def pause(self) -> None:
        """Send SIGSTOP: the program hangs with all its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT after a pause."""
        self._signal(signal.SIGCONT)

    def tail(self) -> str:
        """Return the last lines of the log, indented, for a message."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
        except OSError as exc:
            lines = [f"(the log cannot be read: {exc})"]
        return "\n".join(f"    {line}" for line in lines or ["(the log is empty)"])

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise ProcessFailedError(f"{self.name} was not started")
        return self._child

    def _signal(self, number: signal.Signals) -> None:
        child = self._started()
        if child.poll() is None:
            child.send_signal(number)
