# One line on standard error that says how far a long search is, while a terminal is attached.
#
# Each line replaces the last one: the terminal itself erases what is longer, so nothing is remembered here. What a command prints
# is not here; it removes the line first.

from __future__ import annotations

import sys
import time
from typing import Final

_BEGIN: Final = "\r"
_ERASE_REST: Final = "\x1b[K"


def show_progress(count: int, back_to: float) -> None:
    """Say how many records were read, and back to when (seconds since 1970)."""
    clock = time.strftime("%Y-%m-%d %H:%M", time.gmtime(back_to))
    show_line(f"{count:,} records read, back to {clock} UTC")


def show_line(text: str) -> None:
    """Show the line in place of the last one, if a terminal is attached."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{_BEGIN}{text}{_ERASE_REST}")
        sys.stderr.flush()


def clear_progress() -> None:
    """Remove the line, if there is one, before anything else is printed."""
    show_line("")
