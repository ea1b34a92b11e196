# What becomes of open commands when their partition is closing, or the worker stops: started ones are finished, all others are
# dropped, and so handed over to the next owner.
#
# Handing over a command hands over everything that must come after it. An offset is never finished here.
#
# A partition may have tens of thousands of waiting members. They are dropped by and by, so that answers are heard meanwhile: a permit
# comes back a second after its answer was heard, and the next owner waits for the last one. Nothing new is sent until that is done.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.progress.open_commands import OpenCommand
from worker.domain.state_transitions import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.admission_control import AdmissionControl
    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import OpenRecord
    from worker.domain.progress.partitions import Partition


MEMBERS_AT_ONCE: Final = 5_000
"""The members that are dropped in one event, which takes some 12 ms; dropping all of 80,000 held up the answers for 0.2 to 0.4 s."""


class Revocation:
    """
    Hands partitions over.

    Attributes:
        closing: The closing partitions: nothing new of them is started.
        unchecked: Their open commands that ``drop_unstarted`` has not looked at yet. Until it is empty, nothing new is sent.
        given_up: Started commands that were dropped since the start, by a drain or a handover.

    """

    def __init__(self, ordering: MemberOrdering, scheduler: Scheduler, admission: AdmissionControl) -> None:
        self._ordering = ordering
        self._scheduler = scheduler
        self._admission = admission
        self.closing: dict[Partition, None] = {}
        self.unchecked: list[OpenCommand] = []
        self.given_up = 0

    def close(self, partition: Partition) -> None:
        """Start nothing new of the partition. ``drop_unstarted`` drops its unstarted commands."""
        partition.close()
        self.closing[partition] = None
        self._admission.forget_backlog(partition)
        self.unchecked.extend(
            record for record in partition.open_records.values() if isinstance(record, OpenCommand)
        )

    def drop_unstarted(self, now: float) -> list[OpenCommand]:
        """
        Drop unstarted commands of closing partitions, newest first, some ``MEMBERS_AT_ONCE`` members a call. Return the commands that
        may now be emitted.
        """
        freed: list[OpenCommand] = []
        members = 0
        while self.unchecked and members < MEMBERS_AT_ONCE:
            # Newest first: its successors are dropped already. Oldest first, one drop would take all that share a user.
            command = self.unchecked.pop()
            if not command.started and not command.emitted and command.unsettled and not command.dropped:
                members += len(command.tasks)
                freed += self._drop(command, now)
        return freed

    def give_up(self, now: float) -> list[OpenCommand]:
        """
        Drop the started commands that a handover does not wait for: because of a gate of their endpoint, or of their order (a pause)
        while no call carries them. Return the commands that may now be emitted.
        """
        freed = []
        for partition in self.closing:
            started = [
                command
                for command in partition.open_records.values()
                if isinstance(command, OpenCommand) and command.started
            ]
            for command in started:
                if not command.unsettled or command.dropped:
                    continue
                is_behind_gate = self._scheduler.endpoints[command.endpoint].is_skipped_by_drain
                if is_behind_gate or _may_be_dropped(command):
                    self.given_up += 1
                    if is_behind_gate:
                        partition.clean_handover.give_up()
                    freed += self._drop(command, now)
        return freed

    def drop_stranded(self, stranded: Iterable[OpenRecord], now: float) -> None:
        """Drop records whose results cannot be committed here any more: a handover would wait for them in vain."""
        for record in stranded:
            self.given_up += isinstance(record, OpenCommand)
            freed = self._drop(record, now)
            assert not freed, "an emitted command has released all that waited for it"

    def release(self, partition: Partition, now: float) -> list[OpenCommand]:
        """Drop all open records of a partition that is not ours any more. Return the commands that may now be emitted."""
        partition.release()
        self.closing.pop(partition, None)
        self._admission.forget_backlog(partition)
        freed = []
        # Newest first, as in ``drop_unstarted``: then none of them leaves its place to one that is dropped next.
        for record in reversed(list(partition.open_records.values())):
            freed += self._drop(record, now)
        if not self.closing:
            self.unchecked.clear()
        return freed

    def _drop(self, record: OpenRecord, now: float) -> list[OpenCommand]:
        """
        Drop the record and, in closing partitions, every command that must come after it. Return commands of other partitions that
        waited only for these.
        """
        freed: list[OpenCommand] = []
        dropping = [record]
        while dropping:
            dropped = dropping.pop()
            if dropped.dropped:
                continue
            if isinstance(dropped, OpenCommand):
                for later in dropped.release_successors():
                    assert not later.emitted, "it was finished before a command that it shares a member with"
                    if later.partition.is_closing:
                        dropping.append(later)
                    elif later.may_be_emitted:
                        freed.append(later)
                if any(task.state is TaskState.CALLED for task in dropped.tasks):
                    dropped.partition.clean_handover.give_up()  # nobody waits for the call
                self._ordering.drop(dropped, now)
            else:
                dropped.drop()
            self._admission.free_memory_of([dropped])
            dropped.partition.forget(dropped)
        return freed


def _may_be_dropped(command: OpenCommand) -> bool:
    """Return whether nobody waits for the command because of its order, and no call carries it."""
    return not command.mode.holds_up_drain and all(
        task.state is not TaskState.CALLED for task in command.tasks
    )
