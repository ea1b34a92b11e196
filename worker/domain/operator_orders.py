# The orders in force, by scope: what an operator, a guard or the settings want done with which commands.
#
# Bookkeeping and queries only. Orders are enforced on open commands in operator_order_enforcement.py; how their records are written is in
# contract/control_records.py.

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from worker.domain.contract.control_records import (
    BY_SETTINGS,
    Order,
    OrderState,
    Scope,
    end_of,
    gives_way,
    is_over,
)
from worker.domain.contract.timestamps import rfc3339

if TYPE_CHECKING:
    from worker.domain.contract.command_decoding import Command
    from worker.domain.contract.control_records import ControlRecord, OrderPolicy

Values = tuple[str | None, str | None, str | None, str | None]
"""The fields of a scope: app, action, issuer, target."""
Mask = tuple[bool, bool, bool, bool]
"""Which of these fields a scope gives."""


class ActiveOrder(Struct, frozen=True):
    """An order and its scope."""

    scope: Scope
    order: Order

    @property
    def policy(self) -> OrderPolicy:
        """What the order does with the commands of its scope."""
        return self.order.state.row.policy


class OperatorOrders:
    """The orders in force. A record of the command topic costs the same however many orders there are."""

    def __init__(self, *, shadow: bool) -> None:
        self._by_values: dict[Values, ActiveOrder] = {}
        self._masks: dict[Mask, int] = {}  # how many scopes give exactly these fields
        self._first_end = inf  # no order ends by itself before then (seconds since 1970)
        order = Order(OrderState.SHADOW, "the setting shadow is on", BY_SETTINGS, rfc3339(0.0))
        self._of_settings = ActiveOrder(Scope(), order) if shadow else None

    def apply(self, record: ControlRecord, wall: float) -> ActiveOrder | None:
        """
        Put the order of a record in force at ``wall`` (seconds since 1970), or end the one of its scope. Return the order that the
        scope had before.

        An order whose time is over already is as good as none. An order that ``gives_way`` changes nothing.
        """
        values, order = _values(record.scope), record.order
        before = self._by_values.get(values)
        if before is not None and gives_way(order, before.order, wall):
            return before
        self._remove(values)
        if order is not None and not is_over(order, wall):
            self._by_values[values] = ActiveOrder(record.scope, order)
            mask = _mask(values)
            self._masks[mask] = self._masks.get(mask, 0) + 1
            self._first_end = min(self._first_end, end_of(order))
        return before

    def expire(self, wall: float) -> list[ActiveOrder]:
        """End the orders whose time is over at ``wall``. Return them."""
        if wall < self._first_end:
            return []
        over = [active for active in self._by_values.values() if is_over(active.order, wall)]
        for active in over:
            self._remove(_values(active.scope))
        self._first_end = min((end_of(active.order) for active in self._by_values.values()), default=inf)
        return over

    def find(self, scope: Scope) -> ActiveOrder | None:
        """Return the order for exactly this scope; None if there is none."""
        return self._by_values.get(_values(scope))

    def of(self, command: Command) -> ActiveOrder | None:
        """Return the order that holds for the command: the strongest whose scope covers it; None if none does."""
        found = self._of_settings
        for has_app, has_action, has_issuer, has_target in self._masks:
            values = (
                command.app if has_app else None,
                command.action.name if has_action else None,
                command.issuer if has_issuer else None,
                command.target if has_target else None,
            )
            found = _stronger(self._by_values.get(values), found)
        return found

    @property
    def all(self) -> list[ActiveOrder]:
        """All orders in force."""
        found = [] if self._of_settings is None else [self._of_settings]
        return [*found, *self._by_values.values()]

    def _remove(self, values: Values) -> None:
        if self._by_values.pop(values, None) is not None:
            mask = _mask(values)
            self._masks[mask] -= 1
            if not self._masks[mask]:
                del self._masks[mask]

    def __repr__(self) -> str:
        return f"<OperatorOrders, {len(self._by_values)} in force>"


def _mask(values: Values) -> Mask:
    app, action, issuer, target = values
    return app is not None, action is not None, issuer is not None, target is not None


def _values(scope: Scope) -> Values:
    return scope.app, scope.action, scope.issuer, scope.target


def _stronger(one: ActiveOrder | None, other: ActiveOrder | None) -> ActiveOrder | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda active: _STRENGTH.index(active.order.state))


_STRENGTH: Final = tuple(OrderState)
