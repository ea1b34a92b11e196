# The figures as tables in Markdown: the page config/benchmarks.md, and the section of the README.
#
# Pure. A figure that is missing is shown as missing, with its reason below the table.

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.benchmarks.parts import (
    BROKEN,
    CURVE,
    ENGINE_COST,
    HIGHEST,
    MEMBERS,
    PARTS,
    URGENT_WAIT,
    USED_HOT,
    WAITING_COST,
)
from tests.benchmarks.plots import Axis, bars, curves
from tests.benchmarks.results import BASELINES, Program, medians, rows_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.benchmarks.results import Figure, Labels, Results, Row

PLOT: Final = "throughput.svg"
"""The one that README shows."""
HEADING: Final = "## Speed"
IN_README: Final = {
    ("a", "one endpoint, clean", MEMBERS): "clean: members/s",
    ("a", "one endpoint, dirty", MEMBERS): "dirty: members/s",
    ("b", "five endpoints", MEMBERS): "five endpoints: members/s",
    ("c", "one hot room, 3 replicas", USED_HOT): "hot room, 3 replicas: quota used, %",
    ("e", "50 % of the quota, paced", "p50, ms"): "half the quota: p50 on top of the API's, ms",
    ("f", "urgent behind 100,000", URGENT_WAIT): "urgent behind 100,000: p95, s",
}
"""The rows that README shows, and what it calls them."""
BESIDE: Final = (Program.WORKER, Program.LOOP, Program.BATCHES, Program.FASTSTREAM)
"""And the columns."""
COMMAND: Final = "make bench"


def page(results: Results) -> str:
    """The whole page."""
    labels, parts = results.labels, []
    pictures = "\n".join(f"![{name.removesuffix('.svg')}](benchmarks/{name})" for name in plots(results))
    rows = rows_of(results.figures)
    for part in PARTS:
        its = [row for row in rows if row.part == part.letter]
        if its:
            parts += ["", f"## ({part.letter}) {part.title}", "", *table(its), *reasons(its)]
    return f"""\
# Benchmarks

<!-- Written by `make bench BENCH=--publish` from benchmarks/bench.json: not by hand. -->

{machine(labels)}

`make bench` measures again, in about a quarter of an hour; `make bench BENCH=--help` shows parts and options. Kafka, the local
Tencent API, the load and what is measured share the machine, so figures of another machine are other figures; what can be compared
is a row. Figures are medians; *runs* says of how many. A ratio above 1 means that the worker is better than the best
baseline of the same run.

Clean: bans of one user each over 50 rooms of Zipf popularity, the API at 200 requests in any rolling second and 30 ms. Dirty: 2 % of
the users do not exist, 1 % of the calls fail, 5 % of the commands undo each other, 3 % repeat an id; nobody could apply more
than some 1,400 a second there. Five endpoints: in the proportion that their quotas allow. Promises broken are counted by the
demo's checker.

The baselines are in [tests/benchmarks/baselines](../tests/benchmarks/baselines): the loop that everybody writes first (poll, a
call for each command, produce, commit); the same with asyncio and batches of what one poll brought; and FastStream around those
batches. They keep the quota and the order of one user's commands. They deduplicate nothing, share no quota between replicas, and
what they promise after a crash is what Kafka's offsets promise.

{pictures}
{chr(10).join(parts)}
"""


def machine(labels: Labels) -> str:
    """Where and when, in a sentence."""
    return (
        f"Measured on {labels.date}: {labels.machine}, Python {labels.python}, Kafka {labels.kafka}, "
        f"moderation-worker {labels.version}, load average {labels.load_average:.1f} at the start."
    )


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table."""
    programs = [program for program in Program if any(program in row.figures for row in rows)]
    compared = any(program in BASELINES for program in programs)
    titles = ["load", "measure", *programs, *(["ratio"] if compared else []), "runs"]
    lines = [_line(titles), _line(["---", "---", *["---:"] * (len(titles) - 2)])]
    for row in rows:
        cells = [row.load, row.measure, *(cell(row.figures.get(program)) for program in programs)]
        runs = max(len(figure.values) for figure in row.figures.values())
        lines.append(_line([*cells, *([ratio(row)] if compared else []), str(runs)]))
    return lines


def cell(figure: Figure | None) -> str:
    """A figure; that it was not measured; or nothing, where there is nothing to measure."""
    if figure is None:
        return ""
    return "not measured" if figure.missing else shown(figure.median)


def ratio(row: Row) -> str:
    """How many times better the worker is."""
    return "" if row.ratio is None else f"{row.ratio:.1f} ×"  # noqa: RUF001 - a multiplication sign


def reasons(rows: Iterable[Row]) -> list[str]:
    """Why figures are missing, each reason once."""
    found = dict.fromkeys(
        f"Not measured: {figure.program}, {figure.load}: {figure.missing}"
        for row in rows
        for figure in row.figures.values()
        if figure.missing
    )
    return ["", *(f"- {reason}" for reason in found)] if found else []


def section(results: Results) -> str:
    """The section of README, from its heading to the next one. It is short: README has a limit."""
    rows = {(row.part, row.load, row.measure): row for row in rows_of(results.figures)}
    lines = [_line(["", *BESIDE]), _line(["---", *["---:"] * len(BESIDE)])]
    for key, words in IN_README.items():
        row = rows.get(key)
        cells = [cell(row.figures.get(program)) if row else "not measured" for program in BESIDE]
        lines.append(_line([words, *cells]))
    joined = "\n".join(lines)
    return f"""\
{HEADING}

The quota is the limit: 200 calls of 20 members, 4,000 a second.{_kept(results)}

{joined}

![Members applied a second](config/benchmarks/{PLOT})

{machine(results.labels)}
[All figures, and what is compared](config/benchmarks.md); `{COMMAND}` measures again.

"""


def with_section(readme: str, results: Results) -> str:
    """README with its section written again."""
    replaced, times = re.subn(
        rf"^{HEADING}\n.*?(?=^## )", lambda _: section(results), readme, flags=re.MULTILINE | re.DOTALL
    )
    assert times == 1, f"README has no section {HEADING}"
    return replaced


def plots(results: Results) -> dict[str, str]:
    """All plots, by the names of their files."""
    rows = rows_of(results.figures)
    speeds = {row.load: row for row in rows if row.part in "ab" and row.measure == MEMBERS}
    groups = {
        load: {program.value: figure.median for program, figure in row.figures.items()}
        for load, row in speeds.items()
    }
    found = {PLOT: bars("Members applied a second", "", groups)}
    share = Axis("share of the quota, %")
    for measure, name in (("p50, ms", "latency-p50.svg"), ("p99, ms", "latency-p99.svg")):
        series = {program.value: medians(rows, "e", measure, program) for program in Program}
        found[name] = curves(f"{CURVE}: {measure}", share, Axis("ms", powers=True), series)
    for measure, name, axis in (
        (ENGINE_COST, "engine-rooms.svg", "rooms"),
        (WAITING_COST, "engine-waiting.svg", "commands waiting"),
    ):
        series = {"engine": medians(rows, "g", measure, Program.WORKER)}
        found[name] = curves(f"The engine alone: {measure}", Axis(axis, powers=True), Axis("µs"), series)
    shares = {
        row.load.partition(": ")[2]: row.figures[Program.WORKER].median for row in rows if row.part == "h"
    }
    found["stages.svg"] = bars("CPU of a command by stage", "µs", {"one endpoint, clean": shares})
    return found


def _kept(results: Results) -> str:
    """What README says of the promises: nothing, unless all runs kept them."""
    rows = rows_of(results.figures)
    seconds = [max(row.figures[Program.WORKER].values, default=0) for row in rows if row.measure == HIGHEST]
    if broken(results) or not seconds:
        return ""
    return f" All promises held, with at most {max(seconds):.0f} requests in any second."


def broken(results: Results) -> list[str]:
    """The rows in which a promise broke."""
    return [
        f"({row.part}) {row.load}: {sum(row.figures[Program.WORKER].values):.0f}"
        for row in rows_of(results.figures)
        if row.measure == BROKEN and any(row.figures[Program.WORKER].values)
    ]


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(f' {each} ' if each else ' ' for each in cells)}|"
