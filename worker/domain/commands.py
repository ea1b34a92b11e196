# Bytes of a record -> Command, or Rejected with the field and the reason.
#
# What the contract of a command is (what each action takes, which fields exclude each other, who is protected) is decided
# here, from the table in actions.py; what a field must look like by itself stands in wire.py.
# Nothing here knows what was seen before: repeats and order are the engine's.

import re
from datetime import datetime
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict, astuple

from worker.domain.actions import ACTIONS, Action, Target
from worker.domain.outcomes import Fault, cut
from worker.domain.wire import DURATION_SECONDS, FIELDS, WireCommand, WireMemberInfo, read, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.domain.effects import Record
    from worker.domain.rules import Rules

REJECTIONS: Final = {
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

CARRIED_BYTES: Final = 512
"""The longest text of a refused record that its outcome repeats."""


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


class _Envelope(Struct, frozen=True):
    """
    What a record's headers say: CloudEvents' binary mode, and the trace.
    """

    command_id: str | None = None
    issued_at: str | None = None
    traceparent: str | None = None


_NO_ENVELOPE: Final = _Envelope()
_HEADERS: Final = {
    "ce_id": ("command_id", FIELDS["command_id"]),
    "ce_time": ("issued_at", FIELDS["issued_at"]),
    "traceparent": ("traceparent", text_of(128)),
}

_PARAMETERS: Final = ("duration", "banned_until", "reason", "member_info")
_DURATION, _BANNED_UNTIL, _REASON, _MEMBER_INFO = (1 << place for place in range(len(_PARAMETERS)))
_NO_MEMBER_INFO: Final = WireMemberInfo()


class _Plan(Struct, frozen=True):
    """
    A row of the table of actions, prepared for the decoder.

    Attributes:
        mixes: The sets of parameters that a command of this action may have, each as bits in the order of ``_PARAMETERS``.

    """

    action: Action
    mixes: frozenset[int]


def _plan(action: Action) -> _Plan:
    subsets = (chain.from_iterable(combinations(_PARAMETERS, size) for size in range(len(_PARAMETERS) + 1)))
    right = (given for given in subsets if _mix_fault(action, given) is None)
    return _Plan(action, frozenset(sum(1 << _PARAMETERS.index(name) for name in given) for given in right))


def _mix_fault(action: Action, given: "Collection[str]") -> Fault | None:
    """
    What is wrong with a command of this action that has these parameters.
    """
    for name in given:
        if name not in action.takes:
            return Fault("wrong_parameter", f"{action.name} does not take {name}", name)
    for need in action.needs:
        names = (need,) if isinstance(need, str) else need
        found = [name for name in names if name in given]
        if not found:
            return Fault("missing_field", f"{action.name} needs {' or '.join(names)}", names[0])
        if len(found) > 1:
            return Fault("wrong_parameter", f"{action.name} takes {' or '.join(names)}, not both", found[1])
    return None


class Decoder:
    """
    Reads records of the command topic.

    ``decode`` never raises, whatever the record holds, and takes some 3 µs for a valid command of one member.
    """

    def __init__(self, rules: "Rules") -> None:
        self._default_app = rules.default_app
        self._protected = {app: rules.protected_users | {identifier} for app, identifier in rules.apps.items()}
        self._plans = {name: _plan(action) for name, action in ACTIONS.items()}
        self._wire = msgspec.json.Decoder(WireCommand)
        self._metadata = msgspec.json.Decoder(dict[str, Any])

    def __repr__(self) -> str:
        return f"<Decoder {len(self._protected)} apps, default {self._default_app!r}>"

    def decode(self, record: "Record") -> Command | Rejected:
        """
        What the record commands, or why it is refused.

        In CloudEvents' binary mode the headers ``ce_id`` and ``ce_time`` stand in for an absent ``command_id`` and ``issued_at``.
        """
        value = record.value
        envelope = _envelope(record.headers) if record.headers else _NO_ENVELOPE
        if not value:
            what = "the record has no value: a command is a JSON object" if value is None else "the record's value is empty"
            return _rejected({}, Fault("no_value", what), envelope)
        metadata: dict[str, Any] | None = None
        try:
            wire = self._wire.decode(value)
            if wire.metadata is not UNSET:
                metadata = self._metadata.decode(wire.metadata)
        except (ValueError, RecursionError) as error:
            reading = read(value)
            return _rejected(reading.fields, reading.fault or Fault("not_json", str(error)), envelope)
        if not _is_plain(value, wire):
            reading = read(value)
            if reading.fault is not None:
                return _rejected(reading.fields, reading.fault, envelope)
        judged = self._judge(wire, metadata, envelope)
        if isinstance(judged, Command):
            return judged
        fields = {name: field for name, field in asdict(wire).items() if field is not UNSET}
        return _rejected(fields | {"metadata": metadata}, judged, envelope)

    def _judge(self, wire: WireCommand, metadata: dict[str, Any] | None, envelope: _Envelope) -> Command | Fault:
        """
        Whether fields that are right by themselves are right together.
        """
        command_id = wire.command_id or envelope.command_id
        if command_id is None:
            return Fault("missing_field", "command_id is missing, and no usable header ce_id stands in for it", "command_id")

        plan = self._plans.get(wire.action)
        if plan is None:
            what = f"there is no action {shown(wire.action)}; there are {', '.join(self._plans)}"
            return Fault("unknown_action", what, "action")
        action = plan.action

        target, other = wire.group_id, wire.room_id
        if action.target is Target.ROOM:
            target, other = other, target
        if target is UNSET or other is not UNSET:
            return _target_fault(action, wire)

        duration, reason, member_info = wire.duration or None, wire.reason or None, wire.member_info or None
        ...
