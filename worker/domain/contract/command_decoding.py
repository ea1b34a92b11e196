# Bytes of a record -> Command, or Rejected with all that is wrong with it.
#
# What fields mean together (which parameters each action takes, which exclude each other, who is protected) is decided here, from the
# table in actions.py; what a field must look like by itself, in field_checks.py. Each rule is there twice: once to judge, fast
# (command_wire_format.py, and `_judge` here: a command must pass both), and once to explain what is wrong with a record
# (record_diagnosis.py with field_checks.py, and `_faults_together` here). The property tests in test_command_decoding_fuzzed.py hold the
# two together. Nothing here knows of earlier records: repeats and order are the engine's.

from __future__ import annotations

from itertools import chain, compress, islice, product
from math import ceil, inf
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import asdict, astuple, replace

from worker.domain.contract.actions import ACTIONS, Action, TargetField
from worker.domain.contract.cloudevent_envelope import NO_ENVELOPE, envelope_of, envelope_of_event
from worker.domain.contract.command_wire_format import WireCommand, WireMemberInfo, is_plain
from worker.domain.contract.field_checks import DURATION_SECONDS, FAULTS, MEMBER_INFO, USERS, instant_cure
from worker.domain.contract.outcomes import OutcomeError
from worker.domain.contract.parameters import PARAMETERS, EffectKey, MemberInfo, Parameters, effect_of
from worker.domain.contract.raw_records import OmittedBytes, OmittedHeaders
from worker.domain.contract.record_diagnosis import read
from worker.domain.contract.rejections import rejected
from worker.domain.contract.spelling_suggestions import meant_actions
from worker.domain.contract.timestamps import instant_of, rfc3339
from worker.domain.contract.visible_text import folded, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from worker.domain.contract.cloudevent_envelope import Envelope
    from worker.domain.contract.raw_records import Record
    from worker.domain.contract.record_diagnosis import RecordDiagnosis
    from worker.domain.contract.rejections import Rejected

NOT_READ: Final = OutcomeError(
    "not_read", "the record is larger than is read: give less, or several commands"
)
LATEST_BAN_END: Final = float(DURATION_SECONDS)
"""Seconds since 1970, in 2106. A ban that ends by then never needs more seconds than Tencent's 32 bits can count."""


MAX_ALIKE: Final = 4_096
"""Texts that commands have in common (targets, reasons, issuers): at most this many are kept once, and not with each command."""
MAX_EFFECTS: Final = 1_000
"""Sets of parameters that commands have in common: at most this many are kept once, each with the effect that it asks for."""


class Command(Struct, frozen=True, gc=False):
    """
    One valid command.

    Attributes:
        users: Without repeats, in the order given.
        parameters: Its parameters as they were commanded.
        banned_until: The parameter of that name, in seconds since 1970.
        effect: The action and the parameters by value. Most commands with the same effect share one object.
        not_after: Seconds since 1970, or None.
        urgent: Whether it goes before others. The fingerprint of its id does not include that.

    """

    command_id: str
    action: Action
    app: str
    target: str
    users: tuple[str, ...]
    parameters: Parameters
    banned_until: float | None
    effect: EffectKey
    not_after: float | None = None
    issued_at: str | None = None
    issuer: str | None = None
    metadata: dict[str, Any] | None = None
    traceparent: str | None = None
    urgent: bool = False

    @property
    def last_moment(self) -> float | None:
        """
        The last instant at which an attempt may be sent, in seconds since 1970; None: there is none.

        A ban of less than a second is no ban any more.
        """
        if self.banned_until is None:
            return self.not_after
        last = self.banned_until - 1.0
        return last if self.not_after is None else min(self.not_after, last)

    def body(self, users: Sequence[str], wall: float) -> bytes:
        """Return the JSON body of a call with these users of commands that are alike, sent at ``wall`` (seconds since 1970)."""
        parameters = self.parameters
        if self.banned_until is not None:
            parameters = replace(parameters, duration=ceil(self.banned_until - wall))
        return self.action.body(self.target, users, parameters)


_ParsedParameters = tuple[Parameters, float | None, EffectKey]
"""``parameters``, ``banned_until`` and ``effect`` of a command."""
_AsWritten = tuple[Any, ...]
"""The same parameters as the typed decoder has read them, ``UNSET`` for one that is absent."""
_FIRST: Final = WireCommand.__struct_fields__.index(PARAMETERS[0])
_WRITTEN: Final = slice(_FIRST, _FIRST + len(PARAMETERS))
assert WireCommand.__struct_fields__[_WRITTEN] == PARAMETERS, "parameters stand together, in the same order"
_NO_MEMBER_INFO: Final = WireMemberInfo()
_STAND_INS: Final[dict[str, Any]] = {
    "command_id": "?", "group_id": "?", "room_id": "?", "duration": 1, "banned_until": "2030-01-01T00:00:00Z", "reason": "?",
    "member_info": WireMemberInfo(role="Member"), "not_after": "2030-01-01T00:00:00Z",
}  # fmt: skip
"""The right value that stands in for a field that is wrong by itself when all are looked at together, so that it is not reported twice."""


class _PreparedAction(Struct, frozen=True):
    """
    A row of the table of actions, prepared for the decoder.

    Attributes:
        mixes: For each set of parameters (which of ``PARAMETERS`` are there): what is wrong with it, or None.

    """

    action: Action
    mixes: dict[tuple[bool, ...], OutcomeError | None]


def _prepared(action: Action) -> _PreparedAction:
    mixes = product((False, True), repeat=len(PARAMETERS))
    return _PreparedAction(
        action, {mix: _mix_fault(action, list(compress(PARAMETERS, mix))) for mix in mixes}
    )


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


_UNREADABLE: Final = OutcomeError("not_json", "the record is JSON that the worker cannot read")
"""For a record that the typed decoder refuses and in which no fault is found. No such record is known."""


class AppsAndProtectedUsers(Protocol):
    """The settings that decide whom a command may be for: the part of ``EngineSettings`` that is read here, below it."""

    @property
    def apps(self) -> Mapping[str, str]:
        """The configured apps: name -> the admin's identifier, to which no action is ever applied."""

    @property
    def default_app(self) -> str | None:
        """The app of a command that names none; None: it must name one."""

    @property
    def protected_users(self) -> frozenset[str]:
        """Users to whom no action is ever applied, in any app."""


class CommandDecoder:
    """
    Reads records of the command topic.

    ``decode`` never raises, whatever the record holds. A valid command of one member costs about 3 µs.
    """

    def __init__(self, settings: AppsAndProtectedUsers) -> None:
        self._default_app = settings.default_app
        self._protected = {
            app: {folded(user): user for user in (*settings.protected_users, identifier)}
            for app, identifier in settings.apps.items()
        }
        self._actions = {name: _prepared(action) for name, action in ACTIONS.items()}
        self._wire = msgspec.json.Decoder(WireCommand)
        self._metadata = msgspec.json.Decoder(dict[str, Any])
        self._alike: dict[str, str] = {}
        self._parsed_parameters: dict[tuple[str, _AsWritten], _ParsedParameters] = {}

    def __repr__(self) -> str:
        return f"<CommandDecoder {len(self._protected)} apps, default {self._default_app!r}>"

    def decode(self, record: Record) -> Command | Rejected:
        """
        Return the command of the record, or why it is rejected.

        In CloudEvents' binary mode the headers ``ce_id`` and ``ce_time`` stand in for an absent ``command_id`` and
        ``issued_at``. Of a repeated header the last counts; a header that is not usable is as good as absent.
        """
        value, headers = record.value, record.headers
        envelope = envelope_of(headers) if headers else NO_ENVELOPE
        if isinstance(record.key, OmittedBytes) or (not headers and isinstance(headers, OmittedHeaders)):
            return rejected({}, (NOT_READ,), envelope)
        if not value:
            return rejected({}, (_nothing_in(value),), envelope)
        decoded = self._decode(value, envelope)
        if isinstance(decoded, Command):
            return decoded
        reading = read(value) if decoded is None else decoded
        if reading.attributes is not None:
            envelope = envelope_of_event(reading.attributes, envelope)
        if reading.data is not None:
            value = reading.data
            decoded = self._decode(value, envelope)
            if isinstance(decoded, Command):
                return decoded
            reading = read(value) if decoded is None else decoded
        if reading.is_foreign:
            return rejected(reading.fields, reading.faults, envelope)
        faults = tuple(islice(chain(reading.faults, self._faults_together(reading, envelope)), FAULTS))
        return rejected(reading.fields, faults or (_UNREADABLE,), envelope)

    def _decode(self, value: bytes, envelope: Envelope) -> Command | RecordDiagnosis | None:
        """Return the command if the record is a valid one; else the careful diagnosis, or None if that is still to be made."""
        metadata: dict[str, Any] | None = None
        try:
            wire = self._wire.decode(value)
            if not is_plain(value, wire):
                reading = read(value)
                if reading.faults:
                    return reading
            if wire.metadata is not UNSET:
                metadata = self._metadata.decode(wire.metadata)
        except (ValueError, RecursionError):
            return None
        return self._judge(wire, metadata, envelope)

    def _judge(
        self, wire: WireCommand, metadata: dict[str, Any] | None, envelope: Envelope
    ) -> Command | None:
        """Return the command, if fields that are right by themselves are right together."""
        command_id = wire.command_id or envelope.command_id
        prepared = self._actions.get(wire.action)
        app = self._default_app if wire.app is UNSET else wire.app
        protected = None if app is None else self._protected.get(app)
        if command_id is None or prepared is None or app is None or protected is None:
            return None
        target, other = wire.group_id, wire.room_id
        if prepared.action.target is TargetField.ROOM:
            target, other = other, target
        if not target or other:
            return None
        as_written = astuple(wire)[_WRITTEN]
        parsed = self._parsed_parameters.get((wire.action, as_written)) or self._parse_parameters(
            prepared, as_written
        )
        if parsed is None or _is_any_of(wire.user_ids, protected):
            return None
        not_after = None if wire.not_after is UNSET else _instant("not_after", wire.not_after)
        if isinstance(not_after, OutcomeError):
            return None
        parameters, banned_until, effect = parsed
        alike = self._alike
        if len(alike) > MAX_ALIKE:
            alike.clear()
        return Command(  # by position: as in `AdmissionControl._open_command`, for the time that names take
            command_id,
            prepared.action,
            app,
            alike.setdefault(target, target),
            wire.user_ids if len(wire.user_ids) == 1 else tuple(dict.fromkeys(wire.user_ids)),
            parameters,
            banned_until,
            effect,
            not_after,
            envelope.issued_at if wire.issued_at is UNSET else wire.issued_at,
            None if wire.issuer is UNSET else alike.setdefault(wire.issuer, wire.issuer),
            metadata,
            envelope.traceparent,
            wire.priority == "urgent",
        )

    def _parse_parameters(
        self, prepared: _PreparedAction, as_written: _AsWritten
    ) -> _ParsedParameters | None:
        """Return the effect of a command with these parameters, and keep it for others with the same; None if they are not valid."""
        if _parameters_fault(prepared, as_written) is not None:
            return None
        duration, until, reason, info = as_written
        instant = None if until is UNSET else _instant("banned_until", until, LATEST_BAN_END)
        if isinstance(instant, OutcomeError):
            return None
        parameters = Parameters(
            None if duration is UNSET else duration,
            None if until is UNSET else until,
            None if reason is UNSET else self._alike.setdefault(reason, reason),
            None if info is UNSET else _member_info(info),
        )
        if len(self._parsed_parameters) > MAX_EFFECTS:
            self._parsed_parameters.clear()
        parsed = parameters, instant, effect_of(prepared.action.name, parameters, instant)
        self._parsed_parameters[prepared.action.name, as_written] = parsed
        return parsed

    def _faults_together(self, reading: RecordDiagnosis, envelope: Envelope) -> Iterator[OutcomeError]:
        """Return the faults of a record's fields together, as far as the fields that are right by themselves show any."""
        wire = _as_wire(reading)
        if not (wire.command_id or envelope.command_id):
            what = "command_id is missing, and no usable header ce_id or id of a CloudEvent stands in for it"
            yield OutcomeError("missing_field", what, "command_id")
        prepared = self._actions.get(wire.action)
        if prepared is not None:
            yield from _target_faults(prepared.action, wire)
            fault = _parameters_fault(prepared, astuple(wire)[_WRITTEN])
            if fault is not None:
                yield fault
        elif "action" in reading.right:
            yield _action_fault(wire.action)
        if "app" in reading.right or "app" not in reading.given:
            yield from self._app_faults(wire)
        for name, latest in (("banned_until", LATEST_BAN_END), ("not_after", inf)):
            text = getattr(wire, name)
            instant = 0.0 if text is UNSET else _instant(name, text, latest)
            if isinstance(instant, OutcomeError):
                yield instant

    def _app_faults(self, wire: WireCommand) -> Iterator[OutcomeError]:
        app = self._default_app if wire.app is UNSET else wire.app
        protected = None if app is None else self._protected.get(app)
        if app is None:
            yield OutcomeError("unknown_app", "app is missing, and the worker has no default_app", "app")
        elif protected is None:
            yield OutcomeError(
                "unknown_app", f"there is no app {shown(app)}; there are {', '.join(self._protected)}", "app"
            )
        for place, user in enumerate(wire.user_ids):
            name = None if protected is None else protected.get(folded(user))
            if name is not None:
                same = "" if name == user else f" (it is written like {shown(name)})"
                yield OutcomeError(
                    "protected_user",
                    f"{shown(user)} is protected{same}: it is never acted on",
                    f"user_ids[{place}]",
                )


def _is_any_of(users: tuple[str, ...], protected: Mapping[str, str]) -> bool:
    """Return whether one of the users is written like a protected one: their folded names are equal."""
    if len(users) == 1:
        return folded(users[0]) in protected
    together = "\n".join(users)
    each = together.lower().split("\n") if together.isascii() else map(folded, users)
    return not protected.keys().isdisjoint(each)


def _nothing_in(value: bytes | None) -> OutcomeError:
    if isinstance(value, OmittedBytes):
        return OutcomeError("not_read", value.why or NOT_READ.message)
    what = "null" if value is None else "empty"
    return OutcomeError("no_value", f"the record's value is {what}: a command is a JSON object")


def _as_wire(reading: RecordDiagnosis) -> WireCommand:
    """Return the fields that are right by themselves, and stand-ins for wrong or misspelt ones, so that these are not missed as well."""
    made: dict[str, Any] = {"action": "", "user_ids": ()}
    made |= {name: stand_in for name, stand_in in _STAND_INS.items() if name in reading.given}
    made |= {name: reading.fields[name] for name in reading.right}
    if "member_info" in reading.right:
        made["member_info"] = WireMemberInfo(**reading.fields["member_info"])
    users = reading.fields.get("user_ids")
    if isinstance(users, list):
        made["user_ids"] = tuple(user if isinstance(user, str) else "" for user in users[:USERS])
    return WireCommand(**made)


def _action_fault(name: str) -> OutcomeError:
    meant = meant_actions(name)
    hint = (
        f": did you mean {' or '.join(map(repr, meant))}?" if meant else f"; there are {', '.join(ACTIONS)}"
    )
    return OutcomeError("unknown_action", f"there is no action {shown(name)}{hint}", "action")


def _target_faults(action: Action, wire: WireCommand) -> Iterator[OutcomeError]:
    takes = action.target.value
    other = next(target.value for target in TargetField if target is not action.target)
    if getattr(wire, other) is not UNSET:
        what = f"not {other}" if getattr(wire, takes) is UNSET else "and not both"
        yield OutcomeError("wrong_target", f"{action.name} takes {takes}, {what}", other)
    elif getattr(wire, takes) is UNSET:
        yield OutcomeError("missing_field", f"{action.name} needs {takes}", takes)


def _parameters_fault(prepared: _PreparedAction, as_written: _AsWritten) -> OutcomeError | None:
    duration, until, reason, info = as_written
    fault = prepared.mixes[duration is not UNSET, until is not UNSET, reason is not UNSET, info is not UNSET]
    if fault is not None:
        return fault
    if reason == "" and "reason" in prepared.action.needs:
        return OutcomeError("empty", f"{prepared.action.name} needs a reason that is not empty", "reason")
    if info == _NO_MEMBER_INFO:
        return OutcomeError(
            "empty", f"member_info must set at least one of {', '.join(MEMBER_INFO)}", "member_info"
        )
    return None


def _instant(name: str, text: str, latest: float = inf) -> float | OutcomeError:
    try:
        instant = instant_of(text)
    except ValueError as error:
        cure = instant_cure(int(text)) if text.isdecimal() else ""
        return OutcomeError("bad_time", f"{name} is {shown(text)}: {cure or error}", name)
    if instant > latest:
        return OutcomeError("out_of_range", f"{name} must not be later than {rfc3339(latest)}", name)
    return instant


def _member_info(wire: WireMemberInfo) -> MemberInfo:
    return MemberInfo(**{name: field for name, field in asdict(wire).items() if field is not UNSET})
