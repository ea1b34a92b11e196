# The envelope of a command: the headers of its record (CloudEvents' binary mode, the trace that it belongs to), or the attributes of a
# structured CloudEvent.
#
# Neither is part of the command: a header or attribute that is not usable is as good as absent. But an attribute that is given twice, or
# is no JSON value, is a fault of the record (record_diagnosis.py). How they are used is decided in command_decoding.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, structs

from worker.domain.contract.field_checks import FIELDS, TextCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.domain.contract.field_checks import Check


class Envelope(Struct, frozen=True):
    """What a record's headers or a CloudEvent's attributes say."""

    command_id: str | None = None
    issued_at: str | None = None
    traceparent: str | None = None


NO_ENVELOPE: Final = Envelope()
_HEADERS: Final[dict[str, tuple[str, Check]]] = {
    "ce_id": ("command_id", FIELDS["command_id"]),
    "ce_time": ("issued_at", FIELDS["issued_at"]),
    "traceparent": ("traceparent", TextCheck(128, empty=False)),
}
_CHECKS: Final = dict(_HEADERS.values())


def envelope_of(headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """Return the usable part of a record's headers. Of a repeated header the last usable one counts."""
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
    return Envelope(**found)


def envelope_of_event(attributes: Mapping[str, Any], headers: Envelope) -> Envelope:
    """Return the usable part of a structured CloudEvent's attributes; of its record's headers, where the event has none."""
    found = {
        name: attributes[attribute]
        for attribute, name in (("id", "command_id"), ("time", "issued_at"), ("traceparent", "traceparent"))
        if attribute in attributes and _CHECKS[name](attributes[attribute], name) is None
    }
    return structs.replace(headers, **found)
