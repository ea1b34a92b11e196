# GuardCounters: a scope that sends more than its limit is stopped by itself, before much more of it has gone, and nothing is lost.

from __future__ import annotations

import pytest
from msgspec import structs

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, live_unban, unban, users
from worker.domain.contract.control_records import (
    ControlRecord,
    Order,
    OrderState,
    Scope,
    control_value,
    read_control,
)
from worker.domain.runaway_guards import MAX_COUNTED, GuardCounters, RunawayGuard

PER_ISSUER = RunawayGuard(Scope(issuer="*"), members=50, per_seconds=60.0)


def flood(harness: EngineHarness, issuer: str, count: int, name: str = "u") -> None:
    harness.receive_together(*(ban(user, issuer=issuer) for user in users(count, name)))


def sent(harness: EngineHarness) -> int:
    return sum(len(each.users) for each in harness.sent)


def test_an_issuer_that_sends_too_much_is_paused_and_the_others_are_not() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, "mad", 200)
    assert sent(harness) == 60
    (record,) = harness.ordered
    assert record.scope == Scope(issuer="mad")
    assert record.order is not None
    assert (record.order.state, record.order.by) == (OrderState.PAUSED, "guard")
    assert record.order.reason == "50 members within 60 s"
    assert harness.events() == ["guard.tripped", "control.ordered"]

    flood(harness, "good", 20, "v")
    flood(harness, "mad", 20, "w")
    harness.ok()
    assert sent(harness) == 80
    harness.publish()
    assert harness.engine.open_count == 160


@pytest.mark.parametrize("issuer", ["", None])
def test_no_order_is_given_for_an_issuer_that_no_order_can_name(issuer: str | None) -> None:
    """Its record was read by nobody, and so it held on one replica, until that was restarted."""
    harness = EngineHarness(guards=(PER_ISSUER,))
    fields = {} if issuer is None else {"issuer": issuer}
    harness.receive_together(*(ban(user, **fields) for user in users(200)))

    assert sent(harness) == 200
    assert not harness.ordered


@pytest.mark.parametrize("issuer", [" ", "ü" * 128, '"' * 256, "\\" * 256])
def test_the_order_of_a_guard_is_one_that_all_can_read(issuer: str) -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, issuer, 60)

    (record,) = harness.ordered
    assert record.order is not None
    assert read_control(record.scope.key, control_value(record.order)) == record


def test_a_scope_that_is_resumed_is_counted_from_zero() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, "mad", 61)
    harness.ok()
    harness.resume(issuer="mad")
    harness.ok()
    assert sent(harness) == 61
    assert len(harness.ordered) == 1


def test_what_has_waited_counts_and_trips_a_guard_again_after_a_resume() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, "mad", 180)
    harness.ok()
    harness.resume(issuer="mad")
    harness.ok()
    assert sent(harness) < 180
    assert len(harness.ordered) == 2


def test_a_pause_that_ends_by_itself_lets_count_from_zero() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, "mad", 40)
    harness.order("paused", issuer="mad", until="2030-03-17T17:46:53Z")
    harness.wait(15.0)
    flood(harness, "mad", 40, "v")
    assert sent(harness) == 80
    assert not harness.ordered


def test_members_count_for_as_long_as_the_guard_says() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, "mad", 40)
    harness.ok()
    harness.wait(55.0)

    flood(harness, "mad", 10, "v")

    assert len(harness.ordered) == 1


def test_members_of_long_ago_count_no_more() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, "good", 40)
    harness.ok()
    harness.wait(61.0)
    flood(harness, "good", 49, "v")
    harness.ok()
    assert not harness.ordered

    flood(harness, "good", 1, "w")

    assert len(harness.ordered) == 1


def test_issuers_whose_members_share_a_call_are_paused_together() -> None:
    harness = EngineHarness(guards=(RunawayGuard(Scope(issuer="*"), members=2, per_seconds=60.0),))
    flood(harness, "good", 1, "v")
    harness.receive_together(
        *(ban(f"{issuer}{user}", issuer=issuer) for user in "1234567890ab" for issuer in ("mad", "worse"))
    )
    assert {record.scope.issuer for record in harness.ordered} == {"mad", "worse"}
    assert harness.events() == ["guard.tripped"] * 2 + ["control.ordered"] * 2
    assert sent(harness) == 21


def test_after_a_trip_no_other_endpoint_sends_of_the_scope() -> None:
    """Each sent one more batch."""
    harness = EngineHarness(guards=(RunawayGuard(Scope(issuer="*"), 20, 60.0),))
    commands = ban(*users(20)), unban(*users(20)), live_unban(*users(20)), kick(*users(20))
    harness.receive_together(*(command | {"issuer": "mad"} for command in commands))
    harness.wait(1.0)

    assert sent(harness) == 20


def test_of_many_scopes_that_trip_each_is_stopped_in_an_event_of_its_own() -> None:
    """
    For each all open commands are looked at: in one event, 200 rooms with 20,000 commands behind them held the loop for 11 s.
    """
    harness = EngineHarness(guards=(RunawayGuard(Scope(target="*"), 20, 60.0),))
    rooms = [f"room{number}" for number in range(30)]
    harness.receive_together(*(ban(*users(40), group=room) for room in rooms))
    assert len(harness.ordered) == 1
    harness.receive(kick("u"))
    assert len(harness.ordered) == 2
    assert [each.action for each in harness.sent] == ["ban", "kick", "ban"]
    assert harness.engine.wake_at <= harness.now
    harness.wait(0.25)

    assert sorted(str(each.scope) for each in harness.ordered) == sorted(f"target {room}" for room in rooms)
    assert sent(harness) == 30 * 20 + 1


def test_what_a_guard_puts_in_shadow_waits_for_its_permits_at_once() -> None:
    harness = EngineHarness(guards=(RunawayGuard(Scope(issuer="*"), 20, 60.0, OrderState.SHADOW),))
    flood(harness, "mad", 60)

    assert sum(each.waiting for each in harness.engine.snapshot(harness.now).endpoints) == 40
    harness.wait(0.25)
    assert [each.status.value for each in harness.publish()] == ["simulated"] * 40


def test_what_was_sent_long_ago_does_not_count() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    for name in "abcd":
        flood(harness, "mad", 40, name)
        harness.ok()
        harness.wait(61.0)
    assert not harness.ordered


def test_a_retry_counts_once() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, "mad", 20)
    for _ in range(3):
        harness.code(harness.request(), 10002)
        harness.request_permit()
    assert not harness.ordered


def test_each_field_of_a_scope_is_counted_as_it_says() -> None:
    harness = EngineHarness(
        guards=(
            RunawayGuard(Scope(action=kick("u")["action"]), 20, 60.0, OrderState.SHADOW),
            RunawayGuard(Scope(target="*", action="group.ban_group_member"), 20, 60.0),
        )
    )
    harness.receive(ban(*users(19), group="g"), ban(*users(19), group="h"), kick(*users(19)))
    assert not harness.ordered
    harness.receive(ban("x", group="g"), kick("x"))
    assert [str(each.scope) for each in harness.ordered] == [
        "action group.ban_group_member, target g",
        "action room.kick_user_out",
    ]


def test_a_command_without_the_field_is_not_counted() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    harness.receive(ban(*users(100)))
    assert sent(harness) == 100


def test_so_many_values_are_counted_and_no_more() -> None:
    """A stranger may name a new issuer in each command."""
    guards = GuardCounters((PER_ISSUER,))
    harness = EngineHarness()
    harness.receive(ban("u", issuer="x"))
    (command,) = [each.spec for each in harness.engine._partitions[0].open_records.values()]  # type: ignore[union-attr]
    for number in range(MAX_COUNTED + 10):
        guards.sent([structs.replace(command, issuer=f"i{number}")], 1.0)
    assert len(guards._counters[0]) == MAX_COUNTED


@pytest.mark.parametrize("state", list(OrderState))
def test_what_is_in_force_already_trips_no_guard_again(state: OrderState) -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    harness.order(state.value, issuer="mad")
    flood(harness, "mad", 200)
    harness.wait(1.0)
    assert not harness.ordered
    assert not harness.sent


def test_a_guard_does_not_replace_what_a_person_has_ordered_and_has_that_written_again() -> None:
    """Both at the same instant. In a compacted topic only the last record of a scope is left: it must be the person's."""
    harness = EngineHarness(guards=(PER_ISSUER,))
    flood(harness, "mad", 200)
    (tripped,) = harness.ordered
    harness.order("cancel", issuer="mad")
    harness.ok()
    assert [each.status.value for each in harness.publish()].count("cancelled") == 140

    harness.hear_orders(tripped)

    (order,) = harness.engine.snapshot(harness.now).orders
    assert order.order.by == "alice"
    assert [each.order for each in harness.ordered[1:]] == [order.order]
    harness.hear_orders(*harness.ordered[1:])
    assert len(harness.ordered) == 2


def test_a_guard_of_another_replica_gives_way_as_well_and_that_one_sees_to_it() -> None:
    harness = EngineHarness()
    harness.order("cancel", issuer="mad")
    order = Order(OrderState.PAUSED, "50 members within 60 s", "guard", "2030-01-01T00:00:00Z")
    harness.hear_orders(ControlRecord(Scope(issuer="mad"), order))
    assert [each.order.by for each in harness.engine.snapshot(harness.now).orders] == ["alice"]
    assert not harness.ordered


def test_a_guard_replaces_what_a_person_had_ordered_until_then() -> None:
    harness = EngineHarness(guards=(PER_ISSUER,))
    harness.order("shadow", issuer="mad", until="2030-03-17T17:46:50Z")
    harness.wait(15.0)
    flood(harness, "mad", 60)
    assert [each.order.by for each in harness.engine.snapshot(harness.now).orders] == ["guard"]


def test_what_a_guard_stops_while_its_partition_goes_is_given_up_in_that_event() -> None:
    guard = RunawayGuard(Scope(issuer="mad"), members=41, per_seconds=60.0)
    harness = EngineHarness(0, 1, guards=(guard,), default_calls_per_second=2)
    harness.receive(kick(*users(41), issuer="mad"), partition=0)
    harness.ok()
    harness.ok()
    harness.revoking(0)
    assert harness.engine.count_open([0]) == 1, "it is started, so the handover waits for its last user"
    harness.receive(ban("other", issuer="mad"), partition=1)

    assert harness.events()[-2:] == ["guard.tripped", "control.ordered"]
    assert harness.engine.count_open([0]) == 0
