# The records of the control topic: what an operator, or a guard, wants done with the commands of a scope.
#
# A record's key is the scope and its value the order; the latest record of a key is in force, and a tombstone ends its order. Here they
# are read and written. Which orders are in force is in domain/operator_orders.py.

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.bounded_json_reader import JsonReader
from worker.domain.contract.field_checks import FIELDS
from worker.domain.contract.outcomes import OutcomeError
from worker.domain.contract.timestamps import instant_of
from worker.domain.contract.visible_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KEY_BYTES: Final = 1_024
MAX_VALUE_BYTES: Final = 4_096
"""The most bytes of a record's key and value: a longer record was not written by this program."""
SCOPE_FIELDS: Final = ("app", "action", "issuer", "target")
BY_GUARD: Final = "guard"
BY_SETTINGS: Final = "settings"
"""Who gave an order, if nobody did."""


class OrderState(StrEnum):
    """What is done with the commands of a scope, the strongest first."""

    CANCEL = "cancel"
    """Its waiting and its later commands get the outcome ``cancelled``."""
    PAUSED = "paused"
    """Its commands are not sent: they wait."""
    SHADOW = "shadow"
    """All is done but the request: its commands get the outcome ``simulated``."""

    @property
    def row(self) -> OrderRow:
        """What it does, who may order it, and what is said of it."""
        return _ROWS[self]


@dataclass(frozen=True, slots=True)
class OrderPolicy:
    """
    What an order does with its commands. The defaults are for commands without an order.

    If it ``withholds``, exactly one of ``waits``, ``ends_at_once`` and ``simulates`` says what happens instead.

    Attributes:
        withholds: No request carries the commands, and they are removed from waiting calls.
        waits: They stay in their member queues until the order ends.
        ends_at_once: They get the outcome ``cancelled``, except for members in a call.
        simulates: All is done but the request, and apart from live commands: with a queue, ids, effects and results of their own.
        is_final: No other order holds for a command after this one.
        holds_up_drain: A drain or handover waits for started commands.

    """

    withholds: bool = False
    waits: bool = False
    ends_at_once: bool = False
    simulates: bool = False
    is_final: bool = False
    holds_up_drain: bool = True


NO_ORDER: Final = OrderPolicy()


@dataclass(frozen=True, slots=True)
class OrderRow:
    """What an order does with its commands, who may give it, and what is said to those who do."""

    done: str  # what the scope is from now on
    follows: str  # what that means, and how it ends; max_gap is kafka.max_gap
    resumed: str  # what a resume means for commands that came before it
    may_guard_order: bool  # a guard may order it, not only a person
    policy: OrderPolicy


_ROWS: Final[dict[OrderState, OrderRow]] = {
    OrderState.CANCEL: OrderRow(
        "cancelled from now on",
        "Its commands that wait, and all that come, get the outcome `cancelled` and a dead letter, within 2 s.\n"
        "Nothing of it is sent. To end it, for what comes after:",
        "those that were cancelled stay so",
        may_guard_order=False,  # a person's decision: it ends commands that may be right
        policy=OrderPolicy(withholds=True, ends_at_once=True),
    ),
    OrderState.PAUSED: OrderRow(
        "paused",
        "Within 2 s no worker sends anything new of it; what is in flight ends. Its commands wait, and hold up\n"
        "their partitions once they are kafka.max_gap ({max_gap:,}) records behind. To end it:",
        "first those that have waited",
        may_guard_order=True,
        policy=OrderPolicy(withholds=True, waits=True, holds_up_drain=False),
    ),
    OrderState.SHADOW: OrderRow(
        "in shadow",
        "Within 2 s its commands get the outcome `simulated`: everything is done but the request. To end it:",
        "those that were simulated are over",
        may_guard_order=True,
        # Final: the id of a command in shadow is not among the live ones.
        policy=OrderPolicy(withholds=True, simulates=True, is_final=True),
    ),
}


class Scope(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """
    Which commands an order is for: those that agree in every field that is given. Without any field, all commands.

    Attributes:
        target: The id of a group or room.

    """

    app: str | None = None
    action: str | None = None
    issuer: str | None = None
    target: str | None = None

    @property
    def key(self) -> bytes:
        """The record's key: canonical JSON (sorted, no spaces, UTF-8), so that a scope has one key."""
        return _encoder.encode(self)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.fields()) or "everything"

    def fields(self) -> Iterator[tuple[str, str]]:
        """Return the fields that are given, with their values."""
        values = (self.app, self.action, self.issuer, self.target)
        return ((name, value) for name, value in zip(SCOPE_FIELDS, values, strict=True) if value is not None)


class Order(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """
    The value of a control record.

    Attributes:
        reason: Why it was given, for whoever reads it later.
        by: Who gave it; ``BY_GUARD`` for a guard.
        at: When it was given, RFC 3339.
        until: When it ends by itself, RFC 3339; None: by a tombstone alone.

    """

    state: OrderState
    reason: str
    by: str
    at: str
    until: str | None = None


class ControlRecord(Struct, frozen=True):
    """One record of the control topic: from now on this order holds for the scope; None: no order any more."""

    scope: Scope
    order: Order | None


class UnreadableControl(Struct, frozen=True):
    """A record of the control topic that changes nothing, and why."""

    reason: str


def control_value(order: Order) -> bytes:
    """Write the value of a record."""
    return _encoder.encode(order)


def gives_way(order: Order | None, before: Order | None, wall: float) -> bool:
    """
    Return whether an order changes nothing, because another one is in force for its scope at ``wall`` (seconds since 1970).

    The order of a guard never replaces that of a person: the guard tripped before it knew of it.
    """
    return (
        order is not None
        and before is not None
        and order.by == BY_GUARD
        and before.by != BY_GUARD
        and not is_over(before, wall)
    )


def is_over(order: Order, wall: float) -> bool:
    """Return whether the order has ended by itself at ``wall`` (seconds since 1970)."""
    return end_of(order) <= wall


def end_of(order: Order) -> float:
    """Return when the order ends by itself, in seconds since 1970; infinity: it does not."""
    return inf if order.until is None else instant_of(order.until)


def read_control(key: bytes | None, value: bytes | None) -> ControlRecord | UnreadableControl:
    """Read a record of the control topic. A record that is not understood entirely changes nothing: half an order is none."""
    scope = _read_scope(key)
    if isinstance(scope, UnreadableControl):
        return scope
    if value is None:
        return ControlRecord(scope, None)
    if len(value) > MAX_VALUE_BYTES:
        return UnreadableControl(f"its value has {len(value)} bytes; the most is {MAX_VALUE_BYTES}")
    try:
        order = _order_decoder.decode(value)
        reader = JsonReader(value.decode())
        # The decoder takes the last of two, and so another order than a person reads.
        for name in reader.repeated(reader.skip_blanks(0)):
            return UnreadableControl(f"its value gives {name} twice")
    except (ValueError, RecursionError) as exc:
        return UnreadableControl(f"its value cannot be read: {exc}")
    for name, instant in (("at", order.at), ("until", order.until)):
        if instant is None:
            continue
        try:
            instant_of(instant)
        except ValueError as exc:
            return UnreadableControl(f"its value cannot be read: {name} is {shown(instant)}: {exc}")
    return ControlRecord(scope, order)


def scope_fault(name: str, text: str) -> str | None:
    """Return why no command has this text in a field of a scope, with the cure; None: one may have it."""
    found = FIELDS["group_id" if name == "target" else name](text, name)
    return found.message if isinstance(found, OutcomeError) else None


def _read_scope(key: bytes | None) -> Scope | UnreadableControl:
    if key is None:
        return UnreadableControl("it has no key, which names the scope")
    if len(key) > MAX_KEY_BYTES:
        return UnreadableControl(f"its key has {len(key)} bytes; the most is {MAX_KEY_BYTES}")
    try:
        scope = _scope_decoder.decode(key)
    except (ValueError, RecursionError) as exc:
        return UnreadableControl(f"its key is no scope: {exc}")
    if key != scope.key:
        # Of two keys for one scope, compaction would keep both, and forget the tombstone of one.
        return UnreadableControl(f"its key is not written as {scope.key.decode()}")
    if scope.action is not None and scope.action not in ACTIONS:
        return UnreadableControl(f"its key names the action {scope.action!r}, which is unknown")
    if "" in (scope.app, scope.issuer, scope.target):
        return UnreadableControl("its key has an empty field")
    for name, text in scope.fields():
        if (fault := scope_fault(name, text)) is not None:
            return UnreadableControl(f"its key is for no command: {fault}")
    return scope


_encoder: Final = msgspec.json.Encoder(order="sorted")
_scope_decoder: Final = msgspec.json.Decoder(Scope)
_order_decoder: Final = msgspec.json.Decoder(Order)
