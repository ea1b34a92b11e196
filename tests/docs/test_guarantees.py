# The failure matrix is whole, agrees with its paragraphs, and names tests that there are.

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Final

import pytest

from tests.docs.markdown import ROOT, prose, rows
from worker.domain.calls import gates, halt_handler
from worker.domain.progress import lost_commit_recovery, outbox
from worker.runtime import log_writer, recent_outcomes, shutdown, status_server
from worker.settings.setting_rows import rows as settings

PAGE: Final = "GUARANTEES.md"
PROMISES: Final = [f"P{number}" for number in range(1, 13)]
MATRIX: Final = {re.findall(r"\[(.+)\]", cells[0])[0]: cells[1:] for cells in rows(PAGE, "## The matrix")}
SECTIONS: Final = {
    title: body
    for title, _, body in (part.partition("\n") for part in prose(PAGE).split("\n## ")[2:])
    if title != "What is not promised"
}
NAMED: Final = [
    (failure, path, name)
    for failure, body in SECTIONS.items()
    for path, names in re.findall(r"^- `(tests/\S+\.py)`: (.+)$", body, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", names)
]

failures = pytest.mark.parametrize("failure", SECTIONS)


@cache
def names(path: str) -> frozenset[str]:
    """What a module defines: functions, and classes that Hypothesis has made."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return frozenset(
        [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        + [target.id for target in targets if isinstance(target, ast.Name)]
    )


@pytest.mark.parametrize(("failure", "path", "name"), NAMED)
def test_every_test_that_is_named_exists(failure: str, path: str, name: str) -> None:
    """In the simulation's module, the name of a kind of history."""
    assert name in names(path), f"{failure}: {path} has no {name}"
    assert name.startswith(("test_", "Test")) or path == "tests/simulation/test_histories.py"


def test_every_failure_of_the_matrix_has_its_paragraph_and_the_other_way_round() -> None:
    assert list(MATRIX) == list(SECTIONS)


@failures
def test_every_failure_is_shown_by_tests(failure: str) -> None:
    assert any(shown == failure for shown, _, _ in NAMED)


@failures
def test_a_row_has_one_cell_for_each_promise_and_touches_at_least_one(failure: str) -> None:
    cells = MATRIX[failure]

    assert len(cells) == len(PROMISES)
    assert set(cells) <= {"✓", "◐", ""}
    assert set(cells) != {""}


@failures
def test_what_a_paragraph_says_of_a_promise_is_marked_in_the_matrix(failure: str) -> None:
    marks = dict(zip(PROMISES, MATRIX[failure], strict=True))

    for promises, limited in re.findall(r"^- \*\*([P\d, ]+)\*\*( ◐)?", SECTIONS[failure], re.MULTILINE):
        for promise in promises.split(", "):
            assert marks[promise] == ("◐" if limited else "✓"), promise


@failures
def test_every_limit_in_the_matrix_is_stated(failure: str) -> None:
    marks = dict(zip(PROMISES, MATRIX[failure], strict=True))
    stated = re.findall(r"^- \*\*([P\d, ]+)\*\* ◐", SECTIONS[failure], re.MULTILINE)

    limited = {promise for promise, mark in marks.items() if mark == "◐"}

    assert limited == {promise for promises in stated for promise in promises.split(", ")}


def test_every_promise_is_put_to_the_test() -> None:
    for place, promise in enumerate(PROMISES):
        assert any(cells[place] for cells in MATRIX.values()), promise


def test_a_default_that_is_given_beside_its_setting_is_its_default() -> None:
    defaults = {row.name: row.default for row in settings()}
    given = re.findall(r"`([a-z_.]+)` \(([\d,]+)\)", prose(PAGE).replace("\n", " "))

    assert len(given) >= 3
    for name, value in given:
        assert float(value.replace(",", "")) == defaults[name], name


@pytest.mark.parametrize(
    ("sentence", "numbers"),
    [
        ("among the partition's last {} outcomes is done", (lost_commit_recovery.ENOUGH,)),
        ("With {} results that cannot be published", (outbox.MAX_UNPUBLISHED,)),
        ("one of them is tried every {} seconds", (outbox.TRIAL_SECONDS,)),
        ("to the targets in turn, every {} to {} seconds", (gates.FIRST_PROBE, gates.SLOWEST_PROBE)),
        ("then one every {} seconds, each with the key read again", (gates.SLOW_INTERVAL,)),
        ("or one for {} seconds, the endpoint halts", (halt_handler.HELD_FOR,)),
        ("There are {} connections at most", (status_server.MOST_CONNECTIONS,)),
        (
            "Each has {} seconds for its request, of {} KiB at most, and {} seconds to take the answer",
            (status_server.HEAD_SECONDS, status_server.REQUEST_BYTES / 1024, status_server.ANSWER_SECONDS),
        ),
        (
            "{} outcomes or {} MiB, {} rooms in each half minute, {} failures",
            (
                recent_outcomes.KEPT_OUTCOMES,
                recent_outcomes.KEPT_BYTES / 1024**2,
                recent_outcomes.ROOMS,
                recent_outcomes.FAILURES,
            ),
        ),
        ("The queue holds {} lines and {} MiB", (log_writer.MOST_LINES, log_writer.MOST_BYTES / 1024**2)),
        (
            "The end waits {} seconds at most for the last lines, and a second signal {} second",
            (log_writer.EXIT_SECONDS, shutdown.LAST_LINES_SECONDS),
        ),
    ],
)
def test_a_number_in_a_sentence_is_that_of_the_code(sentence: str, numbers: tuple[float, ...]) -> None:
    """The tests of these set the constant to what they can wait for, so they say nothing of its value."""
    written = " ".join(prose(PAGE).split())

    assert (
        sentence.format(*(f"{number:,g}" if number < 1 else f"{number:,.0f}" for number in numbers))
        in written
    )
