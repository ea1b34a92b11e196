# The clean handover of a closing partition: whether its last commit can say that none of its requests can act any more, and when its
# slice of the quota is free, so that its next owner need not wait longer for this one's requests.
#
# Its steps are a table in state_transitions.py. What the commit contains is in offset_tracker.py and commit_metadata.py. Whether the
# permits that remain cover the requests in flight and the loans, the caller knows.

from __future__ import annotations

from typing import Final

from worker.domain.engine_settings import WINDOW
from worker.domain.state_transitions import CLEAN_HANDOVER_STEPS, CleanHandoverState

HANDOVER_SECONDS: Final = 1.0
"""How long a closing partition waits for the requests of others that use its slice, and for its last commit."""


class CleanHandover:
    """
    Tracks whether a partition's last commit can say that none of its requests can act any more.

    Attributes:
        state: How far that is.
        deadline: Until when a clean handover is waited for; None while the partition has something left to call.

    """

    def __init__(self) -> None:
        self.state = CleanHandoverState.IDLE
        self.deadline: float | None = None
        self._free_at = 0.0
        self._unknown_until = float("-inf")

    def move_to(self, state: CleanHandoverState) -> None:
        """Take a step of the table."""
        assert state in CLEAN_HANDOVER_STEPS[self.state], f"{self!r} cannot become {state.value}"
        self.state = state

    @property
    def is_awaited(self) -> bool:
        """Whether a clean handover is still possible. While it is, the partition is not quiet."""
        return self.state not in (CleanHandoverState.IDLE, CleanHandoverState.OVER)

    @property
    def wake_at(self) -> float:
        """When a clean handover is awaited no longer; infinity if it is not awaited, or ``deadline`` is None."""
        return self.deadline if self.is_awaited and self.deadline is not None else float("inf")

    def begin(self) -> None:
        """Begin to wait until the closing partition has nothing left to call."""
        self.move_to(CleanHandoverState.FINISHING)

    def give_up(self) -> None:
        """Wait for a clean handover no longer: the last commit will not say that it is one."""
        if self.is_awaited:
            self.move_to(CleanHandoverState.OVER)

    def note_may_act_until(self, until: float) -> None:
        """Note that a request of the partition had no answer, and may still act until then."""
        self._unknown_until = max(self._unknown_until, until)

    def begin_covering(self, now: float) -> None:
        """Wait, but not for long, until the permits that remain cover the requests in flight and the loans."""
        self.deadline = now + HANDOVER_SECONDS
        self.move_to(
            CleanHandoverState.COVERING if self._unknown_until <= self.deadline else CleanHandoverState.OVER
        )

    def advance(self, now: float, seconds_until_covered: float | None) -> bool:
        """
        Advance as far as possible. Return whether the next commit that leaves nothing open should say so, and none that does is
        under way.

        ``seconds_until_covered``: as ``RateLimiter.seconds_until_covered`` on every endpoint; None while the permits that remain do
        not even cover the requests in flight and the loans.
        """
        if self.deadline is not None and now >= self.deadline:
            self.give_up()
        elif (
            self.state is CleanHandoverState.COVERING
            and seconds_until_covered is not None
            and now >= self._unknown_until
        ):
            # Requests from now on need none of the slice: the permits that remain cover them, or borrowed ones, which their lender
            # keeps aside. A request of unknown end may arrive as late as `_unknown_until`, and counts for WINDOW after that.
            self._free_at = max(now + seconds_until_covered, self._unknown_until + WINDOW)
            self.move_to(CleanHandoverState.READY)
        return self.state is CleanHandoverState.READY

    def propose(self, now: float, *, leaves_nothing_open: bool) -> float | None:
        """Return in how many seconds the slice is free, as a commit that is proposed now says. None: it says nothing of a handover."""
        if self.state is CleanHandoverState.READY and leaves_nothing_open:
            self.move_to(CleanHandoverState.COMMITTING)
        elif self.state is CleanHandoverState.COMMITTING and not leaves_nothing_open:
            self.move_to(CleanHandoverState.READY)
        return max(0.0, self._free_at - now) if self.state is CleanHandoverState.COMMITTING else None

    def committed(self) -> None:
        """Note that the proposed commit is made."""
        if self.state is CleanHandoverState.COMMITTING:
            self.move_to(CleanHandoverState.OVER)

    def __repr__(self) -> str:
        return f"<CleanHandover {self.state.value}>"
