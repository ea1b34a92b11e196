# The AsyncAPI document holds together: what it refers to is there, and its names are those of the worker. That it is fresh is
# tested with the other pages (test_pages.py).

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.docs.markdown import ROOT, text
from worker.settings.setting_rows import table_of_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT: dict[str, Any] = yaml.safe_load(text("config/asyncapi.yaml"))
CHANNELS: dict[str, Any] = DOCUMENT["channels"]


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def resolved(reference: str) -> Any:
    if not reference.startswith("#/"):
        return json.loads((ROOT / "config" / reference).read_text("utf-8"))
    found: Any = DOCUMENT
    for word in reference.removeprefix("#/").split("/"):
        found = found[word]
    return found


@pytest.mark.parametrize("reference", sorted(set(references(DOCUMENT))))
def test_what_it_refers_to_is_there(reference: str) -> None:
    assert resolved(reference)


def test_it_has_what_version_3_requires() -> None:
    assert DOCUMENT["asyncapi"].startswith("3.")
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]["$ref"]
        assert channel.startswith("#/channels/")
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
    for message in DOCUMENT["components"]["messages"].values():
        assert message["payload"].keys() == {"schemaFormat", "schema"}
        assert message["bindings"]["kafka"]["key"]["type"] in {"string", "object"}


def test_its_addresses_are_the_defaults_of_the_settings() -> None:
    table = table_of_rows()
    names = ("command_topics", "outcome_topic", "dead_letter_topic", "control_topic")
    defaults = [table["kafka", name].default for name in names]

    assert [channel["address"] for channel in CHANNELS.values()] == [
        each if isinstance(each, str) else each[0] for each in defaults
    ]


def test_its_headers_are_those_of_the_contract() -> None:
    messages = DOCUMENT["components"]["messages"]
    outcomes, _, letters = text("config/contract.md").partition("\n## Dead letters\n")

    assert list(messages["outcome"]["headers"]["properties"]) == ["command_id", "status", "traceparent"]
    assert all(f"`{name}`" in outcomes for name in messages["outcome"]["headers"]["properties"])
    assert set(messages["deadLetter"]["headers"]["properties"]) == set(
        re.findall(r"`(x-[a-z0-9-]+)", letters)
    )


def test_an_order_looks_as_it_is_read() -> None:
    from worker.domain.contract.control_records import Order, read_control  # noqa: PLC0415

    schema = DOCUMENT["components"]["messages"]["order"]["payload"]["schema"]
    value = {
        "state": schema["properties"]["state"]["enum"][0],
        "reason": "r",
        "by": "b",
        "at": "2026-01-01T00:00:00Z",
    }

    record = read_control(b'{"issuer":"x"}', json.dumps(value).encode())

    assert set(schema["required"]) == value.keys()
    assert schema["additionalProperties"] is False
    assert isinstance(getattr(record, "order", None), Order)
