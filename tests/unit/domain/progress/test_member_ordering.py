# Member queues: when they begin and end. (The order that they keep is tested in test_order.py and in tests/simulation.)

from __future__ import annotations

from tests.unit.domain.engine_harness import EngineHarness, ban, unban
from worker.domain.progress.member_ordering import UNKNOWN_FOR


def test_a_queue_that_was_forgotten_does_not_take_its_successor_along() -> None:
    """
    A try of unknown end keeps a timer for its queue. If the queue ends in the very moment before that timer is looked at, and
    a new queue begins for the same member, the timer must not end that one: its next command would not wait.
    """
    harness = EngineHarness()
    harness.receive(ban("u", command_id="first"))
    harness.timeout(harness.request())
    harness.request_permit()
    harness.now += UNKNOWN_FOR  # no tick between
    harness.ok()
    harness.publish()

    harness.receive(unban("u", command_id="second"))
    assert len(harness.out) == 1
    harness.wait(0.0)
    harness.receive(ban("u", command_id="third"))

    assert [request.action for request in harness.out] == ["unban"]


def test_nothing_is_kept_of_members_without_open_commands() -> None:
    harness = EngineHarness()
    for number in range(20):
        harness.wait(UNKNOWN_FOR)
        harness.receive(ban(f"u{number % 7}", command_id=f"c{number}", duration=60 + number))
        harness.timeout(harness.request())
        harness.request_permit()
        harness.ok()
        harness.publish()

    harness.wait(UNKNOWN_FOR + 1.0)

    assert len(harness.engine._ordering) == 0
