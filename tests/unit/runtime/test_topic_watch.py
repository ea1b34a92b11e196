# The watch on the topics while the worker runs: a problem is logged once, and again when it comes back.

from __future__ import annotations

import asyncio
import time
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.unit.runtime.fakes import until
from worker.errors import BrokerError, SettingProblem
from worker.runtime.topic_watch import TopicWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.runtime.topic_watch import Changes

COMPACTED = SettingProblem("kafka.outcome_topic", "set cleanup.policy=delete", "outcomes")
SHORT = SettingProblem("kafka.outcome_topic", "retention.ms is too short", "outcomes")
WELL: Changes = (None, [], [])


async def watched(
    *looks: Changes | BrokerError, unfit: Sequence[SettingProblem] = ()
) -> tuple[TopicWatch, list[object], list[str]]:
    """
    Return a watch that has had these looks in order, with what it logged and why it stopped the worker.

    ``unfit`` is what the follower has found at the control topic.
    """
    left = deque(looks)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    logged: list[object] = []
    stopped: list[str] = []

    def look() -> Changes:
        if not left:
            loop.call_soon_threadsafe(over.set)
            raise BrokerError("no more")
        each = left.popleft()
        if isinstance(each, BrokerError):
            raise each
        return each

    def log(event: str, /, **fields: object) -> None:
        assert event == "topic.unfit"
        logged.append(fields["remedy"])

    follower: Any = SimpleNamespace(unfit=unfit)
    watch = TopicWatch(look, 0.0, log, stopped.append, follower)
    watching = asyncio.create_task(watch.run())
    await asyncio.wait_for(over.wait(), 10)
    watching.cancel()
    return watch, logged, stopped


def seen(*looks: Changes | BrokerError) -> tuple[TopicWatch, list[object], list[str]]:
    """Return the same for a test that is no coroutine."""
    return asyncio.run(watched(*looks))


def test_a_problem_is_logged_once_and_again_when_it_comes_back() -> None:
    bad: Changes = (None, [COMPACTED], [COMPACTED, SHORT])

    watch, logged, stopped = seen(bad, bad, WELL, bad)

    assert logged == [COMPACTED.remedy, SHORT.remedy] * 2
    assert watch.obstacles == [COMPACTED]
    assert stopped == []


def test_a_problem_is_logged_with_the_setting_and_the_topic() -> None:
    lines: list[tuple[str, dict[str, object]]] = []
    looks: list[float] = []

    def look() -> Changes:
        looks.append(time.monotonic())
        return None, [], [SHORT]

    def log(event: str, /, **fields: object) -> None:
        lines.append((event, fields))

    async def two_looks() -> None:
        watch = TopicWatch(look, 0.05, log, print)
        watching = asyncio.create_task(watch.run())
        await until(lambda: len(looks) == 2)
        watching.cancel()

    asyncio.run(two_looks())

    remedy = "retention.ms is too short"
    fields = {"setting": "kafka.outcome_topic", "topic": "outcomes", "remedy": remedy}
    assert lines == [("topic.unfit", fields)]
    assert looks[1] - looks[0] > 0.04


def test_what_the_follower_of_the_control_topic_has_logged_is_not_logged_again() -> None:
    orders = SettingProblem("kafka.control_topic", "set cleanup.policy=compact", "control")
    bad: Changes = (None, [orders], [orders, SHORT])

    _, logged, _ = asyncio.run(watched(bad, bad, unfit=[orders]))

    assert logged == [SHORT.remedy]


def test_what_is_set_right_is_no_obstacle_any_more() -> None:
    watch, _, _ = seen((None, [COMPACTED], [COMPACTED]), WELL)

    assert watch.obstacles == []


def test_a_topic_that_was_replaced_stops_the_worker_for_good() -> None:
    _, _, stopped = seen(("made again", [], []))

    assert stopped == ["made again"]


def test_a_cluster_that_does_not_answer_changes_nothing() -> None:
    watch, logged, _ = seen((None, [COMPACTED], [COMPACTED]), BrokerError("away"))

    assert watch.obstacles == [COMPACTED]
    assert len(logged) == 1
