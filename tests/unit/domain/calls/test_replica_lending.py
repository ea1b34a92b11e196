# Both sides of a lane by hand: what a borrower says and may use, what a lender sets aside and when it uses it again. That no
# order of messages breaks the quota is shown in tests/simulation/test_lending.py.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.domain.calls.replica_lending import (
    BORROWERS,
    HOLD,
    LEASE,
    PATIENCE,
    RENEW,
    Borrower,
    Lender,
    LoanGrant,
    LoanRequest,
    LoanReturn,
    decode,
    encode,
)
from worker.domain.progress.partitions import COOLING_OFF_SECONDS

if TYPE_CHECKING:
    from worker.domain.calls.replica_lending import (
        Message,
    )


def request(number: int, wanted: int, keeps: int = 0, borrower: str = "b") -> LoanRequest:
    """A borrower asks the lender "l"."""
    return LoanRequest("lane", borrower, number, wanted, {"l": keeps} if keeps else {})


def asked(now: float = 10.0, wanted: int = 5) -> Borrower:
    """A borrower that has just asked."""
    borrower = Borrower("lane", "b")
    borrower.need(wanted)
    assert borrower.message(now, 0) == LoanRequest("lane", "b", 1, wanted, {})
    return borrower


@pytest.mark.parametrize(
    "message",
    [
        LoanRequest("lane", "b", 1, 2, {"l": 3}),
        LoanReturn("lane", "b", 4),
        LoanGrant("lane", "l", "b", 5, 6),
    ],
)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


def test_a_message_is_compact_and_names_its_version() -> None:
    assert encode(LoanRequest("lane", "b", 1, 2, {"l": 3})) == b'["request1","lane","b",1,2,{"l":3}]'


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"{}",
        b'["request2","lane","b",1,2,{}]',
        b'["request1","lane","b",0,2,{}]',
        b'["request1","lane","b",1,-2,{}]',
        b'["request1","lane","",1,2,{}]',
        b'["grant1","lane","l","b",5,1000001]',
        b"[" * 2000,
        b'["request1","\xff","b",1,1,{}]',
        b'["return1","lane","\xed\xa0\x80",1]',
        b'["grant1","lane","l","b\xc3',
    ],
)
def test_what_is_of_another_version_or_of_somebody_else_is_no_message(payload: bytes) -> None:
    assert decode(payload) is None


# The borrower


def test_who_needs_nothing_says_nothing() -> None:
    assert Borrower("lane", "b").message(10.0, 0) is None


def test_a_grant_may_be_used_until_a_second_after_the_request() -> None:
    """The lender counts from later on: it has set the permits aside before."""
    borrower = asked(10.0)

    assert borrower.granted(LoanGrant("lane", "l", "b", 1, 3), 10.9)

    assert borrower.usable(10.0 + LEASE - 0.001) == 3
    assert borrower.lease_ends(10.9) == 10.0 + LEASE
    assert borrower.usable(10.0 + LEASE) == 0
    assert borrower.lease_ends(12.0) == 12.0


@pytest.mark.parametrize(
    ("grant", "at"),
    [
        (LoanGrant("lane", "l", "b", 1, 3), 10.0 + LEASE),
        (LoanGrant("lane", "l", "b", 2, 3), 10.1),
        (LoanGrant("lane", "l", "other", 1, 3), 10.1),
    ],
)
def test_a_grant_too_late_or_for_another_request_is_worthless(grant: LoanGrant, at: float) -> None:
    borrower = asked(10.0)

    assert not borrower.granted(grant, at)

    assert borrower.usable(10.1) == 0


def test_a_grant_for_the_request_before_the_latest_is_worthless() -> None:
    """With the latest, the borrower said that it keeps nothing: the lender may have used the permits again."""
    borrower = asked(10.0)
    borrower.need(5)
    assert borrower.message(10.0 + PATIENCE, 0) == LoanRequest("lane", "b", 2, 5, {})

    assert not borrower.granted(LoanGrant("lane", "l", "b", 1, 3), 10.8)


def test_a_borrower_that_was_granted_something_renews_well_before_the_end() -> None:
    borrower = asked(10.0)
    borrower.granted(LoanGrant("lane", "l", "b", 1, 3), 10.01)
    borrower.need(2)

    assert borrower.message(10.0 + RENEW - 0.001, 3) is None
    assert borrower.message(10.0 + RENEW, 3) == LoanRequest("lane", "b", 2, 2, {"l": 3})


def test_a_borrower_that_nobody_grants_anything_asks_less_often() -> None:
    borrower = asked(10.0)
    borrower.need(2)

    assert borrower.due_at == 10.0 + PATIENCE
    assert borrower.message(10.0 + RENEW, 0) is None


def test_what_is_in_use_is_renewed_and_the_rest_given_back() -> None:
    borrower = asked(10.0)
    borrower.granted(LoanGrant("lane", "l", "b", 1, 3), 10.01)
    borrower.granted(LoanGrant("lane", "m", "b", 1, 3), 10.02)

    assert borrower.message(10.3, 4) == LoanRequest("lane", "b", 2, 0, {"l": 3, "m": 1})
    assert borrower.usable(10.4) == 4


def test_when_the_last_borrowed_permit_has_come_back_the_borrower_says_so_once() -> None:
    borrower = asked(10.0)
    borrower.granted(LoanGrant("lane", "l", "b", 1, 3), 10.01)

    assert borrower.message(10.3, 0) == LoanReturn("lane", "b", 2)
    assert not borrower.is_active
    assert borrower.message(11.0, 0) is None


def test_a_grant_after_the_return_is_worthless() -> None:
    borrower = asked(10.0)
    borrower.granted(LoanGrant("lane", "l", "b", 1, 3), 10.01)
    borrower.message(10.3, 0)

    assert not borrower.granted(LoanGrant("lane", "m", "b", 1, 3), 10.4)
    assert not borrower.granted(LoanGrant("lane", "m", "b", 2, 3), 10.4)


def test_a_request_that_hangs_keeps_its_permit_aside_after_the_lease() -> None:
    """While messages arrive, no delay on the way to the server breaks the quota."""
    borrower = asked(10.0)
    borrower.granted(LoanGrant("lane", "l", "b", 1, 3), 10.01)

    assert borrower.message(12.0, 2) == LoanRequest("lane", "b", 2, 0, {"l": 2})
    assert borrower.usable(12.0) == 0


def test_a_lender_that_grants_less_has_the_rest_once_it_has_come_back() -> None:
    borrower = asked(10.0)
    borrower.granted(LoanGrant("lane", "l", "b", 1, 9), 10.01)
    borrower.need(1)
    assert borrower.message(10.3, 9) == LoanRequest("lane", "b", 2, 1, {"l": 9})

    borrower.granted(LoanGrant("lane", "l", "b", 2, 4), 10.31)

    assert borrower.usable(10.4) == 4
    borrower.need(1)
    assert borrower.message(10.6, 7) == LoanRequest("lane", "b", 3, 1, {"l": 7})
    assert repr(borrower) == "<Borrower b of lane, 7 kept>"


# The lender


def test_a_lender_sets_permits_aside_before_it_grants_them() -> None:
    lender = Lender("lane", "l")

    assert lender.requested(request(1, wanted=5), 20.0, idle=9) == LoanGrant("lane", "l", "b", 1, 5)

    assert lender.lent(20.0) == 5
    assert repr(lender) == "<Lender l of lane, 5 lent>"


def test_a_lender_lends_no_more_than_is_idle() -> None:
    lender = Lender("lane", "l")

    assert lender.requested(request(1, wanted=5), 20.0, idle=3) == LoanGrant("lane", "l", "b", 1, 3)


@pytest.mark.parametrize("idle", [0, -4])
def test_a_lender_without_idle_permits_grants_nothing(idle: int) -> None:
    lender = Lender("lane", "l")

    assert lender.requested(request(1, wanted=5), 20.0, idle=idle) is None

    assert lender.lent(20.0) == 0


def test_what_is_lent_is_used_again_at_the_end_of_its_time_whatever_is_heard() -> None:
    lender = Lender("lane", "l")
    lender.requested(request(1, wanted=5), 20.0, idle=9)

    assert lender.back_at == 20.0 + HOLD
    assert lender.lent(20.0 + HOLD - 0.001) == 5
    assert lender.lent(20.0 + HOLD) == 0


def test_what_is_given_back_is_used_again_at_once() -> None:
    lender = Lender("lane", "l")
    lender.requested(request(1, wanted=5), 20.0, idle=9)

    lender.returned(LoanReturn("lane", "b", 2), 20.5)

    assert lender.lent(20.5) == 0


def test_a_return_of_somebody_unknown_changes_nothing() -> None:
    lender = Lender("lane", "l")
    lender.requested(request(1, wanted=5), 20.0, idle=9)

    lender.returned(LoanReturn("lane", "other", 2), 20.5)

    assert lender.lent(20.5) == 5


def test_a_message_that_comes_twice_or_too_late_changes_nothing() -> None:
    lender = Lender("lane", "l")
    lender.requested(request(3, wanted=5), 20.0, idle=9)

    assert lender.requested(request(3, wanted=5), 20.1, idle=9) is None
    assert lender.requested(request(2, wanted=1), 20.1, idle=9) is None
    lender.returned(LoanReturn("lane", "b", 2), 20.1)

    assert lender.lent(20.1) == 5


def test_a_renewal_counts_from_its_own_receipt() -> None:
    lender = Lender("lane", "l")
    lender.requested(request(1, wanted=5), 20.0, idle=9)

    assert lender.requested(request(2, wanted=0, keeps=5), 20.3, idle=9) == LoanGrant("lane", "l", "b", 2, 5)

    assert lender.back_at == 20.3 + HOLD


def test_a_lost_grant_is_not_counted_as_lent_after_the_next_request() -> None:
    lender = Lender("lane", "l")
    lender.requested(request(1, wanted=5), 20.0, idle=9)

    lender.requested(request(2, wanted=3), 20.8, idle=9)

    assert lender.lent(20.8) == 3


def test_a_lender_that_needs_its_permits_renews_nothing_and_waits_for_them() -> None:
    lender = Lender("lane", "l")
    lender.requested(request(1, wanted=5), 20.0, idle=9)

    assert lender.requested(request(2, wanted=5, keeps=5), 20.3, idle=0) is None

    assert lender.lent(20.3) == 5


def test_a_claim_after_the_permits_came_back_by_themselves_sets_aside_what_is_idle() -> None:
    """The request hung for longer than the network is given: the less of it is used twice the better."""
    lender = Lender("lane", "l")
    lender.requested(request(1, wanted=5), 20.0, idle=9)

    lender.requested(request(2, wanted=0, keeps=4), 20.0 + HOLD, idle=3)

    assert lender.lent(20.0 + HOLD) == 3


def test_two_borrowers_get_their_demand_or_the_same() -> None:
    lender = Lender("lane", "l")
    lender.requested(request(1, wanted=20), 20.0, idle=10)

    assert lender.requested(request(1, wanted=3, borrower="c"), 20.1, idle=10) is None
    renewed = lender.requested(request(2, wanted=10, keeps=10), 20.3, idle=10)
    lender.requested(request(3, wanted=3, keeps=7), 20.6, idle=10)

    assert renewed == LoanGrant("lane", "l", "b", 2, 7)
    assert lender.requested(request(2, wanted=3, borrower="c"), 20.9, idle=10) == LoanGrant(
        "lane", "l", "c", 2, 3
    )


def test_a_lender_does_not_lend_to_itself() -> None:
    assert Lender("lane", "l").requested(request(1, wanted=5, borrower="l"), 20.0, idle=9) is None


def test_a_lender_remembers_a_bounded_number_of_borrowers() -> None:
    """Whoever may write to the topic must not fill the memory."""
    lender = Lender("lane", "l")
    for number in range(BORROWERS):
        lender.requested(request(1, wanted=0, borrower=f"b{number}"), 20.0, idle=9)

    assert lender.requested(request(1, wanted=5), 20.1, idle=9) is None


def test_a_borrower_borrows_from_a_bounded_number_of_lenders() -> None:
    """Each is named in its next request, which nobody would read if it named more."""
    borrower = asked(wanted=BORROWERS + 1)
    for number in range(BORROWERS):
        assert borrower.granted(LoanGrant("lane", f"l{number}", "b", 1, 1), 10.1)

    assert not borrower.granted(LoanGrant("lane", "one more", "b", 1, 1), 10.1)
    assert borrower.granted(LoanGrant("lane", "l0", "b", 1, 2), 10.1)
    borrower.need(1)
    message = borrower.message(11.0 - 0.1, in_use=BORROWERS)
    assert message is not None
    assert decode(encode(message)) == message


def test_what_an_owner_had_lent_is_over_when_the_next_one_uses_its_slices() -> None:
    """A longer lease needs a longer wait of new owners."""
    assert HOLD == COOLING_OFF_SECONDS
