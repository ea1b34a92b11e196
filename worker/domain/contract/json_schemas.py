# The JSON Schema (draft 2020-12) of commands, made from the type that reads them, from the table of fields and from the table
# of actions. The options of `send` are made from it, and config/make_schemas.py writes it for users.

from __future__ import annotations

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
from worker.domain.contract.visible_text import HIDDEN

if TYPE_CHECKING:
    from worker.domain.contract.actions import Action

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_NOTES: Final = {
    "command_id": "The idempotency key: once it has succeeded, it is not carried out again within the dedupe window. "
    "(In CloudEvents' binary mode the header ce_id may stand in for it.)",
    "action": "What to do.",
    "group_id": "The group. Use it as the record's key.",
    "room_id": "The room. Use it as the record's key.",
    "user_ids": f"Whom to act on: at most {USERS}, repeats included; repeats count once.",
    "duration": "How long a ban lasts, in seconds from when it is sent. What 0 means is not documented by Tencent.",
    "banned_until": "When a ban ends: RFC 3339 with an offset from UTC, at the latest 2106-02-07T06:28:15Z. "
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
