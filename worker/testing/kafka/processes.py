# One child process with its log: started, awaited, paused, ended. Nothing here knows what the program does.
#
# Children get their own session, so that Ctrl-C reaches the demo alone and it ends them in order.

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

LEASH: Final = str(Path(__file__).with_name("parent_death.py"))
TAIL_LINES: Final = 15
POLL: Final = 0.05
"""How often a starting or ending process is looked at, in seconds."""


class ProcessFailedError(Exception):
    """A child process did not become ready, or ended by itself. The message ends with the last lines of its log."""


class Process:
    """
    A program that runs beside this one and dies with it.

    Attributes:
        name: What messages call it.
        log: The file that gets its standard output and error; a restart appends to it.

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
            return f"<Process {self.name} not started>"
        code = self._child.poll()
        return f"<Process {self.name} pid {self._child.pid} {'running' if code is None else f'ended with {code}'}>"

    @property
    def pid(self) -> int:
        """The process id. It must have been started."""
        return self._started().pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with (negative: the signal); None while it runs or before it was started."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Starts the program, or starts it again after it has ended."""
        if self.running:
            raise ProcessFailedError(f"{self.name} is already running")
        environment = {**os.environ, **(self._environment or {})}
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", LEASH, str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], deadline: float, what: str) -> None:
        """Returns when ``ready()`` is true; raises ProcessFailedError when the program ends or ``deadline`` seconds pass before."""
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
        """SIGTERM, and SIGKILL if it still runs ``deadline`` seconds later. Returns the exit code; None if it never ran."""
        if self._child is None:
            return None
        self.terminate()
        return self.wait(deadline)

    def terminate(self) -> None:
        """SIGTERM, without waiting for the end. A paused program goes on to hear it."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def wait(self, deadline: float) -> int:
        """The exit code, once it has ended; SIGKILL if it still runs after ``deadline`` seconds."""
        try:
            return self._started().wait(deadline)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, as a crash would; returns when it is gone."""
        child = self._started()
        self._signal(signal.SIGKILL)
        return child.wait()

    def pause(self) -> None:
        """SIGSTOP: it hangs, with all its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after a pause."""
        self._signal(signal.SIGCONT)

    def tail(self) -> str:
        """The last lines of the log, indented, for a message."""
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
