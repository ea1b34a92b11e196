# What became of one Kafka transaction: a closed union of frozen values, which the publisher returns and the loop acts on.
#
# No behaviour lives here.

from __future__ import annotations

from msgspec import Struct


class Published(Struct, frozen=True):
    """It is committed: outcomes, dead letters and offsets are visible together."""


class Aborted(Struct, frozen=True):
    """
    It is not committed, or that cannot be found out here any more: the worker closes, or its partitions are gone. The results of
    partitions that are still owned must be published again.

    Attributes:
        reason: For the log.
        retry_soon: It passes by itself (a rebalance, or records must be smaller): the results are published again almost at once.
            False after a failure of a broker, and while the command topic is gone or another has its name: that may last for ever.
        took_too_long: It took about as long as a transaction may: the next one must be smaller.
        dead_letters_refused: Only dead letters were refused: outcomes that need none can be published without them.

    """

    reason: str
    retry_soon: bool = False
    took_too_long: bool = False
    dead_letters_refused: bool = False


class MetadataRefused(Struct, frozen=True):
    """It is not committed: the metadata of this partition's commit is too long for the broker. Shorten it and publish all again."""

    partition: int


class Fenced(Struct, frozen=True):
    """
    Another process has taken this worker's transactional id or static member id: this one must stop at once.

    Whether the transaction is committed is not known, and is no longer this process's business.
    """

    reason: str


PublishResult = Published | Aborted | MetadataRefused | Fenced
