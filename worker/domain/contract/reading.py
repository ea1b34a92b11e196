# A record, read with care: what is wrong with it, and what of it can be read all the same.
#
# It costs some twenty times what the typed decoder takes, so it is for records that this refuses or may not judge alone.
# The parser is the standard library's: it tells of fields given twice, and says where the JSON breaks off.

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from math import inf, nan
from typing import Any, Final

from msgspec import Struct

from worker.domain.contract.fields import FIELDS, METADATA_DEPTH, fault_of, kind, shown
from worker.domain.contract.outcomes import OutcomeError

SHALLOW: Final = 64
"""
How deep a record is looked at: what lies deeper becomes null, unread.

How deep the parsers get depends on the Python that runs them; what they are given must not.
"""


class FieldReader(Struct, frozen=True):
    """
    What could be read of a record, and what is wrong with it.

    Attributes:
        fields: The members of the JSON object, whatever their types; empty when it is none.
        fault: The first fault, or None when every field is right by itself.

    """

    fields: Mapping[str, Any]
    fault: OutcomeError | None


def read(value: bytes) -> FieldReader:
    """
    Read a record with care and find out what is wrong with it. Never raises.

    It costs some twenty times what the typed decoder takes, so it is for records that this refuses or may not judge alone.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        what = f"the record is not valid UTF-8: byte {error.start} is 0x{value[error.start]:02x}"
        return FieldReader({}, OutcomeError("not_utf8", what))
    shallow = _shallow(text)
    reading = _read(shallow)
    if (
        shallow is text
        or not reading.fields
        or (reading.fault is not None and reading.fault.code == "too_deep")
    ):
        return reading
    what = f"the record is nested too deep: {METADATA_DEPTH} levels are allowed in metadata"
    return FieldReader(reading.fields, OutcomeError("too_deep", what))


def _read(text: str) -> FieldReader:
    constants: list[str] = []
    repeated: list[tuple[dict[str, Any], str]] = []

    def constant(name: str) -> float:
        constants.append(name)
        return nan

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(members)
        if len(made) != len(members):
            names = sorted(name for name, _ in members)
            repeated.append((made, next(one for one, other in pairwise(names) if one == other)))
        return made

    try:
        fields = json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=_whole)
    except ValueError as error:
        return FieldReader({}, OutcomeError("not_json", f"the record is not JSON: {error}"))
    if not isinstance(fields, dict):
        return FieldReader(
            {}, OutcomeError("not_an_object", f"the record must be a JSON object, not {kind(fields)}")
        )
    if constants:
        what = f"the record is not JSON: {constants[0]} is no JSON value; leave the field out"
        return FieldReader(fields, OutcomeError("not_json", what))
    for made, name in repeated:
        for path, place in (("", fields), ("member_info.", fields.get("member_info"))):
            if made is place:
                twice = path + shown(name, quoted=False)
                return FieldReader(
                    fields, OutcomeError("duplicate_field", f"the field {twice} is given twice", twice)
                )
    return FieldReader(fields, fault_of(FIELDS, fields, ""))


def _whole(digits: str) -> float:
    """An integer; or infinity, when it has more digits than Python cares to convert."""
    try:
        return int(digits)
    except ValueError:
        return inf


_STRUCTURE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]++|[\]}]++', re.DOTALL)
"""A string, which may be left open, or brackets in a row."""


def _shallow(text: str) -> str:
    """Replace what lies deeper than ``SHALLOW`` by null; the same text where nothing does."""
    if text.count("[") + text.count("{") <= SHALLOW:
        return text
    kept: list[str] = []
    depth = begin = 0
    for token in _STRUCTURE.finditer(text):
        run = token.end() - token.start()
        if text[token.start()] in "[{":
            if depth <= SHALLOW < depth + run:
                kept.append(text[begin : token.start() + SHALLOW - depth])
            depth += run
        elif text[token.start()] in "]}":
            if depth > SHALLOW >= depth - run:
                kept.append("null")
                begin = token.start() + depth - SHALLOW
            depth -= run
    if not kept:
        return text
    if depth <= SHALLOW:
        kept.append(text[begin:])
    return "".join(kept)
