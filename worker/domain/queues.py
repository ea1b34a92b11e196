# The waiting members of one (app, endpoint): which of them may share a call, and which batch is next.
#
# A Group holds members whose commands differ in nothing but the user; a Target holds what is known of one group or
# room. Nothing lingers here to be filled: when a permit is free a batch leaves, so at low load a command goes at once
# and alone, and under load batches fill by themselves.

import heapq
from itertools import count, islice
from typing import TYPE_CHECKING

from worker.domain.sizing import BatchSize
from worker.domain.work import Member, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.effects import Try
    from worker.domain.work import What


class Target:
    """
    One group or room, on one endpoint.

    Attributes:
        out: Requests sent and not answered.
        calls: Calls that are not over, retries included.
        suspect: Its last try had no answer or a retry code.
        held_at: When it was refused for want of permission; until it is known whose fault that is, nothing is sent. None: not held.
        refusal: The answer for which it is held.
        at_fault_since: When a success of another target showed that the refusal was this target's own fault; None: it never
            was, or something of it has passed since.
        probed_at: When it was last a probe, for taking turns.
        alone: The code that a member alone got, and how many did, with none of the target passed since.
        batch: How many members its next batch may hold.
        blocked: None of its groups may be taken now.

    """

    __slots__ = (
        "alone",
        "at_fault_since",
        "batch",
        "blocked",
        "calls",
        "groups",
        "held_at",
        "name",
        "out",
        "probed_at",
        "refusal",
        "suspect",
    )

    def __init__(self, name: str, per_call: int) -> None:
        self.name = name
        self.batch = BatchSize(per_call)
        self.groups: dict[Group, None] = {}
        self.out = 0
        self.calls = 0
        self.suspect = False
        self.held_at: float | None = None
        self.refusal: Try | None = None
        self.at_fault_since: float | None = None
        self.alone: tuple[int, int] | None = None
        self.blocked = False
        self.probed_at = 0.0

    @property
    def is_fresh(self) -> bool:
        """
        Whether it was never refused for want of permission, as far as is known.
        """
        return self.held_at is None and self.at_fault_since is None

    @property
    def idle(self) -> bool:
        """
        Whether nothing of it is left here.
        """
        return not self.groups and not self.calls and self.held_at is None

    def __repr__(self) -> str:
        return f"<Target {self.name}, {self.out} out, {self.calls} calls>"


class Group:
    """
    The waiting members that may share a call. ``resting`` ones came back from a search that is not over.
    """

    __slots__ = ("age", "key", "level", "members", "resting", "started", "target")

    def __init__(self, key: "tuple[str, What]", target: Target) -> None:
        self.key = key
        self.target = target
        self.members: dict[Member, None] = {}
        self.resting: dict[Member, None] = {}
        self.started = 0
        self.level = 0
        self.age: float | None = None  # of its valid entry among the queue's ages

    @property
    def oldest(self) -> float:
        """
        Since when its first member waits.
        """
        return next(iter(self.members)).since

    def __repr__(self) -> str:
        return f"<Group {self.key[0]}, {len(self.members)} waiting, {len(self.resting)} resting>"


class Queue:
    """
    All waiting members of one (app, endpoint), at most ``per_call`` to a batch.
    """

    __slots__ = ("_ages", "_groups", "_levels", "_order", "_started", "per_call", "targets", "waiting")

    def __init__(self, per_call: int) -> None:
        self.per_call = per_call
        self.waiting = 0
        self.targets: dict[str, Target] = {}
        self._groups: dict[tuple[str, What], Group] = {}
        self._levels: list[dict[Group, None]] = [{} for _ in range(per_call + 1)]
        self._started: dict[Group, None] = {}
        self._ages: list[tuple[float, int, Group]] = []
        self._order = count()

    def target(self, name: str) -> Target:
        """
        What is known of the target.
        """
        target = self.targets.get(name)
        if target is None:
            target = self.targets[name] = Target(name, self.per_call)
        return target

    def sweep(self) -> None:
        """
        Nothing needs to be known of targets without work.
        """
        for name in [name for name, target in self.targets.items() if target.idle]:
            del self.targets[name]

    def put(self, member: Member, now: float) -> None:
        """
        The member may be sent from now on.
        """
        group = self._group_of(member)
        member.state = State.WAITING
        member.group = group
        member.since = member.since or now
        group.members[member] = None
        group.started += member.work.started
        self.waiting += 1
        if group.resting and self._fills_a_batch(group):
            self.wake(list(group.resting))
        self._index(group)

    def rest(self, members: "Iterable[Member]") -> None:
        """
        The members came back from a search. They wait until it ends (``wake``), unless with others they fill a whole batch.
        """
        group = None
        for member in members:
            group = self._group_of(member)
            member.state = State.WAITING
            member.group = group
            group.resting[member] = None
            self.waiting += 1
        if group is not None and self._fills_a_batch(group):
            self.wake(list(group.resting))

    def wake(self, members: "Iterable[Member]") -> None:
        """
        The search is over: those of the members that still rest may be sent again.
        """
        for member in members:
            group = member.group
            if group is not None and member in group.resting:
                del group.resting[member]
                group.members[member] = None
                group.started += member.work.started
                self._index(group)

    def remove(self, member: Member) -> None:
        """
        The member needs no call any more.
        """
        group = member.group
        assert group is not None
        member.group = None
        self.waiting -= 1
        if member in group.resting:
            del group.resting[member]
        else:
            del group.members[member]
            group.started -= member.work.started
        self._index(group)

    def starting(self, member: Member) -> None:
        """
        The member's command is about to be started: its group goes before others. Call it before ``work.started`` is set.
        """
        group = member.group
        if group is not None and member in group.members:
            group.started += 1
            self._index(group)

    def take(self, now: float, max_wait: float) -> list[Member]:
        """
        The next batch, all of one group: empty if none may leave.

        A group whose oldest member has waited longer than ``max_wait`` first (oldest first), then groups of started
        commands, else the fullest.
        """
        group = self._overdue(now, max_wait) or next(iter(self._started), None) or self._fullest()
        return self._take(group) if group is not None else []

    def take_of(self, target: Target) -> list[Member]:
        """
        A batch of this target, blocked or not: for probes.
        """
        group = max(
            (group for group in target.groups if group.members),
            key=lambda group: len(group.members),
            default=None,
        )
        return self._take(group) if group is not None else []

    @property
    def sendable(self) -> "Iterable[Target]":
        """
        The targets that have members to send, blocked or not: for probes.
        """
        return (target for target in self.targets.values() if any(group.members for group in target.groups))

    def block(self, target: Target, *, blocked: bool) -> None:
        """
        Whether the target's groups may be taken.
        """
        if target.blocked is not blocked:
            target.blocked = blocked
            for group in target.groups:
                self._index(group)

    def learn(self, target: Target, *, good: int = 0, bad: int = 0) -> None:
        """
        So many members of the target were applied, so many found bad: what a full batch of it is may have changed.
        """
        if target.batch.learn(good=good, bad=bad):
            for group in target.groups:
                self._index(group)

    def oldest(self) -> float | None:
        """
        Since when the member waits that has waited longest; None if none waits.
        """
        return min((group.oldest for group in self._groups.values() if group.members), default=None)

    def _fills_a_batch(self, group: Group) -> bool:
        return len(group.members) + len(group.resting) >= group.target.batch.members

    def _group_of(self, member: Member) -> Group:
        command = member.work.command
        key = (command.target, member.work.what)
        group = self._groups.get(key)
        if group is None:
            target = self.target(command.target)
            group = self._groups[key] = Group(key, target)
            target.groups[group] = None
        return group

    def _take(self, group: Group) -> list[Member]:
        batch = list(islice(group.members, group.target.batch.members))
        for member in batch:
            del group.members[member]
            group.started -= member.work.started
            member.group = None
        self.waiting -= len(batch)
        self._levels[group.level].pop(group, None)
        group.level = 0  # to the end of its level: no full group goes twice before another one
        self._index(group)
        return batch

    def _overdue(self, now: float, max_wait: float) -> Group | None:
        ages = self._ages
        while ages:
            since, _, group = ages[0]
            if group.level and group.oldest == since:
                return group if since <= now - max_wait else None
            heapq.heappop(ages)
            if group.age == since:
                group.age = None  # it is blocked or empty: `_index` gives it a new entry when it is neither
        return None

    def _fullest(self) -> Group | None:
        for level in range(self.per_call, 0, -1):
            if self._levels[level]:
                return next(iter(self._levels[level]))
        return None

    def _index(self, group: Group) -> None:
        """
        The group or its target has changed: put it where ``take`` looks. A group's level is its size, up to a whole batch.
        """
        size = len(group.members)
        level = 0 if group.target.blocked else min(size, group.target.batch.members)
        if level != group.level:
            self._levels[group.level].pop(group, None)
            group.level = level
            if level:
                self._levels[level][group] = None
        if level and group.started:
            self._started[group] = None
        else:
            self._started.pop(group, None)
        if level:
            oldest = group.oldest
            if group.age != oldest:
                group.age = oldest
                heapq.heappush(self._ages, (oldest, next(self._order), group))
        elif not size and not group.resting:
            del self._groups[group.key]
            del group.target.groups[group]

    def __repr__(self) -> str:
        return f"<Queue {self.waiting} waiting in {len(self._groups)} groups>"
