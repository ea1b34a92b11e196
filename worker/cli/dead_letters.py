# `moderation-worker dead-letters list | show | replay`: what could not be carried out, and sending it again. Exit codes: 0 found,
# or sent; 1 Kafka cannot be reached, or a command was not written; 2 wrong settings or arguments; 3 nothing was found; 7
# `replay`: some letters are not sent again, or an --id has none, and why is said.
#
# `list` and `show` only read, and so does `replay` without --send. How a letter is displayed: dead_letter_view.py. Which are sent
# again: replay_plan.py.

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import filter_options
from worker.cli.help_groups import OnceEach
from worker.cli.progress_line import clear_progress, show_progress
from worker.cli.shared import LEFT_OUT, NOTHING, AsJson, Config, kafka_options_of, print_json
from worker.printable_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.broker.command_producer import OutgoingCommand
    from worker.broker.options import KafkaOptions
    from worker.cli.dead_letter_view import DeadLetterView
    from worker.cli.filters import Filters
    from worker.cli.replay_plan import ReplayCandidate, ReplayPlanner, ReplayRefusal
    from worker.domain.contract.command_decoding import CommandDecoder

LIMIT = 20
NAMED = 5
"""The most letters that are named for each reason why they are not sent again."""

Code = Annotated[
    filter_options.Values,
    typer.Option("--code", metavar="CODE", help="The reason: Tencent's number, or the name of a rejection."),
]
Limit = Annotated[
    int,
    typer.Option("--limit", metavar="NUMBER", min=1, max=100_000, help="The most letters, or rows, to show."),
]

dead_letters = typer.Typer(
    name="dead-letters", help="Show what could not be carried out, and send it again.", no_args_is_help=True
)


@dead_letters.callback()
def _dead_letters() -> None:
    pass


@dead_letters.command("list", cls=OnceEach)
def list_letters(
    config: Config = None,
    *,
    code: Code = None,
    status: filter_options.LetterStatus = None,
    issuer: filter_options.Issuer = None,
    action: filter_options.ActionOption = None,
    target: filter_options.Target = None,
    user: filter_options.User = None,
    app: filter_options.App = None,
    since: filter_options.Since = "24h",
    until: filter_options.Until = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="TRAIT", help="Count instead: by code, status, issuer, action, target or user."),
    ] = None,
    limit: Limit = LIMIT,
    as_json: AsJson = False,
) -> None:
    """
    List dead letters, newest first, or count them.

    Exit codes: 0 there are some, 3 there are none.

    \b
    Example:
    moderation-worker dead-letters list --config worker.yaml --by code
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.cli.dead_letter_view import COUNTED, format_letter, report  # noqa: PLC0415 - what is imported here --help need not load

    _check_status(status)
    filters = filter_options.filters_of(
        since,
        until,
        error_code=code,
        status=status,
        issuer=issuer,
        action=action,
        target=target,
        user=user,
        app=app,
    )
    if by is not None:
        by = filter_options.one_of("--by", by, COUNTED)
    options, decoder = kafka_options_of(config)
    letters = _matching(options, decoder, filters)
    if by is not None:
        _print_table(letters, by, limit, filters, as_json=as_json)
        return
    newest = _newest(letters, limit)
    clear_progress()
    _end_if_none(len(newest), filters)
    for letter in newest:
        if as_json:
            print_json(report(letter, whole=False))
        else:
            print(format_letter(letter) + "\n")
    if len(newest) == limit:
        sys.stderr.write(f"these are the newest {limit}: a higher --limit may show more\n")


@dead_letters.command(cls=OnceEach)
def show(
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="A command_id, an outcome_id, or the letter's own place.")
    ],
    config: Config = None,
    *,
    since: filter_options.Since = "7d",
    as_json: AsJson = False,
) -> None:
    """
    Show a dead letter whole: its headers, its key and its value.

    Exit codes: 0 there is one, 3 there is none.

    \b
    Example:
    moderation-worker dead-letters show --config worker.yaml ban-0001
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.cli.dead_letter_view import format_whole, report  # noqa: PLC0415

    filter_options.check_text("ID", letter_id)
    filters = filter_options.filters_of(since, None)
    options, decoder = kafka_options_of(config)
    found = [each for each in _matching(options, decoder, filters) if letter_id in each.names]
    clear_progress()
    if not found:
        sys.stderr.write(
            f"no dead letter {plain(letter_id)} since {plain(since)}: give the command_id or outcome_id that "
            "`dead-letters list` shows, or a longer --since\n"
        )
        raise typer.Exit(NOTHING)
    for letter in found:
        if as_json:
            print_json(report(letter, whole=True))
        else:
            print(format_whole(letter) + "\n")


@dead_letters.command(cls=OnceEach)
def replay(
    config: Config = None,
    *,
    letter_id: Annotated[
        filter_options.Values,
        typer.Option("--id", metavar="ID", help="A command_id, an outcome_id, or the letter's own place."),
    ] = None,
    code: Code = None,
    status: filter_options.LetterStatus = None,
    issuer: filter_options.Issuer = None,
    action: filter_options.ActionOption = None,
    target: filter_options.Target = None,
    user: filter_options.User = None,
    app: filter_options.App = None,
    since: filter_options.Since = "24h",
    until: filter_options.Until = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send them. Without this, only show what would be sent.")
    ] = False,
    allow_overtaking: Annotated[
        bool,
        typer.Option(
            "--allow-overtaking", help="Send also what is older than a later command of the same user."
        ),
    ] = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Send also what the worker would reject again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """
    Send dead letters again, as they came: same value, key and command_id, in order. A dry run, unless --send is given.

    A failed or cancelled command is not done, so the same id is carried out. Not sent, and shown with the reason: what a later
    command for the same user has overtaken, what came again already, whose time is over, and what would be rejected again.

    Exit codes: 0 there is something to send, or all was sent; 3 no letter matches; 7 some are not sent, or an --id has no letter, and
    why is shown.

    \b
    Example:
    moderation-worker dead-letters replay -c worker.yaml --code 10010 --since 2h
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.cli.replay_plan import ReplayRefusal  # noqa: PLC0415
    from worker.cli.send_planned_commands import send_all  # noqa: PLC0415

    _check_status(status)
    for each in letter_id or ():
        filter_options.check_text("--id", each)
    filters = filter_options.filters_of(
        since,
        until,
        error_code=code,
        status=status,
        issuer=issuer,
        action=action,
        target=target,
        user=user,
        app=app,
    )
    forced = frozenset(
        refusal
        for refusal, is_forced in (
            (ReplayRefusal.OVERTAKES, allow_overtaking),
            (ReplayRefusal.REJECTED, rejected),
        )
        if is_forced
    )
    options, decoder = kafka_options_of(config)
    wanted = frozenset(letter_id or ())
    letters = [
        each
        for each in _matching(options, decoder, filters)
        if not wanted or not wanted.isdisjoint(each.names)
    ]
    clear_progress()
    _end_if_none(len(letters), filters, letter_id or ())
    not_found = sorted(wanted.difference(*(each.names for each in letters)))
    planner = _plan_replay(options, decoder, letters, forced)
    ready = planner.finish()
    _show_replay(planner.candidates, ready, not_found, as_json=as_json, send=send)
    if ready and send:
        retry_hint = "give the same command again for the rest: what is in Kafka now is left out then"
        send_all(options, [_outgoing(each) for each in ready], retry_hint=retry_hint, as_json=as_json)
    elif ready and not as_json:
        print("\nnothing was sent: --send sends them")
    if len(ready) < len(planner.candidates) or not_found:
        raise typer.Exit(LEFT_OUT)


def _check_status(status: filter_options.Values) -> None:
    for each in status or ():
        filter_options.one_of("--status", each, filter_options.LETTER_STATUSES)


def _matching(options: KafkaOptions, decoder: CommandDecoder, filters: Filters) -> Iterator[DeadLetterView]:
    from worker.broker.dead_letter_reader import dead_letters as read  # noqa: PLC0415
    from worker.cli.dead_letter_view import letter_of  # noqa: PLC0415

    for found in read(options, filters.since, filters.until, show_progress):
        letter = letter_of(found, decoder)
        if letter.matches(filters):
            yield letter


def _newest(letters: Iterator[DeadLetterView], limit: int) -> list[DeadLetterView]:
    import heapq  # noqa: PLC0415

    def age(letter: DeadLetterView) -> tuple[int, int, int]:
        found = letter.found
        return found.timestamp, found.partition, found.offset

    return heapq.nlargest(limit, letters, key=age)


def _print_table(
    letters: Iterator[DeadLetterView], by: str, limit: int, filters: Filters, *, as_json: bool
) -> None:
    from worker.cli.count_tables import CountTable, format_table  # noqa: PLC0415

    table = CountTable(by)
    wanted = filters.traits.get("error_code" if by == "code" else by)
    for letter in letters:
        values = [value for value in letter.values(by) if wanted is None or value in wanted]
        table.count(values, letter.status)
    clear_progress()
    _end_if_none(table.counted, filters)
    if as_json:
        print_json(table.report(limit))
    else:
        print(format_table(table, limit, "letters"))


def _end_if_none(count: int, filters: Filters, ids: Sequence[str] = ()) -> None:
    """End the program with exit code 3 if no letter was found. ``ids`` are those that were asked for by name."""
    if count == 0:
        named = f" {' or '.join(map(plain, ids))}" if ids else ""
        sys.stderr.write(f"no dead letter{named} of {filters} in that time\n")
        raise typer.Exit(NOTHING)


def _plan_replay(
    options: KafkaOptions,
    decoder: CommandDecoder,
    letters: list[DeadLetterView],
    forced: frozenset[ReplayRefusal],
) -> ReplayPlanner:
    """Return a planner that has seen everything that came after these letters."""
    from worker.broker.command_history import CommandHistory  # noqa: PLC0415
    from worker.broker.offset_range_reader import CLOCKS_APART  # noqa: PLC0415
    from worker.cli.later_commands import see_later_commands  # noqa: PLC0415
    from worker.cli.replay_plan import ReplayCandidate, ReplayPlanner  # noqa: PLC0415

    candidates = [
        ReplayCandidate(
            each.found.place,
            each.found.timestamp,
            each.original,
            each.read,
            detail=getattr(each.found.letter, "reason", ""),
        )
        for each in letters
    ]
    planner = ReplayPlanner(candidates, options.command_topic, time.time(), forced)
    if planner.all_refused:
        return planner
    oldest = min(each.found.timestamp for each in letters) / 1000
    with CommandHistory(options, show_progress) as history:
        see_later_commands(options, decoder, history, max(0.0, oldest - CLOCKS_APART), planner)
    clear_progress()
    return planner


def _outgoing(candidate: ReplayCandidate) -> OutgoingCommand:
    from worker.broker.command_producer import OutgoingCommand  # noqa: PLC0415

    letter = candidate.letter
    assert letter is not None
    assert letter.value is not None
    return OutgoingCommand(letter.value, letter.key, letter.headers, letter.partition)


def _show_replay(
    candidates: list[ReplayCandidate],
    ready: list[ReplayCandidate],
    not_found: list[str],
    *,
    as_json: bool,
    send: bool,
) -> None:
    if as_json:
        print_json(
            {
                "letters": len(candidates),
                "replayed": len(ready),
                "send": send,
                "commands": [
                    {"place": each.place, "command_id": getattr(each.command, "command_id", None)}
                    for each in ready
                ],
                "left_out": [
                    {"place": each.place, "reason": each.refusal, "detail": each.detail}
                    for each in candidates
                    if each.refusal is not None
                ],
                "not_found": not_found,
            }
        )
        return
    print(f"{len(candidates):,} dead letters")
    if ready:
        verb = "being" if send else "would be"
        print(f"{len(ready):>9,}  {verb} sent again, in the order in which they came")
    _show_left_out(candidates)
    if not_found:
        more = f" and {len(not_found) - NAMED:,} more (--json names all)" if len(not_found) > NAMED else ""
        print(f"{len(not_found):>9,}  --id without a letter in that time, or with other traits:")
        print(f"           {', '.join(map(plain, not_found[:NAMED]))}{more}")
    _show_counts(ready)


def _show_left_out(candidates: list[ReplayCandidate]) -> None:
    from worker.cli.replay_plan import MAY_BE_FORCED  # noqa: PLC0415

    refusals = Counter(each.refusal for each in candidates if each.refusal is not None)
    for refusal, count in refusals.most_common():
        option = MAY_BE_FORCED.get(refusal)
        print(f"{count:>9,}  not sent: {refusal}{f' ({option} sends it)' if option else ''}")
        named = [each for each in candidates if each.refusal is refusal]
        for each in named[:NAMED]:
            name = getattr(each.command, "command_id", None) or each.place
            print(f"           {plain(name)}\n               {plain(each.detail)}")
        if len(named) > NAMED:
            print(f"           and {len(named) - NAMED:,} more (--json names all)")


def _show_counts(ready: list[ReplayCandidate]) -> None:
    from worker.cli.count_tables import CountTable, format_table  # noqa: PLC0415

    for by in ("error_code", "issuer", "target") if ready else ():
        table = CountTable(by, by)
        for each in ready:
            code = [] if each.letter is None else [each.letter.error_code]
            issuer = getattr(each.command, "issuer", None)
            target = None if each.command is None else each.command.target
            values = {
                "error_code": code,
                "issuer": [issuer] if issuer else [],
                "target": [target] if target else [],
            }
            table.count(values[by], by)
        print()
        print(format_table(table, LIMIT, "letters", more=""))
