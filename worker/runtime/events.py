# The catalogue of log events: every name that a log line can have, its level, its fields, and what it tells.
#
# A name is noun.verb_past. Nothing is logged that is not in here; tests compare the rows with the code.
# Fields hold no payload and no secret. Durations are seconds, and say so in their names.

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """
    One row.

    Attributes:
        name: What stands in a line's ``event``.
        fields: What else stands there.
        meaning: What happened, and what to do if that is not plain.

    """

    name: str
    level: Level
    fields: tuple[str, ...]
    meaning: str


class UnlistedEventError(LookupError):
    """
    An event that is not in the catalogue.
    """


def event_named(name: str) -> Event:
    """
    The row of an event. Raises UnlistedEventError for a name that has none.
    """
    try:
        return EVENTS[name]
    except KeyError:
        raise UnlistedEventError(name) from None


_ROWS: Final[tuple[Event, ...]] = (
    # the process
    Event(
        "worker.started",
        "info",
        ("version", "name", "group", "apps"),
        "The process is up; it is no member of its group yet.",
    ),
    Event("worker.stopping", "info", ("signal", "drain_seconds"), "A signal came: nothing new is begun."),
    Event(
        "worker.stopped",
        "info",
        ("exit_code", "left_open", "seconds"),
        "The end; what was left open is carried out by the next owner.",
    ),
    Event(
        "worker.failed", "error", ("reason",), "The process ends with exit code 1. The traceback says where."
    ),
    Event(
        "worker.killed", "warning", ("signal",), "A second signal came: the process ends without draining."
    ),
    Event(
        "loop.stalled",
        "warning",
        ("seconds",),
        "The event loop did not run for so long: the machine is short of CPU.",
    ),
    Event("server.started", "info", ("host", "port"), "Health and metrics are served."),
    Event("thread.crashed", "error", ("thread",), "A thread died of an exception: a fault of the code."),
    Event("library.logged", "info", ("logger", "message"), "A line of a library, at its own level."),
    Event(
        "log.event_unlisted",
        "error",
        ("name",),
        "A log event that is not in the catalogue: a fault of the code.",
    ),
    # calls
    Event("batch.sent", "debug", ("call_id", "endpoint", "members", "number"), "A request left."),
    Event(
        "batch.answered",
        "info",
        ("call_id", "endpoint", "members", "number", "verdict", "error_code", "elapsed_ms"),
        "A request ended.",
    ),
    Event(
        "request.failed_strangely",
        "error",
        ("endpoint", "what"),
        "A request failed in a way that is in no table: report it.",
    ),
    # signatures
    Event("signature.renewed", "info", ("app", "serial", "forced"), "A new signature is in use."),
    Event(
        "signature.key_changed", "info", ("app",), "The key file holds another key, which counts from now on."
    ),
    Event(
        "signature.key_unreadable",
        "warning",
        ("app", "reason"),
        "The key file holds no key: the old key stays in use.",
    ),
)

EVENTS: Final[dict[str, Event]] = {row.name: row for row in _ROWS}
