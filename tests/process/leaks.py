# Finds keys and UserSigs in anything that a worker has written, whole, cut, escaped or encoded.
#
# It knows a UserSig by opening it (base64, zlib, JSON), not by the pattern that the worker hides them with.

from __future__ import annotations

import base64
import re
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PIECE: Final = 16
"""This many neighbouring characters of a key are a leak: nobody's hexadecimal has them by chance."""
_CANDIDATE: Final = re.compile(rb"(?=(e[A-Za-z0-9*_+/-]{23,}))")
_PLAIN: Final = bytes.maketrans(b"*-_", b"+/=")


def leaks(text: bytes, keys: Iterable[str]) -> list[str]:
    """Name the secrets that are in it, without showing them."""
    spellings = {text, unquote_to_bytes(text), unquote_to_bytes(unquote_to_bytes(text))}
    found = {leak for each in spellings for leak in (*_keys_in(each, keys), *_signatures_in(each))}
    return sorted(found)


def _keys_in(text: bytes, keys: Iterable[str]) -> Iterator[str]:
    lowered = text.lower()
    for number, key in enumerate(keys, 1):
        raw = key.encode()
        for name, spelled in (("", raw), (" in hexadecimal", raw.hex().encode())):
            if any(spelled[at : at + PIECE] in lowered for at in range(len(spelled) - PIECE + 1)):
                yield f"key {number}{name}"
        # A key may begin at any of three places of a base64 text; its middle looks the same in each.
        for shift in range(3):
            middle = base64.b64encode(raw[shift : shift + 12])
            if middle in text:
                yield f"key {number} in base64"


def _signatures_in(text: bytes) -> Iterator[str]:
    for match in _CANDIDATE.finditer(text):
        if is_signature(match[1]):
            yield f"a UserSig at {match.start()}"


def is_signature(text: bytes) -> bool:
    """Whether a text is a UserSig or begins as one does."""
    plain = text.translate(_PLAIN)
    try:
        packed = base64.b64decode(plain[: len(plain) // 4 * 4])
        opened = zlib.decompressobj().decompress(packed)
    except (ValueError, zlib.error):
        return False
    return b"TLS." in opened
