# The waiting members of one (app, endpoint): which of them may share a call, and which batch is next.
#
# Nothing lingers here to be filled: when a permit is free a batch leaves, so at low load a command goes at once and
# alone, and under load batches fill by themselves.
#
# A target may have as many groups as members, and is blocked and set free with every call. So the queue looks among
# targets and each target among its groups (target_queue.py): neither blocking nor learning touches a group.

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING

from worker.domain.calls.age_heap import AgeHeap
from worker.domain.calls.target_queue import CompatibleGroup, TargetQueue
from worker.domain.progress.open_commands import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.progress.open_commands import MemberTask, What


class EndpointQueue:
    """
    All waiting members of one (app, endpoint), at most ``per_call`` to a batch.

    Attributes:
        has_news: Something has come for a target that was not refused yet, since a probe was last looked for in vain.

    """

    __slots__ = (
        "_ages",
        "_groups",
        "_levels",
        "_order",
        "_started",
        "has_news",
        "per_call",
        "targets",
        "waiting",
    )

    def __init__(self, per_call: int) -> None:
        self.per_call = per_call
        self.waiting = 0
        self.has_news = False
        self.targets: dict[str, TargetQueue] = {}
        self._groups: dict[tuple[str, What], CompatibleGroup] = {}
        self._levels: list[dict[TargetQueue, None]] = [{} for _ in range(per_call + 1)]
        self._started: dict[TargetQueue, None] = {}
        self._ages: AgeHeap[TargetQueue] = AgeHeap()
        self._order = count()

    def target(self, name: str) -> TargetQueue:
        """What is known of the target."""
        target = self.targets.get(name)
        if target is None:
            target = self.targets[name] = TargetQueue(name, self.per_call)
        return target

    def is_new(self, target: str, what: What) -> bool:
        """Whether nothing waits here that may share a call with a member of such a command."""
        return (target, what) not in self._groups

    def sweep(self) -> None:
        """Nothing needs to be known of targets without work."""
        for name in [name for name, target in self.targets.items() if target.idle]:
            del self.targets[name]

    def put(self, member: MemberTask, now: float) -> None:
        """The member may be sent from now on."""
        group = self._group_of(member)
        member.state = TaskState.WAITING
        member.group = group
        member.since = member.since or now
        group.members[member] = None
        group.started += member.work.started
        self.waiting += 1
        if group.resting and self._fills_a_batch(group):
            self.wake(list(group.resting))
        self._index(group)

    def rest(self, members: Iterable[MemberTask]) -> None:
        """The members came back from a search. They wait until it ends (``wake``), unless with others they fill a whole batch."""
        group = None
        for member in members:
            group = self._group_of(member)
            member.state = TaskState.WAITING
            member.group = group
            group.resting[member] = None
            self.waiting += 1
        if group is not None and self._fills_a_batch(group):
            self.wake(list(group.resting))

    def wake(self, members: Iterable[MemberTask]) -> None:
        """The search is over: those of the members that still rest may be sent again."""
        for member in members:
            group = member.group
            if isinstance(group, CompatibleGroup) and member in group.resting:
                del group.resting[member]
                group.members[member] = None
                group.started += member.work.started
                self._index(group)

    def remove(self, member: MemberTask) -> None:
        """The member needs no call any more."""
        group = member.group
        assert isinstance(group, CompatibleGroup)
        member.group = None
        self.waiting -= 1
        if member in group.resting:
            del group.resting[member]
        else:
            del group.members[member]
            group.started -= member.work.started
        self._index(group)

    def starting(self, member: MemberTask) -> None:
        """The member's command is about to be started: its group goes before others. Call it before ``work.started`` is set."""
        group = member.group
        if isinstance(group, CompatibleGroup) and member in group.members:
            group.started += 1
            self._index(group)

    def take(self, now: float, max_wait: float) -> list[MemberTask]:
        """
        The next batch, all of one group: empty if none may leave.

        A group whose oldest member has waited longer than ``max_wait`` first (oldest first), then groups of started
        commands, else the fullest.
        """
        group = self._overdue(now, max_wait) or self._next_started() or self._fullest()
        return self._take(group) if group is not None else []

    def take_of(self, target: TargetQueue) -> list[MemberTask]:
        """
        A batch of this target, blocked or not: for probes. Half as large after each that was refused: what is refused for one of
        its members, or for its size, passes in the end.
        """
        group = target.fullest
        return self._take(group, self.per_call >> target.refused_probes) if group is not None else []

    @property
    def sendable(self) -> Iterable[TargetQueue]:
        """The targets that have members to send, blocked or not: for probes."""
        return (target for target in self.targets.values() if any(target.levels))

    def block(self, target: TargetQueue, *, blocked: bool) -> None:
        """Whether the target's groups may be taken."""
        if target.blocked is not blocked:
            target.blocked = blocked
            self._rank(target)

    def learn(self, target: TargetQueue, *, good: int = 0, bad: int = 0) -> None:
        """So many members of the target were applied, so many found bad: what a full batch of it is may have changed."""
        if target.batch.learn(good=good, bad=bad):
            self._rank(target)

    def oldest(self) -> float | None:
        """Since when the member waits that has waited longest; None if none waits."""
        return min((group.age for group in self._groups.values() if group.age is not None), default=None)

    def _fills_a_batch(self, group: CompatibleGroup) -> bool:
        return len(group.members) + len(group.resting) >= group.target.batch.members

    def _group_of(self, member: MemberTask) -> CompatibleGroup:
        command = member.work.command
        key = (command.target, member.work.what)
        group = self._groups.get(key)
        if group is None:
            target = self.target(command.target)
            group = self._groups[key] = CompatibleGroup(key, target)
            self.has_news = self.has_news or target.is_fresh
            target.add(group, next(self._order))
        return group

    def _take(self, group: CompatibleGroup, most: int | None = None) -> list[MemberTask]:
        target = group.target
        size = target.batch.members
        batch = list(islice(group.members, size if most is None else max(1, min(size, most))))
        for member in batch:
            del group.members[member]
            group.started -= member.work.started
            member.group = None
        self.waiting -= len(batch)
        self._levels[target.rank].pop(target, None)
        target.rank = 0  # to the end of its level: no target goes twice before another one
        target.move(group, 0)  # and no group of a target
        self._index(group)
        return batch

    def _overdue(self, now: float, max_wait: float) -> CompatibleGroup | None:
        target = self._ages.oldest()
        if target is None or target.age is None or target.age > now - max_wait:
            return None
        return target.oldest

    def _next_started(self) -> CompatibleGroup | None:
        return next((next(iter(target.started)) for target in self._started), None)

    def _fullest(self) -> CompatibleGroup | None:
        for level in range(self.per_call, 0, -1):
            if self._levels[level]:
                return next(iter(self._levels[level])).fullest
        return None

    def _index(self, group: CompatibleGroup) -> None:
        """The group has changed."""
        target = group.target
        target.index(group, self.per_call, next(self._order))
        if group.level is None:
            del self._groups[group.key]
        self._rank(target)

    def _rank(self, target: TargetQueue) -> None:
        """The target has changed: put it where ``take`` looks."""
        rank = 0 if target.blocked else min(max(target.levels, default=0), target.batch.members)
        if rank != target.rank:
            self._levels[target.rank].pop(target, None)
            target.rank = rank
            if rank:
                self._levels[rank][target] = None
        if rank and target.started:
            self._started[target] = None
        else:
            self._started.pop(target, None)
        oldest = target.oldest if rank else None
        self._ages.set(target, None if oldest is None else oldest.age, next(self._order))

    def __repr__(self) -> str:
        return f"<EndpointQueue {self.waiting} waiting in {len(self._groups)} groups>"
