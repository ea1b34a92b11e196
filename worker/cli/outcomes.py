# `moderation-worker outcomes`: what happened to this command, or to this user? Read from the outcome topic, newest first.
# Exit codes: 0 found, 1 Kafka cannot be reached or read, 2 wrong settings or arguments, 3 nothing was found, 4 a match waits.
#
# It only reads: no group is joined. What can be searched by is in filters.py, how it is shown in formatting.py.

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.shared import NOTHING, WAITS, Config, quiet_libraries
from worker.terminal import plain_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.broker.outcome_reader import OutcomeReader, PartitionProgress
    from worker.cli.filters import OutcomeFilter
    from worker.domain.contract.commands import Decoder

LIMIT: Final = 20


def outcomes(
    config: Config = None,
    *,
    command_id: Annotated[str | None, typer.Option(metavar="ID", help="The command's own id.")] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A user that commands name."),
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
        int, typer.Option(metavar="NUMBER", min=1, max=100_000, help="The most outcomes to show.")
    ] = LIMIT,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="One JSON object per line: whole outcomes, and what waits with the status `waiting`.",
        ),
    ] = False,
) -> None:
    """
    Show what happened to a command or a user: outcomes, newest first, and what still waits.

    Exit codes: 0 outcomes were found, 3 nothing was found, 4 a matching command still waits.

    \b
    Example:
    moderation-worker outcomes --config worker.yaml --user user-1 --since 2h
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker import __version__  # noqa: PLC0415 - what is imported here --help need not load
    from worker.broker.outcome_reader import OutcomeReader  # noqa: PLC0415
    from worker.broker.topics import Topic  # noqa: PLC0415
    from worker.cli import filters  # noqa: PLC0415
    from worker.cli.formatting import format_nothing_found  # noqa: PLC0415
    from worker.domain.contract.commands import Decoder  # noqa: PLC0415
    from worker.domain.contract.outcomes import Worker  # noqa: PLC0415
    from worker.runtime.options import kafka_options, rules_of, worker_name  # noqa: PLC0415
    from worker.settings import load  # noqa: PLC0415

    arguments = {
        "--command-id": command_id, "--user": user, "--target": target, "--request-id": request_id, "--outcome-id": outcome_id,
    }  # fmt: skip
    for option, text in arguments.items():
        if text is not None and not filters.is_utf8(text):
            raise typer.BadParameter("this is not UTF-8 text", param_hint=option)
        if text == "":  # of a variable in a script that was never set
            raise typer.BadParameter(
                "it is empty, and no id is: leave it out, or give one", param_hint=option
            )
    outcome_filter = filters.OutcomeFilter(
        command_id=command_id, user=user, target=target, request_id=request_id, outcome_id=outcome_id
    )
    if not outcome_filter.traits:
        raise typer.BadParameter("give one of --command-id, --user, --target, --request-id, --outcome-id")
    try:
        begin = filters.since(since, time.time())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    settings = load(config, os.environ)
    quiet_libraries(settings)
    options = kafka_options(settings, worker_name(settings))
    rules = rules_of(settings, Topic(options.command_topic, 1), Worker(options.client_name, __version__))
    with OutcomeReader(options, _progress) as reader:
        begun = reader.begun()
        ended = _print_outcomes(reader, outcome_filter, begin, limit, user, as_json=as_json)
        waits = _print_waiting(reader, outcome_filter, Decoder(rules), begun, ended, limit, as_json=as_json)
        if not ended and not waits:
            unseen = reader.unseen(begin, begun)
            text = format_nothing_found(
                outcome_filter, since, unseen, options.outcome_topic, options.command_topic
            )
            sys.stderr.write(f"{text}\n")
            raise typer.Exit(NOTHING)
    if waits:
        raise typer.Exit(WAITS)


def _print_outcomes(
    reader: OutcomeReader,
    outcome_filter: OutcomeFilter,
    begin: float,
    limit: int,
    user: str | None,
    *,
    as_json: bool,
) -> set[str]:
    """Print the matching outcomes as they are found. Return their ids."""
    import msgspec  # noqa: PLC0415

    from worker.cli.formatting import format_outcome  # noqa: PLC0415

    ended: set[str] = set()
    for found in reader.outcomes(outcome_filter.matches_outcome, begin, limit):
        value = found.value or b""
        outcome = msgspec.json.decode(value)
        ended.add(str(outcome["outcome_id"]))
        print(plain_json(value.decode()) if as_json else format_outcome(outcome, user) + "\n", flush=True)
    if len(ended) == limit:
        sys.stderr.write(f"these are the newest {limit}: a higher --limit may show more\n")
    return ended


def _print_waiting(
    reader: OutcomeReader,
    outcome_filter: OutcomeFilter,
    decoder: Decoder,
    begun: Mapping[int, PartitionProgress],
    ended: set[str],
    limit: int,
    *,
    as_json: bool,
) -> int:
    """Print the matching commands that have no outcome yet. Return how many."""
    import msgspec  # noqa: PLC0415

    from worker.cli.formatting import format_waiting, waiting_report  # noqa: PLC0415

    if not outcome_filter.of_commands:
        return 0
    found = reader.waiting(
        begun, lambda record: outcome_filter.matches_command(decoder.decode(record)), limit
    )
    waiting = [each for each in found if each.record.place not in ended]
    for each in waiting:
        report = waiting_report(decoder.decode(each.record), each)
        text = plain_json(msgspec.json.encode(report).decode()) if as_json else format_waiting(report) + "\n"
        print(text, flush=True)
    return len(waiting)


def _progress(count: int, back_to: float) -> None:
    if sys.stderr.isatty():
        clock = time.strftime("%Y-%m-%d %H:%M", time.gmtime(back_to))
        sys.stderr.write(f"\r{count:,} records read, back to {clock} UTC \r")
        sys.stderr.flush()
