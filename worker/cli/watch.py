# `moderation-worker watch`: outcomes as they come. Exit codes: 0 --limit was reached, 1 Kafka cannot be reached or read, 2 wrong
# settings or arguments, 130 ended by Ctrl-C.
#
# It only reads: no group is joined. What matches is decided in filters.py; how an outcome is read back later is `outcomes`.

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import filter_options
from worker.cli.filters import WAITING
from worker.cli.outcome_formatting import STRANGE, json_line, outcome_in, strange_record
from worker.cli.shared import INTERRUPTED, AsJson, Config, kafka_options_of, terminal_width
from worker.printable_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.broker.outcome_follower import OutcomeFollower
    from worker.cli.filters import Filters

POLL_SECONDS = 0.5
QUIET_SECONDS = 10.0
"""How long Kafka may be away before it is reported."""
USERS_SHOWN = 3
INDENT = "    "


def watch(
    config: Config = None,
    *,
    command_id: filter_options.CommandId = None,
    user: filter_options.User = None,
    target: filter_options.Target = None,
    status: filter_options.OutcomeStatus = None,
    issuer: filter_options.Issuer = None,
    action: filter_options.ActionOption = None,
    app: filter_options.App = None,
    error_code: filter_options.ErrorCode = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Begin earlier: 30m, 24h, 7d ago, or an RFC 3339 time. Default: now."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="End after so many. Default: never.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    Show outcomes as they come, one line each; with --json whole. Ctrl-C ends it.

    Exit codes: 0 --limit was reached, 130 ended by Ctrl-C.

    \b
    Example:
    moderation-worker watch --config worker.yaml --status failed --status rejected
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.broker.outcome_follower import OutcomeFollower  # noqa: PLC0415 - what is imported here --help need not load

    filters = filter_options.filters_of(
        "0s" if since is None else since,
        None,
        command_id=command_id,
        user=user,
        target=target,
        status=status,
        issuer=issuer,
        action=action,
        app=app,
        error_code=error_code,
    )
    if status and WAITING in status:
        raise typer.BadParameter("an outcome is watched for: what waits has none", param_hint="--status")
    options, _ = kafka_options_of(config)
    try:
        with OutcomeFollower(options, None if since is None else filters.since) as follower:
            for shown, value in enumerate(_matching(follower, filters), start=1):
                print(json_line(value) if as_json else one_line(value, terminal_width()), flush=True)
                if shown == limit:
                    return
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _matching(follower: OutcomeFollower, filters: Filters) -> Iterator[bytes]:
    """Yield the matching outcomes for ever, and say on standard error when Kafka goes away and comes back."""
    answered_at, reported = time.monotonic(), False
    while True:
        values = follower.poll(POLL_SECONDS)
        failure = None if values else follower.failure
        now = time.monotonic()
        if failure is None:
            if reported:
                sys.stderr.write("Kafka answers again\n")
            answered_at, reported = now, False
        elif not reported and now - answered_at > QUIET_SECONDS:
            reported = True
            sys.stderr.write(f"Kafka cannot be reached, and is tried again: {plain(failure)}\n")
        yield from filter(filters.matches_outcome, values)


def one_line(value: bytes, width: int | None) -> str:
    """Return an outcome in one line; where it does not fit, the rest is indented below. No id is ever cut."""
    outcome: Any = outcome_in(value)
    try:
        parts = list(_parts(outcome))
    except STRANGE:
        parts = [strange_record(outcome)]
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}  {part}" if lines[-1].strip() else f"{lines[-1]}{part}"
        if width is not None and len(longer) > width and lines[-1].strip():
            lines.append(f"{INDENT}{part}")
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _parts(outcome: Mapping[str, Any]) -> Iterator[str]:
    for name in ("finished_at", "status", "action"):
        if outcome.get(name) is not None:
            yield plain(outcome[name])
    yield plain(outcome.get("group_id") or outcome.get("room_id") or "")
    results = outcome.get("results")
    users = [each.get("user_id", "") for each in results] if isinstance(results, list) else []
    users = users or list(outcome.get("user_ids", ()))
    if users:
        more = f" and {len(users) - USERS_SHOWN} more" if len(users) > USERS_SHOWN else ""
        yield ", ".join(map(plain, users[:USERS_SHOWN])) + more
    yield plain(outcome.get("command_id", ""))
    error = outcome.get("error")
    if isinstance(error, dict):
        yield plain(error.get("code", ""))
