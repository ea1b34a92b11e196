# Where a member, a call, a partition and its clean handover may go from where: one table each.
#
# The owners move themselves (`move_to` of MemberTask, InFlightCall, Partition and CleanHandover), and each step is asserted
# against its table. ARCHITECTURE.md draws these tables; a test keeps the drawing fresh. No state lives here.

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class TaskState(StrEnum):
    """Where a member of an open command is."""

    BEHIND = "behind"
    """In its member queue, behind an earlier command's member, delayed by an earlier attempt of unknown end, or paused."""
    WAITING = "waiting"
    """In its endpoint's queue, for a permit."""
    CALLED = "called"
    """In a call that is not over."""
    COALESCED = "coalesced"
    """On another member's call, which has the same effect."""
    SETTLED = "settled"
    """It has its result, or is left to the next owner."""


class CallState(StrEnum):
    """What a call is doing."""

    AWAITING_PERMIT = "awaiting permit"
    """It waits for a permit: a retry, a half of a bisection, or a batch that is just leaving."""
    OUT = "out"
    """A request of it is on its way."""
    BACKING_OFF = "backing off"
    """Its last attempt has ended; it waits to ask for another permit."""
    CLOSED = "closed"
    """It is over: its members have results, or are elsewhere."""


class PartitionState(StrEnum):
    """What an assigned partition is doing."""

    COOLING_OFF = "cooling off"
    """Just assigned: what a predecessor had sent may still take effect, so nothing of it is called."""
    ACTIVE = "active"
    """Its commands are called, and its slice of the quota is used."""
    CLOSING = "closing"
    """A handover or a drain: it starts nothing new."""
    GONE = "gone"
    """It is not ours any more."""


class CleanHandoverState(StrEnum):
    """How far a partition is with saying, in its last commit, that nothing of it is on its way any more."""

    IDLE = "idle"
    """It stays, or goes without ever having been active: there is nothing to say."""
    FINISHING = "finishing"
    """It goes, and something of it may still be called."""
    COVERING = "covering"
    """Nothing of it is called any more; the remaining permits may not cover yet what is out and lent, or a request may still act."""
    READY = "ready"
    """Its next commit with nothing open says so."""
    COMMITTING = "committing"
    """A commit that says so is under way, or goes again."""
    OVER = "over"
    """It is said, or there is no time for it."""


S = TypeVar("S", TaskState, CallState, PartitionState, CleanHandoverState)

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


def diagram(steps: Mapping[S, frozenset[S]]) -> str:
    """Draw one table as Mermaid draws a state machine."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(steps)).name}"]
    for state, following in steps.items():
        lines += [f"    {state.name} --> {each.name}" for each in steps if each in following]
        if not following:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join(lines) + "\n"
