# A paused scope: nothing new of it is sent, what is on its way ends, nothing is lost, and nobody else is held up but who must
# come after it.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, unban, users
from worker.domain.contract.control_records import ControlRecord, Order, OrderState, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

MAD = {"issuer": "mad"}


def mad(*who: str, **fields: Any) -> dict[str, Any]:
    return ban(*who, **MAD, **fields)


@pytest.mark.parametrize(
    "scope",
    [{}, MAD, {"app": "main"}, {"action": "group.ban_group_member"}, {"target": "g"}, MAD | {"target": "g"}],
    ids=str,
)
def test_nothing_of_a_paused_scope_is_sent_until_it_is_resumed(scope: dict[str, str]) -> None:
    harness = EngineHarness()
    harness.order("paused", **scope)
    harness.receive(mad("u", command_id="a"))
    assert not harness.sent
    assert harness.is_open("a")

    harness.resume(**scope)
    harness.ok()
    assert harness.status("a") == "succeeded"


@pytest.mark.parametrize(
    "scope",
    [{"issuer": "other"}, {"app": "second"}, {"action": "room.kick_user_out"}, MAD | {"target": "h"}],
    ids=str,
)
def test_what_a_scope_does_not_cover_goes_on(scope: dict[str, str]) -> None:
    harness = EngineHarness()
    if "action" in scope:
        scope = {"action": kick("u")["action"]}
    harness.order("paused", **scope)
    harness.receive(mad("u"))
    harness.ok()
    assert len(harness.sent) == 1


def test_what_waits_when_the_pause_comes_is_not_sent_and_leaves_its_batch_to_the_others() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(mad("a", command_id="a"), ban("b", issuer="good"), ban("c"))
    harness.order("paused", **MAD)
    harness.ok()
    harness.wait(1.0)
    assert harness.request().users == ["b", "c"]
    assert harness.limited_by("ban") == "pause"

    harness.ok()
    harness.resume(**MAD)
    harness.wait(1.0)
    assert harness.request().users == ["a"]


def test_what_is_on_its_way_ends() -> None:
    harness = EngineHarness()
    harness.receive(mad("u", command_id="a"))
    harness.order("paused", **MAD)
    harness.ok()
    assert harness.status("a") == "succeeded"


def test_a_retry_carries_nothing_that_was_paused_meanwhile() -> None:
    """
    The others of the batch go on with it; those of the paused scope return to their place, and have all their attempts left.
    """
    harness = EngineHarness(give_up_after=100.0)
    harness.order("paused", issuer="nobody")
    harness.wait(1.0)
    harness.order("paused")
    harness.receive_together(mad("a", command_id="a"), ban("b", command_id="b"))
    harness.resume()
    harness.timeout(harness.request())
    harness.order("paused", **MAD)
    harness.request_permit()
    assert harness.request().users == ["b"]

    harness.ok()
    assert harness.status("b") == "succeeded"
    harness.wait(1000.0)
    assert harness.is_open("a")
    harness.resume(**MAD)
    harness.timeout(harness.request())
    harness.request_permit()
    harness.ok()
    assert harness.status("a") == "succeeded"


def test_a_call_of_which_all_is_paused_is_over() -> None:
    harness = EngineHarness()
    harness.receive(mad("u", command_id="a"))
    harness.timeout(harness.request())
    harness.order("paused", **MAD)
    assert harness.cancelled
    assert not harness.out
    harness.resume(**MAD)
    harness.ok()
    assert harness.status("a") == "succeeded"


def test_a_later_command_of_the_same_member_waits_behind_a_paused_one() -> None:
    """Order per member holds against an operator, too. Whoever does not want to wait cancels."""
    harness = EngineHarness(supersede=False)
    harness.order("paused", **MAD)
    harness.receive(mad("u", command_id="a"), unban("u", command_id="b"), unban("v", command_id="c"))
    assert harness.request().users == ["v"]
    harness.ok()

    harness.resume(**MAD)
    assert harness.request().action == "ban"
    harness.ok()
    assert harness.request().action == "unban"
    harness.ok()
    assert [harness.status(each) for each in "abc"] == ["succeeded"] * 3


@pytest.mark.parametrize("later", [unban, ban])
def test_a_paused_command_makes_none_before_it_needless(later: Callable[..., dict[str, Any]]) -> None:
    """It may be cancelled, and then neither would be carried out."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.order("paused", **MAD)
    harness.receive(ban("x", group="first"), ban("u", duration=604_800, command_id="human"))
    harness.receive(later("u", command_id="mad", **MAD))
    harness.ok()
    harness.wait(1.0)
    harness.ok()

    assert harness.status("human") == "succeeded"
    harness.order("cancel", **MAD)
    assert harness.status("mad") == "cancelled"


def test_a_paused_command_expires_as_any_other() -> None:
    harness = EngineHarness()
    harness.order("paused", **MAD)
    harness.receive(mad("u", command_id="a", not_after="2030-03-17T17:47:40Z"))
    harness.wait(100.0)
    assert harness.status("a") == "expired"


def test_a_pause_with_an_end_ends_by_itself() -> None:
    harness = EngineHarness()
    harness.order("paused", until="2030-03-17T17:47:40Z", **MAD)
    harness.receive(mad("u", command_id="a"))
    harness.wait(50.0)
    assert not harness.sent
    harness.events()
    harness.wait(10.0)
    harness.ok()
    assert harness.status("a") == "succeeded"
    assert harness.events() == ["control.ended"]


def test_a_pause_that_is_over_before_it_is_read_is_none() -> None:
    harness = EngineHarness()
    harness.order("paused", until="2030-01-01T00:00:01Z", **MAD)
    harness.receive(mad("u", command_id="a"))
    harness.ok()
    assert harness.status("a") == "succeeded"
    assert harness.events() == []


def test_a_partition_that_goes_does_not_wait_for_what_is_paused() -> None:
    """Neither for what was never sent nor for what was: the pause may last for days, and the next owner has it as well."""
    harness = EngineHarness()
    harness.receive(mad("u", command_id="a"))
    harness.order("paused", **MAD)
    harness.receive(mad("v", command_id="b"))
    harness.revoking(0)
    assert not harness.engine.quiet([0])
    harness.timeout(harness.request())
    assert harness.engine.quiet([0])
    assert harness.engine.take_transaction(harness.now) is None


def test_a_partition_that_goes_waits_for_what_is_paused_while_anothers_call_carries_it() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(ban("u", command_id="a"), mad("u", command_id="b"))
    harness.ok()
    harness.wait(1.0)
    harness.order("paused", **MAD)
    harness.revoking(0)
    harness.ok()

    assert harness.status("b") == "succeeded"
    assert harness.engine.snapshot(harness.now).counts.given_up == 0


def test_what_is_paused_is_given_up_once_anothers_call_that_carried_it_comes_to_nothing() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(ban("u", issuer="slow"), mad("u"))
    harness.ok()
    harness.wait(1.0)
    harness.order("paused", **MAD)
    harness.order("paused", issuer="slow")
    harness.revoking(0)
    harness.timeout(harness.request())
    harness.wait(1.0)
    harness.publish()

    assert harness.engine.quiet([0])
    assert len(harness.published.outcomes) == 1


def test_a_pause_tells_how_much_it_holds_and_whether_a_partition_is_held_up() -> None:
    harness = EngineHarness(max_gap=100)
    harness.order("paused", **MAD)
    harness.receive(mad("u"))
    assert [each.held_up for each in harness.engine.snapshot(harness.now).partitions] == [False]
    harness.receive(*(ban(user) for user in users(101)))
    while harness.out:
        harness.ok()
        harness.publish()
        harness.wait(1.0)
    snapshot = harness.engine.snapshot(harness.now)
    (order,) = snapshot.orders
    assert (order.scope.issuer, order.order.by, order.commands) == ("mad", "alice", 1)
    assert [each.held_up for each in snapshot.partitions] == [True]

    harness.resume(**MAD)
    harness.ok()
    harness.publish()
    snapshot = harness.engine.snapshot(harness.now)
    assert not snapshot.orders
    assert [each.held_up for each in snapshot.partitions] == [False]


def test_an_order_that_is_given_again_changes_nothing_and_is_logged_once() -> None:
    harness = EngineHarness()
    for _ in range(2):
        harness.order("paused", **MAD)
    assert harness.events() == ["control.ordered"]
    harness.receive(mad("u"))
    for _ in range(2):
        harness.resume(**MAD)
    assert harness.events() == ["control.ended"]
    assert len(harness.sent) == 1


def test_the_strongest_order_holds() -> None:
    """All is paused, and one issuer cancelled; then all that is left is in shadow."""
    harness = EngineHarness()
    harness.order("paused")
    harness.order("cancel", **MAD)
    harness.order("shadow", target="g")
    harness.receive(mad("u", command_id="a"), ban("v", command_id="b"))
    assert harness.status("a") == "cancelled"
    assert harness.is_open("b")
    harness.resume()
    assert harness.status("b") == "simulated"
    assert not harness.sent
    assert "2 in force" in repr(harness.engine._enforcement)


def test_a_call_of_others_that_waits_for_its_retry_goes_on() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="a"))
    harness.timeout(harness.request())
    harness.order("paused", **MAD)
    assert not harness.cancelled
    harness.request_permit()
    harness.ok()
    assert harness.status("a") == "succeeded"


def test_what_still_waits_for_its_connection_a_second_later_does_not_leave() -> None:
    """Where nobody answers a connection takes many seconds, and an operator was promised two."""
    harness = EngineHarness()
    harness.receive_together(mad("u", command_id="a"), ban("w"), ban("v", group="h"))
    stopped, other = (harness.request(target=each) for each in "gh")
    assert stopped.users == ["u", "w"]
    harness.order("paused", **MAD)
    assert harness.engine.may_send(stopped.call_id, harness.now)  # it is on its way
    harness.wait(1.1)
    assert not harness.engine.may_send(stopped.call_id, harness.now)
    assert harness.engine.may_send(other.call_id, harness.now)

    harness.fence(stopped)
    assert harness.out == [other]
    assert harness.is_open("a")
    harness.resume(**MAD)
    harness.ok(harness.request(target="g"))
    assert harness.status("a") == "succeeded"


def test_of_a_flood_of_orders_the_first_are_logged_and_how_many_there_were() -> None:
    harness = EngineHarness()
    order = Order(OrderState.PAUSED, "r", "a program", "2030-01-01T00:00:00Z")
    harness.hear_orders(*(ControlRecord(Scope(issuer=f"i{number}"), order) for number in range(1_000)))
    assert harness.events() == ["control.ordered"] * 20
    harness.wait(1.0)
    (summary,) = harness.log_events
    assert (summary.event, summary.fields) == ("controls.omitted", {"count": 980})
    harness.wait(1.0)
    harness.order("paused", **MAD)
    assert harness.events() == ["controls.omitted", "control.ordered"]
