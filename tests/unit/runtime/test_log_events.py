# The catalogue of log events and the code tell of the same events.

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import worker
from worker.runtime.log_events import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(worker.__file__).parent
TELLERS = {"log", "_log", "_tell", "_notice", "Notice", "_tell_failure", "write"}
CARRIED = {"exc_info", "level"}


@dataclass(frozen=True)
class Told:
    where: str
    event: str
    level: str | None
    fields: frozenset[str]


def told_in_the_code() -> Iterator[Told]:
    for path in sorted(SOURCES.rglob("*.py")):
        if path.name == "events.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or _name(node.func) not in TELLERS:
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
            texts = [_text(argument) for argument in node.args]
            event = texts[0] if texts else _text(given.get("event"))
            if event is None or "." not in event or " " in event:
                continue
            level = texts[1] if len(texts) > 1 else _text(given.get("level"))
            fields = set(given) - {"event", "level", "fields"}
            for argument in [*node.args, *given.values()]:
                if isinstance(argument, ast.Dict):
                    fields |= {text for key in argument.keys if (text := _text(key))}
            yield Told(f"{path.name}:{node.lineno}", event, level, frozenset(fields))


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


TOLD = list(told_in_the_code())


def test_the_search_finds_the_code_that_tells() -> None:
    assert len(TOLD) > 20


@pytest.mark.parametrize("told", TOLD, ids=lambda told: f"{told.event}@{told.where}")
def test_what_the_code_tells_is_in_the_catalogue_with_its_level_and_its_fields(told: Told) -> None:
    row = EVENTS[told.event]

    assert told.level in {None, row.level}
    assert told.fields <= {*row.fields, *CARRIED}


def test_what_is_in_the_catalogue_is_told_somewhere() -> None:
    """
    A row that nothing tells would be waited for in vain by an alert.
    """
    text = "".join(
        path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py") if path.name != "events.py"
    )

    assert [name for name in EVENTS if f'"{name}"' not in text] == []
