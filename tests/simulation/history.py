# One history: what is commanded, who is alive, what goes wrong and when; then the calm in which everything must come to its end.
#
# A plan is drawn from a seed; the same seed gives the same history. What must hold of it is judged in oracles.py.

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.detectors import Detectors
from tests.simulation.expectations import TOPIC, Commanded
from tests.simulation.kafka import Kafka
from tests.simulation.loop import START, VirtualClock
from tests.simulation.replica import Replica
from tests.simulation.tencent import Tencent, Weather
from worker.domain.contract.outcomes import Worker
from worker.domain.engine_settings import EngineSettings
from worker.domain.progress.commit_metadata import mark_of

if TYPE_CHECKING:
    from collections.abc import Callable

HANDOVER: Final = 5.0
DRAIN: Final = 20.0
CALM: Final = 240.0
"""Seconds after the last trouble within which every command must have its outcome."""

LULL: Final = 15.0
"""Seconds after that: the last hanging requests end, and nothing waits for them any more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Attributes:
        lasts: Seconds in which commands come and things go wrong.
        kinds: The share of each action.
        repeats: The share of records that repeat an earlier one, command_id included.
        reused: The share of records that use an earlier command_id for something else.
        garbage: The share of records that are no commands.
        kills, moves, stops, joins: How often, in the whole history.
        returns: How often a static member is killed and is back at once. With any, all replicas are static members.
        hot: The share of commands that go to one single member.
        unsent: The share of requests that the fence keeps back at the last moment.

    """

    seed: int
    partitions: int = 4
    replicas: int = 2
    quota: int = 24
    commands: int = 150
    lasts: float = 15.0
    targets: int = 6
    users: int = 30
    kinds: tuple[float, float, float, float, float] = (6, 3, 1, 1, 1)
    repeats: float = 0.08
    reused: float = 0.01
    garbage: float = 0.02
    expiring: float = 0.0
    many: float = 0.1
    hot: float = 0.2
    kills: int = 0
    returns: int = 0
    moves: int = 0
    stops: int = 0
    joins: int = 0
    aborts: float = 0.0
    unsent: float = 0.0
    window_from_send: bool = False
    metadata_bytes: int = 4096
    max_gap: int = 20_000
    memory: int = 128 * 1024 * 1024
    reasons_matter: bool = True
    supersede: bool = True
    effect_window: float = 60.0
    restore_records: int = 5000
    max_attempts: int = 8
    give_up_after: float | None = 600.0
    max_unpublished: int | None = None
    most_records: int = 40
    holes: float = 0.1
    weather: Weather = field(default_factory=Weather)


class History:
    """A history, played by ``play``."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = VirtualClock(plan.seed)
        self.kafka = Kafka(
            self.clock,
            plan.partitions,
            metadata_bytes=plan.metadata_bytes,
            aborts=plan.aborts,
            holes=plan.holes,
        )
        self.tencent = Tencent(self.clock, plan.weather, plan.quota)
        self.detectors = Detectors(self)
        self.commanded: list[Commanded] = []
        self.replicas: list[Replica] = []
        self.ends_at = START + plan.lasts
        self._holders: dict[int, Replica | None] = dict.fromkeys(range(plan.partitions))
        self._moving: set[int] = set()
        self._names = 0
        self._instances: dict[str, str | None] = {}
        self._pulses = 0

    def settings(self, name: str, instance: str | None = None) -> EngineSettings:
        """The settings of a replica."""
        plan = self.plan
        return EngineSettings(
            topic=TOPIC,
            partitions=plan.partitions,
            owner_mark=mark_of(instance),
            apps={"main": "administrator"},
            default_app="main",
            worker=Worker(name, "1"),
            default_calls_per_second=plan.quota,
            reasons_matter=plan.reasons_matter,
            effect_window=plan.effect_window,
            restore_records=plan.restore_records,
            supersede=plan.supersede,
            max_attempts=plan.max_attempts,
            give_up_after=plan.give_up_after,
            max_gap=plan.max_gap,
            window=1.3 if plan.window_from_send else 1.0,
            window_from_send=plan.window_from_send,
        )

    def play(self) -> History:
        """Lets it all happen. Returns itself."""
        for _ in range(self.plan.replicas):
            self.join()
        self.detectors.plan_commands()
        self.plan_troubles()
        self.clock.run(self.ends_at)
        self.finish()
        return self

    def finish(self) -> None:
        """The calm: no more troubles, at least one replica, until everything is published."""
        if not self._living():
            self.join()
        self._rebalance()
        weather = self.plan.weather
        if weather.own_fault or any(window.end > self.ends_at + CALM for window in weather.strange):
            self._pulses = 40  # beyond a lockout of a minute, which begins a search again
            self._pulse()
        self.clock.run(self.clock.now + CALM, self._all_published)
        self._pulses = 0
        self.clock.run(self.clock.now + CALM, self._all_published)
        self.clock.run(self.clock.now + LULL)

    def _all_published(self) -> bool:
        outcomes = sum(len(each.outcomes) for each in self.kafka.partitions)
        letters = sum(len(each.dead_letters) for each in self.kafka.partitions)
        expected = sum(each.readable_id is not None for each in self.commanded)
        return outcomes >= expected and letters >= sum(not each.is_valid for each in self.commanded)

    def _pulse(self) -> None:
        """A little traffic of healthy targets: without it nobody could tell whose fault it is that one target is refused."""
        if self._pulses <= 0:
            return
        for target in ("pulse a", "pulse b", "pulse c", "pulse d"):
            for kind in range(5):
                self.command(self.detectors.of_kind(kind, target, [f"u{self._pulses}.{kind}"]))
        self._pulses -= 1
        if self._pulses > 0:
            self.clock.after(4.0, self._pulse)

    # Who is alive

    def join(self, instance: str | None = None) -> Replica:
        """
        A replica starts: under a name of its own, or as the static member ``instance``. Where some come back all are static.
        """
        self._names += 1
        name = f"w{self._names}"
        instance = instance or (f"i{self._names}" if self.plan.returns else None)
        replica = Replica(
            name,
            self.clock,
            self.kafka,
            self.tencent,
            self.settings(name, instance),
            self.plan.unsent,
            self.plan.most_records,
        )
        replica.engine._admission.memory.limit = self.plan.memory
        if self.plan.max_unpublished is not None:
            replica.engine._outbox.max_unpublished = self.plan.max_unpublished
        self.replicas.append(replica)
        self._instances[name] = instance
        self._rebalance()
        return replica

    def kill(self, replica: Replica) -> None:
        """kill -9. The group notices when the session times out."""
        replica.die()

        def noticed() -> None:
            for number, holder in self._holders.items():
                if holder is replica:
                    self._holders[number] = None
            self._rebalance()

        self.clock.after(self.clock.chance.uniform(0.1, 3.0), noticed)

    def come_back(self, replica: Replica) -> None:
        """
        kill -9 of a static member that is back before the group has noticed: what it had is its own again once it has joined.
        """
        replica.die()

        def start() -> None:
            heir = self.join(self._instances[replica.name])

            def joined() -> None:
                for number, holder in self._holders.items():
                    if holder is replica and number not in self._moving:
                        self._give(number, heir)
                    elif holder is replica:
                        self._holders[number] = None  # what was on its way to the dead one
                self._rebalance()

            self.clock.after(self.clock.chance.uniform(0.0, 3.5), joined)

        self.clock.after(self.clock.chance.uniform(0.0, 2.0), start)

    def stop(self, replica: Replica) -> None:
        """SIGTERM. Its partitions go when it has drained."""

        def left() -> None:
            for number, holder in self._holders.items():
                if holder is replica:
                    self._holders[number] = None
            self._rebalance()

        replica.stop(self.clock.now + DRAIN, left)

    def _living(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.alive and not replica.stopped]

    def move(self) -> None:
        """The group moves a partition for no reason."""
        living = self._living()
        numbers = [number for number in self._holders if number not in self._moving]
        if len(living) > 1 and numbers:
            number = self.clock.chance.choice(numbers)
            holder = self._holders[number]
            if holder is not None and holder.alive and not holder.stopped:
                others = [replica for replica in living if replica is not holder]
                self._hand_over([number], holder, self.clock.chance.choice(others))

    def _rebalance(self) -> None:
        living = self._living()
        if not living:
            return
        orphans = [n for n, holder in self._holders.items() if holder is None and n not in self._moving]
        for number in orphans:
            self._give(number, min(living, key=self._share))
        richest = max(living, key=self._share)
        poorest = min(living, key=self._share)
        if self._share(richest) > self._share(poorest) + 1:
            movable = [n for n, h in self._holders.items() if h is richest and n not in self._moving]
            if movable:
                self._hand_over([movable[0]], richest, poorest)

    def _share(self, replica: Replica) -> int:
        return sum(holder is replica for holder in self._holders.values())

    def _hand_over(self, numbers: list[int], old: Replica, new: Replica) -> None:
        self._moving.update(numbers)

        def gone() -> None:
            self._moving.difference_update(numbers)
            for number in numbers:
                self._holders[number] = None
                if new.alive and not new.stopped:
                    self._give(number, new)
            self._rebalance()

        old.hand_over(numbers, self.clock.now + HANDOVER, gone)

    def _give(self, number: int, replica: Replica) -> None:
        self._holders[number] = replica
        self._moving.add(number)

        def restored() -> None:
            self._moving.discard(number)
            if self._holders[number] is not replica:
                self._rebalance()  # it was taken back meanwhile, and nobody else was asked
                return
            if replica.alive and not replica.stopped:
                replica.assigned(number)
            elif self._holders[number] is replica:
                self._holders[number] = None
            self._rebalance()

        self.clock.after(self.clock.jitter(0.01, 0.2), restored)

    # What goes wrong

    def plan_troubles(self) -> None:
        """Spreads the plan's troubles over its time."""
        plan, chance = self.plan, self.clock.chance

        def whenever(count: int, what: Callable[[], None]) -> None:
            for _ in range(count):
                self.clock.at(chance.uniform(START + 2.0, self.ends_at), what)

        def join() -> None:
            self.join()

        def kill() -> None:
            if living := self._living():
                self.kill(chance.choice(living))
                self.clock.after(chance.uniform(0.0, 4.0), join)

        def stop() -> None:
            if living := self._living():
                self.stop(chance.choice(living))
                self.clock.after(chance.uniform(0.0, 4.0), join)

        def come_back() -> None:
            if living := self._living():
                self.come_back(chance.choice(living))

        whenever(plan.kills, kill)
        whenever(plan.returns, come_back)
        whenever(plan.moves, self.move)
        whenever(plan.stops, stop)
        whenever(plan.joins, join)

    # What is commanded

    def command(self, fields: dict[str, Any], *, is_valid: bool = True) -> Commanded:
        """A detector commands it now."""
        target: str = fields.get("group_id") or fields["room_id"]
        value = json.dumps(fields).encode()
        record = self.kafka.append(self.partition_of(target), target.encode(), value)
        commanded = Commanded(record, self.clock.now, fields, fields["command_id"], is_valid)
        self.commanded.append(commanded)
        return commanded

    def partition_of(self, target: str) -> int:
        """A target stays on one partition."""
        return sum(target.encode()) % self.plan.partitions
