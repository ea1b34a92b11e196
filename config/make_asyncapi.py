# ruff: noqa: INP001 - scripts of this folder, no package
# Makes config/asyncapi.yaml: the topics as AsyncAPI 3 describes them, from the schemas, the types and the settings' defaults.
#
# `make docs` writes it, and a test compares. What a command or an outcome looks like is in their own schemas, to which it refers.

from __future__ import annotations

from typing import Any, Final

import msgspec
import yaml

from worker import __version__
from worker.domain.contract.control_records import Order, Scope
from worker.domain.contract.outcomes import Status
from worker.settings.setting_rows import table_of_rows

KAFKA: Final = {"bindingVersion": "0.5.0"}
JSON_SCHEMA: Final = "application/schema+json;version=draft-2020-12"
TARGET_KEY: Final = "The id of the group or room, so that all its commands are on one partition, in order."
HEADERS: Final[dict[str, dict[str, str]]] = {
    "deadLetter": {
        "x-error-code": "Why, as a code.",
        "x-error-message": "Why, as a sentence.",
        "x-source-topic": "The topic of the record.",
        "x-source-partition": "Its partition.",
        "x-source-offset": "Its offset.",
        "x-outcome-id": "Its outcome.",
        "x-null-headers": "The names of its null headers, which are written empty. Optional.",
        "x-value-null": "1 where an empty value stands for null. Optional.",
        **{
            f"x-{part}-{what}": f"{about} of its {part}, left out because too large. Optional."
            for part in ("value", "headers", "key")
            for what, about in (("omitted", "The size in bytes"), ("sha256", "The hash"))
        },
    },
    "outcome": {
        "command_id": "As in the outcome.",
        "status": f"One of {', '.join(Status)}.",
        "traceparent": "That of the command. Optional.",
    },
    "command": {"traceparent": "W3C trace context; carried to the outcome. Optional."},
}
"""The headers of each message; of a dead letter those that are added to the original's."""


def document() -> str:
    """Return the text of config/asyncapi.yaml."""
    made = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "moderation-worker",
            "version": __version__,
            "description": "Moderation commands for Tencent Cloud Chat, and their outcomes. Operations are those of the worker.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "commands": _channel("command_topics", "command", "What shall be done. Any number of partitions."),
            "outcomes": _channel(
                "outcome_topic", "outcome", "What became of each command, on the partition of the command's number. Read it with isolation.level=read_committed."
            ),
            "deadLetters": _channel("dead_letter_topic", "deadLetter", "Records that could not be carried out, untouched, with the reason in headers."),
            "control": _channel("control_topic", "order", "Orders of operators and guards. One partition, compacted."),
        },
        "operations": {
            "receiveCommand": _operation("receive", "commands", "command"),
            "publishOutcome": _operation("send", "outcomes", "outcome"),
            "publishDeadLetter": _operation("send", "deadLetters", "deadLetter"),
            "receiveOrder": _operation("receive", "control", "order"),
            "publishOrder": _operation("send", "control", "order"),
        },
        "components": {"messages": _messages()},
    }  # fmt: skip
    text = yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=120)
    return f"# Made by `make docs` from the worker's types and settings.\n{text}"


def _channel(setting: str, message: str, about: str) -> dict[str, Any]:
    default = table_of_rows()["kafka", setting].default
    name = default[0] if isinstance(default, tuple | list) else default
    return {
        "address": name,
        "description": f"{about} Its name is the setting kafka.{setting}.",
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _operation(action: str, channel: str, message: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _messages() -> dict[str, Any]:
    key = {"type": "string", "description": TARGET_KEY}
    return {
        "command": _message("command", "A command", key, {"$ref": "./command.schema.json"}),
        "outcome": _message("outcome", "An outcome", key, {"$ref": "./outcome.schema.json"}),
        "deadLetter": _message(
            "deadLetter", "A dead letter", key, {"description": "The value of the original record, whatever it is."}
        ),
        "order": _message(
            "order", "An order; null ends it", _schema_of(Scope, "The scope, as canonical JSON; {} is everything."),
            _schema_of(Order, "What is done with the commands of the scope."),
        ),
    }  # fmt: skip


def _message(name: str, title: str, key: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    headers = {
        header: {"type": "string", "description": about} for header, about in HEADERS.get(name, {}).items()
    }
    return {
        "name": name,
        "title": title,
        **({"headers": {"type": "object", "properties": headers}} if headers else {}),
        "payload": {"schemaFormat": JSON_SCHEMA, "schema": schema},
        "bindings": {"kafka": {"key": dict(key), **KAFKA}},  # a copy: YAML would write one object as an alias
    }


def _schema_of(kind: type[msgspec.Struct], about: str) -> dict[str, Any]:
    """Return the schema of a type, with what it refers to in its place."""
    parts = msgspec.json.schema(kind)["$defs"]
    whole = parts.pop(kind.__name__)
    properties = {name: _property(part, parts) for name, part in whole["properties"].items()}
    required = {"required": whole["required"]} if whole.get("required") else {}
    closed = {name: whole[name] for name in ("additionalProperties",) if name in whole}
    return {"type": "object", "description": about, "properties": properties, **required, **closed}


def _property(part: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        return {"enum": parts[part["$ref"].rpartition("/")[2]]["enum"]}
    (kind,) = {each["type"] for each in part.get("anyOf", [part])} - {"null"}
    return {"type": kind}
