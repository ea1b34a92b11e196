# The line that says how far a search is: it replaces itself, goes before anything else is printed, and is for people alone.

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from worker.cli.progress_line import clear_progress, show_line, show_progress

if TYPE_CHECKING:
    import pytest


class Stream(io.StringIO):
    """Standard error, attached to a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def seen(self) -> str:
        """Return what a terminal shows in the end: \\r goes back to the beginning, ESC [K erases what is right of it."""
        line, at = "", 0
        for each in re.findall(r"\x1b\[K|.", self.getvalue(), re.DOTALL):
            if each == "\r":
                at = 0
            elif each == "\x1b[K":
                line = line[:at]
            else:
                line, at = line[:at] + each + line[at + 1 :], at + 1
        return line


def attach(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> Stream:
    stream = Stream(terminal=terminal)
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def test_a_shorter_line_leaves_nothing_of_the_longer_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = attach(monkeypatch, terminal=True)
    show_line("12,345 of 20,000 commands are in Kafka")
    show_progress(7, 0.0)

    assert stream.seen() == "7 records read, back to 1970-01-01 00:00 UTC"
    show_line("done")
    assert stream.seen() == "done"


def test_it_is_gone_before_anything_else_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = attach(monkeypatch, terminal=True)
    show_line("12 records read")
    clear_progress()

    assert stream.seen() == ""


def test_a_file_gets_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = attach(monkeypatch, terminal=False)
    show_progress(7, 0.0)
    clear_progress()

    assert stream.getvalue() == ""
