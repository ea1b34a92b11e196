# When heartbeats go: often for a while after a join, later at the interval that is configured.

from __future__ import annotations

from typing import Any

import pytest
from kafka.coordinator import heartbeat as theirs

from worker.broker import heartbeats
from worker.broker.heartbeats import (
    EAGER_INTERVAL,
    EAGER_SECONDS,
    SHORTEST_POLL,
    EagerHeartbeat,
    PatientCoordinator,
)

INTERVAL = 3.0


class Times:
    """
    The clock of both modules.
    """

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr(theirs, "time", times)
    monkeypatch.setattr(heartbeats, "time", times)
    return times


def beating() -> Any:
    """
    The heartbeats of a member that has joined just now.
    """
    kind: Any = EagerHeartbeat
    heartbeat = kind(
        group_id="group",
        heartbeat_interval_ms=INTERVAL * 1000,
        session_timeout_ms=15_000,
        retry_backoff_ms=100,
    )
    heartbeat.reset_timeouts()
    return heartbeat


def test_after_a_join_heartbeats_come_often_and_later_at_their_interval(times: Times) -> None:
    """
    In between somebody hands over, joins again and waits for all others, who hear of it with a heartbeat.
    """
    heartbeat = beating()
    assert heartbeat.time_to_next_heartbeat() == pytest.approx(EAGER_INTERVAL)

    times.now += EAGER_SECONDS - EAGER_INTERVAL
    heartbeat.sent_heartbeat()
    assert heartbeat.time_to_next_heartbeat() == pytest.approx(EAGER_INTERVAL)

    times.now += 2 * EAGER_INTERVAL
    heartbeat.sent_heartbeat()
    assert heartbeat.time_to_next_heartbeat() == pytest.approx(INTERVAL)

    times.now += INTERVAL
    assert heartbeat.should_heartbeat()


def test_one_that_failed_goes_again_at_once(times: Times) -> None:
    heartbeat = beating()
    times.now += EAGER_INTERVAL
    heartbeat.sent_heartbeat()
    heartbeat.fail_heartbeat()

    assert heartbeat.time_to_next_heartbeat() == pytest.approx(0.1)


@pytest.mark.parametrize(("due_in", "waits"), [(0, SHORTEST_POLL), (0.001, SHORTEST_POLL), (2.5, 2.5)])
def test_a_poll_waits_a_moment_also_while_a_heartbeat_has_no_answer(due_in: float, waits: float) -> None:
    """
    The next one is due all that time: without a wait a frozen broker would cost a core.
    """
    kind: Any = PatientCoordinator
    coordinator = kind.__new__(kind)
    coordinator.config = {"enable_auto_commit": False}
    coordinator.time_to_next_heartbeat = lambda: due_in

    assert coordinator.time_to_next_poll() == waits
