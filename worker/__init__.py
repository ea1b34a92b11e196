# moderation-worker: executes moderation commands from Kafka on Tencent Cloud Chat.
# Nothing lives here but the version.

__version__ = "0.1.0"
