# Bisections in progress: which half goes next, whose code it was in the end, and when it was the target's after all.
#
# How halves are chosen is decided in bad_member_search.py; here the members get their results. What is sent is decided in scheduler.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.calls.bad_member_search import Bisection
from worker.domain.contract.error_codes import ALREADY, Verdict
from worker.domain.contract.outcomes import Result, ResultStatus, cut
from worker.domain.state_transitions import TaskState

if TYPE_CHECKING:
    from worker.domain.calls.in_flight_call import InFlightCall
    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.effects import AttemptResult
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import MemberTask

ALONE_TARGETS_FAULT: Final = 2
"""This many members, each alone in its call, got the same ambiguous code, and no member of the target passed: it is the target's fault."""


class BisectionHandler:
    """
    Finds whose fault a refused call was.

    Attributes:
        begun: Bisections since the start.
        inferred: Members since the start that were refused by inference.

    """

    def __init__(self, ordering: MemberOrdering, scheduler: Scheduler) -> None:
        self._ordering = ordering
        self._scheduler = scheduler
        self.begun = 0
        self.inferred = 0

    def refused(self, call: InFlightCall, result: AttemptResult, now: float) -> None:
        """Search for the member at fault; of a call with one member, the refusal is that member's result."""
        bisection = call.bisection
        if bisection is None and len(call.tasks) == 1:
            self._alone(call, call.tasks[0], result, now)
            return
        if bisection is None:
            bisection = Bisection(call.tasks, result)
            self.begun += 1
            peers = tuple(call.tasks)
            for task in peers:
                task.set_batch_peers(peers)
        else:
            self._scheduler.rest(call.endpoint, bisection.failed(result), now)
        found = bisection.found
        if found is None:
            self._search_on(call, bisection, now)
        else:
            self._alone(call, found, result, now)
            call.endpoint.queue.wake(bisection.untested)

    def worked(self, call: InFlightCall, bisection: Bisection[MemberTask], now: float) -> None:
        """Go on in the other half: this half was applied, so the member at fault is in the other."""
        bisection.worked()
        found = bisection.found
        if found is None:
            self._search_on(call, bisection, now)
        else:
            self.inferred += 1
            self._alone(call, found, bisection.refusal, now, inferred=True)
            call.endpoint.queue.wake(bisection.untested)

    def member_refused(
        self,
        call: InFlightCall,
        task: MemberTask,
        result: AttemptResult,
        now: float,
        *,
        inferred: bool = False,
    ) -> bool:
        """
        Settle a member for which Tencent gave this code: its state was already so, or it has failed and goes alone for a while.

        Return whether it has failed.
        """
        code = result.error_code
        if code is not None and (task.command.spec.action.name, code) in ALREADY:
            info, already = cut(result.error_info) or None, ResultStatus.ALREADY_APPLIED
            self._ordering.settle(
                task, Result(task.user, already, result.request_id, code, info, inferred=inferred), now
            )
            return False
        self.fail(task, result, now, inferred=inferred)
        call.endpoint.app.refused_users.refused(call.target.name, task.user, now)
        return True

    def fail(self, task: MemberTask, result: AttemptResult, now: float, *, inferred: bool = False) -> None:
        """Fail the member, for good."""
        info = cut(result.error_info) or result.error or "refused without a text"
        failed = ResultStatus.FAILED
        self._ordering.settle(
            task,
            Result(task.user, failed, result.request_id, result.error_code, info, inferred=inferred),
            now,
        )

    def _search_on(self, call: InFlightCall, bisection: Bisection[MemberTask], now: float) -> None:
        endpoint, target = call.endpoint, call.target
        if endpoint.only_probes_may_go or target.held_at is not None:
            # No call may wait for a permit now: put the suspects back into their queue, as `cancel_waiting` does.
            endpoint.queue.wake(bisection.untested)
            self._scheduler.requeue(endpoint, bisection.suspects, now)
            return
        # Where a member alone got the same code, and nothing was applied since, it may be the target's fault: a second member tells.
        alone = target.refused_alone
        is_doubted = alone is not None and alone[0] == bisection.refusal.error_code
        tasks = bisection.one() if is_doubted else bisection.half()
        endpoint.request_permit(self._scheduler.begin(endpoint, target, tasks, bisection))

    def _alone(
        self,
        call: InFlightCall,
        task: MemberTask,
        result: AttemptResult,
        now: float,
        *,
        inferred: bool = False,
    ) -> None:
        """Settle the member that the code belongs to, and draw the conclusion for its target."""
        code, peers = result.error_code, task.batch_peers
        has_failed = self.member_refused(call, task, result, now, inferred=inferred)
        if not has_failed or inferred or code is None or result.verdict is Verdict.MEMBER:
            is_targets_fault = False
        else:
            is_targets_fault = call.target.count_refused_alone(code) >= ALONE_TARGETS_FAULT
        if not is_targets_fault:
            call.endpoint.queue.learn(call.target.queue, bad=1)
        elif peers is not None:  # a refusal of the target says nothing about its members
            self._refuse_peers(call, peers, result, now)

    def _refuse_peers(
        self, call: InFlightCall, peers: tuple[MemberTask, ...], result: AttemptResult, now: float
    ) -> None:
        """Fail the waiting tasks of the refused batch, except those that an order withholds now."""
        for peer in peers:
            if (
                peer.batch_peers is peers
                and peer.state is TaskState.WAITING
                and not peer.command.policy.withholds
            ):
                call.endpoint.queue.remove(peer)
                self.fail(peer, result, now, inferred=True)
