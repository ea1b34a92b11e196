# A model of Tencent: what it stores, what it refuses, and all that networks do. It keeps a diary, from which the oracles judge.
#
# It sees requests only, as the real one does. It imports nothing of the engine's rules.

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.domain.contract.error_codes import judge
from worker.domain.effects import AttemptResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.loop import Event, VirtualClock
    from worker.domain.effects import Attempt

BAN: Final = "group_open_http_svc/ban_group_member"
UNBAN: Final = "group_open_http_svc/unban_group_member"
LIVE_UNBAN: Final = "live_engine_http_srv/unban_member"
KICK: Final = "room_engine_http_srv/kick_user_out"
UPDATE: Final = "room_engine_http_srv/update_room_member_info"

BUDGET: Final = 2.9
"""For so long after its end was unknown to the caller a request may still be applied: less than Tencent's 3 seconds."""
CAP: Final = 20
TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Window:
    """From ``begin`` to ``end`` something is wrong with an endpoint, a target, or (None) with all of them."""

    begin: float
    end: float
    endpoint: str | None = None
    target: str | None = None
    code: int | None = None
    status: int = 200
    retry_after: float | None = None

    def covers(self, now: float, endpoint: str, target: str) -> bool:
        """Whether a request is affected."""
        return (
            self.begin <= now < self.end
            and self.endpoint in (None, endpoint)
            and self.target in (None, target)
        )


@dataclass(slots=True)
class Weather:
    """
    What is wrong in one history, and when.

    Attributes:
        transient: The share of requests that get a retry code.
        lost: The share of requests whose answer is lost; they are applied at some time, or never.
        bad_users: They are refused, alone and in company.
        absent: (room, user) that is not in the room: a kick is refused with 100005.
        own_fault: Targets that are refused with 10007, whatever happens.
        no_such: Targets that do not exist.
        doubtful: Targets that are refused with a code that may mean a member.
        refusing, gateway, hanging: Connection refused; 502; no answer.
        fatal, forbidden: An app or an endpoint is misconfigured.
        strange: Whatever else an answer may say, by its window's status and code.
        limits: The true quota, where it is lower than the documented one.
        partial: How much of a refused batch is applied all the same: "none", "some", "good".

    """

    transient: float = 0.0
    lost: float = 0.0
    bad_users: frozenset[str] = frozenset()
    absent: frozenset[tuple[str, str]] = frozenset()
    own_fault: frozenset[str] = frozenset()
    no_such: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    refusing: list[Window] = field(default_factory=list)
    gateway: list[Window] = field(default_factory=list)
    hanging: list[Window] = field(default_factory=list)
    fatal: list[Window] = field(default_factory=list)
    forbidden: list[Window] = field(default_factory=list)
    strange: list[Window] = field(default_factory=list)
    limits: list[tuple[Window, int]] = field(default_factory=list)
    partial: str = "none"
    slow: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it was sent."""

    number: int
    source: str
    sent_at: float
    sent_wall: float
    endpoint: str
    target: str
    users: tuple[str, ...]
    parameters: tuple[tuple[str, Any], ...]
    call_id: str
    probe: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """An effect on one user, at the instant when it took place."""

    at: float
    request: Request
    user: str


class Tencent:
    """
    Attributes:
        quota: The documented calls per second and endpoint.
        reads: When each request was read, by endpoint: what the quota is counted by.
        diary: All effects, in the order in which they took place.
        state: What holds now: (kind, target, user) -> value.

    """

    def __init__(self, clock: VirtualClock, weather: Weather, quota: int) -> None:
        self._clock = clock
        self._accepted: dict[str, deque[float]] = defaultdict(deque)
        self._late: list[tuple[Request, Event, Callable[[], None]]] = []
        self.weather = weather
        self.quota = quota
        self.reads: dict[str, list[float]] = defaultdict(list)
        self.requests: list[Request] = []
        self.diary: list[Applied] = []
        self.state: dict[tuple[str, str, str], Any] = {}
        self.throttled = 0

    def send(self, send: Attempt, source: str, done: Callable[[AttemptResult], None]) -> Request:
        """A request leaves a replica. ``done`` hears how it ended."""
        request = self._request(send, source)
        self.requests.append(request)
        now, weather = self._clock.now, self.weather
        delay = self._clock.jitter(0.003, 0.02)

        def covered(windows: list[Window]) -> bool:
            return any(each.covers(now, request.endpoint, request.target) for each in windows)

        if covered(weather.refusing):
            self._end(request, delay, done, error="connect")
        elif covered(weather.gateway):
            self._end(request, delay, done, status=502, error="http", end_unknown=True)
        elif covered(weather.hanging):
            self._clock.after(delay, lambda: self.reads[request.endpoint].append(self._clock.now))
            self._end(request, TIMEOUT, done, error="timeout", end_unknown=True)
            self._apply_late(request, TIMEOUT)
        elif self._clock.chance.random() < weather.lost:
            self._clock.after(delay, lambda: self.reads[request.endpoint].append(self._clock.now))
            lasts = delay + self._clock.jitter(0.003, 0.1)
            self._end(request, lasts, done, error="reset", end_unknown=True)
            self._apply_late(request, lasts)
        else:
            self._clock.after(delay, lambda: self._read(request, done))
        return request

    def gone(self, source: str, targets: frozenset[str] | None) -> None:
        """A process died, or lost the partitions of these targets: what it had sent takes effect within the budget from now."""
        latest = self._clock.now + BUDGET
        for request, event, act in list(self._late):
            if event.cancelled or event.at <= self._clock.now:
                self._late.remove((request, event, act))
            elif (
                request.source == source
                and (targets is None or request.target in targets)
                and event.at > latest
            ):
                event.cancel()
                self._late.remove((request, event, act))
                self._clock.at(self._clock.chance.uniform(self._clock.now, latest), act)

    def _request(self, send: Attempt, source: str) -> Request:
        body = msgspec.json.decode(send.body)
        target = body.pop("GroupId", None) or body.pop("RoomId")
        if send.endpoint == UPDATE:
            info = body.pop("MemberInfo")
            users = (info.pop("Member_Account"),)
            body = info
        else:
            users = tuple(body.pop("Members_Account", None) or body.pop("MemberList_Account"))
        assert 1 <= len(users) <= CAP, users
        assert len(set(users)) == len(users), users
        assert send.members == len(users)
        return Request(
            len(self.requests), source, self._clock.now, self._clock.wall, send.endpoint, target, users,
            tuple(sorted(body.items())), send.call_id, send.probe,
        )  # fmt: skip

    def _read(self, request: Request, done: Callable[[AttemptResult], None]) -> None:
        now, chance, weather = self._clock.now, self._clock.chance, self.weather
        self.reads[request.endpoint].append(now)
        lasts = self._clock.jitter(0.005, 0.04) + weather.slow
        for window in weather.strange:
            if window.covers(now, request.endpoint, request.target):
                self._end(
                    request,
                    lasts,
                    done,
                    status=window.status,
                    code=window.code,
                    retry_after=window.retry_after,
                )
                return
        code = self._throttles(request, now) or self._refusal(request, now)
        if code is None and chance.random() < weather.transient:
            code = chance.choice((10002, 60008, 100001))
            if chance.random() < 0.3:
                self._apply_some(request, request.users)
        elif code is None:
            self._clock.after(chance.uniform(0.0, lasts), lambda: self._apply(request, request.users))
        elif code in (10019, 100005):
            self._apply_part(request, code)
        back = self._clock.jitter(0.003, 0.02)
        self._end(request, lasts + back, done, status=200, code=code or 0)

    def _throttles(self, request: Request, now: float) -> int | None:
        limit = self.quota
        for window, true_limit in self.weather.limits:
            if window.covers(now, request.endpoint, request.target):
                limit = min(limit, true_limit)
        accepted = self._accepted[request.endpoint]
        while accepted and accepted[0] <= now - 1.0:
            accepted.popleft()
        if len(accepted) >= limit:
            self.throttled += 1
            return 60007
        accepted.append(now)
        return None

    def _refusal(self, request: Request, now: float) -> int | None:
        weather, target = self.weather, request.target
        for window in weather.fatal:
            if window.covers(now, request.endpoint, target):
                return window.code or 70009
        for window in weather.forbidden:
            if window.covers(now, request.endpoint, target):
                return 10007
        if target in weather.own_fault:
            return 10007
        if target in weather.no_such:
            return 10010
        if target in weather.doubtful:
            return 10004
        if any(user in weather.bad_users for user in request.users):
            return 10019
        if request.endpoint == KICK and any((target, user) in weather.absent for user in request.users):
            return 100005
        return None

    def _apply_part(self, request: Request, code: int) -> None:
        good = [user for user in request.users if user not in self.weather.bad_users]
        if code == 100005:
            good = [user for user in good if (request.target, user) not in self.weather.absent]
        if self.weather.partial == "good":
            self._apply(request, tuple(good))
        elif self.weather.partial == "some":
            self._apply_some(request, tuple(good))

    def _apply_some(self, request: Request, users: tuple[str, ...]) -> None:
        self._apply(request, tuple(user for user in users if self._clock.chance.random() < 0.5))

    def _apply_late(self, request: Request, lasts: float) -> None:
        if self._refusal(request, self._clock.now) is not None or self._clock.chance.random() < 0.3:
            return

        def act() -> None:
            self._apply(request, request.users)

        late = self._clock.now + self._clock.chance.uniform(0.0, lasts + BUDGET)
        self._late.append((request, self._clock.at(late, act), act))

    def _apply(self, request: Request, users: tuple[str, ...]) -> None:
        for user in users:
            self.diary.append(Applied(self._clock.now, request, user))
            self._store(request, user)

    def _store(self, request: Request, user: str) -> None:
        parameters = dict(request.parameters)
        if request.endpoint in (BAN, UNBAN):
            self.state["ban", request.target, user] = request
        elif request.endpoint == LIVE_UNBAN:
            self.state["live", request.target, user] = request
        elif request.endpoint == UPDATE:
            self.state.setdefault(("info", request.target, user), {}).update(parameters)

    def _end(
        self,
        request: Request,
        lasts: float,
        done: Callable[[AttemptResult], None],
        *,
        status: int | None = None,
        code: int | None = None,
        error: str | None = None,
        end_unknown: bool = False,
        retry_after: float | None = None,
    ) -> None:
        def end() -> None:
            try_ = AttemptResult(
                sent_at=request.sent_at,
                ended_at=self._clock.now,
                verdict=judge(status, code),
                http_status=status,
                error_code=code,
                error_info=f"code {code}" if code else "",
                request_id=f"r{request.number}" if code == 0 else None,
                error=error,
                end_unknown=end_unknown,
                retry_after=retry_after,
            )
            done(try_)

        self._clock.after(lasts, end)
