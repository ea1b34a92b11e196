# The metrics of this process: registered from the one table (metric_table.py), moved by what happens.
#
# Counters move where a thing happens, through children that are bound once; gauges are set once a second from a
# snapshot. Nothing here decides. Counters may be moved from any thread; observe() belongs to the loop's.

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Final, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from worker import __version__
from worker.domain.contract.actions import ACTIONS, ENDPOINTS
from worker.domain.contract.codes import VERDICTS, Verdict
from worker.domain.contract.commands import REJECTIONS
from worker.domain.contract.outcomes import Status
from worker.domain.contract.placement import Misplacement
from worker.domain.memory import BUDGET_MIB, MEBIBYTE, PARTS, share
from worker.runtime.metric_table import LIMITED_BY, PREFIX, ROWS, Rebalance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.domain.contract.outcomes import Outcome
    from worker.domain.effects import Attempt, AttemptResult, Transaction
    from worker.domain.snapshots import Counts, EndpointSnapshot, PartitionSnapshot, Snapshot

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

WHOLE_APP: Final = "*"
"""The label ``endpoint`` of a halt that concerns all endpoints of an app."""

_CODES: Final = frozenset({*REJECTIONS, "no_answer", *map(str, VERDICTS)})
_MEMBERS_PER_CALL: Final = {
    endpoint: max(row.members_per_call for row in ACTIONS.values() if row.endpoint == endpoint)
    for endpoint in ENDPOINTS
}
_COUNTS: Final = {
    "splits": "splits",
    "inferred": "inferred",
    "recalled": "recalled",
    "given_up": "given_up",
    "foreign_metadata": "foreign_metadata",
}
_DEDUPE: Final = {
    "repeated_records": "record",
    "repeated_ids": "command_id",
    "repeated_effects": "effect",
    "coalesced": "coalesced",
    "superseded": "superseded",
}
"""Counts of the engine -> the kind of a dedupe hit."""
_FORGOTTEN: Final = {"forgotten_ids": "ids", "forgotten_effects": "applied"}
"""Counts of the engine -> the part of memory that was full."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """
    What the loop knows and the engine does not, at one moment.

    Attributes:
        pulse_age: Seconds since the loop last went round.
        lags: Partition -> records in Kafka behind the committed offset.
        signatures: App -> (seconds since its signature was made, seconds until it would expire).
        lines_dropped: Lines of the log that were lost since the start.
        doubts: Partitions that wait for a person to say where to go on.
        refused: The kinds of what Kafka refuses for so long that it is an obstacle.

    """

    pulse_age: float
    ready: bool
    lags: Mapping[int, int] = field(default_factory=dict)
    signatures: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    lines_dropped: int = 0
    doubts: int = 0
    refused: frozenset[str] = frozenset()


class Metrics:
    """
    Every metric of the table, on a registry of its own.

    ``apps`` are the configured ones: what can be counted of them stands at 0 from the start, so that a first event is an
    increase. ``window`` is the seconds for which a request keeps its permit, for the estimate of the work that waits;
    ``memory_budget`` the bytes that all parts of memory share.
    """

    def __init__(
        self, apps: Iterable[str] = (), *, window: float = 1.0, memory_budget: int = BUDGET_MIB * MEBIBYTE
    ) -> None:
        self.registry: Final = CollectorRegistry(auto_describe=True)
        self._metrics: Final = _registered(self.registry)
        self._children: dict[tuple[str, ...], Any] = {}
        self._window = window
        self._counts: dict[str, int] = {}
        self._openings: dict[tuple[str, str], int] = {}
        self._shown: dict[str, set[tuple[str, ...]]] = {}
        self._batched: dict[str, tuple[int, int]] = {}
        self._fill: dict[str, float] = {}
        self._child("build_info", __version__, platform.python_version()).set(1)
        for part in PARTS:
            self._child("memory_budget_bytes", part).set(share(part, memory_budget))
        self._begin_at_zero(apps)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def text(self) -> bytes:
        """What /metrics answers, as ``CONTENT_TYPE``."""
        return generate_latest(self.registry)

    def received(self, records: int) -> None:
        """So many records were read from the command topic."""
        self._child("records").inc(records)

    def started(self, send: Attempt) -> None:
        """A call starts with this first try."""
        self._child("batch_members", send.endpoint).observe(send.members)
        members, calls = self._batched.get(send.endpoint, (0, 0))
        self._batched[send.endpoint] = (members + send.members, calls + 1)

    def tried(self, send: Attempt, try_: AttemptResult) -> None:
        """A request ended."""
        self._child("tries", send.app, send.endpoint, try_.verdict.value).inc()
        self._child("try_seconds", send.endpoint).observe(try_.ended_at - try_.sent_at)
        if send.number > 1:
            self._child("retries", send.app, send.endpoint).inc()

    def called(self, send: Attempt, verdict: Verdict, seconds: float) -> None:
        """A call ended with this verdict, so many seconds after its first request."""
        self._child("calls", send.app, send.endpoint, verdict.value).inc()
        self._child("call_seconds", send.endpoint).observe(seconds)

    def published(self, transaction: Transaction, seconds: float) -> None:
        """A transaction was committed: its outcomes and dead letters can be read."""
        for outcome in transaction.outcomes:
            self._outcome(outcome.outcome)
        for letter in transaction.dead_letters:
            self._child("dead_letters", _code(letter.error_code)).inc()
        self._child("transactions", "committed").inc()
        self._child("transaction_seconds").observe(seconds)
        self._child("transaction_records").observe(len(transaction.outcomes) + len(transaction.dead_letters))

    def aborted(self, seconds: float) -> None:
        """A transaction was aborted; its results go into a later one."""
        self._child("transactions", "aborted").inc()
        self._child("transaction_seconds").observe(seconds)

    def rebalanced(self, kind: Rebalance, partitions: int) -> None:
        """So many partitions were ``assigned``, ``revoked`` or ``lost``."""
        self._child("rebalances", kind).inc(partitions)

    def handed_over(self, seconds: float) -> None:
        """A handover ended."""
        self._child("handover_seconds").observe(seconds)

    def restored(self, seconds: float) -> None:
        """What is known of a partition was read back."""
        self._child("restore_seconds").observe(seconds)

    def out_of_range(self) -> None:
        """A committed offset was no longer in Kafka."""
        self._child("offsets_out_of_range").inc()

    def observe(self, snapshot: Snapshot, vitals: Vitals) -> None:
        """Once a second: the picture of now. What is gone since the last one (a partition, an app's signature) disappears."""
        for lane in snapshot.endpoints:
            self._lane(lane)
        halted: dict[tuple[str, ...], float] = {
            (lane.app, part): 0.0 for lane in snapshot.endpoints for part in (WHOLE_APP, lane.endpoint)
        }
        halted |= {(halt.app, halt.endpoint or WHOLE_APP): 1.0 for halt in snapshot.halts}
        self._show("halted", halted)
        self._partitions(snapshot.partitions, vitals.lags)
        self._show("signature_age_seconds", {(app,): age for app, (age, _) in vitals.signatures.items()})
        self._show(
            "signature_expires_seconds", {(app,): left for app, (_, left) in vitals.signatures.items()}
        )
        self._show("kafka_refused", {(kind,): 1.0 for kind in vitals.refused})
        for key, value in (
            ("known_effects", snapshot.known_effects),
            ("unpublished_commands", snapshot.unpublished),
            ("ready", int(vitals.ready)),
            ("partitions_in_doubt", vitals.doubts),
            ("pulse_age_seconds", vitals.pulse_age),
        ):
            self._child(key).set(value)
        self._show("memory_bytes", {(part,): size for part, size in snapshot.memory.items()})
        self._count(snapshot.counts)
        self._child("log_lines_dropped").inc(self._risen("lines_dropped", vitals))

    def _begin_at_zero(self, apps: Iterable[str]) -> None:
        sets: dict[str, Iterable[str]] = {
            "app": tuple(apps),
            "endpoint": ENDPOINTS,
            "action": ACTIONS,
            "status": [status.value for status in Status],
            "verdict": [verdict.value for verdict in Verdict],
            "kind": _DEDUPE.values(),
        }
        for row in ROWS:
            if (
                row.type == "counter"
                and row.labels
                and all(label in sets for label in row.labels)
                and row.key != "rebalances"
            ):
                for labels in product(*(sets[label] for label in row.labels)):
                    self._child(row.key, *labels)
        for kind in get_args(Rebalance):
            self._child("rebalances", kind)
        for part in _FORGOTTEN.values():
            self._child("forgotten", part)
        for reason in Misplacement:
            self._child("misplaced_records", reason.value)
        for result in ("committed", "aborted"):
            self._child("transactions", result)

    def _outcome(self, outcome: Outcome) -> None:
        action = outcome.action if outcome.action in ACTIONS else "none"
        self._child("commands", action, outcome.status.value).inc()
        self._child("command_seconds", action).observe(
            (outcome.queued_ms + (outcome.calling_ms or 0.0)) / 1000
        )
        for result in outcome.results:
            code = "0" if result.error_code is None else _code(str(result.error_code))
            self._child("members", action, result.status.value, code).inc()

    def _lane(self, lane: EndpointSnapshot) -> None:
        where = (lane.app, lane.endpoint)
        for key, value in (
            ("waiting_members", lane.waiting),
            ("oldest_waiting_seconds", lane.oldest_age),
            ("open_calls", lane.calls),
            ("permits_used", lane.permits_used),
            ("permits_granted", lane.permits_granted),
            ("permits_owned", lane.permits_owned),
            ("throttle_factor", lane.throttle_factor),
            ("breaker_open", int(lane.breaker_open)),
            ("work_seconds", self._work(lane)),
        ):
            self._child(key, *where).set(value)
        for reason in LIMITED_BY:
            self._child("limited_by", *where, reason).set(lane.limited_by == reason)
        self._child("breaker_openings", *where).inc(lane.breaker_openings - self._openings.get(where, 0))
        self._openings[where] = lane.breaker_openings

    def _work(self, lane: EndpointSnapshot) -> float:
        members, calls = self._batched.pop(lane.endpoint, (0, 0))
        if calls:
            self._fill[lane.endpoint] = members / calls
        if not lane.waiting:
            return 0.0
        fill = self._fill.get(lane.endpoint, _MEMBERS_PER_CALL.get(lane.endpoint, 1))
        rate = lane.permits_granted * fill / self._window
        return lane.waiting / rate if rate else float("inf")

    def _partitions(self, partitions: Iterable[PartitionSnapshot], lags: Mapping[int, int]) -> None:
        now = {str(item.partition): item for item in partitions}
        for key, value in (
            ("known_ids", "known_ids"),
            ("open_commands", "open"),
            ("gap_offsets", "gap"),
            ("backlog_records", "backlog"),
        ):
            self._show(key, {(number,): getattr(item, value) for number, item in now.items()})
        self._show("lag_records", {(str(number),): lag for number, lag in lags.items()})

    def _count(self, counts: Counts) -> None:
        for attribute, key in _COUNTS.items():
            self._child(key).inc(self._risen(attribute, counts))
        for attribute, part in _FORGOTTEN.items():
            self._child("forgotten", part).inc(self._risen(attribute, counts))
        for attribute, kind in _DEDUPE.items():
            self._child("dedupe_hits", kind).inc(self._risen(attribute, counts))
        for reason in Misplacement:
            self._child("misplaced_records", reason.value).inc(
                self._rise(reason, counts.misplaced.get(reason, 0))
            )

    def _risen(self, attribute: str, counts: Counts | Vitals) -> int:
        return self._rise(attribute, getattr(counts, attribute))

    def _rise(self, name: str, value: int) -> int:
        risen = value - self._counts.get(name, 0)
        self._counts[name] = value
        return risen

    def _show(self, key: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Sets these children, and removes those that were set before and are not among them."""
        for labels in self._shown.get(key, set()) - values.keys():
            self._metrics[key].remove(*labels)
            self._children.pop((key, *labels), None)
        for labels, value in values.items():
            self._child(key, *labels).set(value)
        self._shown[key] = set(values)

    def _child(self, key: str, *labels: str) -> Any:
        name = (key, *labels)
        child = self._children.get(name)
        if child is None:
            metric = self._metrics[key]
            child = self._children[name] = metric.labels(*labels) if labels else metric
        return child

    def __repr__(self) -> str:
        return f"<Metrics of {len(self._metrics)} rows, {len(self._children)} children>"


def _registered(registry: CollectorRegistry) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for row in ROWS:
        name, about = f"{PREFIX}{row.key}", f"{row.meaning} [{row.unit}]"
        if row.type == "counter":
            metrics[row.key] = Counter(name, about, row.labels, registry=registry)
        elif row.type == "gauge":
            metrics[row.key] = Gauge(name, about, row.labels, registry=registry)
        else:
            metrics[row.key] = Histogram(name, about, row.labels, registry=registry, buckets=row.buckets)
    return metrics


def _code(code: str) -> str:
    return code if code in _CODES else "other"
