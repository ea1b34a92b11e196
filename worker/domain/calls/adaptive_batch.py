# How many members a batch of one target may hold: fewer where many of them turn out bad.
#
# In a refused batch the bad member is searched for, so the members that passed and those that were found bad are a plain sample of the
# target's members. Group testing pays best when about half of the batches pass, which is at ln 2 / share members; from 2 bad in 5 on, a
# call for each is cheapest. Computed for batches of at most 20, in members settled per call with and without this: 6.8 and 6.8 at
# 2 % bad, 3.5 and 3.5 at 5 %, 2.1 and 1.9 at 10 %, 1.1 and 0.6 at 30 %, 0.99 and 0.3 at 68 %.

from __future__ import annotations

from typing import Final

HALF_PASS: Final = 0.7
"""ln 2: divided by the share of bad members, it is the size of batches of which half pass."""
CHANCE: Final = 2
"""This many bad members are more than chance: a single one never makes the batches smaller."""
DOUBT: Final = 8
"""As if this many good members had been seen before: the first few bad ones do not decide everything."""
MEMORY: Final = 256
"""
After this many members the earlier ones count half, because targets change. Good members are known after one call and a bad one after
five, so the bad ones of many calls come together: with half of this number a target of 2 % often seems to have 5 %.
"""
MANY_BAD: Final = 32
"""The same after this many bad members: they show the share well enough, and a target that has got better is soon known."""


class AdaptiveBatchSize:
    """
    The size of a target's batches, learnt from its good and bad members.

    Attributes:
        members: The most that its next batch may hold, at least 1.

    """

    __slots__ = ("_bad", "_most", "_seen", "members")

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen = 0.0
        self._bad = 0.0
        self.members = most

    def learn(self, *, good: int = 0, bad: int = 0) -> bool:
        """Count members that were applied, or found bad. Return whether ``members`` has changed."""
        self._seen += good + bad
        self._bad += bad
        if self._seen > MEMORY or self._bad > MANY_BAD:
            self._seen /= 2
            self._bad /= 2
        before = self.members
        self.members = self._best() if self._bad >= CHANCE else self._most
        return self.members != before

    def _best(self) -> int:
        # This is asked when a bad member was just found, so the last one does not count whole.
        best = HALF_PASS * (self._seen + DOUBT) / (self._bad - HALF_PASS)
        return max(1, min(int(best), self._most))

    def __repr__(self) -> str:
        return f"<AdaptiveBatchSize {self.members}: {self._bad:.1f} bad of {self._seen:.1f}>"
