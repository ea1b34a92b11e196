# The metrics of this process, registered from the one table (metric_table.py).
#
# Counters move when something happens, through children that are looked up once; gauges are set once a second from a
# snapshot. Counters may be moved from any thread; observe() belongs to the loop's thread.
# Not here: which metrics there are (metric_table.py), serving them (status_server.py).

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
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from worker import __version__
from worker.domain.contract.actions import ACTIONS, ENDPOINTS, MEMBERS_PER_CALL
from worker.domain.contract.control_records import BY_GUARD, BY_SETTINGS, OrderState
from worker.domain.contract.error_codes import VERDICTS, Verdict
from worker.domain.contract.outcomes import DEAD_LETTERED, NO_ANSWER, Status
from worker.domain.contract.placement_check import Misplacement
from worker.domain.contract.rejections import REJECTIONS
from worker.domain.contract.timestamps import instant_of
from worker.domain.engine_snapshot import LIMITED_BY, EventCounts
from worker.domain.memory_budget import BUDGET_MIB, MEBIBYTE, PARTS, share
from worker.runtime.metric_table import ORDERED_BY, PREFIX, ROWS, Rebalance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.domain.contract.outcomes import Outcome, ResultStatus
    from worker.domain.effects import Attempt, AttemptResult, Transaction
    from worker.domain.engine_snapshot import (
        EndpointSnapshot,
        EngineSnapshot,
        OrderSnapshot,
        PartitionSnapshot,
    )

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

WHOLE_APP: Final = "*"
"""The label ``endpoint`` of a halt of a whole app."""

_CODES: Final = frozenset({*REJECTIONS, NO_ANSWER, *DEAD_LETTERED, *map(str, VERDICTS)})
"""Of dead letters and results; any other is shown as ``other``. A cancelled command's code is its status."""
_COUNTS: Final = tuple(row.key for row in ROWS if row.key in EventCounts.__struct_fields__ and not row.labels)
"""Counts of the engine that are a metric of the same name."""
_DEDUPE: Final = {
    "repeated_records": "record",
    "repeated_ids": "command_id",
    "repeated_effects": "effect",
    "coalesced": "coalesced",
    "superseded": "superseded",
}
"""Count of the engine -> kind of a dedupe hit."""
_NOT_PEOPLE: Final = frozenset({BY_GUARD, BY_SETTINGS})
_FORGOTTEN: Final = {"forgotten_ids": "ids", "forgotten_effects": "applied"}
"""Count of the engine -> part of memory that was full."""


@dataclass(frozen=True, slots=True)
class LoopSnapshot:
    """
    What the loop knows at one moment and the engine does not.

    Attributes:
        pulse_age: Seconds since the loop last ran.
        ready: Whether /readyz answers 200.
        lags: Partition -> records in Kafka after the committed offset.
        signatures: App -> (seconds since its signature was made, seconds until it expires).
        lines_dropped: Log lines lost since the start.
        partitions_in_doubt: Partitions that wait for a person to decide where to resume.
        refused: The kinds of requests that Kafka has refused for long enough to be an obstacle.
        wall: Now, in seconds since 1970.
        unreadable_orders: Records of the control topic that could not be read, since the start.

    """

    pulse_age: float
    ready: bool
    lags: Mapping[int, int] = field(default_factory=dict)
    signatures: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    lines_dropped: int = 0
    partitions_in_doubt: int = 0
    refused: frozenset[str] = frozenset()
    wall: float = 0.0
    unreadable_orders: int = 0


class Metrics:
    """
    Every metric of the table, on a registry of its own.

    Counters of the configured ``apps`` start at 0 instead of missing, so that a first event is an increase. ``window`` is how
    many seconds a request keeps its permit, for the estimate of ``work_seconds``; ``memory_budget`` the bytes that all parts
    of memory share.
    """

    def __init__(
        self, apps: Iterable[str] = (), *, window: float = 1.0, memory_budget: int = BUDGET_MIB * MEBIBYTE
    ) -> None:
        # When a series began, as another series: 40 % of all, and nobody asks for it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry: Final = CollectorRegistry(auto_describe=True)
        self._metrics: Final = _registered(self.registry)
        self._children: dict[tuple[str, ...], Any] = {}
        self._window = window
        self._counts: dict[str, int] = {}
        self._openings: dict[tuple[str, str], int] = {}
        self._shown: dict[str, set[tuple[str, ...]]] = {}
        # Per endpoint: (members, calls) started since the last observe(), and the last known members per call.
        self._batched: dict[str, tuple[int, int]] = {}
        self._fill: dict[str, float] = {}
        self._child("build_info", __version__, platform.python_version()).set(1)
        for part in PARTS:
            self._child("memory_budget_bytes", part).set(share(part, memory_budget))
        self._begin_at_zero(apps)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def text(self) -> bytes:
        """Return the exposition, of type ``CONTENT_TYPE``."""
        return generate_latest(self.registry)

    def received(self, records: int) -> None:
        """Count records read from the command topic."""
        self._child("records").inc(records)

    def call_started(self, first: Attempt) -> None:
        """Count a call that starts with its ``first`` attempt."""
        self._child("batch_members", first.endpoint).observe(first.members)
        members, calls = self._batched.get(first.endpoint, (0, 0))
        self._batched[first.endpoint] = (members + first.members, calls + 1)

    def attempt_finished(self, attempt: Attempt, result: AttemptResult) -> None:
        """Count one HTTP request that ended."""
        self._child("tries", attempt.app, attempt.endpoint, result.verdict.value).inc()
        self._child("try_seconds", attempt.endpoint).observe(result.ended_at - result.sent_at)
        if attempt.number > 1:
            self._child("retries", attempt.app, attempt.endpoint).inc()

    def call_finished(self, last: Attempt, verdict: Verdict | None, seconds: float) -> None:
        """Count a call that ended with this verdict, ``seconds`` after it started; none that was cancelled."""
        if verdict is None:
            return
        self._child("calls", last.app, last.endpoint, verdict.value).inc()
        self._child("call_seconds", last.endpoint).observe(seconds)

    def published(self, transaction: Transaction, seconds: float) -> None:
        """Count a committed transaction with its outcomes and dead letters."""
        self._outcomes(outgoing.outcome for outgoing in transaction.outcomes)
        for letter in transaction.dead_letters:
            self._child("dead_letters", _code(letter.error_code)).inc()
        self._child("transactions", "committed").inc()
        self._child("transaction_seconds").observe(seconds)
        self._child("transaction_records").observe(len(transaction.outcomes) + len(transaction.dead_letters))

    def aborted(self, seconds: float) -> None:
        """Count an aborted transaction; its results go into a later one."""
        self._child("transactions", "aborted").inc()
        self._child("transaction_seconds").observe(seconds)

    def rebalanced(self, kind: Rebalance, partitions: int) -> None:
        """Count partitions that were ``assigned``, ``revoked`` or ``lost``."""
        self._child("rebalances", kind).inc(partitions)

    def handed_over(self, seconds: float) -> None:
        """Count a handover that ended."""
        self._child("handover_seconds").observe(seconds)

    def restored(self, seconds: float) -> None:
        """Count a partition that was restored."""
        self._child("restore_seconds").observe(seconds)

    def out_of_range(self) -> None:
        """Count a committed offset that is no longer in Kafka."""
        self._child("offsets_out_of_range").inc()

    def observe(self, snapshot: EngineSnapshot, loop_snapshot: LoopSnapshot) -> None:
        """Set the gauges, once a second. Series of what has gone (a partition, an app's signature) are removed."""
        for state in snapshot.endpoints:
            self._endpoint(state)
        halted: dict[tuple[str, ...], float] = {
            (state.app, part): 0.0 for state in snapshot.endpoints for part in (WHOLE_APP, state.endpoint)
        }
        halted |= {(halt.app, halt.endpoint or WHOLE_APP): 1.0 for halt in snapshot.halts}
        self._show("halted", halted)
        self._partitions(snapshot.partitions, loop_snapshot.lags)
        self._show(
            "signature_age_seconds", {(app,): age for app, (age, _) in loop_snapshot.signatures.items()}
        )
        self._show(
            "signature_expires_seconds", {(app,): left for app, (_, left) in loop_snapshot.signatures.items()}
        )
        self._show("kafka_refused", {(kind,): 1.0 for kind in loop_snapshot.refused})
        for key, value in (
            ("known_effects", snapshot.known_effects),
            ("unpublished_commands", snapshot.unpublished),
            ("ready", int(loop_snapshot.ready)),
            ("partitions_in_doubt", loop_snapshot.partitions_in_doubt),
            ("pulse_age_seconds", loop_snapshot.pulse_age),
        ):
            self._child(key).set(value)
        self._orders(snapshot.orders, loop_snapshot.wall)
        self._child("control_unreadable_records").inc(self._increase_of("unreadable_orders", loop_snapshot))
        self._show("memory_bytes", {(part,): size for part, size in snapshot.memory.items()})
        self._count(snapshot.counts)
        self._child("log_lines_dropped").inc(self._increase_of("lines_dropped", loop_snapshot))

    def _begin_at_zero(self, apps: Iterable[str]) -> None:
        closed_sets: dict[str, Iterable[str]] = {
            "app": tuple(apps),
            "endpoint": ENDPOINTS,
            "action": ACTIONS,
            "status": [status.value for status in Status],
            "verdict": [verdict.value for verdict in Verdict],
            "kind": _DEDUPE.values(),
        }
        for row in ROWS:
            if row.type != "counter" or not row.labels or row.key == "rebalances":
                continue  # the `kind` of `rebalances` is another set than that of `dedupe_hits`
            if all(label in closed_sets for label in row.labels):
                for labels in product(*(closed_sets[label] for label in row.labels)):
                    self._child(row.key, *labels)
        for kind in get_args(Rebalance):
            self._child("rebalances", kind)
        for part in _FORGOTTEN.values():
            self._child("forgotten", part)
        for reason in Misplacement:
            self._child("misplaced_records", reason.value)
        for result in ("committed", "aborted"):
            self._child("transactions", result)

    def _outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes and their results: those that are alike at once, since in a raid most are."""
        commands: dict[tuple[str, Status], int] = {}
        members: dict[tuple[str, ResultStatus, int | None], int] = {}
        for outcome in outcomes:
            action = outcome.action if outcome.action in ACTIONS else "none"
            seconds = (outcome.queued_ms + (outcome.calling_ms or 0.0)) / 1000
            self._child("command_seconds", action).observe(seconds)
            commands[action, outcome.status] = commands.get((action, outcome.status), 0) + 1
            for result in outcome.results:
                ended = (action, result.status, result.error_code)
                members[ended] = members.get(ended, 0) + 1
        for (action, status), number in commands.items():
            self._child("commands", action, status.value).inc(number)
        for (action, became, error_code), number in members.items():
            code = "0" if error_code is None else _code(str(error_code))
            self._child("members", action, became.value, code).inc(number)

    def _endpoint(self, state: EndpointSnapshot) -> None:
        where = (state.app, state.endpoint)
        for key, value in (
            ("waiting_members", state.waiting),
            ("oldest_waiting_seconds", state.oldest_age),
            ("open_calls", state.calls),
            ("permits_used", state.permits_used),
            ("permits_granted", state.permits_granted),
            ("permits_owned", state.permits_owned),
            ("permits_lent", state.permits_lent),
            ("permits_borrowed", state.permits_borrowed),
            ("throttle_factor", state.throttle_factor),
            ("breaker_open", int(state.breaker_open)),
            ("work_seconds", self._work_seconds(state)),
        ):
            self._child(key, *where).set(value)
        for reason in LIMITED_BY:
            self._child("limited_by", *where, reason).set(state.limited_by == reason)
        self._child("breaker_openings", *where).inc(state.breaker_openings - self._openings.get(where, 0))
        self._openings[where] = state.breaker_openings

    def _work_seconds(self, state: EndpointSnapshot) -> float:
        members, calls = self._batched.pop(state.endpoint, (0, 0))
        if calls:
            self._fill[state.endpoint] = members / calls
        if not state.waiting:
            return 0.0
        fill = self._fill.get(state.endpoint, MEMBERS_PER_CALL.get(state.endpoint, 1))
        rate = state.permits_granted * fill / self._window
        return state.waiting / rate if rate else float("inf")

    def _partitions(self, partitions: Iterable[PartitionSnapshot], lags: Mapping[int, int]) -> None:
        current = {str(item.partition): item for item in partitions}
        for key, attribute in (
            ("known_ids", "known_ids"),
            ("open_commands", "open"),
            ("gap_offsets", "gap"),
            ("backlog_records", "backlog"),
        ):
            self._show(key, {(number,): getattr(item, attribute) for number, item in current.items()})
        self._show("lag_records", {(str(number),): lag for number, lag in lags.items()})

    def _orders(self, orders: Iterable[OrderSnapshot], wall: float) -> None:
        number = dict.fromkeys(product(OrderState, ORDERED_BY), 0)
        held = dict.fromkeys(OrderState, 0)
        oldest = 0.0
        for order in orders:
            state = order.order.state
            number[state, order.order.by if order.order.by in _NOT_PEOPLE else ORDERED_BY[0]] += 1
            held[state] += order.commands
            if state.row.policy.waits:
                oldest = max(oldest, wall - instant_of(order.order.at))
        for (state, by), count in number.items():
            self._child("controls", state.value, by).set(count)
        for state in OrderState:
            self._child("control_held_commands", state.value).set(held[state])
        self._child("control_oldest_pause_seconds").set(oldest)

    def _count(self, counts: EventCounts) -> None:
        for key in _COUNTS:
            self._child(key).inc(self._increase_of(key, counts))
        for attribute, part in _FORGOTTEN.items():
            self._child("forgotten", part).inc(self._increase_of(attribute, counts))
        for attribute, kind in _DEDUPE.items():
            self._child("dedupe_hits", kind).inc(self._increase_of(attribute, counts))
        for reason in Misplacement:
            self._child("misplaced_records", reason.value).inc(
                self._increase(reason, counts.misplaced.get(reason, 0))
            )

    def _increase_of(self, attribute: str, counts: EventCounts | LoopSnapshot) -> int:
        return self._increase(attribute, getattr(counts, attribute))

    def _increase(self, name: str, value: int) -> int:
        """Return by how much a count has risen since it was last asked for."""
        increase = value - self._counts.get(name, 0)
        self._counts[name] = value
        return increase

    def _show(self, key: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Set these children, and remove those that were set last time and are not among them."""
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
        name, help_text = f"{PREFIX}{row.key}", f"{row.meaning} [{row.unit}]"
        if row.type == "counter":
            metrics[row.key] = Counter(name, help_text, row.labels, registry=registry)
        elif row.type == "gauge":
            metrics[row.key] = Gauge(name, help_text, row.labels, registry=registry)
        else:
            metrics[row.key] = Histogram(name, help_text, row.labels, registry=registry, buckets=row.buckets)
    return metrics


def _code(code: str) -> str:
    return code if code in _CODES else "other"
