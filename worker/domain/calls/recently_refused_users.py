# Users that were refused a short while ago: such a user is probably refused again, and in a batch that costs a search of some five calls.
#
# Their tasks go alone: then a further refusal costs one call, and other users nothing. It is a guess, and only about batching: no user is
# refused for it.

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MOST: Final = 10_000
"""The most users that are remembered of each app; with one more, the one that was refused longest ago is forgotten."""
SECONDS: Final = 600.0
"""So long a user is remembered: meanwhile an account may have been made, or the user have come back."""


class RecentlyRefusedUsers:
    """The users of an app that were refused lately, each with the target that it was refused for."""

    def __init__(self) -> None:
        self._since: OrderedDict[tuple[str, str], float] = OrderedDict()

    def refused(self, target: str, user: str, now: float) -> None:
        """Note that the user was refused."""
        key = (target, user)
        self._since[key] = now
        self._since.move_to_end(key)
        if len(self._since) > MOST:
            self._since.popitem(last=False)

    def accepted(self, target: str, user: str) -> None:
        """Note that the user was not refused."""
        self._since.pop((target, user), None)

    def are_likely(self, target: str, user: str, now: float) -> bool:
        """Return whether the user will probably be refused."""
        since = self._since.get((target, user))
        return since is not None and now < since + SECONDS

    def __len__(self) -> int:
        return len(self._since)
