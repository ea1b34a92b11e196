# The state of one group or room on one endpoint: how many of its requests are in flight, and what its answers taught.
#
# A question or a note each; what an answer means is decided in response_handler.py and halt_handler.py.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.domain.calls.endpoint_queue import TargetQueue
    from worker.domain.effects import AttemptResult


class TargetState:
    """
    The state of one group or room on one endpoint.

    Attributes:
        name: The group's or room's id.
        queue: Its waiting tasks.
        out: How many of its requests are in flight: sent and not answered.
        calls: How many of its calls are not over.
        is_suspect: Its last attempt had no answer or a retry code.
        held_at: When it was refused, perhaps not by its own fault; until it is known whose fault that was, nothing is sent. None: not
            held.
        refusal: The refusal for which it is held: the first, if there were others meanwhile.
        refused_probes: How many of its probes were refused since it is held.
        at_fault_since: When a success of another target showed that the refusal was this target's own fault; None: none did, or a
            request of this target was applied since.
        fault: That refusal.
        probed_at: When it was last probed, for taking turns.
        refused_alone: The code that a member alone in its call got, and how often in a row; None once a request of the target was applied.

    """

    __slots__ = (
        "at_fault_since",
        "calls",
        "fault",
        "held_at",
        "is_suspect",
        "name",
        "out",
        "probed_at",
        "queue",
        "refusal",
        "refused_alone",
        "refused_probes",
    )

    def __init__(self, queue: TargetQueue) -> None:
        self.name = queue.name
        self.queue = queue
        self.out = 0
        self.calls = 0
        self.is_suspect = False
        self.held_at: float | None = None
        self.refusal: AttemptResult | None = None
        self.refused_probes = 0
        self.at_fault_since: float | None = None
        self.fault: AttemptResult | None = None
        self.probed_at = 0.0
        self.refused_alone: tuple[int, int] | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it was never held, as far as is known."""
        return self.held_at is None and self.at_fault_since is None

    @property
    def has_work(self) -> bool:
        """Whether it has waiting tasks or calls."""
        return bool(self.queue.groups_by_level) or self.calls > 0

    @property
    def is_idle(self) -> bool:
        """Whether it may be forgotten."""
        return self.held_at is None and not self.has_work

    def call_opened(self) -> None:
        """Count a new call."""
        self.calls += 1

    def call_closed(self) -> None:
        """Count a call that is over."""
        self.calls -= 1
        assert self.calls >= 0

    def request_sent(self) -> None:
        """Count a request that is sent."""
        self.out += 1

    def request_ended(self) -> None:
        """Count a request that was answered, failed, or was not sent after all."""
        self.out -= 1
        assert self.out >= 0

    def probed(self, now: float) -> None:
        """Note that it is probed now."""
        self.probed_at = now

    def suspect(self) -> None:
        """Note an attempt without an answer, or with a retry code."""
        self.is_suspect = True

    def trust(self) -> None:
        """Note an attempt that was answered."""
        self.is_suspect = False

    def took_effect(self) -> None:
        """Note a request that was applied: the target is not at fault."""
        self.refused_alone = None
        self.at_fault_since = None

    def hold(self, refusal: AttemptResult, *, of_probe: bool) -> None:
        """Hold it for this refusal."""
        self.refused_probes += of_probe
        if self.held_at is None:
            self.held_at = refusal.ended_at
            self.refusal = refusal

    def release(self, at_fault_since: float | None) -> None:
        """Hold it no longer. ``at_fault_since``: when it was shown to be at fault itself; None: it was not."""
        self.held_at = None
        self.refused_probes = 0
        if at_fault_since is not None:
            self.at_fault_since = at_fault_since
            self.fault = self.refusal

    def count_refused_alone(self, code: int) -> int:
        """Count a member alone in its call that got this code. Return how many did in a row."""
        before = (
            self.refused_alone[1] if self.refused_alone is not None and self.refused_alone[0] == code else 0
        )
        self.refused_alone = (code, before + 1)
        return before + 1

    def has_room(self, bound: int) -> bool:
        """Return whether a call of it that waits for a permit may send another request."""
        return self.held_at is None and self.out < (1 if self.is_suspect else bound)

    def is_blocked(self, bound: int) -> bool:
        """Return whether no further call of it may begin: a hanging target must not take all permits."""
        return self.held_at is not None or self.out >= bound or (self.is_suspect and self.calls > 0)

    def __repr__(self) -> str:
        return f"<TargetState {self.name}, {self.out} out, {self.calls} calls>"
