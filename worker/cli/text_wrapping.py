# How text is laid out for a terminal: words are wrapped, and none is ever cut, as an id that is cut cannot be copied.
#
# Pure functions over plain text; what may reach a terminal is decided before (printable_text.py), colours after.

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST: Final = 30
"""A column of text that would be narrower than this goes below the others instead."""


def wrapped(text: str, width: int | None, indent: str = "") -> str:
    """
    Return the text in lines of at most ``width`` columns, each after ``indent``; whole if ``width`` is None.

    A word that is longer than a line gets a line of its own, and stays whole.
    """
    if width is None:
        return f"{indent}{text}"
    return "\n".join(
        textwrap.wrap(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def in_columns(rows: Sequence[tuple[str, ...]], width: int | None) -> list[str]:
    """
    Return each row as a text, with its cells in columns. The last column is wrapped to ``width``; None wraps nothing.

    Where too little is left for the last column, it goes below the others, indented.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    indent = sum(widths) + 2 * len(widths)
    lines: list[str] = []
    for *cells, last in rows:
        head = "  ".join(f"{cell:<{size}}" for cell, size in zip(cells, widths, strict=True))
        if width is None:
            lines.append(f"{head}  {last}".rstrip())
        elif width - indent >= LEAST:
            lines.append(head + wrapped(last, width, " " * indent)[len(head) :] if last else head.rstrip())
        else:
            lines.append(f"{head.rstrip()}\n{wrapped(last, width, '    ')}" if last else head.rstrip())
    return lines
