# How the quota of each endpoint was used in the last five minutes, second by second: what the page at / draws.
#
# In memory alone: a ring of numbers for each endpoint, of fixed size. Not here: who samples (status_page.py), what is drawn
# (page.html).

from __future__ import annotations

from array import array
from itertools import groupby
from typing import TYPE_CHECKING, Final

from worker.domain.engine_snapshot import LIMITED_BY

if TYPE_CHECKING:
    from worker.domain.engine_snapshot import EndpointSnapshot, EngineSnapshot

SECONDS: Final = 300
"""How far back the samples go, one a second: 2 KiB an endpoint."""
MOST: Final = 65_535
"""The largest number that a sample holds."""
UNKNOWN: Final = "unknown"
"""What limited an endpoint before its first sample."""
_REASONS: Final = (UNKNOWN, *LIMITED_BY)


class RecentQuotaUse:
    """The last ``SECONDS`` samples of each endpoint."""

    def __init__(self) -> None:
        self._rings: dict[tuple[str, str], _Ring] = {}
        self._at = 0

    def sample(self, snapshot: EngineSnapshot) -> None:
        """Take one sample of each endpoint. Call it once a second."""
        self._at = (self._at + 1) % SECONDS
        for state in snapshot.endpoints:
            ring = self._rings.get((state.app, state.endpoint))
            if ring is None:
                ring = self._rings[state.app, state.endpoint] = _Ring()
            ring.used[self._at] = min(state.permits_used, MOST)
            ring.granted[self._at] = min(state.permits_granted, MOST)
            ring.limited_by[self._at] = _REASONS.index(state.limited_by)

    def used(self, state: EndpointSnapshot) -> list[int]:
        """Return the permits that were in use, oldest first."""
        return self._unrolled(self._ring(state).used)

    def granted(self, state: EndpointSnapshot) -> list[int]:
        """Return the permits that there were, used or not, oldest first."""
        return self._unrolled(self._ring(state).granted)

    def limited_by(self, state: EndpointSnapshot) -> list[tuple[str, int]]:
        """Return what limited the endpoint and for how many seconds on end, oldest first."""
        numbers = self._unrolled(self._ring(state).limited_by)
        return [(_REASONS[number], sum(1 for _ in same)) for number, same in groupby(numbers)]

    def _ring(self, state: EndpointSnapshot) -> _Ring:
        return self._rings.get((state.app, state.endpoint)) or _Ring()

    def _unrolled(self, ring: array[int]) -> list[int]:
        begin = self._at + 1
        return (ring[begin:] + ring[:begin]).tolist()

    def __repr__(self) -> str:
        return f"<RecentQuotaUse of {len(self._rings)} endpoints>"


class _Ring:
    """The samples of one endpoint."""

    __slots__ = ("granted", "limited_by", "used")

    def __init__(self) -> None:
        self.used = array("H", bytes(2 * SECONDS))
        self.granted = array("H", bytes(2 * SECONDS))
        self.limited_by = array("B", bytes(SECONDS))
