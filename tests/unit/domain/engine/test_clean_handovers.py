# A partition that goes says in its last commit that nothing of it is on its way any more, if that is so; then its next owner
# waits until its slice of the quota is free, and not three seconds. When it says so, and when it must not. And static members that are back: they know their own commits.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.engine_harness import ENDPOINT_OF, EngineHarness, ban, kick, unban, users
from worker.domain.calls.lending_router import lane_of
from worker.domain.calls.replica_lending import LoanRequest, encode
from worker.domain.progress.commit_metadata import mark_of, owner_of, slice_free_in_ms

if TYPE_CHECKING:
    from worker.domain.effects import Transaction


def free_in(transaction: Transaction | None, partition: int = 0) -> int | None:
    """In how many milliseconds the partition's slice is free, as the transaction's commit says; None: it says nothing of that."""
    if transaction is None or partition not in transaction.commits:
        return None
    return slice_free_in_ms(transaction.commits[partition].metadata)


def says_so(transaction: Transaction | None, partition: int = 0) -> bool:
    """The transaction's commit for the partition says that the handover is clean."""
    return free_in(transaction, partition) is not None


def test_a_partition_with_nothing_open_goes_when_it_has_said_that_it_was_clean() -> None:
    harness = EngineHarness()

    harness.revoking(0)
    assert not harness.engine.quiet([0])
    last = harness.take()
    harness.commit(last)

    assert says_so(last)
    assert harness.engine.quiet([0])


def test_the_last_outcome_and_the_clean_handover_share_a_transaction() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.revoking(0)
    assert harness.engine.take_transaction(harness.now) is None

    harness.ok()
    last = harness.take()
    harness.commit(last)

    assert len(last.outcomes) == 1
    assert says_so(last)
    assert harness.engine.quiet([0])
    assert harness.engine.take_transaction(harness.now) is None


def test_a_clean_handover_that_was_not_committed_is_said_again() -> None:
    harness = EngineHarness()
    harness.revoking(0)
    harness.take()

    harness.abort()

    assert says_so(harness.take())


def test_a_clean_handover_that_the_broker_has_no_room_for_goes_unsaid() -> None:
    """Else results that share its transaction were refused with it, again and again. The next owner waits three seconds then."""
    harness = EngineHarness(0, 1)
    harness.receive(ban("u"), partition=1)
    harness.ok()
    harness.revoking(0)
    assert says_so(harness.take())

    harness.refuse_metadata(0)
    second = harness.take()
    harness.commit(second)

    assert not says_so(second)
    assert [each.outcome.status for each in second.outcomes] == ["succeeded"]
    assert harness.engine.quiet([0])


def test_while_results_are_on_their_way_the_commit_says_nothing() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="g"), ban("v", group="h"))
    harness.revoking(0)
    harness.ok(harness.request(target="g"))
    first = harness.take()
    harness.ok(harness.request(target="h"))
    harness.commit(first)

    assert not says_so(first)
    assert says_so(harness.take())


def test_a_slice_is_free_when_the_last_permit_that_it_needs_is_back() -> None:
    """A permit comes back a second after its answer."""
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.wait(0.1)
    harness.ok()
    harness.publish()
    harness.wait(0.6004)

    harness.revoking(0)

    assert free_in(harness.take()) == 400, "rounded up"


def test_a_slice_whose_permits_are_all_back_is_free_at_once() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.ok()
    harness.publish()
    harness.wait(1.0)

    harness.revoking(0)

    assert free_in(harness.take()) == 0


def test_the_permits_that_come_back_first_are_those_that_go() -> None:
    """Four answers count when two of the four permits go: after the first two are back, those that remain cover the others."""
    harness = EngineHarness(0, 1, default_calls_per_second=4)
    for place in range(4):
        harness.receive(ban("u", group=f"g{place}"), partition=1)
        harness.ok()
        harness.wait(0.1)
    harness.publish()

    harness.revoking(0)
    last = harness.take()
    harness.commit(last)

    assert free_in(last) == 700
    harness.receive(ban("u", group="g4"), ban("u", group="g5"), partition=1)
    harness.wait(0.75)
    assert harness.out == [], "the two that came back are the next owner's"
    harness.wait(0.1)
    assert len(harness.out) == 1


def test_the_endpoint_whose_permits_come_back_last_says_when_the_slice_is_free() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.ok()
    harness.wait(0.2)
    harness.receive(kick("u"))
    harness.ok()
    harness.publish()
    harness.wait(0.3001)

    harness.revoking(0)

    assert free_in(harness.take()) == 700


def test_what_waited_to_be_committed_counts_as_time() -> None:
    """Another transaction ran meanwhile, or the first one was aborted: the permits came back all the same."""
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.ok()
    harness.publish()
    harness.revoking(0)
    first = harness.take()
    harness.wait(0.3001)
    harness.abort()
    second = harness.take()
    harness.wait(0.6)
    harness.abort()

    assert (free_in(first), free_in(second), free_in(harness.take())) == (1000, 700, 100)


def test_a_partition_that_has_not_settled_is_not_handed_over_cleanly() -> None:
    """Its owner before may have died a moment ago, and what that one had sent may still be on its way."""
    harness = EngineHarness(settled=False)
    harness.publish()

    harness.revoking(0)

    assert harness.engine.quiet([0])
    assert harness.engine.take_transaction(harness.now) is None


def test_while_calls_of_other_partitions_use_its_slice_the_partition_waits_for_them() -> None:
    harness = EngineHarness(0, 1, default_calls_per_second=4)
    harness.receive(*(ban("u", group=f"g{place}") for place in range(3)), partition=1)
    harness.revoking(0)
    assert harness.engine.take_transaction(harness.now) is None

    harness.ok(harness.out[0])

    assert says_so(harness.take())


def test_a_call_that_hangs_on_its_slice_is_not_waited_for_beyond_a_second() -> None:
    """The next owner waits three seconds then: the request has arrived by that time."""
    harness = EngineHarness(0, 1, default_calls_per_second=4)
    harness.receive(*(ban("u", group=f"g{place}") for place in range(3)), partition=1)
    harness.revoking(0)
    harness.wait(0.99)
    assert not harness.engine.quiet([0])

    harness.wait(0.01)

    assert harness.engine.quiet([0])
    assert harness.engine.take_transaction(harness.now) is None


def test_a_slice_that_is_lent_is_not_handed_over_cleanly() -> None:
    """Nor does it wait: what is lent comes back later than the next owner, who waits three seconds then, may begin."""
    harness = EngineHarness(0, default_calls_per_second=4, quota_pools={"main": "workers/1"})
    lane = lane_of(harness.settings, "main", ENDPOINT_OF["ban"])
    harness.hear_quota_messages(encode(LoanRequest(lane, "b", 1, 2, {})))

    harness.revoking(0)

    assert harness.engine.quiet([0])
    assert harness.engine.take_transaction(harness.now) is None


def test_after_a_request_of_unknown_end_a_partition_is_not_handed_over_cleanly() -> None:
    """It may still take effect, and the next owner does not know of it."""
    harness = EngineHarness(max_attempts=1)
    harness.receive(ban("u"), ban("v", group="h"))
    harness.timeout(harness.request(target="g"))
    harness.ok()

    harness.revoking(0)
    while harness.engine.unpublished:
        last = harness.take()
        harness.commit(last)
        assert not says_so(last)


def test_where_started_commands_are_given_up_the_partition_is_not_handed_over_cleanly() -> None:
    harness = EngineHarness()
    harness.receive(*(ban("u", group=f"g{place}") for place in range(8)))
    for request in harness.out[:5]:
        harness.code(request, 10002)

    harness.revoking(0)

    assert not says_so(harness.engine.take_transaction(harness.now))
    assert harness.engine.quiet([0])


def test_while_a_dropped_commands_call_is_out_nothing_is_handed_over_cleanly() -> None:
    """The command is left to the next owner with the paused one, and its call is still on its way, though another slice covers it."""
    harness = EngineHarness(0, 1, supersede=False)
    harness.receive(ban("u", issuer="mad", command_id="a"))
    harness.refuse_connection(harness.request())
    harness.order("paused", issuer="mad")
    harness.receive(unban("u", "v", command_id="b"))
    assert harness.request().users == ["v"]

    harness.revoking(0)

    assert harness.engine.quiet([0])
    assert harness.engine.take_transaction(harness.now) is None


def test_where_permits_count_from_the_sending_nothing_is_handed_over_cleanly() -> None:
    """Nobody knows then what is on its way."""
    harness = EngineHarness(window_from_send=True)

    harness.revoking(0)

    assert harness.engine.quiet([0])
    assert harness.engine.take_transaction(harness.now) is None


@pytest.mark.parametrize(("slice_free_in", "seconds"), [(0.4, 0.4), (1.0, 1.0), (None, 3.0)])
def test_the_next_owner_calls_when_the_slice_is_free_or_after_three_seconds(
    slice_free_in: float | None, seconds: float
) -> None:
    harness = EngineHarness(5)
    harness.assign(0, slice_free_in=slice_free_in)
    if slice_free_in is not None:
        harness.publish()
    harness.receive(ban("u"))
    harness.wait(seconds - 0.01)
    assert harness.out == []

    harness.wait(0.01)

    assert len(harness.out) == 1


def test_nothing_is_called_before_the_mark_of_the_owner_before_is_gone() -> None:
    """This owner may die after its first call: the next owner would believe that mark, and wait too briefly."""
    harness = EngineHarness(5)
    harness.assign(0, slice_free_in=0.0)
    harness.receive(unban(*users(2)))

    harness.wait(5.0)
    assert harness.out == []
    erased = harness.take()
    harness.commit(erased)
    harness.wait(0.01)

    assert not says_so(erased)
    assert len(harness.out) == 1


def test_a_static_member_that_is_back_counts_from_its_beginning() -> None:
    """
    Its predecessor was dead by then, and nobody else has called anything since: else another's mark would be there. Half of the
    wait remains, for one that lives by mistake.
    """
    mark = mark_of("worker-0")
    harness = EngineHarness(5, owner_mark=mark)
    harness.assign(0, owner=mark)
    harness.receive(ban("u"))
    harness.wait(1.49)
    assert harness.out == []

    harness.wait(0.01)

    assert harness.request().users == ["u"]


@pytest.mark.parametrize("owner", ["", mark_of("worker-1")])
def test_a_static_member_that_gets_what_was_anothers_waits_from_the_assignment(owner: str) -> None:
    harness = EngineHarness(5, owner_mark=mark_of("worker-0"))
    harness.assign(0, owner=owner)
    if owner:
        harness.publish()
    harness.receive(ban("u"))
    harness.wait(2.99)
    assert harness.out == []

    harness.wait(0.01)

    assert len(harness.out) == 1


def test_a_static_member_that_has_had_the_partition_itself_waits_from_the_assignment() -> None:
    """What it says of its name is its own doing then, not a dead predecessor's."""
    mark = mark_of("worker-0")
    harness = EngineHarness(5, owner_mark=mark)
    harness.assign(0, owner=mark)
    harness.revoked(0)
    harness.assign(0, owner=mark)
    harness.receive(ban("u"))
    harness.wait(2.99)

    assert harness.out == []


@pytest.mark.parametrize("said", [{"slice_free_in": 0.5}, {"owner": mark_of("worker-1")}])
def test_a_worker_that_stops_leaves_what_the_last_commit_says_of_a_partition_that_it_gets(
    said: dict[str, Any],
) -> None:
    """It calls nothing of it, so that stays true, and spares the next owner the wait."""
    harness = EngineHarness(1, settled=False)
    harness.stop()

    harness.assign(0, **said)

    assert harness.engine.take_transaction(harness.now) is None


@pytest.mark.parametrize("mine", ["", mark_of("worker-0")])
def test_nothing_is_called_before_the_name_of_the_owner_before_is_gone(mine: str) -> None:
    """That one may be back at any time: it would take all that was called since for its own."""
    harness = EngineHarness(5, owner_mark=mine)
    harness.assign(0, owner=mark_of("worker-1"))
    harness.receive(ban("u"))
    harness.wait(5.0)
    assert harness.out == []

    erased = harness.take()
    harness.commit(erased)
    harness.wait(0.01)

    assert owner_of(erased.commits[0].metadata) == mine
    assert len(harness.out) == 1
