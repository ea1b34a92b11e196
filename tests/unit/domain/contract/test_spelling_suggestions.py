# What people probably meant: fields, actions, numbers and times in another spelling, each answered with the right one.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.samples import BAN, UPDATE, decode, rejected, without
from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.field_checks import FIELDS, MEMBER_INFO
from worker.domain.contract.rejections import Rejected
from worker.domain.contract.spelling_suggestions import _OTHER_NAMES, meant_actions, meant_field


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(
            ("userIds", "user_ids"),
            ("UserIds", "user_ids"),
            ("UserIDs", "user_ids"),
            ("user-ids", "user_ids"),
        ),
        *(
            ("USER_IDS", "user_ids"),
            ("user ids", "user_ids"),
            ("userids", "user_ids"),
            ("user_id", "user_ids"),
        ),
        *(
            ("userId", "user_ids"),
            ("users", "user_ids"),
            ("members", "user_ids"),
            ("Members_Account", "user_ids"),
        ),
        *(
            ("MemberList_Account", "user_ids"),
            ("groupId", "group_id"),
            ("GroupID", "group_id"),
            ("group", "group_id"),
        ),
        *(("RoomId", "room_id"), ("room-id", "room_id"), ("roomID", "room_id"), ("commandId", "command_id")),
        *(("id", "command_id"), ("Action", "action"), ("command", "action"), ("Duration", "duration")),
        *(("duration_seconds", "duration"), ("bannedUntil", "banned_until"), ("until", "banned_until")),
        *(
            ("Reason", "reason"),
            ("Description", "reason"),
            ("memberInfo", "member_info"),
            ("SdkAppId", "app"),
        ),
        *(
            ("notAfter", "not_after"),
            ("expires_at", "not_after"),
            ("issuedAt", "issued_at"),
            ("timestamp", "issued_at"),
        ),
        *(("Issuer", "issuer"), ("meta", "metadata"), ("MetaData", "metadata"), ("durations", "duration")),
    ],
)
def test_a_field_in_another_spelling_is_answered_with_the_one_that_was_meant(name: str, meant: str) -> None:
    refused = rejected({**BAN, name: "x"})

    assert refused.code == "unknown_field"
    assert f"did you mean {meant!r}?" in refused.message


@pytest.mark.parametrize("name", [*FIELDS])
def test_a_misspelt_field_is_not_reported_as_missing_too(name: str) -> None:
    """One mistake is one problem."""
    value = {**BAN, "member_info": {"role": "Admin"}, "room_id": "r"}
    camel = "".join(word.title() for word in name.split("_"))
    refused = rejected(without(value, name) | {camel: value.get(name, "x")})

    assert refused.message == f"there is no field {camel!r}: did you mean {name!r}?"
    assert "missing_field" not in [problem.code for problem in refused.also]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("nameCard", "name_card"), ("NameCard", "name_card"), ("Role", "role"), ("customInfo", "custom_info")],
)
def test_a_field_of_member_info_in_another_spelling_is_answered_likewise(name: str, meant: str) -> None:
    refused = rejected({**UPDATE, "member_info": {name: "x"}})

    assert (refused.code, refused.field) == ("unknown_field", f"member_info.{name}")
    assert f"did you mean {meant!r}?" in refused.message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("ban_group_member", "group.ban_group_member"), ("BAN_GROUP_MEMBER", "group.ban_group_member")),
        *(("GROUP.BAN_GROUP_MEMBER", "group.ban_group_member"), ("Group.Ban_Group_Member", "group.ban_group_member")),
        *((" group.ban_group_member ", "group.ban_group_member"), ("group/ban_group_member", "group.ban_group_member")),
        *(("group.banGroupMember", "group.ban_group_member"), ("group-ban-group-member", "group.ban_group_member")),
        *(("group.ban", "group.ban_group_member"), ("ban", "group.ban_group_member"), ("Ban", "group.ban_group_member")),
        *(("group_open_http_svc/ban_group_member", "group.ban_group_member"), ("kick", "room.kick_user_out")),
        *(("v4/room_engine_http_srv/kick_user_out", "room.kick_user_out"), ("kick_user_out", "room.kick_user_out")),
        *(("kickUserOut", "room.kick_user_out"), ("group.unban_group_membr", "group.unban_group_member")),
        ("update_room_member_info", "room.update_room_member_info"),
    ],
)  # fmt: skip
def test_an_action_in_another_spelling_is_answered_with_the_one_that_was_meant(name: str, meant: str) -> None:
    refused = rejected({**BAN, "action": name})

    assert (refused.code, refused.field) == ("unknown_action", "action")
    assert f"did you mean {meant!r}?" in refused.message


@pytest.mark.parametrize("name", ["unban", "unban_member", "UNBAN"])
def test_an_action_that_may_be_one_of_several_is_answered_with_each(name: str) -> None:
    meant = "did you mean 'group.unban_group_member' or 'live.unban_member'?"

    assert meant in rejected({**BAN, "action": name}).message


@pytest.mark.parametrize("name", ["live.ban_member", "group.banish_group_member", "room.ban_room_member"])
def test_a_ban_is_never_taken_for_an_unban(name: str) -> None:
    """Whoever copies the answer would do the opposite."""
    assert "did you mean 'live.unban" not in rejected({**BAN, "action": name}).message
    assert not any("unban" in meant for meant in meant_actions(name))


@pytest.mark.parametrize(
    "name",
    [
        *("room.ban_room_member", "room.ban_user", "live.ban_room_member", "room.mute_room_member"),
        *("group.mute_group_member", "group.update_group_member_info", "group.kick_user_out"),
    ],
)
def test_an_action_is_never_taken_for_one_with_another_target_or_verb(name: str) -> None:
    """A ban of a room's member was answered with that of a group's, and a mute with a ban."""
    assert meant_actions(name) == ()
    assert all(action in rejected({**BAN, "action": name}).message for action in ACTIONS)


def test_an_action_that_resembles_none_is_answered_with_all() -> None:
    message = rejected({**BAN, "action": "mute"}).message

    assert all(name in message for name in ACTIONS)


def test_a_field_that_has_no_other_name_is_known_by_its_own() -> None:
    """A field that is added to a command needs no row here, and no unknown one beside it makes the decoder raise."""
    known = (*FIELDS, "evidence")

    assert meant_field("Evidence", known) == "evidence"
    assert meant_field("evidnce", known) == "evidence"
    assert meant_field("qqq", known) is None


@pytest.mark.parametrize("field", [*FIELDS, *MEMBER_INFO])
def test_another_name_of_a_field_is_written_as_names_are_compared(field: str) -> None:
    for name in _OTHER_NAMES.get(field, ()):
        assert meant_field(name, (field,)) == field


def test_only_fields_have_other_names() -> None:
    assert set(_OTHER_NAMES) <= {*FIELDS, *MEMBER_INFO}


@pytest.mark.parametrize("text", ["", "x" * 10**6, "🙂", "\x00", "-"])
def test_a_name_without_letters_or_end_means_nothing(text: str) -> None:
    assert meant_field(text, tuple(FIELDS)) is None
    assert meant_field(text, tuple(MEMBER_INFO)) is None
    assert meant_actions(text) == ()


@pytest.mark.parametrize(
    ("value", "field", "cure"),
    [
        ({"duration": "60"}, "duration", "write 60 without quotation marks"),
        ({"duration": " 60 "}, "duration", "write 60 without quotation marks"),
        ({"duration": 60.0}, "duration", "write 60"),
        ({"duration": 6e3}, "duration", "write 6000"),
        ({"duration": "1h"}, "duration", "a whole number of seconds, not a string"),
        ({"duration": True}, "duration", "a whole number of seconds, not a boolean"),
        ({"duration": None}, "duration", "is null: leave it out"),
        ({"duration": [60]}, "duration", "a whole number of seconds, not a list"),
        ({"user_ids": "user1"}, "user_ids", 'write ["user1"]'),
        ({"user_ids": {"user_id": "u"}}, "user_ids", "a list of strings, not an object"),
        ({"user_ids": '["a","b"]'}, "user_ids", "write a list with one string for each user"),
        ({"user_ids": "a,b"}, "user_ids", "write a list with one string for each user"),
        ({"user_ids": None}, "user_ids", "is null: make it a list of strings"),
        ({"command_id": None}, "command_id", "is null: make it a string"),
        ({"action": None}, "action", "is null: make it a string"),
        ({"user_ids": [7]}, "user_ids[0]", "must be a string, not a number: write it in quotation marks"),
        ({"user_ids": [True]}, "user_ids[0]", "must be a string, not a boolean"),
        ({"user_ids": [{"Member_Account": "u"}]}, "user_ids[0]", "must be a string, not an object"),
        ({"user_ids": [["u"]]}, "user_ids[0]", "must be a string, not a list"),
        ({"user_ids": [""]}, "user_ids[0]", "must not be empty"),
        ({"group_id": 7}, "group_id", "write it in quotation marks"),
        ({"command_id": 7}, "command_id", "write it in quotation marks"),
        ({"group_id": ["g"]}, "group_id", "must be a string, not a list"),
        ({"reason": None}, "reason", "is null: leave it out"),
        ({"metadata": None}, "metadata", "is null: leave it out"),
        ({"metadata": '{"a":1}'}, "metadata", "must be an object, not a string"),
        ({"not_after": 1900000000}, "not_after", 'write "2030-03-17T17:46:40.000Z"'),
        ({"not_after": 1900000000000}, "not_after", 'write "2030-03-17T17:46:40.000Z"'),
        ({"not_after": 1900000000.5}, "not_after", 'write "2030-03-17T17:46:40.500Z"'),
        ({"not_after": 2030}, "not_after", "RFC 3339 in a string, not a number"),
        ({"not_after": "2030"}, "not_after", "it is not RFC 3339"),
        ({"not_after": "\uff12\uff10\uff13\uff10"}, "not_after", "it is not RFC 3339"),
        ({"not_after": -5}, "not_after", "RFC 3339 in a string, not a number"),
        ({"not_after": 10**400}, "not_after", "RFC 3339 in a string, not a number"),
        ({"not_after": True}, "not_after", "must be a string, not a boolean"),
        ({"not_after": "1900000000"}, "not_after", 'write "2030-03-17T17:46:40.000Z"'),
        ({"not_after": "1900000000000"}, "not_after", 'write "2030-03-17T17:46:40.000Z"'),
        ({"not_after": "9" * 40}, "not_after", "it is not RFC 3339"),
        ({"not_after": "2030-01-01 00:00:00"}, "not_after", "it is not RFC 3339"),
        ({"issued_at": 1900000000}, "issued_at", 'write "2030-03-17T17:46:40.000Z"'),
    ],
)
def test_what_was_probably_meant_by_a_value_is_said(value: dict[str, Any], field: str, cure: str) -> None:
    refused = decode(BAN | value)

    assert isinstance(refused, Rejected)
    assert refused.field == field
    assert cure in refused.message
    assert refused.also == ()


@pytest.mark.parametrize(
    ("field", "remedy"), [("command_id", "write another"), ("duration", "leave the field out")]
)
def test_only_a_field_that_is_not_needed_is_to_be_left_out(field: str, remedy: str) -> None:
    refused = decode(BAN | {field: float("nan")})

    assert isinstance(refused, Rejected)
    assert refused.message == f"the record is not JSON: NaN ({field}) is no JSON value; {remedy}"
