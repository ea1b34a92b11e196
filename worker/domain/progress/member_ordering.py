# Order per member, and the tasks that need no call: the tasks of one (app, target, user) stand in a member queue, and only the first
# of them may be in an endpoint's queue or in a call. A task that repeats a known or waiting one gets its result.
#
# Here a task enters, advances when its turn comes, and gets its result. Tasks that became ready to be sent, or need no call any more,
# are handed out by `take_changes`, and complete commands by `take_completed`: the caller goes on from there. Who sends, and what an
# answer means, is decided elsewhere.

from __future__ import annotations

import heapq
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Final

from msgspec import structs

from worker.domain.contract.outcomes import DONE_FOR_ID, Result, ResultStatus, cut
from worker.domain.memory_budget import share
from worker.domain.progress.deadline_heap import DeadlineHeap
from worker.domain.progress.dedupe import AppliedState, AppliedStates
from worker.domain.progress.open_commands import MemberQueue, in_shadow
from worker.domain.progress.redundant_commands import done_for, kept_for, may_coalesce, overwrites
from worker.domain.state_transitions import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.dedupe import MemberKey
    from worker.domain.progress.open_commands import MemberTask, OpenCommand
    from worker.domain.wall_clock import WallClock

UNKNOWN_FOR: Final = 3.0
"""For this many seconds a request of unknown end may still take effect: Tencent's own budget for a request."""


class TaskChange(Enum):
    """What happened to a task that its endpoint's queue must know."""

    READY = "ready"
    """It waits for a permit from now on."""
    WITHDRAWN = "withdrawn"
    """It waited for a permit, and needs none any more."""
    STARTED = "started"
    """It waits for a permit, and its command is started now: it goes before others."""
    HURRIED = "hurried"
    """It waits for a permit, and an urgent command of the same member waits for it: it is urgent from now on."""


class MemberOrdering:
    """
    All member queues of this replica.

    Attributes:
        applied_states: The state that each member is known to have.
        coalesced, superseded, repeated_ids, repeated_effects: Members since the start, for the metrics.

    """

    def __init__(self, settings: EngineSettings, clock: WallClock) -> None:
        self._settings = settings
        self._clock = clock
        self._by_key: dict[MemberKey, MemberQueue] = {}
        self._delays: list[tuple[float, int, MemberQueue]] = []
        self._deadlines = DeadlineHeap()
        self._sequence = count()
        self._changes: list[tuple[TaskChange, MemberTask]] = []
        self._completed: list[OpenCommand] = []
        self.applied_states = AppliedStates(share("applied", settings.memory_budget))
        self.coalesced = 0
        self.superseded = 0
        self.repeated_ids = 0
        self.repeated_effects = 0

    # What the caller takes

    def take_changes(self) -> list[tuple[TaskChange, MemberTask]]:
        """Hand out the changes since the last call that the endpoints' queues must know, in order."""
        changes, self._changes = self._changes, []
        return changes

    def take_completed(self) -> list[OpenCommand]:
        """Hand out the commands that became complete since the last call: they have all their results."""
        completed, self._completed = self._completed, []
        return completed

    # What happens to commands

    def enter(self, command: OpenCommand, now: float) -> None:
        """Put the tasks of a new command into their member queues."""
        spec = command.spec
        member_queues = []
        for user in spec.users:
            key = (spec.app, spec.target, user)
            member_queue = self._by_key.get(key)
            if member_queue is None:
                member_queue = self._by_key[key] = MemberQueue(key)
            member_queues.append(member_queue)
        command.take_places(member_queues)
        if command.last_moment is not None:
            self._deadlines.add(command, command.last_moment)
        for task in command.tasks:
            self._join(task, now)
            if spec.urgent:
                self._hurry(task)

    def start(self, command: OpenCommand) -> None:
        """Start the command and all commands that it waits for."""
        starting = [command]
        while starting:
            next_command = starting.pop()
            if not next_command.started:
                starting += next_command.start()
                for task in next_command.tasks:
                    if task.state is TaskState.WAITING:
                        self._changes.append((TaskChange.STARTED, task))

    def forget_emitted(self, commands: Iterable[OpenCommand], now: float) -> None:
        """Remove emitted commands from their member queues."""
        for command in commands:
            self._forget(command, now)

    def withdraw(self, command: OpenCommand) -> None:
        """Take the command's tasks out of their endpoint's queue: another order will hold for it (``apply_order``)."""
        for task in command.tasks:
            if task.state is TaskState.WAITING:
                self._changes.append((TaskChange.WITHDRAWN, task))
                task.stand_back()

    def enter_shadow(self, command: OpenCommand) -> None:
        """Part the tasks of a command that is in shadow now from those that are sent. Those in a call part later, in ``regroup``."""
        for task in command.tasks:
            if task.state is TaskState.BEHIND:
                self._part(task)
            elif task.state is TaskState.COALESCED and not (task.is_in_call or task.leader.is_like(task)):
                self._part(task.leader)

    def apply_order(self, command: OpenCommand, now: float) -> None:
        """Apply the order that holds for the command now, or none, to its tasks that are not in a call."""
        for task in command.tasks:
            if command.policy.ends_at_once and task.state in (TaskState.BEHIND, TaskState.COALESCED):
                self._cancel(task, now)
            elif task.state is TaskState.BEHIND:
                self._advance(task.member_queue, now)

    def drop(self, command: OpenCommand, now: float) -> None:
        """
        Drop the command, for the next owner of its partition, and remove it from its member queues. Tasks in a call stay until the
        call is over.
        """
        command.drop()
        self._forget(command, now)
        for task in command.tasks:
            if task.state is TaskState.COALESCED:
                task.leader.release_follower(task)
            elif task.state in (TaskState.WAITING, TaskState.BEHIND):
                self.abandon(task, now)

    # What happens to tasks

    def sent(self, task: MemberTask, at: float) -> None:
        """Note that a request which carries the task is sent now, ``at`` on its endpoint's clock."""
        self.applied_states.forget(task.member_queue.key)
        task.mark_sent(at)
        if not task.command.started:
            self.start(task.command)
        for follower in task.followers or ():
            self.start(follower.command)

    def ended_unknown(self, task: MemberTask, ended_at: float) -> None:
        """Delay every different effect: a request that carried the task ended without an answer, and may still act."""
        member_queue, until = task.member_queue, ended_at + UNKNOWN_FOR
        for carried in (task, *(task.followers or ())):
            carried.mark_unknown_end()
        task.command.partition.clean_handover.note_may_act_until(until)
        member_queue.delay(until, task.command.effect_key)
        heapq.heappush(self._delays, (until, next(self._sequence), member_queue))

    def applied(self, task: MemberTask, request_id: str | None, now: float) -> None:
        """Settle a task whose effect is in place. For some time a repeat of it needs no call."""
        self._note_state(task, task.member_queue.key, request_id, now)
        self.settle(task, Result(task.user, ResultStatus.APPLIED, request_id), now)

    def simulated(self, task: MemberTask, now: float) -> None:
        """Settle a task in shadow, as if its effect was in place: for other tasks in shadow it is."""
        self._note_state(task, _shadow_key(task), None, now)
        self.settle(task, Result(task.user, ResultStatus.SIMULATED), now)

    def settle(self, task: MemberTask, result: Result, now: float) -> None:
        """Settle the task and its followers with this result, and advance its member queue."""
        self._settle(task, result)
        self._advance(task.member_queue, now)

    def abandon(self, task: MemberTask, now: float) -> None:
        """Remove a dropped command's task, which is not in a call. Its first follower takes its place."""
        if task.state is TaskState.WAITING:
            self._changes.append((TaskChange.WITHDRAWN, task))
        self._vacate(task)
        task.abandon()
        self._advance(task.member_queue, now)

    def stop(self, task: MemberTask, now: float) -> None:
        """Return a task whose call is over to its member queue: an order withholds its command."""
        task.stand_back()
        if task.command.policy.ends_at_once:
            self._cancel(task, now)
        else:
            self._advance(task.member_queue, now)

    def regroup(self, task: MemberTask) -> None:
        """
        Regroup the followers of a task whose call waits, or is over without a result for it: those that were cancelled meanwhile are
        settled, and tasks in shadow part from those that are sent. One that is paused goes on with the task that it follows.
        """
        if task.followers:
            for follower in [each for each in task.followers if each.command.policy.ends_at_once]:
                task.release_follower(follower)
                self._complete(follower, cancelled_result(follower))
            self._part(task)

    def is_expired(self, task: MemberTask, now: float) -> bool:
        """Return whether the last moment of the task is over: no attempt may carry it any more."""
        last_moment = task.command.last_moment
        return last_moment is not None and self._clock.wall(now) > last_moment

    # Time

    def due(self, now: float) -> None:
        """Advance the queues whose delay is over, and settle expired tasks."""
        for command in self._deadlines.due(self._clock.wall(now)):
            self._expire_command(command, now)
        while self._delays and self._delays[0][0] <= now:
            self._advance(heapq.heappop(self._delays)[2], now)

    @property
    def wake_at(self) -> float | None:
        """When ``due`` has something to do next; None: never."""
        delay = self._delays[0][0] if self._delays else None
        last_moment = self._deadlines.next
        if last_moment is None:
            return delay
        expiry = self._clock.monotonic(last_moment)
        return expiry if delay is None else min(delay, expiry)

    # Inside

    def _hurry(self, urgent: MemberTask) -> None:
        """Make the tasks before a new urgent task urgent, too."""
        for task in urgent.member_queue.newest_first():
            if task is urgent:
                continue
            if task.urgent:
                return  # and so are all tasks before it
            if task.state is TaskState.WAITING:
                self._changes.append((TaskChange.HURRIED, task))
            else:
                task.hurry()

    def _join(self, task: MemberTask, now: float) -> None:
        """Append the task to its member queue, unless it can follow the last task there. If it supersedes that one, settle that."""
        member_queue, command = task.member_queue, task.command
        if command.policy.ends_at_once:
            member_queue.append(task)
            self._cancel(task, now)
            return
        if command.last_moment is not None and self.is_expired(task, now):
            member_queue.append(task)
            self._expire_task(task, now)
            return
        while (last := _undecided_before(task)) is not None:
            if may_coalesce(task, last):
                last.coalesce(task)
                self.coalesced += 1
                return
            if not self._supersedes(command, last):
                break
            if last.state is TaskState.WAITING:
                self._changes.append((TaskChange.WITHDRAWN, last))
            self.superseded += 1
            result = Result(last.user, ResultStatus.SUPERSEDED, superseded_by=command.outcome_id)
            self._settle(last, _hide_done_in_shadow(last, result))
        member_queue.append(task)
        self._advance(member_queue, now)

    def _supersedes(self, command: OpenCommand, last: MemberTask) -> bool:
        if command.policy.waits or not self._settings.supersede or last.was_sent:
            return False  # a paused command may be cancelled, and then neither command would be carried out
        return overwrites(command.spec, last.command.spec)

    def _advance(self, member_queue: MemberQueue, now: float) -> None:
        """Advance the first task of the queue: to its result if it needs no call, else to its endpoint, unless it must stay."""
        while (task := member_queue.first) is not None:
            if task.state is not TaskState.BEHIND:
                return
            if self._settle_without_call(task, now):
                continue
            if not _must_stay(task, now):
                task.move_to(TaskState.WAITING)
                self._changes.append((TaskChange.READY, task))
            return
        if member_queue.last_command is None:
            self._forget_if_idle(member_queue, now)

    def _settle_without_call(self, task: MemberTask, now: float) -> bool:
        """Settle the task whose turn it is if its result is known, it is expired, or its order says so. Return whether it is settled."""
        command = task.command
        result = self._known_result(task, now)
        if result is None and command.last_moment is not None and self.is_expired(task, now):
            result = expired_result(task)
        if result is None and command.policy.ends_at_once:
            self._vacate(task)
            self._complete(task, cancelled_result(task))
            return True
        if result is None and command.policy.simulates:
            result = _stopped_after_unknown_end(task)
        if result is None:
            return False
        self._settle(task, result)
        return True

    def _known_result(self, task: MemberTask, now: float) -> Result | None:
        """Return the result of a task whose command id, or effect, was carried out already; None if it needs a call."""
        command = task.command
        if command.repeat_of is not None:
            done_by = done_for(command.repeat_of, task.user)
            if done_by is not None:
                self.repeated_ids += 1
                return _hide_done_in_shadow(
                    task, Result(task.user, ResultStatus.DUPLICATE, duplicate_of=done_by)
                )
        simulated = None
        if command.policy.simulates and not task.unknown_end:
            simulated = self.applied_states.find(_shadow_key(task), command.effect_key, now)
        state = simulated or self.applied_states.find(task.member_queue.key, command.effect_key, now)
        if state is None or state.during.is_gone:
            return None  # once that assignment is over, another owner may have changed the state
        self.repeated_effects += 1
        if simulated is not None and not command.was_always_in_shadow:
            # Its id is remembered as a live one, and nothing was sent for it: DUPLICATE would say that it was carried out.
            return Result(task.user, ResultStatus.SIMULATED)
        result = Result(task.user, ResultStatus.DUPLICATE, state.request_id, duplicate_of=state.outcome_id)
        return _hide_done_in_shadow(task, result)

    def _note_state(self, task: MemberTask, key: MemberKey, request_id: str | None, now: float) -> None:
        command = task.command
        keep = kept_for(command.spec, self._settings, self._clock.wall(now))
        if keep <= 0:
            self.applied_states.forget(key)
            return
        effect = command.effect_key
        state = AppliedState(effect, now, keep, command.outcome_id, request_id, command.partition)
        self.applied_states.applied(key, state)

    def _settle(self, task: MemberTask, result: Result) -> None:
        task.member_queue.remove(task)
        is_called = task.state is TaskState.CALLED
        self._complete(task, result)
        for follower in task.followers or ():
            assert is_called or task.is_like(follower), "a task in shadow takes along one that is sent"
            self._complete(follower, result)

    def _complete(self, task: MemberTask, result: Result) -> None:
        """Give the task, which is in no member queue any more, its result."""
        if task.settle(result):
            self._completed.append(task.command)

    def _vacate(self, task: MemberTask) -> None:
        """Remove the task from its member queue. Its first follower takes its place."""
        heir = task.bequeath()
        if heir is None:
            task.member_queue.remove(task)
        else:
            task.member_queue.replace(task, heir)

    def _part(self, task: MemberTask) -> None:
        """Part a task from the followers that are not of its kind: they come right behind it."""
        heir = task.part()
        if heir is not None:
            task.member_queue.put_after(task, heir)

    def _cancel(self, task: MemberTask, now: float) -> None:
        """
        Settle a cancelled task; its followers go on without it. A task that follows one in a call is settled with that (or by
        ``regroup``). A task that repeats a command_id waits for its turn, as in ``_expire_task``.
        """
        if task.state is TaskState.COALESCED:
            if not task.is_in_call:
                task.leader.release_follower(task)
                self._complete(task, cancelled_result(task))
        elif task.command.repeat_of is None:
            self._vacate(task)
            self._complete(task, cancelled_result(task))
            self._advance(task.member_queue, now)
        elif task.member_queue.first is task:
            self._advance(task.member_queue, now)

    def _expire_command(self, command: OpenCommand, now: float) -> None:
        """Settle the tasks of an expired command, except those in a call."""
        for task in command.tasks:
            if task.state is TaskState.WAITING:
                self._changes.append((TaskChange.WITHDRAWN, task))
                self.settle(task, expired_result(task), now)
            elif task.state is TaskState.BEHIND:
                self._expire_task(task, now)

    def _expire_task(self, task: MemberTask, now: float) -> None:
        """
        Settle an expired task in its member queue. A task that repeats a command_id waits for its turn all the same: if the id was
        carried out for its user, the outcome must say so, or a third command with that id would be carried out again.
        """
        if task.command.repeat_of is None:
            self.settle(task, expired_result(task), now)
        elif task.member_queue.first is task:
            self._advance(task.member_queue, now)

    def _forget(self, command: OpenCommand, now: float) -> None:
        """Remove a command that is emitted or dropped from its member queues."""
        if command.last_moment is not None:
            self._deadlines.count_finished()
        for task in command.tasks:
            task.member_queue.clear_last(command)
            self._forget_if_idle(task.member_queue, now)

    def _forget_if_idle(self, member_queue: MemberQueue, now: float) -> None:
        if member_queue.is_idle(now) and self._by_key.get(member_queue.key) is member_queue:
            del self._by_key[member_queue.key]

    def __len__(self) -> int:
        return len(self._by_key)


def expired_result(task: MemberTask) -> Result:
    """Make the result of an expired task: FAILED if an unanswered attempt may have taken effect."""
    if task.unknown_end:
        text = "its time was over before an attempt was answered; an earlier one without an answer may have taken effect"
        return Result(task.user, ResultStatus.FAILED, error_info=text)
    if task.command.policy.simulates:  # an expired id is remembered, and shadow must leave no trace
        return Result(
            task.user, ResultStatus.SIMULATED, error_info="its time was over: it would have expired"
        )
    return Result(task.user, ResultStatus.EXPIRED)


def cancelled_result(task: MemberTask) -> Result:
    """Make the result of a cancelled task: FAILED if an unanswered attempt may have taken effect."""
    order = task.command.order
    assert order is not None
    unknown = _stopped_after_unknown_end(task)
    if unknown is not None:
        return unknown
    text = f"cancelled by {order.order.by}: {order.order.reason}"
    return Result(task.user, ResultStatus.CANCELLED, error_info=cut(text))


def _stopped_after_unknown_end(task: MemberTask) -> Result | None:
    """Make the result, FAILED, of a stopped task of which an unanswered attempt may have taken effect; None if none may."""
    if not task.unknown_end:
        return None
    order = task.command.order
    assert order is not None
    text = f"stopped by {order.order.by}; an earlier attempt without an answer may have taken effect"
    return Result(task.user, ResultStatus.FAILED, error_info=cut(text))


def _hide_done_in_shadow(task: MemberTask, result: Result) -> Result:
    """Return the result of a task that needs no call; in shadow SIMULATED in place of one that counts as done: nothing was done."""
    if task.command.policy.simulates and result.status in DONE_FOR_ID:
        return structs.replace(result, status=ResultStatus.SIMULATED)
    return result


def _undecided_before(task: MemberTask) -> MemberTask | None:
    """
    Return the member's last task of the same kind if it can be decided now what becomes of the two.

    None if that one is in a call, or if it is not known yet whether one of them will be sent: decided when the task's turn comes.
    """
    if task.command.repeat_of is not None:
        return None
    last = task.member_queue.last_like(task.command)
    if last is None or last.state is TaskState.CALLED or last.command.repeat_of is not None:
        return None
    return last


def _must_stay(task: MemberTask, now: float) -> bool:
    """
    Return whether the task stays in its member queue although its turn has come: it is paused (until ``apply_order``), or an earlier
    attempt may still act (until ``due``).
    """
    member_queue, command = task.member_queue, task.command
    return command.policy.waits or (
        member_queue.unknown_effect is not None and member_queue.must_wait(command.effect_key, now)
    )


def _shadow_key(task: MemberTask) -> MemberKey:
    app, target, user = task.member_queue.key
    return in_shadow(app), target, user
