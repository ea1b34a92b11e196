# Which rejections have a log line: each, as long as they are few; of a flood the first ones, and how many there were.
#
# Lines are made here, as values; admission_control.py has them written.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.contract.visible_text import printable
from worker.domain.effects import LogEvent

if TYPE_CHECKING:
    from worker.domain.contract.rejections import Rejected

LINES: Final = 10
"""The most lines between two summaries. A producer gone wrong sends thousands a second, all rejected for one reason."""


class RejectionLog:
    """Makes the lines, at most ``LINES`` between two summaries."""

    def __init__(self) -> None:
        self._written = 0
        self._omitted = 0
        self._codes: set[str] = set()

    def line(self, rejected: Rejected, partition: int, offset: int) -> LogEvent | None:
        """Return the line of one rejection; None if there were too many since the last summary."""
        if self._written >= LINES:
            self._omitted += 1
            self._codes.add(rejected.code)
            return None
        self._written += 1
        fields: dict[str, object] = {
            "partition": partition,
            "offset": offset,
            "issuer": printable(rejected.issuer),
            "command_id": printable(rejected.command_id),
            "code": rejected.code,
            "field": rejected.field,
        }
        return LogEvent("record.rejected", "warning", fields)

    def summary(self) -> LogEvent | None:
        """Return a line with how many rejections since the last summary had none; None if each had one."""
        omitted, codes = self._omitted, ", ".join(sorted(self._codes))
        self._written = self._omitted = 0
        self._codes.clear()
        if not omitted:
            return None
        return LogEvent("rejections.omitted", "warning", {"count": omitted, "codes": codes})
