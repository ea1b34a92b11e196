# `moderation-worker completion SHELL`: prints the script that completes commands and options. Exit codes: 0, 2 unknown shell.
#
# The script is made of the commands themselves and is whole: a shell that completes starts no program. Typer's own scripts
# start one with the command line in its arguments, where every user of the machine could read a key.

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PROGRAM: Final = "moderation-worker"


class Shell(StrEnum):
    """A shell that a script can be made for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@dataclass(frozen=True, slots=True)
class OptionWords:
    """
    One option as a shell sees it.

    Attributes:
        takes_value: Whether the next word is its value.
        files: Whether that value is a file's name.
        choices: What the value may be, if that is a list.

    """

    names: tuple[str, ...]
    takes_value: bool
    files: bool
    choices: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True)
class CommandWords:
    """
    One command as a shell sees it.

    Attributes:
        path: Its words, without the program's name.
        commands: Its own commands, each with a line of help.
        files: Whether it takes files that no option names.
        choices: What its argument may be, if that is a list.

    """

    path: str
    commands: Mapping[str, str]
    options: tuple[OptionWords, ...]
    files: bool
    choices: tuple[str, ...]


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """
    Print a script that lets a shell complete commands, options and files.

    \b
    Example:
    source <(moderation-worker completion bash)
    moderation-worker completion zsh > "${fpath[1]}/_moderation-worker"
    moderation-worker completion fish > \\
      ~/.config/fish/completions/moderation-worker.fish
    """  # noqa: D301 - the escape keeps the examples from being wrapped
    commands = tuple(_commands("", context.find_root().command))
    print(_SCRIPTS[shell](commands), end="")


def _commands(path: str, command: Any) -> Iterator[CommandWords]:
    """Yield the command and all below it."""
    below: Mapping[str, Any] = getattr(command, "commands", {})
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [*command.params, command.get_help_option(typer.Context(command, info_name=PROGRAM))]
    yield CommandWords(
        path,
        {name: each.get_short_help_str(70) for name, each in below.items()},
        tuple(_option(each) for each in options if each.param_type_name == "option" and not each.hidden),
        any(_takes_file(each) for each in arguments),
        tuple(choice for each in arguments for choice in _choices(each)),
    )
    for name, each in below.items():
        yield from _commands(f"{path} {name}".strip(), each)


def _option(option: Any) -> OptionWords:
    return OptionWords(
        tuple(sorted((*option.opts, *option.secondary_opts))),  # those of --help come in any order
        not (option.is_flag or option.count),
        _takes_file(option),
        _choices(option),
        (option.help or "").partition(". ")[0].removesuffix("."),
    )


def _takes_file(parameter: Any) -> bool:
    return (parameter.metavar or "").startswith("FILE")


def _choices(parameter: Any) -> tuple[str, ...]:
    kind = parameter.type_descriptor.annotation
    return tuple(each.value for each in kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ()


def _bash(commands: Sequence[CommandWords]) -> str:
    def files(words: str) -> str:
        # One line is one name, which may have blanks; so the words must be found before.
        more = f'COMPREPLY=($(compgen -W {shlex.quote(words)} -- "$word")); ' if words else ""
        return (
            f"{more}compopt -o filenames 2>/dev/null; local IFS=$'\\n'; "
            'COMPREPLY+=($(compgen -f -- "$word"))'
        )

    def offered(words: str) -> str:
        return f'COMPREPLY=($(compgen -W {shlex.quote(words)} -- "$word"))'

    return f"""\
# bash completion of {PROGRAM}
_moderation_worker() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} chosen= place
    COMPREPLY=()
    for ((place = 1; place < COMP_CWORD; place++)); do
        case "$chosen ${{COMP_WORDS[place]}}" in
            ({_paths(commands)}) chosen="${{chosen:+$chosen }}${{COMP_WORDS[place]}}" ;;
        esac
    done
{_cases(commands, files, offered)}
}}
complete -F _moderation_worker {PROGRAM}
"""


def _zsh(commands: Sequence[CommandWords]) -> str:
    def files(words: str) -> str:
        return f"_files{f'; compadd -- {words}' if words else ''}"

    return f"""\
#compdef {PROGRAM}
_moderation_worker() {{
    local before=${{words[CURRENT - 1]}} chosen= place
    for ((place = 2; place < CURRENT; place++)); do
        case "$chosen ${{words[place]}}" in
            ({_paths(commands)}) chosen="${{chosen:+$chosen }}${{words[place]}}" ;;
        esac
    done
{_cases(commands, files, lambda words: f"compadd -- {words}")}
}}
compdef _moderation_worker {PROGRAM}
"""


def _paths(commands: Sequence[CommandWords]) -> str:
    """Return the pattern of a command chosen so far and the word that chooses another one below it."""
    return "|".join(f'"{each.path} {name}"' for each in commands for name in each.commands)


def _cases(
    commands: Sequence[CommandWords], files: Callable[[str], str], offered: Callable[[str], str]
) -> str:
    """Return what follows an option that takes a value, and otherwise what follows a command."""
    values: dict[str, list[str]] = {}
    for command in commands:
        for option in command.options:
            if option.takes_value:
                action = offered(" ".join(option.choices)) if option.choices else ":"
                if option.files:
                    action = files("")
                values.setdefault(action, []).extend(f'"{command.path}:{name}"' for name in option.names)
    lines = ['    case "$chosen:$before" in']
    lines += [f"        ({'|'.join(patterns)}) {action}; return ;;" for action, patterns in values.items()]
    lines += ["    esac", '    case "$chosen" in']
    for command in commands:
        words = " ".join(
            [
                *command.commands,
                *command.choices,
                *(name for option in command.options for name in option.names),
            ]
        )
        lines.append(f'        ("{command.path}") {files(words) if command.files else offered(words)} ;;')
    return "\n".join([*lines, "    esac"])


def _fish(commands: Sequence[CommandWords]) -> str:
    lines = [
        f"# fish completion of {PROGRAM}",
        "function __moderation_worker_chose",
        "    set -l chosen ''",
        "    for word in (commandline -opc)[2..-1]",
        '        switch "$chosen $word"',
        f"            case {_paths(commands).replace('|', ' ')}",
        '                set chosen (string trim -- "$chosen $word")',
        "        end",
        "    end",
        '    test "$chosen" = "$argv[1]"',
        "end",
        f"complete -c {PROGRAM} -f",
    ]
    for command in commands:
        start = f"complete -c {PROGRAM} -n '__moderation_worker_chose \"{command.path}\"'"
        lines += [f"{start} -a {name} -d {_fish_quoted(text)}" for name, text in command.commands.items()]
        lines += [f"{start} -a {choice}" for choice in command.choices]
        lines += [f"{start} -F"] if command.files else []
        lines += [f"{start} {_fish_option(option)}" for option in command.options]
    return "\n".join(lines) + "\n"


def _fish_option(option: OptionWords) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    value = ["-x"] if option.takes_value else []
    if option.files:
        value = ["-r", "-F"]
    choices = [f"-a {_fish_quoted(' '.join(option.choices))}"] if option.choices else []
    return " ".join([*names, *value, *choices, "-d", _fish_quoted(option.help)])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS: Final[Mapping[Shell, Callable[[Sequence[CommandWords]], str]]] = {
    Shell.BASH: _bash,
    Shell.ZSH: _zsh,
    Shell.FISH: _fish,
}
