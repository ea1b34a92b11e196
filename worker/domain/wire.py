# The JSON of a command: the fields that it may have, and what each of them must look like by itself.
#
# One type says it to the fast decoder and to the schema; one table of checks says it in sentences, for a record that
# is refused. Both are held together by tests.
# Not here: what the fields mean together, or for an action (commands.py).

import json
import re
from difflib import get_close_matches
from itertools import pairwise
from math import inf, nan
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from worker.domain.actions import (
    CUSTOM_INFO_BYTES,
    NAME_CARD_BYTES,
    REASON_BYTES,
    TARGET_BYTES,
    USER_ID_BYTES,
)
from worker.domain.outcomes import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check = Callable[[object, str], Fault | None]

COMMAND_ID_BYTES: Final = 128
USERS: Final = 100
"""The most users that a command may name, repeats included."""
DURATION_SECONDS: Final = 4_294_967_295
"""The largest 32-bit unsigned integer, as Tencent's page has it."""
TIME_BYTES: Final = 64
ISSUER_BYTES: Final = 256
METADATA_BYTES: Final = 4096
"""Counted as the outcome will carry it: UTF-8, without needless blanks."""
METADATA_DEPTH: Final = 32
"""Objects and lists inside one another. Every reader of the outcome must get through it, and so must our encoder."""
SHALLOW: Final = 64
"""How deep a record is still looked at when it is nested too deep to be parsed."""

UserId = Annotated[str, Meta(min_length=1, max_length=USER_ID_BYTES)]
TargetId = Annotated[str, Meta(min_length=1, max_length=TARGET_BYTES)]
Moment = Annotated[str, Meta(max_length=TIME_BYTES, extra_json_schema={"format": "date-time"})]


class WireMemberInfo(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """
    ``member_info`` as it is written.
    """

    name_card: Annotated[str, Meta(max_length=NAME_CARD_BYTES)] | UnsetType = UNSET
    role: Literal["Admin", "Member"] | UnsetType = UNSET
    custom_info: Annotated[str, Meta(max_length=CUSTOM_INFO_BYTES)] | UnsetType = UNSET


class WireCommand(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """
    A command as it is written. Lengths are counted in characters here, so they are necessary, not sufficient.
    """

    action: str
    user_ids: Annotated[tuple[UserId, ...], Meta(min_length=1, max_length=USERS)]
    command_id: Annotated[str, Meta(min_length=1, max_length=COMMAND_ID_BYTES)] | UnsetType = UNSET
    group_id: TargetId | UnsetType = UNSET
    room_id: TargetId | UnsetType = UNSET
    duration: Annotated[int, Meta(ge=0, le=DURATION_SECONDS)] | UnsetType = UNSET
    banned_until: Moment | UnsetType = UNSET
    reason: Annotated[str, Meta(max_length=REASON_BYTES)] | UnsetType = UNSET
    member_info: WireMemberInfo | UnsetType = UNSET
    app: str | UnsetType = UNSET
    not_after: Moment | UnsetType = UNSET
    issued_at: Annotated[str, Meta(max_length=TIME_BYTES)] | UnsetType = UNSET
    issuer: Annotated[str, Meta(max_length=ISSUER_BYTES)] | UnsetType = UNSET
    metadata: Annotated[Raw, Meta(extra_json_schema={"type": "object"})] | UnsetType = UNSET


class Reading(Struct, frozen=True):
    """
    What could be read of a record, and what is wrong with it.

    Attributes:
        fields: The members of the JSON object, whatever their types; empty when it is none.
        fault: The first fault, or None when every field is right by itself.

    """

    fields: "Mapping[str, Any]"
    fault: Fault | None


def read(value: bytes) -> Reading:
    """
    Read a record with care and find out what is wrong with it. Never raises.

    It costs some twenty times what the typed decoder takes, so it is for records that this refuses or may not judge alone.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        what = f"the record is not valid UTF-8: byte {error.start} is 0x{value[error.start]:02x}"
        return Reading({}, Fault("not_utf8", what))
    try:
        return _read(text)
    except RecursionError:
        return _read_shallow(text)


def _read(text: str) -> Reading:
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
        return Reading({}, Fault("not_json", f"the record is not JSON: {error}"))
    if not isinstance(fields, dict):
        return Reading({}, Fault("not_an_object", f"the record must be a JSON object, not {_kind(fields)}"))
    if constants:
        fault: Fault | None = Fault(
            "not_json", f"the record is not JSON: {constants[0]} is no JSON value; leave the field out"
        )
    else:
        looked_into = (fields, fields.get("member_info"))
        twice = [name for made, name in repeated if any(made is one for one in looked_into)]
        fault = _twice(twice[0]) if twice else _object(FIELDS, fields, "")
    return Reading(fields, fault)


def _twice(name: str) -> Fault:
    return Fault("duplicate_field", f"the field {shown(name)} is given twice", shown(name, quoted=False))


def _whole(digits: str) -> float:
    """
    An integer; or infinity, when it has more digits than Python cares to convert.
    """
    try:
        return int(digits)
    except ValueError:
        return inf


_STRUCTURE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]++|[\]}]++', re.DOTALL)


def _read_shallow(text: str) -> Reading:
    """
    Read a record that is nested too deep for any parser: what lies deeper than ``SHALLOW`` becomes null, unread.
    """
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
    if depth <= SHALLOW:
        kept.append(text[begin:])
    reading = _read("".join(kept))
    if not reading.fields:
        return reading
    return Reading(
        reading.fields,
        Fault("too_deep", f"the record is nested too deep: {METADATA_DEPTH} levels are allowed in metadata"),
    )


def _object(checks: "Mapping[str, Check]", fields: "Mapping[str, Any]", path: str) -> Fault | None:
    for name in fields:
        if name not in checks:
            near = get_close_matches(name[:64].lower(), checks, n=1)
            hint = (
                f": did you mean {near[0]!r}?"
                if near
                else "; free-form data goes into metadata"
                if not path
                else ""
            )
            return Fault(
                "unknown_field", f"there is no field {shown(name)}{hint}", path + shown(name, quoted=False)
            )
    for name, check in checks.items():
        if name in fields:
            fault = check(fields[name], path + name)
            if fault is not None:
                return fault
        elif name in _REQUIRED:
            return Fault("missing_field", f"{path}{name} is missing", path + name)
    return None


_REQUIRED: Final = frozenset({"action", "user_ids"})

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


def text_of(most: int | None = None, *, empty: bool = True, free: bool = False) -> "Check":
    """
    A string of at most ``most`` bytes. Unless it is ``free`` text, it is a name: without control characters and line ends.
    """

    def check(value: object, path: str) -> Fault | None:
        if not isinstance(value, str):
            return _wrong_type(value, path, "a string")
        if not value and not empty:
            return Fault("empty", f"{path} must not be empty", path)
        if _SURROGATE.search(value):
            return Fault(
                "bad_character", f"{path} holds half of a surrogate pair, which is no character", path
            )
        if not free and (found := _UNPRINTABLE.search(value)):
            what = f"{path} holds the control character U+{ord(found[0]):04X} at character {found.start()}"
            return Fault("bad_character", what, path)
        size = len(value.encode())
        if most is not None and size > most:
            return Fault("too_long", f"{path} has {size} bytes in UTF-8, and {most} are allowed", path)
        return None

    return check


def _users(value: object, path: str) -> Fault | None:
    if not isinstance(value, list):
        return _wrong_type(value, path, "a list of strings")
    if not value:
        return Fault("empty", f"{path} must name at least one user", path)
    if len(value) > USERS:
        return Fault(
            "too_many",
            f"{path} names {len(value)} users, and {USERS} are allowed: send several commands",
            path,
        )
    faults = (_user(user, f"{path}[{place}]") for place, user in enumerate(value))
    return next((fault for fault in faults if fault is not None), None)


def _duration(value: object, path: str) -> Fault | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _wrong_type(value, path, "a whole number of seconds")
    if not 0 <= value <= DURATION_SECONDS:
        return Fault("out_of_range", f"{path} must be from 0 to {DURATION_SECONDS} seconds", path)
    if isinstance(value, float):
        return _wrong_type(value, path, "a whole number of seconds, written without point and exponent")
    return None


def _role(value: object, path: str) -> Fault | None:
    if value in ("Admin", "Member"):
        return None
    if not isinstance(value, str):
        return _wrong_type(value, path, "a string")
    return Fault("out_of_range", f'{path} must be "Admin" or "Member", not {shown(value)}', path)


def _member_info(value: object, path: str) -> Fault | None:
    if not isinstance(value, dict):
        return _wrong_type(value, path, "an object")
    if not value:
        return Fault("empty", f"{path} must set at least one of {', '.join(MEMBER_INFO)}", path)
    return _object(MEMBER_INFO, value, f"{path}.")


def _metadata(value: object, path: str) -> Fault | None:
    if not isinstance(value, dict):
        return _wrong_type(value, path, "an object")
    level: list[Any] = [value]
    for _ in range(METADATA_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if any(isinstance(inner, float) and not -inf < inner < inf for inner in level):
            return Fault("out_of_range", f"{path} holds a number that is too large to be passed on", path)
    if level:
        return Fault("too_deep", f"{path} is nested more than {METADATA_DEPTH} levels deep", path)
    try:
        size = len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return Fault("bad_character", f"{path} holds half of a surrogate pair, which is no character", path)
    if size > METADATA_BYTES:
        return Fault("too_long", f"{path} has {size} bytes as JSON, and {METADATA_BYTES} are allowed", path)
    return None


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


_user: Final = text_of(USER_ID_BYTES, empty=False)

MEMBER_INFO: Final[dict[str, "Check"]] = {
    "name_card": text_of(NAME_CARD_BYTES, free=True),
    "role": _role,
    "custom_info": text_of(CUSTOM_INFO_BYTES, free=True),
}

FIELDS: Final[dict[str, "Check"]] = {
    "command_id": text_of(COMMAND_ID_BYTES, empty=False),
    "action": text_of(),
    "group_id": text_of(TARGET_BYTES, empty=False),
    "room_id": text_of(TARGET_BYTES, empty=False),
    "user_ids": _users,
    "duration": _duration,
    "banned_until": text_of(TIME_BYTES),
    "reason": text_of(REASON_BYTES, free=True),
    "member_info": _member_info,
    "app": text_of(),
    "not_after": text_of(TIME_BYTES),
    "issued_at": text_of(TIME_BYTES),
    "issuer": text_of(ISSUER_BYTES),
    "metadata": _metadata,
}
"""Every field of a command, and the check that tells what is wrong with its value."""


def _wrong_type(value: object, path: str, wanted: str) -> Fault:
    if value is None:
        return Fault("wrong_type", f"{path} is null: leave it out, or make it {wanted}", path)
    return Fault("wrong_type", f"{path} must be {wanted}, not {_kind(value)}", path)


_KINDS: Final = {
    str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip


def _kind(value: object) -> str:
    return _KINDS[type(value)]


def shown(text: str, *, quoted: bool = True) -> str:
    """
    A text of the input as a message may show it: short, and printable in any log.
    """
    short = repr(text[:32])
    ending = "…" if len(text) > 32 else ""
    return f"{short}{ending}" if quoted else f"{short[1:-1]}{ending}"
