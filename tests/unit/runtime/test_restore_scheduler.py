# Restorations: what is left of one whose partition has gone meanwhile, and that nobody waits for one at the end.

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from worker.domain.effects import RestoredPartition
from worker.errors import BrokerError, CommittedOffsetLostError
from worker.runtime import restore_scheduler
from worker.runtime.restore_scheduler import AT_ONCE, RestoreScheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

Line = tuple[str, dict[str, object]]


def scheduler(
    restore: Callable[[int], RestoredPartition],
    begun: list[int],
    gone: set[int] | None = None,
    forgotten: list[int] | None = None,
    lines: list[Line] | None = None,
    took: list[float] | None = None,
) -> RestoreScheduler:
    def log(event: str, /, **fields: object) -> None:
        if lines is not None:
            lines.append((event, fields))

    restorer: Any = SimpleNamespace(
        restore=restore, forget_refusals=([] if forgotten is None else forgotten).append
    )
    metrics: Any = SimpleNamespace(restored=([] if took is None else took).append)
    return RestoreScheduler(
        restorer,
        metrics,
        log,
        is_ours=lambda number, _: number not in (gone or ()),
        begin=lambda number, *_: begun.append(number),
    )


def failing(*failures: Exception) -> Callable[[int], RestoredPartition]:
    """Return a restoration that fails so often, and then succeeds."""
    left = list(failures)

    def restore(_: int) -> RestoredPartition:
        if left:
            raise left.pop(0)
        return RestoredPartition(position=17)

    return restore


def test_a_restoration_is_tried_again_after_waits_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_scheduler, "BACKOFF", (0.01, 0.025))
    begun: list[int] = []
    lines: list[Line] = []
    took: list[float] = []
    restore = failing(*(BrokerError("Kafka is away") for _ in range(3)))

    began = time.monotonic()
    asyncio.run(scheduler(restore, begun, lines=lines, took=took).restore(3, 1))
    whole = time.monotonic() - began

    assert begun == [3]
    assert whole > 0.05
    assert 0.05 < took[0] < whole
    reason = "Kafka is away"
    assert lines == [
        ("partition.restore_failed", {"partition": 3, "reason": reason, "next_try_seconds": wait})
        for wait in (0.01, 0.02, 0.025)
    ]


def test_a_partition_in_doubt_is_logged_once_and_looked_at_until_a_person_has_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore_scheduler, "DOUBT_SECONDS", 0.02)
    begun: list[int] = []
    lines: list[Line] = []
    doubt = CommittedOffsetLostError("outcomes and no offset", "decide")
    restoring = scheduler(failing(doubt, doubt, doubt), begun, lines=lines)

    began = time.monotonic()
    asyncio.run(restoring.restore(3, 1))

    assert begun == [3]
    assert time.monotonic() - began > 0.06
    fields = {"partition": 3, "reason": "outcomes and no offset", "remedy": "decide"}
    assert lines == [("partition.refused", fields)]
    assert restoring.partitions_in_doubt == {}


def test_a_partition_that_goes_while_it_is_restored_leaves_no_doubt_behind() -> None:
    """It is another replica's: this one would say for ever that it is not ready."""
    gone: set[int] = set()

    def lost(number: int) -> RestoredPartition:
        gone.add(number)
        raise CommittedOffsetLostError("partition 3 has no committed offset", "decide")

    restoring = scheduler(lost, [], gone)
    asyncio.run(asyncio.wait_for(restoring.restore(3, 1), 10))

    assert restoring.partitions_in_doubt == {}


def test_what_is_refused_of_a_partition_goes_with_it() -> None:
    """For two minutes more the worker was not ready, for a partition that another had."""
    forgotten: list[int] = []
    scheduler(lambda _: RestoredPartition(position=0), [], forgotten=forgotten).forget(3)

    assert forgotten == [3]


def test_what_is_refused_after_the_partition_has_gone_goes_as_well() -> None:
    gone: set[int] = set()
    forgotten: list[int] = []

    def refused(number: int) -> RestoredPartition:
        gone.add(number)
        raise BrokerError("the broker refuses this user the topic")

    asyncio.run(asyncio.wait_for(scheduler(refused, [], gone, forgotten).restore(3, 1), 10))

    assert forgotten == [3]


def test_no_more_than_a_few_are_restored_at_once_and_all_in_the_end() -> None:
    running: list[int] = []
    most: list[int] = []

    def slow(number: int) -> RestoredPartition:
        running.append(number)
        most.append(len(running))
        time.sleep(0.02)
        running.remove(number)
        return RestoredPartition(position=0)

    async def all_of_them(begun: list[int]) -> None:
        restoring = scheduler(slow, begun)
        await asyncio.gather(*(restoring.restore(number, 1) for number in range(6)))

    begun: list[int] = []
    asyncio.run(all_of_them(begun))

    assert sorted(begun) == list(range(6))
    assert max(most) == AT_ONCE


def test_a_machine_that_gives_no_thread_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_scheduler, "BACKOFF", (0.001, 0.002))
    start = threading.Thread.start
    refused: list[threading.Thread] = []

    def fails_once(thread: threading.Thread) -> None:
        if thread.name == "restore" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fails_once)
    begun: list[int] = []
    asyncio.run(scheduler(lambda _: RestoredPartition(position=0), begun).restore(3, 1))

    assert (len(refused), begun) == (1, [3])


def test_a_restoration_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    """It may wait for a dead owner's transaction for as long as a stop may take."""
    started, released = threading.Event(), threading.Event()

    def hangs(_: int) -> RestoredPartition:
        started.set()
        released.wait(60)
        return RestoredPartition(position=0)

    async def stopped_meanwhile() -> None:
        task = asyncio.ensure_future(scheduler(hangs, []).restore(3, 1))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    began = time.monotonic()
    asyncio.run(stopped_meanwhile())
    waiting = [thread for thread in threading.enumerate() if thread.name == "restore"]

    assert time.monotonic() - began < 20
    assert waiting
    assert all(thread.daemon for thread in waiting)
    released.set()
