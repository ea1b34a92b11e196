# Looking at the topics while the worker runs: what is wrong is told once, and again only after it was gone.

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from worker.errors import BrokerError, Problem
from worker.runtime.topic_watch import TopicWatch

if TYPE_CHECKING:
    from worker.runtime.topic_watch import Changes

COMPACTED = Problem("kafka.outcome_topic", "set cleanup.policy=delete", "outcomes")
SHORT = Problem("kafka.outcome_topic", "retention.ms is too short", "outcomes")
WELL: Changes = (None, [], [])


async def watched(*looks: Changes | BrokerError) -> tuple[TopicWatch, list[object], list[str]]:
    """
    A watch that has seen these looks, one after the other, with what it logged and why it refused.
    """
    left = deque(looks)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    told: list[object] = []
    refused: list[str] = []

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
        told.append(fields["remedy"])

    watch = TopicWatch(look, 0.0, log, refused.append)
    watching = asyncio.create_task(watch.run())
    await asyncio.wait_for(over.wait(), 10)
    watching.cancel()
    return watch, told, refused


def seen(*looks: Changes | BrokerError) -> tuple[TopicWatch, list[object], list[str]]:
    """
    The same, for a test that is no coroutine.
    """
    return asyncio.run(watched(*looks))


def test_what_is_wrong_is_told_once_and_again_after_it_was_gone() -> None:
    bad: Changes = (None, [COMPACTED], [COMPACTED, SHORT])

    watch, told, refused = seen(bad, bad, WELL, bad)

    assert told == [COMPACTED.remedy, SHORT.remedy] * 2
    assert watch.obstacles == [COMPACTED]
    assert refused == []


def test_what_is_set_right_is_no_obstacle_any_more() -> None:
    watch, _, _ = seen((None, [COMPACTED], [COMPACTED]), WELL)

    assert watch.obstacles == []


def test_a_topic_that_was_replaced_refuses_the_worker() -> None:
    _, _, refused = seen(("made again", [], []))

    assert refused == ["made again"]


def test_a_cluster_that_does_not_answer_changes_nothing() -> None:
    watch, told, _ = seen((None, [COMPACTED], [COMPACTED]), BrokerError("away"))

    assert watch.obstacles == [COMPACTED]
    assert len(told) == 1
