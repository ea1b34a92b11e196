# Breaker and halts: whether and when something may go.

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from worker.domain.codes import Verdict
from worker.domain.effects import Halt, Try
from worker.domain.health import (
    FAILURES_TO_OPEN,
    FIRST_PROBE,
    MAX_UNCOUNTED,
    QUICK_INTERVAL,
    QUICK_PROBES,
    SLOW_INTERVAL,
    SLOWEST_PROBE,
    Breaker,
    Halts,
)

if TYPE_CHECKING:
    from worker.domain.work import Member


def member() -> "Member":
    return cast("Member", SimpleNamespace(attempts=0))


def failure(at: float) -> Try:
    return Try(at - 0.1, at, Verdict.TRANSPORT, error="timeout")


def retry_code(at: float) -> Try:
    return Try(at - 0.1, at, Verdict.RETRY, 200, 10002)


def success(sent_at: float) -> Try:
    return Try(sent_at, sent_at + 0.1, Verdict.DONE, 200, 0)


def broken() -> Breaker:
    breaker = Breaker()
    for number in range(FAILURES_TO_OPEN):
        breaker.failed(failure(float(number)), "room", [], float(number))
    assert breaker.is_open
    return breaker


def test_five_failures_in_a_row_open_the_breaker() -> None:
    breaker = Breaker()

    states = []
    for number in range(FAILURES_TO_OPEN):
        breaker.failed(failure(number), "room", [], number)
        states.append(breaker.is_open)

    assert states == [False] * (FAILURES_TO_OPEN - 1) + [True]
    assert breaker.opened == 1


def test_a_success_between_starts_the_row_anew() -> None:
    breaker = Breaker()

    for number in range(20):
        breaker.failed(failure(number), "room", [], number)
        if number % 4 == 3:
            breaker.succeeded(success(number), number)

    assert not breaker.is_open


def test_retry_codes_of_two_targets_open_the_breaker_and_of_one_never_do() -> None:
    """
    A room that answers "try again" is that room's matter; two rooms that do are the endpoint's.
    """
    breaker = Breaker()

    for number in range(50):
        breaker.failed(retry_code(number), "room", [], number)
    assert not breaker.is_open
    breaker.failed(retry_code(51.0), "another room", [], 51.0)

    assert breaker.is_open


def test_a_failure_counts_as_an_attempt_only_once_a_later_call_has_succeeded() -> None:
    """
    Else a short outage would use up the attempts of whoever was under way.
    """
    breaker, hit = Breaker(), member()

    breaker.failed(failure(10.0), "room", [hit], 10.0)
    breaker.succeeded(
        success(sent_at=9.9), 10.1
    )  # was on its way already: says nothing about what came after
    assert hit.attempts == 0
    breaker.succeeded(success(sent_at=10.0), 10.2)

    assert hit.attempts == 1


def test_failures_of_an_outage_never_count() -> None:
    hit, breaker = member(), Breaker()
    for number in range(FAILURES_TO_OPEN + 3):
        breaker.failed(failure(number), "room", [hit], number)

    breaker.succeeded(success(100.0), 100.0)

    assert hit.attempts == 0


def test_a_retry_code_always_counts_as_an_attempt() -> None:
    hit, breaker = member(), Breaker()

    breaker.failed(retry_code(1.0), "room", [hit], 1.0)

    assert hit.attempts == 1


def test_probes_become_rarer_up_to_a_bound() -> None:
    breaker = broken()
    opened_at = FAILURES_TO_OPEN - 1.0
    assert breaker.probe_at == opened_at + FIRST_PROBE

    waits = []
    for number in range(10):
        now = 100.0 + number
        breaker.probe_failed(now)
        waits.append(breaker.probe_at - now)

    assert waits[0] == pytest.approx(2 * FIRST_PROBE)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(SLOWEST_PROBE)


def test_after_a_success_the_next_outage_is_probed_quickly_again() -> None:
    breaker = broken()
    for _ in range(10):
        breaker.probe_failed(50.0)
    assert breaker.succeeded(success(60.0), 60.0)

    for number in range(FAILURES_TO_OPEN):
        breaker.failed(failure(70.0 + number), "room", [], 74.0)

    assert breaker.probe_at == 74.0 + FIRST_PROBE
    assert breaker.opened == 2


def test_the_time_of_an_outage_stands_still() -> None:
    breaker = broken()
    opened_at = FAILURES_TO_OPEN - 1.0

    assert breaker.stood_still(opened_at + 30.0) == 30.0
    breaker.succeeded(success(opened_at + 60.0), opened_at + 60.0)

    assert breaker.stood_still(opened_at + 1000.0) == 60.0


def test_what_is_remembered_of_failures_is_bounded() -> None:
    breaker = Breaker()
    hits = [member() for _ in range(MAX_UNCOUNTED + 10)]
    for place, hit in enumerate(hits):
        breaker.failed(failure(place), "room", [hit], place)
        breaker.succeeded(success(-1.0), place)  # a late answer: keeps the breaker closed, and counts nothing

    breaker.succeeded(success(1e6), 1e6)

    assert sum(hit.attempts for hit in hits) == MAX_UNCOUNTED


def test_a_breaker_tells_itself_in_a_line() -> None:
    assert repr(Breaker()) == "<Breaker closed, 0 failures>"
    assert repr(broken()) == "<Breaker open, 5 failures>"


def halt(since: float, **changes: Any) -> Halt:
    fields: dict[str, Any] = {
        "app": "main",
        "endpoint": None,
        "error_code": 70009,
        "reason": "why",
        "mend": "what",
    }
    return Halt(**(fields | changes), since=since)


def test_a_halt_is_probed_every_second_at_first_and_then_every_half_minute() -> None:
    halts, now, waits = Halts(), 100.0, []
    assert halts.halt(halt(now), now)
    waits.append(halts.probe_at - now)
    for _ in range(QUICK_PROBES + 2):
        now = halts.probe_at
        halts.probed(now)
        assert not halts.halt(halt(now), now), "the same halt goes on"
        waits.append(halts.probe_at - now)

    assert waits == [QUICK_INTERVAL] * QUICK_PROBES + [SLOW_INTERVAL] * 3


def test_a_target_that_was_not_refused_yet_is_a_probe_at_once_and_then_every_second() -> None:
    """
    Two rooms that are refused by their own fault halt the endpoint of all others for no longer than one call takes.
    """
    halts = Halts()
    halts.halt(halt(100.0), 100.0)
    assert halts.fresh_probe_at == 100.0

    for _ in range(QUICK_PROBES + 2):
        halts.probed(200.0)

    assert halts.fresh_probe_at == 200.0 + QUICK_INTERVAL


def test_the_next_halt_is_probed_quickly_again() -> None:
    halts = Halts()
    halts.halt(halt(100.0), 100.0)
    for _ in range(10):
        halts.probed(200.0)
    assert halts.resume(300.0)

    assert halts.halt(halt(400.0), 400.0)
    halts.probed(401.0)

    assert halts.probe_at == 401.0 + QUICK_INTERVAL


def test_the_time_of_a_halt_stands_still_and_its_end_is_remembered() -> None:
    halts = Halts()
    assert not halts.resume(50.0)
    assert halts.stood_still(50.0) == 0.0

    halts.halt(halt(100.0), 100.0)
    assert halts.stood_still(130.0) == 30.0
    halts.resume(160.0)

    assert halts.stood_still(1000.0) == 60.0
    assert halts.resumed_at == 160.0
