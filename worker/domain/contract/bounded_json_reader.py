# The fields of a JSON object, read one by one in linear time, whatever a stranger has put into them.
#
# A value that is nested too deep, or that holds more than any field may, is skipped by its brackets and never parsed. So no
# record reaches a parser's limit on recursion, which differs between versions of Python.
# What the fields mean is decided in field_checks.py.

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import accumulate
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # the stubs leave it out
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET

from worker.domain.contract.field_checks import FIELDS, METADATA_BYTES, METADATA_DEPTH
from worker.domain.contract.outcomes import OutcomeError

if TYPE_CHECKING:
    from collections.abc import Iterable

SHALLOW: Final = 64
"""Levels. A value that is nested deeper is not looked at."""
BRACKETS: Final = METADATA_BYTES // 2
"""A value with more opening brackets has more bytes than any field may have: it is not looked at either."""
MANY_FIELDS: Final = 64
"""More than any command has. Of those that come after them, only the fields of a command are read."""

_FIRST_CHUNK: Final = 64
_LARGEST_CHUNK: Final = 16_384
_OPENING: Final = b"\x01"
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""A bracket as the step that it makes in depth: 1, or -1 as a signed byte."""
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
_REST: Final = msgspec.json.Decoder(
    msgspec.defstruct("Rest", [(name, msgspec.Raw | msgspec.UnsetType, UNSET) for name in FIELDS], gc=False)
)
_blanks: Final = re.compile(r"[ \t\n\r]*").match


@dataclass(slots=True)
class JsonFields:
    """
    The fields of one JSON object.

    Attributes:
        read: Those whose value was read.
        unread: What is wrong with the value of each other one; None where ``constants`` says it.
        repeated: The names that are given more than once, in the order in which they come again.
        constants: Of each field that holds what only Python takes for JSON (``NaN``): the first such word.
        spans: Where each field's value begins in the text, and where it ends.

    """

    read: dict[str, Any] = field(default_factory=dict)
    unread: dict[str, OutcomeError | None] = field(default_factory=dict)
    repeated: dict[str, None] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    def keep(self, name: str, value: Any, *, is_read: bool = True) -> None:
        """Add a field, or why it was not read. Of a name that is given twice the last value counts, as in every parser."""
        self.read.pop(name, None)
        self.unread.pop(name, None)
        if not is_read or isinstance(value, OutcomeError):
            self.unread[name] = value
        else:
            self.read[name] = value


class JsonReader:
    """
    Reads one text of JSON. Its methods raise JSONDecodeError where the JSON breaks off.

    Attributes:
        constants: What only Python takes for JSON (``NaN``), in the field or value that was read last.

    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.constants: list[str] = []
        self._parse = json.JSONDecoder(parse_constant=self.constants.append).raw_decode
        self._parse_past = json.JSONDecoder(parse_int=len, parse_constant=self.constants.append).raw_decode
        few = text.count("[") + text.count("{") <= SHALLOW
        self._skeleton = None if few else _skeleton(text)

    def skip_blanks(self, at: int) -> int:
        """Return where the blanks that begin at ``at`` end."""
        found = _blanks(self.text, at)
        return at if found is None else found.end()

    def ends_at(self, at: int) -> None:
        """Make sure that nothing but blanks follows from ``at`` on."""
        at = self.skip_blanks(at)
        if at < len(self.text):
            raise JSONDecodeError("Extra data", self.text, at)

    def value(self, at: int) -> tuple[Any, int]:
        """Return the value that begins at ``at`` (an OutcomeError says why it was not read) and where it ends."""
        end, depth, brackets = self.extent(at)
        if depth > SHALLOW:
            return TOO_DEEP, end
        if brackets > BRACKETS:
            return _too_large(end - at), end
        return self.parsed(at)

    def fields(self, at: int) -> tuple[JsonFields, int]:
        """Return the fields of the object that begins at ``at``, after which nothing else may come, and where it ends."""
        made = JsonFields()
        end, is_whole = self._begin(made, at)
        if not is_whole:
            self._rest(made, end)
            end = len(self.text)
        return made, end

    def repeated(self, at: int) -> Iterable[str]:
        """Return the names that are given more than once among the first ``MANY_FIELDS`` of the object that begins at ``at``."""
        made = JsonFields()
        self._begin(made, at)
        return made.repeated

    def _begin(self, made: JsonFields, at: int) -> tuple[int, bool]:
        """Add the first ``MANY_FIELDS`` fields of an object. Returns its end and True, or the comma before others and False."""
        comma = at
        at = self.skip_blanks(at + 1)
        if self.text.startswith("}", at):
            return at + 1, True
        left = MANY_FIELDS
        while True:
            if not self.text.startswith('"', at):
                raise JSONDecodeError("Expecting property name enclosed in double quotes", self.text, at)
            if not left:
                return comma, False
            left -= 1
            comma = self._field(made, at)
            if self.text.startswith("}", comma):
                return comma + 1, True
            if not self.text.startswith(",", comma):
                raise JSONDecodeError("Expecting ',' delimiter", self.text, comma)
            at = self.skip_blanks(comma + 1)

    def _field(self, made: JsonFields, at: int) -> int:
        """Add the field whose name begins at ``at``. Returns where the next mark after it is."""
        name, at = scanstring(self.text, at + 1, True)
        at = self.skip_blanks(at)
        if not self.text.startswith(":", at):
            raise JSONDecodeError("Expecting ':' delimiter", self.text, at)
        at = self.skip_blanks(at + 1)
        if name in made.spans:
            made.repeated[name] = None
        self.constants.clear()
        value, end = self.value(at)
        made.spans[name] = (at, end)
        if self.constants:
            made.constants[name] = self.constants[0]
        made.keep(name, None if self.constants else value, is_read=not self.constants)
        return self.skip_blanks(end)

    def _rest(self, made: JsonFields, comma: int) -> None:
        """Add the fields of a command that follow ``comma``. All that follows is checked, and nothing else is kept."""
        text = f"{{{self.text[comma + 1 :]}"
        _, depth, _ = JsonReader(text).extent(0)
        if depth > SHALLOW:
            made.unread[""] = TOO_DEEP
            return
        try:
            found = _REST.decode(text)
        except ValueError as error:
            raise JSONDecodeError(str(error), self.text, comma) from error
        for name in FIELDS:
            raw = getattr(found, name)
            if raw is not UNSET:
                made.keep(name, JsonReader(bytes(raw).decode()).parsed(0)[0])

    def parsed(self, at: int) -> tuple[Any, int]:
        """Return the value that begins at ``at``, which is known not to be deep (or why it was not read), and where it ends."""
        try:
            return self._parse(self.text, at)
        except JSONDecodeError:
            raise
        except ValueError:
            # An integer has more digits than Python cares to convert, and than any field may have.
            return TOO_LARGE, self._parse_past(self.text, at)[1]

    def extent(self, at: int) -> tuple[int, int, int]:
        """Return where the list or object that begins at ``at`` ends, how deep it is and how many brackets it opens; all 0 of others."""
        skeleton = self._skeleton
        if skeleton is None or not self.text.startswith(("[", "{"), at):
            return 0, 0, 0
        depth = deepest = brackets = inside = 0
        size, begin = _FIRST_CHUNK, at
        while begin < len(skeleton):
            chunk = skeleton[begin : begin + size]
            steps, next_inside = _steps(chunk, inside)
            opened = steps.count(_OPENING)
            closed = len(steps) - opened
            brackets += opened
            can_end, can_be_deeper = depth <= closed, deepest <= SHALLOW < depth + opened
            if not can_end and not can_be_deeper:
                depth += opened - closed  # what is in between changes nothing
            else:
                depths = list(accumulate(memoryview(steps).cast("b"), initial=depth))
                ends = _first_zero(depths)
                if deepest <= SHALLOW:
                    deepest = max(depths[:ends] if ends else depths)
                if ends:
                    return begin + _reach(chunk, inside, ends), deepest, brackets
                depth = depths[-1]
            inside = next_inside
            begin += size
            size = min(4 * size, _LARGEST_CHUNK)
        raise JSONDecodeError("Unterminated list or object starting", self.text, at)


TOO_DEEP: Final = OutcomeError(
    "too_deep", f"is nested too deep: {METADATA_DEPTH} levels are allowed, and that in metadata only"
)
TOO_LARGE: Final = OutcomeError("out_of_range", "holds a number of more digits than any field may")


def _too_large(size: int) -> OutcomeError:
    return OutcomeError("too_long", f"holds {size} characters of lists and objects, more than any field may")


def _skeleton(text: str) -> bytes:
    """Return the text with a byte for each character and without escapes: each quotation mark in it begins or ends a string."""
    return text.encode("ascii", "replace").replace(rb"\\", b"__").replace(rb"\"", b"__")


def _steps(chunk: bytes, inside: int) -> tuple[bytes, int]:
    """Return the brackets outside of strings as steps; whether the chunk ends inside a string, when it began so or not."""
    pieces = chunk.split(b'"')
    return b"".join(pieces[inside::2]).translate(_STEPS, _NO_BRACKETS), (inside + len(pieces) - 1) % 2


def _reach(chunk: bytes, inside: int, brackets: int) -> int:
    """Return the length of the shortest beginning of the chunk that holds this many brackets."""
    low, high = 0, len(chunk)
    while high - low > 1:
        middle = (low + high) // 2
        if len(_steps(chunk[:middle], inside)[0]) >= brackets:
            high = middle
        else:
            low = middle
    return high


def _first_zero(depths: list[int]) -> int:
    """Return after how many steps the depth is 0 again; 0: it never is."""
    try:
        return depths.index(0, 1)
    except ValueError:
        return 0
