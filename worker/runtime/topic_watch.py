# Checks the topics again and again while the worker runs: they fitted at the start, but can be changed or replaced.
#
# After a change that makes going on wrong (another topic of the same name) the worker refuses work until it is restarted; a change
# that can be reverted is an obstacle until it is. Not here: how topics are judged (broker/topic_admin.py), and the command topic's
# id, which the consumer learns sooner (self_monitor.py).

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.errors import BrokerError, SettingProblem
from worker.runtime.daemon_thread import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.runtime import ports

Changes = tuple[str | None, list[SettingProblem], list[SettingProblem]]
"""Why the worker must not go on (or None), the problems that make it not ready, and all problems."""


class TopicWatch:
    """
    Checks the topics every ``interval`` seconds.

    ``look`` asks the cluster and may block; ``refuse_work`` receives the reason why the worker must not go on. A problem is
    logged once, and again only if it comes back; not at all if ``follower`` has logged it.

    Attributes:
        obstacles: The problems that make the worker not ready now.

    """

    def __init__(
        self,
        look: Callable[[], Changes],
        interval: float,
        log: ports.Log,
        refuse_work: Callable[[str], None],
        follower: ports.ControlFollower | None = None,
    ) -> None:
        self._look = look
        self._interval = interval
        self._log = log
        self._refuse_work = refuse_work
        self._follower = follower
        self._logged: frozenset[str] = frozenset()
        self.obstacles: list[SettingProblem] = []

    async def run(self) -> None:
        """Check until cancelled. A cluster that does not answer changes nothing: consumer and publisher report that."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                changes = await in_daemon_thread("topic-watch", self._look)
            except BrokerError:
                continue
            self._compare(*changes)

    def _compare(
        self, fault: str | None, obstacles: list[SettingProblem], problems: list[SettingProblem]
    ) -> None:
        if fault is not None:
            self._refuse_work(fault)
        self.obstacles = obstacles
        logged_there = () if self._follower is None else self._follower.unfit
        for problem in problems:
            if str(problem) not in self._logged and problem not in logged_there:
                self._log("topic.unfit", setting=problem.name, topic=problem.value, remedy=problem.remedy)
        self._logged = frozenset(map(str, problems))

    def __repr__(self) -> str:
        return f"<TopicWatch, {len(self.obstacles)} obstacles>"
