# The JSON of a command as a type: for the fast decoder, and for the schema.
#
# Lengths are counted in characters here, so these checks are necessary and not sufficient; is_plain() tells when they suffice.
# Not here: the same checks in sentences (field_checks.py), and what the fields mean together or for an action (command_decoding.py).

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import astuple

from worker.domain.contract.actions import (
    CUSTOM_INFO_BYTES,
    NAME_CARD_BYTES,
    REASON_BYTES,
    TARGET_BYTES,
    USER_ID_BYTES,
)
from worker.domain.contract.field_checks import (
    COMMAND_ID_BYTES,
    DURATION_SECONDS,
    FIELDS,
    ISSUER_BYTES,
    MEMBER_INFO,
    METADATA_DEPTH,
    TIME_BYTES,
    USER_ID,
    USERS,
)

if TYPE_CHECKING:
    from worker.domain.contract.field_checks import Check

PLAIN_METADATA_BYTES: Final = 800
"""Short enough to stay below ``METADATA_BYTES`` however the outcome writes its numbers (at most some five times as long)."""

_BACKSLASH: Final = ord("\\")
_DELETE: Final = 0x7F
"""As numbers they are found in bytes five times as fast."""

UserId = Annotated[str, Meta(min_length=1, max_length=USER_ID_BYTES)]
TargetId = Annotated[str, Meta(min_length=1, max_length=TARGET_BYTES)]
Moment = Annotated[str, Meta(max_length=TIME_BYTES, extra_json_schema={"format": "date-time"})]


class WireMemberInfo(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """``member_info`` as it is written."""

    name_card: Annotated[str, Meta(max_length=NAME_CARD_BYTES)] | UnsetType = UNSET
    role: Literal["Admin", "Member"] | UnsetType = UNSET
    custom_info: Annotated[str, Meta(max_length=CUSTOM_INFO_BYTES)] | UnsetType = UNSET


class WireCommand(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A command as it is written."""

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
    priority: Literal["urgent", "normal"] | UnsetType = UNSET
    issued_at: Annotated[str, Meta(max_length=TIME_BYTES)] | UnsetType = UNSET
    issuer: Annotated[str, Meta(max_length=ISSUER_BYTES)] | UnsetType = UNSET
    metadata: Annotated[Raw, Meta(extra_json_schema={"type": "object"})] | UnsetType = UNSET


def is_plain(value: bytes, wire: WireCommand) -> bool:
    """
    Return whether the checks of the typed decoder suffice for each field by itself.

    ``wire`` is the decoder's result for ``value``. If not, ``record_diagnosis.read`` must judge: it costs much more, and is always right.
    """
    return not (
        _may_hold_strange_text(value, wire)
        or _has_blank_at_an_end(wire)
        or (wire.metadata is not UNSET and _is_large(bytes(wire.metadata)))
        or _may_give_a_field_twice(value, wire)
    )


def _may_hold_strange_text(value: bytes, wire: WireCommand) -> bool:
    """Return whether a text is longer in bytes than in characters and too long, or has a character that nobody sees."""
    if value.isascii() and _BACKSLASH not in value and _DELETE not in value:
        return False
    if b"\\u003" in value:  # a colon may be written as an escape, and then colons cannot be counted
        return True
    return any(check(text, "") for text, check in _texts(wire) if not (text.isascii() and text.isprintable()))


def _has_blank_at_an_end(wire: WireCommand) -> bool:
    ids = (*wire.user_ids, wire.command_id or "", wire.group_id or "", wire.room_id or "")
    return " " in "".join(ids) and any(one.strip(" ") != one for one in ids)


def _is_large(metadata: bytes) -> bool:
    is_nested = metadata.count(b"{") + metadata.count(b"[") > METADATA_DEPTH
    return is_nested or len(metadata) > PLAIN_METADATA_BYTES


def _may_give_a_field_twice(value: bytes, wire: WireCommand) -> bool:
    """Return whether there is a colon that is neither one field's nor inside a text."""
    parts = astuple(wire)
    spare = value.count(b":") - len(parts) + parts.count(UNSET)
    if wire.metadata is not UNSET:
        spare -= bytes(wire.metadata).count(b":")
    if wire.member_info is not UNSET:
        inner = astuple(wire.member_info)
        spare -= len(inner) - inner.count(UNSET)
    if spare:  # as few have: then the texts are looked through
        spare -= sum([part.count(":") for part in parts if type(part) is str])
    if spare:
        spare -= sum([text.count(":") for text, _ in _inner_texts(wire)])
    return spare != 0


def _texts(wire: WireCommand) -> list[tuple[str, Check]]:
    """Return every text of the command but those inside its metadata, and what checks it."""
    parts = zip(WireCommand.__struct_fields__, astuple(wire), strict=True)
    return [(part, FIELDS[name]) for name, part in parts if isinstance(part, str)] + _inner_texts(wire)


def _inner_texts(wire: WireCommand) -> list[tuple[str, Check]]:
    found: list[tuple[str, Check]] = [(user, USER_ID) for user in wire.user_ids]
    if wire.member_info is not UNSET:
        parts = zip(WireMemberInfo.__struct_fields__, astuple(wire.member_info), strict=True)
        found += [(part, MEMBER_INFO[name]) for name, part in parts if isinstance(part, str)]
    return found
