# Counts by a trait: what counts where, and how it is shown.

from __future__ import annotations

from typing import Any

import pytest

from worker.cli.count_tables import COUNTED, CountTable, counted_values, format_table, outcome_counter
from worker.cli.filters import TRAITS, Filters
from worker.domain.contract.outcomes import Status


class View:
    """The fields of an outcome."""

    def __init__(self, **fields: Any) -> None:
        defaults: dict[str, Any] = {
            "results": (),
            "user_ids": (),
            "error": None,
            "group_id": None,
            "room_id": None,
        }
        self.__dict__.update(defaults | fields)


class Member:
    def __init__(self, user_id: str, error_code: int | None = None) -> None:
        self.user_id = user_id
        self.error_code = error_code


class SettingProblem:
    def __init__(self, code: str, *also: str) -> None:
        self.code = code
        self.also = [SettingProblem(each) for each in also]


def values(by: str, view: View, **asked: Any) -> list[str]:
    return list(counted_values(by, Filters.of(**asked))(view))


def test_an_outcome_counts_under_each_of_its_users_and_once_under_its_room() -> None:
    view = View(results=[Member("a"), Member("b")], room_id="r")

    assert values("user", view) == ["a", "b"]
    assert values("target", view) == ["r"]


def test_a_value_that_was_not_asked_for_does_not_count() -> None:
    view = View(results=[Member("a", 10019), Member("b", 10010)])

    assert values("user", view, user="a") == ["a"]
    assert values("error_code", view, error_code="10010") == ["10010"]


def test_a_user_counts_for_a_code_only_if_it_is_his() -> None:
    """Of a command of twenty users, one that failed: the other nineteen are no answer to "who gets 10019?"."""
    view = View(results=[Member("a", 10019), Member("b")], error=SettingProblem("10019"))

    assert values("user", view, error_code="10019") == ["a"]
    assert values("error_code", View(results=[Member("a", 1), Member("b", 2)]), user="b") == ["2"]


def test_of_a_rejected_command_all_codes_and_all_users_that_it_names_count() -> None:
    view = View(user_ids=("a", "b"), error=SettingProblem("missing_field", "bad_value"))

    assert values("error_code", view) == ["missing_field", "bad_value"]
    assert values("user", view, error_code="bad_value") == ["a", "b"]


def filled(*rows: tuple[str, str, int]) -> CountTable:
    table = CountTable("target")
    for value, status, count in rows:
        for _ in range(count):
            table.count([value], status)
    return table


def test_the_largest_row_comes_first_with_its_statuses() -> None:
    table = filled(("small", "failed", 2), ("large", "failed", 1), ("large", "succeeded", 4))

    assert format_table(table, 20).splitlines() == [
        "outcomes  succeeded  failed  target",
        "       5          4       1  large",
        "       2          0       2  small",
    ]


def test_what_is_not_shown_is_counted() -> None:
    table = filled(("a", "failed", 3), ("b", "failed", 2), ("c", "failed", 1))
    table.count([], "rejected")

    lines = format_table(table, 1).splitlines()

    assert lines[-2:] == [
        "and 2 more, with 3: give a higher --limit",
        "1 of 7 outcomes have no target",
    ]
    assert table.report(1) == {
        "by": "target",
        "counted": 7,
        "without": 1,
        "rows": [{"target": "a", "count": 3, "status": {"failed": 3}}],
        "rows_omitted": 2,
        "count_omitted": 3,
    }


@pytest.mark.parametrize("by", COUNTED)
def test_each_row_of_a_report_has_its_value_under_what_is_counted_by(by: str) -> None:
    table = CountTable(by)
    table.count(["failed"], "failed", 3)

    (row,) = table.report(1)["rows"]

    assert (row[by], row["count"]) == ("failed", 3)


@pytest.mark.parametrize("length", [1, 30, 48, 128])
def test_lines_fit_80_columns_and_no_id_is_cut(length: int) -> None:
    table = filled(*(("x" * length, status.value, 3) for status in Status))

    lines = format_table(table, 20).splitlines()

    assert any(line.strip().endswith("x" * length) for line in lines)
    assert all(len(line) <= 80 for line in lines if "x" * 77 not in line)


def test_more_values_than_fit_into_memory_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.cli.count_tables.MOST_VALUES", 2)
    table = filled(("a", "failed", 1), ("b", "failed", 1), ("c", "failed", 1), ("a", "failed", 1))

    assert (table.beyond, [row[:2] for row in table.rows()]) == (1, [("a", 2), ("b", 1)])
    assert "1 more, of values beyond the first 2" in format_table(table, 9)


def test_everything_that_is_counted_by_is_a_trait() -> None:
    assert set(COUNTED) <= TRAITS.keys()


@pytest.mark.parametrize("by", COUNTED)
@pytest.mark.parametrize("asked", [{}, {"target": ["r", "t"]}, {"user": ["b"]}, {"error_code": ["7"]}])
def test_outcomes_counted_together_are_counted_as_one_by_one(by: str, asked: dict[str, list[str]]) -> None:
    views: list[Any] = [
        View(status=status, room_id=room, issuer=issuer, action="kick", results=results, error=error)
        for status in ("failed", None)
        for room in ("r", "s", None)
        for issuer in ("i", None)
        for results in ((), (Member("a", 7), Member("b")), (Member("b", 7), Member("b", 8)))
        for error in (None, SettingProblem("7", "8"))
    ]
    filters = Filters.of(**asked)
    together, apart = CountTable(by), CountTable(by)
    values_of = counted_values(by, filters)

    outcome_counter(together, filters)(views)
    for view in views:
        apart.count(values_of(view), view.status or "")

    assert together.report(100) == apart.report(100)
