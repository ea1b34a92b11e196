# `moderation-worker outcomes`: what happened to this command, to this user, in this room, between three and five past three?
# Exit codes: 0 found, 1 Kafka cannot be reached or read, 2 wrong settings or arguments, 3 nothing was found, 4 a match waits.
#
# It only reads: no group is joined. What can be searched by is in filters.py, how it is shown in outcome_formatting.py and
# count_tables.py.

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from worker.cli import filter_options
from worker.cli.filters import IDS, TRAITS, WAITING
from worker.cli.progress_line import clear_progress, show_progress
from worker.cli.shared import NOTHING, WAITS, AsJson, Config, kafka_options_of, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.broker.command_history import CommandHistory, FinishedOffsets
    from worker.cli.filters import Filters
    from worker.domain.contract.command_decoding import CommandDecoder

ONLY_WAITING: Final = frozenset({WAITING})
LIMIT: Final = 20
TOGETHER: Final = 10_000
"""Outcomes that are counted at once: some megabytes, among which many are alike."""


def outcomes(
    config: Config = None,
    *,
    command_id: filter_options.CommandId = None,
    user: filter_options.User = None,
    target: filter_options.Target = None,
    request_id: filter_options.RequestId = None,
    outcome_id: filter_options.OutcomeId = None,
    status: filter_options.StatusOption = None,
    issuer: filter_options.Issuer = None,
    action: filter_options.ActionOption = None,
    app: filter_options.App = None,
    error_code: filter_options.ErrorCode = None,
    since: filter_options.Since = "24h",
    until: filter_options.Until = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIT",
            help="Count instead: by target, user, issuer, error_code, status or action.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=100_000, help="The most outcomes, or rows, to show.")
    ] = LIMIT,
    as_json: AsJson = False,
) -> None:
    """
    Show what happened: outcomes, newest first, and what still waits; or count them.

    Each option may be given several times: any of its values matches. What waits is looked at where a command, user or
    target is asked for, or with --status waiting.

    Exit codes: 0 outcomes were found, 3 nothing was found, 4 a matching command still waits.

    \b
    Example:
    moderation-worker outcomes --config worker.yaml --user user-1 --since 2h
    moderation-worker outcomes --config worker.yaml --status failed --by target
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.broker.command_history import CommandHistory  # noqa: PLC0415 - what is imported here --help need not load
    from worker.cli.count_tables import COUNTED  # noqa: PLC0415
    from worker.cli.outcome_formatting import format_nothing_found  # noqa: PLC0415

    filters = filter_options.filters_of(
        since, until, command_id=command_id, user=user, target=target, request_id=request_id, outcome_id=outcome_id,
        status=status, issuer=issuer, action=action, app=app, error_code=error_code,
    )  # fmt: skip
    if by is not None:
        by = filter_options.one_of("--by", by.replace("-", "_"), COUNTED)
        if status and WAITING in status:
            raise typer.BadParameter(
                "--by counts outcomes: a waiting command has none", param_hint="--status"
            )
        filters = replace(filters, fields=("status", *TRAITS[by].fields))
    options, decoder = kafka_options_of(config)
    with CommandHistory(options, show_progress) as history:
        if by is not None:
            _print_table(history, filters, by, limit, as_json=as_json)
            return
        group_progress = history.group_progress()
        ended = _print_outcomes(history, filters, limit, user, as_json=as_json)
        waits = 0
        if _asks_for_waiting(filters):
            waits = _print_waiting(history, filters, decoder, group_progress, ended, limit, as_json=as_json)
        if not ended and not waits:
            gaps = history.search_gaps(filters.since, group_progress)
            text = format_nothing_found(
                filters, since, gaps, options, with_waiting=_asks_for_waiting(filters)
            )
            sys.stderr.write(f"{text}\n")
            raise typer.Exit(NOTHING)
    if waits:
        raise typer.Exit(WAITS)


class OutcomeMatcher:
    """
    Decides which outcomes match.

    Attributes:
        skipped: How many records were no outcomes.

    """

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self.skipped = 0

    def __call__(self, value: bytes) -> bool:
        """Return whether it is an outcome that matches."""
        return bool(self.views([value]))

    def views(self, values: Sequence[bytes]) -> list[Any]:
        """Return the fields of those that are outcomes and match."""
        views = self._filters.views(values)
        self.skipped += len(values) - len(views)
        return list(filter(self._filters.matches, views)) if self._filters.traits else views

    def report(self, topic: str) -> None:
        """Say on standard error how many records were skipped, if any."""
        if self.skipped:
            sys.stderr.write(f"{self.skipped:,} records of {topic} are no outcomes, and were skipped\n")


def _asks_for_waiting(filters: Filters) -> bool:
    """Return whether commands without an outcome are looked for: what waits is no part of a question about outcomes in general."""
    asked = filters.traits.get("status", ()) or any(name in filters.traits for name in IDS)
    return filters.can_match_waiting and bool(asked)


def _print_table(history: CommandHistory, filters: Filters, by: str, limit: int, *, as_json: bool) -> None:
    """Print the counts of the matching outcomes."""
    from worker.cli.count_tables import CountTable, format_table, outcome_counter  # noqa: PLC0415

    table, matcher = CountTable(by), OutcomeMatcher(filters)
    count, views = outcome_counter(table, filters), list[Any]()
    for values in history.every_outcome(filters.since, until=filters.until, terms=filters.terms):
        views += matcher.views(values)
        if len(views) > TOGETHER:
            count(views)
            views.clear()
    count(views)
    clear_progress()
    matcher.report(history.outcome_topic)
    if not table.counted:
        sys.stderr.write(f"no outcome of {filters} in that time\n")
        raise typer.Exit(NOTHING)
    if as_json:
        print_json(table.report(limit))
    else:
        print(format_table(table, limit))


def _print_outcomes(
    history: CommandHistory, filters: Filters, limit: int, users: list[str] | None, *, as_json: bool
) -> set[str]:
    """Print the matching outcomes as they are found. Return their ids."""
    from worker.cli.outcome_formatting import format_outcome, json_line, outcome_in  # noqa: PLC0415

    ended: set[str] = set()
    if filters.traits.get("status") == ONLY_WAITING:
        return ended
    matcher = OutcomeMatcher(filters)
    matching = history.outcomes(matcher, filters.since, limit, until=filters.until, terms=filters.terms)
    for value in matching:
        ended.add(filters.read(value).outcome_id)
        clear_progress()
        text = json_line(value) if as_json else format_outcome(outcome_in(value), users) + "\n"
        print(text, flush=True)
    clear_progress()
    matcher.report(history.outcome_topic)
    if len(ended) == limit:
        sys.stderr.write(f"these are the newest {limit}: a higher --limit may show more\n")
    return ended


def _print_waiting(
    history: CommandHistory,
    filters: Filters,
    decoder: CommandDecoder,
    group_progress: Mapping[int, FinishedOffsets],
    ended: set[str],
    limit: int,
    *,
    as_json: bool,
) -> int:
    """Print the matching commands that have no outcome yet. Return how many."""
    from worker.cli.outcome_formatting import format_waiting, waiting_report  # noqa: PLC0415
    from worker.domain.contract.raw_records import place_of  # noqa: PLC0415

    def still_waits(record: Any) -> bool:
        place = place_of(record.topic, record.partition, record.offset)
        return place not in ended and filters.matches_command(decoder.decode(record))

    found = history.waiting(group_progress, still_waits, limit + 1)
    waiting = found[:limit]
    for each in waiting:
        report = waiting_report(decoder.decode(each.record), each)
        if as_json:
            print_json(report)
        else:
            print(format_waiting(report) + "\n", flush=True)
    if len(found) > limit:
        sys.stderr.write(f"these are the oldest {limit} that wait: a higher --limit may show more\n")
    return len(waiting)
