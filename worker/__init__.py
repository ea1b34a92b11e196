# moderation-worker: executes moderation commands from Kafka on Tencent Cloud Chat.
# Nothing lives here but the version.

from __future__ import annotations

__version__ = "0.1.0"
