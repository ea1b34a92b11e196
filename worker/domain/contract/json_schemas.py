# The JSON Schemas (draft 2020-12) of commands and outcomes, made from the types that read and write them, from the table
# of fields and from the table of actions.
#
# Values only: `make docs` writes them to config/, and a test fails when those are stale.

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.domain.contract.actions import ACTIONS, TargetField
from worker.domain.contract.command_wire_format import WireCommand
from worker.domain.contract.field_checks import (
    FIELDS,
    MEMBER_INFO,
    METADATA_BYTES,
    METADATA_DEPTH,
    USER_ID,
    USERS,
    TextCheck,
)
from worker.domain.contract.outcomes import STATUSES, Outcome, has_field
from worker.domain.contract.visible_text import HIDDEN

if TYPE_CHECKING:
    from worker.domain.contract.actions import Action
    from worker.domain.contract.outcomes import Status

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_NOTES: Final = {
    "command_id": "The idempotency key: once it has succeeded, it is not carried out again within the dedupe window. "
    "(In CloudEvents' binary mode the header ce_id may stand in for it.)",
    "action": "What to do.",
    "group_id": "The group. Use it as the record's key.",
    "room_id": "The room. Use it as the record's key.",
    "user_ids": f"Whom to act on: at most {USERS}, repeats included; repeats count once.",
    "duration": "How long a ban lasts, in seconds from when it is sent. What 0 means is not documented by Tencent.",
    "banned_until": "When a ban ends: RFC 3339 with an offset from UTC, in 2106 at the latest. "
    "The seconds are counted when the ban is sent.",
    "reason": "Why, for the user to read. A kick needs one that is not empty.",
    "member_info": "What to set; at least one field.",
    "app": "Which configured app; without it, the worker's default_app.",
    "not_after": "RFC 3339 with an offset from UTC: nothing is sent later than this.",
    "priority": "Urgent commands go before normal ones, the default; an earlier command for the same user goes along.",
    "issued_at": "When the command was issued; passed through to the outcome.",
    "issuer": "Who issued the command; passed through to the outcome.",
    "metadata": f"A JSON object of your own; passed through to the outcome. At most {METADATA_BYTES} bytes of JSON without needless blanks, "
    f"{METADATA_DEPTH} levels deep.",
}
"""What the schema says about each field of a command."""


def command_schema() -> dict[str, Any]:
    """
    Return what a command must look like.

    JSON Schema counts characters where Tencent counts bytes, and knows neither the apps nor the protected users, so the worker
    may still refuse a command that is valid here. It never takes one that is not.
    """
    parts = msgspec.json.schema(WireCommand)["$defs"]
    schema = parts["WireCommand"]
    fields = schema["properties"]
    fields["member_info"] = parts["WireMemberInfo"] | {"minProperties": 1}
    del fields["member_info"]["title"], fields["member_info"]["required"]
    fields["action"] = {"enum": list(ACTIONS)}
    for name in FIELDS:
        fields[name] = _described(fields[name], _NOTES[name], FIELDS[name])
    for name, part in fields["member_info"]["properties"].items():
        fields["member_info"]["properties"][name] = _described(part, "", MEMBER_INFO[name])
    fields["user_ids"]["items"] = _described(fields["user_ids"]["items"], "", USER_ID)
    return {
        "$schema": DIALECT,
        "$id": "urn:moderation-worker:command",
        "title": "Command",
        "description": "One record of the command topic: do this action to these users of this target.",
        "type": "object",
        "properties": {name: fields[name] for name in FIELDS},
        "required": ["command_id", *schema["required"]],
        "additionalProperties": False,
        "allOf": [_conditions(action) for action in ACTIONS.values()],
    }


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


def _described(part: dict[str, Any], note: str, check: object) -> dict[str, Any]:
    if not isinstance(check, TextCheck):
        return part | {"description": note} if note else part
    limit = "" if check.most is None else f"At most {check.most} bytes of UTF-8."
    text = " ".join(filter(None, (note, limit)))
    ends = "" if check.ends else "|^ | $"
    name = {} if check.free or "enum" in part else {"not": {"pattern": f"[{HIDDEN}]{ends}"}}
    return part | name | {"description": text}


def _conditions(action: Action) -> dict[str, Any]:
    """Return what a command of this action needs, and what it must not have."""
    parameters = dict.fromkeys(name for row in ACTIONS.values() for name in row.takes)
    others = [target.value for target in TargetField if target is not action.target]
    refused = others + [name for name in parameters if name not in action.takes]
    needed = [need for need in action.needs if isinstance(need, str)]
    choices = [
        {"oneOf": [{"required": [name]} for name in need]}
        for need in action.needs
        if not isinstance(need, str)
    ]
    then: dict[str, Any] = {
        "required": [action.target.value, *needed],
        "properties": dict.fromkeys(refused, False) | {name: {"minLength": 1} for name in needed},
    }
    if choices:
        then["allOf"] = choices
    return {"if": {"properties": {"action": {"const": action.name}}}, "then": then}
