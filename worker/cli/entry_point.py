# Where the process starts: standard streams and signals are prepared before the command line is imported, which takes a third of a
# second.
#
# Then each standard stream is open, and a signal ends the process as its command says. Imports next to nothing, so that this is
# soon. Not here: options and commands, and how a command that has begun ends (app.py).

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that ask `run` for a stop."""
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as a shell has it."""
_STANDARD: Final = 3
"""The number of the first descriptor that is no standard stream's."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    occupy_standard_streams()
    runs = sys.argv[1:2] == ["run"]
    if runs:
        end_quietly_on(STOPS, 0)  # until the worker handles them itself
    else:
        end_quietly_on((signal.SIGINT,), INTERRUPTED)

    from worker.cli.app import main as command_line  # noqa: PLC0415 - the rest of the program, for which all this is

    if not runs and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # A command may have something to say at its end.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command_line()
    except KeyboardInterrupt:  # after the command, while what it printed is written
        sys.exit(INTERRUPTED)
    finally:
        if not runs:
            end_quietly_on((signal.SIGINT,), INTERRUPTED)
            # CPython remembers a Ctrl-C inside exec(), as while a dataclass is made, as unhandled, and after `python -m` it would
            # kill itself with SIGINT at its end. The next exec() forgets it.
            exec("")  # noqa: S102


def occupy_standard_streams() -> None:
    """
    Put the null device in the place of standard streams that are closed (``2>&-``). ``sys.stdin`` is left: who reads must know.

    Otherwise Python has None there, which code that prints does not expect, and the next file or socket gets the number: what a
    library writes to standard error would go into it.
    """
    try:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) < _STANDARD:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
        for number, name in ((1, "stdout"), (2, "stderr")):
            if getattr(sys, name) is None:
                stream = os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
                setattr(sys, name, stream)
    except OSError:
        return  # no null device, or no descriptor at all: the command fails of it in its own way


def end_quietly_on(signals: Iterable[signal.Signals], code: int) -> None:
    """
    Let each of these signals end the process at once with this exit code. One that is ignored stays so, as SIGHUP by `nohup`.

    That is for as long as nothing has begun that would have to be finished. A container's first process would ignore a signal
    without a handler, and one that is killed by it counts as failed.
    """

    def end(_signal: int, _frame: Any) -> None:
        os._exit(code)

    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
