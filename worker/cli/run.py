# `moderation-worker run`: the worker itself. Exit codes: 0 after a clean stop, 1 failed, 2 wrong settings.
#
# Here is only what precedes the worker: reading settings, and signals until the loop handles them (runtime/shutdown.py).

from __future__ import annotations

import os
import sys

from worker.cli.entry_point import STOPS, end_quietly_on
from worker.cli.shared import Config


def run(config: Config = None) -> None:
    """
    Run the worker until SIGTERM, SIGINT or SIGHUP.

    It finishes what it has started, publishes, commits and exits 0. A second signal ends it at once.

    Example:  moderation-worker run --config worker.yaml
    """
    end_quietly_on(STOPS, 0)  # until the loop handles them

    from worker.settings import load  # noqa: PLC0415 - what is imported here --help need not load

    settings = load(config, os.environ)

    from worker.runtime import wiring  # noqa: PLC0415 - Kafka and HTTP

    sys.exit(wiring.run(settings))
