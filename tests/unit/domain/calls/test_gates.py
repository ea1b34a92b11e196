# When an endpoint is taken for dead, when a halt is probed, and what of an outage counts against a member.

from __future__ import annotations

from random import Random

import pytest
from msgspec import structs

from tests.unit.domain.factories import ended, members
from worker.domain.calls.gates import (
    FAILURES_TO_OPEN,
    FIRST_PROBE,
    MAX_UNCOUNTED,
    QUICK_PROBES,
    SLOWEST_PROBE,
    CircuitBreaker,
    ConfigHalt,
)
from worker.domain.effects import HaltReason

BUSY = 10002
NO_ANSWER = ended(None, status=None)
WHY = HaltReason("main", None, 70009, "70009: wrong key", "check the secret key", 10.0)


def fail(breaker: CircuitBreaker, times: int, target: str = "a", now: float = 10.0) -> None:
    """That many attempts without an answer."""
    for _ in range(times):
        breaker.failed(ended(None, status=None, ended_at=now), target, members("u1"), now)


def opened(now: float = 10.0) -> CircuitBreaker:
    """A breaker that opened then."""
    breaker = CircuitBreaker()
    fail(breaker, FAILURES_TO_OPEN, now=now)
    return breaker


# Breaker


def test_a_new_endpoint_is_taken_for_alive() -> None:
    breaker = CircuitBreaker()

    assert not breaker.is_tripped
    assert repr(breaker) == "<CircuitBreaker closed, 0 failures>"


def test_five_failures_in_a_row_are_an_outage() -> None:
    breaker = CircuitBreaker()
    states = []

    for _ in range(5):
        fail(breaker, 1)
        states.append(breaker.is_tripped)

    assert states == [False, False, False, False, True]
    assert breaker.openings == 1
    assert repr(breaker) == "<CircuitBreaker open, 5 failures>"


def test_a_success_between_failures_shows_that_the_endpoint_lives() -> None:
    breaker = CircuitBreaker()
    fail(breaker, 4)

    assert not breaker.succeeded(ended(0, sent_at=9.0), now=11.0)
    fail(breaker, 4)

    assert not breaker.is_tripped


def test_retry_codes_of_a_single_target_are_its_own_fault() -> None:
    breaker = CircuitBreaker()

    for _ in range(100):
        breaker.failed(ended(BUSY), "a", members("u1"), 10.0)

    assert not breaker.is_tripped


def test_five_retry_codes_of_two_targets_in_a_row_are_an_outage() -> None:
    breaker = CircuitBreaker()
    states = []

    for target in "aabaa":
        breaker.failed(ended(BUSY), target, members("u1"), 10.0)
        states.append(breaker.is_tripped)

    assert states == [False, False, False, False, True]
    assert breaker.cause == ended(BUSY)


def test_codes_and_missing_answers_in_one_row_are_counted_together() -> None:
    breaker = CircuitBreaker()
    fail(breaker, 3)
    breaker.failed(ended(BUSY), "a", members("u1"), 10.0)
    breaker.failed(ended(BUSY), "a", members("u1"), 10.0)
    assert not breaker.is_tripped, "the codes of one target are its own"

    breaker.failed(ended(BUSY), "b", members("u2"), 10.0)

    assert breaker.is_tripped


def test_codes_that_may_be_an_outage_count_once_something_sent_after_them_has_succeeded() -> None:
    """Else a command of few attempts would fail for the outage that the next code shows."""
    breaker, first, second = CircuitBreaker(), members("u1"), members("u2")
    breaker.failed(ended(BUSY, ended_at=10.0), "a", first, 10.0)
    breaker.failed(ended(BUSY, ended_at=10.0), "b", second, 10.0)
    breaker.failed(ended(BUSY, ended_at=10.0), "a", first, 10.0)
    assert [each[0].counted_attempts for each in (first, second)] == [1, 0]

    breaker.succeeded(ended(0, sent_at=10.5), now=11.0)

    assert [each[0].counted_attempts for each in (first, second)] == [2, 1]


def test_retry_codes_of_two_targets_with_a_success_between_are_none() -> None:
    breaker = CircuitBreaker()

    for _ in range(50):
        for target in "abab":
            breaker.failed(ended(BUSY), target, members("u1"), 10.0)
        breaker.succeeded(ended(0, sent_at=11.0), now=11.5)

    assert not breaker.is_tripped


@pytest.mark.parametrize("seed", range(3))
def test_transient_codes_by_chance_do_not_open_it_in_an_hour_of_the_whole_quota(seed: int) -> None:
    """At 1 % of the answers two in a row come every minute: to stop for them would be to stop for nothing."""
    chance, breaker, some = Random(seed), CircuitBreaker(), members("u1")
    busy, applied = ended(BUSY), ended(0, sent_at=11.0)

    for _ in range(3600 * 200):
        if chance.random() < 0.01:
            breaker.failed(busy, chance.choice("abcdefgh"), some, 10.5)
        else:
            breaker.succeeded(applied, 11.0)

    assert breaker.openings == 0


def test_a_retry_code_counts_as_an_attempt_at_once() -> None:
    some = members("u1", "u2")

    CircuitBreaker().failed(ended(BUSY), "a", some, 10.0)

    assert [member.counted_attempts for member in some] == [1, 1]


def test_a_missing_answer_counts_only_once_something_sent_after_it_has_succeeded() -> None:
    breaker, some = CircuitBreaker(), members("u1")
    breaker.failed(ended(None, status=None, sent_at=10.0, ended_at=20.0), "a", some, 20.0)
    assert some[0].counted_attempts == 0

    breaker.succeeded(ended(0, sent_at=19.999), now=20.5)
    assert some[0].counted_attempts == 0, (
        "it was sent while the other still waited: perhaps into the same outage"
    )

    breaker.succeeded(ended(0, sent_at=20.0), now=21.0)
    assert some[0].counted_attempts == 1

    breaker.succeeded(ended(0, sent_at=22.0), now=23.0)
    assert some[0].counted_attempts == 1, "it counts once"


def test_what_failed_in_an_outage_never_counts() -> None:
    breaker, some = CircuitBreaker(), members("u1")
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(NO_ANSWER, "a", some, 10.5)

    breaker.failed(NO_ANSWER, "a", some, 11.0)
    breaker.failed(ended(BUSY), "a", some, 11.0)
    breaker.succeeded(ended(0, sent_at=60.0), now=60.5)

    assert some[0].counted_attempts == 0
    assert breaker.openings == 1


def test_the_first_success_closes_it() -> None:
    breaker = opened()

    assert breaker.succeeded(ended(0, sent_at=11.0), now=12.0)

    assert not breaker.is_tripped
    assert not breaker.succeeded(ended(0, sent_at=11.0), now=12.0)


def test_probes_come_ever_more_slowly_up_to_a_bound() -> None:
    breaker, now, waits = opened(now=10.0), 10.0, []

    for _ in range(8):
        waits.append(round(breaker.probe_at - now, 3))
        now = breaker.probe_at
        breaker.probe_failed(now)

    assert waits == [FIRST_PROBE, 0.4, 0.8, 1.6, 3.2, SLOWEST_PROBE, SLOWEST_PROBE, SLOWEST_PROBE]


def test_the_next_outage_is_probed_quickly_again() -> None:
    breaker = opened(now=10.0)
    for _ in range(8):
        breaker.probe_failed(50.0)
    breaker.succeeded(ended(0, sent_at=60.0), now=60.0)

    fail(breaker, FAILURES_TO_OPEN, now=100.0)

    assert breaker.probe_at == pytest.approx(100.0 + FIRST_PROBE)
    assert breaker.openings == 2
    breaker.probe_failed(101.0)
    assert breaker.probe_at == pytest.approx(101.0 + 2 * FIRST_PROBE)


def test_time_stands_still_while_it_is_open() -> None:
    breaker = opened(now=10.0)
    assert breaker.gate.shut_for(10.0) == 0.0
    assert breaker.gate.shut_for(15.0) == 5.0

    breaker.succeeded(ended(0, sent_at=16.0), now=17.0)
    assert breaker.gate.shut_for(100.0) == 7.0

    fail(breaker, FAILURES_TO_OPEN, now=200.0)
    assert breaker.gate.shut_for(201.0) == 8.0


def test_of_failures_that_nothing_has_shown_to_count_only_so_many_are_remembered() -> None:
    breaker, first, last = CircuitBreaker(), members("u1"), members("u2")

    for place in range(MAX_UNCOUNTED + 1):
        breaker.failed(ended(None, status=None, ended_at=10.0), "a", first if place == 0 else last, 10.0)
        breaker.succeeded(
            ended(0, sent_at=9.0), now=10.0
        )  # sent before: it keeps the breaker closed, and counts nothing
    breaker.succeeded(ended(0, sent_at=11.0), now=12.0)

    assert first[0].counted_attempts == 0
    assert last[0].counted_attempts == MAX_UNCOUNTED


# ConfigHalt


def test_nothing_is_halted_at_first() -> None:
    halt = ConfigHalt()

    assert halt.reason is None
    assert not halt.resume(10.0)
    assert halt.gate.shut_for(10.0) == 0.0


def test_a_halt_is_news_once() -> None:
    halt = ConfigHalt()

    assert halt.begin(WHY, 10.0)
    assert not halt.begin(WHY, 11.0)


def test_a_refused_probe_tells_the_newest_reason() -> None:
    halt, other = ConfigHalt(), HaltReason("main", None, 60020, "60020: no plan", "buy a plan", 12.0)
    halt.begin(WHY, 10.0)

    halt.begin(other, 12.0)

    assert halt.reason == structs.replace(other, since=10.0)


def test_a_halt_is_probed_every_second_at_first_and_then_every_half_minute() -> None:
    halt, waits, now = ConfigHalt(), [], 10.0
    halt.begin(WHY, now)

    for _ in range(QUICK_PROBES + 2):
        waits.append(halt.probe_at - now)
        now = halt.probe_at
        halt.probe_sent(now)

    assert waits == [1.0, 1.0, 1.0, 1.0, 1.0, 30.0, 30.0]


def test_a_target_that_was_not_refused_yet_may_probe_at_once_and_then_every_second() -> None:
    """Those that are refused by their own fault must not hold up the others for half a minute."""
    halt = ConfigHalt()
    halt.begin(WHY, 10.0)
    assert halt.fresh_probe_at == 10.0

    for probe in range(QUICK_PROBES + 5):
        halt.probe_sent(10.0 + probe)
        assert halt.fresh_probe_at == 11.0 + probe


def test_what_is_fixed_goes_on_and_the_next_halt_starts_from_the_beginning() -> None:
    halt = ConfigHalt()
    halt.begin(WHY, 10.0)
    for _ in range(QUICK_PROBES):
        halt.probe_sent(10.0)

    assert halt.resume(40.0)
    assert halt.reason is None
    assert halt.resumed_at == 40.0

    assert halt.begin(WHY, 50.0)
    assert halt.probe_at == 51.0
    halt.probe_sent(51.0)
    assert halt.probe_at == 52.0


def test_time_stands_still_while_it_is_halted() -> None:
    halt = ConfigHalt()
    halt.begin(WHY, 10.0)
    assert halt.gate.shut_for(12.0) == 2.0

    halt.resume(15.0)
    halt.begin(WHY, 100.0)

    assert halt.gate.shut_for(101.0) == 6.0
