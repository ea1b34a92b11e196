# Logs: every line is an event of the catalogue (log_events.py) with fields, as JSON or for a person.
#
# One way out: structlog, the loggers of libraries, warnings and crashed threads all end in one stream that redacts the
# finished line. Not here: writing it (log_writer.py), which events there are (log_events.py), when to log (whoever logs).

from __future__ import annotations

import io
import logging
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import msgspec
import structlog

from worker.printable_text import JSON_ESCAPES, plain, plain_json
from worker.redaction import Redaction
from worker.runtime import ports
from worker.runtime.library_log_throttle import LibraryLogThrottle
from worker.runtime.log_events import EVENTS
from worker.runtime.log_writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.domain.effects import LogEvent

LIBRARIES: Final = ("httpx", "httpcore", "aiohttp", "kafka", "asyncio")
"""
Logged from WARNING on, in debug mode from DEBUG on: at INFO kafka-python logs each poll error. All others are never logged below
WARNING: botocore writes what it signs and how, which together sign in to Kafka, and what it is given by AWS.
"""
WORDY: Final = frozenset({"kafka"})
"""Never logged below INFO: at DEBUG they write whole records, and no log may contain a payload."""

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_DEPTH: Final = 6
"""Levels of nested dicts and lists in a field that are kept; deeper values become text. Our own fields are flat."""
LONGEST_TEXT: Final = 32_768
"""The most characters shown of a field or traceback. A longer text is probably somebody's payload."""
_WORDS: Final = frozenset(
    re.findall(
        r"[a-z]+",
        " ".join(
            [*LIBRARIES, *_LEVELS, "time timestamp exception apps"]
            + [" ".join((row.name, *row.fields, row.meaning)) for row in EVENTS.values()]
        )
        .lower()
        .replace("_", " "),
    )
)
"""The vocabulary of our own lines. A password made of these words is not redacted, because that would garble every line."""


class Log(ports.Log, Protocol):
    """The log of this process: what the loop needs of it, and what wiring needs besides."""

    def event(self, event: LogEvent) -> None:
        """Log an event of the core or of an adapter."""

    def hide(self, secret: str) -> None:
        """Redact this secret from now on: a key or password that was read after the settings."""

    def flush(self, seconds: float) -> None:
        """Wait until all lines are written, for ``seconds`` at most: before the process ends at once."""

    @property
    def redaction(self) -> Redaction:
        """What redacts every line."""

    @property
    def dropped(self) -> int:
        """Lines lost because nobody read the log, or because it could not be written."""


def configure_logging(
    level: str,
    format: str,  # noqa: A002 - the setting's own name
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> Log:
    """
    Send everything that this process logs to ``stream`` (default: standard output), redacted. Call it once, at the start.

    ``level`` and ``format`` are the settings' values. Other handlers of the libraries' loggers are removed. Logging never
    blocks on the stream.
    """
    redaction = Redaction(secrets, _WORDS)
    out = _RedactedStream(
        stream or sys.stdout,
        redaction,
        plain_json if format == "json" else str,
        JSON_ESCAPES if format == "json" else "backslashreplace",
        lambda count: log("log.dropped", count=count),
    )
    log = _EventLog(out, _LEVELS[level], format, redaction)
    _route_libraries(log, logging.DEBUG if level == "debug" else max(logging.WARNING, _LEVELS[level]))
    sys.excepthook = lambda _, error, __: log("worker.failed", reason=type(error).__name__, exc_info=error)
    threading.excepthook = lambda failed: log(
        "thread.crashed", thread=failed.thread.name if failed.thread else None, exc_info=failed.exc_value
    )
    # An exception in a destructor, say: it ends nothing.
    sys.unraisablehook = lambda failed: logging.getLogger("python").error(
        failed.err_msg or "an exception was ignored", exc_info=failed.exc_value
    )
    return log


class _RedactedStream:
    """The only way out. A line that cannot be written is dropped: logging must never block or end the worker."""

    def __init__(
        self,
        stream: TextIO,
        redaction: Redaction,
        shown: Callable[[str], str],
        unencodable: str,
        on_dropped: Callable[[int], None],
    ) -> None:
        self._stream = stream
        self._redaction = redaction
        self._shown = shown
        self._unencodable = unencodable
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.isatty = stream.isatty
        self.writer: LogWriter | None = None
        try:
            self.writer = LogWriter(stream.fileno(), on_dropped)
        except (OSError, ValueError):  # a stream in memory, or a closed one: it has no descriptor
            return

    def write(self, text: str) -> None:
        line = self._shown(self._redaction.clean(text.removesuffix("\n"))) + "\n"
        encoded = line.encode(self._encoding, self._unencodable)  # a terminal may not speak UTF-8
        if self.writer is not None:
            self.writer.put(encoded)
            return
        try:
            self._stream.write(encoded.decode(self._encoding))
        except (OSError, ValueError):
            return

    def flush(self) -> None:
        """Do nothing: nothing is buffered here."""


class _EventLog:
    """The Log of this process."""

    def __init__(self, stream: _RedactedStream, level: int, style: str, redaction: Redaction) -> None:
        self._stream = stream
        self._level = level
        self.redaction = redaction
        self._logger = structlog.wrap_logger(
            structlog.WriteLogger(stream),  # type: ignore[arg-type]
            processors=_processors(style, redaction, colours=stream.isatty()),
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

    def __call__(self, event: str, /, **fields: object) -> None:
        row = EVENTS.get(event)
        if row is None:
            row, fields = EVENTS["log.event_unlisted"], {"name": event, **fields}
        self.write(row.name, row.level, fields)

    def event(self, event: LogEvent) -> None:
        self(event.event, **event.fields)

    def hide(self, secret: str) -> None:
        self.redaction.learn(secret)

    def flush(self, seconds: float) -> None:
        if self._stream.writer is not None:
            self._stream.writer.flush(seconds)

    @property
    def dropped(self) -> int:
        return 0 if self._stream.writer is None else self._stream.writer.dropped

    def write(self, event: str, level: str, fields: Mapping[str, object]) -> None:
        if _LEVELS[level] >= self._level:
            named = {f"{key}_" if key == "event" else key: value for key, value in fields.items()}
            self._logger.error(event, **{**named, "level": level})

    def __repr__(self) -> str:
        return f"<Log from {logging.getLevelName(self._level).lower()} on, {self.redaction!r}>"


def _processors(style: str, redaction: Redaction, *, colours: bool) -> list[Any]:
    def cut(text: str) -> str:
        if len(text) <= LONGEST_TEXT:
            return text
        return f"{redaction.clean(text, LONGEST_TEXT)}… ({len(text)} characters in all)"

    def traceback(out: TextIO, error: Any) -> None:
        whole = io.StringIO()
        structlog.dev.plain_traceback(whole, error)
        out.write(plain(cut(whole.getvalue()), kept="\n"))

    def values(shown: Callable[[str], str]) -> Callable[[object, str, dict[str, Any]], dict[str, Any]]:
        return lambda _, __, line: {
            shown(key): value if key == "exc_info" else _as_plain(value, _DEPTH, shown)
            for key, value in line.items()
        }

    ends: list[Any] = (
        [
            structlog.processors.ExceptionRenderer(),
            values(cut),
            structlog.processors.JSONRenderer(serializer=_json),
        ]
        if style == "json"
        else [
            values(lambda text: plain(cut(text))),
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=traceback),
        ]
    )
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time" if style == "json" else "timestamp"),
        *ends,
    ]


def _json(line: dict[str, object], **_: object) -> str:
    first = {key: line.pop(key) for key in ("time", "level", "event") if key in line}
    return msgspec.json.encode({**first, **line}).decode()


def _as_plain(value: object, depth: int, shown: Callable[[str], str]) -> object:
    """
    Return ``value`` as JSON types, with ``shown`` applied to each text.

    Bytes become text, because a secret in base64 could pass the redaction.
    """
    if isinstance(value, str):
        return shown(value).encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no JSON
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else shown(f"{value:#x}")
    if isinstance(value, bytes | bytearray | memoryview):
        return shown(bytes(value).decode("utf-8", "backslashreplace"))
    if depth and isinstance(value, dict):
        return {
            str(_as_plain(key, 0, shown)): _as_plain(item, depth - 1, shown) for key, item in value.items()
        }
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_as_plain(item, depth - 1, shown) for item in value]
    try:
        return shown(repr(value))
    except Exception as error:  # noqa: BLE001 - a broken repr must not end the worker
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


class _LibraryLogBridge(logging.Handler):
    """Turns lines of libraries into events."""

    def __init__(self, log: _EventLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - logging's own handling would print the arguments unredacted
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
    bridge = _LibraryLogBridge(log)
    if level > logging.DEBUG:
        bridge.addFilter(LibraryLogThrottle())
    root.handlers[:] = [bridge]
    root.setLevel(max(level, logging.WARNING))
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(max(level, logging.INFO) if name in WORDY else level)
    logging.captureWarnings(capture=True)
