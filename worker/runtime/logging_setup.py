# Logs: every line is an event of the catalogue (log_events.py) with fields, as JSON or for a person.
#
# One way out: structlog, the loggers of libraries, warnings and crashes of threads all end in one stream that
# redacts the finished line. Not here: metrics (metrics.py), and what is worth telling (whoever tells it).

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import msgspec
import structlog

from worker.redaction import Redaction
from worker.runtime import ports
from worker.runtime.log_events import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.domain.effects import LogEvent

LIBRARIES: Final = ("httpx", "httpcore", "aiohttp", "kafka", "asyncio")
"""Told from warnings on, and more at debug: at info httpx writes a line for each request, kafka-python for each poll error."""
WORDY: Final = frozenset({"kafka"})
"""At debug they write every record whole, and no payload may be in a log: told from info on."""

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_DEPTH: Final = 6
"""Fields are flat; what is deeper is shown as text."""


class Log(ports.Log, Protocol):
    """Where events are told: what the loop needs of it, and what whoever wires the worker needs besides."""

    def notice(self, notice: LogEvent) -> None:
        """Tells what the core or an adapter noticed."""

    def hide(self, secret: str) -> None:
        """From now on this secret is in no line: for a key that was read later than the settings."""


def configure_logging(
    level: str,
    format: str,  # noqa: A002 - the setting's own name
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> Log:
    """
    Sends everything that is logged in this process to ``stream`` (else standard output), redacted. Called once, at start.

    ``level`` and ``format`` are those of the settings. The loggers of libraries are emptied of other handlers.
    """
    redaction = Redaction(secrets)
    out = stream or sys.stdout
    log = _EventLog(_RedactedStream(out, redaction), _LEVELS[level], format, redaction)
    _route_libraries(log, logging.DEBUG if level == "debug" else max(logging.WARNING, _LEVELS[level]))
    sys.excepthook = lambda _, error, __: log("worker.failed", reason=type(error).__name__, exc_info=error)
    threading.excepthook = lambda failed: log(
        "thread.crashed", thread=failed.thread.name if failed.thread else None, exc_info=failed.exc_value
    )
    sys.unraisablehook = lambda failed: log("worker.failed", reason=failed.err_msg, exc_info=failed.exc_value)
    return log


class _RedactedStream:
    """The only way out. A line that cannot be written is dropped: logging must never end the worker."""

    def __init__(self, stream: TextIO, redaction: Redaction) -> None:
        self._stream = stream
        self._redaction = redaction
        self.isatty = stream.isatty

    def write(self, text: str) -> int:
        line = self._redaction.clean(text)
        try:
            return self._stream.write(line)
        except UnicodeEncodeError:  # a terminal that does not speak UTF-8
            return self._stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
        except (OSError, ValueError):  # the reader is gone, or the stream is closed
            return 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


class _EventLog:
    """The Log of this process."""

    def __init__(self, stream: _RedactedStream, level: int, style: str, redaction: Redaction) -> None:
        self._level = level
        self._redaction = redaction
        self._logger = structlog.wrap_logger(
            structlog.WriteLogger(stream),  # type: ignore[arg-type]
            processors=_processors(style, colours=stream.isatty()),
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

    def __call__(self, event: str, /, **fields: object) -> None:
        row = EVENTS.get(event)
        if row is None:
            row, fields = EVENTS["log.event_unlisted"], {"name": event, **fields}
        self.write(row.name, row.level, fields)

    def notice(self, notice: LogEvent) -> None:
        self(notice.event, **notice.fields)

    def hide(self, secret: str) -> None:
        self._redaction.learn(secret)

    def write(self, event: str, level: str, fields: Mapping[str, object]) -> None:
        if _LEVELS[level] >= self._level:
            named = {f"{key}_" if key == "event" else key: value for key, value in fields.items()}
            self._logger.error(event, **{**named, "level": level})

    def __repr__(self) -> str:
        return f"<Log from {logging.getLevelName(self._level).lower()} on, {self._redaction!r}>"


def _processors(style: str, *, colours: bool) -> list[Any]:
    ends: list[Any] = (
        [
            structlog.processors.ExceptionRenderer(),
            _plain,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
        if style == "json"
        else [
            _plain,
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time" if style == "json" else "timestamp"),
        *ends,
    ]


def _json(line: dict[str, object], **_: object) -> str:
    first = {key: line.pop(key) for key in ("time", "level", "event") if key in line}
    return msgspec.json.encode({**first, **line}).decode()


def _plain(_: object, __: str, line: dict[str, Any]) -> dict[str, Any]:
    """Every value as what JSON has. Bytes become text: base64 of a secret would pass the redaction."""
    return {key: value if key == "exc_info" else _as_plain(value, _DEPTH) for key, value in line.items()}


def _as_plain(value: object, depth: int) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no JSON
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if depth and isinstance(value, dict):
        return {str(_as_plain(key, 0)): _as_plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_as_plain(item, depth - 1) for item in value]
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a broken repr must not end the worker
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


class _Bridge(logging.Handler):
    """Lines of libraries, as events."""

    def __init__(self, log: _EventLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - logging's own answer would print the arguments, not redacted
            message = f"{record.msg!r} (its arguments do not fit: {type(error).__name__})"
        level = next(
            (name for name in ("error", "warning", "info") if record.levelno >= _LEVELS[name]), "debug"
        )
        fields: dict[str, object] = {"logger": record.name, "message": message}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exc_info"] = record.exc_info[1]
        self._log.write("library.logged", level, fields)


def _route_libraries(log: _EventLog, level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(log)]
    root.setLevel(level)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(max(level, logging.INFO) if name in WORDY else level)
    logging.captureWarnings(capture=True)
