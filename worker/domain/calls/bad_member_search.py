# The search for the bad member of a refused batch: group testing by halves.
#
# A half that passes is applied, so the other half holds the bad member and is not sent whole. When a half fails, the other half is
# untested and goes back to its queue, to be batched with other tasks: re-sending both halves would waste calls. Computed for random bad
# members at 20 a call: at 2 % bad 6.66 members applied per call (the information limit is 6.93, exact halves reach 6.62, sending both
# halves again 4.6), at 0.5 % bad 13.4 (sending both 10.6).
#
# Only the search's own state is here; bisection_handler.py sends what it asks for, and gives members their results.

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from worker.domain.effects import AttemptResult

T = TypeVar("T")


class Bisection(Generic[T]):
    """
    The search in one refused batch. ``suspects`` holds at least one bad member.

    Send what ``half``, or ``one``, returns, and call ``worked`` or ``failed``. When ``found`` is not None, the search is over.

    Attributes:
        refusal: The last answer that refused the suspects.
        began_with: The answer that refused the whole batch.
        untested: The members that went back to their queue since the search began.

    """

    __slots__ = ("_one", "began_with", "refusal", "suspects", "untested")

    def __init__(self, suspects: list[T], refusal: AttemptResult) -> None:
        self.suspects = suspects
        self.refusal = self.began_with = refusal
        self.untested: list[T] = []
        self._one = False

    @property
    def found(self) -> T | None:
        """The bad member, once it is the only suspect."""
        return self.suspects[0] if len(self.suspects) == 1 else None

    def half(self) -> list[T]:
        """Return the suspects to send next: about the first half of them."""
        self._one = False
        return self.suspects[: self._cut]

    def one(self) -> list[T]:
        """Return, instead of a half, the first suspect alone: where every one may be refused, its refusal shows that soonest."""
        self._one = True
        return self.suspects[: self._cut]

    def worked(self) -> None:
        """Note that the suspects that were sent were applied: the bad member is among the others."""
        self.suspects = self.suspects[self._cut :]

    def failed(self, refusal: AttemptResult) -> list[T]:
        """Note that the suspects that were sent were refused. Return the others, which are untested and go back to their queue."""
        untested = self.suspects[self._cut :]
        self.suspects = self.suspects[: self._cut]
        self.untested += untested
        self.refusal = refusal
        return untested

    @property
    def _cut(self) -> int:
        return 1 if self._one else _first_part(len(self.suspects))


def _first_part(suspects: int) -> int:
    """
    Return how many of the suspects, from the first on, to send.

    Any suspect is found with the fewest calls or one more, and the first ones with the fewest: they are the likelier ones, for the
    search ends with the first bad member.
    """
    power = 1 << (suspects.bit_length() - 1)
    return power // 2 if suspects <= power + power // 2 else suspects - power
