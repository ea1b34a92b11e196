# What `moderation-worker outcomes` is asked: which outcomes and commands are meant, and since when.
#
# Values in, values out: nothing is read and nothing is printed here. Outcomes are looked at as plain JSON, so that those of an
# older or newer version are found as well.

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

    Told = Callable[[Mapping[str, Any]], Iterable[object]]
    Commanded = Callable[[Command | Rejected], Iterable[object]]

SPANS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
"""The units of ``--since``, in seconds."""


@dataclass(frozen=True, slots=True)
class Trait:
    """
    Something that an outcome can be asked for by.

    Attributes:
        of_outcome: The values that an outcome tells of it.
        of_command: The same of a record of the command topic, as the worker reads it; None where a command that waits cannot
            be asked for by it: it has no outcome and no RequestId yet.

    """

    of_outcome: Told
    of_command: Commanded | None = None


def _targets(told: Mapping[str, Any]) -> list[object]:
    return [told.get("group_id"), told.get("room_id")]


def target_of(read: Command | Rejected) -> str | None:
    """The group or room that a command names, if that can be read."""
    return read.target if isinstance(read, Command) else read.group_id or read.room_id


def users_of(read: Command | Rejected) -> tuple[str, ...]:
    """The users that a command names, if they can be read."""
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
"""The table of what can be asked for."""


class OutcomeFilter:
    """Which outcomes and commands are meant: those that have every trait that was given."""

    def __init__(self, **traits: str | None) -> None:
        self.traits = {name: wanted for name, wanted in traits.items() if wanted is not None}
        # The worker writes a text in one way only, so bytes that are not there save the reading of the rest.
        self._needles = [msgspec.json.encode(wanted) for wanted in self.traits.values()]

    def __repr__(self) -> str:
        return f"<OutcomeFilter {self.traits}>"

    def __str__(self) -> str:
        return " and ".join(
            f"{name.replace('_', ' ')} {plain(wanted)}" for name, wanted in self.traits.items()
        )

    def asks_for_outcome(self, value: bytes) -> bool:
        """Whether an outcome is one of those that are meant."""
        if not all(needle in value for needle in self._needles):
            return False
        told = _object(value)
        if told is None or "outcome_id" not in told:
            return False
        try:
            return all(wanted in TRAITS[name].of_outcome(told) for name, wanted in self.traits.items())
        except (TypeError, AttributeError):  # another program's record, in which results are no results
            return False

    @property
    def of_commands(self) -> bool:
        """Whether a command can be meant that has no outcome yet."""
        return all(TRAITS[name].of_command is not None for name in self.traits)

    def asks_for_command(self, read: Command | Rejected) -> bool:
        """Whether a record of the command topic is one of those that are meant. ``read`` is what the worker reads in it."""
        return all(
            (told := TRAITS[name].of_command) is not None and wanted in told(read)
            for name, wanted in self.traits.items()
        )


def since(text: str, now: float) -> float:
    """``24h`` (before ``now``) or an RFC 3339 time, as seconds since 1970. Raises ValueError with a sentence."""
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
    """Whether an argument was UTF-8: what was not, Python keeps in a form that nothing can be compared with."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(value: bytes) -> dict[str, Any] | None:
    try:
        told = msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None
