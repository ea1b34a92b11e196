#!/bin/sh
# Sends one command with kcat. The partitioner must be named: librdkafka's own default places keys elsewhere than Java's does.
set -eu

printf '%s\n' '{"command_id": "kcat-1", "action": "group.ban_group_member", "group_id": "group-42", "user_ids": ["user-1"], "duration": 3600, "reason": "spam", "issuer": "example-kcat"}' |
    kcat -P -b "${KAFKA:-localhost:9092}" -t "${TOPIC:-moderation.commands}" -k group-42 \
        -X partitioner=murmur2_random -X acks=all
