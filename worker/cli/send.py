# `moderation-worker send`: commands into the command topic, from options or as lines of JSON. Exit codes: 0 sent, 1 Kafka
# cannot be reached or refuses, 2 wrong settings, options or commands (nothing was sent); with --wait 4, 5 or 6 by the
# worst outcome (wait_for_outcomes.py).
#
# Its options are made from the table of a command's fields, so none can be missing. What is judged, and how, is in
# command_input.py; how it is written in broker/command_producer.py.

from __future__ import annotations

import inspect
import sys
import uuid
from collections import Counter
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from worker.cli.shared import (
    WRONG,
    AsJson,
    Config,
    kafka_options_of,
    print_json,
    terminal_width,
    with_config,
)
from worker.cli.text_wrapping import wrapped
from worker.domain.contract.json_schemas import command_schema
from worker.domain.contract.raw_records import place_of
from worker.printable_text import plain
from worker.redaction import without_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.broker.command_producer import CommandProducer, UnconfirmedCommand, WrittenCommand
    from worker.broker.options import KafkaOptions
    from worker.broker.outcome_follower import OutcomeFollower
    from worker.cli.command_input import CommandInput
    from worker.cli.wait_for_outcomes import OutcomeHead
    from worker.domain.contract.command_decoding import CommandDecoder

TIMEOUT: Final = 60.0
STANDARD_INPUT: Final = "-"
SHOWN_IN_FULL: Final = 3
"""The most outcomes that are shown whole; of more, one line each of those that were not applied, and a count."""


def send(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="A file of commands, one JSON object per line; - is standard input."
        ),
    ] = None,
    config: Config = None,
    *,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Wait for the outcomes, and exit with 4 if a command has none yet, else by the worst of them.",
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            max=86_400,
            help="With --wait: how long.",
            show_default=f"{TIMEOUT:g}",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge the commands, and send nothing.")] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Send the valid lines although others are not.")
    ] = False,
    as_json: AsJson = False,
    **fields: Any,
) -> None:
    """
    Send one command from options, or commands from lines of JSON.

    All are judged before any is sent, as the worker judges them, and go where their group's or room's commands belong.

    Exit codes: 0 sent, 2 nothing was sent as something is wrong; with --wait 4 no outcome in time, 5 failed or rejected, 6 expired
    or cancelled.

    \b
    Examples:
    moderation-worker send --config worker.yaml --wait \\
      --action group.ban_group_member --group-id group-42 \\
      --user user-1 --duration 3600 --reason spam
    moderation-worker send commands.jsonl --config worker.yaml --dry-run
    """  # noqa: D301 - the escape keeps the examples from being wrapped
    given = {name: value for name, value in fields.items() if value not in (None, [])}
    _refuse_mixtures(source, given, skip_invalid=skip_invalid)
    if timeout is not None and not wait:
        raise typer.BadParameter("nothing is waited for: give --wait as well", param_hint="--timeout")
    from worker.cli.command_input import open_spool  # noqa: PLC0415 - what is imported here --help need not load

    options, decoder = kafka_options_of(config)
    seconds = None
    if wait:
        seconds = TIMEOUT if timeout is None else timeout
    with open_spool() as spool:
        judged = _judge(source, given, decoder, spool)
        raise typer.Exit(
            _send_valid(
                options,
                decoder,
                judged,
                seconds,
                ask=with_config("outcomes", config),
                dry_run=dry_run,
                skip_invalid=skip_invalid,
                as_json=as_json,
            )
        )


def _send_valid(
    options: KafkaOptions,
    decoder: CommandDecoder,
    judged: CommandInput,
    seconds: float | None,
    *,
    ask: str,
    dry_run: bool,
    skip_invalid: bool,
    as_json: bool,
) -> int:
    """Send what may be sent, and return the exit code. ``ask`` is the command that shows outcomes later."""
    if judged.invalid and (judged.unusable or not skip_invalid or not judged.identities):
        _print_problems(judged, as_json=as_json, skipped=False)
        return WRONG
    if judged.invalid:
        _print_problems(judged, as_json=as_json, skipped=True)
    if dry_run:
        _print_dry_run(judged, as_json=as_json)
        return 0
    return _send(options, decoder, judged, seconds, ask=ask, as_json=as_json)


def _refuse_mixtures(source: str | None, given: Mapping[str, Any], *, skip_invalid: bool) -> None:
    if source is not None and given:
        names = ", ".join(_flag(name) for name in given)
        raise typer.BadParameter(f"give a file or the command's own options ({names}), not both")
    if source is None and not given:
        raise typer.BadParameter("give a file of commands, - for standard input, or --action and its options")
    if source is None and skip_invalid:
        raise typer.BadParameter("there is nothing to skip in one command", param_hint="--skip-invalid")


def _judge(
    source: str | None, given: Mapping[str, Any], decoder: CommandDecoder, spool: IO[bytes]
) -> CommandInput:
    from worker.cli.command_input import judge_lines, judge_options  # noqa: PLC0415

    if source is None:
        return judge_options({"command_id": f"send-{uuid.uuid4()}", **given}, decoder, spool)
    with _open_source(source) as stream:
        try:
            return judge_lines(stream, decoder, spool)
        except OSError as error:
            raise _unreadable(source, error) from error


def _open_source(source: str) -> Any:
    if source == STANDARD_INPUT:
        if sys.stdin is None:
            raise typer.BadParameter("standard input is closed", param_hint="FILE")
        return nullcontext(sys.stdin.buffer)
    try:
        return open(source, "rb")  # noqa: PTH123 - closed by the caller; a pipe of a shell is a file as well
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: str, error: Exception) -> typer.BadParameter:
    why = error.strerror if isinstance(error, OSError) and error.strerror else "no file can have this name"
    return typer.BadParameter(
        f"{plain(without_keys(source))} cannot be read: {why.lower()}", param_hint="FILE"
    )


def _print_problems(judged: CommandInput, *, as_json: bool, skipped: bool) -> None:
    """Print what is wrong with the invalid lines; ``skipped`` says that the valid ones are sent without them."""
    if as_json:
        for problem in judged.problems:
            found = {
                "line": problem.line,
                "code": problem.code,
                "field": problem.field and without_keys(problem.field),
                "remedy": without_keys(problem.remedy),
            }
            line = {name: value for name, value in found.items() if value is not None}
            print_json({"status": "invalid", **line})
        return
    width = terminal_width() if sys.stderr.isatty() else None
    lines = [wrapped(plain(without_keys(str(problem))), width, "  ") for problem in judged.problems]
    listed = len({problem.line for problem in judged.problems})
    if judged.invalid > listed:
        lines.append(f"  … and {judged.invalid - listed:,} more lines")
    what = "1 command is" if judged.invalid == 1 else f"{judged.invalid:,} commands are"
    then = "and skipped" if skipped else "so nothing was sent"
    sys.stderr.write("\n".join([f"{what} not valid, {then}:", *lines]) + "\n")


def _print_dry_run(judged: CommandInput, *, as_json: bool) -> None:
    if as_json:
        for line, command_id in judged.identities:
            print_json({"status": "valid", "command_id": command_id, **({"line": line} if line else {})})
    else:
        print(f"would send {_count_in_words(judged)}; nothing was sent")


def _count_in_words(judged: CommandInput) -> str:
    commands, targets = len(judged.identities), len(judged.targets)
    return (
        f"{commands:,} {'command' if commands == 1 else 'commands'} "
        f"to {targets:,} {'target' if targets == 1 else 'targets'}"
    )


def _send(
    options: KafkaOptions,
    decoder: CommandDecoder,
    judged: CommandInput,
    seconds: float | None,
    *,
    ask: str,
    as_json: bool,
) -> int:
    """Send what is valid, wait if asked to, print what became of it, and return the exit code."""
    from worker.broker.command_producer import CommandProducer, UnconfirmedCommand  # noqa: PLC0415
    from worker.broker.outcome_follower import OutcomeFollower  # noqa: PLC0415
    from worker.cli.send_planned_commands import exit_code_of_unconfirmed  # noqa: PLC0415

    following = nullcontext() if seconds is None else OutcomeFollower(options)
    with following as follower:  # opened first: outcomes come as soon as commands do
        with CommandProducer(options) as producer:
            results = _produce(producer, decoder, judged)
        places = _print_sent(options, judged, results, as_json=as_json, quiet=follower is not None)
        if len(places) < len(judged.identities):
            return exit_code_of_unconfirmed(each for each in results if isinstance(each, UnconfirmedCommand))
        if follower is None or seconds is None:
            return 0
        return _await(follower, places, seconds, ask=ask, as_json=as_json)


def _produce(
    producer: CommandProducer, decoder: CommandDecoder, judged: CommandInput
) -> Sequence[WrittenCommand | UnconfirmedCommand]:
    if len(judged.identities) <= SHOWN_IN_FULL or not sys.stderr.isatty():
        return producer.produce(judged.commands(decoder))
    with _progress(len(judged.identities), "sent") as advance:
        return producer.produce(judged.commands(decoder), advance)


def _progress(total: int, what: str) -> Any:
    from contextlib import contextmanager  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    @contextmanager
    def shown() -> Any:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda count: progress.update(task, completed=count)

    return shown()


def _print_sent(
    options: KafkaOptions,
    judged: CommandInput,
    results: Sequence[WrittenCommand | UnconfirmedCommand],
    *,
    as_json: bool,
    quiet: bool,
) -> dict[str, str]:
    """Print what was sent, and what was not. Return the outcome_id of each command that was, with its command_id."""
    from worker.broker.command_producer import UnconfirmedCommand  # noqa: PLC0415

    places: dict[str, str] = {}
    failed: list[tuple[int, UnconfirmedCommand]] = []
    for (line, command_id), result in zip(judged.identities, results, strict=False):
        if isinstance(result, UnconfirmedCommand):
            failed.append((line, result))
            if as_json:
                status = "unknown" if result.may_be_written else "not_sent"
                print_json(
                    {"status": status, "command_id": command_id, "reason": without_keys(result.reason)}
                )
            continue
        place = place_of(options.command_topic, result.partition, result.offset)
        places[place] = command_id
        if as_json and not quiet:
            print_json({"status": "sent", "command_id": command_id, "outcome_id": place})
        elif not as_json and len(judged.identities) <= SHOWN_IN_FULL:
            print(f"sent {plain(command_id)} as {place}", flush=True)
    if not as_json and len(judged.identities) > SHOWN_IN_FULL:
        print(f"sent {len(places):,} of {_count_in_words(judged)}", flush=True)
    if len(places) < len(judged.identities):
        _print_unsent(judged, results, failed)
    return places


def _print_unsent(
    judged: CommandInput, results: Sequence[object], failed: Sequence[tuple[int, UnconfirmedCommand]]
) -> None:
    missing = len(judged.identities) - len(results) + len(failed)
    line, first = failed[0] if failed else (judged.identities[len(results)][0], None)
    why = "interrupted" if first is None else first.reason
    where = f" from line {line} on" if line else ""
    sys.stderr.write(
        f"{missing:,} not sent{where}: {plain(without_keys(why))}\n"
        "The same again is safe: what was carried out already will be a duplicate.\n"
    )


def _await(
    follower: OutcomeFollower, places: Mapping[str, str], seconds: float, *, ask: str, as_json: bool
) -> int:
    from worker.cli.wait_for_outcomes import exit_code, follow  # noqa: PLC0415

    statuses: Counter[Any] = Counter()
    show = _outcome_printer(len(places), as_json=as_json)

    def on_outcome(head: OutcomeHead, value: bytes) -> None:
        statuses[head.status] += 1
        show(head, value)
        advance(statuses.total())

    no_bar = len(places) <= SHOWN_IN_FULL or not sys.stderr.isatty()
    missing = set(places)
    try:
        with nullcontext(lambda _: None) if no_bar else _progress(len(places), "outcomes") as advance:
            follow(follower, missing, seconds, on_outcome)
    finally:  # after Ctrl-C too: a script must know what was sent
        if as_json:
            for place in sorted(missing):
                print_json({"status": "waiting", "outcome_id": place, "command_id": places[place]})
    if not as_json and len(places) > SHOWN_IN_FULL:
        print(", ".join(f"{count:,} {status}" for status, count in statuses.most_common()) or "no outcome")
    if missing:
        _print_missing([places[place] for place in sorted(missing)], seconds, ask)
    return exit_code(statuses, waits=bool(missing))


def _outcome_printer(count: int, *, as_json: bool) -> Callable[[OutcomeHead, bytes], None]:
    """Return the function that prints one of ``count`` outcomes."""
    from worker.cli.outcome_formatting import format_outcome, json_line, outcome_in  # noqa: PLC0415
    from worker.cli.wait_for_outcomes import exit_code  # noqa: PLC0415

    def whole(_head: OutcomeHead, value: bytes) -> None:
        print(format_outcome(outcome_in(value)), flush=True)

    def line(head: OutcomeHead, _value: bytes) -> None:
        if exit_code([head.status], waits=False):
            error = "" if head.error is None else head.error.message
            print(plain(f"{head.status}  {head.command_id}  {error}").rstrip(), flush=True)

    def json(_head: OutcomeHead, value: bytes) -> None:
        print(json_line(value), flush=True)

    if as_json:
        return json
    return whole if count <= SHOWN_IN_FULL else line


def _print_missing(command_ids: Sequence[str], seconds: float, ask: str) -> None:
    import shlex  # noqa: PLC0415

    count = len(command_ids)
    what = "1 command has" if count == 1 else f"{count:,} commands have"
    sys.stderr.write(
        f"{what} no outcome after {seconds:g} s: is a worker running, and ready? Ask later:\n"
        f"  {ask} --command-id {shlex.quote(plain(command_ids[0]))}\n"
    )


def _flag(name: str) -> str:
    return "--user" if name == "user_ids" else "--" + name.replace("_", "-")


def _json_object(text: str) -> Any:
    import msgspec  # noqa: PLC0415

    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise typer.BadParameter(f"give a JSON object ({error})") from error


_TYPES: Final[dict[str, Any]] = {"integer": int, "array": list[str]}
_METAVARS: Final = {"date-time": "TIME", "integer": "NUMBER", "object": "JSON", "array": "ID"}


def _parameters() -> list[inspect.Parameter]:
    """Return an option for each field of a command, from its schema; ``member_info`` has one for each of its own fields."""
    schema = command_schema()["properties"]
    properties = {name: part for name, part in schema.items() if name != "member_info"}
    properties |= schema["member_info"]["properties"]
    return [_parameter(name, part) for name, part in properties.items()]


def _parameter(name: str, part: Mapping[str, Any]) -> inspect.Parameter:
    shape = part.get("format", part.get("type", "string"))
    kind = _TYPES.get(shape, str)
    choices = f" One of {', '.join(part['enum'])}." if "enum" in part else ""
    repeated = " May be repeated." if shape == "array" else ""
    option = typer.Option(
        _flag(name),
        metavar=_METAVARS.get(shape, "TEXT"),
        help=f"{part.get('description', '')}{choices}{repeated}".strip(),
        parser=_json_object if shape == "object" else None,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _with_fields(signature: inspect.Signature) -> inspect.Signature:
    fixed = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return signature.replace(parameters=[*fixed, *_parameters()])


# Typer reads a command's options from its signature.
send.__signature__ = _with_fields(inspect.signature(send, eval_str=True))  # type: ignore[attr-defined]
