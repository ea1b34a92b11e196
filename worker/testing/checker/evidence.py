# What the checker judges: the commands produced, what came out of the topics, and what the API logged.
#
# Values only. topic_reader.py reads them from Kafka and simulator_log.py from the simulator's log; evidence_check.py judges them.

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.testing.checker.contract import CommandedEffect, SeenOutcome


class ExpectedFate(StrEnum):
    """What must become of a record."""

    CARRIED_OUT = "carried out"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNREADABLE = "unreadable"
    """It has no readable command_id: a dead letter and no outcome."""


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    """
    One record to produce, and what must become of it.

    Attributes:
        users: In order, without repeats.
        effect: The commanded effect; None for a bad record.
        field: The start of the field that the outcome of a bad record must name; None for any.
        kind: What is wrong with a bad record, in words.

    """

    key: bytes | None
    value: bytes | None
    fate: ExpectedFate
    command_id: str | None = None
    target: str = ""
    users: tuple[str, ...] = ()
    effect: CommandedEffect | None = None
    field: str | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ProducedCommand:
    """
    A record in the command topic.

    Attributes:
        at: The record's timestamp, seconds since 1970.

    """

    planned: PlannedRecord
    partition: int
    offset: int
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class PublishedOutcome:
    """
    An outcome in the outcome topic.

    Attributes:
        at: The record's timestamp, seconds since 1970.

    """

    body: SeenOutcome
    partition: int
    key: bytes | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class PublishedDeadLetter:
    """
    A record of the dead-letter topic.

    Attributes:
        value_omitted: Whether the value was left out because it did not fit.

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
        read_at: When it was read from the socket, in seconds since 1970; this is what the quota counts.
        code: The ErrorCode of its answer; None if it got no readable answer.
        applied: The users for whom it took effect, each with the time (seconds since 1970) and the request's number,
            which together order all effects.

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
    A time in which partitions may have got a new owner before the old one had published its results.

    The new owner may have repeated, in order, what was not published at its beginning: the worker promises otherwise
    only for a handover that has the time to finish. A crash begins and ends at once.

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
        topic: The command topic, with which outcome ids begin.
        bad_users: The users that do not exist at the API.
        interruptions: When replicas were killed, or joined during trouble.
        ordered: The statuses that an operator has ordered: of ``cancelled`` and ``simulated``.

    """

    topic: str
    sent: tuple[ProducedCommand, ...]
    outcomes: tuple[PublishedOutcome, ...]
    letters: tuple[PublishedDeadLetter, ...]
    requests: tuple[LoggedRequest, ...]
    bad_users: frozenset[str] = frozenset()
    interruptions: tuple[Interruption, ...] = ()
    ordered: frozenset[str] = frozenset()


class ViolationKind(StrEnum):
    """What can be wrong, in the words of the summary."""

    LOST = "lost: commands without an outcome"
    DOUBLED = "doubled: outcomes published twice"
    STRAY = "outcomes of no command, or under another key or partition"
    WRONG_STATUS = "commands with a wrong status"
    OUT_OF_ORDER = "out of order: effects of one user"
    WRONG_STATE = "users left in the wrong state"
    EXECUTED_AGAIN = "commands executed again"
    NOT_EXECUTED = "outcomes that report effects that never happened"
    UNASKED = "effects that no command asked for"
    OVER_QUOTA = "requests above the quota in a rolling second"
    UNKNOWN_ANSWER = "RequestIds or codes that the API did not give"
    LETTER_MISSING = "dead letters missing"
    LETTER_EXTRA = "dead letters extra or altered"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation, described so that it can be looked up in the topics and the log."""

    violation: ViolationKind
    what: str
