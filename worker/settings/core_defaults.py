# The core's own defaults (domain/engine_settings.py) handed on: the settings take theirs from here, so that each is defined once.
#
# No setting is defined here (model.py, kafka_section.py, tencent_section.py).

from __future__ import annotations

from typing import Final

from worker.domain.contract.outcomes import Worker
from worker.domain.engine_settings import EngineSettings

CORE: Final = EngineSettings(topic="", partitions=1, apps={}, default_app=None, worker=Worker("", ""))
