# One dead letter as `dead-letters` matches, counts and shows it.
#
# Values in, values out. What a letter's original says is read by the worker's own decoder, so a rejected one shows what could be
# read of it.

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from worker.broker.dead_letter_reader import DeadLetterRecord
from worker.cli.filters import Filters, action_of, users_of
from worker.cli.outcome_formatting import UNKNOWN_TIME, instant
from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.dead_letter_decoding import NotADeadLetter, ParsedDeadLetter
from worker.domain.contract.outcomes import DEAD_LETTERED, Status
from worker.domain.contract.raw_records import BareRecord
from worker.domain.contract.rejections import REJECTIONS, Rejected
from worker.printable_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


COUNTED: Final = ("code", "status", "issuer", "action", "target", "user")
"""What letters are counted by."""
UNREADABLE: Final = "no letter"
"""The status of a record that is no dead letter of ours."""
USERS_SHOWN: Final = 10
SHOWN_CHARACTERS: Final = 20_000
"""The most of a value or header that is shown; with --json it is whole."""


class DeadLetterView(Struct):
    """A record of the dead-letter topic, and what the worker reads in its original; ``read`` is None if it is no letter of ours."""

    found: DeadLetterRecord
    read: Command | Rejected | None

    @property
    def original(self) -> ParsedDeadLetter | None:
        """The original record, and why it is here; None if this is no letter of ours."""
        return None if isinstance(self.found.letter, NotADeadLetter) else self.found.letter

    @property
    def code(self) -> str:
        """Why it could not be carried out."""
        original = self.original
        return UNREADABLE if original is None else original.error_code

    @property
    def status(self) -> str:
        """The status of its outcome, as the code tells it."""
        code = self.code
        if self.original is None:
            return UNREADABLE
        if code in REJECTIONS:
            return Status.REJECTED
        return Status(code) if code in DEAD_LETTERED else Status.FAILED

    def values(self, trait: str) -> Sequence[str]:
        """Return the letter's values of a trait that letters are searched or counted by."""
        original, read = self.original, self.read
        if trait in ("code", "error_code"):
            return [self.code]
        if trait == "status":
            return [self.status]
        if original is None or read is None:
            return []
        if trait == "user":
            return users_of(read)
        found = {
            "outcome_id": original.outcome_id,
            "command_id": read.command_id,
            "issuer": read.issuer,
            "app": read.app,
            "action": action_of(read),
            "target": read.target,
        }[trait]
        return [] if found is None else [found]

    def matches(self, filters: Filters) -> bool:
        """Return whether the letter has every trait."""
        return all(not wanted.isdisjoint(self.values(name)) for name, wanted in filters.traits.items())

    @property
    def names(self) -> frozenset[str]:
        """The ids by which a person may mean it: its command's, its outcome's, and its own place."""
        return frozenset((self.found.place, *self.values("outcome_id"), *self.values("command_id")))


def letter_of(found: DeadLetterRecord, decoder: CommandDecoder) -> DeadLetterView:
    """Return a record of the dead-letter topic with what the worker reads in it."""
    if isinstance(found.letter, NotADeadLetter):
        return DeadLetterView(found, None)
    letter = found.letter
    original = BareRecord(letter.value, letter.headers, letter.key, letter.partition, letter.offset)
    return DeadLetterView(found, decoder.decode(original))


def report(letter: DeadLetterView, *, whole: bool) -> dict[str, Any]:
    """Return a letter as a JSON object; ``whole``: with key, value and headers."""
    original, read = letter.original, letter.read
    said: dict[str, Any] = {"place": letter.found.place}
    written_at = instant(letter.found.timestamp)
    if written_at is not None:
        said["written_at"] = written_at
    if original is None or read is None:
        said |= {"status": letter.status, "reason": getattr(letter.found.letter, "reason", "")}
    else:
        named = {
            "outcome_id": original.outcome_id,
            "command_id": read.command_id,
            "status": letter.status,
            "error": {"code": original.error_code, "message": original.error_message},
            "action": action_of(read),
            "app": read.app,
            "target": read.target,
            "user_ids": users_of(read),
            "issuer": read.issuer,
            "omitted": original.omitted,
            "source": {"topic": original.topic, "partition": original.partition, "offset": original.offset},
        }
        said |= {name: value for name, value in named.items() if value not in (None, ())}
    if whole:
        key, value = letter.found.key, letter.found.value
        said |= {
            "key": _readable(key),
            "value": _readable(value),
            "headers": [[name, _readable(content)] for name, content in letter.found.headers],
        }
    return said


def format_letter(letter: DeadLetterView) -> str:
    """Return a letter in a few lines."""
    original, read = letter.original, letter.read
    first = f"{instant(letter.found.timestamp) or UNKNOWN_TIME}  {plain(letter.code)}"
    if original is None or read is None:
        reason = getattr(letter.found.letter, "reason", "")
        return f"{first}\n    record      {letter.found.place}: {plain(reason)}"
    lines = [
        "  ".join(filter(None, (first, plain(action_of(read) or ""), plain(read.target or "")))),
        f"    command     {plain(read.command_id or '?')}",
        f"    outcome     {plain(original.outcome_id)}",
    ]
    if read.issuer is not None:
        lines.append(f"    issuer      {plain(read.issuer)}")
    users = users_of(read)
    if users:
        more = f" and {len(users) - USERS_SHOWN:,} more" if len(users) > USERS_SHOWN else ""
        lines.append(f"    users       {', '.join(map(plain, users[:USERS_SHOWN]))}{more}")
    lines.append(f"    error       {plain(original.error_message)}")
    return "\n".join(lines)


def format_whole(letter: DeadLetterView) -> str:
    """Return everything that a letter holds: its headers, its key and its value, as JSON where it is some."""
    found = letter.found
    lines = [format_letter(letter), f"    record      {found.place}", f"    key         {_text(found.key)}"]
    lines += [f"    header      {plain(name)}: {_text(content)}" for name, content in found.headers]
    lines.append("    value")
    lines += [f"        {line}" for line in _value_lines(found.value)]
    return "\n".join(lines)


def _value_lines(value: bytes | None) -> Iterator[str]:
    if value is not None and len(value) <= SHOWN_CHARACTERS:
        try:
            text = msgspec.json.format(value, indent=2).decode()
        except (ValueError, RecursionError):
            yield _text(value)
            return
        yield from (plain(line) for line in text.splitlines())
    else:
        yield _text(value)


def _text(content: bytes | None) -> str:
    if content is None:
        return "null"
    text = plain(content[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace"))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(content):,} bytes)"


def _readable(content: bytes | None) -> str | dict[str, str] | None:
    """Return bytes as a JSON value: text where they are UTF-8."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}
