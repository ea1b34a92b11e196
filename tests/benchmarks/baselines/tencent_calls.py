# What each baseline needs of Tencent: an address with a signature, a body, and what an answer means.
#
# Written from Tencent's pages as somebody would who has no moderation-worker: nothing of it is imported.
# Not here: Kafka, and who calls when (first_loop.py, asyncio_batches.py, faststream_batches.py).

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any, Final

from TLSSigAPIv2 import TLSSigAPIv2

ENDPOINTS: Final = {
    "group.ban_group_member": "group_open_http_svc/ban_group_member",
    "group.unban_group_member": "group_open_http_svc/unban_group_member",
    "live.unban_member": "live_engine_http_srv/unban_member",
    "room.kick_user_out": "room_engine_http_srv/kick_user_out",
    "room.update_room_member_info": "room_engine_http_srv/update_room_member_info",
}
MEMBERS: Final = {"group": "Members_Account", "live": "MemberList_Account", "room": "MemberList_Account"}
TRY_AGAIN: Final = frozenset({10002, 60007, 60008, 100001})
"""Internal errors, a timeout inside Tencent, and too many requests."""
MOST_MEMBERS: Final = 20
SIGNED_FOR: Final = 86_400
ATTEMPTS: Final = 8


class TryAgainError(Exception):
    """Tencent did nothing, and may do it next time."""


class Tencent:
    """Addresses and bodies for one app."""

    def __init__(self, base_url: str, sdk_app_id: int, identifier: str, key: str) -> None:
        signature = TLSSigAPIv2(sdk_app_id, key).gen_sig(identifier, SIGNED_FOR)
        self._base_url = base_url
        self._query = f"sdkappid={sdk_app_id}&identifier={identifier}&usersig={signature}&contenttype=json"

    def url(self, action: str) -> str:
        """Where a call of this action goes."""
        return f"{self._base_url}/v4/{ENDPOINTS[action]}?{self._query}&random={random.getrandbits(32)}"


def target_of(command: dict[str, Any]) -> str:
    """The group or room."""
    return str(command.get("group_id") or command["room_id"])


def body_of(command: dict[str, Any], users: list[str]) -> dict[str, Any]:
    """The body of a call that does to these users what the command says."""
    service = command["action"].partition(".")[0]
    body: dict[str, Any] = {"GroupId" if service == "group" else "RoomId": target_of(command)}
    if "member_info" in command:
        body["MemberInfo"] = {
            "Member_Account": users[0],
            "NameCard": command["member_info"]["name_card"],
        }
        return body
    body[MEMBERS[service]] = users
    if "duration" in command:
        body["Duration"] = command["duration"]
    if "reason" in command:
        body["Description" if service == "group" else "Reason"] = command["reason"]
    return body


def code_of(answer: dict[str, Any]) -> int:
    """The code of an answer. Raises TryAgainError for one that may be another next time."""
    code = int(answer["ErrorCode"])
    if code in TRY_AGAIN:
        raise TryAgainError(f"Tencent answered {code}")
    return code


def outcome_of(command: dict[str, Any], code: int) -> dict[str, Any]:
    """What is published of a command."""
    return {
        "command_id": command["command_id"],
        "status": "failed" if code else "succeeded",
        "error_code": code,
    }


def options() -> argparse.Namespace:
    """What each baseline is given."""
    parser = argparse.ArgumentParser()
    for name in ("bootstrap-servers", "commands", "outcomes", "group", "base-url", "identifier"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--sdk-app-id", type=int, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    return parser.parse_args()


def tencent_of(given: argparse.Namespace) -> Tencent:
    """The app that these options name."""
    key = given.key_file.read_text("utf-8").strip()
    return Tencent(given.base_url, given.sdk_app_id, given.identifier, key)
