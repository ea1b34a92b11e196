# What must never be read in a log or an outcome is taken out here: signatures, keys and passwords, wherever they stand in
# a text.
#
# It works on the finished text, the last thing before it is written: nothing that is nested, raised, quoted or
# percent-encoded can pass beside it. Nothing here knows what a log or an outcome is.

from __future__ import annotations

import base64
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HIDDEN: Final = "[redacted]"

_NAMED: Final = re.compile(
    r"""
    ( (?: user_?sig | secret_?key | (?:sasl_plain_|ssl_)?password )   # a name that tells what its value is
      (?: %(?:25)*3D                                                  # a query inside of another URL
        | [\\"'\s]* [=:] \s* [\\]* b?[\\]*["']?                       # name=value, "name": "value", name=b'value'
        | [\\]*["'] \s* , \s* [\\]* b?[\\]*["'] ) )                   # ('name', 'value')
    (?! \[redacted\] )
    [^&\s"'\\<>,;)}\]]+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SIGNATURE: Final = re.compile(r"e(?:J[w-z]|A[E-H]|N[o-r]|F[4-7])[A-Za-z0-9*_+/=%-]{21,}")
"""
A UserSig without a name: base64 (in Tencent's alphabet, or percent-encoded) of a zlib stream, of any compression level.
A real one has some 200 characters; a line may show the beginning of one only.
"""

_NAMES: Final = ("sig", "secret", "password")
_BEGINNINGS: Final = ("eJ", "eA", "eN", "eF")
"""What a text must hold for the two patterns to find anything."""


def scrub(text: str) -> str:
    """The text without what looks like a signature or is named like a secret."""
    return _scrubbed(text, text.lower())


def _scrubbed(text: str, lowered: str) -> str:
    # Looking for plain words first is ten times as fast as the patterns.
    if any(beginning in text for beginning in _BEGINNINGS):
        text = _SIGNATURE.sub(HIDDEN, text)
    if any(name in lowered for name in _NAMES):
        text = _NAMED.sub(rf"\g<1>{HIDDEN}", text)
    return text


class Redaction:
    """
    Hides what ``scrub`` hides, and every secret that it was told.

    The same object may be used by several threads; ``learn`` takes effect for texts cleaned after it.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._told = re.compile("")
        self._spelled: tuple[str, ...] = ()
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Hide these too, in every spelling that a text may have them in."""
        self._secrets |= {secret for secret in secrets if secret}
        spellings = {spelling for secret in self._secrets for spelling in _spellings(secret)}
        longest_first = sorted(spellings, key=len, reverse=True)
        self._told = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
        self._spelled = tuple({spelling.lower() for spelling in spellings})

    def clean(self, text: str) -> str:
        """The text without secrets. What is JSON stays JSON."""
        lowered = text.lower()
        if any(spelling in lowered for spelling in self._spelled):
            text = self._told.sub(HIDDEN, text)
        return _scrubbed(text, lowered)

    def __repr__(self) -> str:
        return f"<Redaction of {len(self._secrets)} secrets>"


def _spellings(secret: str) -> Iterable[str]:
    """A secret as it may stand in a text: as it is, encoded, and escaped up to three times over (JSON in a repr in JSON)."""
    raw = secret.encode()
    found = {secret, base64.b64encode(raw).decode().rstrip("="), raw.hex()}
    for _ in range(_ESCAPES):
        found |= {escape(spelling) for spelling in found for escape in _ESCAPINGS}
    return found


_ESCAPES: Final = 3
_ESCAPINGS: Final[tuple[Callable[[str], str], ...]] = (
    partial(quote, safe=""),
    quote_plus,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: repr(text)[1:-1],
    lambda text: repr(text.encode())[2:-1],
)
