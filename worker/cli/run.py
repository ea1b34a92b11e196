# `moderation-worker run`: the worker itself. Exit codes: 0 after a clean stop, 1 failed, 2 wrong settings.
#
# Here is only what precedes the worker: reading settings, and signals until the loop handles them (runtime/shutdown.py).

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final

from worker.cli.shared import Config

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(config: Config = None) -> None:
    """
    Run the worker until SIGTERM, SIGINT or SIGHUP.

    It finishes what it has started, publishes, commits and exits 0. A second signal ends it at once.

    Example:  moderation-worker run --config worker.yaml
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, _leave)

    from worker.settings import load  # noqa: PLC0415 - what is imported here --help need not load

    settings = load(config, os.environ)

    from worker.runtime import wiring  # noqa: PLC0415 - Kafka and HTTP

    sys.exit(wiring.run(settings))


def _leave(_signal: int, _frame: Any) -> None:
    # Until the loop handles signals, nothing has started that would have to be finished. By default a pod that is stopped while
    # it imports would count as killed, and a container's first process would ignore the signal.
    os._exit(0)
