# What /readyz says of orders: who has paused what, how many commands wait, and which partitions stand for it.

from __future__ import annotations

import json

from tests.unit.runtime.test_metrics import control, snapshot
from tests.unit.runtime.test_status_server import Worker, ask
from worker.domain.contract.control_records import Order, OrderState, Scope
from worker.domain.engine_snapshot import OrderSnapshot, PartitionSnapshot
from worker.runtime.readyz_operator_orders import SHOWN, notes_of


def test_nothing_is_said_where_nothing_is_in_force() -> None:
    assert notes_of(snapshot(partitions=(PartitionSnapshot(3, 1, 1, 0, 0),))) == {}


def test_each_order_is_named_with_who_and_why_and_how_many_commands_it_holds() -> None:
    order = Order(OrderState.PAUSED, "mad", "alice", "2026-11-28T03:00:00Z", "2026-11-28T05:00:00Z")

    (note,) = json.loads(
        json.dumps(notes_of(snapshot(orders=(OrderSnapshot(Scope(issuer="d-7"), order, 12),))))
    )["orders"]

    assert note == {
        "scope": "issuer d-7",
        "state": "paused",
        "by": "alice",
        "reason": "mad",
        "at": "2026-11-28T03:00:00Z",
        "until": "2026-11-28T05:00:00Z",
        "held": 12,
    }


def test_the_partitions_that_stand_behind_a_pause_are_named_with_the_remedy() -> None:
    partitions = tuple(PartitionSnapshot(number, 1, 1, 0, 0, number in {7, 3}) for number in (7, 5, 3))

    notes = json.loads(
        json.dumps(notes_of(snapshot(orders=(control(OrderState.PAUSED),), partitions=partitions)))
    )

    assert notes["held_up"]["partitions"] == [3, 7]
    assert "kafka.max_gap" in notes["held_up"]["note"]
    assert "resume" in notes["held_up"]["note"]


def test_a_thousand_orders_do_not_make_an_endless_answer() -> None:
    notes = notes_of(snapshot(orders=(control(OrderState.PAUSED),) * 1_000))

    assert len(json.loads(json.dumps(notes["orders"]))) == SHOWN
    assert notes["orders_omitted"] == 1_000 - SHOWN


def test_a_worker_that_obeys_an_order_is_ready_and_says_which() -> None:
    """A rollout would hang otherwise, for as long as somebody pauses a detector."""
    answer = ask(Worker(notes=notes_of(snapshot(orders=(control(OrderState.PAUSED, held=2),)))), "/readyz")

    report = json.loads(answer.body)
    assert (answer.status, report["ready"], report["obstacles"]) == (200, True, [])
    assert report["orders"][0]["held"] == 2
