# Puts logging back as it was: the worker and its commands configure it for their whole process, which tests share.

from __future__ import annotations

import logging
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.runtime.logging_setup import LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def restored_logging() -> Iterator[None]:
    """Restore at the end handlers and levels of the root and the libraries' loggers, and the hooks for unhandled exceptions."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in LIBRARIES)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    try:
        yield
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(capture=False)
