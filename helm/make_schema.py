# ruff: noqa: INP001 - a script of this folder, no package
# Makes the chart's schema of values: schema.json beside this file, with what the settings' models say of the settings. `make docs`.
#
# Names, types, bounds and choices of settings are the worker's. What the chart draws closer, or decides itself, stands in the
# two tables here; all else is written by hand, in schema.json.

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from worker.settings import Settings
from worker.settings.cross_checks import SESSION_TIMEOUT_MS

BY_HAND: Final = Path(__file__).with_name("schema.json")
SCHEMA: Final = Path(__file__).parent / "moderation-worker" / "values.schema.json"

THE_CHARTS: Final = frozenset({
    "kafka.instance_id", "tencent.apps", "app.secret_key", "app.secret_key_file", "kafka.oauth.client_secret_file", "kafka.oauth.ca_file",
    "http.proxy_credentials_file", "http.ca_file",
})  # fmt: skip
"""What the chart decides itself, so that no value may: the pod's name, and what is in Secrets."""
_NAME: Final = "[A-Za-z0-9._-]+"
_IPV6: Final = "\\[[0-9A-Fa-f:.]+\\]"
_PORT: Final = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HTTPS: Final = f"(https://({_NAME}|{_IPV6})|http://(localhost|127[.]0[.]0[.]1|\\[::1\\]))(:{_PORT})?"
_RFC3339: Final = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
CLOSER: Final[dict[str, dict[str, Any]]] = {
    "kafka.bootstrap_servers": {"items": {"type": "string", "pattern": f"^({_NAME}|{_IPV6}):{_PORT}$"}},
    "kafka.group_id": {"maxLength": 249},
    "kafka.command_topics": {"items": {"$ref": "#/$defs/topic"}, "minItems": 1, "maxItems": 1},
    "kafka.outcome_topic": {"$ref": "#/$defs/topic"},
    "kafka.dead_letter_topic": {"$ref": "#/$defs/topic"},
    "kafka.control_topic": {"$ref": "#/$defs/topicOrNone"},
    "kafka.quota_topic": {"$ref": "#/$defs/topicOrNone"},
    "kafka.start": {"pattern": f"^(earliest|latest|{_RFC3339})$"},
    "kafka.common": {"$ref": "#/$defs/kafkaOptions"},
    "kafka.consumer": {
        "allOf": [{"$ref": "#/$defs/kafkaOptions"}],
        "properties": {
            "session_timeout_ms": dict(
                zip(("type", "minimum", "maximum"), ("integer", *SESSION_TIMEOUT_MS), strict=True)
            )
        },
    },
    "kafka.producer": {"$ref": "#/$defs/kafkaOptions"},
    "tencent.protected_users": {"items": {"type": "string", "minLength": 1, "maxLength": 32}},
    "limits.per_endpoint": {"propertyNames": {"pattern": "^[a-z0-9_]+/[a-z0-9_]+$"}},
    "server.host": {"minLength": 1},
    "server.port": {"minimum": 1024},
    "app.identifier": {"minLength": 1, "maxLength": 32},
    "http.proxy": {"pattern": f"^http://({_NAME}|{_IPV6}):{_PORT}/?$"},
    "app.base_url": {"pattern": f"^{_HTTPS}/*$"},
    "kafka.oauth.token_url": {"pattern": f'^({_HTTPS}(/[!"$-~]*)?)?$'},
}
"""What the schema says besides, where the worker checks by code, or the pod may not do what the worker could."""
REQUIRED: Final = {
    "kafka": ["bootstrap_servers", "group_id", "command_topics", "outcome_topic", "dead_letter_topic", "common", "oauth", "aws_msk_iam"],
    "memory": ["budget_mib"],
    "server": ["host", "port"],
    "": ["kafka", "tencent", "memory", "http", "server", "drain_seconds"],
}  # fmt: skip
"""What the templates read, which ``null`` in somebody's values would take away."""
_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_LEFT_OUT: Final = ("title", "description", "default", "format", "writeOnly", "minLength")
"""What pydantic says besides; its minLength is that of a list, which JSON Schema calls otherwise."""


def schema() -> str:
    """Return the text of values.schema.json as it should be."""
    whole = json.loads(BY_HAND.read_text())
    model = Settings.model_json_schema()
    whole["properties"]["settings"] = _section(model, model, "")
    app = whole["$defs"]["app"]
    made = _section(model["$defs"]["AppSettings"], model, "app")["properties"]
    app["properties"] = {
        **{name: _without_null(part) for name, part in made.items()},
        "existingSecret": app["properties"]["existingSecret"],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _section(part: dict[str, Any], model: dict[str, Any], path: str) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {}}
    for word, inner in part["properties"].items():
        name = f"{path}.{word}" if path else word
        if name not in THE_CHARTS:
            made["properties"][word] = _value(inner, model, name)
    if path in REQUIRED:
        made["required"] = REQUIRED[path]
    return made


def _value(part: dict[str, Any], model: dict[str, Any], name: str) -> dict[str, Any]:
    if "$ref" in part:
        part = model["$defs"][part["$ref"].rpartition("/")[2]]
    if "properties" in part:
        return _section(part, model, name)
    closer = CLOSER.get(name, {})
    if "$ref" in closer or "allOf" in closer:
        return closer
    if "anyOf" in part:  # this, or null
        (given,) = (each for each in part["anyOf"] if each.get("type") != "null")
        made = _value(given, model, "")
        kind = {"enum": [*made["enum"], None]} if "enum" in made else {"type": [made["type"], "null"]}
        return {**made, **kind, **closer}
    made = {_BOUNDS.get(key, key): value for key, value in part.items() if key not in _LEFT_OUT}
    if "enum" in made:
        del made["type"]
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _value(made["additionalProperties"], model, "")
    return {**made, **closer}


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    """Return a setting that is one of two alternatives: the chart wants one of the names, and no null."""
    if "enum" in part:
        return {**part, "enum": [choice for choice in part["enum"] if choice is not None]}
    return {**part, "type": part["type"][0]} if isinstance(part["type"], list) else part


if __name__ == "__main__":
    SCHEMA.write_text(schema())
