# Tencent's pages of the endpoints, as one table: fields, limits in bytes, codes, and what a call changes; and the one that
# is only read.
#
# Written from the public pages named in each row and nothing else: the simulator judges requests, so it must not share a
# table with the worker that sends them. Where the pages are silent, a comment says what we chose.

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

U32_MAX: Final = 4_294_967_295
"""Durations and `random` are unsigned 32-bit integers."""

TARGET_BYTES: Final = 48
USER_BYTES: Final = 32
MEMBERS_PER_CALL: Final = 20


class ChangeKind(StrEnum):
    """What a successful call changes in the state."""

    BAN = "ban"
    UNBAN = "unban"
    LIVE_UNBAN = "live_unban"
    KICK = "kick"
    UPDATE = "update"


class FieldShape(StrEnum):
    """What a field of a body must be."""

    TEXT = "a string"
    U32 = "an integer from 0 to 4294967295"
    USERS = "an array of strings"
    MEMBER = "an object"


@dataclass(frozen=True, slots=True)
class BodyField:
    """
    One field of a request's body.

    Attributes:
        name: As the page spells it.
        shape: What it must be.
        mandatory: Whether a call without it is refused.
        max_bytes: The limit of a text in UTF-8; None if none is documented.
        choices: The only texts allowed; empty for any.
        empty: Whether an empty text is valid.

    """

    name: str
    shape: FieldShape
    mandatory: bool = True
    max_bytes: int | None = None
    choices: tuple[str, ...] = ()
    empty: bool = True


@dataclass(frozen=True, slots=True)
class ServiceCodes:
    """
    The error codes of one service.

    Attributes:
        internal: Internal error: retry.
        unknown_command: The service has no such command.
        bad_field: A field is missing or invalid.
        too_many: More members than a call may carry.
        no_target: No such group or room.
        no_account: No such user.
        not_member: The user exists but is not in the room; None where the page does not require membership.
        forbidden: The operator lacks permission.

    """

    internal: int
    unknown_command: int
    bad_field: int
    too_many: int
    no_target: int
    no_account: int
    not_member: int | None
    forbidden: int


# 10010 and 10019 are in the common table of group errors, not on the two pages.
GROUP: Final = ServiceCodes(
    internal=10002, unknown_command=10003, bad_field=10004, too_many=10005,
    no_target=10010, no_account=10019, not_member=None, forbidden=10007,
)  # fmt: skip
# The pages of the live and room services name no code for an unknown account (70107 is the common one) and none for too
# many members (100002, like any other bad field). 60009 is the common code for an unknown resource in the URL.
ROOM: Final = ServiceCodes(
    internal=100001, unknown_command=60009, bad_field=100002, too_many=100002,
    no_target=100004, no_account=70107, not_member=100005, forbidden=100006,
)  # fmt: skip
LIVE: Final = ServiceCodes(
    internal=100001, unknown_command=60009, bad_field=100002, too_many=100002,
    no_target=100004, no_account=70107, not_member=None, forbidden=100006,
)  # fmt: skip

SERVICES: Final = {
    "group_open_http_svc": GROUP,
    "live_engine_http_srv": LIVE,
    "room_engine_http_srv": ROOM,
}

WITHOUT_REQUEST_ID: Final = frozenset({"group_open_http_svc"})
"""The services whose answers carry no RequestId."""


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """
    One endpoint.

    Attributes:
        endpoint: ``<service>/<command>``, as in the URL and as the quota counts.
        title: Of Tencent's page.
        target: The field that names the group or room.
        fields: All documented fields of the body; others are ignored, as Tencent does.
        change: What a successful call changes.

    """

    endpoint: str
    title: str
    target: str
    fields: tuple[BodyField, ...]
    change: ChangeKind

    @property
    def service(self) -> str:
        """The service part of the endpoint."""
        return self.endpoint.partition("/")[0]

    @property
    def codes(self) -> ServiceCodes:
        """The codes of its service."""
        return SERVICES[self.service]

    @property
    def has_request_id(self) -> bool:
        """Whether its answers carry a RequestId."""
        return self.service not in WITHOUT_REQUEST_ID


_GROUP_ID: Final = BodyField("GroupId", FieldShape.TEXT, max_bytes=TARGET_BYTES, empty=False)
_ROOM_ID: Final = BodyField("RoomId", FieldShape.TEXT, max_bytes=TARGET_BYTES, empty=False)

MEMBER_FIELDS: Final = (
    BodyField("Member_Account", FieldShape.TEXT, max_bytes=USER_BYTES, empty=False),
    BodyField("NameCard", FieldShape.TEXT, mandatory=False, max_bytes=32),
    BodyField("Role", FieldShape.TEXT, mandatory=False, choices=("Admin", "Member")),
    BodyField("CustomInfo", FieldShape.TEXT, mandatory=False, max_bytes=60),
)
"""The fields inside ``MemberInfo``."""

SPECS: Final[dict[str, EndpointSpec]] = {
    spec.endpoint: spec
    for spec in (
        EndpointSpec(
            endpoint="group_open_http_svc/ban_group_member",
            title="Banning Group Members",
            target="GroupId",
            fields=(
                _GROUP_ID,
                BodyField("Members_Account", FieldShape.USERS),
                BodyField("Duration", FieldShape.U32),
                BodyField("Description", FieldShape.TEXT, mandatory=False, max_bytes=1000),
            ),
            change=ChangeKind.BAN,
        ),
        EndpointSpec(
            endpoint="group_open_http_svc/unban_group_member",
            title="Unbanning Group Members",
            target="GroupId",
            fields=(_GROUP_ID, BodyField("Members_Account", FieldShape.USERS)),
            change=ChangeKind.UNBAN,
        ),
        EndpointSpec(
            endpoint="live_engine_http_srv/unban_member",
            title="Lifting a Member's Ban",
            target="RoomId",
            fields=(_ROOM_ID, BodyField("MemberList_Account", FieldShape.USERS)),
            change=ChangeKind.LIVE_UNBAN,
        ),
        EndpointSpec(
            endpoint="room_engine_http_srv/kick_user_out",
            title="Remove Room Member",
            target="RoomId",
            # The page says "mandatory"; refusing an empty reason is our choice.
            fields=(
                _ROOM_ID,
                BodyField("MemberList_Account", FieldShape.USERS),
                BodyField("Reason", FieldShape.TEXT, max_bytes=1000, empty=False),
            ),
            change=ChangeKind.KICK,
        ),
        EndpointSpec(
            endpoint="room_engine_http_srv/update_room_member_info",
            title="Update the Room Member Information",
            target="RoomId",
            fields=(_ROOM_ID, BodyField("MemberInfo", FieldShape.MEMBER)),
            change=ChangeKind.UPDATE,
        ),
    )
}

GROUP_LIST: Final = "group_open_http_svc/get_appid_group_list"
"""The page "Getting All Groups in an App": it changes nothing."""
GROUP_LIST_PER_SECOND: Final = 1
"""How often that page allows it."""
GROUP_LIST_MOST: Final = 10_000
"""The most groups of one answer, which ``Limit`` may lower."""
