# A command_id that was carried out stays carried out when a repeat of it comes too late: what the repeat's outcome says is
# what the next one goes by.

from __future__ import annotations

import pytest

from tests.unit.domain.engine_harness import COOLING_OFF, WALL, EngineHarness, kick
from worker.domain.contract.timestamps import rfc3339

OVER = rfc3339(WALL)
SOON = rfc3339(WALL + COOLING_OFF + 5.0)


def statuses(harness: EngineHarness) -> list[str]:
    """Of all outcomes, in the order of their publication."""
    harness.publish()
    return [outcome.status.value for outcome in harness.published.outcomes]


@pytest.mark.parametrize("published", [True, False])
def test_a_repeat_that_comes_too_late_does_not_make_an_id_forgotten(published: bool) -> None:
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c"))
    harness.ok()
    for command in (kick("u", command_id="c", not_after=OVER), kick("u", command_id="c")):
        if published:
            harness.publish()
        harness.receive(command)

    assert len(harness.sent) == 1
    assert statuses(harness) == ["succeeded", "duplicate", "duplicate"]


def test_a_repeat_that_is_too_late_for_the_first_one_waits_for_its_answer() -> None:
    harness = EngineHarness()
    harness.receive(
        kick("u", command_id="c"), kick("u", command_id="c", not_after=OVER), kick("u", command_id="c")
    )
    harness.ok()

    assert len(harness.sent) == 1
    assert statuses(harness) == ["succeeded", "duplicate", "duplicate"]


def test_a_repeat_that_expires_while_the_first_is_out_waits_for_its_answer() -> None:
    """The answer decides for both."""
    harness = EngineHarness()
    harness.receive(kick("u", command_id="c"), kick("u", command_id="c", not_after=SOON))
    harness.wait(9.0)
    assert statuses(harness) == []
    harness.ok()
    harness.receive(kick("u", command_id="c"))

    assert len(harness.sent) == 1
    assert statuses(harness) == ["succeeded", "duplicate", "duplicate"]


def test_a_repeat_that_is_too_late_has_expired_once_the_first_one_has_failed() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(kick("u", command_id="c"), kick("u", command_id="c", not_after=SOON))
    harness.wait(9.0)
    harness.code(harness.request(), 10010)
    assert statuses(harness) == ["failed", "expired"], "it needs no permit for that"
    harness.receive(kick("u", command_id="c"))
    harness.wait(1.0)
    harness.ok()

    assert len(harness.sent) == 2
    assert statuses(harness) == ["failed", "expired", "succeeded"]


def test_a_repeat_that_waits_to_be_carried_out_again_expires_in_time() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(kick("u", command_id="c"), kick("u", command_id="c", not_after=SOON))
    harness.code(harness.request(), 10010)
    harness.be_busy(9.0)
    harness.wait(0.0)

    assert statuses(harness) == ["failed", "expired"]
