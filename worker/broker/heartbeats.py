# When the consumer's heartbeats go: each also asks whether the group rebalances, so a member that asks late holds up all others.
# And how long a poll waits when one is due.
#
# kafka-python's own classes, which kafka_private_parts.py replaces by these, ask at one interval, and spin while a heartbeat has
# no answer. Nothing is sent here.

from __future__ import annotations

import time
from typing import Any, Final

from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.coordinator.heartbeat import Heartbeat

EAGER_SECONDS: Final = 8.0
"""
How long heartbeats come quickly after a join. In a cooperative rebalance who must give something up joins again when it has handed
that over (``kafka.handover_seconds`` and a margin); until all others have heard of it, nobody works on what was given up.
"""
EAGER_INTERVAL: Final = 0.2
SHORTEST_POLL: Final = 0.02
"""How long a poll waits at least, unless records come. Heartbeats are sent by another task, and do not wait for it."""


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


class PatientCoordinator(ConsumerCoordinator):
    """kafka-python's coordinator, for which a poll never waits for nothing."""

    def time_to_next_poll(self) -> float:
        """
        Return the seconds until a poll must be over, at least ``SHORTEST_POLL``.

        While a frozen broker leaves a heartbeat unanswered, the next one is due: kafka-python's poll would not wait at all, and take a
        whole core until the heartbeat is given up.
        """
        theirs: Any = super()
        return max(SHORTEST_POLL, float(theirs.time_to_next_poll()))
