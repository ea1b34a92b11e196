# The waiting tasks of one (app, endpoint): which of them may share a call, and which batch is next.
#
# When a permit is free a batch is sent, so at low load a command is sent at once and alone, and under load batches fill by themselves.
# Only while the worker catches up, and a second's permits can carry more than is waiting, does a batch wait a moment for tasks that fill
# it (``patience``).
#
# Urgent groups are looked for by themselves: they go first, but never take more than a share of the permits while others wait, so neither
# starves.
#
# A target may have as many groups as tasks, and is blocked and freed with every call. So the queue looks among targets, and each target
# among its groups: neither blocking nor learning touches a group. The state of a target's calls is in target_state.py.

from __future__ import annotations

from itertools import chain, count, islice
from typing import TYPE_CHECKING

from worker.domain.calls.adaptive_batch import AdaptiveBatchSize
from worker.domain.calls.age_heap import AgeHeap
from worker.domain.state_transitions import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.contract.parameters import EffectKey
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.open_commands import MemberTask

GroupKey = tuple[str, "EffectKey", bool, bool]
"""The target, the effect key of all tasks of a group, whether each of them goes alone, and whether they are urgent."""


class CompatibleGroup:
    """
    The waiting tasks that may share a call: their commands differ in nothing but the user.

    Attributes:
        goes_alone: Each of its tasks has a call of its own.
        is_urgent: Its tasks go before others.
        tasks: Its tasks that may be sent, oldest first.
        resting: Its tasks that came back from a bisection that is not over.
        started: Those of ``tasks`` whose command is started.
        level: Size class: number of ``tasks``, at most a full call; 0 if urgent; None once removed.
        waiting_since: Since when the first of ``tasks`` waits; None if there is none, or if they are urgent. Written by ``AgeHeap``, or by
            ``reindex`` while there is none.

    """

    __slots__ = (
        "goes_alone",
        "is_urgent",
        "key",
        "level",
        "resting",
        "started",
        "target",
        "tasks",
        "waiting_since",
    )

    def __init__(self, key: GroupKey, target: TargetQueue) -> None:
        self.key = key
        _, _, self.goes_alone, self.is_urgent = key
        self.target = target
        self.tasks: dict[MemberTask, None] = {}
        self.resting: dict[MemberTask, None] = {}
        self.started: dict[MemberTask, None] = {}
        self.level: int | None = 0
        self.waiting_since: float | None = None

    def add(self, task: MemberTask) -> None:
        """Add a task that may be sent."""
        self.resting.pop(task, None)
        self.tasks[task] = None
        if task.command.started:
            self.started[task] = None

    def rest(self, task: MemberTask) -> None:
        """Add a task that waits for the end of a bisection."""
        self.resting[task] = None

    def note_started(self, task: MemberTask) -> None:
        """Note that the command of one of its tasks is started."""
        if task in self.tasks:
            self.started[task] = None

    def remove(self, task: MemberTask) -> None:
        """Remove a task."""
        if task in self.resting:
            del self.resting[task]
        else:
            del self.tasks[task]
            self.started.pop(task, None)

    def take(self, most: int) -> list[MemberTask]:
        """Hand out the next batch."""
        batch = list(islice(self.tasks, most))
        for task in batch:
            del self.tasks[task]
        if self.started:
            for task in batch:
                self.started.pop(task, None)
        return batch

    @property
    def most(self) -> int:
        """How many tasks its next batch may hold."""
        return 1 if self.goes_alone else self.target.batch_size.members

    @property
    def first_since(self) -> float | None:
        """Since when the first of ``tasks`` waits; None if there is none."""
        return next(iter(self.tasks)).waiting_since if self.tasks else None

    def set_waiting_since(self, since: float | None) -> None:
        """Note since when the first of ``tasks`` waits."""
        self.waiting_since = since

    def __repr__(self) -> str:
        return f"<CompatibleGroup {self.key[0]}, {len(self.tasks)} waiting, {len(self.resting)} resting>"


class TargetQueue:
    """
    The waiting tasks of one target on one endpoint, in groups that may share a call.

    Attributes:
        batch_size: How many tasks its next batch may hold.
        blocked: None of its groups may be taken now.
        groups_by_level: Its groups by their level.
        started: Its groups with tasks of started commands, except urgent ones.
        urgent: Its groups with urgent tasks that may be sent.
        rank: The level of its fullest group, at most a full batch; 0 if none of its groups may be taken, or all are urgent.
        waiting_since: Since when the oldest of its tasks waits that may be taken and is not urgent; None if there is none. Written by
            ``AgeHeap``.

    """

    __slots__ = (
        "_ages",
        "batch_size",
        "blocked",
        "groups_by_level",
        "name",
        "rank",
        "started",
        "urgent",
        "waiting_since",
    )

    def __init__(self, name: str, per_call: int) -> None:
        self.name = name
        self.batch_size = AdaptiveBatchSize(per_call)
        self.blocked = False
        self.groups_by_level: dict[int, dict[CompatibleGroup, None]] = {}
        self.started: dict[CompatibleGroup, None] = {}
        self.urgent: dict[CompatibleGroup, None] = {}
        # None until it has had two groups at once, which most targets never have.
        self._ages: AgeHeap[CompatibleGroup] | None = None
        self.rank = 0
        self.waiting_since: float | None = None

    @property
    def groups(self) -> Iterable[CompatibleGroup]:
        """All its groups."""
        return chain.from_iterable(self.groups_by_level.values())

    @property
    def is_sendable(self) -> bool:
        """Whether it has tasks to send, blocked or not."""
        return any(level > 0 for level in self.groups_by_level) or bool(self.urgent)

    @property
    def first(self) -> CompatibleGroup | None:
        """The group that goes first when it is the target's turn: an urgent one, else the fullest; None if there is none."""
        return next(iter(self.urgent)) if self.urgent else self.fullest

    @property
    def fullest(self) -> CompatibleGroup | None:
        """The group with the most tasks to send that are not urgent; None if there is none."""
        level = max(self.groups_by_level, default=0)
        return next(iter(self.groups_by_level[level])) if level else None

    @property
    def oldest(self) -> CompatibleGroup | None:
        """The group whose first task has waited longest; None if none has tasks to send. Urgent groups do not count."""
        return self.fullest if self._ages is None else self._ages.oldest()

    def set_waiting_since(self, since: float | None) -> None:
        """Note since when the oldest of its tasks waits."""
        self.waiting_since = since

    def open_group(self, key: GroupKey, sequence: int) -> CompatibleGroup:
        """Open a group, empty as yet. ``sequence`` is higher at each call of ``open_group`` and ``reindex``."""
        if self.groups_by_level and self._ages is None:
            self._ages = AgeHeap()
            (first,) = self.groups
            since = first.waiting_since
            first.waiting_since = None
            self._ages.set(first, since, sequence)
        group = CompatibleGroup(key, self)
        self.groups_by_level.setdefault(0, {})[group] = None
        return group

    def reindex(self, group: CompatibleGroup, per_call: int, sequence: int) -> None:
        """Put a changed group where it is looked for, or remove it if it is empty."""
        is_urgent = group.is_urgent
        since = None if is_urgent else group.first_since
        if self._ages is None:
            group.waiting_since = since
        else:
            self._ages.set(group, since, sequence)
        if group.started and not is_urgent:
            self.started[group] = None
        else:
            self.started.pop(group, None)
        size = len(group.tasks)
        if size and is_urgent:
            self.urgent[group] = None
        else:
            self.urgent.pop(group, None)
        if not size and not group.resting:
            self.move(group, None)
        elif is_urgent:
            self.move(group, 0)
        else:
            self.move(group, min(size, 1 if group.goes_alone else per_call))

    def move(self, group: CompatibleGroup, level: int | None) -> None:
        """Put the group at the end of another level."""
        if level == group.level:
            return
        assert group.level is not None
        same = self.groups_by_level[group.level]
        del same[group]
        if not same:
            del self.groups_by_level[group.level]
        group.level = level
        if level is not None:
            self.groups_by_level.setdefault(level, {})[group] = None

    def __repr__(self) -> str:
        return f"<TargetQueue {self.name}, {sum(len(group.tasks) for group in self.groups)} waiting>"


class EndpointQueue:
    """
    All waiting tasks of one (app, endpoint), at most ``per_call`` to a batch. While other tasks wait, no more than ``urgent_share`` (of
    the settings) of the batches are urgent.

    Attributes:
        targets: The targets with waiting tasks, and those without that are not forgotten yet.
        waiting: How many tasks wait.
        emptied: Targets whose last task left since the last ``take_emptied``; some may have tasks again.

    """

    def __init__(self, per_call: int, settings: EngineSettings) -> None:
        self.per_call = per_call
        self._settings = settings
        self._urgent: dict[TargetQueue, None] = {}
        self._ahead = 0.0  # how many batches the urgent groups have had beyond their share
        self.waiting = 0
        self.emptied: dict[str, None] = {}
        self.targets: dict[str, TargetQueue] = {}
        self._groups: dict[GroupKey, CompatibleGroup] = {}
        self._targets_by_rank: list[dict[TargetQueue, None]] = [{} for _ in range(per_call + 1)]
        self._started: dict[TargetQueue, None] = {}
        self._ages: AgeHeap[TargetQueue] = AgeHeap()
        self._sequence = count()

    def target(self, name: str) -> TargetQueue:
        """Return the queue of a target."""
        target = self.targets.get(name)
        if target is None:
            target = self.targets[name] = TargetQueue(name, self.per_call)
        return target

    def has_group_for(self, target: str, effect_key: EffectKey) -> bool:
        """Return whether tasks wait here that may share a call with those of such a command."""
        groups = self._groups
        return (target, effect_key, False, False) in groups or (target, effect_key, False, True) in groups

    def take_emptied(self) -> list[str]:
        """Hand out the targets whose last task left since the last call, except those that have tasks again."""
        names = [name for name in self.emptied if not self.targets[name].groups_by_level]
        self.emptied.clear()
        return names

    def forget(self, names: Iterable[str]) -> None:
        """Forget targets without waiting tasks."""
        for name in names:
            assert not self.targets[name].groups_by_level
            self.emptied.pop(name, None)
            del self.targets[name]

    # Tasks that come and go

    def put(self, task: MemberTask, now: float) -> bool:
        """Add a task that may be sent from now on. Return whether its group is new."""
        group, is_new = self._group_of(task)
        task.mark_waiting(now)
        group.add(task)
        self.waiting += 1
        if group.resting:
            self._wake_full_batches(group)
        # Else it was a full batch before, and one task more at its end changes nothing.
        if group.level != self.per_call or group.started:
            self._reindex(group)
        return is_new

    def rest(self, tasks: Iterable[MemberTask]) -> bool:
        """
        Add tasks that came back from a bisection. They wait until it ends (``wake``), unless they fill a batch with others. Return
        whether their group is new.
        """
        group, is_new = None, False
        for task in tasks:
            group, opened = self._group_of(task)
            is_new = is_new or opened
            group.rest(task)
            self.waiting += 1
        if group is not None:
            self._wake_full_batches(group)
        return is_new

    def wake(self, tasks: Iterable[MemberTask]) -> None:
        """Let the tasks that still rest be sent: their bisection is over."""
        for task in tasks:
            group = self._find(task) if task.state is TaskState.WAITING else None
            if group is not None and task in group.resting:
                group.add(task)
                self._reindex(group)

    def remove(self, *tasks: MemberTask) -> None:
        """Remove tasks that need no call any more. A closing partition has thousands: each group is reindexed once."""
        changed: dict[CompatibleGroup, None] = {}
        for task in tasks:
            group = self._groups[_key_of(task)]
            group.remove(task)
            changed[group] = None
        self.waiting -= len(tasks)
        for group in changed:
            self._reindex(group)

    def note_started(self, task: MemberTask) -> None:
        """Note that the command of a waiting task is started: its group goes before others."""
        group = self._find(task)
        if group is not None:
            group.note_started(task)
            self._reindex(group)

    def hurry(self, task: MemberTask) -> None:
        """Make a waiting task urgent."""
        group = self._groups[_key_of(task)]
        is_resting = task in group.resting
        group.remove(task)
        self._reindex(group)
        task.hurry()
        group, _ = self._group_of(task)
        if is_resting:
            group.rest(task)
        else:
            group.add(task)
        self._reindex(group)

    # Which batch is next

    def take(self, now: float, patience: float = 0.0) -> list[MemberTask]:
        """
        Hand out the next batch, all of one group; empty if none may be sent.

        An urgent group goes first, within the urgent share. Then a group whose oldest task has waited longer than ``overdue_after``
        (oldest first), then groups of started commands, else the fullest. With ``patience`` (seconds), a batch that is not full waits
        until the oldest waiting task has waited that long. Then that task's group goes.
        """
        group = self._next_normal(now, patience)
        if self._urgent and (group is None or self._ahead <= 0.0):
            self._ahead = 0.0 if group is None else self._ahead + 1.0 - self._settings.urgent_share
            target = next(iter(self._urgent))
            return self._take(next(iter(target.urgent)))
        self._ahead = self._ahead - self._settings.urgent_share if self._urgent else 0.0
        return self._take(group) if group is not None else []

    def _next_normal(self, now: float, patience: float) -> CompatibleGroup | None:
        oldest = self._ages.oldest()
        if oldest is None or oldest.waiting_since is None:
            return None
        if oldest.waiting_since <= now - self._settings.overdue_after:
            return oldest.oldest
        if self._started:
            return next(iter(next(iter(self._started)).started))
        fullest = self._fullest()
        if not patience or fullest is None or len(fullest.tasks) >= fullest.most:
            return fullest
        return oldest.oldest if oldest.waiting_since <= now - patience else None

    @property
    def oldest_normal_since(self) -> float | None:
        """Since when the oldest task that may be taken and is not urgent waits; None if there is none."""
        oldest = self._ages.oldest()
        return None if oldest is None else oldest.waiting_since

    def take_of(self, target: TargetQueue, most: int) -> list[MemberTask]:
        """Hand out a batch of at most ``most`` tasks of this target, blocked or not, for a probe."""
        group = target.first
        return self._take(group, most) if group is not None else []

    def set_blocked(self, target: TargetQueue, *, blocked: bool) -> None:
        """Set whether the target is blocked: then none of its groups may be taken."""
        if target.blocked is not blocked:
            target.blocked = blocked
            self._reindex_target(target)

    def learn(self, target: TargetQueue, *, good: int = 0, bad: int = 0) -> None:
        """Count tasks of the target that were applied, or found bad: its full batch may be smaller or larger now."""
        if target.batch_size.learn(good=good, bad=bad):
            self._reindex_target(target)

    def oldest_since(self) -> float | None:
        """Return since when the task that has waited longest waits; None if none waits."""
        ages = (group.first_since for group in self._groups.values())
        return min((since for since in ages if since is not None), default=None)

    # Inside

    def _wake_full_batches(self, group: CompatibleGroup) -> None:
        """Let as many resting tasks be sent as fill batches with the group's other tasks."""
        together = len(group.tasks) + len(group.resting)
        needed = together - together % group.most - len(group.tasks)
        self.wake(list(islice(group.resting, max(0, needed))))

    def _find(self, task: MemberTask) -> CompatibleGroup | None:
        return self._groups.get(_key_of(task))

    def _group_of(self, task: MemberTask) -> tuple[CompatibleGroup, bool]:
        key = _key_of(task)
        group = self._groups.get(key)
        if group is not None:
            return group, False
        group = self._groups[key] = self.target(key[0]).open_group(key, next(self._sequence))
        return group, True

    def _take(self, group: CompatibleGroup, most: int | None = None) -> list[MemberTask]:
        size = group.most
        batch = group.take(size if most is None else max(1, min(size, most)))
        self.waiting -= len(batch)
        self._to_the_end(group)
        return batch

    def _to_the_end(self, group: CompatibleGroup) -> None:
        """Reindex a group just taken from, and its target, last among their equals."""
        target = group.target
        self._targets_by_rank[target.rank].pop(target, None)
        self._urgent.pop(target, None)
        target.urgent.pop(group, None)
        target.rank = 0
        target.move(group, 0)
        self._reindex(group)

    def _fullest(self) -> CompatibleGroup | None:
        """Return the fullest group that may be taken. There must be one."""
        level = next(level for level in range(self.per_call, 0, -1) if self._targets_by_rank[level])
        return next(iter(self._targets_by_rank[level])).fullest

    def _reindex(self, group: CompatibleGroup) -> None:
        """
        Put a changed group, and its target, where they are looked for.

        Every change of a group ends here. Afterwards the group is in its target, at the level of its number of tasks, or removed if it is
        empty. The target is in ``_targets_by_rank`` at its rank if that is not 0, in ``_urgent`` and ``_started`` if it has such groups and
        is not blocked, and in ``_ages`` by its oldest task that may be taken.
        """
        target = group.target
        target.reindex(group, self.per_call, next(self._sequence))
        if group.level is None:
            del self._groups[group.key]
            if not target.groups_by_level:
                self.emptied[target.name] = None
        self._reindex_target(target)

    def _reindex_target(self, target: TargetQueue) -> None:
        """Put a changed target where ``take`` looks for it."""
        rank = 0 if target.blocked else min(max(target.groups_by_level, default=0), target.batch_size.members)
        if rank != target.rank:
            self._targets_by_rank[target.rank].pop(target, None)
            target.rank = rank
            if rank:
                self._targets_by_rank[rank][target] = None
        if target.urgent and not target.blocked:
            self._urgent[target] = None
        else:
            self._urgent.pop(target, None)
        if rank and target.started:
            self._started[target] = None
        else:
            self._started.pop(target, None)
        oldest = target.oldest if rank else None
        self._ages.set(target, None if oldest is None else oldest.waiting_since, next(self._sequence))

    def __repr__(self) -> str:
        return f"<EndpointQueue {self.waiting} waiting in {len(self._groups)} groups>"


def _key_of(task: MemberTask) -> GroupKey:
    command = task.command
    return command.spec.target, command.effect_key, task.goes_alone, task.urgent
