# The command line: one table of the commands with their groups, and how the program ends when one fails. Each command has a
# module that documents its exit codes. What several of them share is in shared.py (options, printing, exit codes), filters.py
# (what is looked for), outcome_formatting.py and count_tables.py (how it is shown); how help looks in help_groups.py and
# text_wrapping.py.
#
# What a command needs is imported inside it (except the tables that `send` and `simulate` make their options from), so that --help
# is quick and the simulator never loads Kafka.

from __future__ import annotations

import errno
import io
import json
import os
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TextIO

import typer

from worker import __version__
from worker.cli.check import check
from worker.cli.completion import completion
from worker.cli.control import control
from worker.cli.dead_letters import dead_letters
from worker.cli.demo import demo
from worker.cli.help_groups import HelpByGroup, OnceEach
from worker.cli.kafka import kafka
from worker.cli.outcomes import outcomes
from worker.cli.pause_and_resume import cancel, pause, resume, shadow
from worker.cli.run import run
from worker.cli.send import send
from worker.cli.shared import FAILED, INTERRUPTED, UNREAD, WRONG, terminal_width
from worker.cli.simulate import simulate
from worker.cli.text_wrapping import wrapped
from worker.cli.topics import topics
from worker.cli.undo import undo
from worker.cli.watch import watch
from worker.errors import ControlTopicError, SettingProblem, SettingsError, WorkerError
from worker.printable_text import JSON_ESCAPES, plain
from worker.redaction import Redaction, without_keys

if TYPE_CHECKING:
    from collections.abc import Callable

RUN: Final = "Run"
ASK: Final = "Ask"
ACT: Final = "Act"
TRY_OUT: Final = "Try out"

COMMANDS: Final[tuple[tuple[str, Callable[..., None] | typer.Typer], ...]] = (
    (RUN, run),
    (RUN, check),
    (RUN, topics),
    (ASK, outcomes),
    (ASK, watch),
    (ASK, dead_letters),
    (ASK, control),
    (ACT, pause),
    (ACT, cancel),
    (ACT, shadow),
    (ACT, resume),
    (ACT, send),
    (ACT, undo),
    (TRY_OUT, demo),
    (TRY_OUT, kafka),
    (TRY_OUT, simulate),
    (TRY_OUT, completion),
)
"""Every command with its group, in the order of the help: a function, or a Typer with commands of its own."""

OPTIMIZED: Final = SettingProblem(
    "PYTHONOPTIMIZE", "unset it, and leave out -O: kafka-python reads a part of each answer inside an assert"
)
_CANNOT_WRITE: Final = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EBADF})
"""How a write to a full or broken standard output fails."""

app = typer.Typer(
    name="moderation-worker",
    cls=HelpByGroup,
    help="Executes moderation commands from Kafka on Tencent Cloud Chat, with one outcome for each command.",
    epilog="Start with `moderation-worker demo`: a real Kafka, a local Tencent API and 20,000 commands, with nothing to install.",
    no_args_is_help=True,
    add_completion=False,  # its scripts put the whole command line, with its keys, where others can read it
    rich_markup_mode=None,  # plain help: it is read in logs and containers as well
    pretty_exceptions_enable=False,  # their frames would show variables, and so secrets
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for group, each in COMMANDS:
    if isinstance(each, typer.Typer):
        app.add_typer(each, rich_help_panel=group)
    else:
        app.command(cls=OnceEach, rich_help_panel=group)(each)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"moderation-worker {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(command: Callable[[], object] = app) -> None:
    """Run a command and end the process with its exit code. What must hold before this is imported: entry_point.py."""
    as_json = "--json" in sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or log in another encoding gets escapes for what it cannot show: JSON's own in JSON.
            stream.reconfigure(errors=JSON_ESCAPES if as_json else "backslashreplace")
    try:
        _refuse_without_asserts()
        command()
    except SystemExit as end:
        _end("", end.code if isinstance(end.code, int) else 0)
    except SettingsError as error:
        _end(problems_as_json(error) if as_json else format_problems(error, _width_of_errors()), WRONG)
    except WorkerError as error:
        code = WRONG if isinstance(error, ControlTopicError) else FAILED
        _end(_failure_as_json(str(error)) if as_json else _failure(str(error)), code)
    except KeyboardInterrupt:  # before or after the command, which ends by it as it wants to
        _end("", INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last stop: what is shown of it must be redacted
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE and error.filename is None:
            _end(_unwritable(error), FAILED)
        _end(_redacted(traceback.format_exc()), FAILED)
    _end("", 0)


def _refuse_without_asserts() -> None:
    if sys.flags.optimize:
        raise SettingsError([OPTIMIZED])


def _end(text: str, code: int) -> NoReturn:
    """End the process with this code, whether or not the reason can be printed."""
    with suppress(OSError, ValueError, AttributeError):  # full, closed, or not there at all
        sys.stderr.write(text)
        sys.stderr.flush()
    # What cannot be flushed would give the interpreter's end a code of its own, and a complaint.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (ValueError, AttributeError):
            _discard(stream)
        except OSError as error:
            _discard(stream)
            if code == 0:
                gone = isinstance(error, BrokenPipeError)
                _end("" if gone else _unwritable(error), UNREAD if gone else FAILED)
    sys.exit(code)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _width_of_errors() -> int | None:
    return terminal_width() if sys.stderr is not None and sys.stderr.isatty() else None


def format_problems(error: SettingsError, width: int | None = None) -> str:
    """Return every problem of the settings for a person: its name, its value, and how to fix it."""
    count = len(error.problems)
    lines = [
        f"moderation-worker cannot start: {count} {'problem' if count == 1 else 'problems'} in its settings",
        "",
    ]
    for problem in error.problems:
        lines += [f"  {problem.setting}", wrapped(problem.remedy, width, " " * 6)]
    return _redacted("\n".join(lines) + "\n")


def problems_as_json(error: SettingsError) -> str:
    """Return the same as one line of JSON."""
    problems = [
        {"setting": _redacted(problem.setting), "remedy": _redacted(problem.remedy)}
        for problem in error.problems
    ]
    return json.dumps({"error": "wrong settings or arguments", "problems": problems}) + "\n"


def _failure(reason: str) -> str:
    return _redacted(f"moderation-worker failed: {reason}\n")


def _failure_as_json(reason: str) -> str:
    return json.dumps({"error": _redacted(reason)}) + "\n"


def _unwritable(error: OSError) -> str:
    return _failure(f"its output cannot be written: {error.strerror}")


def _redacted(text: str) -> str:
    return plain(without_keys(Redaction().clean(text)), kept="\n\t")
