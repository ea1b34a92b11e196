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

    def drop_unstarted(self, now: float) -> None:
        """Drop unstarted commands of closing partitions, newest first, some ``MEMBERS_AT_ONCE`` members a call."""
        members = 0
        while self.unchecked and members < MEMBERS_AT_ONCE:
            # Newest first: its successors are dropped already. Oldest first, one drop would take all that share a user.
            command = self.unchecked.pop()
            if not command.started and not command.emitted and command.unsettled and not command.dropped:
                members += len(command.tasks)
                self._drop(command, now)

    def give_up(self, now: float) -> bool:
        """
        Drop the started commands that a handover does not wait for: because of a gate of their endpoint, or of their order (a pause)
        while no call carries them. Return whether there was any.
        """
        before = self.given_up
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
                    self._drop(command, now)
        return self.given_up > before

    def drop_stranded(self, stranded: Iterable[OpenRecord], now: float) -> None:
        """Drop records whose results cannot be committed here any more: a handover would wait for them until its deadline."""
        for record in stranded:
            self.given_up += isinstance(record, OpenCommand)
            self._drop(record, now)

    def release(self, partition: Partition, now: float) -> None:
        """Drop all open records of a partition that is not ours any more."""
        partition.release()
        self.closing.pop(partition, None)
        self._admission.forget_backlog(partition)
        # Newest first, as in ``drop_unstarted``: then none of them leaves its place to one that is dropped next.
        for record in reversed(list(partition.open_records.values())):
            self._drop(record, now)
        if not self.closing:
            self.unchecked.clear()

    def _drop(self, record: OpenRecord, now: float) -> None:
        """Drop the record, and every command of its partition that must come after it."""
        dropping = [record]
        while dropping:
            dropped = dropping.pop()
            if dropped.dropped:
                continue
            if isinstance(dropped, OpenCommand):
                for later in dropped.release_successors():
                    assert not later.emitted, "it was finished before a command that it shares a member with"
                    dropping.append(later)
                if any(task.is_in_call for task in dropped.tasks):
                    dropped.partition.clean_handover.give_up()  # nobody waits for the call
                self._ordering.drop(dropped, now)
            else:
                dropped.drop()
            self._admission.free_memory_of([dropped])
            dropped.partition.forget(dropped)


def _may_be_dropped(command: OpenCommand) -> bool:
    """Return whether nobody waits for the command because of its order, and no call carries it."""
    return not command.policy.holds_up_drain and not any(task.is_in_call for task in command.tasks)
