# What becomes of open commands when their partition goes, or the worker stops: what is started is finished, all else is left
# to the next owner.
#
# Leaving one to the next owner means leaving it all that must come after it. An offset is never finished here.
#
# A partition may have tens of thousands of waiting members. They are left by and by, so that answers are heard meanwhile: a permit
# comes back a second after its answer was heard, and the next owner waits for the last one. Nothing new leaves until that is done.

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
"""The members that are left to the next owner in one event, which takes some 12 ms; all of 80,000 held up the answers for 0.2 to 0.4 s."""


class Revocation:
    """
    Lets partitions go.

    Attributes:
        leaving: The partitions that are about to go: nothing new of them is started.
        unchecked: Their open commands that ``drop_unstarted`` has not looked at yet. Until it is empty, nothing new is sent.
        given_up: Started commands since the start that a drain or handover left to the next owner.

    """

    __slots__ = ("_admission", "_ordering", "_scheduler", "given_up", "leaving", "unchecked")

    def __init__(self, ordering: MemberOrdering, scheduler: Scheduler, admission: AdmissionControl) -> None:
        self._ordering = ordering
        self._scheduler = scheduler
        self._admission = admission
        self.leaving: dict[Partition, None] = {}
        self.unchecked: list[OpenCommand] = []
        self.given_up = 0

    def close(self, partition: Partition) -> None:
        """Start nothing new of it: it is about to go. ``drop_unstarted`` leaves what is not started to the next owner."""
        partition.close()
        self.leaving[partition] = None
        self._admission.forget_backlog(partition)
        self.unchecked.extend(
            record for record in partition.open_records.values() if isinstance(record, OpenCommand)
        )

    def drop_unstarted(self, now: float) -> list[OpenCommand]:
        """
        Leave commands that are not started, of partitions that were closed, to the next owner: of ``MEMBERS_AT_ONCE`` members, the
        last ones first. Return what may be emitted now, because it waited for them.
        """
        freed: list[OpenCommand] = []
        members = 0
        while self.unchecked and members < MEMBERS_AT_ONCE:
            # The last: what must come after it has gone already. From the first on, all that share a user would go at once.
            command = self.unchecked.pop()
            if not command.started and not command.emitted and command.unsettled and not command.dropped:
                members += len(command.tasks)
                freed += self._drop(command, now)
        return freed

    def give_up(self, now: float) -> list[OpenCommand]:
        """
        Drop the started commands that a handover does not wait for: because of a gate of their endpoint, or of their order (a pause)
        while no call carries them. Return what may be emitted now.
        """
        freed = []
        for partition in self.leaving:
            started = [
                command
                for command in partition.open_records.values()
                if isinstance(command, OpenCommand) and command.started
            ]
            for command in started:
                if not command.unsettled or command.dropped:
                    continue
                is_behind_gate = self._scheduler.endpoints[command.endpoint].is_skipped_by_drain
                if is_behind_gate or _may_be_left(command):
                    self.given_up += 1
                    if is_behind_gate:
                        partition.clean_handover.give_up()
                    freed += self._drop(command, now)
        return freed

    def leave_stranded(self, stranded: Iterable[OpenRecord], now: float) -> None:
        """Leave results that cannot be committed here any more to the next owner: a handover would wait for them in vain."""
        for record in stranded:
            self.given_up += isinstance(record, OpenCommand)
            freed = self._drop(record, now)
            assert not freed, "what is emitted has released all that waited for it"

    def leave(self, partition: Partition, now: float) -> list[OpenCommand]:
        """Leave everything that is open to the next owner: it is gone. Return what may be emitted now."""
        partition.leave()
        self.leaving.pop(partition, None)
        self._admission.forget_backlog(partition)
        freed = []
        for record in list(partition.open_records.values()):
            freed += self._drop(record, now)
        if not self.leaving:
            self.unchecked.clear()
        return freed

    def _drop(self, record: OpenRecord, now: float) -> list[OpenCommand]:
        """
        Leave the record to the next owner, and with it, of the partitions that go as well, all that must come after it. Return
        those of other partitions that waited for it alone.
        """
        freed: list[OpenCommand] = []
        dropping = [record]
        while dropping:
            leaving = dropping.pop()
            if leaving.dropped:
                continue
            if isinstance(leaving, OpenCommand):
                for later in leaving.release_successors():
                    assert not later.emitted, "it was finished before a command that it shares a member with"
                    if later.partition.is_closing:
                        dropping.append(later)
                    elif later.may_be_emitted:
                        freed.append(later)
                if any(task.state is TaskState.CALLED for task in leaving.tasks):
                    leaving.partition.clean_handover.give_up()  # nobody waits for the call
                self._ordering.drop(leaving, now)
            else:
                leaving.drop()
            self._admission.free_memory_of([leaving])
            leaving.partition.forget(leaving)
        return freed


def _may_be_left(command: OpenCommand) -> bool:
    """Return whether nobody waits for the command because of its order, and nothing of it is on its way."""
    return not command.mode.holds_up_drain and all(
        task.state is not TaskState.CALLED for task in command.tasks
    )
