# What `make bench` writes says what was measured: table, JSON, plots, and the section of README. Nothing is measured here.

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import __main__ as bench
from tests.benchmarks import table
from tests.benchmarks.bench_throughput import Spent
from tests.benchmarks.children import NotMeasuredError, child
from tests.benchmarks.parts import BROKEN, CPU, ENGINE_COST, FILL, MEMBERS, PARTS, Part, Session
from tests.benchmarks.profiled_worker import OTHER, spent_between, stage_of, stage_of_thread
from tests.benchmarks.results import Figure, Labels, Program, Results, read, rows_of, shown, written
from tests.docs.markdown import ROOT, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = Labels("2030-03-17", "2 cores of a machine <here>", "3.13.1", "4.1.1", "1.0.0", 0.03, 840, 3)
WORKER, LOOP, BATCHES, FASTSTREAM = Program
CLEAN = "one endpoint, clean"
PUBLISHED = ROOT / bench.PUBLISHED


def results(*more: Figure) -> Results:
    """The figures of some parts, of which one is missing."""
    return Results(
        LABELS,
        (
            Figure("a", CLEAN, MEMBERS, WORKER, (3790.0, 3700.0, 3800.0)),
            Figure("a", CLEAN, MEMBERS, LOOP, (31.0, 30.0, 32.0)),
            Figure("a", CLEAN, MEMBERS, BATCHES, (1895.0,)),
            Figure("a", CLEAN, MEMBERS, FASTSTREAM, missing="FastStream is not installed"),
            Figure("a", CLEAN, CPU, WORKER, (100.0,), less_is_better=True),
            Figure("a", CLEAN, CPU, BATCHES, (250.0,), less_is_better=True),
            Figure("a", CLEAN, FILL, WORKER, (19.8,), less_is_better=None),
            Figure("a", CLEAN, FILL, LOOP, (1.0,), less_is_better=None),
            Figure("e", "1 % of the quota, paced", "p50, ms", WORKER, (12.0,), less_is_better=True, at=1.0),
            Figure("e", "50 % of the quota, paced", "p50, ms", WORKER, (21.0,), less_is_better=True, at=50.0),
            Figure("g", "in 10 rooms", ENGINE_COST, WORKER, (60.0,), at=10.0),
            Figure("g", "in 100,000 rooms", ENGINE_COST, WORKER, (66.0,), at=100_000.0),
            *more,
        ),
    )


def test_a_row_has_medians_and_the_ratio_to_the_best_baseline() -> None:
    lines = table.table(rows_of(results().figures))

    assert lines[2] == f"| {CLEAN} | {MEMBERS} | 3,790 | 31.0 | 1,895 | not measured | 2.0 × | 3 |"  # noqa: RUF001
    assert lines[3] == f"| {CLEAN} | {CPU} | 100 | | 250 | | 2.5 × | 1 |"  # noqa: RUF001
    assert lines[4] == f"| {CLEAN} | {FILL} | 19.8 | 1.00 | | | | 1 |"


def test_a_result_that_is_missing_is_shown_as_missing_with_its_reason() -> None:
    """An empty cell would be read as nothing to see there."""
    rows = rows_of(results().figures)

    assert table.reasons(rows) == ["", f"- Not measured: {FASTSTREAM}, {CLEAN}: FastStream is not installed"]
    assert f"{FASTSTREAM}, {CLEAN}: FastStream is not installed" in table.page(results())
    assert "not measured" in table.section(Results(LABELS, ()))


def test_a_figure_is_measured_or_says_why_not() -> None:
    with pytest.raises(AssertionError):
        Figure("a", CLEAN, MEMBERS, WORKER)


@pytest.mark.parametrize(
    ("value", "expected"), [(3786.4, "3,786"), (42.04, "42.0"), (0.0312, "0.03"), (None, "-")]
)
def test_a_figure_is_shown_with_the_digits_that_mean_something(value: float | None, expected: str) -> None:
    assert shown(value) == expected


def test_the_json_is_the_report() -> None:
    assert read(written(results())) == results()


@pytest.mark.parametrize("figures", [results().figures, ()], ids=["some", "none"])
def test_every_plot_is_xml_and_within_its_frame(figures: tuple[Figure, ...]) -> None:
    for name, svg in table.plots(Results(LABELS, figures)).items():
        root = ET.fromstring(svg)  # noqa: S314 - our own text
        width, height = (float(root.attrib[side]) for side in ("width", "height"))

        assert name.endswith(".svg")
        for element in root.iter():
            assert 0 <= float(element.attrib.get("x", 0)) <= width, name
            assert 0 <= float(element.attrib.get("y", 0)) <= height, name


def test_bars_are_as_long_as_their_figures_and_a_missing_one_is_named() -> None:
    svg = table.plots(results())[table.PLOT]
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    worker, loop, batches, none = (
        float(rect.attrib["width"])
        for rect in root.iter()
        if rect.tag.endswith("rect") and "x" in rect.attrib
    )

    assert worker == pytest.approx(2 * batches, rel=0.01)
    assert worker == pytest.approx(3790 / 31 * loop, rel=0.05)
    assert none == 1
    assert ">not measured</text>" in svg


def test_a_curve_goes_through_its_figures_and_one_without_any_is_named() -> None:
    plots = table.plots(results())

    assert len(re.findall(r"<circle", plots["latency-p50.svg"])) == 2
    assert f"{LOOP}: not measured" in plots["latency-p50.svg"]
    assert "engine: not measured" in plots["engine-waiting.svg"]


def test_a_promise_that_broke_is_listed() -> None:
    broken = Figure("a", CLEAN, BROKEN, WORKER, (0.0, 2.0), less_is_better=True)

    assert table.broken(results()) == []
    assert table.broken(results(broken)) == [f"(a) {CLEAN}: 2"]


def test_publishing_writes_page_figures_plots_and_the_section_alone(tmp_path: Path) -> None:
    """README keeps its other sections, and stays as short as it must be."""
    before = text("README.md")
    (tmp_path / "README.md").write_text(before)

    bench.publish(results(), tmp_path)

    after = (tmp_path / "README.md").read_text()
    assert read((tmp_path / "config" / "benchmarks" / "bench.json").read_bytes()) == results()
    assert (tmp_path / "config" / "benchmarks.md").read_text() == table.page(results())
    assert table.section(results()) in after
    assert len(after.split()) <= 1300
    assert re.sub(r"(?ms)^## Speed\n.*?(?=^## )", "", after) == re.sub(
        r"(?ms)^## Speed\n.*?(?=^## )", "", before
    )


def test_a_part_that_fails_is_missing_and_keeps_what_it_had(tmp_path: Path) -> None:
    """A quarter of an hour is not lost for one part."""

    def play(_: Session) -> Iterator[Figure]:
        yield Figure("f", CLEAN, MEMBERS, WORKER, (1.0,))
        raise SystemExit("worker 1 has ended: a reason\nand its log")

    said: list[str] = []
    session = Session("", tmp_path, 1, 1, said.append)

    first, rest = bench.played(Part("f", "a part", 1, play), session)

    assert first.values == (1.0,)
    assert rest.missing == "worker 1 has ended: a reason"
    assert "FAILED" in said[0]


def test_a_benchmark_in_a_process_of_its_own_says_why_it_failed() -> None:
    with pytest.raises(NotMeasuredError, match="tool nowhere ended with"):
        child("json.tool", "nowhere")


@pytest.mark.parametrize(
    "words", [["--only", "z"], ["--runs", "0"], ["--from", "nowhere"], ["--only", "a", "--publish"]]
)
def test_wrong_options_end_with_2_and_the_remedy(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.options_of(words)

    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_parts_are_measured_in_the_order_of_their_letters_and_in_a_quarter_of_an_hour() -> None:
    assert [part.letter for part in PARTS] == sorted({part.letter for part in PARTS})
    assert sum(part.seconds for part in PARTS) <= 900
    assert [part.letter for part in bench.options_of(["--only", "g,a"]).parts] == ["a", "g"]


def test_cpu_between_two_instants_is_taken_from_the_looks_around_them() -> None:
    spent = Spent([], _looks=[(10.0, 1.0), (12.0, 2.0), (14.0, 6.0)])

    assert spent.between(11.0, 13.0) == pytest.approx(2.5)


def test_the_sampler_gives_the_time_to_whose_code_it_is() -> None:
    here = inspect.currentframe()

    assert stage_of(here) == OTHER
    assert stage_of_thread("kafka-io-moderation-worker-0-commands") == "consume"
    assert stage_of_thread("kafka-publish") == "write outcomes"


def test_stages_are_added_up_between_the_lines_nearest_to_two_instants() -> None:
    lines = [
        json.dumps({"at": at, "stages": stages})
        for at, stages in ((0.0, {"a": 1.0}), (1.0, {"a": 1.5, "b": 1.0}), (2.0, {"a": 2.0, "b": 3.0}))
    ]

    assert spent_between(lines, 0.1, 2.1) == pytest.approx({"b": 3.0, "a": 1.0})


@pytest.mark.parametrize("file", sorted(PUBLISHED.glob("*.json")), ids=lambda file: file.name)
def test_what_is_published_is_what_was_measured(file: Path) -> None:
    """If it is not: make bench BENCH="--publish --from config/benchmarks/bench.json"."""
    found = read(file.read_bytes())

    assert text("config/benchmarks.md") == table.page(found)
    assert table.section(found) in text("README.md")
    for name, svg in table.plots(found).items():
        assert (PUBLISHED / name).read_text(encoding="utf-8") == svg
