# The clean handover of a partition that goes: whether its last commit may say that nothing of it is on its way any more, and when
# its slice of the quota is free, so that its next owner need not wait longer for what this one had sent.
#
# Its steps are a table in state_transitions.py. What the commit contains is in offset_tracker.py and commit_metadata.py; how much
# is out or lent, and whether the permits that remain cover it, the caller knows.

from __future__ import annotations

from typing import Final

from worker.domain.engine_rules import WINDOW
from worker.domain.state_transitions import CLEAN_HANDOVER_STEPS, CleanHandoverState

ENDING_SECONDS: Final = 1.0
"""How long a partition that goes waits for the calls of others that use its slice, and for its last commit."""


class CleanHandover:
    """
    How far one partition is with saying, in its last commit, that no request of it can act any more.

    Attributes:
        state: How far it is.
        ends_by: Until when it is waited for, once nothing of the partition is called any more; None before.

    """

    __slots__ = ("_free_at", "_unknown_until", "ends_by", "state")

    def __init__(self) -> None:
        self.state = CleanHandoverState.IDLE
        self.ends_by: float | None = None
        self._free_at = 0.0
        self._unknown_until = float("-inf")

    def move_to(self, state: CleanHandoverState) -> None:
        """Take a step of the table."""
        assert state in CLEAN_HANDOVER_STEPS[self.state], f"{self!r} cannot become {state.value}"
        self.state = state

    @property
    def is_awaited(self) -> bool:
        """Whether it may still become one: the partition is not quiet before."""
        return self.state not in (CleanHandoverState.IDLE, CleanHandoverState.OVER)

    @property
    def wake_at(self) -> float:
        """Until when it is waited for; infinity if it is not."""
        return self.ends_by if self.is_awaited and self.ends_by is not None else float("inf")

    def begin(self) -> None:
        """Begin to wait until nothing of the partition, which goes, is called any more."""
        self.move_to(CleanHandoverState.FINISHING)

    def give_up(self) -> None:
        """Say nothing in the last commit, and wait for it no longer."""
        if self.is_awaited:
            self.move_to(CleanHandoverState.OVER)

    def ended_unknown(self, until: float) -> None:
        """Note that a request of the partition had no answer, and may still act until then."""
        self._unknown_until = max(self._unknown_until, until)

    def begin_covering(self, now: float) -> None:
        """Wait, but not for long, until the permits that remain cover all that is out and lent."""
        self.ends_by = now + ENDING_SECONDS
        self.move_to(
            CleanHandoverState.COVERING if self._unknown_until <= self.ends_by else CleanHandoverState.OVER
        )

    def advance(self, now: float, covered_in: float | None) -> bool:
        """
        Go on as far as can be now. Return whether the next commit with nothing open shall say it, and none that does is under way.

        ``covered_in``: the seconds until the permits that remain cover all that counts; None while they do not even cover what is out
        and lent.
        """
        if self.ends_by is not None and now >= self.ends_by:
            self.give_up()
        elif (
            self.state is CleanHandoverState.COVERING
            and covered_in is not None
            and now >= self._unknown_until
        ):
            # What is sent from now on needs none of the slice: the permits that remain cover it, or borrowed ones, which their lender
            # keeps aside. A request of unknown end may have arrived as late as it may act.
            self._free_at = max(now + covered_in, self._unknown_until + WINDOW)
            self.move_to(CleanHandoverState.READY)
        return self.state is CleanHandoverState.READY

    def claim(self, now: float, *, leaves_nothing_open: bool) -> float | None:
        """Return what a commit that is proposed now says: in how many seconds the slice is free. None: it says nothing."""
        if self.state is CleanHandoverState.READY and leaves_nothing_open:
            self.move_to(CleanHandoverState.COMMITTING)
        elif self.state is CleanHandoverState.COMMITTING and not leaves_nothing_open:
            self.move_to(CleanHandoverState.READY)
        return max(0.0, self._free_at - now) if self.state is CleanHandoverState.COMMITTING else None

    def committed(self) -> None:
        """Note that what was proposed is committed."""
        if self.state is CleanHandoverState.COMMITTING:
            self.move_to(CleanHandoverState.OVER)

    def __repr__(self) -> str:
        return f"<CleanHandover {self.state.value}>"
