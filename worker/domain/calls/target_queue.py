# What is known of one group or room on one endpoint, and its waiting members by what may share a call.
#
# State, and where a target finds its groups; which batch is next is decided in endpoint_queue.py, whether one may leave in
# endpoint_state.py.

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from worker.domain.calls.adaptive_batch import AdaptiveBatchSize
from worker.domain.calls.age_heap import AgeHeap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.effects import AttemptResult
    from worker.domain.progress.open_commands import MemberTask, What


class TargetQueue:
    """
    One group or room, on one endpoint.

    Attributes:
        out: Requests sent and not answered.
        calls: Calls that are not over, retries included.
        suspect: Its last try had no answer or a retry code.
        held_at: When it was refused, perhaps not by its own fault; until it is known whose that is, nothing is sent. None: not held.
        refusal: The answer for which it is held.
        at_fault_since: When a success of another target showed that the refusal was this target's own fault; None: it never
            was, or something of it has passed since.
        refused_probes: How many of its probes were refused since it is held.
        probed_at: When it was last a probe, for taking turns.
        alone: The code that a member alone got, and how many did, with none of the target passed since.
        batch: How many members its next batch may hold.
        blocked: None of its groups may be taken now.
        levels: Its groups by their level.
        started: Those of them with members of started commands to send.
        ages: Those of them with members to send; None as long as it never had two, which is what most targets are like.
        rank: The level of its fullest group, up to a whole batch; 0 if nothing of it may be taken.
        age: Since when the first of its members waits that may be taken.

    """

    __slots__ = (
        "age",
        "ages",
        "alone",
        "at_fault_since",
        "batch",
        "blocked",
        "calls",
        "held_at",
        "levels",
        "name",
        "out",
        "probed_at",
        "rank",
        "refusal",
        "refused_probes",
        "started",
        "suspect",
    )

    def __init__(self, name: str, per_call: int) -> None:
        self.name = name
        self.batch = AdaptiveBatchSize(per_call)
        self.levels: dict[int, dict[CompatibleGroup, None]] = {}
        self.started: dict[CompatibleGroup, None] = {}
        self.ages: AgeHeap[CompatibleGroup] | None = None
        self.rank = 0
        self.age: float | None = None
        self.out = 0
        self.calls = 0
        self.suspect = False
        self.held_at: float | None = None
        self.refusal: AttemptResult | None = None
        self.refused_probes = 0
        self.at_fault_since: float | None = None
        self.alone: tuple[int, int] | None = None
        self.blocked = False
        self.probed_at = 0.0

    @property
    def is_fresh(self) -> bool:
        """Whether it was never held, as far as is known."""
        return self.held_at is None and self.at_fault_since is None

    @property
    def groups(self) -> Iterable[CompatibleGroup]:
        """All its groups."""
        return chain.from_iterable(self.levels.values())

    @property
    def fullest(self) -> CompatibleGroup | None:
        """The group with the most members to send; None if it has none."""
        level = max(self.levels, default=0)
        return next(iter(self.levels[level])) if level else None

    @property
    def oldest(self) -> CompatibleGroup | None:
        """The group whose first member has waited longest; None if none has members to send."""
        return self.fullest if self.ages is None else self.ages.oldest()

    @property
    def has_work(self) -> bool:
        """Whether members of it wait or are called."""
        return bool(self.levels) or self.calls > 0

    @property
    def idle(self) -> bool:
        """Whether nothing of it is left here."""
        return not self.has_work and self.held_at is None

    def add(self, group: CompatibleGroup, order: int) -> None:
        """A new group, empty as yet. ``order`` is higher at each call of ``add`` and ``index``."""
        if self.levels and self.ages is None:
            self.ages = AgeHeap()
            (first,) = self.groups
            since, first.age = first.age, None
            self.ages.set(first, since, order)
        self.levels.setdefault(0, {})[group] = None

    def index(self, group: CompatibleGroup, per_call: int, order: int) -> None:
        """The group has changed: put it where it is looked for."""
        size = len(group.members)
        since = next(iter(group.members)).since if size else None
        if self.ages is None:
            group.age = since
        else:
            self.ages.set(group, since, order)
        if group.started:
            self.started[group] = None
        else:
            self.started.pop(group, None)
        self.move(group, min(size, per_call) if size or group.resting else None)

    def move(self, group: CompatibleGroup, level: int | None) -> None:
        """Puts the group at the end of another level."""
        if level == group.level:
            return
        assert group.level is not None
        same = self.levels[group.level]
        del same[group]
        if not same:
            del self.levels[group.level]
        group.level = level
        if level is not None:
            self.levels.setdefault(level, {})[group] = None

    def __repr__(self) -> str:
        return f"<TargetQueue {self.name}, {self.out} out, {self.calls} calls>"


class CompatibleGroup:
    """
    The waiting members that may share a call: their commands differ in nothing but the user. ``resting`` ones came back from a search that is not over.

    Attributes:
        started: How many of ``members`` are of started commands.
        level: The number of ``members``, up to what a call may carry; None: it is empty, and gone.
        age: Since when the first of them waits; None if there is none.

    """

    __slots__ = ("age", "key", "level", "members", "resting", "started", "target")

    def __init__(self, key: tuple[str, What], target: TargetQueue) -> None:
        self.key = key
        self.target = target
        self.members: dict[MemberTask, None] = {}
        self.resting: dict[MemberTask, None] = {}
        self.started = 0
        self.level: int | None = 0
        self.age: float | None = None

    def __repr__(self) -> str:
        return f"<CompatibleGroup {self.key[0]}, {len(self.members)} waiting, {len(self.resting)} resting>"
