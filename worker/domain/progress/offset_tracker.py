# The offsets of one partition during one assignment: which records are open, which are done above the gap, what may be committed.
#
# Work finishes out of order, commits are in order. The commit's metadata has a bitmap of the records that are done above the committable
# offset (commit_metadata.py), so that a restart redoes none of them. Offsets have gaps (transaction markers, compaction): offsets are
# tracked, never ranges. `finish` is the one place where an offset is finished.

from __future__ import annotations

from collections import deque
from math import ceil
from typing import TYPE_CHECKING

from worker.domain.effects import OffsetCommit
from worker.domain.progress.commit_metadata import MAX_SPAN, encode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class OffsetTracker:
    """
    One partition's offsets, from its assignment to its revocation.

    A record is *open* from its admission until ``finish``. The committable offset is that of the oldest open record
    or, when none is open, that of the next record to be received. ``done`` is the bitmap of the records at and above ``position``
    that an earlier owner has finished; ``label`` names the partition in its commits, and ``owner`` this process.

    Attributes:
        span: A record is admitted only while it is less than this above the committable offset. It is halved when
            the broker refuses the metadata as too large.

    """

    def __init__(self, position: int, done: int, span: int, label: str, owner: str = "") -> None:
        self.span = min(span, MAX_SPAN)
        self._label = label
        self._owner = owner
        self._base = position
        self._committed = position
        self._bits = done
        self._next = position
        self._open: set[int] = set()
        self._opened: deque[int] = deque()

    def is_done(self, offset: int) -> bool:
        """Return whether the record is done: an earlier owner has finished it, or it is received once more."""
        return offset < self._next or bool(self._bits >> (offset - self._base) & 1)

    def skipped(self, offset: int) -> None:
        """Note that a record was received that is done already."""
        self._next = max(self._next, offset + 1)

    def reached(self, position: int) -> None:
        """Note the consumer's position, which may be after transaction markers and aborted records: every record below was received."""
        self._next = max(self._next, position)

    @property
    def commit_lags(self) -> bool:
        """Whether nothing is open and the committed offset is below the position that was reached."""
        return not self._open and self._committed < self._next

    def fits(self, offset: int) -> bool:
        """
        Return whether the record may be admitted, or finished, now: the bitmap reaches it. When none is open, the next record to be
        received always may, however many offsets were skipped before it.
        """
        # `_base` is never above the committable offset, and found sooner.
        is_near = offset - self._base < self.span
        return is_near or not self._open or offset - self.committable < self.span

    def admit(self, offset: int) -> None:
        """Open the record. It must fit, and not be done."""
        if not self._open:
            self._rebase(offset)
        self._open.add(offset)
        self._opened.append(offset)
        self._next = offset + 1

    @property
    def committable(self) -> int:
        """The offset below which every record is finished."""
        while self._opened and self._opened[0] not in self._open:
            self._opened.popleft()
        return self._opened[0] if self._opened else self._next

    @property
    def open_count(self) -> int:
        """How many records are open."""
        return len(self._open)

    @property
    def gap(self) -> int:
        """How far the next record to be received is above the committable offset."""
        return self._next - self.committable

    def propose(self, finishing: Collection[int], slice_free_in: float | None = None) -> OffsetCommit:
        """
        Return the commit that goes with the results of these open records. ``slice_free_in``: of a clean handover, the seconds until
        the partition's slice of the quota is free.
        """
        committable = self._next
        for offset in self._opened:
            if offset in self._open and offset not in finishing:
                committable = offset
                break
        bits = self._bits
        for offset in finishing:
            bits |= 1 << (offset - self._base)
        bits >>= committable - self._base
        free_in_ms = None if slice_free_in is None else ceil(slice_free_in * 1000)
        text = encode(self._label, committable, bits, free_in_ms, self._owner)
        return OffsetCommit(committable, text)

    def committed(self, commit: OffsetCommit) -> None:
        """Note that this commit is made."""
        self._committed = commit.offset

    def finish(self, finished: Iterable[int]) -> None:
        """Finish these records, for every owner to come: the transaction with their results is committed."""
        bits = self._bits
        base = self._base
        for offset in finished:
            self._open.remove(offset)
            bits |= 1 << (offset - base)
        self._bits = bits
        self._rebase(self.committable)

    def _rebase(self, base: int) -> None:
        """Cut the bitmap: every record below ``base`` is done, so it need not hold these any more."""
        self._bits >>= base - self._base
        self._base = base

    def halve(self) -> None:
        """Admit records only closer to the committable offset from now on, and name no owner in commits: these are too long."""
        self.span = max(1, self.span // 2)
        self._owner = ""

    def __repr__(self) -> str:
        return f"<OffsetTracker {self.committable}+{self.gap}, {self.open_count} open>"
