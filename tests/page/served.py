# A page with everything on it: the real server and the real page, of a worker whose state the tests make up.
#
# The outcomes are those of a real engine. No test is here.

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, live_unban, users
from worker.domain.contract.control_records import Order, OrderState, Scope
from worker.domain.contract.outcomes import Worker
from worker.domain.effects import HaltReason
from worker.domain.engine_snapshot import (
    EndpointSnapshot,
    EngineSnapshot,
    EventCounts,
    OrderSnapshot,
    PartitionSnapshot,
)
from worker.runtime.metrics import CONTENT_TYPE, LoopSnapshot
from worker.runtime.recent_outcomes import RecentOutcomes
from worker.runtime.status_page import StatusPage
from worker.runtime.status_server import StatusServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.runtime.status_server import ReadinessObstacle

BAN: Final = "group_open_http_svc/ban_group_member"
KICK: Final = "room_engine_http_srv/kick_user_out"
UNBAN: Final = "live_engine_http_srv/unban_member"
HOSTILE: Final = "<img src=x onerror=alert(1)>\u202egnp.\u0000</script><script>alert(2)</script>"
LONG: Final = "长" * 65_536
PAUSE: Final = OrderSnapshot(
    Scope(issuer="detector-7"),
    Order(OrderState.PAUSED, "bans everybody", "anna", "2026-11-21T03:00:00Z"),
    412,
)
SHADOW: Final = Order(
    OrderState.SHADOW, f"trying {HOSTILE}", "guard", "2026-11-21T03:00:00Z", "2026-11-22T00:00:00Z"
)
NOW: Final = 1_000.0


class Scene:
    """
    A worker in the middle of its work, as its page sees it.

    Attributes:
        obstacles: Why it is not ready.
        page: Its page.

    """

    def __init__(self) -> None:
        self._now = NOW
        self.recent = RecentOutcomes()
        self.obstacles: list[ReadinessObstacle] = []
        self.page = StatusPage(
            Worker("moderation-worker-0", "0.1.0"),
            self.recent,
            obstacles=lambda: self.obstacles,
            clock=lambda: self._now,
            wall=lambda: 1_900_000_000.0 + self._now,
        )

    def pass_time(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self._now += seconds

    def work(self, *commands: dict[str, Any], refuse: frozenset[str] = frozenset(), **changes: Any) -> None:
        """Carry the commands out; these users do not exist. ``changes`` are made to each outcome."""
        harness = EngineHarness()
        harness.receive(*commands)
        while harness.out:
            request = harness.out[0]
            if refuse.intersection(request.users):
                harness.code(request, 10019, "the account does not exist", request_id="Id-bad-1")
            else:
                harness.ok(request, request_id=f"Id-{request.call_id}")
        transaction = harness.take()
        replace = msgspec.structs.replace
        outcomes = [replace(each, outcome=replace(each.outcome, **changes)) for each in transaction.outcomes]
        self.recent.published(replace(transaction, outcomes=outcomes), self._now)

    def observe(self, *endpoints: EndpointSnapshot, halts: tuple[HaltReason, ...] = (), **more: Any) -> None:
        """Look at the worker, as happens once a second."""
        partitions = tuple(PartitionSnapshot(number, 120 * number, 340 * number, 0, 9) for number in range(4))
        snapshot = EngineSnapshot(endpoints, partitions, halts, 0, 17, {}, EventCounts(), **more)
        self.page.observe(snapshot, LoopSnapshot(0.0, not self.obstacles, {0: 0, 1: 15, 2: 123_456}))
        self.pass_time()

    def raid(self) -> None:
        """Fill the page: five minutes of a raid, with an outage, a halt, failures and hostile names."""
        for second in range(300):
            throttled = 120 <= second < 180
            used = 200 if second >= 40 else second % 7
            granted = 120 if throttled else 200
            limited = "throttle" if throttled else "quota" if used == 200 else "nothing"
            self.observe(
                endpoint(
                    permits_used=min(used, granted), permits_granted=granted, limited_by=limited,
                    throttle_factor=granted / 200, waiting=12_345, oldest_age=61.5, calls=18,
                ),
                endpoint(
                    endpoint=KICK, permits_used=1 if second > 200 else 30, breaker_open=second > 200, breaker_openings=3,
                    limited_by="breaker" if second > 200 else "nothing", waiting=40,
                ),
                endpoint(endpoint=UNBAN, limited_by="halt", waiting=3, permits_lent=150, permits_granted=50),
                orders=(PAUSE, OrderSnapshot(Scope(target=HOSTILE), SHADOW, 3)),
                halts=(HaltReason("main", UNBAN, 10007, "no permission", "make the identifier an administrator", NOW),),
            )  # fmt: skip
        for number in range(12):
            self.work(ban(*users(3), group=f"group-{number}", issuer="detector-7"))
        self.work(kick("gone", "here", room="room-7"), refuse=frozenset({"gone"}))
        self.work(kick("gone", room="room-8", issuer="detector-7"), refuse=frozenset({"gone"}))
        self.work(live_unban("u"), command_id=HOSTILE, group_id=HOSTILE, issuer=HOSTILE)
        self.work(kick("gone", room="room-9"), refuse=frozenset({"gone"}), command_id=HOSTILE, issuer=LONG)
        self.work(ban("u", duration=-1) | {"command_id": "rejected-1"})


def endpoint(**changes: Any) -> EndpointSnapshot:
    """Return an idle endpoint, with changes."""
    values: dict[str, Any] = {
        "app": "main", "endpoint": BAN, "waiting": 0, "calls": 0, "oldest_age": 0.0, "permits_used": 0, "permits_granted": 200,
        "permits_owned": 200, "permits_lent": 0, "permits_borrowed": 0, "throttle_factor": 1.0, "limited_by": "nothing",
        "breaker_open": False, "breaker_openings": 0,
    }  # fmt: skip
    return EndpointSnapshot(**values | changes)


@asynccontextmanager
async def served(scene: Scene, port: int = 0) -> AsyncIterator[int]:
    """Serve the page, and return the port."""
    server = StatusServer(
        "127.0.0.1",
        port,
        pulse_age=lambda: 0.0,
        obstacles=lambda: scene.obstacles,
        metrics=lambda: (b"", CONTENT_TYPE),
        page=scene.page,
    )
    try:
        yield await server.start()
    finally:
        await server.close()
