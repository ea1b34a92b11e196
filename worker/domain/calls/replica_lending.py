# Lending: a replica that waits for permits borrows those that others do not use, by messages alone. Both sides are here, for
# one lane, which is one endpoint of one app within one consumer group. A lane's permits are counted in rate_limiter.py.
#
# Clocks are never compared. Each side counts from an instant of its own, and the borrower's always lies before the lender's:
#
#   borrower  t0 noted -> LoanRequest published      starts requests until t0 + D, and none later
#   lender    r: LoanRequest received, k set aside   uses the k again when the borrower says so, or at r + HOLD
#
# As t0 was noted before r, the borrower stops no later than r + D. Its last requests reach the server within NETWORK, which a crashed
# process is given anyway, and count there for the WINDOW: at r + D + NETWORK + WINDOW = r + HOLD none of them counts any more. HOLD is
# also how long a slice lies idle after its partition was assigned to another replica, so by then the loans of its old owner are over
# (unless that one's remaining permits cover them: a clean handover). That is why D is one second. A borrower that lives names in each
# request the permits that it still keeps, answered or not, so that one whose request hangs longer than NETWORK is kept aside as long as
# messages arrive.
#
# Rules that make it safe with messages late, lost, doubled and in any order:
# - A request and a return have a number of their borrower, and a lender ignores one that is not above the last it has seen.
# - A grant counts only for the borrower's latest number, and only before t0 + D of that request.
# - A borrower lowers the number that it keeps before it says so. A lender lowers the number set aside only when it hears so, or at HOLD.
# - A lender grants only while its own membership is proven (the caller knows): else its slices may be another replica's by now.
# - Borrowed permits are never lent on: a lender counts its own permits only.
# Losing a message wastes permits for about D; it never makes any.

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from worker.domain.engine_settings import WINDOW

LEASE: Final = 1.0
"""D: seconds from a request on, by the borrower's clock, in which the permits granted for it may be used."""
NETWORK: Final = 1.0
"""Seconds that a request of a process which has died, or lost its messages, may need to reach the server."""
HOLD: Final = LEASE + NETWORK + WINDOW
"""Seconds from the receipt of a request after which the lender uses the permits again, whatever it has heard meanwhile."""
RENEW: Final = 0.25
"""Seconds from a request that was granted to the next: two may be lost before a lease ends."""
PATIENCE: Final = 0.75
"""
Seconds from a request that nobody granted to the next. A grant counts only for the latest, so a cluster that needs longer for
a message and its answer lends nothing.
"""
BORROWERS: Final = 256
"""The most borrowers that a lender remembers in a lane, and lenders that a borrower does: more than replicas can be hungry at once."""
NEVER: Final = float("inf")

_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Count = Annotated[int, Meta(ge=0, le=1_000_000)]
_Number = Annotated[int, Meta(ge=1, le=2**62)]


class LoanRequest(Struct, frozen=True, array_like=True, tag="request1"):
    """
    A borrower asks for permits, and for the renewal of those that it keeps.

    Attributes:
        number: Higher than in any message of this borrower in this lane before.
        wanted: How many more it could use, from all lenders together.
        keeps: Lender -> how many of its permits the borrower keeps: in use, or to be used until the lease ends.

    """

    lane: _Name
    borrower: _Name
    number: _Number
    wanted: _Count
    keeps: Annotated[dict[_Name, _Count], Meta(max_length=BORROWERS)]


class LoanReturn(Struct, frozen=True, array_like=True, tag="return1"):
    """A borrower keeps no permits any more: the last one that it used has come back."""

    lane: _Name
    borrower: _Name
    number: _Number


class LoanGrant(Struct, frozen=True, array_like=True, tag="grant1"):
    """A lender lets a borrower use ``permits`` of its permits in all, until the lease of the request of this number ends."""

    lane: _Name
    lender: _Name
    borrower: _Name
    number: _Number
    permits: _Count


Message = LoanRequest | LoanReturn | LoanGrant

_encoder = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(LoanRequest | LoanReturn | LoanGrant)


def encode(message: Message) -> bytes:
    """Return the message as a record's value. The first element names the kind of message and the version of the format."""
    return _encoder.encode(message)


def decode(payload: bytes) -> Message | None:
    """Return the message; None for one of another version, or of somebody else."""
    try:
        return _decoder.decode(payload)
    except (ValueError, RecursionError):
        return None


@dataclass(slots=True, eq=False)
class BorrowedPermits:
    """
    The permits that one lender has lent.

    Attributes:
        keeps: How many the lender must not use: those in use here, and those that may be used until the lease ends.
        usable: With how many of these a request may be started.
        until: When the lease ends.

    """

    keeps: int
    usable: int
    until: float

    def usable_at(self, now: float) -> int:
        """Return with how many permits a request may be started now."""
        return self.usable if now < self.until else 0


class Borrower:
    """
    The borrowing side of a lane.

    Attributes:
        due_at: When the next message is due, while ``is_active``.

    """

    def __init__(self, lane: str, name: str) -> None:
        self._lane = lane
        self._name = name
        self._number = 0
        self._asked_at = float("-inf")
        self._wanted = 0
        self._loans: dict[str, BorrowedPermits] = {}
        self.due_at = float("-inf")

    @property
    def is_active(self) -> bool:
        """Whether it has something to ask for, or to give back."""
        return self._wanted > 0 or bool(self._loans)

    def need(self, permits: int) -> None:
        """Note that ``permits`` more permits could have been used just now."""
        self._wanted = max(self._wanted, permits)

    def usable(self, now: float) -> int:
        """Return with how many borrowed permits requests may be started, the permits in use included."""
        if not self._loans:
            return 0
        return sum(loan.usable_at(now) for loan in self._loans.values())

    def lease_ends(self, now: float) -> float:
        """Return when the first of the running leases ends."""
        return min((loan.until for loan in self._loans.values() if now < loan.until), default=now)

    def granted(self, grant: LoanGrant, now: float) -> bool:
        """Take the permits that were granted for the latest request. Return whether the grant still counts."""
        until = self._asked_at + LEASE
        if grant.borrower != self._name or grant.number != self._number or now >= until:
            return False
        if grant.lender not in self._loans and len(self._loans) >= BORROWERS:
            return False  # a request names all lenders, and must stay one that is read
        loan = self._loans.setdefault(grant.lender, BorrowedPermits(0, 0, until))
        loan.usable, loan.until = grant.permits, until
        loan.keeps = max(loan.keeps, grant.permits)
        self.due_at = self._asked_at + RENEW
        return True

    def message(self, now: float, in_use: int) -> LoanRequest | LoanReturn | None:
        """
        Return the message that is to be published now; None if none is. ``in_use``: how many requests own permits do not cover.

        It must be published after this call, however late: the lease runs from ``now``.
        """
        if not self.is_active or now < self.due_at:
            return None
        wanted, self._wanted = self._wanted, 0
        self._lower(now, in_use, is_hungry=wanted > 0)
        self._number += 1
        if not wanted and not self._loans:
            self._asked_at, self.due_at = float("-inf"), now + RENEW
            return LoanReturn(self._lane, self._name, self._number)
        self._asked_at, self.due_at = now, now + PATIENCE
        keeps = {lender: loan.keeps for lender, loan in self._loans.items()}
        return LoanRequest(self._lane, self._name, self._number, wanted, keeps)

    def _lower(self, now: float, in_use: int, *, is_hungry: bool) -> None:
        """
        Keep the permits in use, and while more are wanted all that may be used.

        Of two loans of 4, with 5 requests that own permits do not cover and no more wanted, the first covers 4 and the second 1: its
        other 3 are given back. If the lease of the first is over, no request may be started with it, so the second covers 4; the fifth is
        an earlier request of the first, which keeps 1 until that is answered, and gives 3 back.
        """
        uncovered = in_use
        for loan in self._loans.values():
            usable = loan.usable_at(now)
            loan.usable = usable if is_hungry else min(usable, max(0, uncovered))
            uncovered -= loan.usable
        for loan in self._loans.values():
            overdue = min(loan.keeps - loan.usable, max(0, uncovered))
            loan.keeps = loan.usable + overdue
            uncovered -= overdue
        self._loans = {lender: loan for lender, loan in self._loans.items() if loan.keeps}

    def __repr__(self) -> str:
        return f"<Borrower {self._name} of {self._lane}, {sum(loan.keeps for loan in self._loans.values())} kept>"


@dataclass(slots=True, eq=False)
class LentPermits:
    """
    The permits that are set aside for one borrower.

    Attributes:
        number: The highest number of its messages.
        permits: How many permits are set aside.
        until: When the lender uses them again, whatever is heard.
        asked_at: When the borrower last asked for permits.
        demand: How many it would take in all.

    """

    number: int
    permits: int
    until: float
    asked_at: float
    demand: int


class Lender:
    """
    The lending side of a lane.

    Attributes:
        back_at: When the next loan comes back by itself.

    """

    def __init__(self, lane: str, name: str) -> None:
        self._lane = lane
        self._name = name
        self._debts: dict[str, LentPermits] = {}
        self._total = 0
        self.back_at = NEVER

    def lent(self, now: float) -> int:
        """Return how many permits are set aside for others."""
        if now >= self.back_at:
            self._count(now)
        return self._total

    def requested(self, request: LoanRequest, now: float, idle: int) -> LoanGrant | None:
        """
        Set aside the permits that the borrower keeps, and more if there are more to lend. Return the grant, or None.

        ``idle``: how many own permits nobody here uses or waits for, the lent ones included; at 0 or less no permits are granted.

        Of 10 idle permits 4 are set aside for this borrower, which keeps 3 and wants 5 more. No other asks, so its whole demand of 8 is
        set aside and granted. If another borrower had asked for 8, too, each could have 5.
        """
        debt = self._debts.get(request.borrower)
        if not self._is_news(debt, request.number) or request.borrower == self._name:
            return None
        self._count(now)
        before = 0 if debt is None or now >= debt.until else debt.permits
        spare = max(0, idle - self._total + before)
        claimed = request.keeps.get(self._name, 0)
        # Permits that came back here by themselves while a request hung there are set aside again, as far as they are idle.
        kept = min(claimed, max(before, spare))
        debt = LentPermits(request.number, kept, now + HOLD, now, claimed + request.wanted)
        self._debts[request.borrower] = debt
        permits = min(spare, self._fair(idle, debt, now))
        debt.permits = max(kept, permits)
        self._count(now)
        return (
            LoanGrant(self._lane, self._name, request.borrower, request.number, permits) if permits else None
        )

    def returned(self, message: LoanReturn, now: float) -> None:
        """Use the permits that the borrower has given back again."""
        debt = self._debts.get(message.borrower)
        if debt is not None and self._is_news(debt, message.number):
            debt.number, debt.permits, debt.demand = message.number, 0, 0
            self._count(now)

    def _is_news(self, debt: LentPermits | None, number: int) -> bool:
        return len(self._debts) < BORROWERS if debt is None else number > debt.number

    def _fair(self, idle: int, debt: LentPermits, now: float) -> int:
        """Return how many idle permits this borrower may have: each gets its demand, or as many as the others."""
        left = max(0, idle)
        asking = sorted(
            (asker for asker in self._debts.values() if now - asker.asked_at < LEASE),
            key=lambda asker: asker.demand,
        )
        shares = []
        for place, asker in enumerate(asking):
            shares.append(min(asker.demand, left // (len(asking) - place)))
            left -= shares[-1]
        return shares[asking.index(debt)]

    def _count(self, now: float) -> None:
        """Forget the loans that have come back by themselves, and add up the others."""
        self._debts = {name: debt for name, debt in self._debts.items() if now < debt.until}
        self._total = sum(debt.permits for debt in self._debts.values())
        self.back_at = min((debt.until for debt in self._debts.values()), default=NEVER)

    def __repr__(self) -> str:
        return f"<Lender {self._name} of {self._lane}, {self._total} lent>"
