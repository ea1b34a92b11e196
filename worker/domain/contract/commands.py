# Bytes of a record -> Command, or Rejected with the field and the reason.
#
# What fields mean together (what each action takes, what excludes what, who is protected) is decided here, from the table
# in actions.py; what a field must look like by itself stands in fields.py.
# Nothing here knows what was seen before: repeats and order are the engine's.

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import asdict

from worker.domain.contract.actions import ACTIONS, Action, MemberInfo, TargetField
from worker.domain.contract.envelope import NO_ENVELOPE, envelope_of
from worker.domain.contract.fields import DURATION_SECONDS, FIELDS, MEMBER_INFO, Text, shown
from worker.domain.contract.fields import REJECTIONS as REJECTIONS
from worker.domain.contract.outcomes import OutcomeError, cut
from worker.domain.contract.reading import read
from worker.domain.contract.records import Omitted, OmittedHeaders
from worker.domain.contract.times import instant_of, rfc3339
from worker.domain.contract.wire import WireCommand, WireMemberInfo, is_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.domain.contract.envelope import Envelope
    from worker.domain.contract.records import Record
    from worker.domain.rules import Rules

NOT_READ: Final = OutcomeError(
    "not_read", "the record is larger than is read: give less, or several commands"
)
CARRIED_BYTES: Final = 512
"""The longest text of a refused record that its outcome repeats."""
LATEST_BAN_END: Final = float(DURATION_SECONDS)
"""Seconds since 1970, in 2106. A ban that ends by then never needs more seconds than Tencent's 32 bits can count."""


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

    @property
    def last_moment(self) -> float | None:
        """
        The last instant at which a try may be sent, in seconds since 1970; None: there is none.

        A ban of less than a second is none any more.
        """
        if self.banned_until is None:
            return self.not_after
        return (
            self.banned_until - 1.0
            if self.not_after is None
            else min(self.not_after, self.banned_until - 1.0)
        )


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
    mixes: tuple[OutcomeError | None, ...]


def _plan(action: Action) -> _Plan:
    mixes = range(1 << len(_PARAMETERS))
    given = ([name for place, name in enumerate(_PARAMETERS) if mix & 1 << place] for mix in mixes)
    return _Plan(action, tuple(_mix_fault(action, names) for names in given))


def _mix_fault(action: Action, given: list[str]) -> OutcomeError | None:
    for name in given:
        if name not in action.takes:
            return OutcomeError("wrong_parameter", f"{action.name} does not take {name}", name)
    for need in action.needs:
        names = (need,) if isinstance(need, str) else need
        found = [name for name in names if name in given]
        if not found:
            return OutcomeError("missing_field", f"{action.name} needs {' or '.join(names)}", names[0])
        if len(found) > 1:
            return OutcomeError(
                "wrong_parameter", f"{action.name} takes {' or '.join(names)}, not both", found[1]
            )
    return None


class Decoder:
    """
    Reads records of the command topic.

    ``decode`` never raises, whatever the record holds. A valid command of one member costs about 3 µs.
    """

    def __init__(self, rules: Rules) -> None:
        self._default_app = rules.default_app
        self._protected = {
            app: rules.protected_users | {identifier} for app, identifier in rules.apps.items()
        }
        self._plans = {name: _plan(action) for name, action in ACTIONS.items()}
        self._wire = msgspec.json.Decoder(WireCommand)
        self._metadata = msgspec.json.Decoder(dict[str, Any])

    def __repr__(self) -> str:
        return f"<Decoder {len(self._protected)} apps, default {self._default_app!r}>"

    def decode(self, record: Record) -> Command | Rejected:
        """
        What the record commands, or why it is refused.

        In CloudEvents' binary mode the headers ``ce_id`` and ``ce_time`` stand in for an absent ``command_id`` and
        ``issued_at``. Of a repeated header the last counts; one that is not usable is as good as absent.
        """
        value = record.value
        envelope = envelope_of(record.headers) if record.headers else NO_ENVELOPE
        if isinstance(record.key, Omitted) or (
            not record.headers and isinstance(record.headers, OmittedHeaders)
        ):
            return _rejected({}, NOT_READ, envelope)
        if not value:
            if isinstance(value, Omitted):
                return _rejected({}, OutcomeError("not_read", value.why or NOT_READ.message), envelope)
            what = "null" if value is None else "empty"
            return _rejected(
                {},
                OutcomeError("no_value", f"the record's value is {what}: a command is a JSON object"),
                envelope,
            )
        metadata: dict[str, Any] | None = None
        try:
            wire = self._wire.decode(value)
            if wire.metadata is not UNSET:
                metadata = self._metadata.decode(wire.metadata)
        except (ValueError, RecursionError) as error:
            reading = read(value)
            return _rejected(reading.fields, reading.fault or OutcomeError("not_json", str(error)), envelope)
        if not is_plain(value, wire):
            reading = read(value)
            if reading.fault is not None:
                return _rejected(reading.fields, reading.fault, envelope)
        judged = self._judge(wire, metadata, envelope)
        if isinstance(judged, Command):
            return judged
        fields = {name: field for name, field in asdict(wire).items() if field is not UNSET}
        return _rejected(fields | {"metadata": metadata}, judged, envelope)

    def _judge(
        self, wire: WireCommand, metadata: dict[str, Any] | None, envelope: Envelope
    ) -> Command | OutcomeError:
        """Whether fields that are right by themselves are right together."""
        command_id = wire.command_id or envelope.command_id
        if command_id is None:
            what = "command_id is missing, and no usable header ce_id stands in for it"
            return OutcomeError("missing_field", what, "command_id")
        plan = self._plans.get(wire.action)
        if plan is None:
            what = f"there is no action {shown(wire.action)}; there are {', '.join(self._plans)}"
            return OutcomeError("unknown_action", what, "action")
        target, other = wire.group_id, wire.room_id
        if plan.action.target is TargetField.ROOM:
            target, other = other, target
        if not target or other:
            return _target_fault(plan.action, wire)
        fault = _parameters_fault(plan, wire)
        if fault is not None:
            return fault
        app = self._default_app if wire.app is UNSET else wire.app
        if app is None:
            return OutcomeError("unknown_app", "app is missing, and the worker has no default_app", "app")
        fault = self._users_fault(app, wire.user_ids)
        if fault is not None:
            return fault
        until = (
            None
            if wire.banned_until is UNSET
            else _instant("banned_until", wire.banned_until, LATEST_BAN_END)
        )
        if isinstance(until, OutcomeError):
            return until
        not_after = None if wire.not_after is UNSET else _instant("not_after", wire.not_after)
        if isinstance(not_after, OutcomeError):
            return not_after
        return Command(
            command_id,
            plan.action,
            app,
            target,
            wire.user_ids if len(wire.user_ids) == 1 else tuple(dict.fromkeys(wire.user_ids)),
            None if wire.duration is UNSET else wire.duration,
            until,
            None if wire.banned_until is UNSET else wire.banned_until,
            None if wire.reason is UNSET else wire.reason,
            None if wire.member_info is UNSET else _member_info(wire.member_info),
            not_after,
            envelope.issued_at if wire.issued_at is UNSET else wire.issued_at,
            None if wire.issuer is UNSET else wire.issuer,
            metadata,
            envelope.traceparent,
        )

    def _users_fault(self, app: str, users: tuple[str, ...]) -> OutcomeError | None:
        protected = self._protected.get(app)
        if protected is None:
            return OutcomeError(
                "unknown_app", f"there is no app {shown(app)}; there are {', '.join(self._protected)}", "app"
            )
        if protected.isdisjoint(users):
            return None
        place = next(place for place, user in enumerate(users) if user in protected)
        return OutcomeError(
            "protected_user",
            f"{shown(users[place])} is protected: it is never acted on",
            f"user_ids[{place}]",
        )


def _target_fault(action: Action, wire: WireCommand) -> OutcomeError:
    takes = action.target.value
    other = next(target.value for target in TargetField if target is not action.target)
    if getattr(wire, other) is UNSET:
        return OutcomeError("missing_field", f"{action.name} needs {takes}", takes)
    what = f"not {other}" if getattr(wire, takes) is UNSET else "and not both"
    return OutcomeError("wrong_target", f"{action.name} takes {takes}, {what}", other)


def _parameters_fault(plan: _Plan, wire: WireCommand) -> OutcomeError | None:
    mix = 0 if wire.duration is UNSET else _DURATION
    if wire.banned_until is not UNSET:
        mix |= _BANNED_UNTIL
    if wire.reason is not UNSET:
        mix |= _REASON
    if wire.member_info is not UNSET:
        mix |= _MEMBER_INFO
    fault = plan.mixes[mix]
    if fault is not None:
        return fault
    if wire.reason == "" and "reason" in plan.action.needs:
        return OutcomeError("empty", f"{wire.action} needs a reason that is not empty", "reason")
    if wire.member_info == _NO_MEMBER_INFO:
        return OutcomeError(
            "empty", f"member_info must set at least one of {', '.join(MEMBER_INFO)}", "member_info"
        )
    return None


def _instant(name: str, text: str, latest: float = inf) -> float | OutcomeError:
    try:
        instant = instant_of(text)
    except ValueError as error:
        return OutcomeError("bad_time", f"{name} is {shown(text)}: {error}", name)
    if instant > latest:
        return OutcomeError("out_of_range", f"{name} must not be later than {rfc3339(latest)}", name)
    return instant


def _member_info(wire: WireMemberInfo) -> MemberInfo:
    return MemberInfo(**{name: field for name, field in asdict(wire).items() if field is not UNSET})


def _rejected(fields: Mapping[str, Any], fault: OutcomeError, envelope: Envelope) -> Rejected:
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
_carried_text: Final = Text(CARRIED_BYTES, free=True)
