# Which failed and cancelled commands get a line in the log: each, as long as they are few; of a flood the first, and how many
# there were.
#
# A line is written once the outcome is published, so that whoever reads it finds that. Rejected records have lines of their own
# (domain/rejection_log.py).

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from worker.domain.contract.outcomes import Status
from worker.domain.contract.visible_text import printable
from worker.runtime.recent_outcomes import request_id_of

if TYPE_CHECKING:
    from worker.domain.contract.outcomes import Outcome
    from worker.domain.effects import Transaction
    from worker.runtime import ports

LINES: Final = 10
"""The most lines between two summaries. A room that is gone fails thousands of commands a second, all for one reason."""
CODES: Final = 10
"""The most different codes that a summary names."""


class FailedCommandLog:
    """Logs the commands that have failed or were cancelled, at most ``LINES`` between two summaries. A PublishObserver."""

    def __init__(self, log: ports.Log) -> None:
        self._log = log
        self._written = 0
        self._omitted = 0
        self._codes: set[str] = set()

    def published(self, transaction: Transaction, _: float) -> None:
        """Log the failed and cancelled commands of a transaction. Each has a dead letter, so a transaction without any has none."""
        if not transaction.dead_letters:
            return
        for outgoing in transaction.outcomes:
            if outgoing.outcome.status is Status.FAILED or outgoing.outcome.status is Status.CANCELLED:
                self._failed(outgoing.outcome)

    def summarize(self) -> None:
        """Log how many failures since the last summary had no line, if any had none. Call it once a second."""
        if self._omitted:
            self._log("failures.omitted", count=self._omitted, codes=", ".join(sorted(self._codes)))
        self._written = self._omitted = 0
        self._codes.clear()

    def _failed(self, outcome: Outcome) -> None:
        code = outcome.error.code if outcome.error is not None else None
        if self._written >= LINES:
            self._omitted += 1
            if code is not None and len(self._codes) < CODES:
                self._codes.add(code)
            return
        self._written += 1
        fields: dict[str, Any] = {
            "partition": outcome.source.partition,
            "offset": outcome.source.offset,
            "issuer": printable(outcome.issuer),
            "command_id": printable(outcome.command_id),
            "action": outcome.action,
            "app": outcome.app,
            "target": printable(outcome.target),
            "code": code,
            "attempts": outcome.attempts,
        }
        if outcome.status is Status.CANCELLED:
            self._log("command.cancelled", **fields)
        else:
            self._log("command.failed", **fields, request_id=request_id_of(outcome))

    def __repr__(self) -> str:
        return f"<FailedCommandLog, {self._written} lines and {self._omitted} omitted since the last summary>"
