# Validates a request's body against its endpoint's page: what it asks for, or the code that refuses it.
#
# Pure. Whether users and targets exist is decided in decision.py; what a call changes is in chat_state.py.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.testing.simulator.endpoint_specs import (
    GROUP_LIST_MOST,
    MEMBER_FIELDS,
    MEMBERS_PER_CALL,
    U32_MAX,
    USER_BYTES,
    FieldShape,
)

if TYPE_CHECKING:
    from worker.testing.simulator.endpoint_specs import BodyField, EndpointSpec

NOT_JSON: Final = 60003
"""Tencent's common code for a body that is no JSON."""


@dataclass(frozen=True, slots=True)
class BodyRefusal:
    """An error code and its text."""

    code: int
    info: str


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """
    As much of a body as could be read, and what is wrong with it, if anything.

    Attributes:
        target: The group or room; None if the body names none.
        users: The members named, in order, without repeats.
        parameters: Every other documented field, as it was sent.
        ignored: Undocumented fields. Tencent ignores them, so a misspelt one is lost silently.
        refusal: None if the body satisfies every rule of the page.

    """

    target: str | None = None
    users: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    refusal: BodyRefusal | None = None


def read(spec: EndpointSpec, body: bytes) -> ParsedBody:
    """Parse and validate a body. The first broken rule, in the order of the page, decides the refusal."""
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ParsedBody(refusal=BodyRefusal(NOT_JSON, "the body is no JSON"))
    if not isinstance(given, dict):
        return ParsedBody(refusal=BodyRefusal(NOT_JSON, "the body is no JSON object"))
    names = [rule.name for rule in spec.fields]
    target = given.get(spec.target)
    return ParsedBody(
        target=target if isinstance(target, str) else None,
        users=_users(spec, given),
        parameters={name: given[name] for name in names if name in given and name not in _WHO},
        ignored=tuple(name for name in given if name not in names),
        refusal=next((refusal for rule in spec.fields if (refusal := _broken(spec, rule, given))), None),
    )


def group_list_limit(body: bytes) -> int | None:
    """Return how many groups a request asks for; None if it does not keep to the page."""
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    limit = given.get("Limit", GROUP_LIST_MOST) if isinstance(given, dict) else None
    return limit if type(limit) is int and 0 <= limit <= GROUP_LIST_MOST else None


_WHO: Final = frozenset({"GroupId", "RoomId", "Members_Account", "MemberList_Account"})


def _users(spec: EndpointSpec, given: dict[str, Any]) -> tuple[str, ...]:
    for rule in spec.fields:
        value = given.get(rule.name)
        if rule.shape is FieldShape.USERS and isinstance(value, list):
            return tuple(dict.fromkeys(user for user in value if isinstance(user, str)))
        if (
            rule.shape is FieldShape.MEMBER
            and isinstance(value, dict)
            and isinstance(value.get("Member_Account"), str)
        ):
            return (value["Member_Account"],)
    return ()


def _broken(spec: EndpointSpec, rule: BodyField, given: dict[str, Any]) -> BodyRefusal | None:
    code = spec.codes.bad_field
    if rule.name not in given:
        return BodyRefusal(code, f"{rule.name} is missing") if rule.mandatory else None
    value = given[rule.name]
    match rule.shape:
        case FieldShape.TEXT:
            return _broken_text(rule, value, code)
        case FieldShape.U32:
            right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= U32_MAX
            return None if right else _wrong_shape(rule, code)
        case FieldShape.USERS:
            return _broken_users(spec, rule, value)
        case FieldShape.MEMBER:
            if not isinstance(value, dict):
                return _wrong_shape(rule, code)
            return next((refusal for part in MEMBER_FIELDS if (refusal := _broken(spec, part, value))), None)


def _broken_text(rule: BodyField, value: object, code: int) -> BodyRefusal | None:
    if not isinstance(value, str):
        return _wrong_shape(rule, code)
    if not value and not rule.empty:
        return BodyRefusal(code, f"{rule.name} is empty")
    if rule.max_bytes is not None and (size := len(value.encode())) > rule.max_bytes:
        return BodyRefusal(code, f"{rule.name} has {size} bytes, more than {rule.max_bytes}")
    if rule.choices and value not in rule.choices:
        return BodyRefusal(code, f"{rule.name} must be one of {', '.join(rule.choices)}")
    return None


def _broken_users(spec: EndpointSpec, rule: BodyField, value: object) -> BodyRefusal | None:
    code = spec.codes.bad_field
    if not isinstance(value, list) or not all(isinstance(user, str) for user in value):
        return _wrong_shape(rule, code)
    if not value:
        return BodyRefusal(code, f"{rule.name} names no users")
    if len(value) > MEMBERS_PER_CALL:
        return BodyRefusal(
            spec.codes.too_many, f"{rule.name} names {len(value)} members, more than {MEMBERS_PER_CALL}"
        )
    for place, user in enumerate(value):
        if not 0 < len(user.encode()) <= USER_BYTES:
            return BodyRefusal(code, f"{rule.name}[{place}] must have 1 to {USER_BYTES} bytes")
    return None


def _wrong_shape(rule: BodyField, code: int) -> BodyRefusal:
    return BodyRefusal(code, f"{rule.name} must be {rule.shape.value}")
