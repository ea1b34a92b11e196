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
    parts = astuple(wire)  # in the order of the fields above, which is faster than by name
    if not value.isascii() or _BACKSLASH in value or _DELETE in value:
        # A character may take several bytes or be a control character, and a colon may be written as an escape.
        suspects = (
            (text, check) for text, check in _texts(wire) if not (text.isascii() and text.isprintable())
        )
        if b"\\u003" in value or any(check(text, "") for text, check in suspects):
            return False
    users, command_id, group_id, room_id = parts[1], parts[2], parts[3], parts[4]
    if (
        " " in "".join(users)
        or (command_id and " " in command_id)
        or (group_id and " " in group_id)
        or (room_id and " " in room_id)
    ) and any(one and one.strip(" ") != one for one in (*users, command_id, group_id, room_id)):
        return False
    # A field that is given twice leaves a colon that is neither one field's nor inside a text.
    spare = value.count(b":") - len(parts) + parts.count(UNSET)
    if wire.metadata is not UNSET:
        metadata = bytes(wire.metadata)
        if len(metadata) > PLAIN_METADATA_BYTES:
            return False
        if metadata.count(b"{") + metadata.count(b"[") > METADATA_DEPTH:
            return False
        spare -= metadata.count(b":")
    if wire.member_info is not UNSET:
        inner = astuple(wire.member_info)
        spare -= len(inner) - inner.count(UNSET)
    for part in parts if spare else ():
        if type(part) is str:
            spare -= part.count(":")
    if spare:
        spare -= sum(text.count(":") for text, _ in _inner_texts(wire))
    return not spare


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
