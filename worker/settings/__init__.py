# Every knob: read from a file and the environment, validated at start, all problems told at once.
#
# table.py has each setting with its default and reason; the rest reads, refuses and documents that table (reading.py: `load`).
# Nothing here starts or connects anything, and no secret is ever shown.

from __future__ import annotations

from worker.settings.kafka import Kafka as Kafka
from worker.settings.reading import load as load
from worker.settings.table import Settings as Settings
from worker.settings.table import secrets_of as secrets_of
from worker.settings.tencent import App as App
