# What must never be read in a log is taken out here: signatures, keys and passwords, wherever they stand in a text.
#
# It works on the finished text, the last thing before it is written: nothing that is nested, raised, quoted or
# percent-encoded can pass beside it. Nothing here knows what a log is.

import base64
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN: Final = "[hidden]"

_NAMED: Final = re.compile(
    r"""
    ( (?: user_?sig | secret_?key | (?:sasl_plain_|ssl_)?password )   # a name that tells what its value is
      (?: %(?:25)*3D                                                  # a query inside of another URL
        | [\\"'\s]* [=:] \s* [\\]* b?[\\]*["']?                       # name=value, "name": "value", name=b'value'
        | [\\]*["'] \s* , \s* [\\]* b?[\\]*["'] ) )                   # ('name', 'value')
    (?! \[hidden\] )
    [^&\s"'\\<>,;)}\]]+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SIGNATURE: Final = re.compile(r"e(?:J[w-z]|A[E-H]|N[o-r]|F[4-7])[A-Za-z0-9*_+/=%-]{21,}")
"""
A UserSig without a name: base64 (in Tencent's alphabet, or percent-encoded) of a zlib stream, of any compression level.
A real one has some 200 characters; a line may show the beginning of one only.
"""


class Redaction:
    """
    Hides what looks like a signature, what is named like a secret, and every secret that it was told.

    The same object may be used by several threads; ``learn`` takes effect for texts cleaned after it.
    """

    def __init__(self, secrets: "Iterable[str]" = ()) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._told: re.Pattern[str] | None = None
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """
        Hide these too, in every spelling that a text may have them in.
        """
        self._secrets |= {secret for secret in secrets if secret}
        spellings = {spelling for secret in self._secrets for spelling in _spellings(secret)}
        if spellings:
            self._told = re.compile(
                "|".join(map(re.escape, sorted(spellings, key=len, reverse=True))), re.IGNORECASE
            )

    def clean(self, text: str) -> str:
        """
        The text without secrets. What is JSON stays JSON.
        """
        if self._told is not None:
            text = self._told.sub(HIDDEN, text)
        text = _SIGNATURE.sub(HIDDEN, text)
        return _NAMED.sub(rf"\g<1>{HIDDEN}", text)

    def __repr__(self) -> str:
        return f"<Redaction of {len(self._secrets)} secrets>"


def _spellings(secret: str) -> "Iterable[str]":
    raw = secret.encode()
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield repr(raw)[2:-1]
    yield base64.b64encode(raw).decode().rstrip("=")
    yield raw.hex()
