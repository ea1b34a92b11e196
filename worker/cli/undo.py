# `moderation-worker undo`: the opposite commands for what an issuer, or anybody in a time, had applied. Exit codes: 0 there is
# something to send, or all is sent; 1 Kafka cannot be reached, or a command was not written; 2 wrong settings or arguments;
# 3 nothing was applied; 7 for some of what was applied nothing is sent.
#
# Without --send it only reads. What is undone is decided in undo_plan.py, whether a user was touched since in
# last_command_per_user.py.

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import filter_options
from worker.cli.progress_line import clear_progress, show_progress
from worker.cli.shared import (
    LEFT_OUT,
    NOTHING,
    WRONG,
    AsJson,
    Config,
    kafka_options_of,
    print_json,
    user_name,
)
from worker.printable_text import plain

if TYPE_CHECKING:
    from worker.broker.command_producer import OutgoingCommand
    from worker.broker.options import KafkaOptions
    from worker.cli.filters import Filters
    from worker.cli.undo_plan import UndoPlan
    from worker.domain.contract.command_decoding import CommandDecoder

SINCE = "1h"
TARGETS_SHOWN = 20
NOTED = 500
"""The most characters of what was asked for that each command notes: metadata has 4 KiB, the reason's included."""


def undo(
    config: Config = None,
    *,
    issuer: filter_options.Issuer = None,
    target: filter_options.Target = None,
    action: filter_options.ActionOption = None,
    user: filter_options.User = None,
    app: filter_options.App = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How far to look back: 30m, 24h, 7d, or an RFC 3339 time.",
            show_default=SINCE,
        ),
    ] = None,
    until: filter_options.Until = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send it. Without this, only show what would be sent.")
    ] = False,
    issuer_as: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The issuer of what is sent. Default: undo-by- and your name."),
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; it is in the metadata of each command and outcome.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """
    Undo what was applied: unban the users that an issuer banned. A dry run, unless --send is given.

    Each user is undone once, unless a later command touched the same user, or waits to. Not undone are what held already and
    what cannot be undone: kicks, unbans, changes of members. A ban is lifted, whoever else had set one before.

    Exit codes: 0 there is something to send, or all was sent; 3 nothing was applied; 7 some of it is not undone, and why is shown.

    \b
    Example:
    moderation-worker undo --config worker.yaml --issuer spam-detector --since 2h
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.cli.send_planned_commands import send_all  # noqa: PLC0415 - what is imported here --help need not load
    from worker.cli.undo_plan import FIELDS  # noqa: PLC0415

    back_to = SINCE if since is None else since
    filters = filter_options.filters_of(
        back_to, until, fields=FIELDS, issuer=issuer, target=target, action=action, user=user, app=app
    )
    if not filters.traits and since is None and until is None:
        raise typer.BadParameter(
            "give one of --issuer, --target, --action, --user, --app, or a time with --since"
        )
    filter_options.check_text("--issuer-as", "default" if issuer_as is None else issuer_as)
    filter_options.check_text("--reason", reason or "none")
    name = f"undo-by-{user_name()}" if issuer_as is None else issuer_as
    note = {"of": _cut(str(filters)), "by": user_name(), **({"reason": reason} if reason else {})}
    options, decoder = kafka_options_of(config)
    _refuse_unsendable(decoder, name, note)
    plan = _plan_undo(options, decoder, filters)
    commands = _prepare(plan, decoder, name, note)
    if as_json:
        print_json(_report(plan, name, send=send))
    else:
        print(_format_plan(plan, filters, back_to, send=send))
    if commands and send:
        retry_hint = "give the same command again: what is in Kafka already is left out, or a duplicate, then"
        send_all(options, commands, retry_hint=retry_hint, as_json=as_json)
    elif commands and not as_json:
        print("\nnothing was sent: --send sends it")
    if plan.left_out:
        raise typer.Exit(LEFT_OUT)


def _cut(text: str) -> str:
    """Return the text as metadata has room for it: of hundreds of users the first are named."""
    return text if len(text) <= NOTED else f"{text[:NOTED]}…"


def _refuse_unsendable(decoder: CommandDecoder, issuer: str, note: dict[str, str]) -> None:
    """Refuse what no command may say, before anything is read."""
    from worker.cli.undo_plan import sample_undo  # noqa: PLC0415
    from worker.domain.contract.raw_records import BareRecord  # noqa: PLC0415
    from worker.domain.contract.rejections import Rejected  # noqa: PLC0415

    read = decoder.decode(BareRecord(sample_undo().value(issuer, "2000-01-01T00:00:00Z", note)))
    if not isinstance(read, Rejected):
        return
    faults = [(read.field or "", read.message), *((each.field or "", each.message) for each in read.also)]
    for field, message in faults:
        if field.startswith("issuer"):
            raise typer.BadParameter(message, param_hint="--issuer-as")
        if field.startswith("metadata"):
            raise typer.BadParameter(message, param_hint="--reason")


def _plan_undo(options: KafkaOptions, decoder: CommandDecoder, filters: Filters) -> UndoPlan:
    """Return the plan. Ends the program with exit code 3 if nothing was applied."""
    from worker.broker.command_history import CommandHistory  # noqa: PLC0415
    from worker.broker.offset_range_reader import CLOCKS_APART  # noqa: PLC0415
    from worker.cli.later_commands import see_later_commands  # noqa: PLC0415
    from worker.cli.undo_plan import UndoPlanner  # noqa: PLC0415

    planner = UndoPlanner(filters.traits.get("user"))
    with CommandHistory(options, show_progress) as history:
        for values in history.every_outcome(filters.since, until=filters.until, terms=filters.terms):
            for view in filter(filters.matches, filters.views(values)):
                planner.see_applied(view)
        clear_progress()
        if not planner:
            sys.stderr.write(f"nothing of {filters} was applied in that time\n")
            raise typer.Exit(NOTHING)
        planner.watch_found_users()
        see_later_commands(options, decoder, history, filters.since - CLOCKS_APART, planner)
    clear_progress()
    return planner.plan(time.time())


def _prepare(
    plan: UndoPlan, decoder: CommandDecoder, issuer: str, note: dict[str, str]
) -> list[OutgoingCommand]:
    """Return the commands as they are sent. Ends the program with exit code 2 if the worker would reject one."""
    from worker.broker.command_producer import OutgoingCommand, prepare  # noqa: PLC0415
    from worker.domain.contract.timestamps import rfc3339  # noqa: PLC0415

    now = rfc3339(time.time())
    made = [prepare(decoder, each.value(issuer, now, note)) for each in plan.commands]
    rejected = {each.message for each in made if not isinstance(each, OutgoingCommand)}
    if rejected:
        sys.stderr.write("the worker would reject what undoes it, so nothing is sent:\n")
        for message in sorted(rejected):
            sys.stderr.write(f"  {plain(message)}\n")
        raise typer.Exit(WRONG)
    return [each for each in made if isinstance(each, OutgoingCommand)]


def _format_plan(plan: UndoPlan, filters: Filters, since: str, *, send: bool) -> str:
    from worker.cli.count_tables import CountTable, format_table  # noqa: PLC0415

    lines = [f"{plan.applied:,} effects of {filters} since {plain(since)}"]
    actions = {command.action for command in plan.commands}
    if plan.commands:
        targets = {(command.app, command.target) for command in plan.commands}
        verb = "being" if send else "would be"
        lines.append(
            f"{plan.users:>9,}  {verb} undone by {' and '.join(sorted(actions))}: commands: {len(plan.commands):,}, "
            f"groups or rooms: {len(targets):,}"
        )
    lines += [f"{count:>9,}  not undone: {plain(why)}" for why, count in plan.left_out.most_common()]
    if plan.commands:
        table = CountTable("target", "target")
        for command in plan.commands:
            for _ in command.users:
                table.count([command.target], command.action)
        lines += ["", format_table(table, TARGETS_SHOWN, "users", more="")]
    return "\n".join(lines)


def _report(plan: UndoPlan, issuer: str, *, send: bool) -> dict[str, Any]:
    return {
        "applied": plan.applied,
        "undone": plan.users,
        "left_out": dict(plan.left_out.most_common()),
        "issuer": issuer,
        "send": send,
        "commands": [
            {
                "command_id": each.command_id,
                "action": each.action,
                "app": each.app,
                each.field: each.target,
                "user_ids": each.users,
            }
            for each in plan.commands
        ],
    }
