# `moderation-worker pause | cancel | shadow | resume`: what every worker does with the commands of a scope, from now on.
# Exit codes: 0 written, 1 Kafka refuses, or there is nothing to resume, 2 wrong settings, arguments or control topic.
#
# Each writes one record of the control topic. What follows from it is the workers' (domain/operator_orders.py); what is in force is
# shown by `control` (control.py).

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from worker.cli.shared import FAILED, AsJson, Config, kafka_options_in, print_json, user_name, with_config
from worker.printable_text import is_utf8, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.domain.contract.control_records import Order, OrderRow, Scope
    from worker.settings import Settings

App = Annotated[str | None, typer.Option(metavar="NAME", help="Only commands for this app of the settings.")]
Action = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only this action, such as group.ban_group_member.")
]
Issuer = Annotated[str | None, typer.Option(metavar="ID", help="Only commands of this issuer.")]
Target = Annotated[str | None, typer.Option(metavar="ID", help="Only this group or room.")]
Everything = Annotated[bool, typer.Option("--everything", help="All commands, instead of a scope.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who come later.")]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who decides.", show_default="your user name")]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="When it ends by itself: 30m, 2h, 1d, or an RFC 3339 time.", show_default="never"
    ),
]

STRONGER: Final = "where one of these orders covers its commands, that holds instead:"


def _order_command(name: str, state: str, about: str, example: str) -> Callable[..., None]:
    """Return the command that gives one kind of order."""

    def command(
        config: Config = None,
        *,
        app: App = None,
        action: Action = None,
        issuer: Issuer = None,
        target: Target = None,
        everything: Everything = False,
        reason: Reason,
        by: By = None,
        until: Until = None,
        as_json: AsJson = False,
    ) -> None:
        given = app, action, issuer, target
        _order(state, config, given, reason, by, until, everything=everything, as_json=as_json)

    command.__name__ = name
    command.__doc__ = f"{about}\n\n\b\nExample:\nmoderation-worker {name} -c worker.yaml {example}\n"
    return command


pause = _order_command(
    "pause", "paused", "Stop sending the commands of a scope: they wait, and nothing is lost.",
    '--issuer detector-7 --reason "went mad"',
)  # fmt: skip
cancel = _order_command(
    "cancel", "cancel",
    "End the commands of a scope unsent, those that wait and those that come: each gets the outcome `cancelled`.",
    '--issuer detector-7 --reason "wrong"',
)  # fmt: skip
shadow = _order_command(
    "shadow", "shadow", "Only pretend to carry out the commands of a scope: each gets the outcome `simulated`.",
    '--issuer detector-8 --reason "new"',
)  # fmt: skip


def resume(
    config: Config = None,
    *,
    app: App = None,
    action: Action = None,
    issuer: Issuer = None,
    target: Target = None,
    everything: Everything = False,
    reason: Reason,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """
    End what `pause`, `cancel`, `shadow` or a guard has ordered for exactly this scope.

    \b
    Example:
    moderation-worker resume -c worker.yaml --issuer detector-7 --reason "fixed"
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.broker.control_topic import read_orders, write_record  # noqa: PLC0415 - what is imported here --help need not load
    from worker.cli.control import format_order  # noqa: PLC0415
    from worker.domain.contract.control_records import ControlRecord  # noqa: PLC0415

    scope = _scope((app, action, issuer, target), everything=everything)
    by = _name(by)
    _text("--reason", reason)
    settings = _settings(config, scope)
    options = kafka_options_in(settings)
    topic_state, _ = read_orders(options)
    now = time.time()
    found = topic_state.in_force(now)
    if scope not in found:
        lines = [f"nothing is in force for {plain(scope)}"]
        lines += ["in force:", *(format_order(*each, now) for each in found.items())] if found else []
        if as_json:
            print_json({"error": "\n".join(lines)}, sys.stderr)
        else:
            typer.echo("\n".join(lines), err=True)
        raise typer.Exit(FAILED)
    offset = write_record(options, ControlRecord(scope, None), by, reason)
    if as_json:
        ended = {"state": "resumed", "reason": reason, "by": by, "ended": found[scope].state}
        print_json({"scope": dict(scope.fields()), **ended, "topic": options.control_topic, "offset": offset})
        return
    was = found[scope].state.row
    follows = what_follows(was, is_covered=bool(orders_beside(scope, found)), shadow=settings.shadow)
    del found[scope]
    print(f"resumed: {plain(scope)}, which was {was.done}\n{follows}")
    if found:
        print("\n".join(["still in force:", *(format_order(*each, now) for each in found.items())]))


def _order(
    state: str,
    config: Any,
    given: tuple[str | None, ...],
    reason: str,
    by: str | None,
    until: str | None,
    *,
    everything: bool,
    as_json: bool,
) -> None:
    """Write an order, and say what follows."""
    from worker.broker.control_topic import read_orders, write_record  # noqa: PLC0415
    from worker.cli.control import format_order, order_report  # noqa: PLC0415
    from worker.domain.contract.control_records import (  # noqa: PLC0415
        ControlRecord,
        Order,
        OrderState,
        UnreadableControl,
        control_value,
        read_control,
    )
    from worker.domain.contract.timestamps import rfc3339  # noqa: PLC0415
    from worker.errors import BrokerError  # noqa: PLC0415

    scope = _scope(given, everything=everything)
    _refuse_stars(scope)
    by = _name(by)
    _text("--reason", reason)
    now = time.time()
    end = None if until is None else _end(until, now)
    order = Order(OrderState(state), reason, by, rfc3339(now), end)
    record = ControlRecord(scope, order)
    # The workers' own reader judges it before it is written: what they would ignore must not be reported as done.
    if isinstance(read := read_control(scope.key, control_value(order)), UnreadableControl):
        raise typer.BadParameter(f"the workers would not read this record: {read.reason}; shorten it")
    settings = _settings(config, scope)
    options = kafka_options_in(settings)
    topic_state, _ = read_orders(options)
    if (refusal := topic_state.try_record(record, now)) is not None:
        raise BrokerError(f"nothing was written, as no worker would follow it: {refusal}")
    offset = write_record(options, record, by, reason)
    if as_json:
        place = {"topic": options.control_topic, "offset": offset}
        print_json({"scope": dict(scope.fields()), **order_report(order), **place})
        return
    ends = "" if end is None else f", until {end}"
    print(f"{order.state.row.done}: {plain(scope)}, by {plain(by)}{ends}: {plain(reason)}")
    print(order.state.row.follows.format(max_gap=settings.kafka.max_gap))
    print(f"  {with_config('resume', config)} {_flags(scope)} --reason …")
    beside = orders_beside(scope, topic_state.in_force(now))
    strongest_first = list(OrderState)
    lines = [
        format_order(*each, now)
        for each in beside.items()
        if strongest_first.index(each[1].state) < strongest_first.index(order.state)
    ]
    if lines:
        print("\n".join([STRONGER, *lines]))


def what_follows(was: OrderRow, *, is_covered: bool, shadow: bool) -> str:
    """Return a sentence for who ends an order: ``is_covered`` by others for other scopes, ``shadow`` as the settings have it."""
    again = "simulated, as the setting shadow says," if shadow else "carried out again"
    rest = ", except where one of these orders covers them" if is_covered else f": {was.resumed}"
    return f"Its commands are {again} within 2 s{rest}."


def orders_beside(scope: Scope, found: Mapping[Scope, Order]) -> dict[Scope, Order]:
    """Return the orders for other scopes that may cover commands of this one: no field tells the two apart."""
    fields = dict(scope.fields())
    return {
        other: order
        for other, order in found.items()
        if other != scope and all(fields.get(name, value) == value for name, value in other.fields())
    }


def _scope(given: tuple[str | None, ...], *, everything: bool) -> Scope:
    """Return the scope of the flags. Raises BadParameter if there is none, or one that cannot be meant."""
    from worker.cli.filter_options import check_text  # noqa: PLC0415
    from worker.domain.contract.actions import ACTIONS  # noqa: PLC0415
    from worker.domain.contract.control_records import SCOPE_FIELDS, Scope, scope_fault  # noqa: PLC0415
    from worker.settings.guard_settings import no_action  # noqa: PLC0415

    fields = {name: text for name, text in zip(SCOPE_FIELDS, given, strict=True) if text is not None}
    for name, text in fields.items():
        check_text(f"--{name}", text)  # an issuer may be a blank, and a guard may have stopped it
        # Pasted with something that nobody sees, it would stop nothing.
        if (fault := scope_fault(name, text)) is not None:
            raise typer.BadParameter(fault, param_hint=f"--{name}")
    if bool(fields) == everything:  # both, or neither
        raise typer.BadParameter(
            "give one or more of --app, --action, --issuer, --target"
            + (", or --everything, not both" if everything else ", or --everything for all commands")
        )
    action = fields.get("action")
    if action is not None and action not in ACTIONS:
        raise typer.BadParameter(plain(no_action(action)), param_hint="--action")
    return Scope(**fields)


def _refuse_stars(scope: Scope) -> None:
    """Raise BadParameter for a star as in a guard: here it would be taken for a name."""
    for name, value in scope.fields():
        if value == "*":
            raise typer.BadParameter(
                f"give a name, or leave --{name} out to mean each", param_hint=f"--{name}"
            )


def _settings(config: Any, scope: Scope) -> Settings:
    """Return the settings. Raises BadParameter if they do not know the scope's app."""
    from worker.settings import load  # noqa: PLC0415
    from worker.settings.guard_settings import did_you_mean  # noqa: PLC0415

    settings = load(config, os.environ)
    apps = settings.tencent.apps
    if scope.app is not None and scope.app not in apps:
        known = did_you_mean(scope.app, apps) or f"; there are {', '.join(apps)}"
        raise typer.BadParameter(f"there is no app {plain(scope.app)!r}{known}", param_hint="--app")
    return settings


def _name(by: str | None) -> str:
    from worker.domain.contract.control_records import BY_GUARD, BY_SETTINGS  # noqa: PLC0415

    name = user_name() if by is None else _text("--by", by)
    if name in {BY_GUARD, BY_SETTINGS}:  # an order of a guard gives way to a person's
        raise typer.BadParameter(f"{name}: that is no person's name here", param_hint="--by")
    return name


def _text(option: str, text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("it is empty", param_hint=option)
    if not is_utf8(text):
        raise typer.BadParameter("this is not UTF-8 text", param_hint=option)
    return text


def _end(text: str, now: float) -> str:
    """Return when the order ends, as RFC 3339. Raises BadParameter if that is not to be."""
    from worker.cli.filters import parse_time  # noqa: PLC0415
    from worker.domain.contract.timestamps import rfc3339  # noqa: PLC0415

    try:
        moment = parse_time(text, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--until") from error
    if text[-1:] in "smhd":  # a length of time, which `parse_time` counts back
        moment = 2 * now - moment
    if moment <= now:
        raise typer.BadParameter(f"{plain(text)} is over already", param_hint="--until")
    try:
        return rfc3339(moment)
    except ValueError as error:
        raise typer.BadParameter(f"{plain(text)} is after the year 9999", param_hint="--until") from error


def _flags(scope: Scope) -> str:
    import shlex  # noqa: PLC0415

    flags = [f"--{name} {shlex.quote(plain(value))}" for name, value in scope.fields()]
    return " ".join(flags) or "--everything"
