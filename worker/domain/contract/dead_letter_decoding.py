# A dead letter read back: the original record, and why it could not be carried out.
#
# The counterpart of dead_letter_encoding.py. Our headers come after the original's, which may have headers of the same names. A dead
# letter that was replayed and failed again has no headers of the first failure, as a replay sends only the original's.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST: Final = "x-error-code"
"""The first of our headers."""
NEEDED: Final = (
    FIRST,
    "x-error-message",
    "x-source-topic",
    "x-source-partition",
    "x-source-offset",
    "x-outcome-id",
)
_PARTS: Final = ("value", "headers", "key")


class ParsedDeadLetter(Struct, frozen=True):
    """
    The original record of a dead letter, and why it could not be carried out.

    Attributes:
        headers: The original's headers. A null header is empty.
        partition: The original's partition of the command topic.
        omitted: The parts of the original that were left out because they would not fit: of ``value``, ``headers``, ``key``.
        value_sha256: The hash of a value that was left out, in hexadecimal; None if the value is here.

    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    error_code: str
    error_message: str
    topic: str
    partition: int
    offset: int
    outcome_id: str
    omitted: tuple[str, ...] = ()
    value_sha256: str | None = None


class NotADeadLetter(Struct, frozen=True):
    """A record that is no dead letter of ours, and why."""

    reason: str


def read_letter(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> ParsedDeadLetter | NotADeadLetter:
    """Read a record of the dead-letter topic."""
    begin = max((place for place, (name, _) in enumerate(headers) if name == FIRST), default=None)
    if begin is None:
        return NotADeadLetter(f"it has no header {FIRST}")
    ours = {name: (content or b"").decode("utf-8", "replace") for name, content in headers[begin:]}
    missing = [name for name in NEEDED if name not in ours]
    if missing:
        return NotADeadLetter(f"it has no header {missing[0]}")
    place = ours["x-source-partition"], ours["x-source-offset"]
    if not all(number.isascii() and number.isdigit() and len(number) < MOST_DIGITS for number in place):
        return NotADeadLetter("its headers x-source-partition and x-source-offset are no numbers")
    return ParsedDeadLetter(
        key=key,
        value=None if "x-value-null" in ours else value,
        headers=tuple((name, content or b"") for name, content in headers[:begin]),
        error_code=ours[FIRST],
        error_message=ours["x-error-message"],
        topic=ours["x-source-topic"],
        partition=int(place[0]),
        offset=int(place[1]),
        outcome_id=ours["x-outcome-id"],
        omitted=tuple(part for part in _PARTS if f"x-{part}-omitted" in ours),
        value_sha256=ours.get("x-value-sha256"),
    )


MOST_DIGITS: Final = 20
"""No offset of Kafka has as many."""
