# What the follower passes on when it has read the control topic again. All else needs a broker, and is in
# tests/contract/broker/test_control_follower.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.broker.test_client_config import options
from worker.broker.active_kafka_refusals import ActiveKafkaRefusals
from worker.broker.control_follower import ControlFollower
from worker.broker.control_topic import ControlEntry
from worker.domain.contract.control_records import ControlRecord, Order, OrderState, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.errors import WorkerError

SCOPE = Scope(issuer="mad")
HOLDS = Order(OrderState.PAUSED, "it bans everybody", "alice", "2026-11-28T03:00:00.000Z")
OVER = Order(OrderState.PAUSED, "a try", "alice", "2001-01-01T03:00:00.000Z", "2001-01-01T04:00:00.000Z")


class Reader:
    """A topic with at most one order."""

    def __init__(self, order: Order | None) -> None:
        self._order = order
        self.at_end = False

    def poll(self) -> list[ControlEntry]:
        self.at_end = True
        return [] if self._order is None else [ControlEntry(0, ControlRecord(SCOPE, self._order))]


class Listener:
    def __init__(self) -> None:
        self.calls: list[list[Order | None]] = []

    def orders(self, records: Sequence[ControlRecord]) -> None:
        self.calls.append([record.order for record in records])

    def no_orders(self) -> None:
        raise AssertionError

    def failed(self, error: WorkerError) -> None:
        raise error


@pytest.mark.parametrize(
    ("before", "after", "passed_on"),
    [
        (HOLDS, None, [None]),
        (HOLDS, OVER, [OVER]),
        (HOLDS, HOLDS, [HOLDS]),
        (OVER, None, []),
        (OVER, OVER, []),
        (OVER, HOLDS, [HOLDS]),
        (None, OVER, []),
    ],
)
def test_an_order_that_was_over_before_ends_nothing_when_the_topic_is_read_again(
    monkeypatch: pytest.MonkeyPatch, before: Order | None, after: Order | None, passed_on: list[Order | None]
) -> None:
    """A recreated topic no longer had it: that ended the order that a guard had given for its scope since, not written yet."""
    listener = Listener()
    follower = ControlFollower(
        options(control_topic="control"), listener, lambda _: None, ActiveKafkaRefusals(lambda _: None)
    )
    monkeypatch.setattr(follower, "_judge_connection", lambda _: None)
    for order in (before, after):
        reader: Any = Reader(order)
        follower._read_whole(reader)

    assert listener.calls[1:] == [passed_on]
