# kafka-python and asyncio: a poll in a thread, its batches at once (batches.py), outcomes, commit, the next poll.
#
#   python -m tests.benchmarks.baselines.asyncio_batches --help

from __future__ import annotations

import asyncio
import json

import uvloop
from kafka import KafkaConsumer, KafkaProducer

from tests.benchmarks.baselines.batches import RECORDS, Batches, client
from tests.benchmarks.baselines.tencent_calls import options, tencent_of


async def main() -> None:
    """Until it is killed."""
    given = options()
    consumer = KafkaConsumer(
        given.commands,
        bootstrap_servers=given.bootstrap_servers,
        group_id=given.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=RECORDS,
    )
    producer = KafkaProducer(bootstrap_servers=given.bootstrap_servers, linger_ms=5)
    async with client() as http:
        batches = Batches(tencent_of(given), http)
        while True:
            polled = await asyncio.to_thread(consumer.poll, timeout_ms=500)
            commands = [json.loads(record.value) for records in polled.values() for record in records]
            for outcome in await batches.carry_out(commands):
                producer.send(given.outcomes, json.dumps(outcome).encode())
            await asyncio.to_thread(producer.flush)
            await asyncio.to_thread(consumer.commit)


if __name__ == "__main__":
    uvloop.run(main())
