# `moderation-worker run`: the worker itself. Exit codes: 0 after a clean stop, 1 failed, 2 wrong settings.

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The settings (YAML). Else $WORKER_CONFIG; WORKER_… variables go over it.",
    ),
]


def run(config: Config = None) -> None:
    """
    Run the worker until SIGTERM or SIGINT.

    It finishes what it has begun, publishes, commits and exits 0; a second signal ends it at once.

    Example:  moderation-worker run --config worker.yaml
    """
    from worker.settings import Settings  # noqa: PLC0415 - what is imported here --help need not load

    settings = Settings.load(config, os.environ)

    from worker.runtime import wiring  # noqa: PLC0415 - Kafka and HTTP

    sys.exit(wiring.run(settings))
