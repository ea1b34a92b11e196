# An hour of chance: transient codes among refusals and successes, at every load. The breaker must not take that for an outage,
# and must still take an outage for one.

from __future__ import annotations

from random import Random

import pytest

from worker.domain.calls.gates import CircuitBreaker
from worker.domain.contract.error_codes import judge
from worker.domain.effects import AttemptResult

HOUR = 3600.0
TRANSIENT, BAD_USER = 10002, 10019
SHARES = ((0.01, TRANSIENT), (0.03, BAD_USER), (1.0, 0))
"""Up to this share of chance, this code: one call in a hundred is refused for a while, two are for a bad user."""


def hear(breaker: CircuitBreaker, code: int, target: str, now: float) -> None:
    """The answer to a call, as the response handler takes it."""
    verdict = judge(200, code)
    result = AttemptResult(now - 0.03, now, verdict, 200, code)
    if verdict.proves_life:
        breaker.succeeded(result, now)
    elif verdict.is_failure:
        breaker.failed(result, target, [], now)


@pytest.mark.parametrize("calls_per_second", [10, 50, 200])
def test_an_hour_of_one_per_cent_of_transient_codes_does_not_open_the_breaker(calls_per_second: int) -> None:
    """From 10 commands a second, each a call of its own, to 4,000 in 200 calls."""
    chance = Random(calls_per_second)
    breaker = CircuitBreaker()

    for number in range(int(HOUR * calls_per_second)):
        drawn = chance.random()
        code = next(code for share, code in SHARES if drawn < share)
        hear(breaker, code, f"room {chance.randrange(50)}", number / calls_per_second)

    assert breaker.openings == 0


def test_refusals_between_transient_codes_prove_that_the_endpoint_lives() -> None:
    """Whoever hears that a user is bad has been answered by an endpoint that does its work."""
    breaker = CircuitBreaker()

    for number in range(100):
        hear(breaker, BAD_USER if number % 3 == 2 else TRANSIENT, f"room {number}", float(number))

    assert breaker.openings == 0


def test_when_nothing_but_transient_codes_comes_the_breaker_opens() -> None:
    breaker = CircuitBreaker()

    for number in range(10):
        hear(breaker, TRANSIENT, f"room {number}", float(number))

    assert breaker.openings == 1
