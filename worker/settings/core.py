# What the core works by where nothing is said. The settings take their defaults from here, so that each stands in one place.

from __future__ import annotations

from typing import Final

from worker.domain.contract.outcomes import Worker
from worker.domain.rules import Rules

CORE: Final = Rules(topic="", partitions=1, apps={}, default_app=None, worker=Worker("", ""))
