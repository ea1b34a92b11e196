#!/bin/sh
# Reads outcomes with kcat as they come, from the beginning, one line of JSON each.
set -eu

exec kcat -C -u -q -b "${KAFKA:-localhost:9092}" -t "${TOPIC:-moderation.outcomes}" -o beginning \
    -X isolation.level=read_committed
