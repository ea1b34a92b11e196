# Bytes of a record -> Command, or Rejected with the field and the reason.
#
# What the contract of a command is (its fields, their sizes in bytes, what each action takes) is decided here,
# from the table in actions.py. Nothing here knows what was seen before: repeats and order are the engine's.

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from worker.domain.actions import Action


class MemberInfo(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """
    What ``room.update_room_member_info`` sets; at least one of the three.
    """

    name_card: str | None = None
    role: Literal["Admin", "Member"] | None = None
    custom_info: str | None = None


class Command(Struct, frozen=True):
    """
    One valid command.

    Attributes:
        users: Without repeats, in the order given.
        banned_until_text: As it was written, for the outcome; ``banned_until`` is the same in seconds since 1970.
        not_after: Seconds since 1970, or None.

    """

    command_id: str
    action: Action
    app: str
    target: str
    users: tuple[str, ...]
    duration: int | None = None
    banned_until: float | None = None
    banned_until_text: str | None = None
    reason: str | None = None
    member_info: MemberInfo | None = None
    not_after: float | None = None
    issued_at: str | None = None
    issuer: str | None = None
    metadata: dict[str, Any] | None = None
    traceparent: str | None = None


class Rejected(Struct, frozen=True):
    """
    Why a record is not a command. What could be read of it stands beside the reason, for the outcome.

    Attributes:
        code: One of ``REJECTIONS``.
        field: The field at fault, as a path (``user_ids[3]``), or None when the record as a whole is.
        message: A sentence that a person can act on.
        command_id: None when it could not be read: then there is a dead letter and no outcome.

    """

    code: str
    field: str | None
    message: str
    command_id: str | None = None
    action: str | None = None
    app: str | None = None
    group_id: str | None = None
    room_id: str | None = None
    issuer: str | None = None
    issued_at: str | None = None
    metadata: dict[str, Any] | None = None
    traceparent: str | None = None
