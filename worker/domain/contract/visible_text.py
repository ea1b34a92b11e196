# What a text looks like to a person: the characters that nobody sees, texts that are the same to the eye, and a text of the
# input as a message may show it.
#
# The ranges are written out, so that they are the same in every version of Python.

from __future__ import annotations

import re
import unicodedata
from typing import Final

HIDDEN: Final = (
    # control characters and line ends
    r"\x00-\x1f\x7f-\x9f\u2028\u2029"
    # blanks other than the ordinary one
    r"\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
    # format characters: of zero width, marks of direction, annotations, soft hyphen
    r"\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    # fillers and selectors, which show nothing by themselves
    r"\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    # for private use, and no characters at all
    r"\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff"
)
"""Characters of the basic plane that a name must not hold, as a class of a regular expression in JavaScript and Python."""
_HIDDEN_BEYOND: Final = (
    # a filler, a note without a head, and what no plane has a character for
    "\U00016fe4\U0001d159"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}-{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 14))
    + "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
"""The same beyond it. All from plane 14 on are tags, selectors, for private use, or not assigned for good."""
_hidden: Final = re.compile(f"[{HIDDEN}{_HIDDEN_BEYOND}]").search

LONGEST_NAME: Final = 128
"""Characters: the longest name that is valid, and the most that is shown of one."""
LOOKED_AT: Final = 4096
"""Characters. A longer name is none, whatever it holds."""

_BLANKS: Final = frozenset(
    [0x20, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, *range(0x2000, 0x200B), *range(0x09, 0x0E)]
)


def hidden_in(text: str) -> str | None:
    """Return what a person cannot see in a text and a name must not hold, in words; None: there is no such thing."""
    found = _hidden(text, 0, LOOKED_AT)
    if found is None:
        return None
    point = ord(found[0])
    name = unicodedata.name(found[0], "")
    if point in _BLANKS:
        sort = "the blank"
    elif unicodedata.category(found[0]) == "Cc":
        sort = "the control character"
    else:
        sort = "the invisible character"
    return f"{sort} U+{point:04X}{f' ({name})' if name else ''} at character {found.start()}"


def folded(text: str) -> str:
    """Return the same text for all that a person may take for one another: small and capital letters, wide and narrow ones."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def shown(text: str, *, quoted: bool = True, most: int = 32) -> str:
    """Return a text of the input as a message may show it: of at most this many characters, and printable in any log."""
    short = repr(text[:most])
    ending = "…" if len(text) > most else ""
    return f"{short}{ending}" if quoted else f"{short[1:-1]}{ending}"


def printable(name: str | None) -> str | None:
    """Return a name of the input, if there is one, as a log line or the page may show it."""
    return None if name is None else shown(name, quoted=False, most=LONGEST_NAME)
