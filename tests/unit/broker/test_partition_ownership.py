# Who owns what, since when, and until when a request may leave.

from __future__ import annotations

import math

from worker.broker.partition_ownership import PartitionOwnership


def membership() -> PartitionOwnership:
    return PartitionOwnership(session_timeout=10.0, max_poll_interval=60.0, margin=1.0)


def test_each_ownership_has_an_epoch_of_its_own() -> None:
    held = membership()

    first = held.assigned([0, 1])
    held.gone([0])
    second = held.assigned([0])

    assert len({*first.values(), *second.values()}) == 3
    assert held.partitions == {0, 1}


def test_only_what_was_begun_in_this_ownership_can_be_claimed() -> None:
    held = membership()
    old = held.assigned([0])
    held.gone([0])
    new = held.assigned([0])

    assert not held.begin(0, old[0])
    assert held.claim([0]) is None
    assert held.begin(0, new[0])
    assert held.claim([0]) == ((0, new[0]),)


def test_a_claim_is_all_or_nothing() -> None:
    held = membership()
    held.begin(0, held.assigned([0])[0])

    assert held.claim([0, 1]) is None
    assert held.claim([]) == ()


def test_a_claim_does_not_hold_when_one_of_its_partitions_has_gone_and_come_back() -> None:
    held = membership()
    for partition, epoch in held.assigned([0, 1]).items():
        held.begin(partition, epoch)
    claim = held.claim([0, 1])
    assert claim is not None
    before = held.holds(claim)

    held.gone([1])
    held.begin(1, held.assigned([1])[1])

    assert before
    assert not held.holds(claim)


def test_what_goes_is_reported_once() -> None:
    held = membership()
    held.assigned([0, 1])

    assert held.gone([1, 2]) == (1,)
    assert held.gone([1, 2]) == ()
    assert held.ended() == (0,)
    assert held.ended() == ()


def test_the_fence_is_at_the_last_proof_plus_the_session_less_the_margin() -> None:
    held = membership()
    unproven = held.may_send_until()
    held.polled(100.0)
    held.proven(98.0)
    held.proven(95.0)  # an older answer that came later

    assert unproven == -math.inf
    assert held.may_send_until() == 98.0 + 10.0 - 1.0


def test_a_poll_that_is_too_long_ago_shuts_the_fence_though_heartbeats_go_on() -> None:
    held = membership()
    held.polled(100.0)
    held.proven(1000.0)

    assert held.may_send_until() == 100.0 + 60.0 - 1.0


def test_being_put_out_shuts_the_fence_at_once() -> None:
    held = membership()
    held.polled(100.0)
    held.proven(100.0)

    held.ended()

    assert held.may_send_until() == -math.inf


def test_a_new_membership_lets_nothing_of_the_last_one_leave() -> None:
    """
    After a pause a process joins again before its loop has heard that it was put out: what it sends is another owner's business.
    """
    held = membership()
    (epoch,) = held.assigned([3]).values()
    held.begin(3, epoch)
    held.polled(100.0)
    held.proven(100.0)
    assert held.may_send_until() == 109.0

    held.ended()
    held.proven(104.0)
    shut = held.may_send_until()
    held.assigned([3])
    still_shut = held.may_send_until()
    held.forget([3])

    assert (shut, still_shut) == (-math.inf, -math.inf)
    assert held.may_send_until() == 113.0


def test_a_handover_that_the_loop_has_not_ended_shuts_the_fence() -> None:
    held = membership()
    (epoch,) = held.assigned([3]).values()
    held.begin(3, epoch)
    held.polled(100.0)
    held.proven(100.0)
    held.gone([3])
    shut = held.may_send_until()
    held.forget([3])

    assert shut == -math.inf
    assert held.may_send_until() == 109.0
