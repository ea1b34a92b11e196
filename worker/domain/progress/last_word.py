# The last word of a partition that goes: whether its last commit may say that it ended in order, so that its next owner need
# not wait for what this one had sent.
#
# Its steps are a table in states.py. What the commit contains is in offsets.py and commit_metadata.py; how much is out or lent,
# and whether the permits that remain cover it, the caller knows.

from __future__ import annotations

from typing import Final

from worker.domain.states import LAST_WORD_STEPS, LastWordState

ENDING_SECONDS: Final = 1.0
"""How long a partition that goes waits for the calls of others that use its slice, and for its last commit."""


class LastWord:
    """
    What one partition may say in the end.

    Attributes:
        state: How far it is.
        ends_by: Until when it is waited for, once nothing of the partition is called any more; None before.

    """

    __slots__ = ("_unknown_until", "ends_by", "state")

    def __init__(self) -> None:
        self.state = LastWordState.SILENT
        self.ends_by: float | None = None
        self._unknown_until = float("-inf")

    def move_to(self, state: LastWordState) -> None:
        """Take a step of the table."""
        assert state in LAST_WORD_STEPS[self.state], f"{self!r} cannot become {state.value}"
        self.state = state

    @property
    def is_awaited(self) -> bool:
        """Whether it may still be said: the partition is not quiet before."""
        return self.state not in (LastWordState.SILENT, LastWordState.OVER)

    def begin(self) -> None:
        """Begin to wait until nothing of the partition, which goes, is called any more."""
        self.move_to(LastWordState.FINISHING)

    def give_up(self) -> None:
        """Say nothing: something of the partition is on its way and will not be waited for."""
        if self.is_awaited:
            self.move_to(LastWordState.OVER)

    def ended_unknown(self, until: float) -> None:
        """Note that a request of the partition had no answer, and may still act until then."""
        self._unknown_until = max(self._unknown_until, until)

    def slice_is_free(self, now: float) -> None:
        """Wait, but not for long, until the permits that remain cover all that is out and lent."""
        self.ends_by = now + ENDING_SECONDS
        self.move_to(LastWordState.COVERING if self._unknown_until <= self.ends_by else LastWordState.OVER)

    def is_due(self, now: float, *, is_covered: bool) -> bool:
        """Return whether the next commit with nothing open shall say it, and none that does is under way."""
        if self.ends_by is not None and now >= self.ends_by:
            self.give_up()
        elif self.state is LastWordState.COVERING and is_covered and now >= self._unknown_until:
            self.move_to(LastWordState.READY)
        return self.state is LastWordState.READY

    def is_said(self, *, leaves_nothing_open: bool) -> bool:
        """Return whether a commit that is proposed now says it."""
        if self.state is LastWordState.READY and leaves_nothing_open:
            self.move_to(LastWordState.SAYING)
        elif self.state is LastWordState.SAYING and not leaves_nothing_open:
            self.move_to(LastWordState.READY)
        return self.state is LastWordState.SAYING

    def committed(self) -> None:
        """Note that what was proposed is committed."""
        if self.state is LastWordState.SAYING:
            self.move_to(LastWordState.OVER)

    def __repr__(self) -> str:
        return f"<LastWord {self.state.value}>"
