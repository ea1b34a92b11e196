# The engine, played by an adversary who chooses the order of all events: answers that come late or not at all, aborts,
# revocations in mid-flight, crashes, and time that passes when it hurts most.
#
# The world around it is that of the simulation, but nothing happens there by itself. What must hold is judged at the end by
# the simulation's oracles, and after each step where a promise can be seen at once.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation.history import History, Plan
from tests.simulation.oracles import Verdicts
from tests.simulation.tencent import Weather
from worker.domain.contract.error_codes import Verdict, judge
from worker.domain.effects import (
    AllowAttempt,
    AttemptResult,
    CancelWaitingCall,
    LogEvent,
    PausePartition,
    ResumePartition,
    RetryCall,
    StartCall,
)
from worker.domain.engine import Engine

if TYPE_CHECKING:
    from tests.simulation.tencent import Request
    from worker.domain.effects import Attempt, Effect, Transaction

QUOTA: Final = 6
MAX_GAP: Final = 12
USERS: Final = ("u0", "u1", "u2", "bad")
TARGETS: Final = ("a", "b", "c")
LATE: Final = 2.9

CODES: Final[dict[str, tuple[int | None, int | None, str | None]]] = {
    "done": (200, 0, None),
    "transient": (200, 10002, None),
    "throttled": (200, 60007, None),
    "resign": (200, 70001, None),
    "locked": (200, 70050, None),
    "fatal": (200, 70009, None),
    "forbidden": (200, 10007, None),
    "bad gateway": (502, None, "http"),
    "refused connection": (None, None, "connect"),
}
"""How a request may end, at the adversary's choice: HTTP status, code, error."""


class Player:
    """One process: an engine and what it has asked for."""

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self.mark = ""
        self.born = history.clock.now
        self.history = history
        self.engine = Engine(history.settings(name), history.clock.now, history.clock.wall, name)
        self.alive = True
        self.stopped = False
        self.positions: dict[int, int] = {}
        self.paused: set[int] = set()
        self.out: list[tuple[Attempt, Request]] = []
        self.backing_off: list[str] = []
        self.transaction: tuple[Transaction, dict[int, int]] | None = None

    def fetch_soon(self) -> None:
        """Nothing happens by itself here."""

    def settle(self, effects: list[Effect]) -> None:
        """Carries out what the engine asks for."""
        for effect in effects:
            match effect:
                case StartCall(send) | AllowAttempt(send):
                    request = self.history.tencent._request(send, self.name)
                    self.history.tencent.requests.append(request)
                    self.history.tencent.reads[send.endpoint].append(self.history.clock.now)
                    self.out.append((send, request))
                case RetryCall(call_id):
                    self.backing_off.append(call_id)
                case CancelWaitingCall(call_id):
                    assert call_id not in [send.call_id for send, _ in self.out], "what is on its way stays"
                    if call_id in self.backing_off:
                        self.backing_off.remove(call_id)
                case PausePartition(number):
                    self.paused.add(number)
                case ResumePartition(number):
                    self.paused.discard(number)
                case LogEvent():
                    pass


class Adversary(RuleBasedStateMachine):
    """One process at a time has both partitions, or one of them, or none."""

    @initialize(
        reasons=st.booleans(), supersede=st.booleans(), gap=st.sampled_from((1, 3, MAX_GAP)), metadata=st.sampled_from((4, 68, 4096))
    )  # fmt: skip
    def begin(self, *, reasons: bool, supersede: bool, gap: int, metadata: int) -> None:
        weather = Weather(bad_users=frozenset({"bad"}), own_fault=frozenset(TARGETS))
        plan = Plan(
            0, partitions=2, quota=QUOTA, max_gap=gap, metadata_bytes=metadata, weather=weather, reasons_matter=reasons,
            supersede=supersede, max_attempts=1000, give_up_after=None,
        )  # fmt: skip
        self.history = History(plan)
        self.names = 0
        self.late: list[tuple[float, Request]] = []
        self.orphans: set[int] = set()
        self.player = self.join()

    # What the world may do

    @rule(
        kind=st.integers(0, 4),
        room=st.sampled_from(TARGETS),
        users=st.lists(st.sampled_from(USERS), min_size=1, max_size=4, unique=True),
        variant=st.integers(0, 1),
    )
    def command(self, kind: int, room: str, users: list[str], variant: int) -> None:
        fields: dict[str, Any] = {"command_id": f"c{len(self.history.commanded)}", "user_ids": users}
        fields |= (
            {"action": "group.ban_group_member", "group_id": room, "duration": (600, 1200)[variant]},
            {"action": "group.unban_group_member", "group_id": room},
            {"action": "live.unban_member", "room_id": room},
            {"action": "room.kick_user_out", "room_id": room, "reason": ("spam", "abuse")[variant]},
            {"action": "room.update_room_member_info", "room_id": room, "member_info": {"name_card": f"n{variant}"}},
        )[kind]  # fmt: skip
        self.history.command(fields)
        self.receive(2)

    @precondition(lambda self: self.history.commanded)
    @rule(back=st.integers(0, 5))
    def repeat(self, back: int) -> None:
        """A detector sends one of the last commands again."""
        fields = self.history.commanded[-1 - min(back, len(self.history.commanded) - 1)].fields
        assert fields is not None
        self.history.command(fields)
        self.receive(2)

    @rule(most=st.integers(1, 10))
    def receive(self, most: int) -> None:
        records = []
        for number, position in self.player.positions.items():
            if number not in self.player.paused:
                new = [
                    each for each in self.history.kafka.partitions[number].records if each.offset >= position
                ]
                records += new[:most]
        for record in records:
            self.player.positions[record.partition] = record.offset + 1
        self.settle(self.player.engine.received(records, self.now))

    @precondition(lambda self: self.player.out)
    @rule(place=st.integers(0, 50), how=st.sampled_from(["done", "done", "judged", *CODES]))
    def answer(self, place: int, how: str) -> None:
        """Any request that is out gets any answer. What Tencent says of bad members stays true."""
        send, request = self.player.out.pop(place % len(self.player.out))
        if how in ("done", "judged") and "bad" in request.users:
            self.end_attempt(send, request, judge(200, 10019), 200, 10019)
            return
        status, code, error = CODES.get(how, CODES["done"])
        if code == 0 and request.number not in self.orphans:
            self.history.tencent._apply(request, request.users)
        self.end_attempt(send, request, judge(status, code), status, code, error)

    @precondition(lambda self: self.player.out)
    @rule(place=st.integers(0, 50), late=st.floats(0.0, LATE), applied=st.booleans())
    def lose(self, place: int, late: float, *, applied: bool) -> None:
        """A request ends without an answer, and takes effect later, or never."""
        send, request = self.player.out.pop(place % len(self.player.out))
        if applied and "bad" not in request.users and request.number not in self.orphans:
            self.late.append((self.now + late, request))
        self.end_attempt(send, request, Verdict.TRANSPORT, error="timeout", end_unknown=True)

    @precondition(lambda self: self.player.out)
    @rule(place=st.integers(0, 50))
    def fence(self, place: int) -> None:
        """A request does not leave the process after all."""
        send, request = self.player.out.pop(place % len(self.player.out))
        self.history.tencent.reads[send.endpoint].remove(request.sent_at)
        self.end_attempt(send, request, Verdict.UNSENT, error="fenced")

    @precondition(lambda self: self.player.backing_off)
    @rule(place=st.integers(0, 50))
    def ask(self, place: int) -> None:
        """The backoff of some call is over."""
        call_id = self.player.backing_off.pop(place % len(self.player.backing_off))
        self.settle(self.player.engine.permit_requested(call_id, self.now))

    @rule(seconds=st.sampled_from((0.0, 0.01, 0.3, 1.0, 3.0, 31.0)))
    def wait(self, seconds: float) -> None:
        """Time passes: in small steps, as the loop promises to tick."""
        until = self.now + seconds
        while True:
            at = min(until, max(self.now, self.player.engine.wake_at))
            for due, request in sorted(self.late, key=lambda each: each[0]):
                if due <= at:
                    self.history.clock.now = max(self.now, due)
                    self.history.tencent._apply(request, request.users)
            self.late = [each for each in self.late if each[0] > at]
            self.history.clock.now = at
            self.settle(self.player.engine.tick(self.now, self.history.clock.wall))
            if at >= until:
                return
            self.history.clock.now += 0.001

    @precondition(lambda self: self.player.transaction is None)
    @rule()
    def publish(self) -> None:
        """A transaction begins."""
        transaction = self.player.engine.take_transaction(self.now)
        if transaction is not None:
            self.player.transaction = (transaction, self.history.kafka.claim(transaction))

    @precondition(lambda self: self.player.transaction is not None)
    @rule(commits=st.booleans())
    def commit(self, *, commits: bool) -> None:
        """It is committed if the broker agrees, or aborted."""
        assert self.player.transaction is not None
        transaction, claim = self.player.transaction
        self.player.transaction = None
        kafka, engine = self.history.kafka, self.player.engine
        refused = kafka.refuses_metadata(transaction)
        if refused is not None:
            self.settle(engine.metadata_refused(refused, self.now))
        elif commits and kafka.owns(self.player, claim):
            kafka.commit(self.player, transaction)
            self.settle(engine.published(self.now))
        else:
            self.settle(engine.aborted(self.now))

    @precondition(lambda self: self.player.positions)
    @rule()
    def begin_handover(self) -> None:
        """Some partition is about to go."""
        self.settle(self.player.engine.revoking([min(self.player.positions)], self.now))

    @precondition(lambda self: self.player.positions)
    @rule()
    def revoke(self) -> None:
        """A partition goes, whatever is in flight, and comes back at once."""
        number = min(self.player.positions)
        self.history.kafka.partitions[number].owner = None
        del self.player.positions[number]
        self.orphan(number)
        self.settle(self.player.engine.revoked([number], self.now))
        self.assign(self.player, number)

    @rule(committed=st.booleans())
    def crash(self, *, committed: bool) -> None:
        """kill -9, with a transaction open or just committed; another process takes over at once."""
        old = self.player
        if (
            old.transaction is not None
            and committed
            and self.history.kafka.refuses_metadata(old.transaction[0]) is None
        ):
            transaction, claim = old.transaction
            if self.history.kafka.owns(old, claim):
                self.history.kafka.commit(old, transaction)
        old.alive = False
        for partition in self.history.kafka.partitions:
            partition.owner = None
        self.orphan(0, 1)
        self.player = self.join()

    # What must hold at every moment

    @invariant()
    def the_quota_holds(self) -> None:
        """P5."""
        for endpoint, reads in self.history.tencent.reads.items():
            recent = [each for each in reads if each > self.now - 1.0]
            assert len(recent) <= QUOTA, endpoint

    @invariant()
    def what_is_open_is_bounded(self) -> None:
        """P10."""
        for partition in self.player.engine._partitions.values():
            offsets = [work.offset for work in partition.open_records.values()]
            if offsets:
                assert max(offsets) - min(offsets) < self.history.plan.max_gap

    @invariant()
    def nothing_is_published_twice(self) -> None:
        """P2."""
        for partition in self.history.kafka.partitions:
            ids = [each.outcome_id for each in partition.outcomes]
            assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        """The adversary rests: everything comes to its end, and all promises are judged."""
        if not hasattr(self, "player"):
            return
        for _ in range(3000):
            while self.player.out:
                self.answer(0, "done")
            while self.player.backing_off:
                self.ask(0)
            self.receive(10)
            if self.player.transaction is None:
                self.publish()
            if self.player.transaction is not None:
                self.commit(commits=True)
            elif self.history._all_published() and not self.player.out:
                break
            elif not self.player.out:
                self.wait(1.0)
                self.refresh()
        self.wait(10.0)
        complaints = Verdicts(self.history).judge()
        assert not complaints, complaints[:5]

    # Inside

    @property
    def now(self) -> float:
        """The time."""
        return self.history.clock.now

    def settle(self, effects: list[Effect]) -> None:
        """Carries out what the engine asks for."""
        self.player.settle(effects)

    def join(self) -> Player:
        """A process starts and gets all partitions."""
        self.names += 1
        player = Player(f"w{self.names}", self.history)
        self.history.replicas = [player]  # type: ignore[list-item]
        for number in range(2):
            self.assign(player, number)
        return player

    def assign(self, player: Player, number: int) -> None:
        """The partition becomes the process's."""
        self.history.kafka.assign(number, player)
        restored = self.history.kafka.restore(number, restore_records=5000, window=3600.0)
        player.positions[number] = restored.position
        player.paused.discard(number)
        player.settle(player.engine.assigned(number, restored, self.now))

    def refresh(self) -> None:
        """Ends handovers that were begun: the partitions come back."""
        closing = [
            partition.number for partition in self.player.engine._partitions.values() if partition.is_closing
        ]
        for number in closing:
            self.history.kafka.partitions[number].owner = None
            self.player.positions.pop(number, None)
            self.orphan(number)
            self.settle(self.player.engine.revoked([number], self.now))
            self.assign(self.player, number)

    def orphan(self, *numbers: int) -> None:
        """
        What was sent before a partition went takes effect within Tencent's budget, whatever its answer, and when that comes.
        """
        latest = self.now + LATE

        def is_of_them(request: Request) -> bool:
            return self.history.partition_of(request.target) in numbers

        self.late = [(min(due, latest) if is_of_them(each) else due, each) for due, each in self.late]
        for _, request in self.player.out:
            if is_of_them(request) and "bad" not in request.users and request.number not in self.orphans:
                self.orphans.add(request.number)
                self.late.append((latest, request))

    def end_attempt(
        self,
        send: Attempt,
        request: Request,
        verdict: Verdict,
        status: int | None = None,
        code: int | None = None,
        error: str | None = None,
        *,
        end_unknown: bool = False,
    ) -> None:
        """An attempt ends."""
        player = self.player
        info = f"code {code}" if code else ""
        try_ = AttemptResult(request.sent_at, self.now, verdict, status, code, info, None, error, end_unknown)
        self.settle(player.engine.attempt_finished(send.call_id, try_, self.now))
