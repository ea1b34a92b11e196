# Removes signatures, keys and passwords from texts, wherever in them they are: logs, outcomes and errors must not show any.
#
# It works on the finished text, as the last step before writing, so nothing nested, raised, quoted or percent-encoded
# gets past it. Its time is linear in the text, whatever strangers put into it: every expression here is possessive and
# never backtracks. Nothing here knows what a log or an outcome is.

from __future__ import annotations

import base64
import json
import re
import sys
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

HIDDEN: Final = "[redacted]"

Span = tuple[int, int]
"""Where a secret begins in a text, and where it ends (exclusive)."""

BEYOND: Final = 1024
"""Characters behind a cut that are searched too, so that a secret across the cut is found whole."""
SHORTEST_SOUGHT: Final = 6
"""
A secret with fewer characters occurs by chance in many texts, so it is not searched for. It is hidden where a name says
what it is (``password=…``), and no log field ever holds it.
"""
SHORTEST_DIGITS: Final = 12
"""The same for a secret of digits alone: fewer may be an offset, or a part of a time."""
SHORTEST_PART: Final = 12
"""A fragment of a key or signature is hidden from this many characters on, wherever it was cut."""
KEPT_SIGNATURES: Final = 4
"""
How many signatures of one app are known well enough to hide fragments of them: the one in use, and those before it that may
still be on the wire. An older one still looks like a signature.
"""
KEPT_TOKENS: Final = 16
"""The same for those without an owner: Kafka's tokens, of which each client has its own."""

_NAMED: Final = re.compile(
    r"""
    (?: user_?sig | secret_?key | password )                     # a name that says what its value is
    (?: %(?:25)*+3D                                              # a query inside of another URL
      | [\\"'\s]*+ [=:] (?: b(?=[\\]*+["']) | [\\"'\s] )*+      # name=value, "name": "value", name=b'value'
      | [\\]*+["'] [\\"'\s]*+ , [\\\s]*+ b?+ [\\]*+["'] [\\]*+ )  # ('name', 'value')
    (?! \[redacted\] )
    ([^&\s"'\\<>,;)}\]]++)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SIGNATURE: Final = re.compile(r"e(?:J[w-z]|A[E-H]|N[o-r]|F[4-7])[A-Za-z0-9*_+/=%-]{21,}+")
"""
A UserSig without a name: base64 (in Tencent's alphabet, or percent-encoded) of a zlib stream, of any compression level.
A real one has some 200 characters; a line may show the beginning of one only.
"""
_WRAPPED: Final = re.compile(r"(?:\\[nrt]|[\\\s\"'])++[A-Za-z0-9*_+/=%-]{16,}+")
"""The next line of a wrapped value."""

_GRAM: Final = 8
"""
Secrets are compared in pieces of this many characters. Sampling a text at every eighth position finds each fragment of
twice that length.
"""
_BETWEEN: Final = bytes([*range(0x21), *b"\\\"'", *range(0x7F, 0x100)])
"""What may separate the characters of a secret: blanks, line breaks, quotes, backslashes, invisible characters."""
_TOKENS: Final = tuple(
    re.compile(
        r"(?P<text>[^\x00-\x20\x7f-\U0010ffff\"'\\%]++)|%(?:25)*+(?P<query>[0-9a-f]{2})"
        rf"|\\(?:u00(?P<json>[0-9a-f]{{2}}){escapes})?+|[\x00-\x20\x7f-\U0010ffff\"']++|%"
    )
    for escapes in ("|[nrt]", "")
)
"""Two readings of one text: a backslash before n, r or t is a line break, or it is a backslash before a letter."""
_LINE_BREAK: Final = re.compile(rb"\\[nrt]")
_ESCAPE: Final = re.compile(r"%(?:25)*+[0-9a-f]{2}|\\u00[0-9a-f]{2}")
_SHORTEST_KEY: Final = 24
_KEY_LIKE: Final = re.compile(rf"[A-Za-z0-9+/=_*-]{{{_SHORTEST_KEY},}}+")
_KEY_OF_HEX: Final = re.compile(rf"[0-9A-Fa-f]{{{_SHORTEST_KEY},}}+")
_CHANGES: Final = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")
_UUID: Final = re.compile(
    r"(?<![0-9A-F])[0-9A-F]{8}(?:(?:-[0-9A-F]{4}){3}-|[0-9A-F]{4}[1-8][0-9A-F]{3}[89AB][0-9A-F]{3})[0-9A-F]{12}(?![0-9A-F])",
    re.IGNORECASE,
)
"""Without dashes, it must name its version and its variant: of other keys as long, one in eight looks like it."""
_LEAST_MIXED: Final = 32
"""Characters of a key that is more than hexadecimal digits: what is shorter is often a name."""
_MIXED: Final = 0.2
"""Changes per character between letters and digits, or from lower to upper case: names have fewer, keys more."""


def without_keys(text: str, *, but_uuids: bool = False) -> str:
    """
    Return ``text`` without what looks like a key: somebody may have put one into a field that is shown.

    ``but_uuids`` takes a UUID for an id, as most that are given on a command line are.
    """
    spans = [
        found.span() for found in _KEY_OF_HEX.finditer(text) if not (but_uuids and _UUID.fullmatch(found[0]))
    ]
    for found in _KEY_LIKE.finditer(text):
        judged = _UUID.sub("", found[0]) if but_uuids else found[0]
        if len(judged) >= _LEAST_MIXED and len(_CHANGES.findall(judged)) >= _MIXED * len(judged):
            spans.append(found.span())
    return _without(text, spans, len(text))


class Redaction:
    """
    Hides what looks like a signature or is named like a secret, and every secret it has learned.

    A text without any costs a few microseconds. ``words`` is the vocabulary of the caller's own texts: a password made of
    these words alone is not searched for. Threads may share one object; a learned secret is hidden in texts cleaned later.
    """

    def __init__(self, secrets: Iterable[str] = (), words: Container[str] = ()) -> None:
        self._words = words
        self._secrets: frozenset[str] = frozenset()
        self._spellings: frozenset[str] = frozenset()
        # Those too short for hints are searched for in every text.
        self._short: frozenset[str] = frozenset()
        self._signatures: defaultdict[str, deque[str]] = defaultdict(deque)
        # Pieces of keys and signatures, each with how many have it.
        self._parts: Counter[bytes] = Counter()
        # Pieces of all but the short spellings, as numbers: a text without any of them holds none of these secrets.
        self._hints: Counter[int] = Counter()
        self._learning = Lock()
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Hide these too, in every spelling a text may have them in; fragments too if it is a key."""
        with self._learning:
            new = {secret for secret in secrets if self._is_sought(secret)} - self._secrets
            self._secrets |= new
            spellings = {spelling.lower() for secret in new for spelling in _spellings(secret)}
            squeezed = {each: _squeezed(each) for each in spellings if len(each) >= SHORTEST_SOUGHT}
            keys = {part for secret in new if _is_random(secret) for part in (secret, *_encoded(secret))}
            parts = _grams(_squeezed(part.lower()) for part in keys)
            self._parts.update(parts)
            self._hints.update(_numbers(parts | _grams(squeezed.values())))
            self._spellings |= squeezed.keys()
            self._short |= {each for each, bare in squeezed.items() if len(bare) <= 2 * _GRAM}

    def learn_signature(self, signature: str, owner: str = "") -> None:
        """
        Hide this signature and its fragments. Of an owner the last ``KEPT_SIGNATURES`` are remembered.

        An app that is halted makes a new one every few seconds, and those in use of the others must stay known.
        """
        with self._learning:
            kept = self._signatures[owner]
            if signature in kept:
                return
            kept.append(signature)
            parts = _grams([_squeezed(signature.lower())])
            self._parts.update(parts)
            self._hints.update(_numbers(parts))
            if len(kept) > (KEPT_SIGNATURES if owner else KEPT_TOKENS):
                old = _grams([_squeezed(kept.popleft().lower())])
                _take_away(self._parts, old)
                _take_away(self._hints, _numbers(old))

    def clean(self, text: str, most: int | None = None) -> str:
        """
        Return the first ``most`` characters of ``text`` (None: all) without secrets. JSON stays JSON.

        A secret across the cut is hidden whole. Three searches find what to hide: (1) what was learned, in any spelling, and
        fragments of keys; (2) what looks like a signature; (3) what a name says is a secret.
        """
        if most is None or len(text) <= most:
            most = len(text)
        else:
            text = text[: most + BEYOND]
        lowered = text.replace("İ", "i").lower()  # the only letter that gets longer
        spans = self._known(lowered)  # (1)
        # A search for plain words is ten times as fast as the patterns, and most texts have none of these words.
        if "eJ" in text or "eA" in text or "eN" in text or "eF" in text:  # (2)
            spans += _unwrapped(text, [found.span() for found in _SIGNATURE.finditer(text)])
        if "sig" in lowered or "secret" in lowered or "password" in lowered:  # (3)
            spans += _unwrapped(text, [found.span(1) for found in _NAMED.finditer(text)])
        return _without(text, spans, most) if spans else text[:most]

    def __repr__(self) -> str:
        return f"<Redaction of {len(self._secrets)} secrets>"

    def _is_sought(self, secret: str) -> bool:
        if len(secret) < SHORTEST_SOUGHT or secret.isdecimal():
            return len(secret) >= SHORTEST_DIGITS
        # No known word has a digit, so "kafka2" and "kafka-2" are sought, and "kafka-group" is not.
        words = re.findall(r"\w+", secret.lower().replace("_", " "))
        return not words or not all(word in self._words for word in words)

    def _known(self, lowered: str) -> list[Span]:
        """Return where secrets and fragments of keys are, even with blanks, line breaks or escapes between their characters."""
        # A spelling may hold escapes, which are pieces of it, and a fragment may have any of its characters escaped.
        readings = [lowered]
        if "%" in lowered or "\\u00" in lowered:
            readings.append(_ESCAPE.sub(_character, lowered))
        if all(self._hints.keys().isdisjoint(_sampled(text)) for text in readings):
            return [
                span for spelling in self._short if spelling in lowered for span in _all(spelling, lowered)
            ]
        spans = [
            span for spelling in self._spellings if spelling in lowered for span in _all(spelling, lowered)
        ]
        for tokens in _TOKENS if "\\" in lowered else _TOKENS[:1]:
            spans += _TextWithoutSeparators(lowered, tokens).covered_by(self._parts)
        return spans


def _squeezed(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    if b"\\" in raw:
        raw = _LINE_BREAK.sub(b"", raw)
    return raw.translate(None, _BETWEEN)


def _sampled(text: str) -> memoryview:
    """Return every eighth piece of the squeezed text, as a number."""
    squeezed = _squeezed(text)
    return memoryview(squeezed)[: len(squeezed) // _GRAM * _GRAM].cast("Q")


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[0][-2:], 16)).lower()


def _grams(texts: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(text[place : place + _GRAM] for text in texts for place in range(len(text) - _GRAM + 1))


def _numbers(grams: Iterable[bytes]) -> frozenset[int]:
    return frozenset(int.from_bytes(gram, sys.byteorder) for gram in grams)


def _take_away(counts: Counter[Any], pieces: Iterable[object]) -> None:
    """Count each of ``pieces`` once less, and forget those that nothing has any more."""
    for piece in pieces:
        counts[piece] -= 1
        if not counts[piece]:
            del counts[piece]


class _TextWithoutSeparators:
    """A text without the separators of ``_BETWEEN``, which knows where each character was."""

    def __init__(self, text: str, tokens: re.Pattern[str]) -> None:
        # Where each piece begins here; where it was in the text, and whether it was an escape.
        self._starts: list[int] = []
        self._pieces: list[tuple[int, int, bool]] = []
        pieces: list[str] = []
        length = 0
        for token in tokens.finditer(text):
            kind = token.lastgroup
            if kind is None:
                continue
            piece = token[0] if kind == "text" else chr(int(token[kind], 16)).lower()
            self._starts.append(length)
            self._pieces.append((*token.span(), kind != "text"))
            pieces.append(piece)
            length += len(piece)
        self._text = "".join(pieces).encode("ascii", "replace")

    def covered_by(self, grams: Container[bytes]) -> Iterator[Span]:
        """Yield the stretches of the text in which every piece is one of ``grams``, if they are long enough."""
        text, last, before = self._text, len(self._text) - _GRAM, 0
        place = 0
        while place <= last:
            if text[place : place + _GRAM] not in grams:
                place += _GRAM
                continue
            start = place
            while start > before and text[start - 1 : start - 1 + _GRAM] in grams:
                start -= 1
            while place < last and text[place + 1 : place + 1 + _GRAM] in grams:
                place += 1
            place += _GRAM
            before = place
            if place - start >= SHORTEST_PART:
                yield self._was_at(start)[0], self._was_at(place - 1)[1]

    def _was_at(self, place: int) -> Span:
        index = bisect_right(self._starts, place) - 1
        start, end, is_escape = self._pieces[index]
        at = start + place - self._starts[index]
        return (start, end) if is_escape else (at, at + 1)


def _without(text: str, spans: list[Span], most: int) -> str:
    """Return the first ``most`` characters, with each of ``spans`` that begins in them hidden."""
    parts: list[str] = []
    done = 0
    for start, end in sorted(spans):
        if start >= most:
            break
        if start >= done:
            parts += text[done:start], HIDDEN
        done = max(done, end)
    parts.append(text[done:most])
    return "".join(parts)


def _all(spelling: str, text: str) -> Iterator[Span]:
    at = text.find(spelling)
    while at >= 0:
        yield at, at + len(spelling)
        at = text.find(spelling, at + len(spelling))


def _unwrapped(text: str, spans: list[Span]) -> list[Span]:
    """Extend each span, in place, over the lines that continue its value; return ``spans``."""
    ends = 0
    for index, (start, end) in enumerate(spans):
        if end - start < SHORTEST_PART or start < ends:
            continue
        ends = end
        while (found := _WRAPPED.match(text, ends)) is not None:
            ends = found.end()
        spans[index] = start, ends
    return spans


def _is_random(secret: str) -> bool:
    """Return whether fragments of it occur nowhere else: a secret that a person made up may contain words."""
    return (
        len(secret) >= _SHORTEST_KEY
        and len({secret[at : at + _GRAM] for at in range(len(secret))}) > len(secret) // 2
        and without_keys(secret) != secret
    )


def _encoded(secret: str) -> Iterator[str]:
    """Yield a secret as part of a longer base64 text, for each of the three ways the text before it shifts its bits."""
    raw = secret.encode()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        yield whole[-(-before * 8 // 6) : -1] if before else whole


def _spellings(secret: str) -> Iterable[str]:
    """Return a secret as texts may spell it: as it is, encoded, and escaped up to three times (JSON in a repr in JSON)."""
    found = {secret, secret.encode().hex(), *_encoded(secret)}
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
