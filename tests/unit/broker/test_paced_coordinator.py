# How long a poll waits when a heartbeat is due.

from __future__ import annotations

from typing import Any

import pytest

from worker.broker.paced_coordinator import SHORTEST_POLL, PacedCoordinator


@pytest.mark.parametrize(("due_in", "waits"), [(0, SHORTEST_POLL), (0.001, SHORTEST_POLL), (2.5, 2.5)])
def test_a_poll_waits_a_moment_also_while_a_heartbeat_has_no_answer(due_in: float, waits: float) -> None:
    """The next one is due all that time: without a wait a frozen broker would cost a core."""
    kind: Any = PacedCoordinator
    coordinator = kind.__new__(kind)
    coordinator.config = {"enable_auto_commit": False}
    coordinator.time_to_next_heartbeat = lambda: due_in

    assert coordinator.time_to_next_poll() == waits
