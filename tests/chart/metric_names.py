# Which metrics, labels and label values an expression of PromQL names, and which of them the worker's registry has.
#
# The registry is asked, not a copy: a metric that is renamed in the code turns red whatever still names it.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.domain.contract.actions import ACTIONS, ENDPOINTS
from worker.domain.contract.control_records import OrderState
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.outcomes import Status
from worker.domain.engine_snapshot import LIMITED_BY
from worker.runtime.metric_table import ORDERED_BY, ROWS
from worker.runtime.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_LABELS: Final = {"namespace", "job", "pod", "instance", "container"}
"""What the scraping adds to every series of a pod."""

LABEL_VALUES: Final[dict[str, set[str]]] = {
    "by": set(LIMITED_BY),
    "ordered_by": set(ORDERED_BY),
    "state": set(OrderState),
    "verdict": {verdict.value for verdict in Verdict},
    "status": {status.value for status in Status},
    "result": {"committed", "aborted"},
    "endpoint": set(ENDPOINTS),
    "action": set(ACTIONS),
}
"""The closed sets that expressions choose from."""

_SERIES: Final = re.compile(r"\b((?:moderation_worker|process|python)_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r'([a-z_]+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
_GROUPED: Final = re.compile(r"\b(?:by|on|without|group_left)\s*\(([a-z_, ]*)\)")


@dataclass(frozen=True)
class Series:
    """One naming of a metric in an expression."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def series_in(expression: str) -> list[Series]:
    """Every metric that an expression names, with what it chooses of it."""
    return [
        Series(name, tuple(_MATCHER.findall(matchers or "")))
        for name, matchers in _SERIES.findall(expression)
    ]


def exposed() -> dict[str, set[str]]:
    """Every series name that the worker's registry can expose, with its labels."""
    labels = {row.name: set(row.labels) for row in ROWS}
    found: dict[str, set[str]] = {}
    for family in Metrics(("main",)).registry.collect():
        total = f"{family.name}_total" if family.type == "counter" else family.name
        own = labels.get(total, set())
        if family.type == "histogram":
            found[f"{family.name}_bucket"] = own | {"le"}
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = own
        else:
            found[total] = own
    return found


def wrong_in(expression: str) -> Iterator[str]:
    """What an expression names and the worker does not have: metrics, labels, and values of closed sets."""
    known = exposed()
    allowed = set(TARGET_LABELS)
    for series in series_in(expression):
        if series.name not in known:
            yield f"no metric {series.name}"
            continue
        allowed |= known[series.name]
        for label, operator, value in series.matchers:
            if label not in known[series.name] | TARGET_LABELS:
                yield f"{series.name} has no label {label}"
            if label in LABEL_VALUES and not value.startswith("$"):
                values = value.split("|") if "~" in operator else [value]
                yield from (
                    f"{label} is never {item!r}" for item in values if item not in LABEL_VALUES[label]
                )
    for group in _GROUPED.findall(expression):
        for label in filter(None, (part.strip() for part in group.split(","))):
            if label not in allowed:
                yield f"grouped by {label}, which no metric of it has"
