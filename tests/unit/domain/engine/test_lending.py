# Lending through the engine: who asks, who lends, what may be sent with it, and what is shown. The rules of a lane are in
# calls/test_replica_lending.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.engine_harness import ENDPOINT_OF, EngineHarness, ban, users
from worker.domain.calls.lending_router import lane_of
from worker.domain.calls.replica_lending import LEASE, LoanGrant, LoanRequest, LoanReturn, decode, encode
from worker.domain.contract.outcomes import Worker

if TYPE_CHECKING:
    from worker.domain.engine_snapshot import EndpointSnapshot

POOLS = {"main": "workers/1400000000"}


def replica(number: int, **settings: Any) -> EngineHarness:
    """One of two, with half of a quota of 20."""
    defaults: dict[str, Any] = {
        "partitions": 2,
        "default_calls_per_second": 20,
        "quota_pools": POOLS,
        "worker": Worker(f"worker-{number}", "1.0"),
    }
    return EngineHarness(number, **defaults | settings)


def rooms(harness: EngineHarness, number: int, name: str = "t") -> None:
    """This many bans that share no call."""
    partition = next(iter(harness.engine._partitions))
    harness.receive_together(
        *(ban("u", group=f"{name}{place}") for place in range(number)), partition=partition
    )


def newly_said(harness: EngineHarness) -> list[Any]:
    """What the replica has said since the last time."""
    said = [decode(payload) for payload in harness.quota_messages]
    harness.quota_messages.clear()
    return said


def of_bans(harness: EngineHarness) -> EndpointSnapshot:
    """The endpoint of bans."""
    endpoints = harness.engine.snapshot(harness.now).endpoints
    return next(each for each in endpoints if each.app == "main" and each.endpoint == ENDPOINT_OF["ban"])


def test_a_lane_is_named_by_its_pool_and_endpoint() -> None:
    """Replicas of another group, or of another app of that name, must not lend to each other: their slices are their own."""
    settings = replica(0).settings

    assert lane_of(settings, "main", "some/endpoint") == "workers/1400000000/some/endpoint"
    assert lane_of(settings, "second", "some/endpoint") == ""


def test_a_replica_that_waits_for_permits_asks_and_another_lends_what_is_idle() -> None:
    hot, idle = replica(0), replica(1)
    rooms(hot, 30)
    assert len(hot.out) == 10
    (request,) = hot.quota_messages

    idle.hear_quota_messages(request)
    (grant,) = idle.quota_messages
    hot.hear_quota_messages(request, grant)

    assert len(hot.out) == 10 + 9
    assert (of_bans(hot).permits_borrowed, of_bans(hot).permits_granted) == (9, 19)
    assert (of_bans(idle).permits_lent, of_bans(idle).permits_granted) == (9, 1)
    assert hot.limited_by("ban") == "quota"


def test_without_a_pool_nobody_asks() -> None:
    hot = replica(0, quota_pools={})

    rooms(hot, 30)

    assert hot.quota_messages == []


def test_a_replica_asks_for_about_as_many_permits_as_calls_wait() -> None:
    """More would be idle here, and others would have to wait for them."""
    hot, full = replica(0), replica(0)

    rooms(hot, 30)
    rooms(full, 10)
    full.receive_together(ban(*users(100), group="t0"))

    assert [each.wanted for each in newly_said(hot)] == [20]
    assert [5 <= each.wanted < 20 for each in newly_said(full)] == [True]


def test_what_waits_for_something_else_than_a_permit_lessens_no_loan() -> None:
    hot, stuck = replica(0), replica(1)
    stuck.receive(ban("u", group="hangs"), partition=1)
    stuck.timeout(stuck.request())
    stuck.receive(ban("v", group="hangs"), partition=1)
    stuck.wait(1.5)
    assert stuck.limited_by("ban") == "target"
    rooms(hot, 30)

    stuck.hear_quota_messages(*hot.quota_messages)

    assert [each.permits for each in newly_said(stuck)] == [9]


def test_a_replica_with_permits_left_asks_for_none() -> None:
    hot = replica(0)

    rooms(hot, 10)

    assert hot.quota_messages == []


@pytest.mark.parametrize("reason", ["fenced", "stopping", "busy"])
def test_who_may_not_lend_or_has_none_to_lend_grants_nothing(reason: str) -> None:
    """A replica that is not sure of its membership may have lost its slices already."""
    hot, other = replica(0), replica(1)
    rooms(hot, 30)
    if reason == "stopping":
        other.stop()
    if reason == "busy":
        rooms(other, 30)
        other.quota_messages.clear()

    other.hear_quota_messages(*hot.quota_messages, may_lend=reason != "fenced")

    assert newly_said(other) == []


def test_a_borrower_renews_while_more_is_waiting_and_gives_back_what_is_not_in_use() -> None:
    hot, idle = replica(0), replica(1)
    rooms(hot, 22)
    idle.hear_quota_messages(*hot.quota_messages)
    hot.hear_quota_messages(*idle.quota_messages)
    hot.quota_messages.clear()

    hot.wait(0.3)
    (renewal,) = newly_said(hot)
    assert isinstance(renewal, LoanRequest)
    assert list(renewal.keeps.values()) == [9]
    idle.wait(0.3)
    idle.hear_quota_messages(encode(renewal))
    said = []
    for _ in range(10):
        hot.ok()
        hot.hear_quota_messages(*idle.quota_messages)
        idle.quota_messages.clear()
        hot.wait(0.25)
        idle.wait(0.25)
        idle.hear_quota_messages(*hot.quota_messages)
        said += newly_said(hot)

    assert isinstance(said[-1], LoanReturn)
    assert of_bans(idle).permits_lent == 0


def test_a_request_that_waits_for_a_connection_does_not_leave_on_a_permit_that_has_gone() -> None:
    """The lender counts from the request on, whenever the borrower gets round to sending."""
    hot, idle = replica(0), replica(1)
    rooms(hot, 30)
    idle.hear_quota_messages(*hot.quota_messages)
    hot.hear_quota_messages(*idle.quota_messages)
    own, borrowed = hot.out[0].call_id, hot.out[-1].call_id

    assert hot.engine.may_send(borrowed, hot.now)
    assert hot.engine.may_send(own, hot.now + LEASE)
    assert not hot.engine.may_send(borrowed, hot.now + LEASE)


def test_a_request_may_leave_when_its_lease_was_renewed_meanwhile() -> None:
    hot, idle = replica(0), replica(1)
    rooms(hot, 30)
    for _ in range(2):
        idle.hear_quota_messages(*hot.quota_messages)
        hot.hear_quota_messages(*idle.quota_messages)
        hot.quota_messages.clear()
        idle.quota_messages.clear()
        hot.wait(0.3)
        idle.wait(0.3)
    idle.hear_quota_messages(*hot.quota_messages)

    assert hot.engine.may_send(hot.out[-1].call_id, hot.now + 0.6)


def test_a_lender_that_waits_for_what_it_has_lent_says_so() -> None:
    hot, other = replica(0), replica(1)
    rooms(hot, 30)
    other.hear_quota_messages(*hot.quota_messages)

    rooms(other, 3)

    assert len(other.out) == 1
    assert other.limited_by("ban") == "lent"
    other.wait(3.0)
    assert len(other.out) == 3


def test_what_nobody_here_can_read_is_counted_and_what_is_of_others_ignored() -> None:
    idle = replica(1)

    lane = lane_of(idle.settings, "main", ENDPOINT_OF["ban"])
    idle.hear_quota_messages(
        b"what?", *(encode(LoanGrant(name, "l", "b", 1, 5)) for name in (lane, "another/lane"))
    )

    assert idle.engine.snapshot(idle.now).counts.strange_quota_messages == 1
    assert newly_said(idle) == []


def test_while_tencent_throttles_nothing_is_borrowed_or_lent() -> None:
    """The quota is smaller than the settings say, so permits are worth nothing."""
    hot, other = replica(0), replica(1)
    rooms(hot, 30)
    rooms(other, 1)
    for harness in (hot, other):
        harness.quota_messages.clear()
        harness.code(harness.out[0], 60007)

    hot.wait(1.0)
    other.hear_quota_messages(
        encode(LoanRequest(lane_of(other.settings, "main", ENDPOINT_OF["ban"]), "b", 1, 5, {}))
    )

    assert newly_said(other) == []
