# How a command line waits for the outcomes of what it sent, and which exit code they make.
#
# Not here: which commands are sent (send.py), how Kafka is read (outcome_follower.py).

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from worker.cli.shared import NOT_APPLIED, NOT_SENT, WAITS
from worker.domain.contract.outcomes import STATUSES, LeftToDo, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.broker.outcome_follower import OutcomeFollower

POLL_SECONDS: Final = 0.5

_EXIT_CODES: Final = {LeftToDo.NOTHING: 0, LeftToDo.UNSENT: NOT_SENT, LeftToDo.NOT_APPLIED: NOT_APPLIED}
_WORST_FIRST: Final = (WAITS, NOT_APPLIED, NOT_SENT, 0)


class ErrorHead(msgspec.Struct):
    """What one line shows of an outcome's error."""

    message: str


class OutcomeHead(msgspec.Struct):
    """What is needed of an outcome to know whose it is, and to show it in one line."""

    outcome_id: str
    status: Status
    command_id: str
    error: ErrorHead | None = None


_HEADS: Final = msgspec.json.Decoder(OutcomeHead)


def follow(
    follower: OutcomeFollower,
    open_places: set[str],
    seconds: float,
    on_outcome: Callable[[OutcomeHead, bytes], None],
) -> None:
    """
    Wait until each of these commands has its outcome, or ``seconds`` are over.

    ``open_places`` are the outcome_ids: each leaves with its outcome, so those that have none are left, after an interrupt too.
    ``on_outcome`` gets each outcome once, as it comes, with its JSON.
    """
    end = time.monotonic() + seconds
    while open_places and (left := end - time.monotonic()) > 0:
        for value in follower.poll(min(POLL_SECONDS, left)):
            head = _head(value)
            if head is not None and head.outcome_id in open_places:
                open_places.discard(head.outcome_id)
                on_outcome(head, value)


def _head(value: bytes) -> OutcomeHead | None:
    """Return whose outcome this is; None for what another program, or a later version, wrote."""
    try:
        return _HEADS.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def exit_code(statuses: Iterable[Status], *, waits: bool) -> int:
    """Return the exit code of the worst of these outcomes, and of commands that still have none."""
    codes = {_EXIT_CODES[STATUSES[status].left_to_do] for status in statuses} | ({WAITS} if waits else set())
    return next((code for code in _WORST_FIRST if code in codes), 0)
