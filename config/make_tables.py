# ruff: noqa: INP001 - scripts of this folder, no package
# Makes config/events.md and config/metrics.md from the tables of log events and of metrics: `make docs` writes them, and a test compares.

from __future__ import annotations

from worker.runtime.log_events import EVENTS
from worker.runtime.metric_table import ROWS


def events() -> str:
    """Return the text of config/events.md."""
    lines = [
        "# Log events",
        "",
        "Made from `worker/runtime/log_events.py`; change that, then `make docs`.",
        "",
        "One JSON object a line (`log.format: json`): `time`, `level`, `event`, and the fields below; with an exception also",
        "`exception`. No field holds a payload, a key or a signature. Fields that are not known at the time are left out or null.",
        "",
        "| event | level | fields | meaning |",
        "|---|---|---|---|",
    ]
    for row in EVENTS.values():
        fields = ", ".join(f"`{field}`" for field in row.fields) or "none"
        lines.append(f"| `{row.name}` | {row.level} | {fields} | {row.meaning} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Return the text of config/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Made from `worker/runtime/metric_table.py`; change that, then `make docs`.",
        "",
        "`/metrics` on the port of `server.port` (9000). Labels are closed sets: no user, no room, no command. The metrics of the",
        "process itself (`process_resident_memory_bytes`, `process_cpu_seconds_total` …) and of Python are there as well.",
        "",
        "| metric | type | unit | labels | meaning | what moves it |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        labels = ", ".join(f"`{label}`" for label in row.labels) or "none"
        lines.append(
            f"| `{row.name}` | {row.type} | {row.unit} | {labels} | {row.meaning} | {row.moved_by} |"
        )
    return "\n".join(lines) + "\n"
