# `moderation-worker outcomes`: what happened to this command, or to this user? Read from the outcome topic, the newest first.
# Exit codes: 0 told, 1 Kafka cannot be reached, 2 wrong settings or arguments, 3 there is nothing to tell.
#
# It looks and changes nothing: no group is joined. What can be asked stands in filters.py, how it is told in formatting.py.

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.shared import Config, quiet_libraries
from worker.terminal import plain_json

if TYPE_CHECKING:
    from worker.broker.outcome_reader import OutcomeReader
    from worker.cli.filters import OutcomeFilter

NOTHING: Final = 3
LIMIT: Final = 20


def outcomes(
    config: Config = None,
    *,
    command_id: Annotated[str | None, typer.Option(metavar="ID", help="The command's own id.")] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A user that commands name (rejected commands name none)."),
    ] = None,
    target: Annotated[str | None, typer.Option(metavar="ID", help="A group or room.")] = None,
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="A RequestId of Tencent's.")] = None,
    outcome_id: Annotated[
        str | None, typer.Option(metavar="ID", help="As `duplicate_of` and `superseded_by` name it.")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="How far to look back: 30m, 24h, 7d, or an RFC 3339 time.")
    ] = "24h",
    limit: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=100_000, help="Tell at most so many.")
    ] = LIMIT,
    as_json: Annotated[
        bool, typer.Option("--json", help="The outcomes whole, one JSON object a line.")
    ] = False,
) -> None:
    """
    What happened to a command or a user: outcomes, the newest first, and what still waits.

    \b
    Example:  moderation-worker outcomes --config worker.yaml --user user-1 --since 2h
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.broker.outcome_reader import OutcomeReader  # noqa: PLC0415 - what is imported here --help need not load
    from worker.cli import filters  # noqa: PLC0415
    from worker.runtime.options import kafka_options, worker_name  # noqa: PLC0415
    from worker.settings import load  # noqa: PLC0415

    question = filters.OutcomeFilter(
        command_id=command_id, user=user, target=target, request_id=request_id, outcome_id=outcome_id
    )
    if not question.traits:
        raise typer.BadParameter("give one of --command-id, --user, --target, --request-id, --outcome-id")
    try:
        begin = filters.since(since, time.time())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    settings = load(config, os.environ)
    quiet_libraries(settings)
    with OutcomeReader(kafka_options(settings, worker_name(settings)), _progress) as history:
        told = _tell(history, question, begin, limit, user, as_json=as_json)
    if not told:
        sys.stderr.write(
            f"no outcome of {question} since {since}, and no such command waits: it never came, or is older than --since, "
            "or could not be read (then it is a dead letter without an outcome)\n"
        )
        raise typer.Exit(NOTHING)


def _tell(
    history: OutcomeReader,
    question: OutcomeFilter,
    begin: float,
    limit: int,
    user: str | None,
    *,
    as_json: bool,
) -> int:
    """Prints what there is, as it is found; returns how much."""
    import msgspec  # noqa: PLC0415

    from worker.cli.formatting import outcome_told, waiting_told  # noqa: PLC0415

    begun = history.begun()
    ended: set[str] = set()
    for found in history.outcomes(question.asks_for_outcome, begin, limit):
        outcome = msgspec.json.decode(found.value)
        ended.add(outcome["outcome_id"])
        print(plain_json(found.value.decode()) if as_json else outcome_told(outcome, user) + "\n", flush=True)
    waiting = [
        each
        for each in history.waiting(begun, question.asks_for_command, limit)
        if each.record.place not in ended
    ]
    for each in waiting:
        text = waiting_told(
            msgspec.json.decode(each.record.value), each.record.place, each.record.written_at, each.ahead
        )
        print(text + "\n", file=sys.stderr if as_json else sys.stdout, flush=True)
    if len(ended) == limit:
        sys.stderr.write(f"these are the newest {limit}: --limit tells more\n")
    return len(ended) + len(waiting)


def _progress(count: int, back_to: float) -> None:
    if sys.stderr.isatty():
        clock = time.strftime("%Y-%m-%d %H:%M", time.gmtime(back_to))
        sys.stderr.write(f"\r{count:,} records read, back to {clock} UTC \r")
        sys.stderr.flush()
