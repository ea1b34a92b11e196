# The runner between the engine and the world: who receives what, in which order, and what ends a handover, a drain, a worker.
#
# What the engine decides is proven in tests/unit/domain, what Kafka and Tencent do in tests/contract; here both are played.

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.runtime.fakes import DEADLINE, attempt, result, run_scenario, settled, until
from worker.domain.contract.error_codes import Verdict
from worker.domain.effects import (
    AllowAttempt,
    CancelWaitingCall,
    HaltReason,
    LogEvent,
    PausePartition,
    ResumePartition,
    RetryCall,
    SendQuotaMessage,
    StartCall,
)
from worker.domain.publish_results import (
    Aborted,
    Fenced,
    MetadataRefused,
    Published,
)
from worker.errors import BrokerError, CommittedOffsetLostError, FencedError
from worker.runtime import restore_scheduler
from worker.runtime.publish_scheduler import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.unit.runtime.fakes import RunnerHarness
    from worker.domain.publish_results import (
        PublishResult,
    )

# Partitions


def test_a_partition_is_fetched_from_where_it_was_restored_to_once_the_engine_has_it() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.assigned({3: 8})
        await until(lambda: bool(harness.begun))

        assert harness.begun == [(3, 17, 8)]
        assert harness.engine.event_names() == ["assigned"]

    run_scenario(scenario)


def test_a_partition_that_goes_while_it_is_restored_is_never_begun() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.restoring = lambda: harness.runner.lost([3])
        harness.runner.assigned({3: 8})
        await until(lambda: "revoked" in harness.engine.event_names())
        await settled()

        assert harness.begun == []
        assert "assigned" not in harness.engine.event_names()

    run_scenario(scenario)


def test_a_partition_that_comes_back_while_it_is_restored_is_begun_once() -> None:
    """For its new ownership only."""

    async def scenario(harness: RunnerHarness) -> None:
        def move() -> None:
            harness.restoring = lambda: None
            harness.runner.lost([3])
            harness.runner.assigned({3: 9})

        harness.restoring = move
        harness.runner.assigned({3: 8})
        await until(lambda: bool(harness.begun))
        await settled()

        assert harness.begun == [(3, 17, 9)]

    run_scenario(scenario)


def test_a_restoration_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_scheduler, "BACKOFF", (0.001, 0.002))

    async def scenario(harness: RunnerHarness) -> None:
        harness.failures = [BrokerError("Kafka is away"), BrokerError("Kafka is away")]
        harness.runner.assigned({3: 8})
        await until(lambda: bool(harness.begun))

        assert harness.logged.count("partition.restore_failed") == 2
        assert not harness.runner.fatal_error.done()

    run_scenario(scenario)


def test_what_the_engine_makes_of_partitions_that_come_and_go_is_carried_out() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        for event in ("assigned", "revoked"):
            harness.engine.effects[event] = [SendQuotaMessage(event.encode())]
        harness.runner.assigned({3: 8})
        await until(lambda: bool(harness.begun))
        harness.runner.revoking([3])
        await settled()

        assert harness.said == [b"assigned", b"revoked"]

    run_scenario(scenario)


def test_a_partition_that_has_gone_is_waited_for_only_when_it_comes_back() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.assigned({3: 8})
        await until(lambda: bool(harness.begun))
        harness.runner.lost([3])
        harness.failures = [BrokerError("Kafka is away")]
        harness.runner.assigned({3: 9})
        await settled()
        assert harness.runner.unready_reason == "partitions are being restored"
        harness.runner.lost([3])
        await settled()

        assert harness.runner.unready_reason is None

    run_scenario(scenario)


def test_a_partition_in_doubt_is_reported_until_it_goes() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.failures = [CommittedOffsetLostError("outcomes and no offset", "decide")]
        harness.runner.assigned({3: 8})
        await until(lambda: bool(harness.runner.partitions_in_doubt))
        harness.runner.lost([3])
        await settled()

        assert harness.runner.partitions_in_doubt == []

    run_scenario(scenario)


def test_the_log_says_which_partitions_come_and_go_and_what_was_left_open() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3, 4, 5}
        harness.runner.assigned({4: 8, 3: 9, 6: 10, 5: 11})
        harness.runner.lost([6, 5])
        done = harness.runner.revoking([4, 3])
        await until(done.done)
        await settled()

        lines = [each for each in harness.lines if each[0].startswith("partitions.")]
        seconds = lines[2][1].pop("seconds")
        assert lines == [
            ("partitions.assigned", {"partitions": [3, 4, 5, 6]}),
            ("partitions.lost", {"partitions": [5, 6], "left_open": 1}),
            ("partitions.revoked", {"partitions": [3, 4], "left_open": 2}),
        ]
        assert seconds == pytest.approx(0.01, abs=DEADLINE)
        assert harness.runner.left_open == 3

    run_scenario(scenario, handover_seconds=0.01)


@pytest.mark.parametrize(("goes_on_at", "lost"), [(25, 8), (17, 0), (5, 0)], ids=["later", "same", "shorter"])
def test_a_jump_is_logged_and_one_back_halts_the_worker(goes_on_at: int, lost: int) -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.out_of_range(3, 17, goes_on_at)
        await settled()

        fields = {"partition": 3, "was": 17, "now": goes_on_at, "lost": lost}
        assert harness.lines[0] == ("offset.out_of_range", fields)
        assert (harness.runner.unready_reason is not None) == (goes_on_at < 17)

    run_scenario(scenario)


def test_how_far_the_consumer_has_come_is_told_to_the_engine() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.reached({3: 17})
        await settled()

        assert harness.engine.events == [("reached", {3: 17})]

    run_scenario(scenario)


def test_a_handover_is_over_when_nothing_of_it_is_in_progress() -> None:
    """And the engine knows that the partition is gone."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}
        done = harness.runner.revoking([3])
        done.add_done_callback(lambda _: harness.engine.events.append(("over",)))
        await settled()
        assert harness.engine.events == [("revoking", [3])]
        harness.engine.busy = set()
        harness.move()
        await settled()

        assert harness.engine.event_names() == ["revoking", "received", "revoked", "over"]

    run_scenario(scenario)


def test_a_handover_waits_for_the_transaction_that_is_under_way() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.owe()
        harness.move()
        await settled()
        done = harness.runner.revoking([3])
        await settled()
        assert not done.done()
        harness.end(Published())
        await settled()

        assert done.done()

    run_scenario(scenario)


def test_a_handover_ends_when_its_time_is_over() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}
        done = harness.runner.revoking([3])
        await until(done.done)

        assert harness.engine.event_names() == ["revoking", "revoked"]
        assert harness.forgotten == [3]

    run_scenario(scenario, handover_seconds=0.01)


def test_the_time_of_a_handover_that_is_over_already_changes_nothing() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        done = harness.runner.revoking([3])
        await settled()
        assert done.done()
        await asyncio.sleep(0.02)

        assert harness.engine.event_names() == ["revoking", "revoked"]
        assert not harness.runner.fatal_error.done()

    run_scenario(scenario, handover_seconds=0.01)


def test_a_handover_waits_for_a_transaction_though_no_other_will_start() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.owe()
        harness.move()
        await settled()
        harness.runner.refuse_work("another topic has the name", can_publish=False)
        done = harness.runner.revoking([3])
        await settled()
        assert not done.done()
        harness.end(Published())
        await settled()

        assert done.done()

    run_scenario(scenario)


def test_after_a_bug_a_handover_waits_for_the_open_calls() -> None:
    """The engine may have missed one of this partition, which the next owner would make again beside it."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.move([StartCall(attempt())])
        await settled()
        harness.engine.broken = {"received"}
        harness.move()
        done = harness.runner.revoking([3])
        await settled()
        assert not done.done()
        call, end = harness.calls["call-1"]
        call.finished(result())
        end.set_result(result())
        await settled()

        assert done.done()

    run_scenario(scenario)


def test_what_is_lost_is_gone_at_once() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}
        harness.runner.lost([3])
        await settled()

        assert harness.engine.events == [("revoked", [3])]
        assert harness.forgotten == [3]

    run_scenario(scenario)


def test_another_batch_may_come_once_the_engine_has_the_one_before() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.received([])
        harness.runner.received([])
        await settled()

        assert harness.engine.event_names() == ["received", "received"]
        assert harness.batches_taken == 2

    run_scenario(scenario)


def test_a_partition_is_paused_and_resumed_and_a_line_logged_as_the_engine_says() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.move(
            [PausePartition(3), PausePartition(4), LogEvent("record.misplaced", "warning", {"offset": 7})]
        )
        await settled()
        assert harness.paused == {3, 4}
        harness.move([ResumePartition(3)])
        await settled()

        assert harness.paused == {4}
        assert harness.lines == [("record.misplaced", {"offset": 7})]

    run_scenario(scenario)


# Lending


def test_what_is_said_of_lending_goes_to_the_channel_and_what_is_heard_to_the_engine() -> None:
    """After the fence another replica may have the slices: nothing of them is lent any more."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.proven_until = inf
        harness.engine.effects["quota_messages"] = [SendQuotaMessage(b"granted")]
        harness.runner.quota_messages([b"asked"])
        await settled()
        harness.proven_until = time.monotonic()
        harness.runner.quota_messages([b"asked again"])
        await settled()

        heard = [event for event in harness.engine.events if event[0] == "quota_messages"]
        assert heard == [("quota_messages", [b"asked"], True), ("quota_messages", [b"asked again"], False)]
        assert harness.said == [b"granted"]

    run_scenario(scenario)


# Calls


def test_a_request_leaves_only_while_the_membership_is_proven() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.move([StartCall(attempt())])
        await settled()
        call, _ = harness.calls["call-1"]

        harness.proven_until = time.monotonic() + 60.0
        assert call.may_send()
        harness.proven_until = time.monotonic()
        assert not call.may_send()
        harness.proven_until = inf
        harness.engine.gone.add(call.attempt.call_id)
        assert not call.may_send()

    run_scenario(scenario)


def test_a_call_gets_its_attempts_one_by_one_from_the_engine() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.move([StartCall(attempt())])
        await settled()
        call, end = harness.calls["call-1"]
        assert (await call.next_attempt()).number == 1
        harness.engine.effects["attempt_finished"] = [RetryCall("call-1")]
        assert call.finished(result(Verdict.RETRY)), "the engine wants another attempt"
        asked = asyncio.ensure_future(call.next_attempt())
        await settled()
        assert not asked.done(), "it has no permit yet"
        again = attempt(number=2)
        harness.move([AllowAttempt(again)])
        await settled()
        assert asked.result() is again
        assert not call.finished(result())
        end.set_result(result())
        await settled()

        assert harness.engine.event_names() == [
            "received", "attempt_finished", "permit_requested", "received", "attempt_finished",
        ]  # fmt: skip

    run_scenario(scenario)


def test_a_permit_for_a_call_that_was_just_taken_back_is_no_bug() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.move([StartCall(attempt())])
        await settled()
        call, end = harness.calls["call-1"]
        harness.engine.effects["attempt_finished"] = [RetryCall("call-1")]
        assert call.finished(result(Verdict.RETRY))
        end.set_exception(asyncio.CancelledError())
        waiting = asyncio.ensure_future(call.next_attempt())
        await settled()
        waiting.cancel()
        harness.move([AllowAttempt(attempt(number=2))])
        await settled()

        assert not harness.runner.fatal_error.done()

    run_scenario(scenario)


def test_a_call_that_is_taken_back_ends_and_the_engine_hears_no_more_of_it() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.move([StartCall(attempt())])
        await settled()
        _, end = harness.calls["call-1"]
        harness.move([CancelWaitingCall("call-1")])
        await settled()

        assert end.cancelled()
        assert harness.engine.event_names() == ["received", "received"]
        assert not harness.runner.fatal_error.done()

    run_scenario(scenario)


# Bugs


def _broken(*_: object, **__: object) -> None:
    raise KeyError("a fault of the code")


def _break_metrics(harness: RunnerHarness, method: str) -> None:
    setattr(harness.runner._metrics, method, _broken)


async def _bug_in_records(harness: RunnerHarness) -> None:
    harness.engine.broken = {"received"}
    harness.move()


async def _bug_in_result(harness: RunnerHarness) -> None:
    harness.owe()
    harness.move()
    await settled()
    harness.engine.broken = {"published"}
    harness.end(Published())


async def _bug_in_due_transaction(harness: RunnerHarness) -> None:
    harness.owe()
    harness.move()
    await settled()
    harness.end(
        Aborted("the group is rebalancing", retry_soon=True)
    )  # after one that is published, the next may be due at once
    harness.owe()
    harness.move()
    await settled()
    assert len(harness.published) == 1, "the next waits for its time"
    harness.engine.broken = {"take_transaction"}


async def _bug_in_tick(harness: RunnerHarness) -> None:
    harness.engine.broken = {"tick"}
    harness.engine.wake_at = 0.0
    harness.move()


async def _bug_in_handovers_end(harness: RunnerHarness) -> None:
    harness.engine.busy = {3}
    harness.engine.broken = {"revoked"}
    harness.runner.revoking([3])


async def _bug_in_beginning(harness: RunnerHarness) -> None:
    harness.engine.broken = {"assigned"}
    harness.runner.assigned({3: 8})


async def _bug_in_refusal(harness: RunnerHarness) -> None:
    harness.engine.broken = {"stopping"}
    harness.runner.refuse_work("another topic")


async def _bug_in_stop(harness: RunnerHarness) -> None:
    harness.engine.broken = {"stopping"}
    harness.runner.stop()


async def _bug_in_task(harness: RunnerHarness) -> None:
    harness.move([StartCall(attempt())])
    await settled()
    harness.calls["call-1"][1].set_exception(KeyError("a fault of the code"))


@pytest.mark.parametrize(
    "bug",
    [
        _bug_in_records,
        _bug_in_result,
        _bug_in_due_transaction,
        _bug_in_tick,
        _bug_in_handovers_end,
        _bug_in_beginning,
        _bug_in_refusal,
        _bug_in_stop,
        _bug_in_task,
    ],
)
def test_a_bug_ends_the_worker_and_nothing_more_is_published(
    bug: Callable[[RunnerHarness], Coroutine[Any, Any, None]],
) -> None:
    """The loop logged it and went on, ready and alive. The next transactions took for done what the engine had not heard of."""

    async def scenario(harness: RunnerHarness) -> None:
        await bug(harness)
        await until(harness.runner.fatal_error.done)
        started = len(harness.published)
        harness.runner._publish_scheduler.hurry = True
        harness.engine.broken = set()
        harness.owe()
        harness.move()
        await settled()

        assert isinstance(harness.runner.fatal_error.result().__cause__, KeyError)
        assert len(harness.published) == started

    run_scenario(scenario, handover_seconds=0.01)


async def _bug_in_helper(harness: RunnerHarness) -> None:
    async def work() -> None:
        raise KeyError("a fault of the code")

    harness.runner.spawn(work())


async def _bug_in_restoration(harness: RunnerHarness) -> None:
    harness.restoring = _broken
    harness.runner.assigned({3: 8})


async def _bug_in_observer_of_transactions(harness: RunnerHarness) -> None:
    _break_metrics(harness, "published")
    harness.owe()
    harness.move()
    await settled()
    harness.end(Published())


async def _bug_in_observer_of_attempts(harness: RunnerHarness) -> None:
    _break_metrics(harness, "attempt_finished")
    harness.move([StartCall(attempt())])
    await settled()
    call, end = harness.calls["call-1"]
    call.finished(result())
    end.set_result(result())


async def _bug_in_observer_of_calls(harness: RunnerHarness) -> None:
    _break_metrics(harness, "call_finished")
    harness.move([StartCall(attempt())])
    await settled()
    harness.calls["call-1"][1].set_result(result())


def _bug_in_gauge(
    method: str, event: Callable[[RunnerHarness], object]
) -> Callable[[RunnerHarness], Coroutine[Any, Any, None]]:
    async def bug(harness: RunnerHarness) -> None:
        _break_metrics(harness, method)
        event(harness)

    return bug


@pytest.mark.parametrize(
    ("bug", "heard"),
    [
        (_bug_in_gauge("received", lambda harness: harness.runner.received([])), "received"),
        (_bug_in_gauge("rebalanced", lambda harness: harness.runner.assigned({9: 1})), "assigned"),
        (_bug_in_gauge("rebalanced", lambda harness: harness.runner.revoking([9])), "revoked"),
        (_bug_in_gauge("rebalanced", lambda harness: harness.runner.lost([9])), "revoked"),
        (_bug_in_gauge("handed_over", lambda harness: harness.runner.revoking([9])), "revoked"),
        (_bug_in_gauge("out_of_range", lambda harness: harness.runner.out_of_range(3, 17, 16)), "stopping"),
        (_bug_in_helper, None),
        (_bug_in_restoration, None),
        (_bug_in_observer_of_transactions, "published"),
        (_bug_in_observer_of_attempts, "attempt_finished"),
        (_bug_in_observer_of_calls, None),
    ],
)
def test_a_bug_beside_the_engine_and_its_calls_ends_the_worker_after_it_has_published(
    bug: Callable[[RunnerHarness], Coroutine[Any, Any, None]], heard: str | None
) -> None:
    """A wrong gauge ended the publisher: the next owner repeated calls whose results the engine knew."""

    async def scenario(harness: RunnerHarness) -> None:
        await bug(harness)
        await until(harness.runner.fatal_error.done)
        await until(lambda: heard is None or heard in harness.engine.event_names())
        await settled()
        started = len(harness.published)
        harness.owe()
        done = harness.runner.revoking([3])
        await settled()
        assert len(harness.published) == started + 1
        assert not done.done()
        harness.end(Published())
        await settled()

        assert done.done()
        assert isinstance(harness.runner.fatal_error.result().__cause__, KeyError)

    run_scenario(scenario)


def test_the_end_of_the_transaction_during_which_a_bug_came_starts_no_other() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.stop()  # so that none waits for the interval
        harness.owe()
        harness.move()
        await settled()
        harness.engine.broken = {"received"}
        harness.move()
        harness.owe()
        harness.end(Published())
        await settled()

        assert "published" in harness.engine.event_names()
        assert len(harness.published) == 1

    run_scenario(scenario)


def test_a_callback_of_a_library_that_fails_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(harness: RunnerHarness) -> None:
        asyncio.get_running_loop().call_soon(_broken)
        await settled()

        assert not harness.runner.fatal_error.done()
        assert "Exception in callback" in caplog.text

    run_scenario(scenario)


# Time


def test_a_worker_to_which_nothing_happens_ticks() -> None:
    """A replica without partitions: /livez tells by its ticks that it lives."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.wake_at = 0.0
        harness.runner.connect(harness, harness, harness, harness, harness)
        await until(lambda: "tick" in harness.engine.event_names())
        began = time.monotonic()
        await until(lambda: harness.runner.last_tick_at > began)

    run_scenario(scenario)


# Transactions


def test_one_transaction_is_under_way_at_a_time() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.stop()  # so that none waits for the interval
        first, second = harness.owe(), harness.owe()
        harness.move()
        harness.move()
        await settled()
        assert [each for each, _ in harness.published] == [first]
        harness.end(Published())
        await settled()

        assert [each for each, _ in harness.published] == [first, second]

    run_scenario(scenario)


def test_after_a_transaction_that_failed_the_next_keeps_its_distance_and_is_not_forgotten() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.owe()
        harness.move()
        await settled()
        harness.end(Published())  # so soon that the next may follow at once
        harness.owe()
        harness.move()
        await until(lambda: len(harness.published) == 2)
        began = time.monotonic()
        harness.end(Aborted("the group is rebalancing", retry_soon=True))
        harness.owe()
        harness.move()
        await settled()
        assert len(harness.published) == 2
        await until(lambda: len(harness.published) == 3)

        assert time.monotonic() - began > INTERVAL / 2

    run_scenario(scenario)


@pytest.mark.parametrize(
    ("result", "event"),
    [
        (Published(), ("published",)),
        (Aborted("the group is rebalancing", retry_soon=True), ("aborted", False, False)),
        (MetadataRefused(3), ("metadata_refused", 3)),
    ],
    ids=["published", "aborted", "metadata"],
)
def test_the_engine_hears_what_became_of_its_transaction(
    result: PublishResult, event: tuple[Any, ...]
) -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.owe()
        harness.move()
        await settled()
        harness.end(result)
        await settled()

        assert harness.engine.events[1:] == [event]

    run_scenario(scenario)


def test_a_worker_whose_place_was_taken_stops_and_publishes_nothing_more() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.stop()
        harness.owe()
        harness.move()
        await settled()
        harness.end(Fenced("another one has the name"))
        harness.owe()
        harness.move()
        await settled()

        assert isinstance(harness.runner.fatal_error.result(), FencedError)
        assert len(harness.published) == 1

    run_scenario(scenario)


# Stopping, and being ready


def test_at_the_end_nothing_ticks_or_runs_and_the_connections_are_closed() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.wake_at = 0.0
        harness.move()
        waiting = asyncio.Event()
        harness.runner.spawn(_until_cancelled(waiting))
        await waiting.wait()
        waiting.clear()
        await harness.runner.aclose()
        harness.engine.events.clear()
        await asyncio.sleep(0.02)

        assert harness.engine.events == []
        assert harness.is_closed
        assert waiting.is_set()

    run_scenario(scenario)


async def _until_cancelled(event: asyncio.Event) -> None:
    event.set()
    try:
        await asyncio.sleep(DEADLINE)
    finally:
        event.set()


def test_a_drain_is_over_when_all_that_was_started_is_published() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}
        harness.runner.stop()
        await settled()
        assert harness.engine.events == [("stopping",)]
        harness.engine.busy = set()
        harness.owe()
        harness.move()
        await settled()
        assert not harness.runner.drained.is_set()
        harness.end(Published())
        await settled()

        assert harness.runner.drained.is_set()

    run_scenario(scenario)


def test_a_worker_that_must_not_go_on_starts_nothing_and_says_why() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.refuse_work("the command topic has another number of partitions")

        assert harness.engine.events == [("stopping",)]
        assert harness.runner.unready_reason == "the command topic has another number of partitions"

    run_scenario(scenario)


def test_a_worker_that_cannot_publish_any_more_says_so_although_it_refused_work_before() -> None:
    """Its drain was cut short for a reason that stood neither in the log nor in /readyz."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.runner.refuse_work("partition 3 ends before offset 900")
        for _ in range(2):
            harness.runner.refuse_work("another topic has the name", can_publish=False)
        harness.runner.refuse_work("another number of partitions")

        reasons = [fields["reason"] for event, fields in harness.lines if event == "worker.refused"]
        assert reasons == ["partition 3 ends before offset 900", "another topic has the name"]
        assert harness.runner.unready_reason == "another topic has the name"

    run_scenario(scenario)


def test_a_fault_that_is_reported_by_two_is_logged_once() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}
        harness.runner.stop()
        harness.runner.refuse_work("another topic has the name")
        assert not harness.runner.drained.is_set()
        harness.runner.refuse_work("another topic has the name", can_publish=False)

        assert harness.runner.drained.is_set()
        assert harness.logged == ["worker.refused"]

    run_scenario(scenario)


def test_when_the_publisher_fails_no_handover_waits_for_its_transaction() -> None:
    """Calls went on for all of ``handover_seconds``, whose results nobody could publish: the next owner made them again."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.engine.busy = {3}
        harness.owe()
        harness.move()
        await settled()
        assert len(harness.published) == 1
        harness.runner.publisher_failed(BrokerError("the publisher has ended"))
        harness.owe()
        done = harness.runner.revoking([3])
        await settled()

        assert isinstance(harness.runner.fatal_error.result(), BrokerError)
        assert done.done()
        assert len(harness.published) == 1

    run_scenario(scenario)


def test_once_nothing_can_be_published_a_stop_waits_for_the_open_calls_alone() -> None:
    """It waited for ``drain_seconds``, and the handover after it as well, for transactions that no broker would take."""

    async def scenario(harness: RunnerHarness) -> None:
        harness.move([StartCall(attempt())])
        await settled()
        harness.engine.busy = {3}
        harness.owe()
        harness.runner.refuse_work("another topic has the name", can_publish=False)
        harness.runner.stop()
        done = harness.runner.revoking([3])
        await settled()
        assert not harness.runner.drained.is_set()
        assert not done.done()
        call, end = harness.calls["call-1"]
        call.finished(result())
        end.set_result(result())
        await settled()

        assert harness.runner.drained.is_set()
        assert done.done()
        assert harness.published == []

    run_scenario(scenario)


def _stopping(harness: RunnerHarness) -> None:
    harness.runner.stop()


def _failed(harness: RunnerHarness) -> None:
    harness.runner.failed(BrokerError("the consumer has ended"))


def _out(harness: RunnerHarness) -> None:
    harness.proven_until = -inf


def _restoring(harness: RunnerHarness) -> None:
    harness.runner.assigned({3: 8})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_stopping, "stopping"),
        (_failed, "stopping"),
        (_out, "not a member of the consumer group: it has not joined yet, or Kafka is away"),
        (_restoring, "partitions are being restored"),
    ],
)
def test_a_worker_that_does_not_work_is_not_ready(
    change: Callable[[RunnerHarness], None], reason: str
) -> None:
    async def scenario(harness: RunnerHarness) -> None:
        assert harness.runner.unready_reason is None
        change(harness)
        await asyncio.sleep(0)

        assert harness.runner.unready_reason == reason

    run_scenario(scenario)


def test_what_is_halted_is_reported() -> None:
    async def scenario(harness: RunnerHarness) -> None:
        halt = HaltReason("main", None, 70009, "70009: no", "check the secret key", 0.0)
        harness.engine.halts = [halt]

        assert harness.runner.unready_reason is None
        assert harness.runner.halts == [halt]

    run_scenario(scenario)
