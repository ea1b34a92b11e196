# The dashboard: made from its table, valid PromQL, and about metrics that exist: all of them.

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from config.grafana import make_dashboard
from tests.chart import chart, metric_names
from worker.domain.engine_snapshot import LIMITED_BY
from worker.runtime.metric_table import ROWS

if TYPE_CHECKING:
    from pathlib import Path


def _file() -> Path:
    return chart.folder() / "files" / "dashboard.json"


def _dashboard() -> dict[str, Any]:
    return dict(json.loads(_file().read_text()))


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in _dashboard()["panels"] if panel["type"] != "row"]


def _expressions() -> list[str]:
    return [target["expr"] for panel in _panels() for target in panel["targets"]]


def test_the_file_is_what_the_table_makes() -> None:
    assert _file().read_text() == make_dashboard.text(), "python -m config.grafana.make_dashboard"


def test_the_folder_for_grafana_and_the_chart_hold_the_same_file() -> None:
    link = chart.REPOSITORY / "config" / "grafana" / "moderation-worker.json"

    assert link.resolve() == chart.REPOSITORY / "helm" / "moderation-worker" / "files" / "dashboard.json"


def test_promtool_understands_every_expression(promtool: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{index}", "expr": text.replace("$__rate_interval", "5m")}
        for index, text in enumerate(_expressions())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = subprocess.run(
        [promtool, "check", "rules", "--lint=none", str(tmp_path / "rules.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


_POD = 'job="m/w", pod="w-0", instance="10.0.0.1:9000"'
_SEEN = {
    f'moderation_worker_build_info{{namespace="m", {_POD}, version="1"}}': "1x80",
    f'process_start_time_seconds{{namespace="m", {_POD}}}': "-7200x80",
}
_FRESH = {
    f'moderation_worker_build_info{{namespace="m", {_POD}, version="1"}}': "_x40 1x40",
    f'process_start_time_seconds{{namespace="m", {_POD}}}': "_x40 595x40",
}
_LETTERS = f'moderation_worker_dead_letters_total{{namespace="m", {_POD}, code="10015"}}'
_LOST = f'moderation_worker_offsets_out_of_range_total{{namespace="m", {_POD}}}'
_GAP = {
    name: values.replace("80", "20") + " _x20 " + values.replace("80", "40") for name, values in _SEEN.items()
}
SHOWN: dict[str, tuple[str, dict[str, str], dict[str, float]]] = {
    "a code's first letters": ("Dead letters by reason", {**_SEEN, _LETTERS: "_x40 3x40"}, {'{code="10015"}': 3}),
    "what a new pod wrote": ("Dead letters by reason", {**_FRESH, _LETTERS: "_x40 3x40"}, {'{code="10015"}': 3}),
    "an old letter": ("Dead letters by reason", {**_SEEN, _LETTERS: "3x80"}, {'{code="10015"}': 0}),
    "a missed scrape": ("Dead letters by reason", {**_GAP, _LETTERS: "3x20 _x20 3x40"}, {'{code="10015"}': 0}),
    "a new pod's offset": ("Offsets out of range", {**_FRESH, _LOST: "_x40 1x40"}, {"{}": 1}),
    "two releases of one name": (
        "Memory budget",
        {
            f'moderation_worker_{name}{{namespace="{namespace}", {_POD}, part="ids"}}': f"{value}x80"
            for namespace in ("m", "n")
            for name, value in (("memory_bytes", 1), ("memory_budget_bytes", 4))
        },
        {'{part="ids"}': 0.25},
    ),
}  # fmt: skip
"""What a panel shows: its title, the series that are there, and its answer ten minutes and a half after they begin."""


@pytest.mark.parametrize(("title", "series", "answer"), SHOWN.values(), ids=SHOWN.keys())
def test_a_panel_shows_what_there_is(
    title: str, series: dict[str, str], answer: dict[str, float], promtool: Path, tmp_path: Path
) -> None:
    expression = next(panel for panel in _panels() if panel["title"] == title)["targets"][0]["expr"]
    for variable, value in {"$__rate_interval": "5m", "$namespace": ".*", "$job": ".*"}.items():
        expression = expression.replace(variable, value)
    samples = [{"labels": labels, "value": value} for labels, value in answer.items()]
    case = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": "10m30s", "exp_samples": samples}],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": [case]}))

    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("expression", sorted(set(_expressions())))
def test_an_expression_names_only_what_the_worker_exposes(expression: str) -> None:
    assert not list(metric_names.wrong_in(expression))


def test_every_metric_of_the_worker_is_on_the_dashboard() -> None:
    """What nobody looks at need not be measured."""
    shown = {series.name for text in _expressions() for series in metric_names.series_in(text)}

    missing = [row.name for row in ROWS if not shown & {row.name, f"{row.name}_bucket", f"{row.name}_sum"}]

    assert missing == []


def test_the_panel_on_what_limits_explains_each_word() -> None:
    (panel,) = (panel for panel in _panels() if panel["title"] == "What limits")

    explained = set(re.findall(r"\b([a-z]+): ", panel["description"]))

    assert explained == set(LIMITED_BY) - {"nothing"}


def test_every_series_is_narrowed_to_the_chosen_release() -> None:
    for text in _expressions():
        for series in metric_names.series_in(text):
            assert {("namespace", "=~", "$namespace"), ("job", "=~", "$job")} <= set(series.matchers), text


def test_the_first_row_answers_whether_it_works_what_limits_it_and_what_fails() -> None:
    rows = [panel for panel in _dashboard()["panels"] if panel["type"] == "row"]
    first = [panel for panel in _panels() if panel["gridPos"]["y"] < rows[1]["gridPos"]["y"]]
    shown = {
        series.name.removeprefix("moderation_worker_")
        for panel in first
        for target in panel["targets"]
        for series in metric_names.series_in(target["expr"])
    }

    assert rows[0]["title"] == "Is it working? What limits it? What fails?"
    assert {"ready", "commands_total", "lag_records", "oldest_waiting_seconds"} <= shown
    assert {"limited_by", "work_seconds", "halted", "breaker_open"} <= shown
    assert {"dead_letters_total", "tries_total", "unpublished_commands"} <= shown
    assert rows[1]["gridPos"]["y"] <= 12, "it must fit on a screen"


def test_every_panel_asks_a_question_and_none_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _panels():
        assert "?" in panel["description"], panel["title"]
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < make_dashboard.COLUMNS
        taken |= cells
    numbers = [panel["id"] for panel in _dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))


def test_every_variable_that_is_used_is_defined() -> None:
    defined = {variable["name"] for variable in _dashboard()["templating"]["list"]}

    used = set(re.findall(r"\$\{?([a-z]+)\}?", _file().read_text()))

    assert used == defined


@pytest.mark.usefixtures("helm")
def test_the_sidecars_config_map_carries_the_file() -> None:
    rendered = chart.render(base="everything")

    made = next(item for item in rendered.all("ConfigMap") if item["metadata"]["name"].endswith("-dashboard"))

    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made["metadata"]["annotations"]["k8s-sidecar-target-directory"] == "Trust"
    assert json.loads(made["data"]["moderation-worker.json"]) == _dashboard()
