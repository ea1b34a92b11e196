# Bytes of a record -> Command, or Rejected with the field and the reason.
#
# What the contract of a command is (what each action takes, which fields exclude each other, who is protected) is decided
# here, from the table in actions.py; what a field must look like by itself stands in wire.py.
# Nothing here knows what was seen before: repeats and order are the engine's.

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import asdict, astuple

from worker.domain.actions import ACTIONS, Action, Target
from worker.domain.outcomes import Fault, cut
from worker.domain.wire import (
    DURATION_SECONDS,
    FIELDS,
    MEMBER_INFO,
    METADATA_DEPTH,
    WireCommand,
    WireMemberInfo,
    read,
    shown,
    text_of,
)

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
PLAIN_METADATA_BYTES: Final = 800
"""So short that it stays below ``METADATA_BYTES`` however its numbers are written anew."""


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
_DURATION, _BANNED_UNTIL, _REASON, _MEMBER_INFO = 1, 2, 4, 8
_NO_MEMBER_INFO: Final = WireMemberInfo()


class _Plan(Struct, frozen=True):
    """
    A row of the table of actions, prepared for the decoder.

    Attributes:
        mixes: For each set of parameters, as bits in the order of ``_PARAMETERS``: what is wrong with it, or None.

    """

    action: Action
    mixes: tuple[Fault | None, ...]


def _plan(action: Action) -> _Plan:
    mixes = range(1 << len(_PARAMETERS))
    given = ([name for place, name in enumerate(_PARAMETERS) if mix & 1 << place] for mix in mixes)
    return _Plan(action, tuple(_mix_fault(action, names) for names in given))


def _mix_fault(action: Action, given: list[str]) -> Fault | None:
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

    ``decode`` never raises, whatever the record holds. A valid command of one member costs about 3 µs.
    """

    def __init__(self, rules: "Rules") -> None:
        self._default_app = rules.default_app
        self._protected = {
            app: rules.protected_users | {identifier} for app, identifier in rules.apps.items()
        }
        self._plans = {name: _plan(action) for name, action in ACTIONS.items()}
        self._wire = msgspec.json.Decoder(WireCommand)
        self._metadata = msgspec.json.Decoder(dict[str, Any])

    def __repr__(self) -> str:
        return f"<Decoder {len(self._protected)} apps, default {self._default_app!r}>"

    def decode(self, record: "Record") -> Command | Rejected:
        """
        What the record commands, or why it is refused.

        In CloudEvents' binary mode the headers ``ce_id`` and ``ce_time`` stand in for an absent ``command_id`` and
        ``issued_at``. Of a repeated header the last counts; one that is not usable is as good as absent.
        """
        value = record.value
        envelope = _envelope(record.headers) if record.headers else _NO_ENVELOPE
        if not value:
            what = "null" if value is None else "empty"
            return _rejected(
                {}, Fault("no_value", f"the record's value is {what}: a command is a JSON object"), envelope
            )
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

    def _judge(
        self, wire: WireCommand, metadata: dict[str, Any] | None, envelope: _Envelope
    ) -> Command | Fault:
        """
        Whether fields that are right by themselves are right together.
        """
        command_id = wire.command_id or envelope.command_id
        if command_id is None:
            return Fault(
                "missing_field",
                "command_id is missing, and no usable header ce_id stands in for it",
                "command_id",
            )

        plan = self._plans.get(wire.action)
        if plan is None:
            what = f"there is no action {shown(wire.action)}; there are {', '.join(self._plans)}"
            return Fault("unknown_action", what, "action")
        action = plan.action

        target, other = wire.group_id, wire.room_id
        if action.target is Target.ROOM:
            target, other = other, target
        if not target or other:
            return _target_fault(action, wire)

        duration, banned_until, reason, member_info = (
            wire.duration,
            wire.banned_until,
            wire.reason,
            wire.member_info,
        )
        mix = 0 if duration is UNSET else _DURATION
        if banned_until is not UNSET:
            mix |= _BANNED_UNTIL
        if reason is not UNSET:
            mix |= _REASON
        if member_info is not UNSET:
            mix |= _MEMBER_INFO
        fault = plan.mixes[mix]
        if fault is not None:
            return fault
        if reason == "" and "reason" in action.needs:
            return Fault("empty", f"{action.name} needs a reason that is not empty", "reason")
        if member_info == _NO_MEMBER_INFO:
            return Fault(
                "empty", f"member_info must set at least one of {', '.join(MEMBER_INFO)}", "member_info"
            )

        until = deadline = None
        if banned_until is not UNSET:
            until = _epoch(banned_until)
            if until is None:
                return _time_fault("banned_until", banned_until)
            if until > DURATION_SECONDS:
                what = "banned_until must be before 2106-02-07T06:28:16Z: Tencent counts a ban in 32 bits of seconds"
                return Fault("out_of_range", what, "banned_until")
        if wire.not_after is not UNSET:
            deadline = _epoch(wire.not_after)
            if deadline is None:
                return _time_fault("not_after", wire.not_after)

        app = self._default_app if wire.app is UNSET else wire.app
        if app is None:
            return Fault("unknown_app", "app is missing, and the worker has no default_app", "app")
        protected = self._protected.get(app)
        if protected is None:
            return Fault(
                "unknown_app", f"there is no app {shown(app)}; there are {', '.join(self._protected)}", "app"
            )
        users = wire.user_ids
        if not protected.isdisjoint(users):
            place = next(place for place, user in enumerate(users) if user in protected)
            what = f"{shown(users[place])} is protected: it is never acted on"
            return Fault("protected_user", what, f"user_ids[{place}]")

        return Command(
            command_id,
            action,
            app,
            target,
            users if len(users) == 1 else tuple(dict.fromkeys(users)),
            None if duration is UNSET else duration,
            until,
            None if banned_until is UNSET else banned_until,
            None if reason is UNSET else reason,
            None if member_info is UNSET else _member_info(member_info),
            deadline,
            envelope.issued_at if wire.issued_at is UNSET else wire.issued_at,
            None if wire.issuer is UNSET else wire.issuer,
            metadata,
            envelope.traceparent,
        )


def _target_fault(action: Action, wire: WireCommand) -> Fault:
    takes = action.target.value
    other = next(target.value for target in Target if target is not action.target)
    if getattr(wire, other) is UNSET:
        return Fault("missing_field", f"{action.name} needs {takes}", takes)
    what = f"not {other}" if getattr(wire, takes) is UNSET else "and not both"
    return Fault("wrong_target", f"{action.name} takes {takes}, {what}", other)


def _time_fault(name: str, text: str) -> Fault:
    return Fault(
        "bad_time",
        f"{name} must be RFC 3339 with a time zone, as 2030-01-31T12:00:00Z, not {shown(text)}",
        name,
    )


def _member_info(wire: WireMemberInfo) -> MemberInfo:
    return MemberInfo(**{name: field for name, field in asdict(wire).items() if field is not UNSET})


_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9]:)([0-5][0-9]|60)((?:\.[0-9]+)?)"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


def _epoch(text: str) -> float | None:
    """
    Seconds since 1970 of an RFC 3339 time, or None when it is none. A leap second is the last of its minute.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    day, minute, second, fraction, zone = found.groups()
    leap = second == "60"
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}{'59' if leap else second}{fraction}{zone.upper()}")
    except ValueError:  # a day that is in no calendar
        return None
    return moment.timestamp()


def _is_plain(value: bytes, wire: WireCommand) -> bool:
    """
    Whether what the typed decoder checked is all that there is to check of each field by itself.

    In ASCII without escapes a character is a byte, and none is half a pair or (but for DEL) a control character. A field
    given twice leaves a colon over. Metadata that is short and flat needs no closer look.
    """
    if not value.isascii() or b"\\" in value or b"\x7f" in value:
        return False
    parts = astuple(wire)
    colons = len(parts) - parts.count(UNSET)
    if wire.metadata is not UNSET:
        metadata = bytes(wire.metadata)
        if (
            len(metadata) > PLAIN_METADATA_BYTES
            or metadata.count(b"{") + metadata.count(b"[") > METADATA_DEPTH
        ):
            return False
        colons += metadata.count(b":")
    return value.count(b":") == colons + _colons(parts)


def _colons(parts: "Iterable[object]") -> int:
    """
    The colons inside the texts, and one for each field of ``member_info``.
    """
    colons = 0
    for part in parts:
        if isinstance(part, str):
            colons += part.count(":")
        elif isinstance(part, tuple):
            colons += _colons(part)
        elif isinstance(part, WireMemberInfo):
            inner = astuple(part)
            colons += len(inner) - inner.count(UNSET) + _colons(inner)
    return colons


def _envelope(headers: "Sequence[tuple[str, bytes | None]]") -> _Envelope:
    found: dict[str, str] = {}
    for header, value in headers:
        if header in _HEADERS and value is not None:
            name, check = _HEADERS[header]
            try:
                text = value.decode()
            except UnicodeDecodeError:
                continue
            if check(text, name) is None:
                found[name] = text
    return _Envelope(**found)


def _rejected(fields: "Mapping[str, Any]", fault: Fault, envelope: _Envelope) -> Rejected:
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
        command_id=command_id if FIELDS["command_id"](command_id, "command_id") is None else None,
        metadata=metadata if FIELDS["metadata"](metadata, "metadata") is None else None,
        traceparent=envelope.traceparent,
        **carried,
    )


_CARRIED: Final = ("action", "app", "group_id", "room_id", "issuer", "issued_at")
_carried_text: Final = text_of(CARRIED_BYTES, free=True)
