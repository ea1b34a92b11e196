# One replica: an engine, and around it the client, the publisher and the poll loop as the runtime has them, in virtual time.
#
# It carries out effects and tells of events. It decides nothing that the engine should decide.

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from worker.domain.contract.error_codes import Verdict
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
    from collections.abc import Callable, Iterable

    from tests.simulation.kafka import Kafka, Record
    from tests.simulation.loop import Event, VirtualClock
    from tests.simulation.tencent import Tencent
    from worker.domain.effects import Attempt, Effect, Transaction
    from worker.domain.engine_settings import EngineSettings

BACKOFF: Final = (0.05, 2.0)
"""Full jitter: at most the first after the first try, doubling up to the second."""


class Replica:
    """
    One process, from its start to its end.

    ``unsent`` is the share of requests that the fence keeps back; one poll brings at most ``most_records`` a partition.
    """

    def __init__(
        self,
        name: str,
        clock: VirtualClock,
        kafka: Kafka,
        tencent: Tencent,
        settings: EngineSettings,
        unsent: float = 0.0,
        most_records: int = 40,
    ) -> None:
        self.name = name
        self.mark = settings.owner_mark
        self.born = clock.now
        self.engine = Engine(settings, clock.now, clock.wall, name)
        self.alive = True
        self.stopped = False
        self.notices: list[tuple[float, LogEvent]] = []
        self.most_open = 0
        self._settings = settings
        self._unsent = unsent
        self._most_records = most_records
        self._clock = clock
        self._kafka = kafka
        self._tencent = tencent
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()
        self._poll: Event | None = None
        self._tick: Event | None = None
        self._publishing = False
        self._tries: dict[str, int] = {}
        self._backoffs: dict[str, Event] = {}

    # What the group does with it

    def assigned(self, number: int) -> None:
        """The partition is this replica's, and restored."""
        self._kafka.assign(number, self)
        restored = self._kafka.restore(
            number, restore_records=self._settings.restore_records, window=self._settings.dedupe_window
        )
        self._positions[number] = restored.position
        self._paused.discard(number)
        self._settle(self.engine.assigned(number, restored, self._clock.now))
        self.fetch_soon()

    def hand_over(self, numbers: list[int], deadline: float, done: Callable[[], None]) -> None:
        """The partitions are to go: waits until they are quiet, or until the deadline."""
        numbers = [number for number in numbers if number in self._positions]
        self._settle(self.engine.revoking(numbers, self._clock.now))
        self._wait_quiet(numbers, deadline, done)

    def stop(self, deadline: float, done: Callable[[], None]) -> None:
        """SIGTERM: as a handover of everything, then the end."""
        self.stopped = True
        self._settle(self.engine.stopping(self._clock.now))
        self._wait_quiet(list(self._positions), deadline, lambda: self._leave(done))

    def _leave(self, done: Callable[[], None]) -> None:
        self.die()
        done()

    def _wait_quiet(self, numbers: list[int], deadline: float, done: Callable[[], None]) -> None:
        if not self.alive:
            done()
            return
        if self.engine.quiet(numbers) or self._clock.now >= deadline:
            self._lose(numbers)
            done()
            return
        self._clock.after(0.02, lambda: self._wait_quiet(numbers, deadline, done))

    def _lose(self, numbers: Iterable[int]) -> None:
        targets = set()
        for number in numbers:
            partition = self._kafka.partitions[number]
            if partition.owner is self:
                partition.owner = None
            self._positions.pop(number, None)
            targets |= {record.key.decode() for record in partition.records if record.key is not None}
        self._tencent.gone(self.name, frozenset(targets))
        self._settle(self.engine.revoked(list(numbers), self._clock.now))

    def die(self) -> None:
        """kill -9: nothing of it happens any more, except what is on its way."""
        self.alive = False
        self._tencent.gone(self.name, None)
        for partition in self._kafka.partitions:
            if partition.owner is self:
                partition.owner = None

    # The poll loop

    def fetch_soon(self) -> None:
        """There may be records to fetch."""
        if self._poll is None and self.alive:
            self._poll = self._clock.after(self._clock.jitter(0.001, 0.03), self._fetch)

    def _fetch(self) -> None:
        self._poll = None
        if not self.alive:
            return
        records: list[Record] = []
        more = False
        for number, position in self._positions.items():
            if number in self._paused or self._kafka.partitions[number].owner is not self:
                continue
            log = self._kafka.partitions[number].records
            begin = bisect_left(log, position, key=lambda record: record.offset)
            end = begin + self._clock.chance.randint(1, self._most_records)
            more = more or end < len(log)
            records += log[begin:end]
        for record in records:
            self._positions[record.partition] = record.offset + 1
        if records:
            self._settle(self.engine.received(records, self._clock.now))
        self.engine.reached(self._positions)
        if more:
            self.fetch_soon()

    # The client

    def _send(self, send: Attempt) -> None:
        if send.number == 1:
            assert send.call_id not in self._tries
        else:
            assert send.number == self._tries[send.call_id] + 1
        self._tries[send.call_id] = send.number
        if self._clock.chance.random() < self._unsent:
            fenced = AttemptResult(self._clock.now, self._clock.now, Verdict.UNSENT, error="fenced")
            self._clock.after(0.0, lambda: self._tried(send, fenced))
            return
        self._tencent.send(send, self.name, lambda try_: self._tried(send, try_))

    def _tried(self, send: Attempt, try_: AttemptResult) -> None:
        if not self.alive:
            return
        now = self._clock.now
        effects = self.engine.attempt_finished(send.call_id, try_, now)
        if RetryCall(send.call_id) not in effects:
            del self._tries[send.call_id]
        self._settle(effects)

    def _back_off(self, call_id: str) -> None:
        first, most = BACKOFF
        wait = self._clock.chance.uniform(0.0, min(most, first * 2 ** self._tries[call_id]))
        self._backoffs[call_id] = self._clock.after(wait, lambda: self._ask(call_id))

    def _ask(self, call_id: str) -> None:
        self._backoffs.pop(call_id, None)
        if self.alive and call_id in self._tries:
            self._settle(self.engine.permit_requested(call_id, self._clock.now))

    def _recall(self, call_id: str) -> None:
        del self._tries[call_id]
        backoff = self._backoffs.pop(call_id, None)
        if backoff is not None:
            backoff.cancel()

    # The publisher

    def _publish(self) -> None:
        if self._publishing or not self.alive:
            return
        transaction = self.engine.take_transaction(self._clock.now)
        if transaction is None:
            return
        self._publishing = True
        claim = self._kafka.claim(transaction)
        self._clock.after(self._clock.jitter(0.005, 0.03), lambda: self._commit(transaction, claim))

    def _commit(self, transaction: Transaction, claim: dict[int, int]) -> None:
        chance = self._clock.chance
        if not self.alive and chance.random() < 0.5:
            return  # the process died with its transaction open: it is aborted
        engine, back = self.engine, self._clock.jitter(0.001, 0.02)
        refused = self._kafka.refuses_metadata(transaction)
        if refused is not None:
            self._clock.after(back, lambda: self._published(engine.metadata_refused, refused))
        elif not self._kafka.owns(self, claim) or chance.random() < self._kafka.aborts:
            self._clock.after(back, lambda: self._published(engine.aborted))
        else:
            self._kafka.commit(self, transaction)
            self._clock.after(back, lambda: self._published(engine.published))

    def _published(self, tell: Callable[..., list[Effect]], *what: int) -> None:
        if self.alive:
            self._publishing = False
            self._settle(tell(*what, self._clock.now))

    # The loop

    def _settle(self, effects: list[Effect]) -> None:
        if not self.alive:
            return
        for effect in effects:
            match effect:
                case StartCall(send) | AllowAttempt(send):
                    self._send(send)
                case RetryCall(call_id):
                    self._back_off(call_id)
                case CancelWaitingCall(call_id):
                    self._recall(call_id)
                case PausePartition(number):
                    self._paused.add(number)
                case ResumePartition(number):
                    self._paused.discard(number)
                    self.fetch_soon()
                case LogEvent():
                    self.notices.append((self._clock.now, effect))
        self.most_open = max(self.most_open, self.engine.open_count)
        self._publish()
        self._plan_tick()

    def _plan_tick(self) -> None:
        at = max(self.engine.wake_at, self._clock.now + 0.001)
        if self._tick is not None and not self._tick.cancelled:
            if self._tick.at <= at:
                return
            self._tick.cancel()
        self._tick = self._clock.at(at, self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        if self.alive:
            self._settle(self.engine.tick(self._clock.now, self._clock.wall))

    def __repr__(self) -> str:
        return f"<Replica {self.name} {'alive' if self.alive else 'dead'} {self.engine!r}>"
