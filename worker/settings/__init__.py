# Every setting: read from a file and the environment, validated at start, with all problems reported at once.
#
# model.py has each setting with its default and reason; the rest reads, refuses and documents that table (loader.py: `load`).
# Nothing here starts or connects anything, and no secret is ever shown.

from __future__ import annotations

from worker.settings.kafka_section import KafkaSettings as KafkaSettings
from worker.settings.kafka_section import secret_in as secret_in
from worker.settings.kafka_section import secrets_in_option as secrets_in_option
from worker.settings.loader import load as load
from worker.settings.model import Settings as Settings
from worker.settings.model import secrets_of as secrets_of
from worker.settings.tencent_section import AppSettings as AppSettings
