# What is no command: refused by which code, at which field, in which words, and with what of the record kept.

from __future__ import annotations

import json

import pytest

from tests.unit.domain.samples import (
    BAN,
    EVERYTHING,
    KICK,
    LIVE_UNBAN,
    SETTINGS,
    UNBAN,
    UPDATE,
    Record,
    command,
    encoded,
    rejected,
    without,
)
from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.field_checks import FAULTS, FIELDS, own_faults
from worker.domain.contract.raw_records import OmittedBytes
from worker.domain.contract.rejections import REJECTIONS, Rejected
from worker.domain.engine_settings import EngineSettings

# Each line: what is wrong, the record, the code, and the field at fault.
REFUSED: list[tuple[str, object, str, str | None]] = [
    ("too large to be read", OmittedBytes(3_000_000, "ab" * 32), "not_read", None),
    ("a tombstone", None, "no_value", None),
    ("an empty value", b"", "no_value", None),
    ("bytes that are not UTF-8", b'{"command_id":"c","reason":"\xff"}', "not_utf8", None),
    ("a surrogate encoded as UTF-8", b'{"command_id":"c","issuer":"\xed\xa0\x80"}', "not_utf8", None),
    ("UTF-16", '{"command_id":"c"}'.encode("utf-16"), "not_utf8", None),
    ("plain text", b"ban user1", "not_json", None),
    ("a byte order mark", b"\xef\xbb\xbf" + encoded(BAN), "not_json", None),
    ("half a record", encoded(BAN)[:-9], "not_json", None),
    ("two objects", encoded(BAN) + encoded(BAN), "not_json", None),
    ("a trailing comma", encoded(BAN)[:-1] + b",}", "not_json", None),
    (
        "a raw line end in a text",
        encoded(BAN).replace(b"banned because", b"banned\nbecause"),
        "not_json",
        None,
    ),
    ("NaN", encoded({**BAN, "metadata": {"score": float("nan")}}), "not_json", None),
    ("Infinity", encoded({**BAN, "duration": float("inf")}), "not_json", None),
    ("a list", [BAN], "not_an_object", None),
    ("a string", "ban user1", "not_an_object", None),
    ("a number", 7, "not_an_object", None),
    ("JSON null", b"null", "not_an_object", None),
    ("nothing but NaN", b"NaN", "not_json", None),
    ("a list of NaN", b"[1, -Infinity]", "not_json", None),
    ("a record nested too deep", b'{"command_id":"c-1","metadata":' + b'{"a":[' * 60_000, "not_json", None),
    (
        "metadata that breaks every parser",
        b'{"command_id":"c-1","metadata":' + b"[" * 9**5 + b"]" * 9**5 + b"}",
        "too_deep",
        None,
    ),
    (
        "metadata that is nested too deep",
        encoded(BAN)[:-1] + b',"metadata":' + b'{"a":' * 33 + b"1" + b"}" * 34,
        "too_deep",
        "metadata",
    ),
    ("a field given twice", encoded(BAN)[:-1] + b',"user_ids":["b"]}', "duplicate_field", "user_ids"),
    (
        "a field given twice, once escaped",
        encoded(BAN)[:-1] + b',"\\u0064uration":1}',
        "duplicate_field",
        "duration",
    ),
    (
        "a field given twice, behind an escaped colon",
        encoded(BAN).replace(b"you are", b"you\\u003Aare")[:-1] + b',"duration":3600}',
        "duplicate_field",
        "duration",
    ),
    (
        "a field of member_info given twice",
        encoded(UPDATE).replace(b'"role"', b'"name_card": "x", "role"'),
        "duplicate_field",
        "member_info.name_card",
    ),
    ("a field that nobody knows", {**BAN, "resaon": "x"}, "unknown_field", "resaon"),
    ("a field in another spelling", {**without(BAN, "group_id"), "GroupId": "g"}, "unknown_field", "GroupId"),
    (
        "an unknown field of member_info",
        {**UPDATE, "member_info": {"nameCard": "x"}},
        "unknown_field",
        "member_info.nameCard",
    ),
    ("a field whose name cannot be encoded", b'{"command_id":"c-1","\\ud800":1}', "unknown_field", "\\ud800"),
    ("no command_id", without(BAN, "command_id"), "missing_field", "command_id"),
    ("no action", without(BAN, "action"), "missing_field", "action"),
    ("no users", without(BAN, "user_ids"), "missing_field", "user_ids"),
    ("no target", without(BAN, "group_id"), "missing_field", "group_id"),
    ("a ban without an end", without(BAN, "duration"), "missing_field", "duration"),
    ("a kick without reason", without(KICK, "reason"), "missing_field", "reason"),
    ("an update of nothing", without(UPDATE, "member_info"), "missing_field", "member_info"),
    ("a null", {**BAN, "reason": None}, "wrong_type", "reason"),
    (
        "a null inside member_info",
        {**UPDATE, "member_info": {"role": None}},
        "wrong_type",
        "member_info.role",
    ),
    (
        "a name card that is a number",
        {**UPDATE, "member_info": {"name_card": 1}},
        "wrong_type",
        "member_info.name_card",
    ),
    ("a member_info that is a list", {**UPDATE, "member_info": []}, "wrong_type", "member_info"),
    ("a command_id that is a number", {**BAN, "command_id": 1}, "wrong_type", "command_id"),
    ("users that are one string", {**BAN, "user_ids": "user1"}, "wrong_type", "user_ids"),
    ("a user that is a number", {**BAN, "user_ids": ["user1", 2]}, "wrong_type", "user_ids[1]"),
    ("a user that is null", {**BAN, "user_ids": [None]}, "wrong_type", "user_ids[0]"),
    ("a duration that is a string", {**BAN, "duration": "3600"}, "wrong_type", "duration"),
    ("a duration that is a boolean", {**BAN, "duration": True}, "wrong_type", "duration"),
    ("a duration with a point", {**BAN, "duration": 3600.0}, "wrong_type", "duration"),
    ("a duration with half seconds", {**BAN, "duration": 0.5}, "wrong_type", "duration"),
    ("metadata that is a list", {**BAN, "metadata": []}, "wrong_type", "metadata"),
    ("an issuer that is an object", {**BAN, "issuer": {}}, "wrong_type", "issuer"),
    ("a time that is a number", {**BAN, "not_after": 1_900_000_000}, "wrong_type", "not_after"),
    ("an empty command_id", {**BAN, "command_id": ""}, "empty", "command_id"),
    ("an empty target", {**BAN, "group_id": ""}, "empty", "group_id"),
    ("no user in the list", {**BAN, "user_ids": []}, "empty", "user_ids"),
    ("an empty user", {**BAN, "user_ids": ["u", ""]}, "empty", "user_ids[1]"),
    ("a kick with an empty reason", {**KICK, "reason": ""}, "empty", "reason"),
    ("an empty member_info", {**UPDATE, "member_info": {}}, "empty", "member_info"),
    ("a command_id of 129 bytes", {**BAN, "command_id": "é" * 64 + "x"}, "too_long", "command_id"),
    ("a group of 49 bytes", {**BAN, "group_id": "语" * 16 + "x"}, "too_long", "group_id"),
    ("a room of 49 bytes", {**KICK, "room_id": "r" * 49}, "too_long", "room_id"),
    ("a user of 33 bytes", {**BAN, "user_ids": ["u", "😀" * 8 + "x"]}, "too_long", "user_ids[1]"),
    ("a reason of 1,001 bytes", {**KICK, "reason": "é" * 500 + "x"}, "too_long", "reason"),
    (
        "a name card of 33 bytes",
        {**UPDATE, "member_info": {"name_card": "语" * 11}},
        "too_long",
        "member_info.name_card",
    ),
    (
        "a custom_info of 61 bytes",
        {**UPDATE, "member_info": {"custom_info": "x" * 61}},
        "too_long",
        "member_info.custom_info",
    ),
    ("an issuer of 257 bytes", {**BAN, "issuer": "x" * 257}, "too_long", "issuer"),
    ("metadata of 4,097 bytes", {**BAN, "metadata": {"a": "x" * 4089}}, "too_long", "metadata"),
    ("a record of a megabyte", {**BAN, "reason": "x" * 2**20}, "too_long", "reason"),
    ("101 users", {**BAN, "user_ids": [f"u{number}" for number in range(101)]}, "too_many", "user_ids"),
    ("101 times the same user", {**BAN, "user_ids": ["u"] * 101}, "too_many", "user_ids"),
    ("a million users", {**BAN, "user_ids": ["u"] * 10**6}, "too_many", "user_ids"),
    ("a control character in a user", {**BAN, "user_ids": ["a\x00b"]}, "bad_character", "user_ids[0]"),
    ("a line end in a command_id", {**BAN, "command_id": "c\n1"}, "bad_character", "command_id"),
    ("DEL in a target", encoded(BAN).replace(b"@TGS", b"\x7f"), "bad_character", "group_id"),
    ("a line separator in a target", {**BAN, "group_id": "a\u2028"}, "bad_character", "group_id"),
    (
        "a control character beyond ASCII",
        json.dumps({**BAN, "issuer": "a\x85"}, ensure_ascii=False).encode(),
        "bad_character",
        "issuer",
    ),
    ("half a surrogate pair in a user", {**BAN, "user_ids": ["\ud800"]}, "bad_character", "user_ids[0]"),
    ("half a surrogate pair in a reason", {**BAN, "reason": "a\udc00"}, "bad_character", "reason"),
    (
        "half a surrogate pair in metadata",
        {**BAN, "metadata": {"a": ["\ud800"]}},
        "bad_character",
        "metadata",
    ),
    (
        "half a surrogate pair in a name of metadata",
        {**BAN, "metadata": {"\ud800": 1}},
        "bad_character",
        "metadata",
    ),
    ("a negative duration", {**BAN, "duration": -1}, "out_of_range", "duration"),
    ("a duration of more than 32 bits", {**BAN, "duration": 2**32}, "out_of_range", "duration"),
    ("a duration of 5,000 digits", encoded(BAN).replace(b"3600", b"9" * 5000), "out_of_range", "duration"),
    (
        "a duration that no float can hold",
        encoded(BAN).replace(b"3600", b"1e999"),
        "out_of_range",
        "duration",
    ),
    (
        "a number in metadata that no float can hold",
        encoded(BAN)[:-1] + b',"metadata":{"a":[-1e999]}}',
        "out_of_range",
        "metadata",
    ),
    (
        "a number of 5,000 digits in metadata",
        encoded(BAN)[:-1] + b',"metadata":{"a":' + b"9" * 5000 + b"}}",
        "out_of_range",
        "metadata",
    ),
    (
        "a role that does not exist",
        {**UPDATE, "member_info": {"role": "Owner"}},
        "out_of_range",
        "member_info.role",
    ),
    ("a role that is a list", {**UPDATE, "member_info": {"role": []}}, "wrong_type", "member_info.role"),
    (
        "a ban until 2107",
        {**without(BAN, "duration"), "banned_until": "2107-01-01T00:00:00Z"},
        "out_of_range",
        "banned_until",
    ),
    ("a time without offset", {**BAN, "not_after": "2030-01-01T00:00:00"}, "bad_time", "not_after"),
    (
        "a day without time",
        {**without(BAN, "duration"), "banned_until": "2030-01-01"},
        "bad_time",
        "banned_until",
    ),
    ("a day that is in no calendar", {**BAN, "not_after": "2030-02-30T00:00:00Z"}, "bad_time", "not_after"),
    ("an action that does not exist", {**BAN, "action": "group.ban"}, "unknown_action", "action"),
    ("an empty action", {**BAN, "action": ""}, "unknown_action", "action"),
    ("an action of a megabyte", {**BAN, "action": "x" * 2**20}, "unknown_action", "action"),
    ("the target of the other kind", {**without(BAN, "group_id"), "room_id": "r"}, "wrong_target", "room_id"),
    ("both targets, for a group", {**BAN, "room_id": "r"}, "wrong_target", "room_id"),
    ("both targets, for a room", {**KICK, "group_id": "g"}, "wrong_target", "group_id"),
    (
        "both duration and banned_until",
        {**BAN, "banned_until": "2030-01-01T00:00:00Z"},
        "wrong_parameter",
        "banned_until",
    ),
    ("a duration for a kick", {**KICK, "duration": 1}, "wrong_parameter", "duration"),
    ("a reason for an unban", {**UNBAN, "reason": "x"}, "wrong_parameter", "reason"),
    ("a reason for a live unban", {**LIVE_UNBAN, "reason": "x"}, "wrong_parameter", "reason"),
    ("a member_info for a ban", {**BAN, "member_info": {"role": "Admin"}}, "wrong_parameter", "member_info"),
    ("a reason for an update", {**UPDATE, "reason": "x"}, "wrong_parameter", "reason"),
    ("an app that is not configured", {**BAN, "app": "third"}, "unknown_app", "app"),
    ("an empty app", {**BAN, "app": ""}, "unknown_app", "app"),
    ("the app's administrator", {**BAN, "user_ids": ["u", "administrator"]}, "protected_user", "user_ids[1]"),
    ("a user protected by the settings", {**BAN, "user_ids": ["moderator"]}, "protected_user", "user_ids[0]"),
]


BY_NAME = pytest.mark.parametrize(
    ("value", "code", "field"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)


@BY_NAME
def test_what_is_wrong_is_named_by_code_and_field(value: object, code: str, field: str | None) -> None:
    refused = rejected(value)

    assert (refused.code, refused.field) == (code, field), refused.message


@BY_NAME
def test_the_message_is_short_and_can_be_printed_anywhere(
    value: object, code: str, field: str | None
) -> None:
    """It ends in logs, in a header of the dead letter and on somebody's screen at night."""
    message = rejected(value).message

    assert message.isprintable()
    assert 15 <= len(message.encode()) <= 512
    assert (
        field is None
        or field.rpartition(".")[2] in message
        or code in ("too_deep", "wrong_target", "protected_user")
    )


@pytest.mark.parametrize("value", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_the_command_id_is_kept_whenever_it_can_be_read(value: object) -> None:
    """Without it there is no outcome, and whoever issued the command waits for ever."""
    text = value if isinstance(value, bytes) else encoded(value)
    try:
        found = json.loads(text.decode(), parse_int=float)
    except ValueError:
        found = None
    except RecursionError:  # no parser gets through it: the brackets alone say where it ends
        found = {"command_id": "c-1"} if text.endswith(b"}") else None
    command_id = found.get("command_id") if isinstance(found, dict) else None
    valid = isinstance(command_id, str) and 0 < len(command_id.encode()) <= 128 and command_id.isprintable()

    assert rejected(value).command_id == (command_id if valid else None)


def test_every_code_of_the_table_is_shown_by_an_example() -> None:
    """``command_id_reused`` needs to know what came before: the engine finds it."""
    assert {code for _, _, code, _ in REFUSED} == set(REJECTIONS) - {"command_id_reused"}


@pytest.mark.parametrize("depth", [64, 900, 5000, 20_000])
def test_of_a_record_that_is_nested_too_deep_all_that_is_not_deep_is_kept(depth: int) -> None:
    """How deep the parsers get is another number on each Python; what becomes of a record must not be."""
    deep = b"[" * depth + b'{"a":"]\\"]"}' + b"]" * depth
    value = b'{"a":{"b":[]},"x":%b,"command_id":"c-1","y":[%b,[]],"issuer":"i"}' % (deep, deep)

    refused = rejected(value)

    assert (refused.code, refused.command_id, refused.issuer) == ("too_deep", "c-1", "i")


@pytest.mark.parametrize("depth", [33, 64, 900, 5000, 20_000])
def test_metadata_is_too_deep_at_every_depth_beyond_what_is_allowed(depth: int) -> None:
    refused = rejected(encoded(BAN)[:-1] + b',"metadata":{"a":' + b"[" * depth + b"]" * depth + b"}}")

    assert (refused.code, refused.field, refused.command_id) == ("too_deep", "metadata", "c-1")


def test_brackets_beside_each_other_and_in_texts_are_not_deep() -> None:
    value = b'{"command_id":"c-1","x":[' + b'[],{"a":"[[{"},' * 100 + b'"' + b"[" * 100 + b'\\"["]}'

    assert rejected(value).code == "unknown_field"


def test_a_number_of_too_many_digits_is_no_object() -> None:
    assert rejected(b"9" * 5000).message == "the record must be a JSON object, not a number"


def test_a_number_of_too_many_digits_hides_nothing_else() -> None:
    strange = {f"x{number}": number for number in range(70)}
    value = encoded(strange | BAN).replace(b"3600", b"-" + b"9" * 5000)

    refused = rejected(value)

    assert (refused.command_id, refused.user_ids) == ("c-1", ("brennanli3", "brennanli12"))
    assert rejected(b'{"metadata":{"a":[1,' + b"9" * 5000 + b"]}," + encoded(BAN)[1:]).field == "metadata"


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({"a": "x" * 70_000}, "too_long"),
        (["x" * 70_000], "wrong_type"),
        ("x" * 70_000, "wrong_type"),
        ({"a": [1] * 30_000}, "too_long"),
        ({"a": [[]] * 30_000}, "too_long"),
    ],
)
def test_metadata_that_is_too_long_by_far_is_reported_as_what_it_is(metadata: object, code: str) -> None:
    refused = rejected({**BAN, "metadata": metadata})

    assert (refused.code, refused.field, refused.metadata) == (code, "metadata", None)


def test_metadata_that_is_long_for_its_blanks_or_escapes_alone_is_taken() -> None:
    head = encoded(BAN)[:-1] + b',"metadata":{"a":'

    assert command(head + b" " * 100_000 + b"1}}").metadata == {"a": 1}
    assert command(head + b'"' + b"\\u0061" * 4_000 + b'"}}').metadata == {"a": "a" * 4_000}


def test_a_list_too_deep_to_be_parsed_is_no_object() -> None:
    assert rejected(b"[" * 5000 + b"]" * 5000).code == "not_an_object"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "1893456000",
        "2030-01-01 00:00:00Z",
        "20300101T000000Z",
        "2030-W01-1T00:00:00Z",
        "2030-01-01T00:00Z",
        "2030-01-01T24:00:00Z",
        "2030-01-01T00:00:61Z",
        "2030-01-01T00:00:00,5Z",
        "2030-01-01T00:00:00.Z",
        "2030-01-01T00:00:00+0100",
        "2030-01-01T00:00:00+24:00",
        "2030-01-01T00:00:00Z ",
        "٢٠٣٠-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_other_ways_to_write_a_time_are_refused(text: str) -> None:
    refused = rejected({**without(BAN, "duration"), "banned_until": text})

    assert (refused.code, refused.field) == ("bad_time", "banned_until")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resaon", "reason"),
        ("userIds", "user_ids"),
        ("USER_IDS", "user_ids"),
        ("command-id", "command_id"),
        ("meta", "metadata"),
    ],
)
def test_a_mistyped_field_is_answered_with_the_one_that_was_meant(name: str, meant: str) -> None:
    assert f"did you mean '{meant}'?" in rejected({**BAN, name: "x"}).message


def test_a_field_that_resembles_none_is_answered_with_all() -> None:
    message = rejected({**BAN, "zzz": 1}).message

    assert all(name in message for name in FIELDS)


def test_a_message_shows_only_the_beginning_of_a_long_text() -> None:
    message = rejected({**BAN, "action": "x" * 2**20}).message

    assert message.startswith(f"there is no action '{'x' * 32}'…; there are group.ban_group_member")


def test_a_message_stays_short_however_many_apps_there_are() -> None:
    apps = {f"application-{number}": "administrator" for number in range(100)}
    decoder = CommandDecoder(EngineSettings(SETTINGS.topic, 8, apps, None, SETTINGS.worker))

    refused = decoder.decode(Record(encoded({**BAN, "app": "main"})))

    assert isinstance(refused, Rejected)
    assert len(refused.message) == 512


def test_an_unknown_app_is_answered_with_those_that_are_configured() -> None:
    assert rejected({**BAN, "app": "third"}).message == "there is no app 'third'; there are main, second"


def test_only_the_administrator_of_the_commands_own_app_is_protected() -> None:
    assert command({**BAN, "user_ids": ["root"]}).users == ("root",)
    assert rejected({**BAN, "app": "second", "user_ids": ["root"]}).code == "protected_user"
    assert rejected({**BAN, "app": "second", "user_ids": ["moderator"]}).code == "protected_user"


def test_without_app_and_default_app_a_command_is_refused() -> None:
    decoder = CommandDecoder(EngineSettings(SETTINGS.topic, 8, SETTINGS.apps, None, SETTINGS.worker))

    refused = decoder.decode(Record(encoded(BAN)))
    accepted = decoder.decode(Record(encoded({**BAN, "app": "main"})))

    assert isinstance(refused, Rejected)
    assert (refused.code, refused.field) == ("unknown_app", "app")
    assert isinstance(accepted, Command)
    unread = decoder.decode(Record(encoded({**BAN, "app": 5})))
    assert isinstance(unread, Rejected)
    assert (unread.code, unread.field, unread.also) == ("wrong_type", "app", ()), "it is not missing"


def test_what_else_could_be_read_is_in_the_refusal() -> None:
    refused = rejected({**EVERYTHING, "resaon": "x"})

    assert refused == Rejected(
        code="unknown_field",
        field="resaon",
        message="there is no field 'resaon': did you mean 'reason'?",
        command_id="c-1",
        action="group.ban_group_member",
        app="second",
        group_id="@TGS#aJRGC4MH6",
        issuer="detector-7: text",
        issued_at="2029-12-31T23:59:58.123+01:00",
        metadata=EVERYTHING["metadata"],
        user_ids=("brennanli3", "brennanli12"),
    )


def test_the_same_is_there_when_the_fields_are_right_but_not_together() -> None:
    refused = rejected({**EVERYTHING, "room_id": "r"})

    assert refused.code == "wrong_target"
    assert (refused.action, refused.app, refused.group_id, refused.room_id) == (
        "group.ban_group_member",
        "second",
        "@TGS#aJRGC4MH6",
        "r",
    )
    assert refused.target == "@TGS#aJRGC4MH6"
    assert (refused.issuer, refused.issued_at) == (EVERYTHING["issuer"], EVERYTHING["issued_at"])
    assert refused.metadata == EVERYTHING["metadata"]
    assert refused.user_ids == ("brennanli3", "brennanli12")


@pytest.mark.parametrize(
    ("users", "kept"),
    [
        (["a", "b", "a"], ("a", "b")),
        ("a", ("a",)),
        (["a", 1, None, "", {}, "b", "x" * 129, "\ud800", "c\u200b"], ("a", "b", "c\u200b")),
        ([f"u{number}" for number in range(150)], tuple(f"u{number}" for number in range(100))),
        ([], ()),
        (None, ()),
        ({"a": "b"}, ()),
        (["x" * 128], ("x" * 128,)),
    ],
)
def test_the_users_a_refused_command_named_are_listed_as_far_as_they_can_be_read(
    users: object, kept: tuple[str, ...]
) -> None:
    """ "What became of the ban of this user?" is asked by the user."""
    assert rejected({**BAN, "user_ids": users, "zzz": 1}).user_ids == kept


def problems(refused: Rejected) -> list[tuple[str, str | None]]:
    """All that is reported of a record, in order."""
    return [(refused.code, refused.field), *((problem.code, problem.field) for problem in refused.also)]


# Each line: what is wrong, the record, and everything that is to be reported.
SEVERAL: list[tuple[str, object, list[tuple[str, str | None]]]] = [
    (
        "fields by themselves",
        {**BAN, "resaon": 1, "duration": "60", "command_id": "", "user_ids": ["u", "", 5], "issuer": None},
        [
            ("unknown_field", "resaon"),
            ("empty", "command_id"),
            ("empty", "user_ids[1]"),
            ("wrong_type", "user_ids[2]"),
            ("wrong_type", "duration"),
            ("wrong_type", "issuer"),
        ],
    ),
    (
        "fields together",
        {
            **without(BAN, "command_id", "group_id"),
            "member_info": {"role": "Admin"},
            "user_ids": ["administrator", "u", "moderator"],
            "not_after": "tomorrow",
        },
        [
            ("missing_field", "command_id"),
            ("missing_field", "group_id"),
            ("wrong_parameter", "member_info"),
            ("protected_user", "user_ids[0]"),
            ("protected_user", "user_ids[2]"),
            ("bad_time", "not_after"),
        ],
    ),
    (
        "by themselves and together",
        {**without(KICK, "reason"), "user_ids": "u", "app": "third", "group_id": "g", "banned_until": 5},
        [
            ("wrong_type", "user_ids"),
            ("wrong_type", "banned_until"),
            ("wrong_target", "group_id"),
            ("wrong_parameter", "banned_until"),
            ("unknown_app", "app"),
        ],
    ),
    (
        "fields that are missing",
        {"command_id": "c"},
        [("missing_field", "action"), ("missing_field", "user_ids")],
    ),
    (
        "an unknown action",
        {**BAN, "action": "ban", "app": 5},
        [("wrong_type", "app"), ("unknown_action", "action")],
    ),
    (
        "the same field for several reasons",
        {**UPDATE, "member_info": {"x": 1, "role": "Owner", "name_card": "x" * 33}},
        [
            ("unknown_field", "member_info.x"),
            ("too_long", "member_info.name_card"),
            ("out_of_range", "member_info.role"),
        ],
    ),
    (
        "names given twice",
        encoded(BAN)[:-1] + b',"reason":"x","reason":"y","duration":"1"}',
        [("duplicate_field", "reason"), ("duplicate_field", "duration"), ("wrong_type", "duration")],
    ),
    (
        "words that are not JSON",
        encoded({**BAN, "duration": float("nan"), "metadata": {"a": float("-inf")}, "app": 5}),
        [("not_json", None), ("not_json", None), ("wrong_type", "app")],
    ),
    (
        "a field that is too deep",
        encoded({**BAN, "app": 5})[:-1] + b',"metadata":{"a":' + b"[" * 99 + b"]" * 99 + b"}}",
        [("too_deep", "metadata"), ("wrong_type", "app")],
    ),
    (
        "a field that is too large to be looked at",
        encoded({**BAN, "app": 5})[:-1] + b',"metadata":{"a":[' + b"[]," * 3000 + b"1]}}",
        [("wrong_type", "app"), ("too_long", "metadata")],
    ),
    (
        "a misspelt target that is needed",
        {**without(BAN, "group_id"), "GroupID": "g", "duration": -1},
        [("unknown_field", "GroupID"), ("out_of_range", "duration")],
    ),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in SEVERAL], ids=[row[0] for row in SEVERAL])
def test_everything_that_is_wrong_with_a_record_is_reported_at_once(
    value: object, expected: list[tuple[str, str | None]]
) -> None:
    """Whoever mends one mistake a day needs a week for a record with seven."""
    refused = rejected(value)

    assert problems(refused) == expected
    assert len({problem.message for problem in refused.also} | {refused.message}) == len(expected)


def test_of_many_problems_the_first_and_ten_more_are_reported() -> None:
    refused = rejected({**BAN, "user_ids": [5] * 100})

    assert problems(refused) == [("wrong_type", f"user_ids[{place}]") for place in range(11)]
    assert len(rejected({f"x{number}": 1 for number in range(1000)}).also) == 10


def test_more_problems_of_one_field_than_are_told_are_not_looked_for() -> None:
    """For each of 100,000 names it was asked what might be meant, which took seconds."""
    info = {f"x{number}": 1 for number in range(1_000)}

    found = own_faults(FIELDS, {"member_info": info, "user_ids": [""] * 100}, "")

    assert [len(faults) for faults in found.values()] == [FAULTS, FAULTS]


@pytest.mark.parametrize(("written", "number"), [("-0.0", "0"), ("60.0", "60"), ("1e3", "1000")])
def test_a_duration_with_a_point_is_answered_with_the_number_that_is_taken(written: str, number: str) -> None:
    message = rejected(encoded(BAN).replace(b"3600", written.encode())).message

    assert message.endswith(f"not a number: write {number}")


def test_a_field_beyond_the_first_64_is_read_all_the_same() -> None:
    strange = {f"x{number}": [number, {"a": number}] for number in range(100)}

    refused = rejected(strange | {**BAN, "issuer": "i"})

    assert (refused.command_id, refused.issuer, refused.user_ids) == (
        "c-1",
        "i",
        ("brennanli3", "brennanli12"),
    )


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (b"}", "unknown_field"),
        (b',"a":' + b"[" * 99 + b"]" * 99 + b"}", "too_deep"),
        (b',"a":}', "not_json"),
        (b",}", "not_json"),
        (b',"a":1}{}', "not_json"),
        (b',"a":1} \n', "unknown_field"),
        (b',"a":1', "not_json"),
    ],
)
def test_what_comes_after_the_first_64_fields_is_checked(ending: bytes, code: str) -> None:
    strange = encoded({f"x{number}": number for number in range(65)})

    assert rejected(strange[:-1] + ending).code == code


def test_an_id_that_ends_in_a_blank_is_refused_with_an_outcome_of_that_id() -> None:
    """Whoever issued it waits for exactly this id."""
    refused = rejected({**BAN, "command_id": "c-1 "})

    assert (refused.code, refused.field, refused.command_id) == ("bad_character", "command_id", "c-1 ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("action", 1),
        ("app", None),
        ("group_id", "x" * 513),
        ("room_id", ["r"]),
        ("issuer", "\ud800"),
        ("issued_at", 5),
        ("metadata", "text"),
        ("metadata", {"a": "x" * 5000}),
        ("metadata", {"a": float("inf")}),
    ],
)
def test_what_cannot_stand_in_an_outcome_is_left_out_of_the_refusal(name: str, value: object) -> None:
    assert getattr(rejected({**EVERYTHING, name: value, "zzz": 1}), name) is None


def test_a_target_that_is_too_long_is_repeated_in_the_refusal() -> None:
    assert rejected({**BAN, "group_id": "g" * 49}).group_id == "g" * 49


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("60", ": write 60 without quotation marks"),
        ("007", ": write 7 without quotation marks"),
        ("\u0666\u0660", ": write 60 without quotation marks"),
        ("4294967296", ""),
        ("9" * 5_000, ""),
        ("\u00b2", ""),
    ],
)
def test_the_cure_of_a_number_in_a_text_is_json_that_is_taken(text: str, cure: str) -> None:
    """It said to write 007, which is no JSON, or digits of another script."""
    assert rejected(BAN | {"duration": text}).message == (
        f"duration must be a whole number of seconds, not a string{cure}"
    )


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("spelled", [int, str])
def test_the_cure_of_an_instant_as_a_number_knows_its_unit(unit: int, spelled: type) -> None:
    refused = rejected(BAN | {"not_after": spelled(1_893_456_000 * unit)})

    assert refused.message.endswith('write "2030-01-01T00:00:00.000Z"')
