# The JSON Schemas: that they say what the decoder does and what the engine writes.
#
# The checker below knows exactly the keywords that our schemas use, and stops at any other. It judges as the standard
# has it; where a schema can say less than the decoder (bytes, apps, calendars), the corpus says so.

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.make_schemas import documents, outcome_schema
from tests.unit.domain.samples import (
    BAN,
    EVERYTHING,
    KICK,
    LIVE_UNBAN,
    ONE_OF_EACH,
    UNBAN,
    UPDATE,
    decode,
    without,
)
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.field_checks import FIELDS, MEMBER_INFO, USER_ID, TextCheck
from worker.domain.contract.json_schemas import command_schema
from worker.domain.contract.outcomes import (
    AttemptRecord,
    Outcome,
    OutcomeError,
    RecordProblem,
    Result,
    ResultStatus,
    Source,
    Status,
    Worker,
)
from worker.domain.contract.parameters import Parameters
from worker.domain.contract.timestamps import instant_of

COMMAND: Final = command_schema()
OUTCOME: Final = outcome_schema()
ANNOTATIONS: Final = {"$schema", "$id", "$defs", "title", "description"}
TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "object": (dict,),
    "array": (list,),
    "boolean": (bool,),
    "number": (int, float),
    "integer": (int,),
}


def is_valid(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """Whether the value is valid, by the keywords of JSON Schema 2020-12 that our schemas use; KeyError at any other keyword."""
    if isinstance(schema, bool):
        return schema
    return all(
        KEYWORDS[keyword](argument, value, schema, root)
        for keyword, argument in schema.items()
        if keyword not in ANNOTATIONS | {"then", "else"}
    )


def of_type(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[name])


def at(reference: str, root: dict[str, Any]) -> Any:
    assert reference.startswith("#/$defs/")
    return root["$defs"][reference.removeprefix("#/$defs/")]


def branch(condition: Any, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    return is_valid(value, schema.get("then" if is_valid(value, condition, root) else "else", True), root)


def is_moment(value: str) -> bool:
    try:
        instant_of(value)
    except ValueError:
        return False
    return True


KEYWORDS: Final[dict[str, Any]] = {
    "$ref": lambda arg, value, _, root: is_valid(value, at(arg, root), root),
    "type": lambda arg, value, *_: of_type(arg, value),
    "enum": lambda arg, value, *_: value in arg,
    "const": lambda arg, value, *_: value == arg,
    "format": lambda arg, value, *_: arg == "date-time" and (not isinstance(value, str) or is_moment(value)),
    "pattern": lambda arg, value, *_: not isinstance(value, str) or re.search(arg, value) is not None,
    "minLength": lambda arg, value, *_: not isinstance(value, str) or len(value) >= arg,
    "maxLength": lambda arg, value, *_: not isinstance(value, str) or len(value) <= arg,
    "minimum": lambda arg, value, *_: not of_type("number", value) or value >= arg,
    "maximum": lambda arg, value, *_: not of_type("number", value) or value <= arg,
    "minItems": lambda arg, value, *_: not isinstance(value, list) or len(value) >= arg,
    "maxItems": lambda arg, value, *_: not isinstance(value, list) or len(value) <= arg,
    "items": lambda arg, value, _, root: (
        not isinstance(value, list) or all(is_valid(one, arg, root) for one in value)
    ),
    "minProperties": lambda arg, value, *_: not isinstance(value, dict) or len(value) >= arg,
    "required": lambda arg, value, *_: not isinstance(value, dict) or set(arg) <= set(value),
    "properties": lambda arg, value, _, root: (
        not isinstance(value, dict)
        or all(is_valid(value[name], part, root) for name, part in arg.items() if name in value)
    ),
    "additionalProperties": lambda arg, value, schema, _: (
        arg is False and (not isinstance(value, dict) or set(value) <= set(schema["properties"]))
    ),
    "allOf": lambda arg, value, _, root: all(is_valid(value, part, root) for part in arg),
    "oneOf": lambda arg, value, _, root: sum(is_valid(value, part, root) for part in arg) == 1,
    "not": lambda arg, value, _, root: not is_valid(value, arg, root),
    "if": branch,
}

WRONG_INFOS: list[Any] = [{}, {"role": "Owner"}, {"name_card": "x" * 33}, {"x": 1}, []]
VALID: list[dict[str, Any]] = [
    *ONE_OF_EACH,
    EVERYTHING,
    {**without(BAN, "duration", "reason"), "banned_until": "2030-01-01T00:00:00Z"},
    {**BAN, "duration": 0, "reason": ""},
    {**BAN, "user_ids": ["u"] * 100},
    {**KICK, "reason": "\n", "app": "second"},
    *({**UPDATE, "member_info": {name: "Member"}} for name in MEMBER_INFO),
]
INVALID: list[Any] = [
    *(
        without(command, name)
        for command in ONE_OF_EACH
        for name in command
        if (command, name) != (BAN, "reason")
    ),
    *({**command, name: None} for command in ONE_OF_EACH for name in FIELDS),
    *({**command, "group_id": "g", "room_id": "r"} for command in ONE_OF_EACH),
    *({**command, "unknown": 1} for command in ONE_OF_EACH),
    *({**command, "banned_until": "2030-01-01T00:00:00Z"} for command in ONE_OF_EACH),
    *({**command, "duration": 60} for command in (UNBAN, LIVE_UNBAN, KICK, UPDATE)),
    *({**command, "reason": "x"} for command in (UNBAN, LIVE_UNBAN, UPDATE)),
    *({**command, "member_info": {"role": "Admin"}} for command in (BAN, UNBAN, LIVE_UNBAN, KICK)),
    *({**BAN, "user_ids": users} for users in ([], ["u"] * 101, [""], ["u" * 33], [1], "u", ["a\n"])),
    *({**BAN, "duration": duration} for duration in (-1, 2**32, 1.5, "1", True)),
    *(
        {**BAN, name: text}
        for name in ("command_id", "group_id", "issuer", "app")
        for text in ("a\n", "\x7f", "a\u200b", "\ufeffa", "a\u202eb", "\u00a0", "\u3164")
    ),
    *({**BAN, name: text} for name in ("command_id", "group_id") for text in (" a", "a ", " ")),
    *({**BAN, "user_ids": ["u", text]} for text in (" a", "a ", " ", "a\u2060")),
    *({**UPDATE, "member_info": info} for info in WRONG_INFOS),
    {**BAN, "command_id": ""},
    {**BAN, "command_id": "x" * 129},
    {**BAN, "action": "group.ban"},
    {**BAN, "not_after": "2030-01-01"},
    {**BAN, "metadata": []},
    {**KICK, "reason": ""},
    {**KICK, "reason": "x" * 1001},
    [BAN],
    "ban",
    1,
]
BEYOND_A_SCHEMA: list[tuple[str, Any]] = [
    ("bytes", {**BAN, "group_id": "语" * 17}),
    ("what is hidden beyond the basic plane", {**BAN, "group_id": "a\U000e0041"}),
    ("a number with a point", {**BAN, "duration": 3600.0}),
    ("the apps", {**BAN, "app": "third"}),
    ("the protected users", {**BAN, "user_ids": ["administrator"]}),
    ("the size of metadata", {**BAN, "metadata": {"a": "x" * 5000}}),
    ("the last day of a ban", {**without(BAN, "duration"), "banned_until": "2107-01-01T00:00:00Z"}),
]


@pytest.mark.parametrize("value", VALID, ids=json.dumps)
def test_what_the_schema_allows_the_decoder_takes(value: dict[str, Any]) -> None:
    assert is_valid(value, COMMAND, COMMAND)
    assert isinstance(decode(value), Command)


@pytest.mark.parametrize("value", INVALID, ids=lambda value: json.dumps(value)[:200])
def test_what_the_schema_forbids_the_decoder_refuses(value: Any) -> None:
    assert not is_valid(value, COMMAND, COMMAND)
    assert not isinstance(decode(value), Command)


@pytest.mark.parametrize(
    "value", [row[1] for row in BEYOND_A_SCHEMA], ids=[row[0] for row in BEYOND_A_SCHEMA]
)
def test_what_no_schema_can_say_is_left_to_the_decoder(value: Any) -> None:
    assert is_valid(value, COMMAND, COMMAND)
    assert not isinstance(decode(value), Command)


PIECES: Final = st.sampled_from([
    *("u", "", "x" * 40, "2030-01-01T00:00:00Z", "group.ban_group_member", "room.kick_user_out", "main", "Admin"),
    *(0, 60, -1, 2**32, True, None, 1.5),
    *(["u"], [], ["u", 1], {}, {"role": "Admin"}, {"role": "x"}, {"name_card": "n", "custom_info": ""}),
])  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([*ONE_OF_EACH, EVERYTHING]),
    st.dictionaries(st.sampled_from([*FIELDS]), PIECES, max_size=3),
    st.sets(st.sampled_from([*FIELDS]), max_size=2),
)
def test_schema_and_decoder_agree_on_whatever_is_put_together(
    command: dict[str, Any], put: dict[str, Any], taken: set[str]
) -> None:
    """The pieces avoid what no schema can say: here both must agree exactly, except for the names of apps."""
    value = without(command, *taken) | put
    if value.get("app") not in (None, "main", "second") and isinstance(value["app"], str):
        return

    assert is_valid(value, COMMAND, COMMAND) is isinstance(decode(value), Command)


@pytest.mark.parametrize(
    ("name", "check"),
    [*FIELDS.items(), *((f"member_info.{name}", check) for name, check in MEMBER_INFO.items())],
)
def test_a_text_is_as_long_in_the_schema_as_in_the_table_of_fields(name: str, check: object) -> None:
    """In characters there, in bytes here; the description says so."""
    part = COMMAND
    for step in name.split("."):
        part = part["properties"][step]

    if isinstance(check, TextCheck) and "enum" not in part:
        assert part.get("maxLength") == check.most
        assert (part.get("minLength") == 1) is not check.empty
        assert check.most is None or f"At most {check.most} bytes" in part["description"]


def test_a_user_is_as_long_in_the_schema_as_in_the_table_of_fields() -> None:
    assert COMMAND["properties"]["user_ids"]["items"]["maxLength"] == USER_ID.most


def test_every_field_of_a_command_is_described_in_words_of_its_own() -> None:
    """The limit alone, which is written by itself, says nothing of what the field is for."""
    descriptions = {name: COMMAND["properties"][name]["description"] for name in FIELDS}

    assert [name for name, text in descriptions.items() if text.startswith("At most")] == []
    assert len(set(descriptions.values())) == len(FIELDS)


MINIMAL: Final = Outcome(
    outcome_id="commands-0-1",
    command_id="c-1",
    status=Status.SUCCEEDED,
    source=Source("commands", 0, 1),
    worker=Worker("worker-0", "1.0"),
    received_at="2030-01-01T00:00:00.000Z",
    finished_at="2030-01-01T00:00:00.120Z",
    queued_ms=3.5,
    attempts=1,
)
EVERY_FIELD: Final = msgspec.structs.replace(
    MINIMAL,
    status=Status.FAILED,
    action="group.ban_group_member",
    app="main",
    group_id="g",
    room_id="r",
    issuer="detector-7",
    issued_at="yesterday",
    metadata={"score": 0.97},
    parameters=Parameters(3600, "2030-01-01T00:00:00Z", "spam"),
    results=[Result("u", ResultStatus.FAILED, "Id-1", 10019, "no such user", True, "commands-0-0", "commands-0-2")],
    request_ids=["Id-1"],
    calls=[AttemptRecord("a", "group_open_http_svc/ban_group_member", "2030-01-01T00:00:00.010Z", 30.1, 20, "Id-1", 200, 10019, "no such user", "timeout")],
    calls_omitted=7,
    results_omitted=3,
    calling_ms=30.1,
    error=OutcomeError("10019", "no such user", "user_ids[0]"),
)  # fmt: skip


def written(outcome: Outcome) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(outcome))
    return decoded


@pytest.mark.parametrize(
    "outcome",
    [
        MINIMAL,
        EVERY_FIELD,
        msgspec.structs.replace(
            MINIMAL, status=Status.REJECTED, error=OutcomeError("no_value", "the record has no value")
        ),
        msgspec.structs.replace(
            MINIMAL,
            status=Status.REJECTED,
            user_ids=("u", "v"),
            error=OutcomeError(
                "empty", "a", "b", (RecordProblem("empty", "c", "d"), RecordProblem("not_json", "e"))
            ),
        ),
        msgspec.structs.replace(MINIMAL, status=Status.DUPLICATE, duplicate_of="commands-0-0"),
        msgspec.structs.replace(MINIMAL, status=Status.SUPERSEDED, superseded_by="commands-0-2"),
    ],
    ids=["the least", "every field", "rejected", "rejected for several reasons", "duplicate", "superseded"],
)
def test_an_outcome_is_valid_as_it_is_written(outcome: Outcome) -> None:
    assert is_valid(written(outcome), OUTCOME, OUTCOME)


@pytest.mark.parametrize("status", [Status.REJECTED, Status.FAILED, Status.DUPLICATE, Status.SUPERSEDED])
def test_an_outcome_that_says_nothing_of_its_cause_is_not_valid(status: Status) -> None:
    assert not is_valid(written(msgspec.structs.replace(MINIMAL, status=status)), OUTCOME, OUTCOME)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED, Status.EXPIRED])
@pytest.mark.parametrize(
    "cause",
    [{"duplicate_of": "x"}, {"superseded_by": "x"}, {"error": OutcomeError("a", "b")}, {"user_ids": ("u",)}],
)
def test_an_outcome_with_a_cause_that_is_not_its_own_is_not_valid(
    status: Status, cause: dict[str, Any]
) -> None:
    assert not is_valid(written(msgspec.structs.replace(MINIMAL, status=status, **cause)), OUTCOME, OUTCOME)


@pytest.mark.parametrize("name", OUTCOME["required"])
def test_an_outcome_that_lacks_what_every_outcome_has_is_not_valid(name: str) -> None:
    assert not is_valid(without(written(MINIMAL), name), OUTCOME, OUTCOME)


def test_every_field_of_an_outcome_is_in_the_schema_and_the_other_way_round() -> None:
    """``duplicate_of``, ``superseded_by`` and ``user_ids`` of the outcome go with statuses of their own."""
    assert set(OUTCOME["properties"]) == set(written(EVERY_FIELD)) | {
        "duplicate_of",
        "superseded_by",
        "user_ids",
    }
    for name, place in (("Result", "results"), ("AttemptRecord", "calls")):
        assert set(OUTCOME["$defs"][name]["properties"]) == set(written(EVERY_FIELD)[place][0])


def test_a_reader_of_outcomes_may_not_rely_on_knowing_all_fields() -> None:
    """Fields are added in later versions."""
    assert is_valid({**written(EVERY_FIELD), "new": 1}, OUTCOME, OUTCOME)
    assert "additionalProperties" not in json.dumps(OUTCOME)


def test_no_schema_allows_a_null() -> None:
    assert '"null"' not in "".join(documents().values())


@pytest.mark.parametrize("text", documents().values(), ids=list(documents()))
def test_a_schema_names_its_dialect(text: str) -> None:
    assert json.loads(text)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
