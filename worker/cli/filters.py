# What is searched for: which outcomes, waiting commands and dead letters match, and of what time.
#
# One type for `outcomes`, `watch`, `dead-letters` and `undo`. Values in, values out: nothing is read from Kafka and nothing is
# printed. Of an outcome only the fields that a question needs are decoded, by loose types, so that those of older and newer
# versions are found too. The options of the command line are in filter_options.py.

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Struct

from worker.domain.contract.command_decoding import Command
from worker.domain.contract.field_checks import USERS
from worker.domain.contract.timestamps import instant_of
from worker.printable_text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.broker.batch_search import SearchTerms
    from worker.domain.contract.rejections import Rejected

    OutcomeValues = Callable[[Any], Sequence[str | None]]
    CommandValues = Callable[[Command | Rejected], Iterable[str | None]]

SPANS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
"""The units of ``--since``, in seconds."""
FEW: Final = 40
"""This many texts are looked for by their bytes; to look for more takes longer than to read every outcome."""
WAITING: Final = "waiting"
"""The status of a command that has no outcome yet."""


class ResultView(Struct, gc=False):
    """What is looked at of a result."""

    user_id: str
    status: str
    error_code: int | None = None


class ErrorView(Struct, gc=False):
    """What is looked at of an error."""

    code: str
    also: tuple[ErrorView, ...] = ()


_FIELDS: Final[Mapping[str, tuple[Any, Any]]] = {
    "command_id": (str | None, None),
    "status": (str | None, None),
    "action": (str | None, None),
    "app": (str | None, None),
    "group_id": (str | None, None),
    "room_id": (str | None, None),
    "issuer": (str | None, None),
    "results": (tuple[ResultView, ...], ()),
    "results_omitted": (Annotated[int, msgspec.Meta(ge=0, le=USERS)], 0),
    "user_ids": (tuple[str, ...], ()),
    "request_ids": (tuple[str, ...], ()),
    "error": (ErrorView | None, None),
    "source": (msgspec.Raw, msgspec.Raw(b"null")),
    "received_at": (str, ""),
    "finished_at": (str, ""),
    "parameters": (Any, None),
}
"""The fields of an outcome that a question may need: the type of each, and its value where it is absent."""


@dataclass(frozen=True, slots=True)
class Trait:
    """
    Something that outcomes can be searched by.

    Attributes:
        fields: The fields of an outcome that hold it.
        of_outcome: Returns an outcome's values of it.
        of_command: Returns the values of a command record, as the worker reads it. None if a waiting command has none: it has
            no outcome and no RequestId yet.
        is_text: Whether the value is written in JSON as a text of its own; otherwise its characters are within something.
        is_listed: Whether an outcome may have many of it; otherwise each of ``fields`` is a text or absent.

    """

    fields: tuple[str, ...]
    of_outcome: OutcomeValues
    of_command: CommandValues | None = None
    is_text: bool = True
    is_listed: bool = False


def users_of(read: Command | Rejected) -> tuple[str, ...]:
    """Return the users that a command names, as far as they can be read."""
    return read.users if isinstance(read, Command) else read.user_ids


def _users_in(view: Any) -> Sequence[str]:
    """Return the users of an outcome: of its results, and of a rejection those that could be read."""
    users = [result.user_id for result in view.results]
    return [*users, *view.user_ids] if view.user_ids else users


def action_of(read: Command | Rejected) -> str | None:
    """Return the name of a command's action, if it can be read."""
    return read.action.name if isinstance(read, Command) else read.action


def codes_of(view: Any) -> list[str]:
    """Return the codes of an outcome: why it was rejected or failed, and what Tencent answered for its members."""
    error = view.error
    codes = [] if error is None else [error.code, *(further.code for further in error.also)]
    return codes + [str(each.error_code) for each in view.results if each.error_code is not None]


TRAITS: Final = {
    "command_id": Trait(("command_id",), lambda view: [view.command_id], lambda read: [read.command_id]),
    "user": Trait(("results", "user_ids"), _users_in, users_of, is_listed=True),
    "target": Trait(
        ("group_id", "room_id"), lambda view: [view.group_id, view.room_id], lambda read: [read.target]
    ),
    "request_id": Trait(("request_ids",), lambda view: view.request_ids, is_listed=True),
    "outcome_id": Trait((), lambda view: [view.outcome_id]),
    "status": Trait(("status",), lambda view: [view.status], lambda _: [WAITING]),
    "issuer": Trait(("issuer",), lambda view: [view.issuer], lambda read: [read.issuer]),
    "action": Trait(("action",), lambda view: [view.action], lambda read: [action_of(read)]),
    "app": Trait(("app",), lambda view: [view.app], lambda read: [read.app]),
    "error_code": Trait(("results", "error"), codes_of, is_text=False, is_listed=True),
}
"""Everything that can be searched by."""
IDS: Final = ("command_id", "user", "target")
"""A question that names one of these is also about commands that still wait."""


@dataclass(frozen=True)
class Filters:
    """
    Matches what has one of the values of each given trait, and was written in the given time.

    Attributes:
        traits: The wanted values, by the trait's name; no trait without values.
        since: Seconds since 1970.
        until: The same, exclusive; None: no end.
        fields: Further fields of an outcome that are decoded for the caller.

    """

    traits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    since: float = 0.0
    until: float | None = None
    fields: tuple[str, ...] = ()
    _decode: Callable[[bytes], Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        needed = dict.fromkeys(self.fields)
        for name in self.traits:
            needed |= dict.fromkeys(TRAITS[name].fields)
        view = msgspec.defstruct(
            "OutcomeView", [("outcome_id", str), *((name, *_FIELDS[name]) for name in needed)], gc=False
        )
        object.__setattr__(self, "_decode", msgspec.json.Decoder(view).decode)

    @classmethod
    def of(cls, **traits: str | Iterable[str] | None) -> Filters:
        """Return filters by these traits, for all times; a trait that is None or empty is left out."""
        given = {name: [wanted] if isinstance(wanted, str) else wanted for name, wanted in traits.items()}
        return cls({name: frozenset(wanted) for name, wanted in given.items() if wanted})

    def __str__(self) -> str:
        parts = (
            f"{name.replace('_', ' ')} {' or '.join(sorted(map(plain, wanted)))}"
            for name, wanted in self.traits.items()
        )
        return " and ".join(parts) or "anything"

    @property
    def terms(self) -> SearchTerms:
        """The bytes that an outcome has if it matches: the worker writes each text in one way only. Of many values none."""
        return [
            [msgspec.json.encode(each) if TRAITS[name].is_text else each.encode() for each in sorted(wanted)]
            for name, wanted in self.traits.items()
            if len(wanted) <= FEW
        ]

    def read(self, value: bytes) -> Any:
        """Return as attributes the fields of an outcome that the filters need; None if ``value`` is no outcome."""
        try:
            return self._decode(value)
        except (ValueError, RecursionError):  # another program's record, or fields of other types
            return None

    def views(self, values: Sequence[bytes]) -> list[Any]:
        """Return what ``read`` does of each value that is an outcome. A million take about a second."""
        try:
            return list(map(self._decode, values))
        except (ValueError, RecursionError):  # one of them is none
            return [view for view in map(self.read, values) if view is not None]

    def matches(self, view: Any) -> bool:
        """Return whether an outcome has every trait."""
        return not self.traits or all(
            not wanted.isdisjoint(TRAITS[name].of_outcome(view)) for name, wanted in self.traits.items()
        )

    def matches_outcome(self, value: bytes) -> bool:
        """Return whether it is an outcome and has every trait."""
        view = self.read(value)
        return view is not None and self.matches(view)

    @property
    def can_match_waiting(self) -> bool:
        """Whether a command that has no outcome yet can match."""
        return self.until is None and all(
            TRAITS[name].of_command is not None and (name != "status" or WAITING in wanted)
            for name, wanted in self.traits.items()
        )

    def matches_command(self, read: Command | Rejected) -> bool:
        """Return whether a command record has every trait. ``read`` is what the worker reads in it."""
        return all(
            (values_of := TRAITS[name].of_command) is not None and not wanted.isdisjoint(values_of(read))
            for name, wanted in self.traits.items()
        )


def parse_time(text: str, now: float) -> float:
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
