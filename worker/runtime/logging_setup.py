# Logs: every line is an event of the catalogue (log_events.py) with fields, as JSON or for a person.
#
# One way out: structlog, the loggers of libraries, warnings and crashes of threads all end in one stream that
# redacts the finished line. Not here: how it is written (log_writer.py), metrics (metrics.py), and what is worth telling
# (whoever tells it).

from __future__ import annotations

import io
import logging
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import msgspec
import structlog

from worker.redaction import Redaction
from worker.runtime import ports
from worker.runtime.log_events import EVENTS
from worker.runtime.log_writer import LogWriter
from worker.runtime.repeated_lines import RepeatedLines
from worker.terminal import plain, plain_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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
LONGEST_TEXT: Final = 32_768
"""Characters of a field that are shown, a traceback included. What is longer is somebody's payload."""
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
"""What lines are made of. A password that is such a word is not looked for in them, or it would garble every one."""


class Log(ports.Log, Protocol):
    """Where events are told: what the loop needs of it, and what whoever wires the worker needs besides."""

    def notice(self, notice: LogEvent) -> None:
        """Tells what the core or an adapter noticed."""

    def hide(self, secret: str) -> None:
        """From now on this secret is in no line: for a key that was read later than the settings."""

    def flush(self, seconds: float) -> None:
        """Wait until all lines are written, for ``seconds`` at most: for an end of the process that asks nobody."""

    @property
    def redaction(self) -> Redaction:
        """What hides secrets in every line."""

    @property
    def dropped(self) -> int:
        """Lines that were lost because nobody read them, or because they could not be written."""


def configure_logging(
    level: str,
    format: str,  # noqa: A002 - the setting's own name
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> Log:
    """
    Sends everything that is logged in this process to ``stream`` (else standard output), redacted. Called once, at start.

    ``level`` and ``format`` are those of the settings. The loggers of libraries are emptied of other handlers. Nobody who
    logs ever waits for the stream.
    """
    redaction = Redaction(secrets, _WORDS)
    out = _RedactedStream(
        stream or sys.stdout,
        redaction,
        plain_json if format == "json" else str,
        lambda count: log("log.dropped", count=count),
    )
    log = _EventLog(out, _LEVELS[level], format, redaction)
    _route_libraries(log, logging.DEBUG if level == "debug" else max(logging.WARNING, _LEVELS[level]))
    sys.excepthook = lambda _, error, __: log("worker.failed", reason=type(error).__name__, exc_info=error)
    threading.excepthook = lambda failed: log(
        "thread.crashed", thread=failed.thread.name if failed.thread else None, exc_info=failed.exc_value
    )
    sys.unraisablehook = lambda failed: log("worker.failed", reason=failed.err_msg, exc_info=failed.exc_value)
    return log


class _RedactedStream:
    """The only way out. A line that cannot be written is dropped: logging must never hold or end the worker."""

    def __init__(
        self,
        stream: TextIO,
        redaction: Redaction,
        shown: Callable[[str], str],
        on_dropped: Callable[[int], None],
    ) -> None:
        self._stream = stream
        self._redaction = redaction
        self._shown = shown
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.isatty = stream.isatty
        self.writer: LogWriter | None = None
        try:
            self.writer = LogWriter(stream.fileno(), on_dropped)
        except (OSError, ValueError):  # a text in memory, or a stream that is closed
            return

    def write(self, text: str) -> None:
        line = self._shown(self._redaction.clean(text.removesuffix("\n"))) + "\n"
        encoded = line.encode(self._encoding, "backslashreplace")  # a terminal may not speak UTF-8
        if self.writer is not None:
            self.writer.put(encoded)
            return
        try:
            self._stream.write(encoded.decode(self._encoding))
        except (OSError, ValueError):
            return

    def flush(self) -> None:
        """Nothing is kept here."""


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

    def notice(self, notice: LogEvent) -> None:
        self(notice.event, **notice.fields)

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
    A value as what JSON has, each text as ``shown`` shows it.

    Bytes become text: base64 of a secret would pass the redaction.
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
    bridge = _Bridge(log)
    if level > logging.DEBUG:
        bridge.addFilter(RepeatedLines())
    root.handlers[:] = [bridge]
    root.setLevel(level)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(max(level, logging.INFO) if name in WORDY else level)
    logging.captureWarnings(capture=True)
