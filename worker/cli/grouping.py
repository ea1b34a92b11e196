# Shows the commands of `moderation-worker --help` in groups, in the order of the table in __init__.py.
#
# Typer draws groups only with rich's markup, which puts frames and colours into logs; so this is plain text. It is also where a
# program ends whose reader has gone: Typer would give that the exit code of a failure.

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

from worker.cli.shared import UNREAD

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE: Final = 200
"""The most characters shown of a command's first sentence; it is wrapped to the terminal."""


@contextmanager
def _quiet_end() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit(UNREAD) from None


class GroupedCommands(TyperGroup):
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
        with _quiet_end():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Ends quietly if nobody reads its output to its end."""
        with _quiet_end():
            return super().invoke(ctx)
