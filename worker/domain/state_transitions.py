# Where a member, a call, a partition and its clean handover may go from where: one table each.
#
# The owners move themselves (`move_to` of MemberTask, InFlightCall, Partition and CleanHandover), and each step is asserted
# against its table. ARCHITECTURE.md draws these tables; a test keeps the drawing fresh. No state lives here.

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class TaskState(StrEnum):
    """Where a member of an open command is."""

    BEHIND = "behind"
    """In its member queue, behind a task of an earlier command, delayed by an earlier attempt of unknown end, or paused."""
    WAITING = "waiting"
    """In its endpoint's queue, for a permit."""
    CALLED = "called"
    """In a call that is not over."""
    COALESCED = "coalesced"
    """On the call of another task of the same member, which has the same effect."""
    SETTLED = "settled"
    """It has its result, or its command was dropped."""


class CallState(StrEnum):
    """What a call is doing."""

    AWAITING_PERMIT = "awaiting permit"
    """It waits for a permit: a retry, a half of a bisection, or a new batch."""
    OUT = "out"
    """A request of it is in flight."""
    BACKING_OFF = "backing off"
    """Its last attempt has ended; it waits to ask for another permit."""
    CLOSED = "closed"
    """It is over: its tasks have results, or are no longer in it."""


class PartitionState(StrEnum):
    """What an assigned partition is doing."""

    COOLING_OFF = "cooling off"
    """Just assigned: requests of an owner before may still take effect, so none of its commands is called."""
    ACTIVE = "active"
    """Its commands are called, and its slice of the quota is used."""
    CLOSING = "closing"
    """A handover or a drain: no further command of it is started."""
    GONE = "gone"
    """It is not ours any more."""


class CleanHandoverState(StrEnum):
    """Whether a partition's last commit can say that none of its requests can act any more."""

    IDLE = "idle"
    """The partition is not closing, or was never active: there is nothing to say."""
    FINISHING = "finishing"
    """It is closing, and has something left to call."""
    COVERING = "covering"
    """It has nothing left to call. The permits that remain may not cover the requests in flight and the loans yet, or a request may still act."""
    READY = "ready"
    """The next commit that leaves nothing open says so."""
    COMMITTING = "committing"
    """A commit that says so is under way, or will be tried again."""
    OVER = "over"
    """A commit has said so, or there was no time for one."""


TASK_STEPS: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    TaskState.BEHIND: frozenset({TaskState.WAITING, TaskState.COALESCED, TaskState.SETTLED}),
    TaskState.WAITING: frozenset({TaskState.BEHIND, TaskState.CALLED, TaskState.SETTLED}),
    TaskState.CALLED: frozenset({TaskState.BEHIND, TaskState.WAITING, TaskState.SETTLED}),
    TaskState.COALESCED: frozenset({TaskState.BEHIND, TaskState.SETTLED}),
    TaskState.SETTLED: frozenset(),
}
CALL_STEPS: Final[Mapping[CallState, frozenset[CallState]]] = {
    CallState.AWAITING_PERMIT: frozenset({CallState.OUT, CallState.CLOSED}),
    CallState.OUT: frozenset({CallState.BACKING_OFF, CallState.CLOSED}),
    CallState.BACKING_OFF: frozenset({CallState.AWAITING_PERMIT, CallState.CLOSED}),
    CallState.CLOSED: frozenset(),
}
PARTITION_STEPS: Final[Mapping[PartitionState, frozenset[PartitionState]]] = {
    PartitionState.COOLING_OFF: frozenset(
        {PartitionState.ACTIVE, PartitionState.CLOSING, PartitionState.GONE}
    ),
    PartitionState.ACTIVE: frozenset({PartitionState.CLOSING, PartitionState.GONE}),
    PartitionState.CLOSING: frozenset({PartitionState.GONE}),
    PartitionState.GONE: frozenset(),
}

CLEAN_HANDOVER_STEPS: Final[Mapping[CleanHandoverState, frozenset[CleanHandoverState]]] = {
    CleanHandoverState.IDLE: frozenset({CleanHandoverState.FINISHING}),
    CleanHandoverState.FINISHING: frozenset({CleanHandoverState.COVERING, CleanHandoverState.OVER}),
    CleanHandoverState.COVERING: frozenset({CleanHandoverState.READY, CleanHandoverState.OVER}),
    CleanHandoverState.READY: frozenset({CleanHandoverState.COMMITTING, CleanHandoverState.OVER}),
    CleanHandoverState.COMMITTING: frozenset({CleanHandoverState.READY, CleanHandoverState.OVER}),
    CleanHandoverState.OVER: frozenset(),
}
