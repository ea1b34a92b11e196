# The lag that Kafka's tools show of the group: 0 when everything is done, whatever producers leave behind their records.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from tests.process.environment import Environment, command
from worker.testing.checker.contract import BAN

if TYPE_CHECKING:
    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka

WITHIN = 30.0
TRANSACTIONS = 8


def test_where_producers_use_transactions_the_groups_lag_goes_to_nothing(kafka: Cluster) -> None:
    """A marker behind each transaction was reported as a lag of 1 for ever, and an aborted one with all its records."""
    with Environment(kafka.bootstrap_servers) as environment:
        worker = environment.stage.start_worker()
        environment.stage.wait_until_ready(worker)
        group = environment.stage.topics.commands.removesuffix(".commands")
        producer = KafkaProducer(
            bootstrap_servers=kafka.bootstrap_servers, transactional_id=f"{group}-detector"
        )
        producer.init_transactions()
        for number in range(TRANSACTIONS):
            producer.begin_transaction()
            for each in range(5):
                planned = command(
                    BAN, f"group-{each}", f"user-{number}-{each}", f"id-{number}-{each}", duration=60
                )
                producer.send(environment.stage.topics.commands, key=planned.key, value=planned.value)
            if number % 2:
                producer.abort_transaction()
            else:
                producer.commit_transaction()
        producer.close()

        def lag() -> int:
            with environment.admin() as admin:
                ends = admin.list_partition_offsets(dict.fromkeys(environment.places(), -1))
                held = admin.list_group_offsets(group)[group]
            return sum(
                end.offset - (held[place].offset if place in held else 0) for place, end in ends.items()
            )

        environment.play_until(
            lambda: len(environment.outcomes) == TRANSACTIONS * 5 // 2, WITHIN, "carried out"
        )
        environment.play_until(lambda: lag() == 0, WITHIN, "no lag")
        environment.end()
