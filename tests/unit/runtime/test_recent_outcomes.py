# What the page remembers of published outcomes: what it counts, what it finds, and that all of it is bounded.

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.unit.domain.engine_harness import EngineHarness, Record, ban, kick, users
from worker.domain.calls.endpoint_state import FILL_SECONDS
from worker.domain.contract.outcomes import Status
from worker.runtime.recent_outcomes import (
    FAILURES,
    KEPT_BYTES,
    ROOMS,
    SPAN_SECONDS,
    SPANS,
    RecentOutcomes,
)

if TYPE_CHECKING:
    from worker.domain.effects import Transaction

ROOM_BYTES = 400
WINDOW = SPANS * SPAN_SECONDS


def carried_out(*commands: dict[str, Any], refuse: str = "bad", info: str = "no such account") -> Transaction:
    """What the engine publishes of these commands; users whose name begins with ``refuse`` do not exist."""
    harness = EngineHarness(max_gap=10_000)
    harness.receive_together(*commands)
    harness.wait(FILL_SECONDS)
    while harness.out:
        request = harness.out[0]
        if any(user.startswith(refuse) for user in request.users):
            harness.code(request, 10019, info, request_id="Id-bad")
        else:
            harness.ok(request, request_id=f"Id-{request.call_id}")
        harness.wait(0.05)
    return harness.take()


def many(count: int, **changes: Any) -> Transaction:
    """Return as many outcomes, made of one."""
    transaction = carried_out(ban("u"))
    replace = msgspec.structs.replace
    (one,) = transaction.outcomes
    outcomes = []
    for number in range(count):
        its = {"command_id": f"c-{number}", "group_id": f"group-{number}", **changes}
        outcomes.append(replace(one, outcome=replace(one.outcome, **its)))
    return replace(transaction, outcomes=outcomes)


def test_outcomes_are_counted_by_status_of_late_and_since_the_start() -> None:
    recent = RecentOutcomes()

    recent.published(carried_out(ban("u"), kick("bad"), ban("v", duration=-1)), 0.0)
    recent.published(carried_out(ban("u")), WINDOW)

    assert recent.totals == {Status.SUCCEEDED: 2, Status.FAILED: 1, Status.REJECTED: 1}
    assert recent.statuses(WINDOW) == recent.totals
    assert recent.statuses(WINDOW + SPAN_SECONDS) == {Status.SUCCEEDED: 1}
    assert recent.statuses(2 * WINDOW + SPAN_SECONDS) == {}


@pytest.mark.parametrize("asked", ["c-7", "u3", "room-7", "Id-bad"])
def test_an_outcome_is_found_by_its_command_a_user_its_room_and_a_request_id(asked: str) -> None:
    recent = RecentOutcomes()
    recent.published(carried_out(ban("someone-else")), 0.0)
    recent.published(carried_out(kick("u3", "bad", room="room-7") | {"command_id": "c-7"}), 1.0)

    (found,) = recent.find(asked)

    assert found.command_id == "c-7"
    assert found.status is Status.PARTIALLY_SUCCEEDED


def test_a_rejected_command_is_found_by_the_users_that_it_named() -> None:
    recent = RecentOutcomes()
    recent.published(carried_out(ban("u9", duration=-1)), 0.0)

    assert [found.status for found in recent.find("u9")] == [Status.REJECTED]


def test_the_newest_is_found_first_and_nothing_by_a_part_of_a_name() -> None:
    recent = RecentOutcomes()
    for number in range(3):
        recent.published(carried_out(ban("u") | {"command_id": f"c-{number}"}), 0.0)

    assert [found.command_id for found in recent.find("u")] == ["c-2", "c-1", "c-0"]
    assert list(recent.find("c-")) == []


def test_rooms_are_counted_with_what_failed_and_how_long_it_took() -> None:
    recent = RecentOutcomes()
    recent.published(carried_out(kick("u", room="slow"), kick("bad", room="sick")), 0.0)
    recent.published(many(1, app="main", group_id="slow", queued_ms=7_000.0, calling_ms=500.0), SPAN_SECONDS)

    rooms, uncounted = recent.rooms(SPAN_SECONDS)

    slow, sick = rooms["main", "slow"], rooms["main", "sick"]
    assert (slow.commands, slow.undone, slow.longest_ms) == (2, 0, 7_500.0)
    assert 7_500.0 <= slow.total_ms < 8_000.0
    assert (sick.commands, sick.undone) == (1, 1)
    assert uncounted == 0


def test_a_command_that_needed_no_call_says_nothing_of_its_room() -> None:
    recent = RecentOutcomes()
    recent.published(many(1, status=Status.DUPLICATE), 0.0)
    recent.published(carried_out(ban("u", duration=-1)), 0.0)

    assert recent.rooms(0.0) == ({}, 0)


def test_the_commands_of_more_rooms_than_are_counted_are_a_number() -> None:
    recent = RecentOutcomes()
    recent.published(many(ROOMS + 20), 0.0)

    rooms, uncounted = recent.rooms(0.0)

    assert (len(rooms), uncounted) == (ROOMS, 20)


def test_the_last_failures_outlast_what_comes_after_them() -> None:
    """What failed last night is what somebody looks for in the morning."""
    recent = RecentOutcomes()
    recent.published(
        carried_out(kick("bad", room="room-7", issuer="detector-7") | {"command_id": "the-one"}), 0.0
    )
    for number in range(30):
        recent.published(many(500), float(number))

    (failure,) = recent.failures
    assert (failure.command_id, failure.code, failure.request_id) == ("the-one", "10019", "Id-bad")
    assert (failure.status, failure.target, failure.issuer) == ("failed", "room-7", "detector-7")
    assert "no such account" in failure.message
    assert list(recent.find("the-one")) == []


def test_what_failed_in_part_or_ran_out_of_time_or_was_rejected_says_why() -> None:
    recent = RecentOutcomes()
    recent.published(carried_out(kick("u", "bad"), ban("v", duration=-1)), 0.0)
    recent.published(many(1, status=Status.EXPIRED), 0.0)

    said = {failure.status: (failure.code, failure.message) for failure in recent.failures}

    assert said["partially_succeeded"] == ("10019", "user 'bad': no such account")
    assert said["expired"] == (None, "its time was over before it could be sent")
    assert said["rejected"][0] == "out_of_range"


@pytest.mark.parametrize(
    ("state", "code", "message"),
    [
        ("cancel", "cancelled", "user 'u20': cancelled by alice: it bans everybody"),
        ("shadow", None, "user 'u20': only simulated, as it was in shadow by then"),
    ],
)
def test_what_was_stopped_in_part_does_not_say_that_its_time_was_over(
    state: str, code: str | None, message: str
) -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban(*users(25)))
    harness.order(state)
    harness.ok()
    recent = RecentOutcomes()
    harness.wait(1.0)
    recent.published(harness.take(), 0.0)

    (failure,) = recent.failures
    assert (failure.status, failure.code, failure.message) == ("partially_succeeded", code, message)


def test_a_record_that_cannot_be_read_is_a_failure_by_its_place() -> None:
    """It has a dead letter, and no outcome."""
    harness = EngineHarness()
    record = harness.record({})
    harness.fetch([Record(record.partition, record.offset, record.key, b"nonsense")])
    recent = RecentOutcomes()

    recent.published(harness.take(), 0.0)

    (failure,) = recent.failures
    assert (failure.status, failure.code, failure.outcome_id) == ("rejected", "not_json", "commands-0-0")


def test_no_more_is_kept_than_fits_and_the_oldest_goes_first() -> None:
    recent = RecentOutcomes(kept_bytes=400_000, kept_outcomes=50)
    for number in range(10):
        recent.published(many(20, finished_at=str(number)), 0.0)
    assert (recent.kept, recent.oldest_at) == (40, "8")

    recent = RecentOutcomes(kept_bytes=400_000)
    for number in range(40):
        recent.published(many(20, finished_at=str(number)), 0.0)
    assert 300 <= recent.kept < 320
    assert 350_000 < recent.bytes <= 400_000


def test_a_transaction_of_the_largest_records_leaves_what_fits_of_it() -> None:
    recent = RecentOutcomes(kept_bytes=100_000)
    recent.published(carried_out(*(ban(*users(80, f"u{number}-")) for number in range(20))), 0.0)

    assert 0 < recent.kept < 20
    assert recent.bytes <= 100_000


def test_many_failures_leave_the_last() -> None:
    recent = RecentOutcomes()
    recent.published(many(100, status=Status.EXPIRED), 0.0)

    assert [failure.command_id for failure in recent.failures] == [
        f"c-{n}" for n in range(100 - FAILURES, 100)
    ]


@pytest.mark.parametrize("kind", ["one user", "a hundred users", "failed", "rejected"])
def test_what_is_kept_takes_no_more_memory_than_is_counted(kind: str) -> None:
    """The pod's limit rests on it."""
    name = "x" * 20
    commands = {
        "one user": [ban(f"{name}-{n}", group=f"group-{n}") for n in range(300)],
        "a hundred users": [ban(*users(100, f"{name}-{n}-"), group=f"group-{n}") for n in range(8)],
        "failed": [kick(f"bad-{name}-{n}", room=f"room-{n}") for n in range(200)],
        "rejected": [ban(*users(100, f"{name}-{n}-"), duration=-1, unknown=1) for n in range(30)],
    }[kind]
    recent = RecentOutcomes()
    tracemalloc.start()
    try:
        recent.published(carried_out(*commands, info="i" * 500), 0.0)
        kept, counted = recent.kept, recent.bytes
        while gc.collect():  # the engine that made them
            pass
        before = tracemalloc.get_traced_memory()[0]
        del recent
        gc.collect()
        taken = before - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert kept == len(commands)
    assert 0.2 * counted < taken < counted + ROOM_BYTES * len(commands) < KEPT_BYTES
