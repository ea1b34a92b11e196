# The orders in force, whatever was ordered, ended and ran out before, in any order; and that a record costs the same however
# many there are.

from __future__ import annotations

import time
from random import Random
from typing import Final

import pytest

from tests.unit.domain.samples import BAN, DECODER, Record, encoded
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.control_records import ControlRecord, Order, OrderState, Scope
from worker.domain.contract.timestamps import instant_of, rfc3339
from worker.domain.operator_orders import OperatorOrders

NOW: Final = 1_900_000_000.0
FEW: Final = 500
ALLOWED: Final = 9.0
"""Times as long, for four times the orders: linear is 4, quadratic 16."""
FLOOR: Final = 0.02
"""Seconds that are not worth measuring."""


def order(state: OrderState, until: float | None = None) -> Order:
    return Order(state, "r", "alice", rfc3339(NOW), None if until is None else rfc3339(until))


def command(issuer: str, target: str) -> Command:
    decoded = DECODER.decode(Record(value=encoded(BAN | {"issuer": issuer, "group_id": target}), key=None))
    assert isinstance(decoded, Command)
    return decoded


@pytest.mark.parametrize("seed", range(20))
def test_the_strongest_of_those_that_cover_a_command_holds_whatever_was_before(seed: int) -> None:
    random, wall = Random(seed), NOW
    in_force, expected = OperatorOrders(shadow=False), dict[Scope, Order]()
    for _ in range(200):
        wall += random.choice([0.0, 0.0, 1.0])
        over = {scope for scope, each in expected.items() if each.until and instant_of(each.until) <= wall}
        assert {each.scope for each in in_force.expire(wall)} == over
        for scope in over:
            del expected[scope]
        issuer, target = random.choice([None, "a", "b"]), random.choice([None, "g", "h"])
        scope = Scope(issuer=issuer, target=target)
        given = None
        if random.random() < 0.6:
            until = random.choice([None, wall - 1, wall, wall + 1, wall + 20])
            given = order(random.choice(list(OrderState)), until)
        in_force.apply(ControlRecord(scope, given), wall)
        expected.pop(scope, None)
        if given is not None and (given.until is None or instant_of(given.until) > wall):
            expected[scope] = given
        assert {each.scope: each.order for each in in_force.all} == expected
        for issuer, target in (("a", "g"), ("b", "h"), ("c", "i")):
            covering = [
                each.state
                for scope, each in expected.items()
                if scope.issuer in (None, issuer) and scope.target in (None, target)
            ]
            found = in_force.of(command(issuer, target))
            strongest = min(covering, key=list(OrderState).index, default=None)
            assert (None if found is None else found.order.state) == strongest


def seconds_for(orders: int) -> float:
    records = [
        ControlRecord(Scope(issuer=f"i{number}"), order(OrderState.PAUSED, NOW + number + 1))
        for number in range(orders)
    ]
    ends = [ControlRecord(each.scope, None) for each in records]
    in_force = OperatorOrders(shadow=False)
    began = time.thread_time()
    for record in (*records, *ends):
        in_force.apply(record, NOW)
    return time.thread_time() - began


def test_an_order_that_a_clock_ahead_has_ended_holds_when_it_is_given_again() -> None:
    """Till then it stays ended on that replica, though the clock is set back: the page says so."""
    in_force, given = (
        OperatorOrders(shadow=False),
        ControlRecord(Scope(issuer="a"), order(OrderState.PAUSED, NOW + 600)),
    )
    in_force.apply(given, NOW)
    assert [each.order for each in in_force.expire(NOW + 3600)] == [given.order]
    assert in_force.all == []

    in_force.apply(given, NOW + 1)

    assert [each.order for each in in_force.all] == [given.order]


def test_a_record_costs_the_same_however_many_orders_there_are() -> None:
    few = min(seconds_for(FEW) for _ in range(3))
    many = min(seconds_for(4 * FEW) for _ in range(3))
    assert many < max(FLOOR, ALLOWED * few), (few, many)
