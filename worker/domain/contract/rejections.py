# Why a record was rejected, and which of its fields the outcome repeats all the same.
#
# Faults are found elsewhere: of the JSON in record_diagnosis.py and bounded_json_reader.py, of a field by itself in field_checks.py, of fields
# together in command_decoding.py, a reused id in admission_control.py, another format in foreign_format_hints.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from worker.domain.contract.field_checks import COMMAND_ID_BYTES, FIELDS, USERS, TextCheck
from worker.domain.contract.outcomes import RecordProblem, cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.domain.contract.cloudevent_envelope import Envelope
    from worker.domain.contract.outcomes import OutcomeError

REJECTIONS: Final = {
    "not_read": "The record is larger than is read, or its batch cannot be unpacked: only its size and hash are reported.",
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
    "bad_character": "A name holds a control character or one that nobody sees, an id begins or ends with a blank, "
    "or a text holds half of a surrogate pair.",
    "out_of_range": "A value is not one of those allowed.",
    "bad_time": "A time is not RFC 3339 with a time zone.",
    "unknown_action": "There is no such action.",
    "wrong_target": "The target's field is that of another kind of action, or both are given.",
    "wrong_parameter": "The action does not take this parameter, or takes only one of two that are given.",
    "unknown_app": "No such app is configured, or none is named and there is no default.",
    "protected_user": "The user must never be acted on: an app's administrator, or one of protected_users.",
    "command_id_reused": "The same command_id came before with another app, action, target, users or parameters.",
}
"""Every code that a rejected outcome can carry, and what it means. The last is found by the engine, not by the decoder."""

CARRIED_BYTES: Final = 512
"""The longest text of a rejected record that its outcome repeats."""
USER_BYTES: Final = 128
"""The longest user id that an outcome repeats: longer texts are no ids, and there may be a hundred."""


class Rejected(Struct, frozen=True):
    """
    Why a record was rejected. Its readable fields stand beside the reason, for the outcome.

    Attributes:
        code: One of ``REJECTIONS``.
        field: The field at fault, as a path (``user_ids[3]``); None if the record as a whole is.
        message: A sentence that a person can act on.
        command_id: None if it could not be read: then there is a dead letter and no outcome.
        also: Further problems of the same record.
        user_ids: The users that it names, as far as they can be read.

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
    also: tuple[RecordProblem, ...] = ()
    user_ids: tuple[str, ...] = ()

    @property
    def target(self) -> str | None:
        """The group or room that the record names, if that can be read."""
        return self.group_id or self.room_id


def rejected(fields: Mapping[str, Any], faults: Sequence[OutcomeError], envelope: Envelope) -> Rejected:
    """Report a record with these fields and at least one fault."""
    fault, *others = faults
    command_id = fields.get("command_id", envelope.command_id)
    carried: dict[str, Any] = {
        name: fields[name]
        for name in _CARRIED
        if name in fields and _carried_text(fields[name], name) is None
    }
    carried.setdefault("issued_at", envelope.issued_at)
    metadata = fields.get("metadata")
    return Rejected(
        code=fault.code,
        field=fault.field,
        message=cut(fault.message),
        command_id=command_id if _carried_id(command_id, "command_id") is None else None,
        metadata=metadata if FIELDS["metadata"](metadata, "metadata") is None else None,
        traceparent=envelope.traceparent,
        also=tuple(RecordProblem(other.code, cut(other.message), other.field) for other in others),
        user_ids=_users(fields.get("user_ids")),
        **carried,
    )


_CARRIED: Final = ("action", "app", "group_id", "room_id", "issuer", "issued_at")
_carried_id: Final = TextCheck(COMMAND_ID_BYTES, empty=False)
"""An id that ends in a blank is refused, but whoever issued it waits for an outcome with exactly this id."""
_carried_text: Final = TextCheck(CARRIED_BYTES, free=True)
_carried_user: Final = TextCheck(USER_BYTES, empty=False, free=True)


def _users(value: object) -> tuple[str, ...]:
    """Return the named users (or the only one) that are texts and not too long; each once, and not more than are allowed."""
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list | tuple):
        return ()
    return tuple(dict.fromkeys(user for user in named[:USERS] if _carried_user(user, "user_ids") is None))
