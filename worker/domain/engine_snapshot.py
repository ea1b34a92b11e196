# What the engine reports of itself, for metrics and readiness: counters that only rise, and a picture of now.
#
# Nothing decides by these values.

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

from worker.domain.contract.control_records import Order, Scope
from worker.domain.effects import HaltReason


class EventCounts(Struct, frozen=True):
    """
    Events since the start.

    Attributes:
        repeated_records: Records that were done already and were received again (a redelivery).
        repeated_ids: Tasks that were carried out before under the same command id.
        repeated_effects: Tasks whose effect had just been applied.
        coalesced: Tasks that followed another one on its call.
        superseded: Tasks that a later command superseded.
        splits: Bisections that were begun.
        inferred: Members that were refused by inference.
        recalled: Waiting calls that were ended by an outage, a halt or a held target.
        misplaced: Records in the wrong place, by ``Misplacement``: order and deduplication are not promised for them.
        forgotten_ids: Command ids that were forgotten early, because memory ran short.
        forgotten_effects: Applied states that were forgotten early, because memory ran short.
        given_up: Started commands that a drain or handover dropped, for the next owner.
        strange_quota_messages: Records of the quota topic that this build cannot read.
        foreign_metadata: Partitions whose commit had metadata that is not ours, so that it was not believed.

    """

    repeated_records: int = 0
    repeated_ids: int = 0
    repeated_effects: int = 0
    coalesced: int = 0
    superseded: int = 0
    splits: int = 0
    inferred: int = 0
    recalled: int = 0
    misplaced: dict[str, int] = {}
    given_up: int = 0
    forgotten_ids: int = 0
    forgotten_effects: int = 0
    foreign_metadata: int = 0
    strange_quota_messages: int = 0


LimitedBy = Literal[
    "nothing", "quota", "lent", "throttle", "breaker", "halt", "target", "pause", "publishing"
]
"""
What keeps waiting members from being sent. ``lent`` is the quota, while other replicas still have permits of this one; ``target`` is the
bound of a single group or room; ``pause`` is an operator's.
"""
LIMITED_BY: Final[tuple[LimitedBy, ...]] = get_args(LimitedBy)


class EndpointSnapshot(Struct, frozen=True):
    """
    One (app, endpoint) now.

    Attributes:
        limited_by: What keeps waiting members from being sent.
        oldest_age: Seconds that the longest waiting member has waited; 0 if none waits.
        breaker_openings: How often the breaker has opened since the start.

    """

    app: str
    endpoint: str
    waiting: int
    calls: int
    oldest_age: float
    permits_used: int
    permits_granted: int
    permits_owned: int
    permits_lent: int
    permits_borrowed: int
    throttle_factor: float
    limited_by: LimitedBy
    breaker_open: bool
    breaker_openings: int


class OrderSnapshot(Struct, frozen=True):
    """
    One order in force now.

    Attributes:
        commands: For how many open commands it holds.

    """

    scope: Scope
    order: Order
    commands: int


class PartitionSnapshot(Struct, frozen=True):
    """
    One partition now.

    Attributes:
        held_up: Its backlog is not empty, and its oldest open command is paused.

    """

    partition: int
    open: int
    gap: int
    backlog: int
    known_ids: int
    held_up: bool = False


class EngineSnapshot(Struct, frozen=True):
    """
    The engine now.

    Attributes:
        memory: The bytes of each part (the parts of memory_budget.py).

    """

    endpoints: tuple[EndpointSnapshot, ...]
    partitions: tuple[PartitionSnapshot, ...]
    halts: tuple[HaltReason, ...]
    known_effects: int
    unpublished: int
    memory: Mapping[str, int]
    counts: EventCounts
    orders: tuple[OrderSnapshot, ...] = ()
