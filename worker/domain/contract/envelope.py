# What the headers of a command's record say: CloudEvents' binary mode, and the trace that it belongs to.
#
# A header is no part of the command: one that is not usable is as good as absent, and never a reason to refuse.
# What is made of it is decided in commands.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from worker.domain.contract.fields import FIELDS, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.domain.contract.fields import Check


class Envelope(Struct, frozen=True):
    """What a record's headers say: CloudEvents' binary mode, and the trace."""

    command_id: str | None = None
    issued_at: str | None = None
    traceparent: str | None = None


NO_ENVELOPE: Final = Envelope()
_HEADERS: Final[dict[str, tuple[str, Check]]] = {
    "ce_id": ("command_id", FIELDS["command_id"]),
    "ce_time": ("issued_at", FIELDS["issued_at"]),
    "traceparent": ("traceparent", Text(128, empty=False)),
}


def envelope_of(headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """What is usable of a record's headers. Of a repeated header the last usable one counts."""
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
