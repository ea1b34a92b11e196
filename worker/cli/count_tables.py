# Counts of outcomes or dead letters by one of their traits: which rooms fail, whose commands, with which codes?
#
# Values in, text out. What is counted was chosen by the filters; a value that no filter asked for is not counted either, so
# `--user u --by user` has one row.

from __future__ import annotations

from collections import Counter, defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, cast

from worker.cli.filters import TRAITS
from worker.printable_text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.cli.filters import Filters

COUNTED: Final = ("target", "user", "issuer", "error_code", "status", "action")
"""What outcomes are counted by."""
MOST_VALUES: Final = 1_000_000
"""The most different values of one status that are counted apart: some 100 MB. Those of any further one are counted together."""
WIDTH: Final = 80
"""Columns that a line may take; an id that does not fit goes on a line of its own, and is never cut."""


class CountTable:
    """
    How many there are of each value, by status.

    Attributes:
        counted: How many were counted. The rows may add up to more: one command counts for each of its users.
        without: How many of them have no such value: no issuer, no error code.
        beyond: The counts of all values beyond the first ``MOST_VALUES``, together.

    """

    def __init__(self, by: str, parts: str = "status") -> None:
        self.by = by
        self.parts = parts
        self.counted = 0
        self.without = 0
        self.beyond = 0
        self._counts: dict[str, dict[str, int]] = {}

    def __repr__(self) -> str:
        return f"<CountTable by {self.by}, {self.counted} counted>"

    def count(self, values: Sequence[str], part: str, times: int = 1) -> None:
        """Count one outcome, or several alike, under each of its values; ``part`` is its status."""
        self.counted += times
        if not values:
            self.without += times
            return
        counts = self._counts.setdefault(part, {})
        for value in values if len(values) == 1 else dict.fromkeys(values):
            if value in counts:
                counts[value] += times
            elif len(counts) < MOST_VALUES:
                counts[value] = times
            else:
                self.beyond += times

    def rows(self) -> list[tuple[str, int, Counter[str]]]:
        """Return value, count and the count of each status, the largest first."""
        rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for part, counts in self._counts.items():
            for value, count in counts.items():
                rows[value][part] = count
        totals = ((value, row.total(), row) for value, row in rows.items())
        return sorted(totals, key=lambda row: (-row[1], row[0]))

    def report(self, limit: int) -> dict[str, Any]:
        """Return the table as a JSON object, with the ``limit`` largest rows."""
        rows = self.rows()
        return {
            "by": self.by,
            "counted": self.counted,
            "without": self.without,
            "rows": [
                {self.by: value, "count": total}
                | ({} if self.by == self.parts else {self.parts: dict(row.most_common())})
                for value, total, row in rows[:limit]
            ],
            "rows_omitted": max(0, len(rows) - limit),
            "count_omitted": sum(total for _, total, _ in rows[limit:]) + self.beyond,
        }


def outcome_counter(table: CountTable, filters: Filters) -> Callable[[Sequence[Any]], None]:
    """Return a function that counts outcomes. Where an outcome has one value only, those that are alike are looked at once."""
    values_of = counted_values(table.by, filters)
    trait = TRAITS[table.by]
    kind_of = attrgetter("status", *trait.fields)

    def one_by_one(views: Sequence[Any]) -> None:
        for view in views:
            table.count(values_of(view), view.status or "")

    def by_kind(views: Sequence[Any]) -> None:
        kinds = list(map(kind_of, views))
        samples = dict(zip(kinds, views, strict=True))
        for kind, times in Counter(kinds).items():
            table.count(values_of(samples[kind]), samples[kind].status or "", times)

    return one_by_one if trait.is_listed else by_kind


def counted_values(by: str, filters: Filters) -> Callable[[Any], Sequence[str]]:
    """Return a function that returns the values that an outcome counts under."""
    values_of = _values_of(by, filters)
    wanted = filters.traits.get(by)
    if wanted is not None:
        return lambda view: [value for value in values_of(view) if value is not None and value in wanted]
    if TRAITS[by].is_listed:
        return cast("Callable[[Any], Sequence[str]]", values_of)
    return lambda view: [value for value in values_of(view) if value is not None]


def _values_of(by: str, filters: Filters) -> Callable[[Any], Sequence[str | None]]:
    """Return a function that returns an outcome's values: with a filter by code only the users whose result has it, and the reverse."""
    users, codes = filters.traits.get("user"), filters.traits.get("error_code")
    if by == "user" and codes is not None:
        return lambda view: (
            TRAITS[by].of_outcome(view)
            if not codes.isdisjoint(_own_codes(view))
            else [result.user_id for result in view.results if str(result.error_code) in codes]
        )
    if by == "error_code" and users is not None:
        return lambda view: (
            [
                str(result.error_code)
                for result in view.results
                if result.user_id in users and result.error_code is not None
            ]
            or _own_codes(view)
        )
    return TRAITS[by].of_outcome


def _own_codes(view: Any) -> list[str]:
    """Return the codes of the command as a whole, which a rejection has."""
    error = view.error
    return [] if error is None or view.results else [error.code, *(further.code for further in error.also)]


def format_table(
    table: CountTable, limit: int, what: str = "outcomes", more: str = ": give a higher --limit"
) -> str:
    """Return a table for a person: counts first, then the value, so that a long id cannot push a count out of its column."""
    rows = table.rows()
    shown = rows[:limit]
    names = [name for name, _ in sum((row for _, _, row in shown), Counter()).most_common()]
    heads = [what, *names] if table.by != table.parts else [what]
    cells = [[f"{total:,}", *(f"{row[name]:,}" for name in names)] for _, total, row in shown]
    widths = [max(len(head), *(len(row[at]) for row in cells), 0) for at, head in enumerate(heads)]
    while len(heads) > 1 and sum(widths) + 2 * len(widths) > WIDTH - MIN_VALUE:
        # Leave out the rarest status: its share is what the others leave of the total.
        del heads[-1], widths[-1]
    lines = [_line(heads, widths, table.by.replace("_", " "))]
    lines += [_line(row, widths, plain(value)) for (value, _, _), row in zip(shown, cells, strict=True)]
    lines += _notes(table, rows, limit, what, more)
    return "\n".join(lines)


MIN_VALUE: Final = 12
"""Columns that are left to the value."""


def _line(cells: list[str], widths: list[int], value: str) -> str:
    counts = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=False))
    if len(counts) + 2 + len(value) > WIDTH:
        return f"{counts}\n    {value}"
    return f"{counts}  {value}"


def _notes(
    table: CountTable, rows: list[tuple[str, int, Counter[str]]], limit: int, what: str, more: str
) -> Iterator[str]:
    hidden = rows[limit:]
    if hidden:
        yield f"and {len(hidden):,} more, with {sum(total for _, total, _ in hidden):,}{more}"
    if table.without:
        yield f"{table.without:,} of {table.counted:,} {what} have no {table.by.replace('_', ' ')}"
    if table.beyond:
        yield f"{table.beyond:,} more, of values beyond the first {MOST_VALUES:,}: narrow the question"
