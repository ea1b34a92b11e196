# The loop between the engine and the world: what is told to whom, in which order, and what ends a handover, a drain, a worker.
#
# What the engine decides is proven in tests/unit/domain, what Kafka and Tencent do in tests/contract; here both are played.

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.runtime.fakes import play, send, settled, try_, until
from worker.domain.contract.codes import Verdict
from worker.domain.effects import CancelCall, GrantPermit, Halt, RetryCall, StartCall
from worker.domain.publish_results import (
    Aborted,
    Fenced,
    MetadataRefused,
    Published,
)
from worker.errors import BrokerError, FencedError
from worker.runtime import restoring
from worker.runtime.publishing import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.runtime.fakes import World
    from worker.domain.publish_results import (
        PublishResult,
    )

# Partitions


def test_a_partition_is_fetched_from_where_it_was_restored_to_once_the_engine_has_it() -> None:
    async def scene(world: World) -> None:
        world.service.assigned({3: 8})
        await until(lambda: bool(world.begun))

        assert world.begun == [(3, 17, 8)]
        assert world.engine.events() == ["assigned"]

    play(scene)


def test_a_partition_that_goes_while_it_is_restored_is_never_begun() -> None:
    async def scene(world: World) -> None:
        world.restoring = lambda: world.service.lost([3])
        world.service.assigned({3: 8})
        await until(lambda: "revoked" in world.engine.events())
        await settled()

        assert world.begun == []
        assert "assigned" not in world.engine.events()

    play(scene)


def test_a_partition_that_comes_back_while_it_is_restored_is_begun_for_its_new_ownership_only() -> None:
    async def scene(world: World) -> None:
        def move() -> None:
            world.restoring = lambda: None
            world.service.lost([3])
            world.service.assigned({3: 9})

        world.restoring = move
        world.service.assigned({3: 8})
        await until(lambda: bool(world.begun))
        await settled()

        assert world.begun == [(3, 17, 9)]

    play(scene)


def test_a_restoration_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "BACKOFF", (0.001, 0.002))

    async def scene(world: World) -> None:
        world.failures = [BrokerError("Kafka is away"), BrokerError("Kafka is away")]
        world.service.assigned({3: 8})
        await until(lambda: bool(world.begun))

        assert world.logged.count("partition.restore_failed") == 2
        assert not world.service.stopped.done()

    play(scene)


def test_a_handover_is_over_when_nothing_of_it_is_in_progress_and_the_engine_knows_that_it_is_gone() -> None:
    async def scene(world: World) -> None:
        world.engine.busy = {3}
        done = world.service.revoked([3])
        done.add_done_callback(lambda _: world.engine.told.append(("over",)))
        await settled()
        assert world.engine.told == [("revoking", [3])]
        world.engine.busy = set()
        world.move()
        await settled()

        assert world.engine.events() == ["revoking", "received", "revoked", "over"]

    play(scene)


def test_a_handover_waits_for_the_transaction_that_is_under_way() -> None:
    async def scene(world: World) -> None:
        world.owe()
        world.move()
        await settled()
        done = world.service.revoked([3])
        await settled()
        assert not done.done()
        world.end(Published(0.1, 0, 0))
        await settled()

        assert done.done()

    play(scene)


def test_a_handover_ends_when_its_time_is_over() -> None:
    async def scene(world: World) -> None:
        world.engine.busy = {3}
        done = world.service.revoked([3])
        await until(done.done)

        assert world.engine.events() == ["revoking", "revoked"]
        assert world.forgotten == [3]

    play(scene, handover=0.01)


def test_what_is_lost_is_gone_at_once() -> None:
    async def scene(world: World) -> None:
        world.engine.busy = {3}
        world.service.lost([3])
        await settled()

        assert world.engine.told == [("revoked", [3])]
        assert world.forgotten == [3]

    play(scene)


def test_another_batch_may_come_once_the_engine_has_the_one_before() -> None:
    async def scene(world: World) -> None:
        world.service.received([])
        world.service.received([])
        await settled()

        assert world.engine.events() == ["received", "received"]
        assert world.batches_taken == 2

    play(scene)


# Calls


def test_a_request_leaves_only_while_the_membership_is_proven() -> None:
    async def scene(world: World) -> None:
        world.move([StartCall(send())])
        await settled()
        flight, _ = world.calls["call-1"]

        world.proven_until = time.monotonic() + 60.0
        assert flight.may_send()
        world.proven_until = time.monotonic()
        assert not flight.may_send()
        world.proven_until = inf
        world.engine.gone.add(flight.attempt.call_id)
        assert not flight.may_send()

    play(scene)


def test_a_call_gets_its_attempts_one_by_one_from_the_engine() -> None:
    async def scene(world: World) -> None:
        world.move([StartCall(send())])
        await settled()
        call, end = world.calls["call-1"]
        assert (await call.permit()).number == 1
        world.engine.effects["attempt_finished"] = [RetryCall("call-1")]
        assert call.finished(try_(Verdict.RETRY)), "the engine wants another attempt"
        asked = asyncio.ensure_future(call.permit())
        await settled()
        assert not asked.done(), "it has no permit yet"
        again = send(number=2)
        world.move([GrantPermit(again)])
        await settled()
        assert asked.result() is again
        assert not call.finished(try_())
        end.set_result(try_())
        await settled()

        assert world.engine.events() == [
            "received", "attempt_finished", "permit_requested", "received", "attempt_finished",
        ]  # fmt: skip

    play(scene)


def test_a_call_that_is_taken_back_ends_and_nothing_more_is_told_of_it() -> None:
    async def scene(world: World) -> None:
        world.move([StartCall(send())])
        await settled()
        _, end = world.calls["call-1"]
        world.move([CancelCall("call-1")])
        await settled()

        assert end.cancelled()
        assert world.engine.events() == ["received", "received"]
        assert not world.service.stopped.done()

    play(scene)


def test_a_fault_in_a_call_ends_the_worker_and_is_not_waited_for_in_silence() -> None:
    async def scene(world: World) -> None:
        world.move([StartCall(send())])
        await settled()
        world.calls["call-1"][1].set_exception(KeyError("a fault of the code"))
        await settled()

        assert isinstance(world.service.stopped.result().__cause__, KeyError)

    play(scene)


# Transactions


def test_one_transaction_is_under_way_at_a_time() -> None:
    async def scene(world: World) -> None:
        world.service.stop()  # so that none waits for the interval
        first, second = world.owe(), world.owe()
        world.move()
        world.move()
        await settled()
        assert [each for each, _ in world.published] == [first]
        world.end(Published(0.1, 0, 0))
        await settled()

        assert [each for each, _ in world.published] == [first, second]

    play(scene)


def test_under_load_transactions_keep_their_distance_and_none_is_forgotten() -> None:
    async def scene(world: World) -> None:
        world.owe()
        world.move()
        await settled()
        began = time.monotonic()
        world.end(Published(0.1, 0, 0))
        world.owe()
        world.move()
        await settled()
        assert len(world.published) == 1
        await until(lambda: len(world.published) == 2)

        assert time.monotonic() - began > INTERVAL / 2

    play(scene)


@pytest.mark.parametrize(
    ("result", "event"),
    [
        (Published(0.1, 0, 0), ("published",)),
        (Aborted("the group is rebalancing", generation=True), ("aborted", False, False)),
        (MetadataRefused(3, 4097), ("metadata_refused", 3)),
    ],
    ids=["published", "aborted", "metadata"],
)
def test_the_engine_is_told_what_became_of_its_transaction(
    result: PublishResult, event: tuple[Any, ...]
) -> None:
    async def scene(world: World) -> None:
        world.owe()
        world.move()
        await settled()
        world.end(result)
        await settled()

        assert world.engine.told[1:] == [event]

    play(scene)


def test_a_worker_whose_place_was_taken_stops_and_publishes_nothing_more() -> None:
    async def scene(world: World) -> None:
        world.service.stop()
        world.owe()
        world.move()
        await settled()
        world.end(Fenced("another one has the name"))
        world.owe()
        world.move()
        await settled()

        assert isinstance(world.service.stopped.result(), FencedError)
        assert len(world.published) == 1

    play(scene)


# Stopping, and being ready


def test_a_drain_is_over_when_all_that_was_started_is_published() -> None:
    async def scene(world: World) -> None:
        world.engine.busy = {3}
        world.service.stop()
        await settled()
        assert world.engine.told == [("stopping",)]
        world.engine.busy = set()
        world.owe()
        world.move()
        await settled()
        assert not world.service.drained.is_set()
        world.end(Published(0.1, 0, 0))
        await settled()

        assert world.service.drained.is_set()

    play(scene)


def test_a_worker_that_must_not_go_on_starts_nothing_and_says_why() -> None:
    async def scene(world: World) -> None:
        world.service.refuse("the command topic has another number of partitions")

        assert world.engine.told == [("stopping",)]
        assert world.service.tells == ("the command topic has another number of partitions", [])

    play(scene)


def _stopping(world: World) -> None:
    world.service.stop()


def _out(world: World) -> None:
    world.proven_until = -inf


def _restoring(world: World) -> None:
    world.service.assigned({3: 8})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_stopping, "stopping"),
        (_out, "not a member of the consumer group: it has not joined yet, or Kafka is away"),
        (_restoring, "partitions are being restored"),
    ],
)
def test_a_worker_that_does_not_work_is_not_ready(change: Callable[[World], None], reason: str) -> None:
    async def scene(world: World) -> None:
        assert world.service.tells == (None, [])
        change(world)
        await asyncio.sleep(0)

        assert world.service.tells[0] == reason

    play(scene)


def test_what_is_halted_is_told() -> None:
    async def scene(world: World) -> None:
        halt = Halt("main", None, 70009, "70009: no", "check the secret key", 0.0)
        world.engine.halts = [halt]

        assert world.service.tells == (None, [halt])

    play(scene)
