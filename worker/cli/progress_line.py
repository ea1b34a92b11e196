# One line on standard error that says how far a long search is, while a terminal is attached.

from __future__ import annotations

import sys
import time

_shown: list[int] = []
"""How wide the line is that is shown now, if one is."""


def show_progress(count: int, back_to: float) -> None:
    """Say how many records were read, and back to when (seconds since 1970)."""
    clock = time.strftime("%Y-%m-%d %H:%M", time.gmtime(back_to))
    show_line(f"{count:,} records read, back to {clock} UTC")


def show_line(text: str) -> None:
    """Show the line in place of the last one, if a terminal is attached."""
    if sys.stderr.isatty():
        width = _shown.pop() if _shown else 0
        sys.stderr.write(f"\r{text:<{width}}")
        sys.stderr.flush()
        _shown[:] = [len(text)]


def clear_progress() -> None:
    """Remove the line before anything else is printed."""
    if _shown:
        sys.stderr.write(f"\r{' ' * _shown.pop()}\r")
        sys.stderr.flush()
