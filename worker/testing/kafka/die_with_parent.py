# Starts a program that dies with its parent: `python die_with_parent.py <parent's pid> program argument...`.
#
# It becomes the program (exec), so that signals reach the program itself. Where the kernel cannot do this (only Linux
# can), the program just runs. It imports nothing of the worker: it must start within milliseconds.

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """
    Ask the kernel to kill this process when the thread that started it ends.

    If the parent has died before this call, no signal would come, so this process exits at once.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the program that the parent asked for, no shell
