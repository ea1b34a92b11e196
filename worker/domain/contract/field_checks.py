# The fields of a command, and what each of them must look like by itself: one table of checks, which say in a sentence
# what is wrong.
#
# The same is in command_wire_format.py as a type, for speed; tests hold both together.
# Not here: what the fields mean together or for an action (command_decoding.py).

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.domain.contract.actions import (
    CUSTOM_INFO_BYTES,
    NAME_CARD_BYTES,
    REASON_BYTES,
    TARGET_BYTES,
    USER_ID_BYTES,
)
from worker.domain.contract.outcomes import OutcomeError
from worker.domain.contract.spelling_suggestions import meant_field
from worker.domain.contract.timestamps import rfc3339
from worker.domain.contract.visible_text import hidden_in, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Check = Callable[[object, str], OutcomeError | Iterator[OutcomeError] | None]

COMMAND_ID_BYTES: Final = 128
USERS: Final = 100
"""The most users that a command may name, repeats included."""
DURATION_SECONDS: Final = 4_294_967_295
"""The largest 32-bit unsigned integer, as Tencent's page has it."""
TIME_BYTES: Final = 64
FIRST_SECOND: Final = 100_000_000
"""Of the year 1973. What is less, as seconds since 1970, is probably a year, or a length of time."""
LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999. What is more, as seconds since 1970, is probably meant as milliseconds."""
ISSUER_BYTES: Final = 256
METADATA_BYTES: Final = 4096
"""Counted as the outcome will carry it: UTF-8, without needless blanks."""
METADATA_DEPTH: Final = 32
"""Objects and lists inside one another. Every reader of the outcome must get through it, and so must our encoder."""


FAULTS: Final = 11
"""The most faults that are reported of a record: the first, and ten beside it. More are not looked for either."""
REQUIRED: Final = frozenset({"action", "user_ids"})
NEEDED: Final = REQUIRED | {"command_id"}
"""The fields that no command does without: for a ``command_id`` a header may stand in."""


def faults_of(
    checks: Mapping[str, Check], found: Mapping[str, Sequence[OutcomeError]], path: str
) -> Iterator[OutcomeError]:
    """
    Return what is wrong with the fields of an object against ``checks``, in their order, and unknown ones first.

    ``found`` are all the fields that are given, each with its own faults. ``path`` is where the object is (empty, or ending
    in a dot).
    """
    meant = set()
    for name in found:
        if name not in checks:
            yield _unknown(name, checks, path)
            meant.add(meant_field(name, tuple(checks)))
    for name in checks:
        yield from found.get(name, ())
        if name in REQUIRED and name not in found and name not in meant:
            yield OutcomeError("missing_field", f"{name} is missing", name)


def own_faults(
    checks: Mapping[str, Check], fields: Mapping[str, Any], path: str
) -> dict[str, list[OutcomeError]]:
    """Return what is wrong with each field by itself; nothing for one that is unknown."""
    return {
        name: _listed(checks[name](value, path + name)) if name in checks else []
        for name, value in fields.items()
    }


def _listed(found: OutcomeError | Iterator[OutcomeError] | None) -> list[OutcomeError]:
    if found is None:
        return []
    return [found] if isinstance(found, OutcomeError) else list(islice(found, FAULTS))


def _unknown(name: str, checks: Mapping[str, Check], path: str) -> OutcomeError:
    """Return what to say of a field that there is not."""
    near = meant_field(name, tuple(checks))
    hint = f": did you mean {near!r}?" if near else f"; there are {', '.join(checks)}"
    return OutcomeError(
        "unknown_field", f"there is no field {path}{shown(name)}{hint}", f"{path}{shown(name, quoted=False)}"
    )


@dataclass(frozen=True, slots=True)
class TextCheck:
    """
    The check of a string.

    Attributes:
        most: Bytes of UTF-8; None: no limit of its own.
        empty: It may be empty.
        free: It is text for people. Otherwise it is a name: without control characters and what else nobody sees.
        ends: It may begin or end with a blank.

    """

    most: int | None = None
    empty: bool = True
    free: bool = False
    ends: bool = True

    def __call__(self, value: object, path: str) -> OutcomeError | None:
        """Return what is wrong with the value at ``path``."""
        if not isinstance(value, str):
            return _wrong_type(value, path, "a string")
        if not value and not self.empty:
            return OutcomeError("empty", f"{path} must not be empty", path)
        if self.most is not None and (size := _bytes_of(value)) > self.most:
            what = f"{path} has {size} bytes in UTF-8, and {self.most} are allowed"
            return OutcomeError("too_long", what, path)
        if _SURROGATE.search(value):
            return _half_pair(path)
        if not self.free and (hidden := hidden_in(value)):
            return OutcomeError("bad_character", f"{path} holds {hidden}: take it out", path)
        if not self.ends and value.strip(" ") != value:
            end = "begins" if value.startswith(" ") else "ends"
            return OutcomeError("bad_character", f"{path} {end} with a blank (U+0020): take it out", path)
        return None


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


def _half_pair(path: str) -> OutcomeError:
    return OutcomeError(
        "bad_character", f"{path} holds half of a surrogate pair, which is no character", path
    )


_LIST_MARKS: Final = frozenset('[],;"')
"""What a text holds that was meant for a list."""


def _users(value: object, path: str) -> Iterator[OutcomeError]:
    if not isinstance(value, list):
        cure = ""
        if isinstance(value, str):
            is_one = _LIST_MARKS.isdisjoint(value)
            cure = f"write [{_in_json(value)}]" if is_one else "write a list with one string for each user"
        yield _wrong_type(value, path, "a list of strings", cure)
    elif not value:
        yield OutcomeError("empty", f"{path} must name at least one user", path)
    elif len(value) > USERS:
        what = f"{path} names {len(value)} users, and {USERS} are allowed: send several commands"
        yield OutcomeError("too_many", what, path)
    else:
        for place, user in enumerate(value):
            if (fault := USER_ID(user, f"{path}[{place}]")) is not None:
                yield fault


def _duration(value: object, path: str) -> OutcomeError | None:
    if isinstance(value, str) and (seconds := _number_in(value)) is not None:
        cure = f"write {seconds} without quotation marks" if seconds <= DURATION_SECONDS else ""
        return _wrong_type(value, path, "a whole number of seconds", cure)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _wrong_type(value, path, "a whole number of seconds")
    if not 0 <= value <= DURATION_SECONDS:
        return OutcomeError("out_of_range", f"{path} must be from 0 to {DURATION_SECONDS} seconds", path)
    if isinstance(value, float):
        cure = f"write {int(value)}" if value.is_integer() else ""
        return _wrong_type(value, path, "a whole number of seconds, written without point and exponent", cure)
    return None


@dataclass(frozen=True, slots=True)
class TimeTextCheck(TextCheck):
    """The check of a time: of its type and length only. Whether it is one is decided where it is used."""

    most: int | None = TIME_BYTES

    def __call__(self, value: object, path: str) -> OutcomeError | None:
        """Return what is wrong with the value at ``path``."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            cure = instant_cure(value)
            return _wrong_type(value, path, "RFC 3339 in a string", cure)
        return TextCheck.__call__(self, value, path)


def _number_in(text: str) -> int | None:
    """Return the whole number that a text is, in any script's digits; None: it is none, or a very long one."""
    digits = text[: TIME_BYTES + 1].strip()
    return int(digits) if digits.isdecimal() and len(text) <= TIME_BYTES else None


def _choice(one: str, other: str) -> Check:
    """Return the check of a field that is one of two words."""

    def check(value: object, path: str) -> OutcomeError | None:
        if value in (one, other):
            return None
        if not isinstance(value, str):
            return _wrong_type(value, path, "a string")
        return OutcomeError("out_of_range", f'{path} must be "{one}" or "{other}", not {shown(value)}', path)

    return check


def _member_info(value: object, path: str) -> Iterator[OutcomeError]:
    if isinstance(value, dict):
        within = f"{path}."
        yield from faults_of(MEMBER_INFO, own_faults(MEMBER_INFO, value, within), within)
    else:
        yield _wrong_type(value, path, "an object")


def _metadata(value: object, path: str) -> OutcomeError | None:
    if not isinstance(value, dict):
        return _wrong_type(value, path, "an object")
    try:
        size = len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return _half_pair(path)
    # The size first: a short value can be looked through in no time.
    if size > METADATA_BYTES:
        return OutcomeError(
            "too_long", f"{path} has {size} bytes as JSON, and {METADATA_BYTES} are allowed", path
        )
    level: list[Any] = [value]
    for _ in range(METADATA_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if any(isinstance(inner, float) and not -inf < inner < inf for inner in level):
            return OutcomeError(
                "out_of_range", f"{path} holds a number that is too large to be passed on", path
            )
    if any(isinstance(inner, dict | list) for inner in level):
        return OutcomeError("too_deep", f"{path} is nested more than {METADATA_DEPTH} levels deep", path)
    return None


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


USER_ID: Final = TextCheck(USER_ID_BYTES, empty=False, ends=False)

MEMBER_INFO: Final[dict[str, Check]] = {
    "name_card": TextCheck(NAME_CARD_BYTES, free=True),
    "role": _choice("Admin", "Member"),
    "custom_info": TextCheck(CUSTOM_INFO_BYTES, free=True),
}

FIELDS: Final[dict[str, Check]] = {
    "command_id": TextCheck(COMMAND_ID_BYTES, empty=False, ends=False),
    "action": TextCheck(),
    "group_id": TextCheck(TARGET_BYTES, empty=False, ends=False),
    "room_id": TextCheck(TARGET_BYTES, empty=False, ends=False),
    "user_ids": _users,
    "duration": _duration,
    "banned_until": TimeTextCheck(),
    "reason": TextCheck(REASON_BYTES, free=True),
    "member_info": _member_info,
    "app": TextCheck(),
    "not_after": TimeTextCheck(),
    "priority": _choice("urgent", "normal"),
    "issued_at": TimeTextCheck(),
    "issuer": TextCheck(ISSUER_BYTES),
    "metadata": _metadata,
}
"""Every field of a command, and the check that tells what is wrong with its value."""


def _wrong_type(value: object, path: str, wanted: str, cure: str = "") -> OutcomeError:
    if value is None:
        remedy = f"make it {wanted}" if path in NEEDED else f"leave it out, or make it {wanted}"
        return OutcomeError("wrong_type", f"{path} is null: {remedy}", path)
    if not cure and wanted == "a string" and isinstance(value, int | float) and not isinstance(value, bool):
        cure = "write it in quotation marks"
    what = f"{path} must be {wanted}, not {kind(value)}"
    return OutcomeError("wrong_type", f"{what}: {cure}" if cure else what, path)


_KINDS: Final = {
    str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip


def kind(value: object) -> str:
    """Return what a parsed JSON value is, in words."""
    return _KINDS[type(value)]


def _in_json(text: str) -> str:
    return f'"{shown(text, quoted=False)}"'


def instant_cure(since_1970: float) -> str:
    """Return how to write a time that was given as seconds (or milli-, micro- or nanoseconds) since 1970; empty when it is none."""
    for unit in (1, 10**3, 10**6, 10**9):
        if FIRST_SECOND <= since_1970 <= LAST_SECOND * unit:
            return f"write {_in_json(rfc3339(since_1970 / unit))}"
    return ""
