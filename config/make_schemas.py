# ruff: noqa: INP001 - scripts of this folder, no package
# Makes config/command.schema.json and config/outcome.schema.json: `make docs` writes them, and a test fails when those are stale.

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.domain.contract.json_schemas import DIALECT, command_schema
from worker.domain.contract.outcomes import STATUSES, Outcome, has_field

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import Status


def outcome_schema() -> dict[str, Any]:
    """Return what an outcome looks like. Fields may be added in later versions: a reader must not refuse those it does not know."""
    parts = {name: _outcome_part(part) for name, part in msgspec.json.schema(Outcome)["$defs"].items()}
    whole = parts.pop("Outcome")
    del whole["title"]
    return {
        "$schema": DIALECT,
        "$id": "urn:moderation-worker:outcome",
        "title": "Outcome",
        **whole,
        "allOf": [
            *(_comes_with(field, statuses) for field, statuses in _always_there().items()),
            *(_is_only_of(field, statuses) for field, statuses in _never_elsewhere().items()),
        ],
        "$defs": parts,
    }


def _always_there() -> dict[str, list[Status]]:
    """Return the fields of an outcome that are always there for some statuses."""
    statuses: dict[str, list[Status]] = {}
    for status, row in STATUSES.items():
        for field in row.has:
            statuses.setdefault(field, []).append(status)
    return statuses


def _never_elsewhere() -> dict[str, list[Status]]:
    """Return the fields of an outcome that are there for some statuses and for no others."""
    fields = dict.fromkeys(field for row in STATUSES.values() for field in (*row.has, *row.may_have))
    return {field: [status for status in STATUSES if has_field(field, status)] for field in fields}


_TIMES: Final = frozenset({"received_at", "finished_at", "sent_at"})


def _comes_with(field: str, statuses: list[Status]) -> dict[str, Any]:
    return {"if": _has_one_of(statuses), "then": {"required": [field]}}


def _is_only_of(field: str, statuses: list[Status]) -> dict[str, Any]:
    return {"if": _has_one_of(statuses), "else": {"properties": {field: False}}}


def _has_one_of(statuses: list[Status]) -> dict[str, Any]:
    return {"properties": {"status": {"enum": statuses}}}


def _outcome_part(part: dict[str, Any]) -> dict[str, Any]:
    """Return one type's schema, with each field's words from the type's docstring, and without the nulls, which are never written."""
    words, _, attributes = part["description"].partition("\n\nAttributes:\n")
    notes = {name: _plain(note) for name, note in _ATTRIBUTE.findall(attributes)}
    made = part | {"description": _plain(words)}
    made.pop("additionalProperties", None)
    if "properties" in part:
        fields = part["properties"].items()
        made["properties"] = {name: _outcome_field(name, field, notes) for name, field in fields}
    return made


def _plain(docstring: str) -> str:
    return " ".join(docstring.replace("``", "").split())


_ATTRIBUTE: Final = re.compile(r"^ {4}(\w+): (.++(?:\n {5,}+.++)*+)", re.MULTILINE)


def _outcome_field(name: str, field: dict[str, Any], notes: dict[str, str]) -> dict[str, Any]:
    made = {key: value for key, value in field.items() if key != "default"}
    if "anyOf" in made:
        (made,) = (choice for choice in made["anyOf"] if choice != {"type": "null"})
    if name in _TIMES:
        made = made | {"format": "date-time"}
    return made | ({"description": notes[name]} if name in notes else {})


def documents() -> dict[str, str]:
    """Return the files of config/ that are made here: name -> text."""
    made = {"command.schema.json": command_schema(), "outcome.schema.json": outcome_schema()}
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in made.items()}
