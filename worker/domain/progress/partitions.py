# One partition of the command topic during one assignment: its offsets, its ids, its open commands, and the records
# that were fetched but do not fit yet.
#
# Only state and questions about it. An assignment has its own Partition: what belonged to an earlier one is gone.

from collections import deque
from typing import TYPE_CHECKING, Final

from worker.domain.progress.dedupe import Ids
from worker.domain.progress.offsets import Offsets

if TYPE_CHECKING:
    from worker.domain.effects import Record, Restored
    from worker.domain.progress.work import Work
    from worker.domain.rules import Rules

SETTLING: Final = 3.0
"""
After an assignment nothing of the partition is called for so many seconds: Tencent's own budget for a request. Until
then what a dead predecessor had sent has arrived and been applied, and its slice of the quota is free.
"""


class Partition:
    """
    Attributes:
        active_at: From then on its commands are called and its slice of the quota is used.
        active: That time has come.
        closing: It starts nothing new: a handover or a drain.
        gone: It is not ours any more.
        works: The open commands, by offset.
        by_id: The newest open command of each id.
        backlog: Records that were fetched and do not fit yet, oldest first.

    """

    __slots__ = (
        "active",
        "active_at",
        "backlog",
        "by_id",
        "closing",
        "gone",
        "ids",
        "number",
        "offsets",
        "paused",
        "works",
    )

    def __init__(self, number: int, restored: "Restored", rules: "Rules", now: float) -> None:
        self.number = number
        self.active_at = now + SETTLING
        self.active = False
        self.closing = False
        self.gone = False
        self.paused = False
        self.offsets = Offsets(restored.position, restored.metadata, rules.max_gap)
        self.ids = Ids(rules.dedupe_window, rules.restore_records)
        for known in restored.known:
            self.ids.remember(known)
        self.works: dict[int, Work] = {}
        self.by_id: dict[str, Work] = {}
        self.backlog: deque[Record] = deque()

    @property
    def quiet(self) -> bool:
        """
        Nothing of it is in progress or unpublished: it may be handed over.
        """
        return not self.works

    def __repr__(self) -> str:
        state = "closing" if self.closing else "active" if self.active else "settling"
        return f"<Partition {self.number} {state}, {self.offsets!r}, {len(self.backlog)} in the backlog>"
