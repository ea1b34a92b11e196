# One call that is not over: its tasks, its attempts, and the bisection that it is a part of.
#
# It moves itself (state_transitions.py); when, is decided in scheduler.py and response_handler.py.

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.domain.state_transitions import CALL_STEPS, CallState, TaskState

if TYPE_CHECKING:
    from worker.domain.calls.bad_member_search import Bisection
    from worker.domain.calls.endpoint_state import EndpointState
    from worker.domain.calls.rate_limiter import Permit
    from worker.domain.calls.target_state import TargetState
    from worker.domain.progress.open_commands import MemberTask


class InFlightCall:
    """
    One call that is not over.

    Attributes:
        number: How many attempts it has had.
        bisection: The bisection that it is a half of; None if it is of none.
        doubted_at: When the first of its attempts that got an unlisted code ended; None: none did.
        effect_before: Its endpoint's ``last_applied_sent_at`` when its latest attempt took a permit.
        permit: The permit of its latest attempt, taken at ``permitted_at``.
        is_probe: It tests whether a gate may open, with one attempt only.

    """

    __slots__ = (
        "bisection",
        "call_id",
        "doubted_at",
        "effect_before",
        "endpoint",
        "is_probe",
        "number",
        "permit",
        "permitted_at",
        "state",
        "target",
        "tasks",
    )
    permit: Permit

    def __init__(
        self,
        call_id: str,
        endpoint: EndpointState,
        target: TargetState,
        tasks: list[MemberTask],
        bisection: Bisection[MemberTask] | None = None,
        *,
        is_probe: bool = False,
    ) -> None:
        assert {task.state for task in tasks} <= {TaskState.CALLED}
        self.call_id = call_id
        self.endpoint = endpoint
        self.target = target
        self.tasks = tasks
        self.bisection = bisection
        self.doubted_at: float | None = None
        self.effect_before = float("-inf")
        self.number = 0
        self.permitted_at = 0.0
        self.state = CallState.AWAITING_PERMIT
        self.is_probe = is_probe

    def move_to(self, state: CallState) -> None:
        """Take a step of the table."""
        assert state in CALL_STEPS[self.state], f"{self!r} cannot become {state.value}"
        self.state = state

    def begin_attempt(self, permit: Permit, now: float) -> None:
        """Begin its next attempt."""
        self.move_to(CallState.OUT)
        self.permitted_at = now
        self.effect_before = self.endpoint.last_applied_sent_at
        self.number += 1
        self.permit = permit

    def doubt(self, at: float) -> None:
        """Note when an attempt that got an unlisted code ended: the first one counts."""
        self.doubted_at = at if self.doubted_at is None else self.doubted_at

    def keep(self, tasks: list[MemberTask]) -> None:
        """Go on with these of its tasks."""
        self.tasks = tasks

    def end_bisection(self) -> Bisection[MemberTask] | None:
        """Part it from its bisection, if it is a half of one. Return that."""
        bisection, self.bisection = self.bisection, None
        return bisection

    @property
    def waits(self) -> bool:
        """Whether it holds neither a permit nor a connection."""
        return self.state in (CallState.AWAITING_PERMIT, CallState.BACKING_OFF)

    def __repr__(self) -> str:
        return f"<InFlightCall {self.call_id} to {self.target.name}, {len(self.tasks)} members, {self.state.value}>"
