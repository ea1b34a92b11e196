# Sends one command and waits until Kafka has it: kafka-python. With confluent-kafka, set "partitioner": "murmur2_random":
# its own default places keys elsewhere than Java's and kafka-python's producers do.

from __future__ import annotations

import json
import os
import uuid

from kafka import KafkaProducer

SERVERS = os.environ.get("KAFKA", "localhost:9092")
TOPIC = os.environ.get("TOPIC", "moderation.commands")

command = {
    "command_id": str(uuid.uuid4()),  # the idempotency key: keep it when you try again
    "action": "group.ban_group_member",
    "group_id": "group-42",
    "user_ids": ["user-1"],
    "duration": 3600,
    "reason": "spam",
    "issuer": "example-python",
}

producer = KafkaProducer(bootstrap_servers=SERVERS, acks="all")
sent = producer.send(
    TOPIC,
    key=command["group_id"].encode(),  # the target's id: its commands stay in order, on one partition
    value=json.dumps(command).encode(),
).get(timeout=30)
producer.close()
print(f"{command['command_id']} is {sent.topic}-{sent.partition}-{sent.offset}")
