# Guards: limits above which a scope is stopped by itself, and the counters that notice.
#
# A counter counts the members that this replica sends, and none of other replicas. A scope above its limit is stopped in
# operator_order_enforcement.py; the orders of operators are in operator_orders.py.

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec import structs

from worker.domain.contract.control_records import OrderState, Scope  # noqa: TC001 - settings read the types of Guard's fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.domain.contract.command_decoding import Command

ANY: Final = "*"
"""In a guard's scope: each value of the field is counted, and stopped, by itself."""
MAX_COUNTED: Final = 10_000
"""The most scopes that are counted for a guard; with one more, the one of which a member was sent longest ago is forgotten."""
PARTS: Final = 20
"""A guard's ``per_seconds`` are counted in this many parts: a twentieth is forgotten at a time."""


@dataclass(frozen=True, slots=True)
class RunawayGuard:
    """
    A limit above which a scope is stopped by itself.

    Attributes:
        scope: The members of its commands are counted; of a field that is ``*``, for each value alone.
        members: When this many members are sent within ``per_seconds``, the scope is stopped.
        then: The order that is given.

    """

    scope: Scope
    members: int
    per_seconds: float
    then: OrderState = OrderState.PAUSED


class GuardCounters:
    """
    Counts members as this replica sends them, and notices scopes above a limit.

    Attributes:
        tripped: The scopes that are above a limit, each with its guard, until ``take_tripped``.

    """

    def __init__(self, guards: Sequence[RunawayGuard]) -> None:
        self._guards = guards
        self._counters: list[OrderedDict[Scope, _Sent]] = [OrderedDict() for _ in guards]
        self.tripped: dict[Scope, RunawayGuard] = {}

    def sent(self, commands: Iterable[Command], now: float) -> None:
        """Count one member for each of these commands: a request that carries them for the first time is sent now."""
        for command in commands:
            for guard, counters in zip(self._guards, self._counters, strict=True):
                scope = _scope_of(guard.scope, command)
                if scope is not None:
                    self._count(guard, counters, scope, now)

    def take_tripped(self) -> dict[Scope, RunawayGuard]:
        """Hand out the scopes that are above a limit, each with its guard. They are counted from zero again."""
        tripped, self.tripped = self.tripped, {}
        return tripped

    def forget(self, scope: Scope) -> None:
        """Count the scope from zero: its order is over."""
        for counters in self._counters:
            counters.pop(scope, None)

    def _count(
        self, guard: RunawayGuard, counters: OrderedDict[Scope, _Sent], scope: Scope, now: float
    ) -> None:
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
        """Count one more member. Return how many there are now."""
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
    """Return the scope for which the pattern counts the command; None if it does not. An empty issuer is as good as none."""
    given = {
        "app": command.app,
        "action": command.action.name,
        "issuer": command.issuer,
        "target": command.target,
    }
    found: dict[str, str] = {}
    for name, wanted in pattern.fields():
        value = given[name]
        if not value or wanted not in (ANY, value):  # no order can name an empty value
            return None
        found[name] = value
    return structs.replace(pattern, **found)
