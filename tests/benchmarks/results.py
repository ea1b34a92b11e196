# What a benchmark found: figures, each of one load, one measure and one program; and on which machine.
#
# Values only, with their JSON. They are made in parts.py, shown by table.py and plots.py.

from __future__ import annotations

import statistics
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMAT: Final = 1


class Program(StrEnum):
    """Who did the work."""

    WORKER = "moderation-worker"
    LOOP = "first loop"
    BATCHES = "asyncio, batches"
    FASTSTREAM = "FastStream, batches"


BASELINES: Final = (Program.LOOP, Program.BATCHES, Program.FASTSTREAM)


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One measure of one program under one load.

    Attributes:
        part: The letter of the part.
        load: In words, as in the table.
        measure: What is measured, with its unit.
        values: One for each run.
        missing: Why it was not measured. Either this or ``values``.
        less_is_better: Whether a ratio is turned round; None: neither more nor less is better, so there is none.
        at: Where on the x axis of the part's curve it is.

    """

    part: str
    load: str
    measure: str
    program: Program
    values: tuple[float, ...] = ()
    missing: str = ""
    less_is_better: bool | None = False
    at: float | None = None

    def __post_init__(self) -> None:
        assert bool(self.values) != bool(self.missing), self

    @property
    def median(self) -> float | None:
        """Of the runs; None if there was none."""
        return statistics.median(self.values) if self.values else None


class Labels(msgspec.Struct, frozen=True):
    """Where and when it was measured, so that nobody compares what cannot be compared."""

    date: str
    machine: str
    python: str
    kafka: str
    version: str
    load_average: float
    seconds: float = 0.0
    runs: int = 1


class Results(msgspec.Struct, frozen=True):
    """All figures of one call of the benchmarks."""

    labels: Labels
    figures: tuple[Figure, ...]
    format: int = FORMAT


class Row(msgspec.Struct, frozen=True):
    """The figures of one measure under one load, by program."""

    part: str
    load: str
    measure: str
    figures: dict[Program, Figure]

    @property
    def ratio(self) -> float | None:
        """How many times better the worker is than the best baseline of the same run; None without both."""
        worker = self.figures.get(Program.WORKER)
        medians = [
            median
            for program in BASELINES
            if (figure := self.figures.get(program)) is not None and (median := figure.median) is not None
        ]
        if worker is None or worker.median is None or worker.less_is_better is None or not medians:
            return None
        ours, best = (min(medians), worker.median) if worker.less_is_better else (worker.median, max(medians))
        return ours / best if best > 0 else None


def rows_of(figures: Iterable[Figure]) -> list[Row]:
    """The rows of the table, in the order in which their first figures came."""
    found: dict[tuple[str, str, str], Row] = {}
    for figure in figures:
        key = figure.part, figure.load, figure.measure
        row = found.setdefault(key, Row(*key, {}))
        assert figure.program not in row.figures, figure
        row.figures[figure.program] = figure
    return sorted(found.values(), key=lambda row: row.part)


def medians(rows: Sequence[Row], part: str, measure: str, program: Program) -> list[tuple[float, float]]:
    """A curve: where each figure is on the x axis, and its median."""
    return [
        (figure.at, figure.median)
        for row in rows
        if row.part == part and row.measure == measure and (figure := row.figures.get(program)) is not None
        if figure.at is not None and figure.median is not None
    ]


def shown(value: float | None) -> str:
    """A figure with three digits that mean something; a dash for none."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def written(results: Results) -> bytes:
    """The report as JSON, to be read by people too."""
    return msgspec.json.format(msgspec.json.encode(results)) + b"\n"


def read(data: bytes) -> Results:
    """A report that was written."""
    return msgspec.json.decode(data, type=Results)
