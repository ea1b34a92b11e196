# Order per member, and what needs no call: the members of one (app, target, user) stand in a line, and only the first
# one of a line may be in a queue or a call. A member that repeats what is known or waiting gets its result from there.
#
# Here a member enters, is passed on to its queue when its turn comes, and gets its result. Who sends, and what an answer
# means, is decided elsewhere.

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Final

from worker.domain.contract.outcomes import Result, ResultStatus
from worker.domain.memory import share
from worker.domain.progress.deadline_heap import DeadlineHeap
from worker.domain.progress.dedupe import AppliedState, AppliedStates
from worker.domain.progress.open_commands import MemberQueue, MemberTask, TaskState, expired
from worker.domain.progress.repeats import done_for, may_ride, overwrites

if TYPE_CHECKING:
    from worker.domain.clock import Clock
    from worker.domain.contract.commands import Command
    from worker.domain.progress.dedupe import MemberKey
    from worker.domain.progress.open_commands import OpenCommand
    from worker.domain.rules import Rules
    from worker.domain.snapshots import Counts

UNKNOWN_FOR: Final = 3.0
"""A request of unknown end may still take effect for so many seconds: Tencent's own budget for a request."""


class MemberOrdering:
    """
    All lines of this replica.

    Attributes:
        complete: The commands that have all their results since the engine last looked.

    """

    __slots__ = (
        "_by_key",
        "_clock",
        "_counts",
        "_delays",
        "_expiries",
        "_order",
        "_rules",
        "complete",
        "effects",
    )

    def __init__(self, rules: Rules, clock: Clock, counts: Counts) -> None:
        self._rules = rules
        self._clock = clock
        self._counts = counts
        self._by_key: dict[MemberKey, MemberQueue] = {}
        self._delays: list[tuple[float, int, MemberQueue]] = []
        self._expiries = DeadlineHeap()
        self._order = count()
        self.effects = AppliedStates(share("applied", rules.memory_budget), counts)
        self.complete: list[OpenCommand] = []

    def enter(self, work: OpenCommand, command: Command, now: float) -> None:
        """A new command: each of its members takes its place."""
        app, target = command.app, command.target
        members = []
        for user in command.users:
            key = (app, target, user)
            line = self._by_key.get(key)
            if line is None:
                line = self._by_key[key] = MemberQueue(key)
            members.append(MemberTask(work, user, line))
            if line.last is not None:
                work.wait_for(line.last)
            line.last = work
        work.members = tuple(members)
        work.left = len(members)
        last_moment = command.last_moment
        if last_moment is not None:
            self._expiries.add(work, last_moment)
        for member in work.members:
            self._join(member, now)

    def settle(self, member: MemberTask, result: Result, now: float) -> None:
        """The member has its result, and so have those that ride with it. The next one of its line comes forward."""
        self._settle(member, result)
        self._advance(member.line, now)

    def applied(self, member: MemberTask, request_id: str | None, keep: float, now: float) -> None:
        """The member's effect is in place. For ``keep`` seconds a repeat of it needs no call."""
        work = member.work
        if keep > 0:
            effect = AppliedState(work.what, now, keep, work.outcome_id, request_id, work.partition)
            self.effects.applied(member.line.key, effect)
        self.settle(member, Result(member.user, ResultStatus.APPLIED, request_id), now)

    def sent(self, member: MemberTask) -> None:
        """A request that carries the member leaves now."""
        self.effects.sent(member.line.key)
        member.was_sent = True
        self.start(member.work)
        for rider in member.riders or ():
            self.start(rider.work)

    def ended_unknown(self, member: MemberTask, ended_at: float) -> None:
        """A request that carried the member ended without an answer: a different effect must wait until it cannot act any more."""
        line = member.line
        member.unknown_end = True
        line.unknown_until = ended_at + UNKNOWN_FOR
        line.unknown_what = member.work.what
        heapq.heappush(self._delays, (line.unknown_until, next(self._order), line))

    def start(self, work: OpenCommand) -> None:
        """The command is started, and with it those that it waits for."""
        starting = [work]
        while starting:
            work = starting.pop()
            if work.started or work.emitted or work.dropped:
                continue
            for member in work.members:
                if member.state is TaskState.WAITING:
                    work.lane.queue.starting(member)
            work.started = True
            starting.extend(work.before or ())

    def is_over(self, member: MemberTask, now: float) -> bool:
        """Whether no try may carry the member any more."""
        command = member.work.command
        last_moment = command.last_moment
        return last_moment is not None and self._clock.wall(now) > last_moment

    def _expire(self, work: OpenCommand, now: float) -> None:
        """The command's time is over: its members that are not on their way right now are not sent any more."""
        for member in work.members:
            if member.state is TaskState.WAITING:
                work.lane.queue.remove(member)
                self.settle(member, expired(member), now)
            elif member.state is TaskState.BEHIND:
                self._end(member, now)

    def due(self, now: float) -> None:
        """Lets those come forward whose delay is over, and settles those whose time is."""
        for work in self._expiries.due(self._clock.wall(now)):
            self._expire(work, now)
        while self._delays and self._delays[0][0] <= now:
            self._advance(heapq.heappop(self._delays)[2], now)

    @property
    def wake_at(self) -> float | None:
        """When ``due`` has something to do next."""
        delay = self._delays[0][0] if self._delays else None
        last_moment = self._expiries.next
        expiry = None if last_moment is None else self._clock.monotonic(last_moment)
        return min((each for each in (delay, expiry) if each is not None), default=None)

    def emitted(self, work: OpenCommand, now: float) -> None:
        """Nothing has to wait any more for this command's being finished."""
        work.before = None
        work.repeats = None
        self._finished(work)
        for member in work.members:
            if member.line.last is work:
                member.line.last = None
                self._forget_if_idle(member.line, now)

    def drop(self, work: OpenCommand, now: float) -> None:
        """
        The command is not this process's business any more: it leaves its lines. What of it is on its way stays there
        until it ends.
        """
        work.dropped = True
        work.before = None
        self._finished(work)
        for member in work.members:
            if member.line.last is work:
                member.line.last = None
                self._forget_if_idle(member.line, now)
            if member.state is TaskState.RIDING:
                for leader in member.line.members:
                    if leader.riders is not None:
                        leader.riders.pop(member, None)
            elif member.state in (TaskState.WAITING, TaskState.BEHIND):
                self.abandon(member, now)

    def _finished(self, work: OpenCommand) -> None:
        if work.rejected is None and work.command.last_moment is not None:
            self._expiries.finished()

    def abandon(self, member: MemberTask, now: float) -> None:
        """A dropped command's member that is not on its way leaves its line. One that rode with it takes its place."""
        if member.state is TaskState.WAITING:
            member.work.lane.queue.remove(member)
        line, riders = member.line, member.riders
        if riders:
            heir = next(iter(riders))
            del riders[heir]
            heir.riders, member.riders = riders, None
            heir.state = TaskState.BEHIND
            line.members[line.members.index(member)] = heir
        else:
            self._leave(member)
        member.state = TaskState.SETTLED
        self._advance(line, now)

    def _join(self, member: MemberTask, now: float) -> None:
        """The member goes to the end of its line, unless the one that waits there makes it needless, or is made needless by it."""
        line, work = member.line, member.work
        if self.is_over(member, now):
            line.members.append(member)
            self._end(member, now)
            return
        while line.members and work.repeats is None:
            last = line.members[-1]
            if last.state is TaskState.CALLED or last.work.repeats is not None:
                break  # on its way, or not known yet whether it will be sent: decided when this one's turn comes
            if may_ride(member, last):
                member.state = TaskState.RIDING
                if last.riders is None:
                    last.riders = {}
                last.riders[member] = None
                self._counts.coalesced += 1
                return
            if not self._may_supersede(member, last):
                break
            if last.state is TaskState.WAITING:
                last.work.lane.queue.remove(last)
            self._counts.superseded += 1
            self._settle(last, Result(last.user, ResultStatus.SUPERSEDED, superseded_by=work.outcome_id))
        line.members.append(member)
        if line.members[0] is member:
            self._advance(line, now)

    def _end(self, member: MemberTask, now: float) -> None:
        """
        The time of a member in its line is over. One that repeats a command_id waits for its turn all the same: if the id
        was carried out for it, its outcome must say so, or a third command with that id would be carried out again.
        """
        if member.work.repeats is None:
            self.settle(member, expired(member), now)
        elif member.line.members[0] is member:
            self._advance(member.line, now)

    def _may_supersede(self, member: MemberTask, last: MemberTask) -> bool:
        command, waiting = member.work.command, last.work.command
        return self._rules.supersede and not last.was_sent and overwrites(command, waiting)

    def _advance(self, line: MemberQueue, now: float) -> None:
        """The first of the line goes on: to its result if it is known already, else to its queue."""
        while line.members:
            member = line.members[0]
            if member.state is not TaskState.BEHIND:
                return
            work = member.work
            known = self._known_result(member, now)
            if known is None and self.is_over(member, now):
                known = expired(member)
            if known is not None:
                self._settle(member, known)
                continue
            if now < line.unknown_until and work.what != line.unknown_what:
                return  # `due` lets it go on
            work.lane.queue.put(member, now)
            return
        self._forget_if_idle(line, now)

    def _known_result(self, member: MemberTask, now: float) -> Result | None:
        """The result of a member that needs no call, because its command, or its effect, was carried out already."""
        work = member.work
        if work.repeats is not None:
            done_by = done_for(work.repeats, member.user)
            if done_by is not None:
                self._counts.repeated_ids += 1
                return Result(member.user, ResultStatus.DUPLICATE, duplicate_of=done_by)
        effect = self.effects.find(member.line.key, work.what, now)
        if effect is None or effect.during.gone:
            return None  # of an earlier assignment: another owner may have changed the state since
        self._counts.repeated_effects += 1
        return Result(member.user, ResultStatus.DUPLICATE, effect.request_id, duplicate_of=effect.outcome_id)

    def _settle(self, member: MemberTask, result: Result) -> None:
        self._leave(member)
        for settled in (member, *(member.riders or ())):
            settled.state = TaskState.SETTLED
            settled.result = result
            settled.family = None
            work = settled.work
            work.left -= 1
            if not work.left:
                self.complete.append(work)

    def _leave(self, member: MemberTask) -> None:
        members = member.line.members
        if members[0] is member:
            del members[0]
        else:
            members.remove(member)

    def _forget_if_idle(self, line: MemberQueue, now: float) -> None:
        idle = not line.members and line.last is None and line.unknown_until <= now
        if idle and self._by_key.get(line.key) is line:
            del self._by_key[line.key]

    def __len__(self) -> int:
        return len(self._by_key)
