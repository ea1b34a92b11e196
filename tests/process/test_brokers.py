# A cluster as companies run it: three brokers, every record on three of them, two of which must have it before it counts.

from __future__ import annotations

from typing import Final

import pytest

from tests.process.brokers import Brokers
from tests.process.environment import LATENCY, Environment, command
from worker.testing.checker.contract import BAN

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.usefixtures("collected_sockets"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

COMMANDS: Final = 900
RATE: Final = 100.0


def test_a_broker_that_is_killed_and_comes_back_in_mid_raid_costs_no_command() -> None:
    """With it go the leaders of a third of the partitions, and perhaps the group's and the transactions' coordinator."""
    load = [
        command(BAN, f"group-{one % 20}", f"user-{one}", f"id-{one}", duration=60) for one in range(COMMANDS)
    ]
    with Brokers() as brokers, Environment(brokers.bootstrap_servers, *LATENCY) as environment:
        replicas = [
            environment.stage.start_worker(
                {"kafka": {"bootstrap_servers": brokers.bootstrap_servers, "consumer": {}}}
            )
            for _ in range(2)
        ]
        for replica in replicas:
            environment.stage.wait_until_ready(replica)
        environment.send(load, RATE)
        environment.play(2.0)
        brokers.kill(0)
        environment.play(4.0)
        brokers.start(0)
        environment.play_to_the_end()

        report = environment.judged()

    assert report.clean, report.examples
    assert len(environment.outcomes) == COMMANDS
