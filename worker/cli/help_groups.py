# Shows the commands of `moderation-worker --help` in groups, in the order of the table in app.py.
#
# Typer draws groups only with rich's markup, which puts frames and colours into logs; so this is plain text. It is also where a
# program ends whose reader has gone (Typer would give that the exit code of a failure), and where wrong arguments are shown, as
# text or as JSON: without keys, since Typer repeats arguments that it does not understand, and one may be a key. A UUID is an id.
# And it is where an option that is given twice is refused: Typer would take the last and say nothing of the others.

from __future__ import annotations

import io
import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from worker.cli.shared import UNREAD, WRONG
from worker.redaction import without_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE: Final = 200
"""The most characters shown of a command's first sentence; it is wrapped to the terminal."""


_WrongUse: Final[Any] = typer.BadParameter.__base__
"""What Typer raises for arguments that it does not understand, or that a command refuses."""


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    """End with 141 if the reader of the output has gone, and with 2 after wrong arguments, which are shown without keys."""
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit(UNREAD) from None
    except SystemExit as end:  # rich gives a reader who has gone the exit code of a failure
        if isinstance(end.__context__, BrokenPipeError):
            raise typer.Exit(UNREAD) from None
        raise
    except _WrongUse as error:
        sys.stderr.write(_as_json(error) if "--json" in sys.argv[1:] else _as_text(error))
        raise typer.Exit(WRONG) from None


def _as_text(error: Any) -> str:
    shown = io.StringIO()
    error.show(shown)
    return _redacted(shown.getvalue())


def _as_json(error: Any) -> str:
    """Return wrong arguments as wrong settings are shown with ``--json``: see problems_as_json."""
    hint, option = getattr(error, "param_hint", None), getattr(error, "param", None)
    option_name: str = getattr(error, "option_name", "")
    named = hint or (" / ".join(option.opts) if option is not None else None)
    where = named or (option_name if error.ctx is None else error.ctx.command_path)
    remedy = error.message if named and error.message else error.format_message()
    problems = [{"setting": _redacted(where), "remedy": _redacted(remedy)}]
    return json.dumps({"error": "wrong settings or arguments", "problems": problems}) + "\n"


def _redacted(text: str) -> str:
    return without_keys(text, but_uuids=True)


class OnceEach(TyperCommand):
    """A command of which an option with one value is given once: whoever names two issuers to `pause` must not stop only one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments. Raises typer.BadParameter for the first option that is given twice."""
        given = list(args)
        left = super().parse_args(ctx, args)  # first, as --help is answered there
        seen = set()
        options: list[Any] = [*self.make_parser(ctx).parse_args(args=given)[2]]
        for option in options:
            has_one_value = option.param_type_name == "option" and not (option.multiple or option.is_flag)
            if has_one_value and option.name in seen:
                raise typer.BadParameter("it is given twice: give it once", ctx=ctx, param=option)
            seen.add(option.name)
        return left


class HelpByGroup(TyperGroup):
    """A program whose commands are listed under the groups that they were added with (``rich_help_panel``)."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order in which they were added."""
        del ctx
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per group, with a line for each of its commands."""
        longest = max(map(len, self.commands))  # so that all groups share one column
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.commands[name]
            line = command.get_short_help_str(LONGEST_LINE)
            groups.setdefault(command.rich_help_panel, []).append((f"{name:<{longest}}", line))
        for group, lines in groups.items():
            with formatter.section(group):
                formatter.write_dl(lines)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the arguments, and print the help if they ask for it. Ends quietly if nobody reads it to its end."""
        with _errors_as_exit_codes():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Ends quietly if nobody reads its output to its end."""
        with _errors_as_exit_codes():
            return super().invoke(ctx)
