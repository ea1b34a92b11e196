# A raid is one hot room: three replicas, one of which has the room's partition, use the whole quota for it, and never more.

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import pytest

from tests.process.environment import LATENCY, Environment, command
from worker.testing.checker.contract import BAN

if TYPE_CHECKING:
    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka

QUOTA = 200
RAMP = 5.0
MEASURED = 8.0
READY = 30.0


def test_with_three_replicas_one_hot_room_gets_nine_tenths_of_the_quota(kafka: Cluster) -> None:
    """Without lending it would get a third: the slices of the replica that has its partition."""
    with Environment(kafka.bootstrap_servers, *LATENCY) as environment:
        stage = environment.stage
        replicas = [stage.start_worker() for _ in range(3)]
        environment.play_until(lambda: all(map(stage.is_ready, replicas)), READY, "ready")
        logs = [stage.folder / f"worker-{number}.log" for number in (1, 2, 3)]
        environment.play_until(
            lambda: all("quota.lending" in log.read_text() for log in logs), READY, "lending"
        )
        count = round(QUOTA * (RAMP + MEASURED + 3.0))
        environment.send(
            [
                command(
                    BAN, "hot", [f"u{number}-{place}" for place in range(20)], f"id-{number}", duration=3600
                )
                for number in range(count)
            ]
        )
        environment.play_to_the_end()
        environment.end()

        stamps = sorted(request.read_at for request in environment.requests())
        begin = stamps[0] + RAMP
        used = bisect_left(stamps, begin + MEASURED) - bisect_left(stamps, begin)
        most = max(place - bisect_left(stamps, at - 1.0 + 1e-9) + 1 for place, at in enumerate(stamps))
        assert most <= QUOTA
        assert used >= 0.9 * QUOTA * MEASURED, f"{used / MEASURED:.1f} calls a second"
        assert environment.statuses() == {"succeeded": count}
