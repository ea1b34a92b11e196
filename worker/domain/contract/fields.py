# The fields of a command, and what each of them must look like by itself: one table of checks, which say in a sentence
# what is wrong.
#
# The same stands in wire.py as a type, for speed; tests hold both together.
# Not here: what the fields mean together or for an action (commands.py).

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check = Callable[[object, str], OutcomeError | None]

REJECTIONS: Final = {
    "not_read": "The record is larger than is read, or its batch cannot be unpacked: it is told by size and hash alone.",
    "no_value": "The record has no value, or an empty one.",
    "not_utf8": "The record is not valid UTF-8.",
    "not_json": "The record is not JSON.",
    "not_an_object": "The record is JSON, but not an object.",
    "too_deep": "Objects and lists are nested too deep.",
    "duplicate_field": "A field is given twice, so it is not clear which one is meant.",
    "unknown_field": "There is no such field; the nearest known one is named.",
    "missing_field": "A field that the action needs is missing.",
    "wrong_type": "A field is null or of the wrong JSON type.",
    "empty": "A text, list or object that must hold something is empty.",
    "too_long": "A field has more bytes than allowed.",
    "too_many": "The command names too many users.",
    "bad_character": "A name holds a control character, or a text holds half of a surrogate pair.",
    "out_of_range": "A value is not one of those allowed.",
    "bad_time": "A time is not RFC 3339 with a time zone.",
    "unknown_action": "There is no such action.",
    "wrong_target": "The target's field is that of another kind of action, or both are given.",
    "wrong_parameter": "The action does not take this parameter, or takes only one of two that are given.",
    "unknown_app": "No such app is configured, or none is named and there is no default.",
    "protected_user": "The user must never be acted on: an app's administrator, or one of protected_users.",
    "command_id_reused": "The same command_id came before with another action, target, users or parameters.",
}
"""Every code that a rejected outcome can carry, and what it means. The last is found by the engine, not by the decoder."""

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


def fault_of(checks: Mapping[str, Check], fields: Mapping[str, Any], path: str) -> OutcomeError | None:
    """The first fault of an object whose fields must pass ``checks``; ``path`` is where it stands (empty, or ending in a dot)."""
    for name in fields:
        if name not in checks:
            return _unknown(name, checks, path)
    for name, check in checks.items():
        if name in fields:
            fault = check(fields[name], path + name)
            if fault is not None:
                return fault
        elif name in REQUIRED:
            return OutcomeError("missing_field", f"{path}{name} is missing", path + name)
    return None


def _unknown(name: str, checks: Mapping[str, Check], path: str) -> OutcomeError:
    near = get_close_matches(name[:64].lower(), checks, n=1)
    hint = f": did you mean {near[0]!r}?" if near else f"; there are {', '.join(checks)}"
    return OutcomeError(
        "unknown_field", f"there is no field {path}{shown(name)}{hint}", f"{path}{shown(name, quoted=False)}"
    )


REQUIRED: Final = frozenset({"action", "user_ids"})


@dataclass(frozen=True, slots=True)
class Text:
    """
    The check of a string.

    Attributes:
        most: Bytes of UTF-8; None: no limit of its own.
        empty: It may be empty.
        free: It is text for people. Otherwise it is a name: without control characters and line ends.

    """

    most: int | None = None
    empty: bool = True
    free: bool = False

    def __call__(self, value: object, path: str) -> OutcomeError | None:
        """What is wrong with the value that stands at ``path``."""
        if not isinstance(value, str):
            return _wrong_type(value, path, "a string")
        if not value and not self.empty:
            return OutcomeError("empty", f"{path} must not be empty", path)
        if _SURROGATE.search(value):
            return _half_pair(path)
        if not self.free and (found := _CONTROL.search(value)):
            what = f"{path} holds the control character U+{ord(found[0]):04X} at character {found.start()}"
            return OutcomeError("bad_character", what, path)
        size = len(value.encode())
        if self.most is not None and size > self.most:
            return OutcomeError(
                "too_long", f"{path} has {size} bytes in UTF-8, and {self.most} are allowed", path
            )
        return None


CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
"""Control characters and line ends, as a class of a regular expression."""
_CONTROL: Final = re.compile(f"[{CONTROLS}]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


def _half_pair(path: str) -> OutcomeError:
    return OutcomeError(
        "bad_character", f"{path} holds half of a surrogate pair, which is no character", path
    )


def _users(value: object, path: str) -> OutcomeError | None:
    if not isinstance(value, list):
        return _wrong_type(value, path, "a list of strings")
    if not value:
        return OutcomeError("empty", f"{path} must name at least one user", path)
    if len(value) > USERS:
        what = f"{path} names {len(value)} users, and {USERS} are allowed: send several commands"
        return OutcomeError("too_many", what, path)
    faults = (USER_ID(user, f"{path}[{place}]") for place, user in enumerate(value))
    return next((fault for fault in faults if fault is not None), None)


def _duration(value: object, path: str) -> OutcomeError | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _wrong_type(value, path, "a whole number of seconds")
    if not 0 <= value <= DURATION_SECONDS:
        return OutcomeError("out_of_range", f"{path} must be from 0 to {DURATION_SECONDS} seconds", path)
    if isinstance(value, float):
        return _wrong_type(value, path, "a whole number of seconds, written without point and exponent")
    return None


def _role(value: object, path: str) -> OutcomeError | None:
    if value in ("Admin", "Member"):
        return None
    if not isinstance(value, str):
        return _wrong_type(value, path, "a string")
    return OutcomeError("out_of_range", f'{path} must be "Admin" or "Member", not {shown(value)}', path)


def _member_info(value: object, path: str) -> OutcomeError | None:
    if not isinstance(value, dict):
        return _wrong_type(value, path, "an object")
    return fault_of(MEMBER_INFO, value, f"{path}.")


def _metadata(value: object, path: str) -> OutcomeError | None:
    if not isinstance(value, dict):
        return _wrong_type(value, path, "an object")
    level: list[Any] = [value]
    for _ in range(METADATA_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if any(isinstance(inner, float) and not -inf < inner < inf for inner in level):
            return OutcomeError(
                "out_of_range", f"{path} holds a number that is too large to be passed on", path
            )
    if any(isinstance(inner, dict | list) for inner in level):
        return OutcomeError("too_deep", f"{path} is nested more than {METADATA_DEPTH} levels deep", path)
    try:
        size = len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return _half_pair(path)
    if size > METADATA_BYTES:
        return OutcomeError(
            "too_long", f"{path} has {size} bytes as JSON, and {METADATA_BYTES} are allowed", path
        )
    return None


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


USER_ID: Final = Text(USER_ID_BYTES, empty=False)

MEMBER_INFO: Final[dict[str, Check]] = {
    "name_card": Text(NAME_CARD_BYTES, free=True),
    "role": _role,
    "custom_info": Text(CUSTOM_INFO_BYTES, free=True),
}

FIELDS: Final[dict[str, Check]] = {
    "command_id": Text(COMMAND_ID_BYTES, empty=False),
    "action": Text(),
    "group_id": Text(TARGET_BYTES, empty=False),
    "room_id": Text(TARGET_BYTES, empty=False),
    "user_ids": _users,
    "duration": _duration,
    "banned_until": Text(TIME_BYTES),
    "reason": Text(REASON_BYTES, free=True),
    "member_info": _member_info,
    "app": Text(),
    "not_after": Text(TIME_BYTES),
    "issued_at": Text(TIME_BYTES),
    "issuer": Text(ISSUER_BYTES),
    "metadata": _metadata,
}
"""Every field of a command, and the check that tells what is wrong with its value."""


def _wrong_type(value: object, path: str, wanted: str) -> OutcomeError:
    if value is None:
        return OutcomeError("wrong_type", f"{path} is null: leave it out, or make it {wanted}", path)
    return OutcomeError("wrong_type", f"{path} must be {wanted}, not {kind(value)}", path)


_KINDS: Final = {
    str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip


def kind(value: object) -> str:
    """What a parsed JSON value is, in words."""
    return _KINDS[type(value)]


def shown(text: str, *, quoted: bool = True) -> str:
    """A text of the input as a message may show it: short, and printable in any log."""
    short = repr(text[:32])
    ending = "…" if len(text) > 32 else ""
    return f"{short}{ending}" if quoted else f"{short[1:-1]}{ending}"
