# Reads outcomes as they come: kafka-python with lz4, which outcomes are compressed with. With confluent-kafka, read_committed is
# the default.

from __future__ import annotations

import json
import os

from kafka import KafkaConsumer

consumer = KafkaConsumer(
    os.environ.get("TOPIC", "moderation.outcomes"),
    bootstrap_servers=os.environ.get("KAFKA", "localhost:9092"),
    group_id=os.environ.get("GROUP", "example-python"),
    isolation_level="read_committed",  # else you see outcomes twice after a crash
    auto_offset_reset="earliest",
    enable_auto_commit=False,
)
for record in consumer:
    outcome = json.loads(record.value)
    print(outcome["command_id"], outcome["status"], flush=True)
    for result in outcome.get("results", []):  # none for a rejected command
        print("  ", result["user_id"], result["status"], flush=True)
    consumer.commit()  # after the outcome has been dealt with
