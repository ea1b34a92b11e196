# What several commands share: exit codes, the options --config and --json, how results are printed, quiet libraries, topics.
#
# No command is here, and nothing that only one needs. Like the commands, it imports what it needs inside functions. The exit
# codes are a table in config/running.md as well; a test compares the two.

from __future__ import annotations

import getpass
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from worker.cli import entry_point
from worker.printable_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from rich.console import Console

    from worker.broker.options import KafkaOptions
    from worker.broker.topic_admin import Topic, WorkerTopics
    from worker.domain.contract.command_decoding import CommandDecoder
    from worker.settings import Settings

FAILED: Final = 1
WRONG: Final = 2
"""The settings or arguments must be fixed. Typer's own errors have this exit code too."""
NOTHING: Final = 3
"""Nothing was found."""
WAITS: Final = 4
"""A command has no outcome yet, whatever else was found."""
NOT_APPLIED: Final = 5
"""An outcome is `failed`, `partially_succeeded` or `rejected`."""
NOT_SENT: Final = 6
"""An outcome is `expired` or `cancelled`, and none is worse."""
LEFT_OUT: Final = 7
"""`undo` and `replay`: for some of what was found nothing is sent, and why is said."""
INTERRUPTED: Final = entry_point.INTERRUPTED
"""After Ctrl-C."""
UNREAD: Final = 141
"""Whoever read the output has gone, as `head` does: 128 and the number of SIGPIPE."""

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The settings (YAML). Default: $WORKER_CONFIG. WORKER_… variables override it.",
    ),
]

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object per line on standard output, for scripts."),
]


def print_json(value: Mapping[str, object], file: TextIO | None = None) -> None:
    """Print one line of JSON, at once, that no terminal takes for anything but text; on standard output if ``file`` is None."""
    import msgspec  # noqa: PLC0415 - --help need not load it

    from worker.printable_text import plain_json  # noqa: PLC0415

    print(plain_json(msgspec.json.encode(value).decode()), file=file, flush=True)


def console() -> Console:
    """Return a console for results: coloured only where a terminal is and NO_COLOR is not set, and never wrapping by itself."""
    from rich.console import Console  # noqa: PLC0415

    return Console(highlight=False, soft_wrap=True)


def terminal_width() -> int | None:
    """Return the columns of the terminal that results go to; None where none is, as lines in a file are not wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def interrupt(_signal: int, _frame: Any) -> None:
    """Handle a signal as Ctrl-C."""
    raise KeyboardInterrupt


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, end the command as Ctrl-C does, with all that it has started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, interrupt)


def with_config(command: str, config: Path | None) -> str:
    """Return a command of this program that can be pasted: with the settings file that this one was given."""
    import shlex  # noqa: PLC0415 - --help need not load it

    given = "" if config is None else f" --config {shlex.quote(plain(config))}"
    return f"moderation-worker {command}{given}"


def user_name() -> str:
    """Return the name of the user who runs the command, as JSON can hold it; a container's user often has none."""
    try:
        return plain(getpass.getuser())
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def quiet_libraries(settings: Settings) -> None:
    """Silence the libraries' logs: kafka-python's lines say no more than its errors, which the command prints."""
    from worker.runtime.logging_setup import LIBRARIES, configure_logging  # noqa: PLC0415 - --help need not load it
    from worker.settings import secrets_of  # noqa: PLC0415

    configure_logging("error", "console", secrets_of(settings), sys.stderr)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)


def kafka_options_in(settings: Settings) -> KafkaOptions:
    """Return the options for Kafka, and keep the libraries quiet from now on."""
    from worker.runtime.options_from_settings import kafka_options, worker_name  # noqa: PLC0415 - --help need not load it

    quiet_libraries(settings)
    return kafka_options(settings, worker_name(settings))


def decoder_of(settings: Settings, options: KafkaOptions) -> CommandDecoder:
    """Return what reads a command as the workers do."""
    from worker import __version__  # noqa: PLC0415 - --help need not load it
    from worker.broker.topic_admin import Topic  # noqa: PLC0415
    from worker.domain.contract.command_decoding import CommandDecoder  # noqa: PLC0415
    from worker.domain.contract.outcomes import Worker  # noqa: PLC0415
    from worker.runtime.options_from_settings import engine_settings_of  # noqa: PLC0415

    worker = Worker(options.client_name, __version__)
    return CommandDecoder(engine_settings_of(settings, Topic(options.command_topic, 1), worker))


def kafka_options_of(config: Path | None) -> tuple[KafkaOptions, CommandDecoder]:
    """Return the options and the decoder of a command that looks into Kafka, and silence the libraries. Raises SettingsError."""
    from worker.settings import load  # noqa: PLC0415 - --help need not load it

    settings = load(config, os.environ)
    options = kafka_options_in(settings)
    return options, decoder_of(settings, options)


def describe_topics(report: WorkerTopics) -> Iterator[tuple[str, str]]:
    """Yield the name and a description of each topic that exists."""
    for topic in (report.command, report.outcome, report.dead_letter, report.control, report.quota):
        if topic is not None:
            yield topic.name, _description(topic)


def _kept(seconds: float) -> str:
    if seconds == float("inf"):
        return "kept for ever"
    return f"kept {seconds / 60:.4g} min" if seconds < 7_200 else f"kept {seconds / 3_600:.6g} h"


def _description(topic: Topic) -> str:
    parts = [f"{topic.partitions} partition{'s' * (topic.partitions != 1)}"]
    if topic.cleanup is not None:
        parts.append(f"cleanup {','.join(sorted(topic.cleanup))}")
    # Where Kafka deletes nothing for its age, a retention says nothing.
    if topic.retention is not None and (topic.cleanup is None or "delete" in topic.cleanup):
        parts.append(_kept(topic.retention))
    if topic.message_bytes is not None:
        parts.append(f"batches up to {topic.message_bytes} bytes")
    return ", ".join(parts)
