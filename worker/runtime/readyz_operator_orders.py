# What /readyz says of orders: those in force, and the partitions that they hold up. A worker that obeys an order is ready, or a
# rollout would hang for as long as somebody pauses a detector.
#
# Made once a second from the engine's snapshot, and bounded. Not here: what makes the worker not ready (readiness.py).

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.domain.engine_snapshot import EngineSnapshot, OrderSnapshot

SHOWN: Final = 50
"""Orders that are listed; a person reads them."""
HELD_UP: Final = (
    "these partitions stand: an order holds their oldest open command, and kafka.max_gap records or the memory for commands are full "
    "behind it; `moderation-worker resume` or `cancel` lets them go on"
)


def notes_of(snapshot: EngineSnapshot) -> dict[str, object]:
    """Return the orders in force, and the partitions that they hold up; empty if there are none."""
    notes: dict[str, object] = {}
    if snapshot.orders:
        notes["orders"] = [_note(each) for each in snapshot.orders[:SHOWN]]
    if len(snapshot.orders) > SHOWN:
        notes["orders_omitted"] = len(snapshot.orders) - SHOWN
    held_up = sorted(each.partition for each in snapshot.partitions if each.held_up)
    if held_up:
        notes["held_up"] = {"partitions": held_up, "note": HELD_UP}
    return notes


def _note(active: OrderSnapshot) -> Mapping[str, object]:
    order = active.order
    note = {
        "scope": str(active.scope),
        "state": order.state.value,
        "by": order.by,
        "reason": order.reason,
        "at": order.at,
        "held": active.commands,
    }
    return note if order.until is None else {**note, "until": order.until}
