# When the consumer's heartbeats go: each also asks whether the group rebalances, so a member that asks late holds up all others.
#
# kafka-python's own Heartbeat, which kafka_private_parts.py replaces by this one, asks at one interval. Nothing is sent here.

from __future__ import annotations

import time
from typing import Any, Final

from kafka.coordinator.heartbeat import Heartbeat

EAGER_SECONDS: Final = 8.0
"""
How long heartbeats come quickly after a join. In a cooperative rebalance who must give something up joins again when it has handed
that over (``kafka.handover_seconds`` and a margin); until all others have heard of it, nobody works on what was given up.
"""
EAGER_INTERVAL: Final = 0.2


class EagerHeartbeat(Heartbeat):
    """Kafka-python's heartbeat, more often for a while after each join."""

    def time_to_next_heartbeat(self) -> float:
        """Return the seconds until the next heartbeat is due; 0 if it is."""
        theirs: Any = super()
        due_in: float = theirs.time_to_next_heartbeat()
        now = time.monotonic()
        if now - self.last_reset >= EAGER_SECONDS:
            return due_in
        return min(due_in, max(0.0, max(self.last_send, self.last_reset) + EAGER_INTERVAL - now))
