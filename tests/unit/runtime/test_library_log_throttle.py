# Lines that a library repeats: a few go, the others are counted.

from __future__ import annotations

import logging

from worker.runtime import library_log_throttle
from worker.runtime.library_log_throttle import LINES, MOST_TEMPLATES, SECONDS, LibraryLogThrottle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def line(template: str, *args: object, name: str = "kafka.producer.sender") -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "", 0, template, args, None)


def test_of_two_thousand_equal_lines_a_few_pass_and_the_next_counts_the_others() -> None:
    """A limit that was lowered wrote 2,000 of them in 15 s, and hid the one line that said it."""
    clock = Clock()
    lines = LibraryLogThrottle(clock)

    went = sum(lines.filter(line("splitting batch of %s", number)) for number in range(2000))
    clock.now += SECONDS
    next_one = line("splitting batch of %s", 7)

    assert went == LINES
    assert lines.filter(next_one)
    assert next_one.getMessage() == f"splitting batch of 7 (and {2000 - LINES} more such lines)"


def test_other_lines_and_other_loggers_have_bounds_of_their_own() -> None:
    lines = LibraryLogThrottle(Clock())
    for _ in range(2 * LINES):
        lines.filter(line("one"))

    assert not lines.filter(line("one"))
    assert lines.filter(line("another"))
    assert lines.filter(line("one", name="httpx"))


def test_texts_that_are_made_for_each_line_take_bounded_memory() -> None:
    lines = LibraryLogThrottle(Clock())

    for number in range(3 * MOST_TEMPLATES):
        assert lines.filter(line(f"Bootstrap attempt to {number} failed"))

    assert len(lines._windows) <= library_log_throttle.MOST_TEMPLATES
