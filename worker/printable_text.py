# Judges foreign text, and makes it safe to print: it must not move a terminal's cursor, change its colours, reorder its letters
# or forge a line.
#
# Pure functions, for logs and for the command line. Not here: secrets (redaction.py).

from __future__ import annotations

import codecs
import re
from typing import Final

JSON_ESCAPES: Final = "worker-json-escapes"
"""The error handler of a stream for JSON that is in another encoding than UTF-8: backslashreplace makes of é what no JSON has."""
_UNPRINTABLE: Final = re.compile(r"[^\n -~]")


def is_utf8(text: str) -> bool:
    """Return whether an argument or variable was UTF-8. Python keeps other bytes in a form that matches nothing."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain(text: object, kept: str = "") -> str:
    """Return ``text`` safe for a terminal: control and format characters are replaced, except those in ``kept``."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(character if character.isprintable() or character in kept else "�" for character in shown)


def plain_json(line: str) -> str:
    """Return the same JSON with every unprintable character escaped."""
    return line if line.isprintable() else _UNPRINTABLE.sub(_escaped, line)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    return _in_json(character)


def _in_json(characters: str) -> str:
    units = characters.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def _escape_for_encoding(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _in_json(error.object[error.start : error.end]), error.end


codecs.register_error(JSON_ESCAPES, _escape_for_encoding)
