# What the checker is given: what was sent, what came out of the topics, and what the API says that it did.
#
# Values only. Reading them from Kafka and from the simulator's log is done elsewhere; judging them in check.py.

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.testing.checker.contract import CommandedEffect, SeenOutcome


class Fate(StrEnum):
    """What must become of a record."""

    CARRIED_OUT = "carried out"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNREADABLE = "unreadable"
    """No command_id can be read: a dead letter and no outcome."""


@dataclass(frozen=True, slots=True)
class Planned:
    """
    One record to be produced, and what must become of it.

    Attributes:
        users: Without repeats, in order.
        effect: What it wants done; None for a bad record.
        field: Of a bad record: the field that its outcome must name (or begin with); None when any will do.
        kind: What is wrong with a bad record, in words.

    """

    key: bytes | None
    value: bytes | None
    fate: Fate
    command_id: str | None = None
    target: str = ""
    users: tuple[str, ...] = ()
    effect: CommandedEffect | None = None
    field: str | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ProducedCommand:
    """
    A record as it stands in the command topic.

    Attributes:
        at: The record's timestamp, seconds since 1970.

    """

    planned: Planned
    partition: int
    offset: int
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class PublishedOutcome:
    """
    An outcome as it stands in the outcome topic.

    Attributes:
        at: The record's timestamp, seconds since 1970.

    """

    body: SeenOutcome
    partition: int
    key: bytes | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class FoundDeadLetter:
    """
    A record of the dead-letter topic.

    Attributes:
        value_omitted: It did not fit; the value is empty by intent.

    """

    outcome_id: str
    error_code: str
    key: bytes | None = None
    value: bytes | None = None
    value_omitted: bool = False


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """
    One request, as the API logged it.

    Attributes:
        read_at: When it was read from the socket, seconds since 1970 (what the quota counts).
        code: The code it was answered with; None when it got no answer that could be read.
        applied: The users for whom it took effect, each with the time (seconds since 1970) and the request's number,
            which together are the order of all effects.

    """

    read_at: float
    endpoint: str
    target: str
    users: tuple[str, ...]
    effect: CommandedEffect
    code: int | None = 0
    request_id: str | None = None
    applied: Mapping[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interruption:
    """
    A time in which partitions may have got a new owner before the old one had published what it had done.

    What was not published when it began may have been done once more, in order, by the new owner: the worker promises
    otherwise only for a handover that has the time to finish. A crash begins and ends at once.

    Attributes:
        begin: Seconds since 1970.
        end: Seconds since 1970.

    """

    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    Everything about one run.

    Attributes:
        topic: The command topic: outcome ids begin with it.
        bad_users: The users that the API was told not to know.
        breaks: When replicas were killed, or came while there was trouble.

    """

    topic: str
    sent: tuple[ProducedCommand, ...]
    outcomes: tuple[PublishedOutcome, ...]
    letters: tuple[FoundDeadLetter, ...]
    requests: tuple[LoggedRequest, ...]
    bad_users: frozenset[str] = frozenset()
    breaks: tuple[Interruption, ...] = ()


class Violation(StrEnum):
    """What can be found to be wrong, in the words of the summary."""

    LOST = "lost: commands without an outcome"
    DOUBLED = "doubled: outcomes published twice"
    STRAY = "outcomes of no command, or under another key or partition"
    WRONG_STATUS = "commands that ended as they must not"
    OUT_OF_ORDER = "out of order: effects of one user"
    WRONG_STATE = "users left in the wrong state"
    EXECUTED_AGAIN = "commands executed again"
    NOT_EXECUTED = "outcomes that tell of effects that never were"
    UNASKED = "effects that nobody commanded"
    OVER_QUOTA = "requests above the quota in a rolling second"
    UNKNOWN_ANSWER = "RequestIds or codes that the API did not give"
    LETTER_MISSING = "dead letters missing"
    LETTER_EXTRA = "dead letters too many, or altered"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, told so that a person can look it up in the topics and the log."""

    fault: Violation
    what: str
