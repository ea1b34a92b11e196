# The settings by which the engine decides, which it gets once, at the start, already validated.
#
# Durations are float seconds. The names follow the settings; the reasons for the defaults are in worker/settings.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.domain.memory_budget import BUDGET_MIB, MEBIBYTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.domain.contract.outcomes import Worker
    from worker.domain.runaway_guards import RunawayGuard

WINDOW: Final = 1.0
"""Seconds for which the server counts a request."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """
    Attributes:
        topic_id: The cluster's id of the command topic, which another topic of that name would not have; None if it gives none.
        partitions: How many partitions the command topic has; the quota is sliced by it.
        owner_mark: The mark of this static member in its commits; empty for a dynamic member.
        apps: The configured apps: name -> the admin's identifier, to which no action is ever applied.
        calls_per_second: The quota of each endpoint that differs from ``default_calls_per_second``.
        urgent_share: The most of an endpoint's batches that urgent commands may have while others wait.
        window: How long a permit stays taken: one second, plus the margin when it counts from sending.
        window_from_send: Whether that second counts from the sending (distant regions) and not from the answer.
        reasons_matter: Whether commands with different reasons must not share a call.
        all_effects: Whether a repeat of an effect counts as done also where others than this worker change the state.
        memory_budget: Bytes that may be taken in all, shared out in memory_budget.py.
        shadow: Whether no request is sent, and all else is done as usual.
        quota_pools: App -> the name of its quota among the replicas that lend permits to each other; empty: no permits are lent.
        guards: Which scopes are stopped by themselves, and above which limit.
        give_up_after: How long a member may be tried before it fails, outages not counted; None: only ``max_attempts`` ends it.

    """

    topic: str
    partitions: int
    apps: Mapping[str, str]
    default_app: str | None
    worker: Worker
    protected_users: frozenset[str] = frozenset()
    default_calls_per_second: int = 200
    calls_per_second: Mapping[str, int] = field(default_factory=dict)
    window: float = WINDOW
    window_from_send: bool = False
    overdue_after: float = 1.0
    urgent_share: float = 0.5
    reasons_matter: bool = True
    dedupe_window: float = 3600.0
    restore_records: int = 5000
    effect_window: float = 60.0
    all_effects: bool = False
    supersede: bool = True
    max_attempts: int = 8
    give_up_after: float | None = 600.0
    max_gap: int = 20_000
    memory_budget: int = BUDGET_MIB * MEBIBYTE
    topic_id: str | None = None
    owner_mark: str = ""
    shadow: bool = False
    guards: Sequence[RunawayGuard] = ()
    quota_pools: Mapping[str, str] = field(default_factory=dict)
