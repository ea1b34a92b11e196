# The summary of a run: the tables at the end, and the same as JSON.
#
# Nothing is counted or judged here: run_figures.py and evidence_check.py of the checker do that.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.json import JSON
from rich.panel import Panel
from rich.table import Table

from worker.testing.checker.contract import QUOTA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from worker.testing.checker.evidence import PublishedOutcome
    from worker.testing.checker.evidence_check import CheckReport
    from worker.testing.checker.run_figures import RunFigures

MEANINGS = {
    "succeeded": "every member applied",
    "partially_succeeded": "some members applied, some refused",
    "failed": "refused by the API; dead-lettered too",
    "rejected": "bad input, unsent; dead-lettered too",
    "duplicate": "done before: same id, or same effect",
    "superseded": "undone by a later command, unsent",
    "expired": "its not_after had passed",
    "cancelled": "cancelled by an operator; dead-lettered too",
    "simulated": "in shadow: all but the request",
}
STALL = 0.2
"""The longest stall of the simulator, in seconds, up to which the timestamps of its log prove that the quota was kept."""


def show(
    console: Console, figures: RunFigures, report: CheckReport, example: bytes | None, waited_for: str
) -> None:
    """Print the summary of a run. ``waited_for`` says what the time from a command to its outcome was spent on."""
    console.print()
    console.print(_outcomes(figures))
    console.print(_calls(figures))
    console.print(
        f"  From a command to its outcome: [bold]{_ms(figures.median)}[/] for half of them, "
        f"[bold]{_ms(figures.slow)}[/] for 95 %, which is {waited_for}. All in [bold]{figures.seconds:.1f} s[/].\n"
    )
    if example is not None:
        console.print(
            Panel(JSON(example.decode()), title="one complete outcome", box=box.ROUNDED, expand=False)
        )
    console.print(_check(report))
    for finding in report.examples:
        console.print(f"  [red]{finding.violation.value}[/]: {finding.what}", highlight=False)


def choose_example(outcomes: Sequence[PublishedOutcome], raw: Sequence[bytes]) -> bytes | None:
    """Return the outcome that shows the most in a few lines: of two or three members with different results."""

    def score(number: int) -> tuple[bool, bool, bool, int]:
        body = outcomes[number].body
        fates = {result.status for result in body.results}
        return (2 <= len(body.results) <= 3, len(fates) > 1, bool(body.request_ids), -len(body.calls))

    return raw[max(range(len(outcomes)), key=score)] if outcomes else None


def as_json(figures: RunFigures, report: CheckReport, about: Mapping[str, Any]) -> bytes:
    """Return the summary as JSON."""
    shown = {
        **about,
        "clean": report.clean,
        "findings": {violation.name.lower(): count for violation, count in report.counts.items()},
        "examples": [{"fault": one.violation.name.lower(), "what": one.what} for one in report.examples],
        **msgspec.to_builtins(figures),
    }
    return msgspec.json.format(msgspec.json.encode(shown), indent=2) + b"\n"


def _outcomes(figures: RunFigures) -> Table:
    table = Table(title="Commands by outcome", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("status")
    table.add_column("commands", justify="right")
    table.add_column("which means", style="dim")
    for status, count in figures.statuses.items():
        table.add_row(status, f"{count:,}", MEANINGS.get(status, ""))
    table.add_section()
    table.add_row("all", f"{sum(figures.statuses.values()):,}", f"and {figures.dead_letters:,} dead letters")
    return table


def _calls(figures: RunFigures) -> Table:
    table = Table(
        title="Calls to the API, and members applied",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("action", no_wrap=True)
    for name in ("calls", "refused", "applied", "per call", "top second"):
        table.add_column(name, justify="right")
    for one in figures.endpoints:
        table.add_row(
            one.action,
            f"{one.calls:,}",
            f"{one.refused:,}",
            f"{one.members:,}",
            f"{one.members_per_call:.1f}",
            f"{one.highest_second}/{QUOTA}",
        )
    return table


def _check(report: CheckReport) -> Table:
    table = Table(
        title="The promises, judged by the commands, the topics and the API's log alone",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("")
    table.add_column("broken", justify="right")
    for violation, count in report.counts.items():
        table.add_row(violation.value, f"[red bold]{count:,} ✗[/]" if count else "[green]0 ✓[/]")
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
