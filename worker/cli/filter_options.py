# The options by which `outcomes`, `watch`, `dead-letters` and `undo` are narrowed, each declared once, and how they become Filters.
#
# What a value may be is checked here, with the option's name: a typo in a status must not look like an empty topic. What
# matches is decided in filters.py.

from __future__ import annotations

import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli import filters
from worker.cli.filters import WAITING, Filters
from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.outcomes import DEAD_LETTERED, Status
from worker.domain.contract.spelling_suggestions import meant_actions
from worker.printable_text import is_utf8, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Values = list[str] | None

STATUSES: Final = (*(status.value for status in Status), WAITING)
LETTER_STATUSES: Final = tuple(status.value for status in Status if status in DEAD_LETTERED)
_QUOTED: Final = [f"`{status}`" for status in LETTER_STATUSES]

CommandId = Annotated[Values, typer.Option("--command-id", metavar="ID", help="The command's own id.")]
User = Annotated[Values, typer.Option("--user", metavar="ID", help="A user that commands name.")]
Target = Annotated[Values, typer.Option("--target", metavar="ID", help="A group or room.")]
RequestId = Annotated[Values, typer.Option("--request-id", metavar="ID", help="A RequestId of Tencent's.")]
OutcomeId = Annotated[
    Values,
    typer.Option("--outcome-id", metavar="ID", help="As `duplicate_of` and `superseded_by` name it."),
]
StatusOption = Annotated[
    Values,
    typer.Option(
        "--status", metavar="STATUS", help="`failed`, `rejected`, …; `waiting`: it has no outcome yet."
    ),
]
OutcomeStatus = Annotated[
    Values, typer.Option("--status", metavar="STATUS", help="`failed`, `rejected`, `succeeded`, …")
]
LetterStatus = Annotated[
    Values,
    typer.Option("--status", metavar="STATUS", help=f"{', '.join(_QUOTED[:-1])} or {_QUOTED[-1]}."),
]
Issuer = Annotated[Values, typer.Option("--issuer", metavar="NAME", help="Who sent the commands.")]
ActionOption = Annotated[
    Values, typer.Option("--action", metavar="ACTION", help="As `group.ban_group_member`.")
]
App = Annotated[Values, typer.Option("--app", metavar="NAME", help="The configured app.")]
ErrorCode = Annotated[
    Values,
    typer.Option("--error-code", metavar="CODE", help="Tencent's number, or the name of a rejection."),
]
Since = Annotated[
    str,
    typer.Option("--since", metavar="TIME", help="How far to look back: 30m, 24h, 7d, or an RFC 3339 time."),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Where to stop, in the same forms. Default: now."),
]

_WITHOUT_OUTCOME: Final = ("request_id", "outcome_id", "error_code")
"""What a waiting command cannot have."""


def filters_of(
    since: str, until: str | None, *, fields: tuple[str, ...] = (), **traits: Iterable[str] | None
) -> Filters:
    """Return what the options ask for. Raises typer.BadParameter with the option's name and what to give instead."""
    given = {name: tuple(values) for name, values in traits.items() if values}
    for name, values in given.items():
        for value in values:
            _check(name, value)
    now = time.time()
    begin = _time("--since", since, now)
    end = None if until is None else _time("--until", until, now)
    if end is not None and end <= begin:
        raise typer.BadParameter(
            f"it is not after --since: nothing is between {plain(since)} and {plain(until)}",
            param_hint="--until",
        )
    _check_together(given, until)
    return Filters({name: frozenset(values) for name, values in given.items()}, begin, end, fields)


def hint_of(name: str) -> str:
    """Return the option of a trait."""
    return f"--{name.replace('_', '-')}"


def one_of(option: str, value: str, known: Iterable[str]) -> str:
    """Return the value. Raises typer.BadParameter with the nearest known one if it is none of them."""
    choices = tuple(known)
    if value in choices:
        return value
    near = get_close_matches(value.lower(), choices, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(choices)}"
    raise typer.BadParameter(f"there is no {plain(value)!r}: {hint}", param_hint=option)


def check_text(option: str, value: str) -> None:
    """Raise typer.BadParameter for a value that nobody can have meant."""
    if not is_utf8(value):
        raise typer.BadParameter("this is not UTF-8 text", param_hint=option)
    if value == "":  # of a variable in a script that was never set
        raise typer.BadParameter("it is empty: leave it out, or give a value", param_hint=option)


def _check(name: str, value: str) -> None:
    option = hint_of(name)
    check_text(option, value)
    if name == "status":
        one_of(option, value, STATUSES)
    if name == "action" and value not in ACTIONS:
        meant = meant_actions(value)
        hint = f"did you mean {' or '.join(meant)}?" if meant else f"there are {', '.join(ACTIONS)}"
        raise typer.BadParameter(f"there is no action {plain(value)!r}: {hint}", param_hint=option)


def _time(option: str, text: str, now: float) -> float:
    try:
        return filters.parse_time(text, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _check_together(given: Mapping[str, tuple[str, ...]], until: str | None) -> None:
    if set(given.get("status", ())) != {WAITING}:
        return
    for name in _WITHOUT_OUTCOME:
        if name in given:
            raise typer.BadParameter(
                f"a waiting command has none: leave it out, or --status {WAITING}", param_hint=hint_of(name)
            )
    if until is not None:
        raise typer.BadParameter(
            f"what waits, waits now: leave it out, or --status {WAITING}", param_hint="--until"
        )
