# moderation-worker: executes moderation commands from Kafka on Tencent Cloud Chat.
# Nothing lives here but the version, and when this process began with it.

from __future__ import annotations

import time
from typing import Final

__version__ = "0.1.0"
BEGAN: Final = time.monotonic()
"""A process of the same static name was dead by then. It is read here because this is imported first: the rest takes a second."""
