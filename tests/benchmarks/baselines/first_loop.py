# The loop that everybody writes first: poll, one call for each command, produce an outcome, commit.
#
#   python -m tests.benchmarks.baselines.first_loop --help
#
# kafka-python, httpx and tenacity, each used as its page says; one connection is kept open, outcomes are sent in the
# background, and offsets are committed once for each poll. It knows no quota: one call after the other stays below it.

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
from kafka import KafkaConsumer, KafkaProducer
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tests.benchmarks.baselines.tencent_calls import (
    ATTEMPTS,
    TryAgainError,
    body_of,
    code_of,
    options,
    outcome_of,
    tencent_of,
)

if TYPE_CHECKING:
    from tests.benchmarks.baselines.tencent_calls import Tencent

RETRYING = Retrying(
    retry=retry_if_exception_type((TryAgainError, httpx.TransportError)),
    wait=wait_random_exponential(multiplier=0.1, max=2.0),
    stop=stop_after_attempt(ATTEMPTS),
    reraise=True,
)


def called(client: httpx.Client, tencent: Tencent, command: dict[str, Any]) -> int:
    """Makes one call, and returns its code."""
    answer = client.post(tencent.url(command["action"]), json=body_of(command, command["user_ids"]))
    return code_of(answer.json())


def main() -> None:
    """Until it is killed."""
    given = options()
    tencent = tencent_of(given)
    consumer = KafkaConsumer(
        given.commands,
        bootstrap_servers=given.bootstrap_servers,
        group_id=given.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = KafkaProducer(bootstrap_servers=given.bootstrap_servers)
    with httpx.Client(timeout=10.0) as client:
        while True:
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    command = json.loads(record.value)
                    code = RETRYING(called, client, tencent, command)
                    producer.send(given.outcomes, json.dumps(outcome_of(command, code)).encode(), record.key)
            producer.flush()
            consumer.commit()


if __name__ == "__main__":
    main()
