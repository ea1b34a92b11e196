# Searches in progress: which half goes next, whose code it was in the end, and when it was the target's after all.
#
# How halves are chosen stands in bisection.py; here the members get their results. What leaves is scheduler.py's business.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.domain.calls.bisection import Bisection
from worker.domain.contract.codes import ALREADY, Verdict
from worker.domain.contract.outcomes import Result, ResultStatus, cut
from worker.domain.progress.open_commands import TaskState

if TYPE_CHECKING:
    from worker.domain.calls.endpoint_state import InFlightCall
    from worker.domain.calls.scheduler import Scheduler
    from worker.domain.calls.target_queue import TargetQueue
    from worker.domain.effects import AttemptResult
    from worker.domain.progress.member_ordering import MemberOrdering
    from worker.domain.progress.open_commands import MemberTask
    from worker.domain.snapshots import Counts

ALONE_TARGETS_FAULT: Final = 2
"""So many members alone with the same ambiguous code, and none of the target passed: it is the target's fault."""


class BisectionHandler:
    """Finds whose fault a refused call was."""

    __slots__ = ("_counts", "_dispatch", "_lines")

    def __init__(self, lines: MemberOrdering, dispatch: Scheduler, counts: Counts) -> None:
        self._lines = lines
        self._dispatch = dispatch
        self._counts = counts

    def refused(self, flight: InFlightCall, try_: AttemptResult, now: float) -> None:
        """One member of the call is at fault: for a member alone that is its result, else it is searched for."""
        lane, search = flight.lane, flight.search
        if search is None and len(flight.members) == 1:
            self._alone(flight, flight.members[0], try_, now)
            return
        if search is None:
            search = Bisection(flight.members, try_)
            self._counts.splits += 1
            family = tuple(flight.members)
            for member in family:
                member.family = family
        else:
            self._dispatch.rest(lane, search.failed(try_), now)
        found = search.found
        if found is None:
            self._search_on(flight, search, now)
        else:
            self._alone(flight, found, try_, now)
            lane.queue.wake(search.untested)

    def passed(self, flight: InFlightCall, now: float) -> None:
        """The call was applied. If it was a half, the one at fault is in the other."""
        search = flight.search
        if search is None:
            return
        search.passed()
        found = search.found
        if found is None:
            self._search_on(flight, search, now)
        else:
            self._counts.inferred += 1
            self._alone(flight, found, search.refusal, now, inferred=True)
            flight.lane.queue.wake(search.untested)

    def fail(self, member: MemberTask, try_: AttemptResult, now: float, *, inferred: bool = False) -> None:
        """The member has failed, for good."""
        info = cut(try_.error_info) or try_.error or "refused without a text"
        failed = ResultStatus.FAILED
        result = Result(member.user, failed, try_.request_id, try_.error_code, info, inferred=inferred)
        self._lines.settle(member, result, now)

    def _search_on(self, flight: InFlightCall, search: Bisection[MemberTask], now: float) -> None:
        lane, target = flight.lane, flight.target
        if lane.is_blocked or target.held_at is not None:
            # No call may wait for a permit now: those still suspected go back, as after a recall.
            flight.search = search
            self._dispatch.back(flight, now)
        else:
            # Where a member alone had the same code, and nothing has passed since, it may be the target's: a second one tells.
            is_doubted = target.alone is not None and target.alone[0] == search.refusal.error_code
            members = search.one() if is_doubted else search.half()
            self._dispatch.asked(self._dispatch.open(lane, target, members, search))

    def _alone(
        self,
        flight: InFlightCall,
        member: MemberTask,
        try_: AttemptResult,
        now: float,
        *,
        inferred: bool = False,
    ) -> None:
        """The code belongs to this member alone."""
        code = try_.error_code
        if code is not None and (member.work.command.action.name, code) in ALREADY:
            info = cut(try_.error_info) or None
            already = ResultStatus.ALREADY_APPLIED
            result = Result(member.user, already, try_.request_id, code, info, inferred=inferred)
            flight.lane.queue.learn(flight.target, bad=1)
            self._lines.settle(member, result, now)
            return
        family = member.family
        self.fail(member, try_, now, inferred=inferred)
        if (
            inferred
            or try_.verdict is Verdict.MEMBER
            or code is None
            or not self._is_targets(flight.target, code)
        ):
            flight.lane.queue.learn(flight.target, bad=1)
        elif family is not None:
            self._refuse_rest(flight, family, try_, now)

    def _is_targets(self, target: TargetQueue, code: int) -> bool:
        """An ambiguous code, and a member alone: the second time in a row it is the target's. That says nothing about members."""
        before = target.alone[1] if target.alone is not None and target.alone[0] == code else 0
        target.alone = (code, before + 1)
        return before + 1 >= ALONE_TARGETS_FAULT

    def _refuse_rest(
        self, flight: InFlightCall, family: tuple[MemberTask, ...], try_: AttemptResult, now: float
    ) -> None:
        """What waits of the batch is refused with the member that was alone."""
        for each in family:
            if each.family is family and each.state is TaskState.WAITING:
                flight.lane.queue.remove(each)
                self.fail(each, try_, now, inferred=True)
