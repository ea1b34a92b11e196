# What several commands share: exit codes, the option --config, quiet libraries, and the description of topics.
#
# No command is here, and nothing that only one needs. Like the commands, it imports what it needs inside functions.

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.broker.topics import Topic, TopicsReport
    from worker.settings import Settings

FAILED: Final = 1
WRONG: Final = 2
"""The settings or arguments must be fixed. Typer's own errors have this exit code too."""

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The settings (YAML). Default: $WORKER_CONFIG. WORKER_… variables override it.",
    ),
]


def quiet_libraries(settings: Settings) -> None:
    """Silence the libraries' logs: kafka-python's lines say no more than its errors, which the command prints."""
    from worker.runtime.logging_setup import LIBRARIES, configure_logging  # noqa: PLC0415 - --help need not load it
    from worker.settings import secrets_of  # noqa: PLC0415

    configure_logging("error", "console", secrets_of(settings), sys.stderr)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)


def describe_topics(report: TopicsReport) -> Iterator[tuple[str, str]]:
    """Yield the name and a description of each topic that exists."""
    for topic in (report.command, report.outcome, report.dead_letter):
        if topic is not None:
            yield topic.name, _description(topic)


def _description(topic: Topic) -> str:
    parts = [f"{topic.partitions} partitions"]
    if topic.cleanup is not None:
        parts.append(f"cleanup {','.join(sorted(topic.cleanup))}")
    if topic.retention is not None:
        parts.append(
            "kept for ever" if topic.retention == float("inf") else f"kept {topic.retention / 3600:g} h"
        )
    if topic.message_bytes is not None:
        parts.append(f"batches up to {topic.message_bytes} bytes")
    return ", ".join(parts)
