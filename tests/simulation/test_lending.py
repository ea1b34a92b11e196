# Lending under every fault that it may meet: several replicas, each with a clock of its own, share the quota of one endpoint
# through messages that come late, not at all, twice or in another order, while replicas stop, freeze and die and partitions
# move. The server counts what arrives; nothing of the replicas is asked.
#
# The permits and both sides of lending are the real ones. Whole histories of the engine are in test_histories.py.

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest

from tests.simulation.loop import START, VirtualClock
from worker.domain.calls.rate_limiter import RateLimiter, quota_slice
from worker.domain.calls.replica_lending import LoanGrant, LoanRequest, LoanReturn, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.loop import Event
    from worker.domain.calls.rate_limiter import Permit
    from worker.domain.calls.replica_lending import Message

QUOTA: Final = 60
PARTITIONS: Final = 6
SESSION: Final = 6.0
MARGIN: Final = 1.0
COOLING_OFF: Final = 3.0
"""How long a slice rests after its partition was assigned, unless its last owner has said when it is free."""
TIMEOUT: Final = 10.0
SLOWEST: Final = 0.99
"""A request of a process that dies, or lost its messages, reaches the server within a second."""


@dataclass(frozen=True, slots=True)
class Faults:
    """
    What goes wrong.

    Attributes:
        lost, doubled: The share of messages.
        message_delay: The longest delay of one, except for one in twenty, which takes ten times as long.
        slow: The share of requests that take up to ``slowest`` seconds to the server.
        unanswered: The share of requests whose answer never comes.
        connection: The longest wait for a connection, with a permit in hand.
        kills, freezes, stops, moves: How often, in the time of a history.
        stalls: How often a replica gets no connection for some seconds; then all that waits for one leaves at once.

    """

    lost: float = 0.0
    doubled: float = 0.0
    message_delay: float = 0.02
    slow: float = 0.0
    slowest: float = SLOWEST
    unanswered: float = 0.0
    connection: float = 0.2
    kills: int = 0
    freezes: int = 0
    stops: int = 0
    moves: int = 0
    stalls: int = 0


class Replica:
    """One process: permits, calls that wait for them, and a membership that it proves to the group."""

    def __init__(self, world: World, name: str) -> None:
        chance = world.clock.chance
        self.world, self.name = world, name
        self.limiter = RateLimiter(1.0, window_from_send=False, lane="lane", name=name)
        self.alive = True
        self.stopping = False
        self.waiting = 0
        self.fence = float("-inf")
        self.frozen_until = 0.0
        self.mute_until = 0.0
        self.stalled_until = 0.0
        self.mine: set[int] = set()
        self.active: set[int] = set()
        self.taken = 0
        self.epochs: dict[int, int] = {}
        self._offset = chance.uniform(-1e6, 1e6)
        self._rate = 1.0 + chance.uniform(-1e-4, 1e-4)
        self._wake: Event | None = None
        self.heartbeat()

    @property
    def now(self) -> float:
        """Its own monotonic clock, which agrees with nobody's."""
        return self._offset + self.world.clock.now * self._rate

    def after(self, delay: float, what: Callable[[], None]) -> Event:
        """Lets it happen here, once the delay is over and the process runs."""

        def happen() -> None:
            if not self.alive:
                return
            if self.world.clock.now < self.frozen_until:  # what piled up meanwhile happens in its order
                self.world.clock.at(self.frozen_until, happen)
            else:
                what()

        return self.world.clock.after(delay, happen)

    def heartbeat(self) -> None:
        """Proves its membership, if the group still knows it; else all it had is lost."""
        sent_at = self.now
        mine = set(self.mine)

        def heard(*, is_known: bool) -> None:
            if is_known:
                self.fence = max(self.fence, sent_at + SESSION - MARGIN)
            else:
                self.fence = float("-inf")
                self.lose(mine)

        is_known = self.world.prove(self)
        self.after(self.world.clock.chance.uniform(0.0, 0.3), lambda: heard(is_known=is_known))
        self.after(0.5, self.heartbeat)

    def lose(self, numbers: set[int]) -> None:
        """Uses the slices of these partitions no longer."""
        self.mine -= numbers
        self.active -= numbers
        self.limiter.set_share(self.world.share(self.active))

    def take(self, number: int, rest: float) -> None:
        """Uses the slice of a partition that was just assigned, after a rest."""
        self.mine.add(number)
        self.taken += 1
        epoch = self.epochs[number] = self.taken

        def begin() -> None:
            if number in self.mine and self.world.owner[number] is self and self.epochs[number] == epoch:
                self.active.add(number)
                self.limiter.set_share(self.world.share(self.active))
                self.pump()

        self.after(rest * 1.0002, begin)

    def command(self, calls: int) -> None:
        """This many more calls wait for a permit."""
        self.waiting += calls
        self.pump()

    def hear(self, payload: bytes) -> None:
        """Takes a message of the quota topic."""
        message = decode(payload)
        if isinstance(message, LoanRequest) and message.borrower != self.name:
            may_lend = self.now < self.fence and not self.stopping
            grant = self.limiter.lend(message, self.now, waiting=self.waiting, may_lend=may_lend)
            if grant is not None:
                self.world.publish(grant)
        elif isinstance(message, LoanReturn):
            self.limiter.lender.returned(message, self.now)
        elif isinstance(message, LoanGrant):
            self.limiter.borrower.granted(message, self.now)
        self.pump()

    def pump(self) -> None:
        """Sends what may be sent, and asks for more permits if some calls must wait."""
        now, limiter = self.now, self.limiter
        while self.waiting and self.active and limiter.free(now) > 0:
            self.waiting -= 1
            permit = limiter.acquire(now)
            delay = self.world.clock.chance.choice((0.0, 0.0, 0.001, 0.4, 1.0)) * self.world.faults.connection
            delay = max(delay, self.stalled_until - self.world.clock.now)
            self.after(delay, lambda permit=permit: self._write(permit))  # type: ignore[misc]
        if self.waiting and self.active:
            limiter.hungry(min(self.waiting, QUOTA))
        message = limiter.lending_message(now)
        if message is not None:
            self.world.publish(message)
        wake = [limiter.lender.back_at, limiter.next_return() or float("inf")]
        wake += [limiter.borrower.due_at] * limiter.borrower.is_active
        if self._wake is not None:
            self._wake.cancel()
        if min(wake) < float("inf"):
            self._wake = self.after(max(0.001, min(wake) - now), self.pump)

    def _write(self, permit: Permit) -> None:
        now = self.now
        if now >= self.fence or not self.limiter.is_good(permit, now):
            self.limiter.release()
            self.waiting += 1
            return
        self.world.send(self)

    def answered(self) -> None:
        """The answer to one request is here, or will not come."""
        self.limiter.request_ended(self.now, accepted=True)
        self.pump()


class World:
    """The group, the quota topic and the server."""

    def __init__(self, seed: int, replicas: int, faults: Faults) -> None:
        self.clock = VirtualClock(seed)
        self.faults = faults
        self.arrivals: list[float] = []
        self.owner: dict[int, Replica | None] = dict.fromkeys(range(PARTITIONS))
        self.replicas: list[Replica] = []
        self._proven: dict[Replica, float] = {}
        self._names = 0
        for _ in range(replicas):
            self.join()
        for number in range(PARTITIONS):
            self.assign(number, self.replicas[number % replicas], COOLING_OFF)
        self._watch()

    def join(self) -> Replica:
        """A process starts."""
        self._names += 1
        replica = Replica(self, f"r{self._names}")
        self.replicas.append(replica)
        return replica

    def share(self, numbers: set[int]) -> int:
        """The slices of these partitions."""
        return sum(quota_slice(QUOTA, number, PARTITIONS) for number in numbers)

    def assign(self, number: int, replica: Replica, rest: float) -> None:
        """The group gives a partition to a replica."""
        self.owner[number] = replica
        replica.take(number, rest)

    def prove(self, replica: Replica) -> bool:
        """A heartbeat. Returns whether the group knows the member."""
        if replica in self._proven and self._proven[replica] < 0:
            self._proven[replica] = self.clock.now
            return False
        self._proven[replica] = self.clock.now
        return True

    def _watch(self) -> None:
        """Members that are not heard of lose their partitions, and others get them at once."""
        for replica, proven in self._proven.items():
            if 0 <= proven < self.clock.now - SESSION:
                self._proven[replica] = -1.0
                for number, owner in self.owner.items():
                    if owner is replica:
                        self.owner[number] = None
        living = self.running()
        for number, owner in self.owner.items():
            if owner is None and living:
                self.assign(number, self.clock.chance.choice(living), COOLING_OFF)
        self.clock.after(0.05, self._watch)

    def running(self) -> list[Replica]:
        """The members that the group takes for alive."""
        return [
            each for each in self.replicas if each.alive and not each.stopping and self._proven[each] >= 0
        ]

    # What is sent

    def publish(self, message: Message) -> None:
        """Brings a message to every replica, unless it is lost, and perhaps twice."""
        chance, faults, payload = self.clock.chance, self.faults, encode(message)
        sender = message.lender if isinstance(message, LoanGrant) else message.borrower
        if any(each.name == sender and self.clock.now < each.mute_until for each in self.replicas):
            return
        for replica in self.replicas:
            if chance.random() >= faults.lost:
                for _ in range(1 + (chance.random() < faults.doubled)):
                    delay = self.clock.jitter(0.001, faults.message_delay)
                    replica.after(delay, lambda replica=replica: replica.hear(payload))  # type: ignore[misc]

    def send(self, replica: Replica) -> None:
        """Brings one request to the server, and its answer back."""
        chance, faults = self.clock.chance, self.faults
        there = chance.uniform(0.001, 0.02)
        if chance.random() < faults.slow:
            there = chance.uniform(0.0, faults.slowest)
        self.clock.after(there, lambda: self.arrivals.append(self.clock.now))
        back = there + chance.uniform(0.002, 0.02)
        replica.after(TIMEOUT if chance.random() < faults.unanswered else back, replica.answered)

    # What happens to replicas

    def kill(self, *, is_static: bool) -> None:
        """kill -9. A static member is back at once, another when the group has noticed."""
        if not (running := self.running()):
            return
        dead = max(running, key=lambda each: each.limiter.used(each.now) + self.clock.chance.randint(0, 20))
        dead.alive = False
        heir = self.join()
        if is_static:
            self._proven[dead] = float("inf")
            for number, owner in self.owner.items():
                if owner is dead:
                    self.assign(number, heir, COOLING_OFF)

    def freeze(self) -> None:
        """A process stops for a while, perhaps for longer than the group waits."""
        if running := self.running():
            chance = self.clock.chance
            chance.choice(running).frozen_until = self.clock.now + chance.choice((0.3, 1.2, 3.5, 9.0))

    def stall(self) -> None:
        """A process gets no connection for a while, and one of its partitions moves meanwhile."""
        if running := [each for each in self.running() if len(each.active) > 1]:
            chance = self.clock.chance
            stalled = chance.choice(running)
            stalled.stalled_until = self.clock.now + chance.uniform(3.0, 6.0)
            number = chance.choice(sorted(stalled.active))
            self.clock.after(chance.uniform(0.1, 1.0), lambda: self._hand_over(number, stalled))

    def stop(self) -> None:
        """A process hands everything over and ends; another takes its place."""
        if len(running := self.running()) > 1:
            old = self.clock.chance.choice(running)
            old.stopping = True
            self.join()
            for number in sorted(old.mine):
                self._hand_over(number, old)

    def move(self) -> None:
        """The group moves one partition."""
        numbers = [number for number, owner in self.owner.items() if owner in self.running()]
        if numbers:
            number = self.clock.chance.choice(numbers)
            old = self.owner[number]
            assert old is not None
            self._hand_over(number, old)

    def _hand_over(self, number: int, old: Replica) -> None:
        """
        The old owner stops using the slice. Where it was used, and nothing that was sent or lent needs it any more, the handover is
        clean.
        """

        def leave(tries: int, *, was_active: bool) -> None:
            if number not in old.mine or self.owner[number] is not old:
                return
            old.active.discard(number)
            old.limiter.set_share(self.share(old.active))
            now = old.now
            clean = was_active and old.limiter.permits_cover_in_flight(now) and now < old.fence
            if not clean and tries and self.clock.chance.random() < 0.9:
                old.after(0.1, lambda: leave(tries - 1, was_active=was_active))
                return
            rest = old.limiter.seconds_until_covered(now) if clean else COOLING_OFF
            old.lose({number})
            heirs = [each for each in self.running() if each is not old] or self.running()
            if heirs:
                self.assign(number, self.clock.chance.choice(heirs), rest)
            else:
                self.owner[number] = None

        old.after(0.0, lambda: leave(20, was_active=number in old.active))

    def play(self, seconds: float, work: Callable[[World], None]) -> None:
        """Lets it all happen."""
        chance, faults = self.clock.chance, self.faults

        def whenever(count: int, what: Callable[[], None]) -> None:
            for _ in range(count):
                self.clock.at(START + chance.uniform(3.0, seconds), what)

        whenever(faults.kills, lambda: self.kill(is_static=chance.random() < 0.6))
        whenever(faults.freezes, self.freeze)
        whenever(faults.stops, self.stop)
        whenever(faults.moves, self.move)
        whenever(faults.stalls, self.stall)
        work(self)
        self.clock.run(START + seconds)

    def most_in_a_second(self) -> int:
        """The most requests that arrived in any rolling second."""
        arrivals, first, most = sorted(self.arrivals), 0, 0
        for last, at in enumerate(arrivals):
            while arrivals[first] <= at - 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most


def changing_work(world: World) -> None:
    """Now this replica has more to do than it can, now those, now all: whoever has lent wants it back at once."""
    hot: set[str] = set()

    def turn() -> None:
        chance = world.clock.chance
        share = chance.choice((0.0, 0.3, 0.3, 1.0))
        hot.clear()
        hot.update(each.name for each in world.replicas if chance.random() < share)
        world.clock.after(chance.choice((0.3, 1.0, 2.0, 3.0, 4.0)), turn)

    def more() -> None:
        for replica in world.running():
            replica.waiting = 10_000 if replica.name in hot else 0
            replica.after(0.0, replica.pump)
        world.clock.after(0.05, more)

    turn()
    more()


def hot_work(world: World, others_from: float = float("inf")) -> None:
    """One replica has more to do than it can, the others nothing, or only from then on."""

    def more() -> None:
        owner = world.owner[0]
        for replica in world.replicas:
            is_hot = replica is owner or world.clock.now >= START + others_from
            replica.waiting = 10_000 if is_hot else 0
            replica.after(0.0, replica.pump)
        world.clock.after(0.1, more)

    more()


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(lost=0.2, doubled=0.2, message_delay=0.1, slow=0.1), id="messages"),
        pytest.param(Faults(lost=0.05, doubled=0.1, slow=0.2, kills=6, freezes=4), id="deaths"),
        pytest.param(Faults(lost=0.05, doubled=0.1, slow=0.2, stops=4, moves=10), id="moves"),
        pytest.param(
            Faults(0.2, 0.2, 0.2, 0.3, unanswered=0.02, connection=0.8, kills=4, freezes=6, stops=2, moves=8),
            id="everything",
        ),
        pytest.param(Faults(doubled=0.1, slow=0.05, slowest=8.0), id="network"),
        pytest.param(Faults(slow=0.1, moves=4, stalls=4), id="connections"),
    ],
)
def test_no_rolling_second_at_the_server_holds_more_than_the_quota(seed: int, faults: Faults) -> None:
    """P5 over all replicas, whatever happens to messages and processes. A request may hang for as long as it likes while messages arrive."""
    world = World(seed, replicas=2 + seed % 4, faults=faults)

    world.play(30.0, hot_work if seed % 3 == 0 else changing_work)

    assert world.most_in_a_second() <= QUOTA
    assert len(world.arrivals) > QUOTA // 2


@pytest.mark.parametrize("replicas", [2, 3, 6])
def test_one_hot_replica_gets_nine_tenths_of_the_quota_while_the_others_are_idle(replicas: int) -> None:
    """A raid is one hot room, and so one partition: without lending its owner has a share of the quota."""
    world = World(1, replicas, Faults(connection=0.0))

    world.play(30.0, hot_work)

    used = [at for at in world.arrivals if at >= START + 8.0]
    assert len(used) >= 0.9 * QUOTA * 22.0
    assert max(later - earlier for earlier, later in pairwise(used)) < 1.0


@pytest.mark.parametrize("seed", range(8))
def test_what_a_borrower_that_is_not_heard_may_still_use_is_used_by_nobody_else(seed: int) -> None:
    """It starts requests until its lease ends, they may need a second to the server and count there for another: its lender, who
    wants its permits back at once, hears nothing and waits for all three."""
    world = World(seed, 2 + seed % 3, Faults(slow=0.5, connection=0.0))

    def mute() -> None:
        borrower = world.owner[0]
        assert borrower is not None
        assert borrower.limiter.borrower.usable(borrower.now) > 0
        borrower.mute_until = world.clock.now + 6.0

    world.clock.at(START + 10.0 + 0.03 * seed, mute)
    world.play(16.0, lambda world: hot_work(world, others_from=10.0 + 0.03 * seed))

    assert world.most_in_a_second() <= QUOTA
    assert sum(at >= START + 14.0 for at in world.arrivals) >= 0.7 * QUOTA * 2.0


@pytest.mark.parametrize("seed", range(8))
def test_who_wakes_after_its_session_lends_nothing_of_what_is_anothers_by_now(seed: int) -> None:
    """Requests reach it before the group's answer does: as far as it knows, it has idle permits."""
    world = World(seed, 3 + seed % 3, Faults(connection=0.0))
    frozen = world.owner[PARTITIONS - 1]
    assert frozen is not None

    def freeze() -> None:
        frozen.frozen_until = world.clock.now + SESSION + COOLING_OFF + 2.0

    def work(world: World) -> None:
        for replica in world.replicas:
            replica.waiting = 0 if replica is frozen else 10_000
            replica.after(0.0, replica.pump)
        world.clock.after(0.1, lambda: work(world))

    world.clock.at(START + 5.0, freeze)
    world.play(20.0, work)

    assert world.most_in_a_second() <= QUOTA
    assert sum(at >= START + 16.0 for at in world.arrivals) >= 0.9 * QUOTA * 4.0


@pytest.mark.parametrize("seed", range(8))
def test_a_slice_that_goes_while_it_is_lent_is_used_by_nobody_twice(seed: int) -> None:
    """Its owner has nothing of its own out, so it could go at once; but what it has lent is still in use, and an heir wants it."""
    world = World(seed, 3, Faults(slow=0.3, connection=0.0))
    borrower, heir, lender = world.replicas
    goes_at = START + 8.0 + 0.1 * seed

    def hand_over() -> None:
        assert lender.limiter.lender.lent(lender.now) > 0
        for number in sorted(lender.mine):
            world._hand_over(number, lender)

    def work(world: World) -> None:
        borrower.waiting = 10_000
        heir.waiting = 10_000 if world.clock.now >= goes_at else 0
        for replica in world.replicas:
            replica.after(0.0, replica.pump)
        world.clock.after(0.02, lambda: work(world))

    world.clock.at(goes_at, hand_over)
    world.play(16.0, work)

    assert world.most_in_a_second() <= QUOTA
    assert not lender.mine


def test_what_was_lent_is_back_soon_after_the_lender_needs_it() -> None:
    """A lender with work of its own has its slice again within three seconds, though the borrower would keep what it has."""
    world = World(2, 2, Faults(connection=0.0))

    world.play(13.0, lambda world: hot_work(world, others_from=10.0))

    assert [each.limiter.own(each.now) for each in world.replicas] == [QUOTA // 2, QUOTA // 2]
    assert world.most_in_a_second() == QUOTA


def test_two_that_borrow_from_one_share_what_it_has() -> None:
    """Whoever asks first must not keep everything."""
    world = World(3, 3, Faults(connection=0.0))

    def work(world: World) -> None:
        for replica in world.replicas[:2]:
            replica.waiting = 10_000
            replica.pump()
        world.clock.after(0.1, lambda: work(world))

    world.play(14.0, work)

    borrowed = [each.limiter.borrower.usable(each.now) for each in world.replicas[:2]]
    assert abs(borrowed[0] - borrowed[1]) <= 1
    assert sum(borrowed) >= QUOTA // 3 - 2
