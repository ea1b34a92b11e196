# The topics, looked at again and again while the worker runs: they were right at the start, and can be changed or replaced.
#
# What makes going on wrong for good (another topic of that name) refuses the worker; what can be set right again is an obstacle
# until it is. How they are judged is in broker/topics.py. The command topic's id the consumer notices sooner.

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.errors import BrokerError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.runtime import ports

Changes = tuple[str | None, list[Problem], list[Problem]]
"""Why the worker must not go on, what makes it not ready, and all that is wrong."""


class TopicWatch:
    """
    Looks every ``interval`` seconds.

    ``look`` asks the cluster and may block; ``refuse`` is told why the worker must not go on. What is wrong is logged once, and
    again only after it was gone.

    Attributes:
        obstacles: What is wrong now and makes the worker not ready.

    """

    def __init__(
        self, look: Callable[[], Changes], interval: float, log: ports.Log, refuse: Callable[[str], None]
    ) -> None:
        self._look = look
        self._interval = interval
        self._log = log
        self._refuse = refuse
        self._told: frozenset[str] = frozenset()
        self.obstacles: list[Problem] = []

    async def run(self) -> None:
        """Looks without end. A cluster that does not answer changes nothing: the consumer and the publisher tell of it."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                changes = await asyncio.to_thread(self._look)
            except BrokerError:
                continue
            self._compare(*changes)

    def _compare(self, refusal: str | None, obstacles: list[Problem], every: list[Problem]) -> None:
        if refusal is not None:
            self._refuse(refusal)
        self.obstacles = obstacles
        for problem in every:
            if str(problem) not in self._told:
                self._log("topic.unfit", setting=problem.name, topic=problem.value, remedy=problem.remedy)
        self._told = frozenset(map(str, every))

    def __repr__(self) -> str:
        return f"<TopicWatch, {len(self.obstacles)} obstacles>"
