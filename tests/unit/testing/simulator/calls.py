# Requests as a client of the endpoints makes them, and a Decider to try them on. No sockets.

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from TLSSigAPIv2 import TLSSigAPIv2

from worker.testing.simulator.auth import ApiRequest, Authenticator
from worker.testing.simulator.chat_state import ChatState
from worker.testing.simulator.decision import Decider
from worker.testing.simulator.fault_store import FaultStore
from worker.testing.simulator.faults import FaultValues
from worker.testing.simulator.signature import SimulatedApp

if TYPE_CHECKING:
    from worker.testing.simulator.decision import Reaction

APP: Final = 1400000001
KEY: Final = "5bd2850fff3ecb11d7c805251c51ee46"
ADMIN: Final = "administrator"
WALL: Final = time.time() + 60
"""Seconds since 1970: signatures are made against the real clock, and one of a second is over by then."""

BAN: Final = "group_open_http_svc/ban_group_member"
UNBAN: Final = "group_open_http_svc/unban_group_member"
LIVE_UNBAN: Final = "live_engine_http_srv/unban_member"
KICK: Final = "room_engine_http_srv/kick_user_out"
UPDATE: Final = "room_engine_http_srv/update_room_member_info"

SAMPLES: Final[dict[str, dict[str, Any]]] = {
    BAN: {"GroupId": "t1", "Members_Account": ["u1", "u2"], "Duration": 3600, "Description": "spam"},
    UNBAN: {"GroupId": "t1", "Members_Account": ["u1", "u2"]},
    LIVE_UNBAN: {"RoomId": "t1", "MemberList_Account": ["u1", "u2"]},
    KICK: {"RoomId": "t1", "MemberList_Account": ["u1", "u2"], "Reason": "spam"},
    UPDATE: {"RoomId": "t1", "MemberInfo": {"Member_Account": "u1", "NameCard": "jack", "Role": "Admin"}},
}
"""One good body for each endpoint, like the ones on its page."""


def signed(
    *, key: str = KEY, app: int = APP, identifier: str = ADMIN, expire: int = 10 * 365 * 86_400
) -> str:
    """Return a UserSig made by Tencent's own library."""
    usersig: str = TLSSigAPIv2(app, key).gen_sig(identifier, expire)
    return usersig


def a_query(**changes: str | None) -> dict[str, str]:
    """Return the parameters of a valid URL, with changes; None leaves one out."""
    good: dict[str, str | None] = {
        "sdkappid": str(APP),
        "identifier": ADMIN,
        "usersig": signed(),
        "random": "4294967295",
        "contenttype": "json",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def a_request(endpoint: str = BAN, body: dict[str, Any] | None = None, **changes: Any) -> ApiRequest:
    """Return a valid request, with changes to its body."""
    fields = {**(SAMPLES[endpoint] if body is None else body), **changes}
    return ApiRequest("POST", endpoint, a_query(), msgspec.json.encode(fields))


@dataclass
class Bench:
    """A Decider with everything that it needs, and a clock that moves only when it is set."""

    faults: FaultValues = field(default_factory=FaultValues)
    seed: int = 0
    now: float = 100.0

    def __post_init__(self) -> None:
        self.world = ChatState()
        self.store = FaultStore(self.faults)
        self.authenticator = Authenticator([SimulatedApp(APP, (KEY,), (ADMIN,))])
        self.decider = Decider(
            self.authenticator, self.store, self.world,
            seed=self.seed, rng=random.Random(self.seed), request_id=lambda seq: f"id-{seq}",
        )  # fmt: skip

    def decide(self, request: ApiRequest | None = None, **changes: Any) -> Reaction:
        """Decide the request now."""
        request = request or a_request()
        if "query" in changes:
            request = replace(request, query=changes["query"])
        return self.decider.decide(request, self.now, WALL)

    def carry_out(self, request: ApiRequest | None = None) -> Reaction:
        """Decide the request now and apply its effect at once."""
        reaction = self.decide(request)
        if reaction.effect:
            self.world.apply(reaction.effect, self.now)
        return reaction
