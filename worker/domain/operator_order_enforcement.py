# Enforces orders on open commands. Paused commands are not sent, cancelled ones get their outcome, and those in shadow wait for a permit
# like all others, but are not sent either.
#
# When an order changes, the commands for which another order holds now are found, and withdrawn from their queues. Requests in flight
# end. Which order holds for a command is decided in operator_orders.py, what then becomes of its tasks in member_ordering.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.control_records import BY_GUARD, ControlRecord, Order
from worker.domain.contract.timestamps import rfc3339
from worker.domain.effects import LogEvent, WriteControl
from worker.domain.engine_snapshot import OrderSnapshot
from worker.domain.operator_orders import OperatorOrders
from worker.domain.progress.open_commands import OpenCommand

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.contract.control_records import Scope
    from worker.domain.effects import EffectQueue
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.operator_orders import ActiveOrder
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import EndpointKey
    from worker.domain.progress.partitions import Partition
    from worker.domain.runaway_guards import GuardCounters
    from worker.domain.wall_clock import WallClock

LINES: Final = 20
"""The most log lines between two summaries: people give a few orders, but a program may give thousands."""


class OperatorOrderEnforcement:
    """
    Enforces the orders in force on open commands.

    Attributes:
        orders: The orders in force.

    """

    def __init__(
        self,
        settings: EngineSettings,
        clock: WallClock,
        ordering: MemberOrdering,
        scheduler: Scheduler,
        effects: EffectQueue,
        guards: GuardCounters,
        partitions: Mapping[int, Partition],
    ) -> None:
        self._clock = clock
        self._ordering = ordering
        self._scheduler = scheduler
        self._effects = effects
        self._guards = guards
        self._partitions = partitions
        self._logged = 0
        self._written: dict[Scope, Order] = {}  # orders of guards that are not read back yet
        self.orders = OperatorOrders(shadow=settings.shadow)

    def put_in_force(self, records: Iterable[ControlRecord], now: float) -> None:
        """Put these records in force, in order."""
        wall = self._clock.wall(now)
        changed = False
        for record in records:
            before = self.orders.apply(record, wall)
            after = self.orders.find(record.scope)
            self._restore(record, after)
            if before != after:
                changed = True
                if after is not None:
                    self._log(after, is_over=False)
                else:
                    assert before is not None
                    self._log(before, is_over=True)
                    self._guards.forget(record.scope)
        if changed:
            self._enforce(now)

    def expire(self, now: float) -> None:
        """End the orders whose time is over."""
        over = self.orders.expire(self._clock.wall(now))
        for active in over:
            self._log(active, is_over=True)
            self._guards.forget(active.scope)
        if over:
            self._enforce(now)

    def enforce_guards(self, now: float) -> None:
        """Put the orders of tripped guards in force, for the scopes that are above their limit."""
        tripped, records = self._guards.take_tripped(), []
        for scope, guard in tripped.items():
            reason = f"{guard.members} members within {guard.per_seconds:g} s"
            order = Order(guard.then, reason, BY_GUARD, rfc3339(self._clock.wall(now)))
            record = ControlRecord(scope, order)
            fields = {"scope": str(scope), "state": guard.then.value, "reason": reason}
            self._effects.ask_for(LogEvent("guard.tripped", "warning", fields))
            self._effects.ask_for(WriteControl(record))
            records.append(record)
        self.put_in_force(records, now)  # together: each time all open commands are looked at
        self._written.update((each.scope, each.order) for each in records if each.order is not None)

    # Reports

    def sum_up(self) -> None:
        """Log how many changes of orders since the last summary had no line of their own."""
        omitted, self._logged = self._logged - LINES, 0
        if omitted > 0:
            self._effects.ask_for(LogEvent("controls.omitted", "warning", {"count": omitted}))

    def survey(self) -> tuple[tuple[OrderSnapshot, ...], set[EndpointKey]]:
        """Return the orders in force, each with its number of open commands, and the endpoints of the paused commands."""
        orders = self.orders.all
        paused: set[EndpointKey] = set()
        if not orders:
            return (), paused
        counts = dict.fromkeys(orders, 0)
        for command in self._open_commands():
            if command.order is not None:
                counts[command.order] = counts.get(command.order, 0) + 1
            if command.policy.waits:
                paused.add(command.endpoint)
        return tuple(OrderSnapshot(each.scope, each.order, counts[each]) for each in orders), paused

    # Inside

    def _restore(self, record: ControlRecord, after: ActiveOrder | None) -> None:
        """
        Have a person's order written again after a guard's order that gave way to it: a compacted topic keeps only the last record.
        The replica of that guard does so.
        """
        ours = self._written.get(record.scope)
        if ours is None or record.order not in (ours, None):
            return
        del self._written[record.scope]
        if after is not None and after.order != ours:
            self._effects.ask_for(WriteControl(ControlRecord(after.scope, after.order)))

    def _open_commands(self) -> Iterable[OpenCommand]:
        return (
            record
            for partition in self._partitions.values()
            for record in partition.open_records.values()
            if isinstance(record, OpenCommand) and record.unsettled
        )

    def _enforce(self, now: float) -> None:
        """Find the open commands for which another order holds now, and apply it to them."""
        changed: list[tuple[OpenCommand, ActiveOrder | None]] = []
        for command in self._open_commands():
            order = self.orders.of(command.spec)
            if order != command.order and not command.policy.is_final:
                self._ordering.withdraw(command)
                changed.append((command, order))
        # They are removed from their queues before their order changes, which decides which queue that is.
        self._scheduler.apply_changes(now)
        for command, order in changed:
            command.set_order(order)
        for command, _ in changed:
            if command.policy.simulates:
                self._ordering.enter_shadow(command)
        self._scheduler.take_back_unwanted(now)
        for command, _ in changed:
            self._ordering.apply_order(command, now)

    def _log(self, active: ActiveOrder, *, is_over: bool) -> None:
        self._logged += 1
        if self._logged > LINES:
            return
        scope, order = active.scope, active.order
        fields = {"scope": str(scope), "state": order.state.value, "by": order.by, "reason": order.reason}
        if is_over:
            self._effects.ask_for(LogEvent("control.ended", "warning", fields))
        else:
            self._effects.ask_for(LogEvent("control.ordered", "warning", fields | {"until": order.until}))

    def __repr__(self) -> str:
        return f"<OperatorOrderEnforcement of {self.orders!r}>"
