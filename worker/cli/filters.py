# What `moderation-worker outcomes` is asked for: which outcomes and commands match, and since when.
#
# Values in, values out: nothing is read from Kafka and nothing is printed here. Outcomes are read as plain JSON, so that those
# of older and newer versions are found too.

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.domain.contract.commands import Command
from worker.domain.contract.times import instant_of
from worker.terminal import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.domain.contract.commands import Rejected

    OutcomeValues = Callable[[Mapping[str, Any]], Iterable[object]]
    CommandValues = Callable[[Command | Rejected], Iterable[object]]

SPANS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
"""The units of ``--since``, in seconds."""


@dataclass(frozen=True, slots=True)
class Trait:
    """
    Something that outcomes can be searched by.

    Attributes:
        of_outcome: Returns an outcome's values of it.
        of_command: Returns the values of a command record, as the worker reads it. None if a waiting command has none: it has
            no outcome and no RequestId yet.

    """

    of_outcome: OutcomeValues
    of_command: CommandValues | None = None


def _targets(outcome: Mapping[str, Any]) -> list[object]:
    return [outcome.get("group_id"), outcome.get("room_id")]


def target_of(read: Command | Rejected) -> str | None:
    """Return the group or room that a command names, if it can be read."""
    return read.target if isinstance(read, Command) else read.group_id or read.room_id


def users_of(read: Command | Rejected) -> tuple[str, ...]:
    """Return the users that a command names, as far as they can be read."""
    return read.users if isinstance(read, Command) else read.user_ids


TRAITS: Final = {
    "command_id": Trait(lambda outcome: [outcome.get("command_id")], lambda read: [read.command_id]),
    "user": Trait(
        lambda outcome: [
            *(result.get("user_id") for result in outcome.get("results", ())),
            *outcome.get("user_ids", ()),
        ],
        users_of,
    ),
    "target": Trait(_targets, lambda read: [target_of(read)]),
    "request_id": Trait(lambda outcome: outcome.get("request_ids", ())),
    "outcome_id": Trait(lambda outcome: [outcome.get("outcome_id")]),
}
"""Everything that can be searched by."""


class OutcomeFilter:
    """Matches the outcomes and commands that have every given trait."""

    def __init__(self, **traits: str | None) -> None:
        self.traits = {name: wanted for name, wanted in traits.items() if wanted is not None}
        # The worker writes each text in one way only, so an outcome without these bytes need not be decoded.
        self._needles = [msgspec.json.encode(wanted) for wanted in self.traits.values()]

    def __repr__(self) -> str:
        return f"<OutcomeFilter {self.traits}>"

    def __str__(self) -> str:
        return " and ".join(
            f"{name.replace('_', ' ')} {plain(wanted)}" for name, wanted in self.traits.items()
        )

    def matches_outcome(self, value: bytes) -> bool:
        """Return whether an outcome has every trait."""
        if not all(needle in value for needle in self._needles):
            return False
        outcome = _object(value)
        if outcome is None or "outcome_id" not in outcome:
            return False
        try:
            return all(wanted in TRAITS[name].of_outcome(outcome) for name, wanted in self.traits.items())
        except (TypeError, AttributeError):  # another program's record, whose fields have other types
            return False

    @property
    def of_commands(self) -> bool:
        """Whether a command that has no outcome yet can match."""
        return all(TRAITS[name].of_command is not None for name in self.traits)

    def matches_command(self, read: Command | Rejected) -> bool:
        """Return whether a command record has every trait. ``read`` is what the worker reads in it."""
        return all(
            (values_of := TRAITS[name].of_command) is not None and wanted in values_of(read)
            for name, wanted in self.traits.items()
        )


def since(text: str, now: float) -> float:
    """Return ``24h`` (before ``now``) or an RFC 3339 time as seconds since 1970. Raises ValueError with a sentence."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is not None:
        return now - float(found[1]) * SPANS[found[2]]
    try:
        return instant_of(text)
    except ValueError:
        raise ValueError(
            f"give 90s, 30m, 24h or 7d, or a time as {datetime.now(UTC):%Y-%m-%dT%H:00:00Z}, not {plain(text)!r}"
        ) from None


def is_utf8(text: str) -> bool:
    """Return whether an argument was UTF-8. Python keeps other bytes in a form that matches nothing."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(value: bytes) -> dict[str, Any] | None:
    try:
        decoded = msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None
