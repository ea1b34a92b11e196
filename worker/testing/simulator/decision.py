# One request -> what becomes of it: its answer, how and when it is given, and what it changes. All decisions meet here.
#
# Pure but for the counters that it keeps: the time, the randomness and the ids are arguments. It opens no socket and
# changes no state of groups and rooms; the desk does what a Reaction says, when it says.

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.testing.simulator.answer_codes import Judgement, refused
from worker.testing.simulator.body import BodyReader, read
from worker.testing.simulator.endpoint_specs import PAGES, SERVICES
from worker.testing.simulator.faults import is_chosen
from worker.testing.simulator.quota import Counter
from worker.testing.simulator.state import StateChange

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from worker.testing.simulator.auth import ApiRequest, Authenticator
    from worker.testing.simulator.endpoint_specs import EndpointSpec
    from worker.testing.simulator.fault_store import FaultStore
    from worker.testing.simulator.faults import Faults
    from worker.testing.simulator.state import World

GROUP_SERVICE: Final = "group_open_http_svc"
"""The only service whose banning has a switch in the console."""

BAD_GATEWAY: Final = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body><center><h1>502 Bad Gateway</h1></center></body>\r\n</html>\r\n"
)


class ExchangeEnd(StrEnum):
    """How an exchange ends for the caller."""

    ANSWER = "answer"
    CUT = "cut"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Reaction:
    """
    What becomes of one request.

    Attributes:
        seq: Its number, from 1, in the order of reading.
        at: When it was read, on the monotonic clock.
        wall: The same in seconds since 1970.
        app: The SDKAppID, as far as it is known; 0: unknown.
        endpoint: ``<service>/<command>``, as in the URL.
        reading: What its body says.
        way: How the exchange ends.
        http_status: Of the answer; None when there is none.
        code: The ErrorCode of the answer; None when it has none, or was cut.
        request_id: Of the answer; None where there is none, or it was cut.
        payload: The answer's body.
        fault: The fault that had a part in it, by name.
        answer_after: Seconds from reading to the end of the exchange.
        effect: What it changes; None when nothing.
        apply_after: Seconds from reading to the effect.
        apply_once_gone: The time to the effect runs from when the caller has gone.

    """

    seq: int
    at: float
    wall: float
    app: int
    endpoint: str
    reading: BodyReader
    way: ExchangeEnd
    http_status: int | None
    code: int | None
    request_id: str | None
    payload: bytes
    fault: str | None
    answer_after: float
    effect: StateChange | None = None
    apply_after: float = 0.0
    apply_once_gone: bool = False

    @property
    def applies_first(self) -> bool:
        """Whether the effect comes no later than the end of the exchange."""
        return not self.apply_once_gone and self.apply_after <= self.answer_after

    @property
    def known(self) -> bool:
        """Whether the endpoint is one of the five."""
        return self.endpoint in PAGES


@dataclass(frozen=True, slots=True)
class _Ending:
    """How an exchange ends, and which fault wants it so. ``apply_after`` is None when the effect has its usual moment."""

    way: ExchangeEnd = ExchangeEnd.ANSWER
    http_status: int | None = 200
    fault: str | None = None
    apply_after: float | None = None
    once_gone: bool = False


_BEFORE: Final = (
    _Ending(ExchangeEnd.CLOSE, None, "drop_before"),
    _Ending(ExchangeEnd.ANSWER, 502, "bad_gateway"),
    _Ending(ExchangeEnd.HANG, None, "hang"),
)
"""Drawn before a request is looked at, by the share that each fault gives."""
_AFTER: Final = (
    _Ending(ExchangeEnd.CLOSE, None, "drop_after"),
    _Ending(ExchangeEnd.ANSWER, 502, "bad_gateway_after"),
    _Ending(ExchangeEnd.CUT, 200, "cut_body"),
)
"""Drawn after a request was carried out."""
_OUTAGES: Final = {
    "502": _Ending(ExchangeEnd.ANSWER, 502, "outage"),
    "refuse": _Ending(ExchangeEnd.RESET, None, "outage"),
    "hang": _Ending(ExchangeEnd.HANG, None, "outage"),
}


class Decider:
    """
    Decides about requests, one after the other.

    Attributes:
        counters: The quota's counters of each (app, endpoint).

    """

    def __init__(
        self,
        door: Authenticator,
        board: FaultStore,
        world: World,
        *,
        seed: int,
        rng: random.Random,
        request_id: Callable[[int], str],
    ) -> None:
        self.counters: defaultdict[tuple[int, str], Counter] = defaultdict(Counter)
        self._door = door
        self._board = board
        self._world = world
        self._seed = seed
        self._rng = rng
        self._request_id = request_id
        self._seq = 0

    def __repr__(self) -> str:
        return f"<Decider {self._seq} requests>"

    def hear(self, request: ApiRequest, at: float, wall: float) -> Reaction:
        """
        Decide about a request that was read at ``at`` (monotonic) and ``wall`` (seconds since 1970).

        The order: what keeps it from arriving at all, the door, the quota, the service, what happens to its answer.
        """
        self._seq += 1
        page = PAGES.get(request.endpoint)
        reading = read(page, request.body) if page else BodyReader()
        app = self._door.app(request)
        faults = self._board.at(page.endpoint if page else None, reading.target, at)
        counter = self.counters[app, page.endpoint if page else "unknown"]
        counter.read.add(at)
        latency = self._latency(faults)

        ending = _OUTAGES.get(faults.outage) or self._drawn(faults, _BEFORE)
        verdict = None
        if ending is None:
            verdict = self._door.stop(request, faults, at, wall)
            if verdict is None and not counter.admit(at, faults.limit):
                verdict = refused(60007)
            if verdict is None:
                verdict = self._served(page, request, reading, faults, app=app, at=at)
            ending = (
                self._drawn(faults, _AFTER)
                or self._slow(faults, verdict, latency)
                or _Ending(fault=verdict.fault)
            )
        elif ending.way is ExchangeEnd.RESET:
            latency = 0.0

        effect = self._effect(page, reading, verdict, app)
        answers = verdict if ending.http_status == 200 else None
        is_whole = ending.way is not ExchangeEnd.CUT
        request_id = self._request_id(self._seq) if answers and page and page.has_request_id else None
        return Reaction(
            seq=self._seq,
            at=at,
            wall=wall,
            app=app,
            endpoint=request.endpoint,
            reading=reading,
            way=ending.way,
            http_status=ending.http_status,
            code=answers.code if answers and is_whole else None,
            request_id=request_id if is_whole else None,
            payload=_payload(answers, request_id) if answers else BAD_GATEWAY,
            fault=ending.fault,
            answer_after=latency,
            effect=effect,
            apply_after=self._moment(faults, latency) if ending.apply_after is None else ending.apply_after,
            apply_once_gone=ending.once_gone,
        )

    def _effect(
        self, page: EndpointSpec | None, reading: BodyReader, verdict: Judgement | None, app: int
    ) -> StateChange | None:
        if page is None or verdict is None or not verdict.applied or reading.target is None:
            return None
        return StateChange(self._seq, app, page.change, reading.target, verdict.applied, reading.parameters)

    def _latency(self, faults: Faults) -> float:
        if not faults.latency:
            return 0.0
        return faults.latency * (1 + faults.latency_jitter * self._rng.uniform(-1.0, 1.0))

    def _moment(self, faults: Faults, latency: float) -> float:
        if faults.apply_point == "read" or not latency:
            return 0.0
        return latency if faults.apply_point == "answer" else self._rng.uniform(0.0, latency)

    def _happens(self, share: float) -> bool:
        # Draws nothing for a fault that is off, so that switching one on does not move the others.
        return share > 0 and self._rng.random() < share

    def _drawn(self, faults: Faults, endings: tuple[_Ending, ...]) -> _Ending | None:
        return next((ending for ending in endings if self._happens(getattr(faults, str(ending.fault)))), None)

    def _slow(self, faults: Faults, verdict: Judgement, latency: float) -> _Ending | None:
        if not verdict.applied or not self._happens(faults.slow_apply):
            return None
        late = self._rng.uniform(0.0, faults.slow_apply_seconds)
        if faults.slow_apply_end == "hang":
            return _Ending(ExchangeEnd.HANG, None, "slow_apply", late, once_gone=True)
        return _Ending(ExchangeEnd.RESET, None, "slow_apply", latency + late)

    def _served(
        self,
        page: EndpointSpec | None,
        request: ApiRequest,
        reading: BodyReader,
        faults: Faults,
        *,
        app: int,
        at: float,
    ) -> Judgement:
        if page is None:
            service = SERVICES.get(request.endpoint.partition("/")[0])
            return refused(service.unknown_command if service else 60009)
        if faults.answer_code:
            return refused(faults.answer_code, "answer_code")
        if self._happens(faults.transient):
            return refused(self._rng.choice(faults.transient_codes or (page.codes.internal,)), "transient")
        if reading.refusal:
            return Judgement(reading.refusal.code, reading.refusal.info)
        if faults.forbidden:
            return refused(page.codes.forbidden, "forbidden")
        if faults.switch_off and page.service == GROUP_SERVICE:
            return refused(page.codes.forbidden, "switch_off")
        if reading.target in faults.unknown_targets:
            return refused(page.codes.no_target, "unknown_targets")
        return self._members(page, reading, faults, app=app, at=at)

    def _members(
        self, page: EndpointSpec, reading: BodyReader, faults: Faults, *, app: int, at: float
    ) -> Judgement:
        # The first bad member, in the order of the request, gives the code.
        bad = {
            user: why
            for user in reading.users
            if (why := self._at_fault(page, reading, faults, user, app=app, at=at))
        }
        if not bad:
            return Judgement(0, applied=reading.users)
        code, fault = next(iter(bad.values()))
        applied = self._applied_anyway(faults, tuple(user for user in reading.users if user not in bad))
        return Judgement(code, refused(code).info, applied, fault)

    def _at_fault(
        self, page: EndpointSpec, reading: BodyReader, faults: Faults, user: str, *, app: int, at: float
    ) -> tuple[int, str | None] | None:
        if user in faults.bad_user_list or is_chosen(user, faults.bad_users, self._seed, "bad_users"):
            return faults.bad_user_code or page.codes.no_account, "bad_users"
        if page.codes.not_member is None:
            return None
        if user in faults.missing_user_list or is_chosen(
            user, faults.missing_users, self._seed, "missing_users"
        ):
            return page.codes.not_member, "missing_users"
        is_in = self._world.is_in_room(app, reading.target or "", user, at, faults.rejoin_after)
        return None if is_in else (page.codes.not_member, None)

    def _applied_anyway(self, faults: Faults, good: tuple[str, ...]) -> tuple[str, ...]:
        if faults.refused_applies == "part":
            return tuple(user for user in good if self._happens(0.5))
        return good if faults.refused_applies == "all" else ()


def _payload(verdict: Judgement, request_id: str | None) -> bytes:
    answer: dict[str, Any] = {
        "ActionStatus": "FAIL" if verdict.code else "OK",
        "ErrorInfo": verdict.info,
        "ErrorCode": verdict.code,
    }
    if request_id is not None:
        answer["RequestId"] = request_id
    return msgspec.json.encode(answer)
