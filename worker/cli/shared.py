# What several commands share: their exit codes, the option --config, quiet libraries, and how topics are told.
#
# No command is here, and nothing that a single one needs. Like the commands, it imports what it needs inside of functions.

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
"""The settings or arguments must be fixed. Typer's own errors end with it too."""

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The settings (YAML). Else $WORKER_CONFIG; WORKER_… variables go over it.",
    ),
]


def quiet_libraries(settings: Settings) -> None:
    """Nothing but what the command prints: the lines of kafka-python say no more than its errors do."""
    from worker.runtime.logging_setup import LIBRARIES, configure_logging  # noqa: PLC0415 - --help need not load it
    from worker.settings import secrets_of  # noqa: PLC0415

    configure_logging("error", "console", secrets_of(settings), sys.stderr)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)


def topics_told(report: TopicsReport) -> Iterator[tuple[str, str]]:
    """The name of each topic that there is, and what it is like."""
    for topic in (report.command, report.outcome, report.dead_letter):
        if topic is not None:
            yield topic.name, _told(topic)


def _told(topic: Topic) -> str:
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
