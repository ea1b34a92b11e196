# A partition that goes says in its last commit that nothing of it is on its way any more, if that is so; then its next owner
# waits a second and not three. When it says so, and when it must not. And static members that are back: they know their own commits.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.domain.engine_harness import ENDPOINT_OF, EngineHarness, ban, unban, users
from worker.domain.calls.lending_router import lane_of
from worker.domain.calls.replica_lending import LoanRequest, encode
from worker.domain.progress.commit_metadata import mark_of, owner_of, says_clean_handover

if TYPE_CHECKING:
    from worker.domain.effects import Transaction


def says_so(transaction: Transaction | None, partition: int = 0) -> bool:
    """
    The transaction's commit for the partition says that the handover is clean.
    """
    return (
        transaction is not None
        and partition in transaction.commits
        and says_clean_handover(transaction.commits[partition].metadata)
    )


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
    assert harness.engine.transaction() is None

    harness.ok()
    last = harness.take()
    harness.commit(last)

    assert len(last.outcomes) == 1
    assert says_so(last)
    assert harness.engine.quiet([0])
    assert harness.engine.transaction() is None


def test_a_clean_handover_that_was_not_committed_is_said_again() -> None:
    harness = EngineHarness()
    harness.revoking(0)
    harness.take()

    harness.abort()

    assert says_so(harness.take())


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


def test_a_partition_that_has_not_settled_is_not_handed_over_cleanly() -> None:
    """Its owner before may have died a moment ago, and what that one had sent may still be on its way."""
    harness = EngineHarness(settled=False)
    harness.publish()

    harness.revoking(0)

    assert harness.engine.quiet([0])
    assert harness.engine.transaction() is None


def test_while_calls_of_other_partitions_use_its_slice_the_partition_waits_for_them() -> None:
    harness = EngineHarness(0, 1, default_calls_per_second=4)
    harness.receive(*(ban("u", group=f"g{place}") for place in range(3)), partition=1)
    harness.revoking(0)
    assert harness.engine.transaction() is None

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
    assert harness.engine.transaction() is None


def test_a_slice_that_is_lent_is_not_handed_over_cleanly() -> None:
    """Nor does it wait: what is lent comes back later than the next owner, who waits three seconds then, may begin."""
    harness = EngineHarness(0, default_calls_per_second=4, quota_pools={"main": "workers/1"})
    lane = lane_of(harness.rules, "main", ENDPOINT_OF["ban"])
    harness.hear_quota_messages(encode(LoanRequest(lane, "b", 1, 2, {})))

    harness.revoking(0)

    assert harness.engine.quiet([0])
    assert harness.engine.transaction() is None


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

    assert not says_so(harness.engine.transaction())
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
    assert harness.engine.transaction() is None


def test_where_permits_count_from_the_sending_nothing_is_handed_over_cleanly() -> None:
    """Nobody knows then what is on its way."""
    harness = EngineHarness(window_from_send=True)

    harness.revoking(0)

    assert harness.engine.quiet([0])
    assert harness.engine.transaction() is None


@pytest.mark.parametrize(("clean", "seconds"), [(True, 1.0), (False, 3.0)])
def test_the_next_owner_calls_after_one_second_or_three(clean: bool, seconds: float) -> None:
    harness = EngineHarness(5)
    harness.assign(0, clean=clean)
    if clean:
        harness.publish()
    harness.receive(ban("u"))
    harness.wait(seconds - 0.01)
    assert harness.out == []

    harness.wait(0.01)

    assert len(harness.out) == 1


def test_nothing_is_called_before_the_mark_of_the_owner_before_is_gone() -> None:
    """This owner may die after its first call: who comes next would believe what stands there, and wait too short."""
    harness = EngineHarness(5)
    harness.assign(0, clean=True)
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
