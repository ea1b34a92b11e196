# What the engine tells of itself: pictures for metrics, and reprs that a person can read in a failure.

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.domain.engine_harness import ENDPOINT_OF, Desk, ban, kick, users

if TYPE_CHECKING:
    from worker.domain.snapshots import EndpointSnapshot


def lane_of(desk: Desk, action: str) -> EndpointSnapshot:
    """
    The picture of one endpoint of the default app.
    """
    lanes = desk.engine.snapshot(desk.now).endpoints
    return next(each for each in lanes if (each.app, each.endpoint) == ("main", ENDPOINT_OF[action]))


def test_there_is_a_picture_of_each_endpoint_of_each_app() -> None:
    lanes = Desk().engine.snapshot(1000.0).endpoints

    assert {(each.app, each.endpoint) for each in lanes} == {
        (app, endpoint) for app in ("main", "second") for endpoint in ENDPOINT_OF.values()
    }


def test_an_endpoint_without_work_is_limited_by_nothing() -> None:
    lane = lane_of(Desk(), "ban")

    assert (lane.limited_by, lane.waiting, lane.calls, lane.oldest_age) == ("nothing", 0, 0, 0.0)
    assert (lane.permits_used, lane.permits_granted, lane.permits_owned) == (0, 200, 200)
    assert lane.throttle_factor == 1.0


def test_a_picture_tells_what_waits_and_how_long() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("x", group="busy"))
    desk.receive(ban(*users(3)))
    desk.wait(7.0)
    lane = lane_of(desk, "ban")

    assert (lane.waiting, lane.calls, lane.oldest_age, lane.permits_used) == (3, 1, 7.0, 1)
    assert lane.limited_by == "quota"


def test_a_replica_without_a_partition_owns_no_permit() -> None:
    desk = Desk(settled=False)
    lane = lane_of(desk, "ban")

    assert (lane.permits_owned, lane.throttle_factor) == (0, 1.0)


def test_a_picture_tells_of_each_partition() -> None:
    desk = Desk(0, 1, max_gap=2)
    desk.receive(*(kick("u", room=f"r{number}") for number in range(3)), partition=1)
    desk.ok(desk.out[1])
    desk.publish()
    idle, busy = desk.engine.snapshot(desk.now).partitions

    assert (idle.partition, idle.open, idle.gap, idle.backlog, idle.known_ids) == (0, 0, 0, 0, 0)
    assert (busy.partition, busy.open, busy.gap, busy.backlog, busy.known_ids) == (1, 1, 2, 1, 1)


def test_the_engine_shows_what_it_is_about() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("u", "v"), ban("w", group="h"))

    assert repr(desk.engine) == "<Engine 2 open, 1 in flight, 0 unpublished>"
    desk.ok()
    assert repr(desk.engine) == "<Engine 2 open, 0 in flight, 1 unpublished>"
    assert desk.engine.open == 2


def test_every_part_shows_what_it_is_about() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("u"), ban("v", group="h"))
    engine = desk.engine
    lane = next(iter(engine._scheduler.endpoints.values()))
    (flight,) = lane.calls.values()
    (member,) = flight.tasks
    waiting = lane.queue.target("h")
    (group,) = waiting.groups

    assert repr(flight) == "<InFlightCall call-1 to g, 1 members, out>"
    assert repr(lane) == (
        "<EndpointState main group_open_http_svc/ban_group_member, <EndpointQueue 1 waiting in 1 groups>, 1 calls>"
    )
    assert repr(member) == "<MemberTask main/g/u, called>"
    assert repr(member.command) == "<OpenCommand commands-0-0, 1 unsettled, 0 before it>"
    assert repr(waiting) == "<TargetQueue h, 1 waiting>"
    assert repr(lane.target("g")) == "<TargetState g, 1 out, 1 calls>"
    assert repr(lane.retry_after) == "<Gate retry after, open from 0.0>"
    assert repr(group) == "<CompatibleGroup h, 1 waiting, 0 resting>"
    assert repr(engine._outbox) == "<Outbox 0 emitted, 0 far ahead, 0 in a transaction>"
    assert repr(engine._partitions[0]) == "<Partition 0 active, <Offsets 0+2, 2 open>, 0 in the backlog>"
    assert len(engine._ordering) == 2


def test_targets_without_work_are_forgotten() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.ok()
    desk.wait(2.0)

    assert all(
        not lane.queue.targets and not lane.targets for lane in desk.engine._scheduler.endpoints.values()
    )
