# How long a poll waits when a heartbeat is due, and what is said of a long handover.

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.coordinator import consumer

from worker.broker.paced_coordinator import SHORTEST_POLL, PacedCoordinator


@pytest.mark.parametrize(("due_in", "waits"), [(0, SHORTEST_POLL), (0.001, SHORTEST_POLL), (2.5, 2.5)])
def test_a_poll_waits_a_moment_also_while_a_heartbeat_has_no_answer(due_in: float, waits: float) -> None:
    """The next one is due all that time: without a wait a frozen broker would cost a core."""
    kind: Any = PacedCoordinator
    coordinator = kind.__new__(kind)
    coordinator.config = {"enable_auto_commit": False}
    coordinator.time_to_next_heartbeat = lambda: due_in

    assert coordinator.time_to_next_poll() == waits


def test_a_handover_of_some_seconds_advises_no_other_kind_of_listener(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of more than a second had a warning that the listener blocks heartbeats, which it does not."""

    async def handed_over(_: object) -> None:
        pass

    kind: Any = PacedCoordinator
    coordinator = kind.__new__(kind)
    listener = SimpleNamespace(on_partitions_revoked=handed_over)
    coordinator._subscription = SimpleNamespace(rebalance_listener=listener)
    coordinator.config = {"group_id": "workers"}
    monkeypatch.setattr(consumer, "time", SimpleNamespace(monotonic=itertools.count(step=5.0).__next__))

    asyncio.run(coordinator._invoke_rebalance_listener_async("on_partitions_revoked", []))

    assert caplog.messages == []
