# What the texts of strangers may not do to a terminal: move its cursor, change its colours, reorder its letters, forge a line.
#
# Pure functions, for logs and for the command line. Not here: what must not be read at all (redaction.py).

from __future__ import annotations

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(r"[^\n -~]")


def plain(text: object, kept: str = "") -> str:
    """A text from outside as a terminal may show it: control and format characters are replaced, but for those in ``kept``."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(character if character.isprintable() or character in kept else "�" for character in shown)


def plain_json(line: str) -> str:
    """JSON in which nothing but printable characters is left unescaped. It means the same as before."""
    return line if line.isprintable() else _UNPRINTABLE.sub(_escaped, line)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
