# Decides what becomes of a request: its answer, how and when it is sent, and what it changes.
#
# Pure except for its counters: the time, the randomness and the ids are arguments. It opens no socket and does not change
# groups or rooms; the executor does what a Reaction says, when it says.

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.testing.simulator.api_answer import ApiAnswer, refused
from worker.testing.simulator.body_validation import ParsedBody, group_list_limit, read
from worker.testing.simulator.chat_state import StateChange
from worker.testing.simulator.endpoint_specs import (
    GROUP,
    GROUP_LIST,
    GROUP_LIST_PER_SECOND,
    SERVICES,
    SPECS,
)
from worker.testing.simulator.faults import is_chosen
from worker.testing.simulator.rolling_quota import EndpointRequests

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from worker.testing.simulator.auth import ApiRequest, Authenticator
    from worker.testing.simulator.chat_state import ChatState
    from worker.testing.simulator.endpoint_specs import EndpointSpec
    from worker.testing.simulator.fault_store import FaultStore
    from worker.testing.simulator.faults import FaultValues

GROUP_SERVICE: Final = "group_open_http_svc"
"""The only service whose bans can be switched off in the console."""

BAD_GATEWAY: Final = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body><center><h1>502 Bad Gateway</h1></center></body>\r\n</html>\r\n"
)


class ExchangeEnd(StrEnum):
    """How an exchange ends for the client."""

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
        app: The SDKAppID; 0 if unknown.
        endpoint: ``<service>/<command>``, as in the URL.
        parsed: Its body.
        exchange_end: How the exchange ends.
        http_status: Of the answer; None without one.
        code: The ErrorCode of the answer; None if it has none or is cut.
        request_id: Of the answer; None if it has none or is cut.
        payload: The answer's body.
        fault: The name of the fault that caused it, if any.
        answer_after: Seconds from reading to the end of the exchange.
        effect: What it changes, if anything.
        apply_after: Seconds from reading to the effect.
        applies_after_close: Whether ``apply_after`` counts from the end of the connection instead.

    """

    seq: int
    at: float
    wall: float
    app: int
    endpoint: str
    parsed: ParsedBody
    exchange_end: ExchangeEnd
    http_status: int | None
    code: int | None
    request_id: str | None
    payload: bytes
    fault: str | None
    answer_after: float
    effect: StateChange | None = None
    apply_after: float = 0.0
    applies_after_close: bool = False

    @property
    def applies_first(self) -> bool:
        """Whether the effect comes no later than the end of the exchange."""
        return not self.applies_after_close and self.apply_after <= self.answer_after

    @property
    def known(self) -> bool:
        """Whether the endpoint is one that is served."""
        return self.endpoint in SPECS or self.endpoint == GROUP_LIST


@dataclass(frozen=True, slots=True)
class _Ending:
    """How an exchange ends, and the fault that causes it. ``apply_after`` is None if the effect has its usual moment."""

    exchange_end: ExchangeEnd = ExchangeEnd.ANSWER
    http_status: int | None = 200
    fault: str | None = None
    apply_after: float | None = None
    after_close: bool = False


_BEFORE: Final = (
    _Ending(ExchangeEnd.CLOSE, None, "drop_before"),
    _Ending(ExchangeEnd.ANSWER, 502, "bad_gateway"),
    _Ending(ExchangeEnd.HANG, None, "hang"),
)
"""Drawn before a request is examined, each with its fault's probability."""
_AFTER: Final = (
    _Ending(ExchangeEnd.CLOSE, None, "drop_after"),
    _Ending(ExchangeEnd.ANSWER, 502, "bad_gateway_after"),
    _Ending(ExchangeEnd.CUT, 200, "cut_body"),
)
"""Drawn after a request was carried out, likewise."""
_OUTAGES: Final = {
    "502": _Ending(ExchangeEnd.ANSWER, 502, "outage"),
    "refuse": _Ending(ExchangeEnd.RESET, None, "outage"),
    "hang": _Ending(ExchangeEnd.HANG, None, "outage"),
}


class Decider:
    """
    Decides requests one by one.

    Attributes:
        counters: The quota's counter of each (app, endpoint).

    """

    def __init__(
        self,
        authenticator: Authenticator,
        store: FaultStore,
        world: ChatState,
        *,
        seed: int,
        rng: random.Random,
        request_id: Callable[[int], str],
    ) -> None:
        self.counters: defaultdict[tuple[int, str], EndpointRequests] = defaultdict(EndpointRequests)
        self._authenticator = authenticator
        self._store = store
        self._world = world
        self._seed = seed
        self._rng = rng
        self._request_id = request_id
        self._seq = 0

    def __repr__(self) -> str:
        return f"<Decider {self._seq} requests>"

    def decide(self, request: ApiRequest, at: float, wall: float) -> Reaction:
        """
        Decide a request that was read at ``at`` (monotonic) and ``wall`` (seconds since 1970).

        In order: faults that keep it from arriving, authentication, the quota, the service, faults of its answer.
        """
        self._seq += 1
        spec = SPECS.get(request.endpoint)
        parsed = read(spec, request.body) if spec else ParsedBody()
        app = self._authenticator.app(request)
        faults = self._store.at(spec.endpoint if spec else None, parsed.target, at)
        reads = request.endpoint == GROUP_LIST
        counter = self.counters[app, request.endpoint if spec or reads else "unknown"]
        counter.read.add(at)
        latency = self._latency(faults)

        ending = _OUTAGES.get(faults.outage) or self._draw_ending(faults, _BEFORE)
        answer = None
        if ending is None:
            answer = self._authenticator.check(request, faults, at, wall)
            limit = GROUP_LIST_PER_SECOND if reads else faults.limit
            if answer is None and not counter.admit(at, limit):
                answer = refused(60007)
            if answer is None:
                answer = self._serve(spec, request, parsed, faults, app=app, at=at)
            ending = (
                self._draw_ending(faults, _AFTER)
                or self._slow_ending(faults, answer, latency)
                or _Ending(fault=answer.fault)
            )
        elif ending.exchange_end is ExchangeEnd.RESET:
            latency = 0.0

        effect = self._effect(spec, parsed, answer, app)
        shown = answer if ending.http_status == 200 else None
        is_whole = ending.exchange_end is not ExchangeEnd.CUT
        request_id = self._request_id(self._seq) if shown and spec and spec.has_request_id else None
        return Reaction(
            seq=self._seq,
            at=at,
            wall=wall,
            app=app,
            endpoint=request.endpoint,
            parsed=parsed,
            exchange_end=ending.exchange_end,
            http_status=ending.http_status,
            code=shown.code if shown and is_whole else None,
            request_id=request_id if is_whole else None,
            payload=_payload(shown, request_id) if shown else BAD_GATEWAY,
            fault=ending.fault,
            answer_after=latency,
            effect=effect,
            apply_after=self._apply_after(faults, latency)
            if ending.apply_after is None
            else ending.apply_after,
            applies_after_close=ending.after_close,
        )

    def _effect(
        self, spec: EndpointSpec | None, parsed: ParsedBody, answer: ApiAnswer | None, app: int
    ) -> StateChange | None:
        if spec is None or answer is None or not answer.applied or parsed.target is None:
            return None
        return StateChange(self._seq, app, spec.change, parsed.target, answer.applied, parsed.parameters)

    def _latency(self, faults: FaultValues) -> float:
        if not faults.latency:
            return 0.0
        return faults.latency * (1 + faults.latency_jitter * self._rng.uniform(-1.0, 1.0))

    def _apply_after(self, faults: FaultValues, latency: float) -> float:
        if faults.apply_point == "read" or not latency:
            return 0.0
        return latency if faults.apply_point == "answer" else self._rng.uniform(0.0, latency)

    def _happens(self, share: float) -> bool:
        # Draw nothing for a fault that is off, so that enabling one does not shift the random numbers of the others.
        return share > 0 and self._rng.random() < share

    def _draw_ending(self, faults: FaultValues, endings: tuple[_Ending, ...]) -> _Ending | None:
        return next((ending for ending in endings if self._happens(getattr(faults, str(ending.fault)))), None)

    def _slow_ending(self, faults: FaultValues, answer: ApiAnswer, latency: float) -> _Ending | None:
        if not answer.applied or not self._happens(faults.slow_apply):
            return None
        late = self._rng.uniform(0.0, faults.slow_apply_seconds)
        if faults.slow_apply_end == "hang":
            return _Ending(ExchangeEnd.HANG, None, "slow_apply", late, after_close=True)
        return _Ending(ExchangeEnd.RESET, None, "slow_apply", latency + late)

    def _serve(
        self,
        spec: EndpointSpec | None,
        request: ApiRequest,
        parsed: ParsedBody,
        faults: FaultValues,
        *,
        app: int,
        at: float,
    ) -> ApiAnswer:
        if spec is None and request.endpoint == GROUP_LIST:
            return self._group_list(request.body, faults, app)
        if spec is None:
            service = SERVICES.get(request.endpoint.partition("/")[0])
            return refused(service.unknown_command if service else 60009)
        if faults.answer_code:
            return refused(faults.answer_code, "answer_code")
        if self._happens(faults.transient):
            return refused(self._rng.choice(faults.transient_codes or (spec.codes.internal,)), "transient")
        if parsed.refusal:
            return ApiAnswer(parsed.refusal.code, parsed.refusal.info)
        if faults.forbidden:
            return refused(spec.codes.forbidden, "forbidden")
        if faults.switch_off and spec.service == GROUP_SERVICE:
            return refused(spec.codes.forbidden, "switch_off")
        if parsed.target in faults.unknown_targets:
            return refused(spec.codes.no_target, "unknown_targets")
        return self._members(spec, parsed, faults, app=app, at=at)

    def _group_list(self, body: bytes, faults: FaultValues, app: int) -> ApiAnswer:
        if faults.answer_code:
            return refused(faults.answer_code, "answer_code")
        if self._happens(faults.transient):
            return refused(self._rng.choice(faults.transient_codes or (GROUP.internal,)), "transient")
        limit = group_list_limit(body)
        if limit is None:
            return refused(GROUP.bad_field)
        groups = self._world.groups(app)
        listed = [{"GroupId": group} for group in groups[:limit]]
        return ApiAnswer(0, more={"TotalCount": len(groups), "GroupIdList": listed, "Next": 0})

    def _members(
        self, spec: EndpointSpec, parsed: ParsedBody, faults: FaultValues, *, app: int, at: float
    ) -> ApiAnswer:
        # The first bad member, in the order of the request, decides the code.
        bad = {
            user: why
            for user in parsed.users
            if (why := self._at_fault(spec, parsed, faults, user, app=app, at=at))
        }
        if not bad:
            return ApiAnswer(0, applied=parsed.users)
        code, fault = next(iter(bad.values()))
        applied = self._applied_anyway(faults, tuple(user for user in parsed.users if user not in bad))
        return ApiAnswer(code, refused(code).info, applied, fault)

    def _at_fault(
        self, spec: EndpointSpec, parsed: ParsedBody, faults: FaultValues, user: str, *, app: int, at: float
    ) -> tuple[int, str | None] | None:
        if user in faults.bad_user_list or is_chosen(user, faults.bad_users, self._seed, "bad_users"):
            return faults.bad_user_code or spec.codes.no_account, "bad_users"
        if spec.codes.not_member is None:
            return None
        if user in faults.missing_user_list or is_chosen(
            user, faults.missing_users, self._seed, "missing_users"
        ):
            return spec.codes.not_member, "missing_users"
        is_in = self._world.is_in_room(app, parsed.target or "", user, at, faults.rejoin_after)
        return None if is_in else (spec.codes.not_member, None)

    def _applied_anyway(self, faults: FaultValues, good: tuple[str, ...]) -> tuple[str, ...]:
        if faults.refused_applies == "part":
            return tuple(user for user in good if self._happens(0.5))
        return good if faults.refused_applies == "all" else ()


def _payload(answer: ApiAnswer, request_id: str | None) -> bytes:
    body: dict[str, Any] = {
        "ActionStatus": "FAIL" if answer.code else "OK",
        "ErrorInfo": answer.info,
        "ErrorCode": answer.code,
    }
    body |= answer.more
    if request_id is not None:
        body["RequestId"] = request_id
    return msgspec.json.encode(body)
