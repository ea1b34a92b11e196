# `moderation-worker control`: what is in force, since when, by whom, why, until when, and how many commands it holds.
# Exit codes: 0 shown (also if nothing is), 1 Kafka cannot be reached or read, 2 wrong settings, arguments or control topic.
#
# It only reads. The commands are counted in Kafka itself, so that the answer is of the whole group and not of one replica.

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from worker.cli.shared import AsJson, Config, decoder_of, kafka_options_in, print_json
from worker.printable_text import plain

if TYPE_CHECKING:
    from worker.broker.control_topic import ControlEntry
    from worker.broker.options import KafkaOptions
    from worker.domain.contract.control_records import Order, Scope
    from worker.settings import Settings

COUNT_SECONDS: Final = 8.0
"""How long waiting commands are counted: an operator should have an answer within ten seconds."""
SHOWN_UNREADABLE: Final = 5


def control(
    config: Config = None,
    *,
    as_json: AsJson = False,
) -> None:
    """
    Show the orders in force: since when, by whom, why, until when, and how many commands each holds.

    \b
    Example:
    moderation-worker control --config worker.yaml
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.broker.control_topic import read_orders  # noqa: PLC0415 - what is imported here --help need not load
    from worker.settings import load  # noqa: PLC0415

    settings = load(config, os.environ)
    options = kafka_options_in(settings)
    topic_state, unreadable = read_orders(options)
    now = time.time()
    found = topic_state.in_force(now)
    held, complete = _held(settings, options, found) if found else (Counter(), True)
    for scope, order in found.items():
        if as_json:
            report = {
                "scope": dict(scope.fields()),
                **order_report(order),
                "held": held[scope],
                "held_complete": complete,
            }
            print_json(report)
        else:
            print(format_order(scope, order, now))
            count = held[scope]
            print(f"          holds   {'' if complete else 'at least '}{count:,} command{'s' * (count != 1)}")
    if not found and not as_json:
        print("nothing is in force")
    _warn_of_unreadable(unreadable, options.control_topic)
    if not complete:
        sys.stderr.write(
            f"counting stopped after {COUNT_SECONDS:g} s: more commands wait than could be read\n"
        )


def _held(
    settings: Settings, options: KafkaOptions, orders: dict[Scope, Order]
) -> tuple[Counter[Scope], bool]:
    """Count the waiting commands for which each order holds. Return whether all were counted."""
    from worker.broker.command_history import CommandHistory  # noqa: PLC0415
    from worker.domain.contract.command_decoding import Command  # noqa: PLC0415
    from worker.domain.contract.control_records import ControlRecord  # noqa: PLC0415
    from worker.domain.operator_orders import OperatorOrders  # noqa: PLC0415

    decoder = decoder_of(settings, options)
    in_force = OperatorOrders(shadow=settings.shadow)
    for scope, order in orders.items():
        in_force.apply(ControlRecord(scope, order), 0.0)
    held: Counter[Scope] = Counter()
    deadline = time.monotonic() + COUNT_SECONDS
    with CommandHistory(options) as history:
        for batch in history.unfinished():
            for record in batch:
                command = decoder.decode(record)
                if isinstance(command, Command) and (decisive := in_force.of(command)) is not None:
                    held[decisive.scope] += 1
            if time.monotonic() > deadline:
                return held, False
    return held, True


def order_report(order: Order) -> dict[str, str]:
    """Return an order as a JSON object, without the fields that it lacks."""
    from msgspec import to_builtins  # noqa: PLC0415

    built: dict[str, str] = to_builtins(order)
    return built


def format_order(scope: Scope, order: Order, now: float) -> str:
    """Return an order in a few lines."""
    from worker.domain.contract.timestamps import instant_of  # noqa: PLC0415

    until = "until resumed" if order.until is None else f"until {order.until}"
    return (
        f"{order.state:<9} {plain(scope)}\n"
        f"          since   {plain(order.at)} ({span(now - instant_of(order.at))}), by {plain(order.by)}, {until}\n"
        f"          reason  {plain(order.reason)}"
    )


def span(seconds: float) -> str:
    """Return a length of time for a person: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 120:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def _warn_of_unreadable(unreadable: list[ControlEntry], topic: str | None) -> None:
    for entry in unreadable[:SHOWN_UNREADABLE]:
        reason = plain(getattr(entry.record, "reason", ""))
        sys.stderr.write(f"{topic}, offset {entry.offset}: this record changes nothing: {reason}\n")
    if (more := len(unreadable) - SHOWN_UNREADABLE) > 0:
        sys.stderr.write(f"and {more:,} more such records\n")
