# The commands: run, check, outcomes, topics, simulate, demo. Each has a module that documents its exit codes; filters.py and
# formatting.py belong to `outcomes`, shared.py is what several commands share.
#
# Here: the commands' names, and how a failure is printed. What a command needs is imported inside it, so that --help
# is quick and the simulator never loads Kafka. Exit codes: 0 clean, 1 failed, 2 wrong settings or arguments.

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from contextlib import redirect_stderr, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TextIO, cast

import typer

from worker import __version__
from worker.cli.check import check
from worker.cli.demo import demo
from worker.cli.outcomes import outcomes
from worker.cli.run import run
from worker.cli.shared import FAILED, WRONG
from worker.cli.simulate import simulate
from worker.cli.topics import topics
from worker.errors import SettingsError, WorkerError
from worker.redaction import Redaction, without_keys
from worker.terminal import plain

if TYPE_CHECKING:
    from collections.abc import Callable

_CANNOT_WRITE: Final = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EBADF})
"""How a write to a full or broken standard output fails."""

app = typer.Typer(
    name="moderation-worker",
    help="Executes moderation commands from Kafka on Tencent Cloud Chat, with one outcome for each command.",
    epilog="Start with `moderation-worker demo`: a real Kafka, a local Tencent API and 10,000 commands, with nothing to install.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: it is read in logs and containers as well
    pretty_exceptions_enable=False,  # their frames would show variables, and so secrets
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command()(run)
app.command()(check)
app.command()(outcomes)
app.add_typer(topics, name="topics")
app.command()(simulate)
app.command()(demo)


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
    """Run the command line and end the process with its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or log in another encoding gets escapes for what it cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with redirect_stderr(cast("TextIO", _WithoutKeys(sys.stderr))):
            command()
    except SettingsError as error:
        _end(format_problems(error), WRONG)
    except WorkerError as error:
        _end(_redacted(f"moderation-worker failed: {error}\n"), FAILED)
    except Exception as error:  # noqa: BLE001 - the last stop: what is shown of it must be redacted
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE and error.filename is None:
            _end(f"moderation-worker failed: its output cannot be written: {error.strerror}\n", FAILED)
        _end(_redacted(traceback.format_exc()), FAILED)


def _end(text: str, code: int) -> NoReturn:
    """End the process with this code, whether or not anybody can be told why."""
    with suppress(OSError, ValueError, AttributeError):  # full, closed, or not there at all
        sys.stderr.write(text)
        sys.stderr.flush()
    # What cannot be flushed would give the interpreter's end a code of its own.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            _discard(stream)
    sys.exit(code)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def format_problems(error: SettingsError) -> str:
    """Return every problem of the settings for a person: its name, its value, and how to fix it."""
    count = len(error.problems)
    lines = [
        f"moderation-worker cannot start: {count} {'problem' if count == 1 else 'problems'} in its settings",
        "",
    ]
    for problem in error.problems:
        lines += [f"  {problem.setting}", f"      {problem.remedy}"]
    return _redacted("\n".join(lines) + "\n")


class _WithoutKeys:
    """Standard error without keys: Typer repeats arguments that it does not understand, and one may be a key."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._stream.write(without_keys(text))


def _redacted(text: str) -> str:
    return plain(without_keys(Redaction().clean(text)), kept="\n\t")
