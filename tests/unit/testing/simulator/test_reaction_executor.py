# The executor does what a Reaction says at its time, and logs it as it happened. Time is that of a fake loop.

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from tests.unit.testing.simulator.calls import APP, BAN, KICK, Bench, a_request
from worker.testing.simulator.decision import ExchangeEnd
from worker.testing.simulator.faults import FaultValues
from worker.testing.simulator.reaction_executor import ReactionExecutor
from worker.testing.simulator.request_log import AppliedLaterLine, RequestLine, RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Timer:
    """One timer of a FakeLoop, which can be cancelled."""

    then: Callable[..., None]
    arguments: tuple[Any, ...]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeLoop:
    """A loop's timers and clock, moved by hand."""

    now: float = 100.0
    timers: list[tuple[float, int, Timer]] = field(default_factory=list)
    numbers: count[int] = field(default_factory=count)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, then: Callable[..., None], *arguments: Any) -> Timer:
        timer = Timer(then, arguments)
        heapq.heappush(self.timers, (self.now + delay, next(self.numbers), timer))
        return timer

    def run_to(self, moment: float) -> None:
        while self.timers and self.timers[0][0] <= moment:
            self.now, _, timer = heapq.heappop(self.timers)
            if not timer.cancelled:
                timer.then(*timer.arguments)
        self.now = moment


@dataclass
class FakeSlot:
    """Where an answer goes, unless the client has disconnected."""

    loop: FakeLoop
    ends: list[tuple[float, ExchangeEnd, int | None, bytes]] = field(default_factory=list)
    is_closed: bool = False
    then: Callable[[], None] | None = None

    def end(self, exchange_end: ExchangeEnd, status: int | None, payload: bytes) -> bool:
        if not self.is_closed:
            self.ends.append((self.loop.now, exchange_end, status, payload))
        return not self.is_closed

    def when_closed(self, then: Callable[[], None]) -> None:
        self.then = then

    def go(self) -> None:
        self.is_closed = True
        if self.then:
            self.then()


class Shop:
    """An Executor with its Decider, its log and a client's slot."""

    def __init__(self, **faults: Any) -> None:
        self.bench = Bench(FaultValues(**faults))
        self.loop = FakeLoop()
        self.request_log = RequestLog(1000, to_file=True)
        self.executor = ReactionExecutor(
            self.bench.decider,
            self.bench.world,
            self.request_log,
            cast("Any", self.loop),
            clock=self.loop.time,
            epoch=1000.0,
        )

    def take(self, endpoint: str = BAN, **changes: Any) -> FakeSlot:
        slot = FakeSlot(self.loop)
        self.executor.take(a_request(endpoint, **changes), self.loop.now, slot)
        return slot

    @property
    def requests(self) -> list[RequestLine]:
        return [line for line in self.request_log.lines if isinstance(line, RequestLine)]

    @property
    def late(self) -> list[AppliedLaterLine]:
        return [line for line in self.request_log.lines if isinstance(line, AppliedLaterLine)]

    def banned(self) -> list[str]:
        group = self.bench.world.shown(APP, "t1", self.loop.now, 0.0)["group"]
        return list(group["bans"]) if group else []


def test_without_latency_a_request_is_applied_answered_and_logged_at_once() -> None:
    shop = Shop()

    slot = shop.take()

    assert [(at, exchange_end, status) for at, exchange_end, status, _ in slot.ends] == [
        (100.0, ExchangeEnd.ANSWER, 200)
    ]
    assert shop.banned() == ["u1", "u2"]
    (line,) = shop.requests
    assert (line.seq, line.at, line.wall, line.sdkappid, line.endpoint) == (1, 100.0, 1100.0, APP, BAN)
    assert (line.target, line.users, line.parameters) == (
        "t1",
        ("u1", "u2"),
        {"Duration": 3600, "Description": "spam"},
    )
    assert (line.http_status, line.error_code, line.request_id, line.fault) == (200, 0, None, None)
    assert (line.applied, line.applied_at, line.applies_later, line.answered_at) == (
        ("u1", "u2"),
        100.0,
        False,
        100.0,
    )


def test_latency_delays_the_answer_and_its_line_but_not_the_timestamp() -> None:
    shop = Shop(latency=0.03)
    slot = shop.take()

    shop.loop.run_to(100.02)
    assert (slot.ends, shop.requests, shop.banned()) == ([], [], ["u1", "u2"])
    shop.loop.run_to(100.04)

    (line,) = shop.requests
    assert (line.at, line.applied_at, line.answered_at) == (100.0, 100.0, 100.03)


def test_an_effect_that_comes_with_the_answer_precedes_it() -> None:
    shop = Shop(latency=0.03, apply_point="answer")
    shop.take()

    shop.loop.run_to(100.02)
    assert shop.banned() == []
    shop.loop.run_to(100.03)

    (line,) = shop.requests
    assert (line.applied, line.applied_at, shop.late) == (("u1", "u2"), 100.03, [])


def test_after_a_disconnect_there_is_no_answer_but_the_request_is_applied() -> None:
    shop = Shop(latency=0.03, apply_point="answer")
    slot = shop.take(KICK)

    slot.go()
    shop.loop.run_to(101.0)

    (line,) = shop.requests
    assert (line.http_status, line.error_code, line.request_id, line.applied) == (
        None,
        None,
        None,
        ("u1", "u2"),
    )
    assert shop.executor.endpoints[KICK] == {"no answer": 1}


def test_a_request_that_hangs_is_logged_when_it_is_read() -> None:
    shop = Shop(hang=1.0)

    slot = shop.take()

    (line,) = shop.requests
    assert (line.http_status, line.answered_at, line.applied, line.applies_later, line.fault) == (
        None,
        None,
        (),
        False,
        "hang",
    )
    assert slot.ends == []


def test_a_late_effect_has_a_line_of_its_own() -> None:
    shop = Shop(latency=0.1, slow_apply=1.0)
    slot = shop.take()

    shop.loop.run_to(100.1)
    (line,) = shop.requests
    assert (line.http_status, line.applied, line.applied_at, line.applies_later) == (None, (), None, True)
    assert slot.ends[0][1] is ExchangeEnd.RESET
    assert shop.banned() == []
    shop.loop.run_to(103.0)

    (late,) = shop.late
    assert (late.seq, late.endpoint, late.target, late.applied) == (line.seq, BAN, "t1", ("u1", "u2"))
    assert 100.1 <= late.applied_at <= 103.0
    assert shop.banned() == ["u1", "u2"]


def test_an_effect_after_the_clients_disconnect_comes_within_its_time() -> None:
    shop = Shop(slow_apply=1.0, slow_apply_end="hang")
    slot = shop.take()

    shop.loop.run_to(110.0)
    assert (shop.banned(), shop.requests[0].applies_later) == ([], True)
    slot.go()
    shop.loop.run_to(112.9)

    assert shop.banned() == ["u1", "u2"]
    assert 110.0 <= shop.late[0].applied_at <= 112.9


def test_a_stop_logs_what_is_in_flight_and_applies_nothing_more() -> None:
    shop = Shop(latency=1.0, apply_point="answer")
    shop.take()
    shop.bench.store.put({"slow_apply": 1.0, "slow_apply_end": "hang"}, 0.0)
    waiting = shop.take()

    shop.executor.stop()
    waiting.go()
    shop.loop.run_to(200.0)

    assert [
        (line.seq, line.http_status, line.answered_at)
        for line in sorted(shop.requests, key=lambda line: line.seq)
    ] == [
        (1, None, None),
        (2, None, None),
    ]
    assert (shop.banned(), shop.late) == ([], [])


def test_every_request_is_counted_by_endpoint_and_what_it_was_answered() -> None:
    shop = Shop(limit=2)
    shop.take()
    shop.bench.store.put({"outage": "502", "target": "t2"}, 0.0)
    shop.take(GroupId="t2")
    shop.take(Duration=-1)
    shop.take()

    assert shop.executor.endpoints == {BAN: {"0": 1, "http 502": 1, "10004": 1, "60007": 1}}
    assert shop.executor.members == {BAN: 2}


def test_the_log_is_one_json_line_per_request_and_written_once() -> None:
    shop = Shop()
    shop.take()
    shop.take()

    text = shop.request_log.take()

    assert text.count(b"\n") == 2
    assert text.startswith(b'{"kind":"request","seq":1,')
    assert shop.request_log.take() == b""
