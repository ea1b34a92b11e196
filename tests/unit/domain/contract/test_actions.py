# The table of actions against Tencent's pages: names, caps, and the body of each call.

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.domain.samples import BAN, KICK, LIVE_UNBAN, ONE_OF_EACH, UNBAN, UPDATE, command
from worker.domain.contract.actions import ACTIONS, ENDPOINTS, ActionKind, TargetField, per_call
from worker.domain.contract.parameters import MemberInfo, Parameters

# The sample requests of Tencent's pages.
SAMPLES: dict[str, dict[str, Any]] = {
    "group.ban_group_member": {
        "GroupId": "@TGS#aJRGC4MH6",
        "Members_Account": ["brennanli3", "brennanli12"],
        "Duration": 3600,
        "Description": "you are banned because of irregularities",
    },
    "group.unban_group_member": {
        "GroupId": "@TGS#aJRGC4MH6",
        "Members_Account": ["brennanli3", "brennanli12"],
    },
    "live.unban_member": {"RoomId": "test", "MemberList_Account": ["user1", "user2"]},
    "room.kick_user_out": {
        "RoomId": "room-test",
        "MemberList_Account": ["user1"],
        "Reason": "you are kicked because of irregularities",
    },
    "room.update_room_member_info": {
        "RoomId": "room-test",
        "MemberInfo": {
            "Member_Account": "user4",
            "NameCard": "jack",
            "Role": "Admin",
            "CustomInfo": "custom info",
        },
    },
}


def body_of(value: dict[str, Any]) -> dict[str, Any]:
    """The body of the call that carries all members of this command."""
    read = command(value)
    made: dict[str, Any] = json.loads(read.action.body(read.target, read.users, read.parameters))
    return made


@pytest.mark.parametrize("value", [BAN, UNBAN, LIVE_UNBAN, KICK, UPDATE], ids=lambda value: value["action"])
def test_a_command_becomes_the_sample_request_of_its_page(value: dict[str, Any]) -> None:
    assert body_of(value) == SAMPLES[value["action"]]


def test_an_update_carries_only_what_it_sets() -> None:
    """An empty string is a value: it clears the field. An absent one leaves it as it is."""
    body = body_of({**UPDATE, "member_info": {"name_card": ""}})

    assert body["MemberInfo"] == {"Member_Account": "user4", "NameCard": ""}


@pytest.mark.parametrize("info", [MemberInfo(role="Member"), MemberInfo(custom_info="x")])
def test_each_field_of_an_update_can_stand_alone(info: MemberInfo) -> None:
    body = json.loads(ACTIONS["room.update_room_member_info"].body("r", ["u"], Parameters(member_info=info)))

    assert len(body["MemberInfo"]) == 2


def test_a_duration_of_zero_is_passed_through() -> None:
    assert body_of({**BAN, "duration": 0})["Duration"] == 0


def test_a_ban_without_reason_has_no_description() -> None:
    assert "Description" not in body_of({name: value for name, value in BAN.items() if name != "reason"})


def test_texts_are_sent_as_utf_8() -> None:
    body = ACTIONS["room.kick_user_out"].body("房间", ["用户"], Parameters(reason="垃圾信息"))

    assert body.decode() == '{"RoomId":"房间","MemberList_Account":["用户"],"Reason":"垃圾信息"}'


def test_the_table_holds_the_endpoints_of_the_pages() -> None:
    assert set(ENDPOINTS) == {
        "group_open_http_svc/ban_group_member",
        "group_open_http_svc/unban_group_member",
        "live_engine_http_srv/unban_member",
        "room_engine_http_srv/kick_user_out",
        "room_engine_http_srv/update_room_member_info",
    }
    assert {row["action"] for row in ONE_OF_EACH} == set(ACTIONS)


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_named_after_its_service_and_tencents_command(name: str) -> None:
    action = ACTIONS[name]
    service, _, verb = action.endpoint.partition("/")

    assert action.name == name == f"{service.partition('_')[0]}.{verb}"


@pytest.mark.parametrize("name", ACTIONS)
def test_a_row_contradicts_neither_itself_nor_the_others(name: str) -> None:
    action = ACTIONS[name]
    needed = {one for need in action.needs for one in ([need] if isinstance(need, str) else need)}

    assert needed <= set(action.takes)
    assert all(name in ACTIONS[other].undone_by for other in action.undone_by)
    assert all(ACTIONS[other].target is action.target for other in action.undone_by)
    assert action.target_key == {TargetField.GROUP: "GroupId", TargetField.ROOM: "RoomId"}[action.target]


@pytest.mark.parametrize(("name", "members"), [(name, 1 if "update" in name else 20) for name in ACTIONS])
def test_a_call_carries_as_many_members_as_the_page_allows(name: str, members: int) -> None:
    assert ACTIONS[name].members_per_call == members


def test_only_a_kick_is_an_event() -> None:
    assert [name for name, action in ACTIONS.items() if action.kind is ActionKind.EVENT] == [
        "room.kick_user_out"
    ]


def test_actions_of_one_endpoint_agree_on_how_many_members_a_call_carries() -> None:
    """The endpoint's queue has one size for all its batches."""
    row = ACTIONS["group.ban_group_member"]
    same, other = replace(row, name="group.same"), replace(row, name="group.other", members_per_call=7)

    assert per_call((row, same)) == {row.endpoint: 20}
    with pytest.raises(AssertionError, match=r"group\.other has 7 members per call, another .* has 20"):
        per_call((row, other))
