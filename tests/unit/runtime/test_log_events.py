# The catalogue of log events and the code that logs them agree.

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import worker
from worker.runtime import log_events
from worker.runtime.log_events import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(worker.__file__).parent
LOGGERS = {"log", "_log", "LogEvent", "_report", "_tell", "_notice", "_tell_failure"}
"""Functions whose first argument, or ``event``, is an event's name. A listed name counts in any other call as well."""
CARRIED = {"exc_info", "level"}


@dataclass(frozen=True)
class LogCall:
    where: str
    event: str
    level: str | None
    fields: frozenset[str]


def sources() -> Iterator[Path]:
    return (path for path in sorted(SOURCES.rglob("*.py")) if path != Path(log_events.__file__))


def log_calls() -> Iterator[LogCall]:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
            texts = [_text(argument) for argument in node.args]
            event = texts[0] if texts else _text(given.get("event"))
            if event is None or "." not in event or " " in event:
                continue
            if event not in EVENTS and _name(node.func) not in LOGGERS:
                continue
            level = texts[1] if len(texts) > 1 else _text(given.get("level"))
            fields = set(given) - {"event", "level", "fields"}
            for argument in [*node.args, *given.values()]:
                if isinstance(argument, ast.Dict):
                    fields |= {text for key in argument.keys if (text := _text(key))}
            yield LogCall(f"{path.name}:{node.lineno}", event, level, frozenset(fields))


def _name(function: ast.expr) -> str:
    return (
        function.attr
        if isinstance(function, ast.Attribute)
        else function.id
        if isinstance(function, ast.Name)
        else ""
    )


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


CALLS = list(log_calls())


def test_the_search_finds_the_code_that_logs() -> None:
    assert len(CALLS) > 50


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.event}@{call.where}")
def test_what_the_code_logs_is_in_the_catalogue_with_its_level_and_fields(call: LogCall) -> None:
    row = EVENTS[call.event]

    assert call.level in {None, row.level}
    assert call.fields <= {*row.fields, *CARRIED}


def test_every_event_of_the_catalogue_is_logged_somewhere() -> None:
    """An alert on a row that nothing logs would wait for ever."""
    text = "".join(path.read_text(encoding="utf-8") for path in sources())

    assert [name for name in EVENTS if f'"{name}"' not in text] == []
