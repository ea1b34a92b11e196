# A partition of the command topic during one assignment: its open records, its known ids and offsets, and the records that wait to be
# admitted. Nothing here is of an earlier assignment.
#
# It keeps the books. Which records are admitted is decided in admission_control.py, what becomes of the open commands of a closing
# partition in revocation.py. Its offsets are finished in one place, `finish`.

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from worker.domain.progress.clean_handover import CleanHandover
from worker.domain.progress.commit_metadata import label
from worker.domain.progress.dedupe import CommandIds
from worker.domain.progress.offset_tracker import OffsetTracker
from worker.domain.progress.open_commands import OpenCommand
from worker.domain.state_transitions import PARTITION_STEPS, CleanHandoverState, PartitionState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.contract.outcomes import RememberedCommandId
    from worker.domain.contract.raw_records import Record
    from worker.domain.effects import OffsetCommit, RestoredPartition
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.dedupe import CommandIdBudget
    from worker.domain.progress.open_commands import OpenRecord

COOLING_OFF_SECONDS: Final = 3.0
"""
For this long after an assignment none of the partition's commands is called: Tencent's own budget for a request. After that the
requests of a dead predecessor have arrived and been applied, and its slice of the quota is free.
"""
START_CREDIT: Final = 1.5
"""
The most of these three seconds that may lie before the assignment, since a static member's own start. The rest covers a process of
the same name that lives by mistake, and learns within a heartbeat of its successor that it has to stop. After a clean handover no
rest is needed: no request of the partition can act, and its slice is free at the latest a second after the owner before has ended.
"""
_CLOSING_OR_GONE: Final = frozenset({PartitionState.CLOSING, PartitionState.GONE})


class Partition:
    """
    One assigned partition.

    Attributes:
        active_at: From then on its commands are called and its slice of the quota is used, unless it ``is_marked``.
        is_marked: Its committed metadata says that the owner before handed over cleanly, or names that owner. It must be replaced
            before a command is called: whoever owns the partition after a crash would believe it.
        clean_handover: Whether its last commit can say that none of its requests can act any more.
        holds_slice: Its slice of the quota may be used: from its activation until it closes and has nothing left to call, or is gone.
        topic: The topic that it belongs to.
        open_records: The admitted records that are not committed yet, by offset.
        backlog: Fetched records that could not be admitted yet, oldest first.
        paused: No more records of it are to be fetched.

    """

    def __init__(
        self,
        number: int,
        restored: RestoredPartition,
        settings: EngineSettings,
        now: float,
        memory: CommandIdBudget,
    ) -> None:
        self.number = number
        self.topic = settings.topic
        self.state = PartitionState.COOLING_OFF
        self.active_at = now + (
            COOLING_OFF_SECONDS if restored.slice_free_in is None else restored.slice_free_in
        )
        self.is_marked = restored.slice_free_in is not None or restored.owner not in ("", settings.owner_mark)
        self.clean_handover = CleanHandover()
        self.holds_slice = False
        self.paused = False
        whose = label(settings.topic, settings.topic_id, number)
        self.offsets = OffsetTracker(
            restored.position, restored.done, settings.max_gap, whose, settings.owner_mark
        )
        self.ids = CommandIds(settings.dedupe_window, settings.restore_records, memory)
        for known in restored.known:
            self.ids.remember(known)
        self.open_records: dict[int, OpenRecord] = {}
        self.backlog: deque[Record] = deque()
        self._newest_by_id: dict[str, OpenCommand] = {}

    # Its state

    def move_to(self, state: PartitionState) -> None:
        """Take a step of the table."""
        assert state in PARTITION_STEPS[self.state], f"{self!r} cannot become {state.value}"
        self.state = state

    @property
    def is_closing(self) -> bool:
        """Whether it is closing or gone: none of its commands is started any more."""
        return self.state in _CLOSING_OR_GONE

    @property
    def is_gone(self) -> bool:
        """Whether it is not ours any more."""
        return self.state is PartitionState.GONE

    @property
    def is_quiet(self) -> bool:
        """Whether it has nothing in progress or unpublished: it may be handed over."""
        return not self.open_records and not self.clean_handover.is_awaited

    def activate(self, now: float) -> bool:
        """Activate it if the time has come. Return whether that happens now."""
        if self.state is not PartitionState.COOLING_OFF or self.is_marked or now < self.active_at:
            return False
        self.move_to(PartitionState.ACTIVE)
        self.holds_slice = True
        return True

    @property
    def wake_at(self) -> float:
        """When time alone changes its state or its clean handover; infinity: never."""
        if self.state is PartitionState.COOLING_OFF and not self.is_marked:
            return self.active_at
        return self.clean_handover.wake_at

    def close(self) -> None:
        """Close it: start nothing new. If it was active, a clean handover is possible."""
        if not self.is_closing:
            self.move_to(PartitionState.CLOSING)
            if self.holds_slice:
                self.clean_handover.begin()

    def release_slice(self, now: float) -> bool:
        """Use its slice of the quota no longer, if it is closing and has nothing left to call. Return whether that happens now."""
        if self.clean_handover.state is not CleanHandoverState.FINISHING or self._has_unsettled:
            return False
        self.holds_slice = False
        self.clean_handover.begin_covering(now)
        return True

    def advance_handover(self, now: float, seconds_until_covered: float | None) -> bool:
        """
        Advance its clean handover as far as possible (``seconds_until_covered``: as in ``CleanHandover.advance``). Return whether a
        commit without results is needed for that.
        """
        return self.clean_handover.advance(now, seconds_until_covered) and not self.open_records

    @property
    def _has_unsettled(self) -> bool:
        return any(
            isinstance(record, OpenCommand) and record.unsettled for record in self.open_records.values()
        )

    def release(self) -> None:
        """Release it: it is not ours any more. Forget its ids."""
        self.move_to(PartitionState.GONE)
        self.holds_slice = False
        self.clean_handover.give_up()
        self.ids.close()

    # What is fetched

    def reached(self, position: int) -> None:
        """
        Note the consumer's position: every record below was received, or will never come.

        The backlog of a closing partition is the next owner's, though the consumer has passed it.
        """
        if not self.backlog and not self.is_closing:
            self.offsets.reached(position)

    def hold_back(self, record: Record) -> None:
        """Keep a record that cannot be admitted yet."""
        self.backlog.append(record)

    def admit_held_back(self) -> None:
        """Remove the oldest record of the backlog: it is admitted."""
        self.backlog.popleft()

    def clear_backlog(self) -> None:
        """Forget the backlog: it is the next owner's."""
        self.backlog.clear()

    def pause(self) -> bool:
        """Pause it. Return whether it was not paused."""
        was, self.paused = self.paused, True
        return not was

    def resume(self) -> bool:
        """End the pause, if there is one and the backlog is empty. Return whether it ended."""
        if not self.paused or self.backlog or self.state is not PartitionState.ACTIVE:
            return False
        self.paused = False
        return True

    # What is open

    def admit(self, record: OpenRecord) -> None:
        """Take an admitted record into the books."""
        self.offsets.admit(record.offset)
        self.open_records[record.offset] = record
        if isinstance(record, OpenCommand):
            self._newest_by_id[record.known_as] = record

    def find(self, command_id: str, wall: float) -> OpenCommand | RememberedCommandId | None:
        """Return the newest command with this id: an open one, or one that is still known at ``wall`` (seconds since 1970)."""
        return self._newest_by_id.get(command_id) or self.ids.find(command_id, wall)

    @property
    def is_held_up(self) -> bool:
        """Whether its backlog is not empty, and an order makes its oldest open command wait."""
        oldest = next(iter(self.open_records.values()), None)
        return isinstance(oldest, OpenCommand) and oldest.policy.waits and bool(self.backlog)

    @property
    def commit_lags(self) -> bool:
        """Whether it is active with nothing open, and its committed offset is below the position that was reached."""
        return self.state is PartitionState.ACTIVE and self.offsets.commit_lags

    def propose(self, finishing: Iterable[int], now: float) -> OffsetCommit:
        """Return the commit that goes with the results of these open records."""
        finished = frozenset(finishing)
        slice_free_in = self.clean_handover.propose(
            now, leaves_nothing_open=self.open_records.keys() <= finished
        )
        return self.offsets.propose(finished, slice_free_in)

    def committed(self, commit: OffsetCommit) -> None:
        """Note that this commit is made."""
        self.offsets.committed(commit)
        self.is_marked = False
        self.clean_handover.committed()

    def shorten_metadata(self) -> None:
        """
        Shorten its commit metadata: the broker refused the last as too long. First the clean handover goes unsaid, then records are
        admitted only closer to the oldest open one.
        """
        if self.clean_handover.state is CleanHandoverState.COMMITTING:
            self.clean_handover.give_up()
        else:
            self.offsets.halve()

    def finish(self, committed: list[OpenRecord], known: list[RememberedCommandId | None]) -> None:
        """
        Finish the offsets of these records, whose results are committed, and remember their ids.

        This is the one place where an offset is finished.
        """
        self.offsets.finish([each.offset for each in committed])
        for record, known_id in zip(committed, known, strict=True):
            self.forget(record)
            if record.outcome is not None:
                self.ids.remember(known_id)

    def forget(self, record: OpenRecord) -> None:
        """Take a record out of the books: it is finished or dropped."""
        self.open_records.pop(record.offset, None)
        if isinstance(record, OpenCommand) and self._newest_by_id.get(record.known_as) is record:
            del self._newest_by_id[record.known_as]

    def __repr__(self) -> str:
        return f"<Partition {self.number} {self.state.value}, {self.offsets!r}, {len(self.backlog)} in the backlog>"
