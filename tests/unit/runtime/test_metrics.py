# Metrics: each of the table is registered, moves when its cause is produced, and names no user and no room.

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.domain.factories import give, open_command, rejected_record
from tests.unit.domain.samples import KICK, SETTINGS
from worker.domain.contract.actions import ENDPOINTS
from worker.domain.contract.control_records import Order, OrderState, Scope
from worker.domain.contract.dead_letter_encoding import DeadLetter
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.outcomes import (
    DEAD_LETTERED,
    Outcome,
    Result,
    ResultStatus,
    Source,
    Status,
    Worker,
)
from worker.domain.contract.timestamps import instant_of
from worker.domain.effects import (
    Attempt,
    AttemptResult,
    HaltReason,
    OffsetCommit,
    OutgoingOutcome,
    Transaction,
)
from worker.domain.engine_snapshot import (
    LIMITED_BY,
    EndpointSnapshot,
    EngineSnapshot,
    EventCounts,
    OrderSnapshot,
    PartitionSnapshot,
)
from worker.domain.memory_budget import BUDGET_MIB, MEBIBYTE, PARTS
from worker.domain.progress.outcome_building import dead_letter_of, outcome_of
from worker.runtime.metric_table import PREFIX, ROWS
from worker.runtime.metrics import WHOLE_APP, LoopSnapshot, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.runtime.metric_table import MetricRow

BAN = "group_open_http_svc/ban_group_member"
ATTEMPT = Attempt("call-1", 1, "main", BAN, "room", b"{}", 19)
ENDPOINT = {"app": "main", "endpoint": BAN}


def outcome(
    status: Status = Status.SUCCEEDED, *results: Result, action: str | None = "group.ban_group_member"
) -> OutgoingOutcome:
    made = Outcome(
        outcome_id="commands-0-1",
        command_id="c1",
        status=status,
        source=Source("commands", 0, 1),
        worker=Worker("w", "0"),
        received_at="",
        finished_at="",
        queued_ms=250.0,
        attempts=1,
        action=action,
        group_id="@TGS#room",
        calling_ms=50.0,
        results=list(results) or [Result("user-17", ResultStatus.APPLIED)],
    )
    return OutgoingOutcome(0, b"@TGS#room", made)


def transaction(*outcomes: OutgoingOutcome, letters: tuple[str, ...] = ()) -> Transaction:
    record: Any = None
    dead = [DeadLetter(record, "commands", "commands-0-1", code, "why") for code in letters]
    return Transaction(list(outcomes), dead, {0: OffsetCommit(2, "")})


def endpoint(**changes: Any) -> EndpointSnapshot:
    values: dict[str, Any] = {
        "app": "main",
        "endpoint": BAN,
        "waiting": 0,
        "calls": 0,
        "oldest_age": 0.0,
        "permits_used": 0,
        "permits_granted": 200,
        "permits_owned": 200,
        "permits_lent": 0,
        "permits_borrowed": 0,
        "throttle_factor": 1.0,
        "limited_by": "nothing",
        "breaker_open": False,
        "breaker_openings": 0,
        **changes,
    }
    return EndpointSnapshot(**values)


def snapshot(
    *endpoints: EndpointSnapshot,
    partitions: tuple[PartitionSnapshot, ...] = (),
    halts: tuple[HaltReason, ...] = (),
    counts: EventCounts | None = None,
    orders: tuple[OrderSnapshot, ...] = (),
    **values: int,
) -> EngineSnapshot:
    return EngineSnapshot(
        endpoints=endpoints,
        partitions=partitions,
        halts=halts,
        known_effects=values.get("known_effects", 0),
        unpublished=values.get("unpublished", 0),
        memory={"commands": values.get("memory", 0), "ids": 0, "applied": 0, "results": 0},
        counts=counts or EventCounts(),
        orders=orders,
    )


def control(state: OrderState, held: int = 0, at: str = "2026-11-28T03:00:00Z") -> OrderSnapshot:
    return OrderSnapshot(Scope(issuer=state.value), Order(state, "mad", "alice", at), held)


LOOP_SNAPSHOT = LoopSnapshot(
    pulse_age=0.5,
    ready=True,
    lags={3: 77},
    signatures={"main": (60.0, 3600.0)},
    refused=frozenset({"sign_in"}),
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(["main"])


def families(metrics: Metrics) -> list[Any]:
    parse: Any = text_string_to_metric_families  # it has no types
    return list(parse(metrics.text().decode()))


def values(metrics: Metrics, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in families(metrics)
        for sample in family.samples
        if sample.name == f"{PREFIX}{name}"
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return values(metrics, name).get(tuple(sorted(labels.items())))


def look(item: EngineSnapshot) -> Callable[[Metrics], None]:
    return lambda metrics: metrics.observe(item, LOOP_SNAPSHOT)


CAUSES: dict[str, Callable[[Metrics], None]] = {
    "records": lambda m: m.received(5),
    "misplaced_records": look(snapshot(counts=EventCounts(misplaced={"no_key": 1}))),
    "commands": lambda m: m.published(transaction(outcome()), 0.1),
    "members": lambda m: m.published(transaction(outcome()), 0.1),
    "command_seconds": lambda m: m.published(transaction(outcome()), 0.1),
    "dead_letters": lambda m: m.published(transaction(letters=("no_answer",)), 0.1),
    "calls": lambda m: m.call_finished(ATTEMPT, Verdict.DONE, 0.2),
    "call_seconds": lambda m: m.call_finished(ATTEMPT, Verdict.DONE, 0.2),
    "batch_members": lambda m: m.call_started(ATTEMPT),
    "tries": lambda m: m.attempt_finished(ATTEMPT, AttemptResult(1.0, 1.03, Verdict.DONE)),
    "try_seconds": lambda m: m.attempt_finished(ATTEMPT, AttemptResult(1.0, 1.03, Verdict.DONE)),
    "retries": lambda m: m.attempt_finished(
        Attempt("call-1", 2, "main", BAN, "room", b"", 1), AttemptResult(1.0, 1.1, Verdict.RETRY)
    ),
    "splits": look(snapshot(counts=EventCounts(splits=1))),
    "inferred": look(snapshot(counts=EventCounts(inferred=1))),
    "recalled": look(snapshot(counts=EventCounts(recalled=1))),
    "controls": look(snapshot(orders=(control(OrderState.SHADOW),))),
    "control_held_commands": look(snapshot(orders=(control(OrderState.CANCEL, held=7),))),
    "control_oldest_pause_seconds": lambda m: m.observe(
        snapshot(orders=(control(OrderState.PAUSED),)), LoopSnapshot(0.1, ready=True, wall=1.9e9)
    ),
    "control_unreadable_records": lambda m: m.observe(
        snapshot(), LoopSnapshot(0.1, ready=True, unreadable_orders=2)
    ),
    "foreign_metadata": look(snapshot(counts=EventCounts(foreign_metadata=1))),
    "strange_quota_messages": look(snapshot(counts=EventCounts(strange_quota_messages=1))),
    "partitions_in_doubt": lambda m: m.observe(
        snapshot(), LoopSnapshot(0.1, ready=False, partitions_in_doubt=1)
    ),
    "given_up": look(snapshot(counts=EventCounts(given_up=1))),
    "waiting_members": look(snapshot(endpoint(waiting=40))),
    "oldest_waiting_seconds": look(snapshot(endpoint(waiting=40, oldest_age=3.0))),
    "open_calls": look(snapshot(endpoint(calls=4))),
    "permits_used": look(snapshot(endpoint(permits_used=9))),
    "permits_granted": look(snapshot(endpoint())),
    "permits_owned": look(snapshot(endpoint())),
    "permits_lent": look(snapshot(endpoint(permits_lent=3))),
    "permits_borrowed": look(snapshot(endpoint(permits_borrowed=3))),
    "throttle_factor": look(snapshot(endpoint(throttle_factor=0.95))),
    "limited_by": look(snapshot(endpoint(waiting=1, limited_by="quota"))),
    "work_seconds": look(snapshot(endpoint(waiting=4000))),
    "breaker_open": look(snapshot(endpoint(breaker_open=True, breaker_openings=1))),
    "breaker_openings": look(snapshot(endpoint(breaker_open=True, breaker_openings=1))),
    "halted": look(snapshot(halts=(HaltReason("main", None, 70009, "wrong key", "fix it", 1.0),))),
    "signature_age_seconds": look(snapshot()),
    "signature_expires_seconds": look(snapshot()),
    "dedupe_hits": look(snapshot(counts=EventCounts(repeated_ids=1))),
    "known_ids": look(snapshot(partitions=(PartitionSnapshot(3, 1, 1, 1, 9),))),
    "known_effects": look(snapshot(known_effects=8)),
    "open_commands": look(snapshot(partitions=(PartitionSnapshot(3, 7, 1, 1, 9),))),
    "gap_offsets": look(snapshot(partitions=(PartitionSnapshot(3, 7, 11, 1, 9),))),
    "backlog_records": look(snapshot(partitions=(PartitionSnapshot(3, 7, 11, 5, 9),))),
    "lag_records": look(snapshot()),
    "memory_bytes": look(snapshot(memory=1000)),
    "forgotten": look(snapshot(counts=EventCounts(forgotten_ids=3))),
    "rebalances": lambda m: m.rebalanced("assigned", 6),
    "handover_seconds": lambda m: m.handed_over(0.3),
    "restore_seconds": lambda m: m.restored(0.3),
    "offsets_out_of_range": lambda m: m.out_of_range(),
    "transactions": lambda m: m.aborted(0.1),
    "transaction_seconds": lambda m: m.aborted(0.1),
    "transaction_records": lambda m: m.published(transaction(outcome()), 0.1),
    "kafka_refused": look(snapshot()),
    "unpublished_commands": look(snapshot(unpublished=6)),
    "ready": look(snapshot()),
    "pulse_age_seconds": look(snapshot()),
    "log_lines_dropped": lambda m: m.observe(snapshot(), LoopSnapshot(0.5, ready=True, lines_dropped=3)),
}


def moved(metrics: Metrics, row: MetricRow) -> float:
    name = f"{row.key}{'_total' if row.type == 'counter' else '_count' if row.type == 'histogram' else ''}"
    return sum(values(metrics, name).values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_each_metric_of_the_table_is_served_and_moves_when_its_cause_is_produced(
    metrics: Metrics, row: MetricRow
) -> None:
    if row.key == "build_info":
        assert moved(metrics, row) == 1
        return
    if row.key == "memory_budget_bytes":
        assert moved(metrics, row) == pytest.approx(BUDGET_MIB * MEBIBYTE, abs=len(PARTS))
        return
    before = moved(metrics, row)

    CAUSES[row.key](metrics)

    assert moved(metrics, row) > before


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_what_is_served_has_the_type_the_labels_and_the_meaning_of_the_table(
    metrics: Metrics, row: MetricRow
) -> None:
    if row.key in CAUSES:
        CAUSES[row.key](metrics)
    text = metrics.text().decode()

    (labels,) = {
        frozenset(name for name, _ in labels) - {"le"}
        for suffix in ("", "_total", "_count")
        for labels in values(metrics, f"{row.key}{suffix}")
    }
    assert labels == set(row.labels)
    assert f"# TYPE {row.name} {row.type}" in text
    assert f"# HELP {row.name} {row.meaning}" in text.replace("\\\\", "\\")


def test_nothing_is_served_beside_the_table_but_the_process_and_python(metrics: Metrics) -> None:
    served = {family.name for family in families(metrics)}

    ours = {name for name in served if name.startswith(PREFIX)}
    assert {f"{PREFIX}{row.key}" for row in ROWS} >= ours
    assert all(name.startswith(("process_", "python_")) for name in served - ours)


def test_names_end_with_their_unit_and_begin_with_the_prefix() -> None:
    for row in ROWS:
        assert re.fullmatch(r"moderation_worker_[a-z_]+", row.name)
        assert row.unit != "seconds" or "seconds" in row.name
        assert row.type != "counter" or row.name.endswith("_total")
        assert bool(row.buckets) == (row.type == "histogram")


def test_counters_begin_at_zero_so_that_a_first_event_is_an_increase(metrics: Metrics) -> None:
    assert value(metrics, "tries_total", **ENDPOINT, verdict="throttle") == 0
    assert value(metrics, "commands_total", action="room.kick_user_out", status="failed") == 0
    assert value(metrics, "transactions_total", result="aborted") == 0
    assert value(metrics, "rebalances_total", kind="lost") == 0
    assert value(metrics, "breaker_openings_total", app="main", endpoint=ENDPOINTS[-1]) == 0


def test_no_label_names_a_user_or_a_room_and_unknown_codes_and_actions_are_folded(metrics: Metrics) -> None:
    metrics.published(
        transaction(
            outcome(Status.FAILED, Result("user-17", ResultStatus.FAILED, error_code=424242)),
            outcome(Status.FAILED, Result("user-17", ResultStatus.FAILED, error_code=10019)),
            outcome(Status.REJECTED, action="group.ban_grup_member"),
            outcome(Status.REJECTED, action=None),
            letters=("424242", "unknown_field_of_a_user", "10019"),
        ),
        0.1,
    )
    text = metrics.text().decode()

    assert not re.search(r"user-17|TGS|call-1|grup|424242|of_a_user", text)
    members = {dict(labels)["code"] for labels in values(metrics, "members_total")}
    assert members == {"0", "10019", "other"}
    assert value(metrics, "commands_total", action="none", status="rejected") == 2
    assert value(metrics, "dead_letters_total", code="other") == 2


def test_a_dead_letter_is_counted_by_its_reason_whatever_its_status(metrics: Metrics) -> None:
    """Those of cancelled commands were counted as ``other``."""
    failed, cancelled = ResultStatus.FAILED, ResultStatus.CANCELLED
    commands = {
        Status.FAILED: [
            give(open_command(KICK), failed),
            give(open_command(KICK), failed, error_code=10019),
        ],
        Status.CANCELLED: [give(open_command(KICK), cancelled)],
    }
    letters = [dead_letter_of(rejected_record(b"{"), "commands")]
    for status, ended in commands.items():
        for each in ended:
            each.emit(outcome_of(each, SETTINGS, 100.0, 0.0), 1000)
            assert each.outcome is not None
            assert each.outcome.status is status
            letters.append(dead_letter_of(each, "commands"))

    metrics.published(Transaction([], [letter for letter in letters if letter is not None], {}), 0.1)

    counted = values(metrics, "dead_letters_total")
    assert {dict(labels)["code"] for labels, number in counted.items() if number} == {
        *("not_json", "no_answer", "10019", "cancelled")
    }
    assert {Status.REJECTED, *commands} == DEAD_LETTERED


def test_work_seconds_follow_the_permitted_rate_and_the_current_batch_size(metrics: Metrics) -> None:
    metrics.observe(snapshot(endpoint(waiting=4000)), LOOP_SNAPSHOT)
    assert value(metrics, "work_seconds", **ENDPOINT) == pytest.approx(
        1.0
    )  # 200 calls of 20: nothing was measured yet

    for members in (1, 3):
        metrics.call_started(Attempt("c", 1, "main", BAN, "room", b"", members))
    metrics.observe(snapshot(endpoint(waiting=4000)), LOOP_SNAPSHOT)
    assert value(metrics, "work_seconds", **ENDPOINT) == pytest.approx(10.0)  # 200 calls of 2

    metrics.observe(snapshot(endpoint(waiting=4000, permits_granted=100)), LOOP_SNAPSHOT)
    assert value(metrics, "work_seconds", **ENDPOINT) == pytest.approx(20.0)

    metrics.observe(snapshot(endpoint(waiting=1, permits_granted=0, permits_owned=0)), LOOP_SNAPSHOT)
    assert value(metrics, "work_seconds", **ENDPOINT) == float("inf")

    metrics.observe(snapshot(endpoint()), LOOP_SNAPSHOT)
    assert value(metrics, "work_seconds", **ENDPOINT) == 0


def test_exactly_one_limit_is_shown(metrics: Metrics) -> None:
    for reason in LIMITED_BY:
        metrics.observe(snapshot(endpoint(waiting=1, limited_by=reason)), LOOP_SNAPSHOT)

        shown = values(metrics, "limited_by")
        assert sum(shown.values()) == 1
        assert value(metrics, "limited_by", **ENDPOINT, by=reason) == 1


def test_what_is_gone_is_not_shown_any_more(metrics: Metrics) -> None:
    """A partition that moved to another replica would be counted twice."""
    metrics.observe(snapshot(partitions=(PartitionSnapshot(3, 7, 11, 5, 9),)), LOOP_SNAPSHOT)

    metrics.observe(snapshot(), LoopSnapshot(0.1, ready=True))

    for name in (
        "open_commands",
        "gap_offsets",
        "backlog_records",
        "known_ids",
        "lag_records",
        "signature_age_seconds",
    ):
        assert values(metrics, name) == {}

    metrics.observe(snapshot(partitions=(PartitionSnapshot(3, 8, 11, 5, 9),)), LOOP_SNAPSHOT)
    assert value(metrics, "open_commands", partition="3") == 8


def test_a_halt_that_is_fixed_is_shown_as_0(metrics: Metrics) -> None:
    metrics.observe(
        snapshot(endpoint(), halts=(HaltReason("main", BAN, 10007, "no", "remedy", 1.0),)), LOOP_SNAPSHOT
    )
    assert value(metrics, "halted", **ENDPOINT) == 1
    assert value(metrics, "halted", app="main", endpoint=WHOLE_APP) == 0

    metrics.observe(snapshot(endpoint()), LOOP_SNAPSHOT)

    assert value(metrics, "halted", **ENDPOINT) == 0


def test_a_halt_of_a_whole_app_is_shown_as_that(metrics: Metrics) -> None:
    metrics.observe(
        snapshot(halts=(HaltReason("main", None, 70009, "wrong key", "fix it", 1.0),)), LOOP_SNAPSHOT
    )

    assert value(metrics, "halted", app="main", endpoint=WHOLE_APP) == 1


def test_counts_of_the_engine_are_added_once_however_often_they_are_observed(metrics: Metrics) -> None:
    for splits in (2, 2, 5):
        metrics.observe(
            snapshot(
                endpoint(breaker_openings=splits),
                counts=EventCounts(splits=splits, coalesced=splits, misplaced={"partitioner": splits}),
            ),
            LOOP_SNAPSHOT,
        )

    assert value(metrics, "splits_total") == 5
    assert value(metrics, "dedupe_hits_total", kind="coalesced") == 5
    assert value(metrics, "misplaced_records_total", reason="partitioner") == 5
    assert value(metrics, "misplaced_records_total", reason="two_partitions") == 0
    assert value(metrics, "breaker_openings_total", **ENDPOINT) == 5


def test_the_time_of_a_command_is_what_it_waited_and_what_its_calls_took(metrics: Metrics) -> None:
    metrics.published(transaction(outcome()), 0.1)

    assert value(metrics, "command_seconds_sum", action="group.ban_group_member") == pytest.approx(0.3)
    assert value(metrics, "transaction_records_sum") == 1
    assert value(metrics, "commands_total", action="group.ban_group_member", status="succeeded") == 1


def test_orders_are_shown_by_state_and_the_oldest_pause_by_its_age(metrics: Metrics) -> None:
    """The alert is about pauses alone: a cancelled detector or one in shadow waits for nobody."""
    now = instant_of("2026-11-28T03:10:00Z")
    found = snapshot(
        orders=(
            control(OrderState.PAUSED, held=3, at="2026-11-28T03:09:00Z"),
            control(OrderState.PAUSED, held=4, at="2026-11-28T03:05:00Z"),
            control(OrderState.CANCEL, held=1, at="2026-11-27T03:00:00Z"),
        )
    )

    metrics.observe(found, LoopSnapshot(0.1, ready=True, wall=now))

    assert value(metrics, "controls", state="paused", ordered_by="operator") == 2
    assert value(metrics, "controls", state="shadow", ordered_by="operator") == 0
    assert value(metrics, "controls", state="paused", ordered_by="guard") == 0
    assert value(metrics, "control_held_commands", state="paused") == 7
    assert value(metrics, "control_held_commands", state="cancel") == 1
    assert value(metrics, "control_oldest_pause_seconds") == 300.0

    metrics.observe(snapshot(), LoopSnapshot(0.1, ready=True, wall=now))

    assert value(metrics, "controls", state="paused", ordered_by="operator") == 0
    assert value(metrics, "control_oldest_pause_seconds") == 0.0
