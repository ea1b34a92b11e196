# What an operator, a guard or the settings want done with which commands: the orders in force, by scope, and the guards that give
# some by themselves.
#
# Questions and books only. What follows for open commands is done in brake.py; how the records are written is in
# contract/orders.py.

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from worker.domain.contract.orders import (
    BY_SETTINGS,
    Order,
    OrderState,
    Scope,
    end_of,
    gives_way,
    is_over,
)
from worker.domain.contract.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.domain.contract.commands import Command
    from worker.domain.contract.orders import ControlRecord

ANY: Final = "*"
"""In a guard's scope: each value of the field is counted, and stopped, by itself."""
MAX_COUNTED: Final = 10_000
"""So many values of a guard's fields are counted; beyond, the one that sent least lately is forgotten."""
PARTS: Final = 20
"""A guard's time is counted in this many parts: it forgets a twentieth of it at a time."""

Values = tuple[str | None, str | None, str | None, str | None]
"""The fields of a scope: app, action, issuer, target."""
Mask = tuple[bool, ...]
"""Which of them a scope gives."""


class ActiveOrder(Struct, frozen=True):
    """An order, and the scope that it is for."""

    scope: Scope
    order: Order


class OrdersInForce:
    """The orders in force. A record costs the same however many there are."""

    __slots__ = ("_by_values", "_first_end", "_masks", "_of_settings")

    def __init__(self, *, shadow: bool) -> None:
        self._by_values: dict[Values, ActiveOrder] = {}
        self._masks: dict[Mask, int] = {}  # how many scopes give exactly these fields
        self._first_end = inf  # none ends by itself before then (seconds since 1970)
        order = Order(OrderState.SHADOW, "the setting shadow is on", BY_SETTINGS, rfc3339(0.0))
        self._of_settings = ActiveOrder(Scope(), order) if shadow else None

    def apply(self, record: ControlRecord, wall: float) -> ActiveOrder | None:
        """
        Put a record in force at ``wall`` (seconds since 1970), or end what was, and return what was.

        An order whose time is over already is as good as none. One that ``gives_way`` changes nothing.
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
        """End the orders whose time is over at ``wall``, and return them."""
        if wall < self._first_end:
            return []
        over = [each for each in self._by_values.values() if is_over(each.order, wall)]
        for each in over:
            self._remove(_values(each.scope))
        self._first_end = min((end_of(each.order) for each in self._by_values.values()), default=inf)
        return over

    def find(self, scope: Scope) -> ActiveOrder | None:
        """Return the order for exactly this scope."""
        return self._by_values.get(_values(scope))

    def of(self, command: Command) -> ActiveOrder | None:
        """Return the order that holds for the command: the strongest of those whose scope covers it."""
        found = self._of_settings
        if self._masks:
            given = (command.app, command.action.name, command.issuer, command.target)
            for mask in self._masks:
                values = tuple(value if is_used else None for value, is_used in zip(given, mask, strict=True))
                found = _stronger(self._by_values.get(values), found)  # type: ignore[arg-type]
        return found

    @property
    def all(self) -> list[ActiveOrder]:
        """All that is in force."""
        found = [] if self._of_settings is None else [self._of_settings]
        return [*found, *self._by_values.values()]

    def _remove(self, values: Values) -> None:
        if self._by_values.pop(values, None) is not None:
            mask = _mask(values)
            self._masks[mask] -= 1
            if not self._masks[mask]:
                del self._masks[mask]

    def __repr__(self) -> str:
        return f"<OrdersInForce, {len(self._by_values)} in force>"


def _mask(values: Values) -> Mask:
    return tuple(each is not None for each in values)


def _values(scope: Scope) -> Values:
    return scope.app, scope.action, scope.issuer, scope.target


def _stronger(one: ActiveOrder | None, other: ActiveOrder | None) -> ActiveOrder | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda each: _STRENGTH.index(each.order.state))


_STRENGTH: Final = tuple(OrderState)


# Guards


@dataclass(frozen=True, slots=True)
class Guard:
    """
    A limit above which a scope is stopped by itself.

    Attributes:
        scope: Whose members are counted. A field that is ``*`` is counted for each of its values alone.
        members: So many of them, sent within ``per_seconds``, stop it.
        then: What is ordered.

    """

    scope: Scope
    members: int
    per_seconds: float
    then: OrderState = OrderState.PAUSED


class Guards:
    """Counts the members that are sent, as this replica sends them, and notices what is above a limit."""

    __slots__ = ("_counters", "_guards", "tripped")

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._guards = guards
        self._counters: list[OrderedDict[Scope, _Sent]] = [OrderedDict() for _ in guards]
        self.tripped: dict[Scope, Guard] = {}

    def sent(self, commands: Iterable[Command], now: float) -> None:
        """Count a member of each of these commands: a request that carries them for the first time leaves now."""
        for command in commands:
            for guard, counters in zip(self._guards, self._counters, strict=True):
                scope = _scope_of(guard.scope, command)
                if scope is not None:
                    self._count(guard, counters, scope, now)

    def take_tripped(self) -> dict[Scope, Guard]:
        """Hand out the scopes that are above a limit, each with its guard. They are counted from zero."""
        tripped, self.tripped = self.tripped, {}
        return tripped

    def forget(self, scope: Scope) -> None:
        """Count the scope from zero: what was ordered for it is over."""
        for counters in self._counters:
            counters.pop(scope, None)

    def _count(self, guard: Guard, counters: OrderedDict[Scope, _Sent], scope: Scope, now: float) -> None:
        counter = counters.get(scope)
        if counter is None:
            counter = counters[scope] = _Sent(guard.per_seconds)
            if len(counters) > MAX_COUNTED:
                counters.popitem(last=False)
        counters.move_to_end(scope)
        if counter.add(now) >= guard.members:
            self.tripped[scope] = guard
            del counters[scope]


class _Sent:
    """How many members were sent within the last ``seconds``."""

    __slots__ = ("_part", "_parts", "_total")

    def __init__(self, seconds: float) -> None:
        self._part = seconds / PARTS
        self._parts: deque[list[float]] = deque()  # (number of the part, members)
        self._total = 0

    def add(self, now: float) -> int:
        """Count one more. Return how many there were."""
        number = now // self._part
        parts = self._parts
        while parts and parts[0][0] <= number - PARTS:
            self._total -= int(parts.popleft()[1])
        if not parts or parts[-1][0] != number:
            parts.append([number, 0])
        parts[-1][1] += 1
        self._total += 1
        return self._total


def _scope_of(pattern: Scope, command: Command) -> Scope | None:
    """Return the scope of the command that the pattern counts; None if it does not count it."""
    given = {
        "app": command.app,
        "action": command.action.name,
        "issuer": command.issuer,
        "target": command.target,
    }
    found: dict[str, str] = {}
    for name, wanted in pattern.fields():
        value = given[name]
        if value is None or wanted not in (ANY, value):
            return None
        found[name] = value
    return structs.replace(pattern, **found)
