# FastStream over aiokafka: a batch subscriber whose handler calls for its batch at once (batches.py) and publishes outcomes.
#
#   .venv-bench/bin/python -m tests.benchmarks.baselines.faststream_batches --help
#
# FastStream is locked in requirements-bench.txt and installed beside, in .venv-bench: `make bench` does it. An offset is
# acknowledged when the handler has returned.

from __future__ import annotations

import json
from typing import Any

import uvloop
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker

from tests.benchmarks.baselines.batches import RECORDS, Batches, client
from tests.benchmarks.baselines.tencent_calls import options, tencent_of


async def main() -> None:
    """Until it is killed."""
    given = options()
    broker = KafkaBroker(given.bootstrap_servers, logger=None, linger_ms=5)
    http = client()
    batches = Batches(tencent_of(given), http)

    async def handle(values: list[bytes]) -> None:
        outcomes = await batches.carry_out([json.loads(value) for value in values])
        await broker.publish_batch(*(json.dumps(each).encode() for each in outcomes), topic=given.outcomes)

    subscriber: Any = broker.subscriber(
        given.commands,
        group_id=given.group,
        batch=True,
        max_records=RECORDS,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=lambda message: message.body,
    )
    subscriber(handle)
    async with http:
        await FastStream(broker).run()


if __name__ == "__main__":
    uvloop.run(main())
