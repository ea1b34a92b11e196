# Settings as rows: a view of the models of model.py, for what reads, refuses and documents settings.
#
# No setting is defined here (model.py and its sections), and none is judged (loader.py, cross_checks.py).

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from worker.settings import types
from worker.settings.model import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

NAME: Final = "<name>"
"""The word of a path that the user chooses: the name of an app."""

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingRow:
    """
    One setting, or one section of settings.

    Attributes:
        path: The words of its name; ``NAME`` for one that the user chooses.
        kind: The type of its value, or the model of a section.
        rule: What a value must be, as the end of "give …".
        about: What it is for, as the generated pages say it.
        default: Its value if it is not given; None for a ``required`` one.

    """

    path: Words
    kind: Any
    rule: str
    about: str
    required: bool
    default: Any = None

    @property
    def name(self) -> str:
        """The name with dots: ``kafka.max_gap``."""
        return ".".join(self.path)

    @property
    def section(self) -> type[BaseModel] | None:
        """The model of a section; None for a setting."""
        return self.kind if isinstance(self.kind, type) and issubclass(self.kind, BaseModel) else None

    @property
    def maps_names(self) -> bool:
        """Whether it maps names, which are no settings of ours, to values: the word below this one is such a name."""
        return get_origin(self.kind) is dict and not _is_model(get_args(self.kind)[1])

    @property
    def holds_kafka_options(self) -> bool:
        """Whether the words below this one are kafka-python's."""
        return len(self.path) == 2 and self.path[0] == "kafka" and get_origin(self.kind) is dict


def rows(model: type[BaseModel] = Settings, above: Words = ()) -> Iterator[SettingRow]:
    """Yield every section and setting, each section before its settings."""
    for word, field in model.model_fields.items():
        path = (*above, word)
        row = _row(path, field)
        yield row
        if row.section is not None:
            yield from rows(row.section, path)
        elif get_origin(row.kind) is dict and _is_model(get_args(row.kind)[1]):
            inner = get_args(row.kind)[1]
            yield SettingRow((*path, NAME), inner, "a mapping", (inner.__doc__ or "").strip(), required=False)
            yield from rows(inner, (*path, NAME))


def find(table: dict[Words, SettingRow], path: Words) -> SettingRow | None:
    """Return the row of a path that may contain the user's own words, or None."""
    here: Words = ()
    for word in path:
        here = (*here, word) if (*here, word) in table else (*here, NAME)
    return table.get(here)


def table_of_rows() -> dict[Words, SettingRow]:
    """Return the rows by path."""
    return {row.path: row for row in rows()}


def nearest(table: dict[Words, SettingRow], path: Words) -> str | None:
    """Return the known name that an unknown one may have meant: the same word there or elsewhere, else a similar one there."""
    *above, word = path
    word = word.lower()
    beside = [
        row.path[-1] for row in table.values() if len(row.path) == len(path) and _same(row.path[:-1], above)
    ]
    elsewhere = [row.name for row in table.values() if word in {row.path[-1], row.name.replace(".", "_")}]
    if word not in beside and elsewhere:
        return elsewhere[0]
    close = difflib.get_close_matches(word, beside, 1, 0.6)
    return ".".join((*above, close[0])) if close else None


def _same(pattern: Words, words: list[str]) -> bool:
    return len(pattern) == len(words) and all(
        part in {NAME, word} for part, word in zip(pattern, words, strict=True)
    )


def _row(path: Words, field: FieldInfo) -> SettingRow:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        default = None
    kind = field.annotation
    about = field.description or (kind.__doc__ or "" if _is_model(kind) and kind is not None else "")
    return SettingRow(
        path, kind, types.rule_of(kind, field.metadata), about.strip(), field.is_required(), default
    )


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
