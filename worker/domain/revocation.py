# What becomes of open commands when their partition goes, or the worker stops: what is started is finished, all else is
# left to the next owner.
#
# Leaving one to the next owner means leaving it all that must come after it. An offset is never finished here.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.admission import Admission
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import OpenCommand, Partition
    from worker.domain.progress.outbox import Outbox
    from worker.domain.snapshots import Counts


class Revocation:
    """Lets partitions go."""

    __slots__ = ("_counts", "_intake", "_ledger", "_lines")

    def __init__(self, lines: MemberOrdering, ledger: Outbox, intake: Admission, counts: Counts) -> None:
        self._lines = lines
        self._ledger = ledger
        self._intake = intake
        self._counts = counts

    def close(self, partition: Partition, now: float) -> None:
        """It is about to go: nothing new of it is started."""
        partition.closing = True
        self._intake.forget_backlog(partition)
        for work in list(partition.works.values()):
            if not work.started and not work.emitted and work.left:
                self._drop(work, now)

    def give_up(self, partitions: Iterable[Partition], now: float) -> None:
        """What is started and cannot go on now, because its endpoint is down or halted, holds up no drain and no handover."""
        for partition in partitions:
            if partition.closing:
                for work in list(partition.works.values()):
                    if work.left and not work.dropped and work.lane.is_blocked:
                        self._counts.given_up += 1
                        self._drop(work, now)

    def leave(self, partition: Partition, now: float) -> None:
        """It is gone."""
        partition.closing = partition.gone = True
        partition.ids.close()
        self._intake.forget_backlog(partition)
        for work in list(partition.works.values()):
            self._drop(work, now)

    def _drop(self, work: OpenCommand, now: float) -> None:
        """The command is left to the next owner, and with it, of the partitions that go as well, all that must come after it."""
        dropping = [work]
        while dropping:
            work = dropping.pop()
            if work.dropped:
                continue
            followers = list(work.followers or ())
            freed = self._ledger.release(work)
            dropping += [each for each in followers if each.partition.closing and not each.emitted]
            self._lines.complete += [each for each in freed if not each.partition.closing]
            self._lines.drop(work, now)
            self._intake.finished([work])
            work.partition.works.pop(work.offset, None)
