# ruff: noqa: INP001 - scripts of this folder, no package
# Makes the Grafana dashboard out of the table in panels.py: `python -m config.grafana.make_dashboard` writes the JSON that
# Grafana imports and that the chart ships. Nobody edits that file by hand; a test compares.

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from config.grafana.panels import ROWS

if TYPE_CHECKING:
    from config.grafana.panels import Panel, Row

TARGET: Final = Path(__file__).parents[2] / "helm" / "moderation-worker" / "files" / "dashboard.json"
PREFIX: Final = "moderation_worker_"
RELEASE: Final = 'namespace=~"$namespace", job=~"$job"'
COLUMNS: Final = 24
SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


def _expression(text: str) -> str:
    """Return an expression with every `@name` (ours) and `@@name` (of the process) written out and narrowed to the release."""

    def written(found: re.Match[str]) -> str:
        ours, name, matchers = found.groups()
        more = f", {matchers}" if matchers else ""
        return f"{PREFIX if ours == '@' else ''}{name}{{{RELEASE}{more}}}"

    return re.sub(r"(@@?)([a-z_]+)(?:\{([^}]*)\})?", written, " ".join(text.split()))


def _field(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad is not None:
        steps.append({"color": "red", "value": panel.bad})
    field: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.words:
        options = {str(value): {"text": word, "color": colour} for value, word, colour in panel.words}
        field["mappings"] = [{"type": "value", "options": options}]
    if panel.kind == "timeseries":
        field["custom"] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    return field


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "textMode": "auto"}
    if panel.kind == "state-timeline":
        return {"mergeValues": True, "showValue": "never", "legend": {"showLegend": False}}
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title,
        "description": panel.question,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "expr": _expression(text),
                "legendFormat": legend,
                "datasource": SOURCE,
            }
            for index, (text, legend) in enumerate(panel.series)
        ],
    }


def _laid_out(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Panels from left to right, a new line where one does not fit."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        grid = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": grid,
                "panels": [],
            }
        )
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return panels


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """Return what Grafana imports."""
    build = f"{PREFIX}build_info"
    source = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "title": "Moderation worker",
        "uid": "moderation-worker",
        "description": "Is it working, what limits it, what fails. Each panel's description is the question that it answers.",
        "tags": ["moderation-worker", "kafka", "tencent"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                source,
                _variable("namespace", "Namespace", f"label_values({build}, namespace)"),
                _variable("job", "Job", f'label_values({build}{{namespace=~"$namespace"}}, job)'),
            ]
        },
        "panels": _laid_out(ROWS),
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
