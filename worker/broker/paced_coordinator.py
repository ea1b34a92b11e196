# How long a poll waits when a heartbeat is due, and how long a handover may take without a warning. Nothing is sent here.
#
# kafka-python's own coordinator, which kafka_private_parts.py replaces by this one, spins while a heartbeat has no answer.

from __future__ import annotations

import math
from typing import Any, Final

from kafka.coordinator.consumer import ConsumerCoordinator

SHORTEST_POLL: Final = 0.02
"""How long a poll waits at least, unless records come. Heartbeats are sent by another task, and do not wait for it."""


class PacedCoordinator(ConsumerCoordinator):
    """kafka-python's coordinator, for which a poll never waits for nothing."""

    _REBALANCE_LISTENER_WARN_SECS = math.inf
    """No handover is too long: its warning, after a second, advises the kind of listener that rebalance_listener.py has already."""

    def time_to_next_poll(self) -> float:
        """
        Return the seconds until a poll must be over, at least ``SHORTEST_POLL``.

        While a frozen broker leaves a heartbeat unanswered, the next one is due: kafka-python's poll would not wait at all, and take a
        whole core until the heartbeat is given up.
        """
        theirs: Any = super()
        return max(SHORTEST_POLL, float(theirs.time_to_next_poll()))
