# What kafka-python's errors mean: which pass by themselves, and what a failed transaction was (a PublishResult).
# Nothing is done about it here.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kafka import errors

from worker.domain.publish_results import Aborted, Fenced, MetadataRefused
from worker.errors import BrokerError, FencedError

if TYPE_CHECKING:
    from worker.broker.records import Sending
    from worker.domain.effects import Transaction
    from worker.domain.publish_results import PublishResult
    from worker.errors import WorkerError

ID_TAKEN: Final = "another process has joined the group with this worker's instance_id: give each replica a kafka.instance_id of its own, or none"
NAME_TAKEN: Final = (
    "another process uses this worker's name {name} (its transactional id or static member id): give each replica a "
    "kafka.instance_id of its own, or none ({error!r})"
)
TRANSIENT: Final = (errors.RetriableError, errors.BrokerNotAvailableError, errors.UnknownBrokerIdError)
"""What passes by itself. The last two are not marked as such by kafka-python; they come when brokers are replaced."""
FENCED: Final = (errors.ProducerFencedError, errors.InvalidProducerEpochError)
"""Another producer has begun with our transactional id, or the broker has ended our transaction for its age."""
TOO_LARGE: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
REBALANCING: Final = (
    "CommitFailedError",
    "RebalanceInProgressError",
    "IllegalGenerationError",
    "UnknownMemberIdError",
)
"""By name: kafka-python wraps most of them into a plain KafkaError, with the name in its text."""


class RecordRefusedError(errors.KafkaError):
    """kafka-python or the broker refused this record; its cause says why."""

    def __init__(self, record: Sending) -> None:
        super().__init__(f"a record of {record.topic}")
        self.record = record

    @property
    def too_large(self) -> bool:
        """Whether for its size."""
        return isinstance(self.__cause__, TOO_LARGE)


def verdict(
    transaction: Transaction, error: BaseException, cause: BaseException, *, timed_out: bool
) -> PublishResult:
    """
    What to tell of a transaction that is not committed.

    ``error`` is what was raised, ``cause`` what brought the transaction down, which ``error`` often does not say.
    ``timed_out``: it is so old that the broker may have ended it, which looks as if another producer had taken over.
    """
    if isinstance(cause, errors.FencedInstanceIdError) or (isinstance(cause, FENCED) and not timed_out):
        return Fenced(repr(cause))
    text = f"{error!r} {cause!r}"
    if "OffsetMetadataTooLargeError" in text:
        sizes = {partition: len(commit.metadata) for partition, commit in transaction.commits.items()}
        largest = max(sizes, key=lambda partition: sizes[partition])
        return MetadataRefused(largest, sizes[largest])
    return Aborted(text, generation=any(name in text for name in REBALANCING), aged=timed_out)


def ending(error: Exception) -> WorkerError:
    """What to tell of an error that ended the consumer."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    worker_error: WorkerError = (
        FencedError(ID_TAKEN)
        if isinstance(error, errors.FencedInstanceIdError)
        else BrokerError(f"the consumer has ended: {cause!r}")
    )
    worker_error.__cause__ = error
    return worker_error


_SENTENCES: Final[dict[type[BaseException], str]] = {
    errors.TopicAuthorizationFailedError: "the Kafka user may not do this with the topic (see the rights that config/running.md lists)",
    errors.GroupAuthorizationFailedError: "the Kafka user may not read the group's commits (it needs Read on the group)",
    errors.ClusterAuthorizationFailedError: "the Kafka user may not do this on the cluster",
    errors.TransactionalIdAuthorizationFailedError: "the Kafka user may not use the transactional id",
    errors.SaslAuthenticationFailedError: "Kafka refuses the user or the password of kafka.common",
    errors.InvalidReplicationFactorError: "the replication factor is larger than the number of brokers",
    errors.InvalidPartitionsError: "Kafka does not take this number of partitions",
    errors.PolicyViolationError: "a policy of the cluster forbids it",
    errors.InvalidConfigurationError: "Kafka does not take a topic's configuration",
    errors.KafkaTimeoutError: "Kafka did not answer in time",
}
"""What an operator can do something about, in a sentence."""
MOST_TOLD: Final = 300
"""Characters of a text of kafka-python's: it may hold a whole response."""
_BOOTSTRAP: Final = "Unable to bootstrap from "
_REFUSED_SIGN_IN: Final = ("SaslAuthenticationFailedError", "Failed to authenticate")


def sentence(error: BaseException) -> str:
    """What went wrong, in one sentence: what brokers and kafka-python append of their requests and answers is left out."""
    for kind, told in _SENTENCES.items():
        if isinstance(error, kind):
            return told
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST_TOLD else f"{text[:MOST_TOLD]}…"


def unreachable(servers: str, error: BaseException) -> BrokerError:
    """That a client could not be opened, and the reason that kafka-python gave last."""
    text = " ".join(str(error).split())
    text = text.partition(_BOOTSTRAP)[2].partition(": ")[2] or text  # the servers are told once
    text = text[:MOST_TOLD]
    if any(sign in text for sign in _REFUSED_SIGN_IN):
        text = f"Kafka refuses the user or the password of kafka.common ({text})"
    return BrokerError(f"Kafka cannot be reached at {servers}: {text}")
