# What an answer means for the call, its members, its target, its endpoint and its app.
#
# `tried` is told of every request as it ends; `answered` of the call when its client makes no further try. Each verdict
# has one method. What leaves next is dispatch.py's business.

from typing import TYPE_CHECKING, Final

from worker.domain.codes import ALREADY, Verdict, is_platform, mend
from worker.domain.effects import Halt, Notice
from worker.domain.lanes import Flight, Lane, Phase
from worker.domain.outcomes import CallTry, Result, ResultStatus, cut
from worker.domain.splitting import Search
from worker.domain.times import rfc3339
from worker.domain.work import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.clock import Clock
    from worker.domain.dispatch import Dispatch
    from worker.domain.effects import Try
    from worker.domain.lines import Lines
    from worker.domain.queues import Target
    from worker.domain.rules import Rules
    from worker.domain.snapshots import Counts
    from worker.domain.work import Member

LOCKED_FOR: Final = 60.0
"""70050: after too many bad signatures nothing of the app is accepted for a minute."""
LONGEST_PAUSE: Final = 60.0
"""A Retry-After of more is taken for a mistake."""
HELD_FOR: Final = 5.0
"""A single target without permission, and no success of another one for so long: then it is the configuration."""
PROOF_FOR: Final = 5.0
"""For so long the proof that a target itself is at fault is good: after that the configuration may have changed."""
HELD_TARGETS: Final = 2
"""So many targets without permission, with no success between, are the configuration's fault."""
UNKNOWN_TRIES: Final = 3
"""How often a code of no table is tried before it is believed."""
ALONE_TARGETS_FAULT: Final = 2
"""So many members alone with the same ambiguous code, and none of the target passed: it is the target's fault."""


class Answers:
    """
    Draws the consequences of what Tencent, or the lack of an answer, says.
    """

    __slots__ = ("_by_verdict", "_clock", "_counts", "_dispatch", "_lines", "_rules")

    def __init__(
        self, rules: "Rules", clock: "Clock", lines: "Lines", dispatch: "Dispatch", counts: "Counts"
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._lines = lines
        self._dispatch = dispatch
        self._counts = counts
        self._by_verdict: dict[Verdict, Callable[[Flight, Try, float], None]] = {
            Verdict.DONE: self._done,
            Verdict.RETRY: self._gave_up,
            Verdict.TRANSPORT: self._gave_up,
            Verdict.THROTTLE: self._gave_up,
            Verdict.THROTTLE_APP: self._gave_up,
            Verdict.RESIGN: self._gave_up,
            Verdict.UNSENT: self._gave_up,
            Verdict.LOCKED: self._locked,
            Verdict.FATAL: self._fatal,
            Verdict.FORBIDDEN: self._forbidden,
            Verdict.REFUSED: self._refused,
            Verdict.MEMBER: self._member,
            Verdict.AMBIGUOUS: self._member,
            Verdict.UNKNOWN: self._unknown,
        }

    def tried(self, flight: Flight, try_: "Try", now: float) -> None:
        """
        A request of the call has ended.
        """
        lane, target = flight.lane, flight.target
        flight.last = try_
        target.out -= 1
        if try_.verdict is Verdict.UNSENT:
            lane.permits.untake()
        else:
            self._ended(flight, try_, now)
        flight.phase = Phase.BACKING_OFF if try_.verdict.again else Phase.ENDING
        lane.rebound(target, now)

    def may_retry(self, flight: Flight, now: float) -> bool:
        """
        Whether the call may be tried again after its last try, whose verdict allows it.
        """
        lane, try_ = flight.lane, flight.last
        if flight.probe or lane.is_blocked or flight.target.held_at is not None or try_ is None:
            return False
        if all(member.work.dropped for member in flight.members):
            return False
        if try_.verdict is Verdict.UNKNOWN:
            return flight.number < UNKNOWN_TRIES
        if try_.verdict in _NEVER_COUNTS:
            return True
        return not any(self._is_spent(member, lane, now) for member in flight.members)

    def answered(self, flight: Flight, now: float) -> None:
        """
        The call is over, with its last try.
        """
        try_ = flight.last
        assert try_ is not None
        was_probe_of_app = flight.lane.app.probe is flight
        self._dispatch.close(flight, now)
        if flight.probe:
            self._probed(flight, try_, now, was_probe_of_app)
        self._by_verdict[try_.verdict](flight, try_, now)

    def check_held(self, lane: Lane, now: float) -> None:
        """
        Halts the endpoint when it has become clear that the lack of permission is not its targets' fault. Targets that were
        shown to be at fault before are no witnesses against it.
        """
        lane.forget_idle(now)
        if lane.halts.current is not None or not lane.held:
            return
        held = lane.held.values()
        oldest = min(target.held_at for target in held if target.held_at is not None)
        witnesses = sum(target.at_fault_since is None for target in held)
        if witnesses >= HELD_TARGETS or now >= oldest + HELD_FOR:
            self._halt_lane(lane, next(iter(held)), now)

    def _ended(self, flight: Flight, try_: "Try", now: float) -> None:
        lane, target = flight.lane, flight.target
        throttled = try_.verdict in (Verdict.THROTTLE, Verdict.THROTTLE_APP)
        lane.permits.answered(now, accepted=not throttled)
        self._record(flight, try_)
        if throttled:
            self._throttled(lane, try_, now)
        if try_.verdict.answered:
            self._answered_well(flight, try_, now)
        elif try_.verdict in (Verdict.TRANSPORT, Verdict.RETRY):
            target.suspect = True
            was_open = lane.breaker.is_open
            lane.breaker.failed(try_, target.name, flight.members, now)
            if lane.breaker.is_open and not was_open:
                self._notice("breaker.opened", "warning", lane, error_code=try_.error_code, error=try_.error)
                self._dispatch.recall(lane, now)
        elif try_.verdict is Verdict.UNKNOWN and try_.error_code is not None:
            lane.app.unknown_codes.setdefault(try_.error_code, set()).add(target.name)

    def _record(self, flight: Flight, try_: "Try") -> None:
        """
        The try stands in the outcome of every command that it carried.
        """
        call_try = CallTry(
            call_id=flight.call_id,
            endpoint=flight.lane.endpoint,
            sent_at=rfc3339(self._clock.wall(try_.sent_at)),
            elapsed_ms=round((try_.ended_at - try_.sent_at) * 1000, 1),
            members=len(flight.members),
            request_id=try_.request_id,
            http_status=try_.http_status,
            error_code=try_.error_code,
            error_info=cut(try_.error_info) or None,
            error=try_.error,
        )
        for member in flight.members:
            member.work.tried(call_try, try_.sent_at, try_.ended_at)
            for rider in member.riders or ():
                rider.work.tried(call_try, try_.sent_at, try_.ended_at)
            if try_.end_unknown:
                self._lines.ended_unknown(member, try_.ended_at)

    def _throttled(self, lane: Lane, try_: "Try", now: float) -> None:
        lanes = lane.app.lanes if try_.verdict is Verdict.THROTTLE_APP else [lane]
        for each in lanes:
            each.permits.throttled(now)
        if try_.retry_after is not None:
            lane.paused_until = max(lane.paused_until, now + min(try_.retry_after, LONGEST_PAUSE))

    def _answered_well(self, flight: Flight, try_: "Try", now: float) -> None:
        """
        The endpoint did its work: it lives. A success shows also whose fault a lack of permission was.
        """
        lane, target = flight.lane, flight.target
        target.suspect = False
        lane.app.unknown_codes.clear()
        if lane.breaker.succeeded(try_, now):
            self._notice("breaker.closed", "info", lane)
        if try_.verdict is not Verdict.DONE:
            return
        target.alone = None
        target.at_fault_since = None
        if lane.held:
            self._show_fault(lane, target, try_, now)

    def _show_fault(self, lane: Lane, target: "Target", try_: "Try", now: float) -> None:
        """
        A success of one target: those that were refused before it was sent were refused by their own fault. Their members
        are tried once more, and refused if that is refused: what was mended in the meantime costs nobody.
        """
        for held in list(lane.held.values()):
            if held is target or (held.held_at is not None and try_.sent_at > held.held_at):
                if held is not target:
                    held.at_fault_since = now
                lane.release(held, now)
        if not lane.held and lane.halts.resume(now):
            self._notice("endpoint.resumed", "info", lane)

    def _probed(self, flight: Flight, try_: "Try", now: float, was_probe_of_app: bool) -> None:
        """
        A probe has ended: what it has shown to work goes on.
        """
        lane, app = flight.lane, flight.lane.app
        verdict = try_.verdict
        if was_probe_of_app and (verdict.answered or verdict is Verdict.FORBIDDEN) and app.halts.resume(now):
            self._notice("app.resumed", "info", lane)
        if not was_probe_of_app and verdict.answered and lane.halts.resume(now):
            self._notice("endpoint.resumed", "info", lane)
            for held in list(lane.held.values()):
                lane.release(held, now)
        if lane.breaker.is_open:
            if verdict in _STILL_DOWN:
                lane.breaker.probe_failed(now)
            elif lane.breaker.succeeded(try_, now):
                self._notice("breaker.closed", "info", lane)

    def _done(self, flight: Flight, try_: "Try", now: float) -> None:
        for member in flight.members:
            self._lines.applied(member, try_.request_id, self._keep(member, now), now)
        search = flight.search
        if search is None:
            return
        search.passed()
        found = search.found
        if found is None:
            self._search_on(flight, search)
        else:
            self._counts.inferred += 1
            self._alone(flight, found, search.refusal, now, inferred=True)
            flight.lane.queue.wake(search.untested)

    def _keep(self, member: "Member", now: float) -> float:
        """
        For how long a repeat of this effect needs no call: never for an event, at most a tenth of a ban's duration.
        """
        command = member.work.command
        if command.action.kind == "event" or command.duration == 0:
            return 0.0
        keep = self._rules.effect_window
        if command.duration is not None:
            keep = min(keep, command.duration / 10)
        if command.banned_until is not None:
            keep = min(keep, (command.banned_until - self._clock.wall(now)) / 10)
        return keep

    def _gave_up(self, flight: Flight, try_: "Try", now: float) -> None:
        """
        No further try for now: those whose tries are used up have failed, the others go back.
        """
        lane = flight.lane
        members = flight.members
        if flight.search is not None:
            rest = [suspect for suspect in self._dispatch.end_search(flight) if suspect not in members]
            self._dispatch.requeue(lane, rest, now)
        again = []
        for member in members:
            if not lane.is_blocked and self._is_spent(member, lane, now):
                self._fail(member, try_, now)
            else:
                again.append(member)
        self._dispatch.requeue(lane, again, now)

    def _is_spent(self, member: "Member", lane: Lane, now: float) -> bool:
        if member.attempts >= self._rules.max_attempts:
            return True
        limit = self._rules.give_up_after
        return (
            limit is not None
            and member.started_at is not None
            and lane.clock(now) - member.started_at > limit
        )

    def _locked(self, flight: Flight, try_: "Try", now: float) -> None:
        flight.lane.app.locked_until = now + LOCKED_FOR
        self._notice("app.locked", "error", flight.lane, error_code=try_.error_code, seconds=LOCKED_FOR)
        self._back(flight, now)

    def _fatal(self, flight: Flight, try_: "Try", now: float) -> None:
        self._halt_app(flight.lane, try_, now)
        self._back(flight, now)

    def _forbidden(self, flight: Flight, try_: "Try", now: float) -> None:
        """
        No permission: hold the target until it is known whose fault it is, refuse if it is its own.
        """
        lane, target = flight.lane, flight.target
        shown_at = target.at_fault_since
        if shown_at is not None and now <= shown_at + PROOF_FOR and lane.halted_by is None:
            if try_.sent_at >= shown_at:
                self._refused(flight, try_, now)
            else:  # it was on its way when the fault was shown: once more, like the others
                self._back(flight, now)
            return
        target.held_code = try_.error_code
        if target.held_at is None:
            target.held_at = try_.ended_at
        lane.held[target.name] = target
        lane.rebound(target, now)
        self._back(flight, now)
        self._dispatch.recall_target(lane, target, now)
        if lane.halts.current is not None:
            self._halt_lane(lane, target, now)
        else:
            self.check_held(lane, now)

    def _refused(self, flight: Flight, try_: "Try", now: float) -> None:
        if flight.search is not None:
            rest = [suspect for suspect in self._dispatch.end_search(flight) if suspect not in flight.members]
            self._dispatch.requeue(flight.lane, rest, now)
        for member in flight.members:
            self._fail(member, try_, now)

    def _unknown(self, flight: Flight, try_: "Try", now: float) -> None:
        """
        A code of no table, again and again. Of the platform's own ranges it is the configuration's fault once several
        targets got it; any other is searched for like a member's.
        """
        code = try_.error_code
        if code is None or not is_platform(code):
            self._member(flight, try_, now)
        elif len(flight.lane.app.unknown_codes.get(code, ())) > 1 or flight.lane.halted_by is not None:
            self._fatal(flight, try_, now)
        else:
            self._refused(flight, try_, now)

    def _member(self, flight: Flight, try_: "Try", now: float) -> None:
        """
        One member of the batch is at fault: search for it.
        """
        lane, search = flight.lane, flight.search
        if search is None and len(flight.members) == 1:
            self._alone(flight, flight.members[0], try_, now, inferred=False)
            return
        if search is None:
            search = Search(flight.members, try_)
            self._counts.splits += 1
            family = object()
            for member in flight.members:
                member.family = family
        else:
            untested = search.failed(try_)
            lane.queue.rest(untested)
        found = search.found
        if found is None:
            self._search_on(flight, search)
        else:
            self._alone(flight, found, try_, now, inferred=False)
            lane.queue.wake(search.untested)

    def _search_on(self, flight: Flight, search: "Search[Member]") -> None:
        half = self._dispatch.open(flight.lane, flight.target, search.half(), search)
        self._dispatch.asked(half)

    def _alone(self, flight: Flight, member: "Member", try_: "Try", now: float, *, inferred: bool) -> None:
        """
        The code belongs to this member alone.
        """
        action = flight.action.name
        if try_.error_code is not None and (action, try_.error_code) in ALREADY:
            info = cut(try_.error_info) or None
            result = Result(
                member.user,
                ResultStatus.ALREADY_APPLIED,
                try_.request_id,
                try_.error_code,
                info,
                inferred=inferred,
            )
            self._lines.settle(member, result, now)
            return
        self._fail(member, try_, now, inferred=inferred)
        if not inferred and try_.verdict is not Verdict.MEMBER and try_.error_code is not None:
            self._blame_target(flight, member, try_, now)

    def _blame_target(self, flight: Flight, member: "Member", try_: "Try", now: float) -> None:
        """
        An ambiguous code, and a member alone: the second time in a row it is the target's, and refuses the rest of its batch.
        """
        target = flight.target
        code = try_.error_code
        assert code is not None
        alone = target.alone[1] + 1 if target.alone is not None and target.alone[0] == code else 1
        target.alone = (code, alone)
        if alone < ALONE_TARGETS_FAULT or member.family is None:
            return
        lane = flight.lane
        for group in list(target.groups):
            for each in [*group.members, *group.resting]:
                if each.family is member.family and each.state is State.WAITING:
                    lane.queue.remove(each)
                    self._fail(each, try_, now, inferred=True)

    def _fail(self, member: "Member", try_: "Try", now: float, *, inferred: bool = False) -> None:
        info = cut(try_.error_info) or try_.error or "refused without a text"
        result = Result(
            member.user, ResultStatus.FAILED, try_.request_id, try_.error_code, info, inferred=inferred
        )
        self._lines.settle(member, result, now)

    def _back(self, flight: Flight, now: float) -> None:
        members = flight.members if flight.search is None else self._dispatch.end_search(flight)
        self._dispatch.requeue(flight.lane, members, now)

    def _halt_app(self, lane: Lane, try_: "Try", now: float) -> None:
        reason = _reason(try_)
        halt = Halt(
            lane.app.name, None, try_.error_code, reason, mend(try_.error_code, try_.http_status), now
        )
        if lane.app.halts.halt(halt, now):
            self._notice(
                "app.halted", "error", lane, error_code=try_.error_code, reason=reason, mend=halt.mend
            )
            for each in lane.app.lanes:
                self._dispatch.recall(each, now)

    def _halt_lane(self, lane: Lane, target: "Target", now: float) -> None:
        code = target.held_code
        halt = Halt(
            lane.app.name, lane.endpoint, code, f"no permission on {len(lane.held)} targets", mend(code), now
        )
        if lane.halts.halt(halt, now):
            self._notice(
                "endpoint.halted", "error", lane, error_code=code, reason=halt.reason, mend=halt.mend
            )
            self._dispatch.recall(lane, now)

    def _notice(self, event: str, level: str, lane: Lane, **fields: object) -> None:
        self._dispatch.effects.append(
            Notice(event, level, {"app": lane.app.name, "endpoint": lane.endpoint, **fields})
        )


def _reason(try_: "Try") -> str:
    return (
        f"{try_.error_code}: {cut(try_.error_info)}"
        if try_.error_code is not None
        else f"HTTP {try_.http_status}"
    )


_NEVER_COUNTS: Final = frozenset({Verdict.THROTTLE, Verdict.THROTTLE_APP, Verdict.RESIGN, Verdict.UNSENT})
_STILL_DOWN: Final = frozenset({Verdict.TRANSPORT, Verdict.RETRY, Verdict.UNSENT})
