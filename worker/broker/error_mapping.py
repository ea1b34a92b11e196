# What kafka-python's errors mean: which ones pass by themselves, which PublishResult a failed transaction has, and the
# sentence that an operator reads.
# Errors are translated here, never acted on. What Kafka refuses until somebody changes something is in kafka_refusals.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kafka import errors

from worker.domain.publish_results import Aborted, Fenced, MetadataRefused
from worker.errors import BrokerError, FencedError

if TYPE_CHECKING:
    from worker.broker.producer_records import ProducerRecord
    from worker.domain.effects import Transaction
    from worker.domain.publish_results import PublishResult
    from worker.errors import WorkerError

ID_TAKEN: Final = "another process has joined the group with this worker's instance_id: give each replica a kafka.instance_id of its own, or none"
NAME_TAKEN: Final = (
    "another process uses this worker's name {name} (its transactional id or static member id): give each replica a "
    "kafka.instance_id of its own, or none ({error!r})"
)
TRANSIENT: Final = (
    errors.RetriableError,
    errors.BrokerNotAvailableError,
    errors.UnknownBrokerIdError,
    errors.UnknownError,
)
"""
Errors that pass by themselves. kafka-python does not mark the last three as retriable. Two occur when brokers are replaced; the third
is what a broker says of a failure of its own, perhaps of one partition, and ending would only hand that to the next owner.
"""
FENCED: Final = (errors.ProducerFencedError, errors.InvalidProducerEpochError)
"""Another producer has started with our transactional id, or the broker has aborted our transaction because of its age."""
TOO_LARGE: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
REBALANCING: Final = (
    "CommitFailedError",
    "RebalanceInProgressError",
    "IllegalGenerationError",
    "UnknownMemberIdError",
)
"""Names of errors: kafka-python wraps most of these into a plain KafkaError that has the name in its text."""


class RecordRefusedError(errors.KafkaError):
    """kafka-python or the broker refused this record; its cause says why."""

    def __init__(self, record: ProducerRecord, cause: BaseException | None = None) -> None:
        super().__init__(f"a record of {record.topic}")
        self.record = record
        self.__cause__ = cause

    @property
    def too_large(self) -> bool:
        """Whether it was refused for its size."""
        return isinstance(self.__cause__, TOO_LARGE)


class CredentialError(errors.KafkaConnectionError):
    """
    A secret, token or certificate cannot be used, which keeps connections from being made.

    Attributes:
        kind: The kind of refusal (kafka_refusals.py).
        reason: What is wrong, as a sentence that names the file or the server.
        remedy: What to do about it.

    """

    def __init__(self, kind: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.kind = kind
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}: {self.remedy}"  # kafka-python's own text begins with the name of the class


def publish_failure(
    transaction: Transaction, error: BaseException, cause: BaseException, *, timed_out: bool
) -> PublishResult:
    """
    Return the result of a transaction that is not committed.

    ``error`` is what was raised, and ``cause`` what made the transaction fail, which ``error`` often does not say.
    ``timed_out`` says that the broker may have aborted it because of its age, which looks the same as being fenced.
    """
    if isinstance(cause, errors.FencedInstanceIdError) or (isinstance(cause, FENCED) and not timed_out):
        return Fenced(repr(cause))
    text = f"{error!r} {cause!r}"
    if "OffsetMetadataTooLargeError" in text:
        commits = transaction.commits
        return MetadataRefused(max(commits, key=lambda partition: len(commits[partition].metadata)))
    return Aborted(text, retry_soon=any(name in text for name in REBALANCING), took_too_long=timed_out)


def thread_failure(part: str, error: Exception) -> WorkerError:
    """Return the worker's error for one that ended the thread of this part."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    worker_error: WorkerError = (
        FencedError(ID_TAKEN)
        if isinstance(error, errors.FencedInstanceIdError)
        else BrokerError(f"{part} has ended: {cause!r}")
    )
    worker_error.__cause__ = error
    return worker_error


REFUSED_SIGN_IN: Final = "Kafka refuses the sign-in with what kafka.common says"
_SENTENCES: Final[dict[type[BaseException], str]] = {
    errors.TopicAuthorizationFailedError: "the Kafka user may not do this with the topic (see the rights that config/running.md lists)",
    errors.GroupAuthorizationFailedError: "the Kafka user may not read the group's commits (it needs Read on the group)",
    errors.ClusterAuthorizationFailedError: "the Kafka user may not do this on the cluster",
    errors.TransactionalIdAuthorizationFailedError: "the Kafka user may not use the transactional id",
    errors.SaslAuthenticationFailedError: REFUSED_SIGN_IN,
    errors.InvalidReplicationFactorError: "the replication factor is larger than the number of brokers",
    errors.InvalidPartitionsError: "Kafka does not accept this number of partitions",
    errors.PolicyViolationError: "a policy of the cluster forbids it",
    errors.InvalidConfigurationError: "Kafka does not accept the configuration of a topic",
    errors.KafkaTimeoutError: "Kafka did not answer in time",
    errors.RequestTimedOutError: "Kafka did not finish in time",
    errors.NotControllerError: "the cluster is changing its controller",
    errors.UnsupportedVersionError: "this Kafka is too old for what is asked of it",
}
"""The errors that an operator can act on, each as a sentence."""
SHOWN_CHARACTERS: Final = 300
"""The most characters shown of kafka-python's text, which may contain a whole response."""
_RESPONSE: Final = "failed with response"
"""How kafka-python introduces the response that it appends to a request."""
_BOOTSTRAP: Final = "Unable to bootstrap from "
_REFUSED_SIGN_IN: Final = ("SaslAuthenticationFailedError", "Failed to authenticate")


def sentence(error: BaseException) -> str:
    """Return what went wrong in one sentence, without the requests and responses that kafka-python appends."""
    for kind, known in _SENTENCES.items():
        if isinstance(error, kind):
            return known
    text = " ".join(str(error).split()) or type(error).__name__
    if _RESPONSE in text and isinstance(error, errors.BrokerResponseError):
        text = f"{type(error).__name__}: {error.description}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def unreachable(servers: str, error: BaseException) -> BrokerError:
    """Return the error for a client that could not be opened, with the last reason that kafka-python gave."""
    if isinstance(error.__cause__, CredentialError):  # whole: its end is the remedy
        return BrokerError(f"Kafka cannot be reached at {servers}: {error.__cause__}")
    text = " ".join(str(error).split())
    text = text.partition(_BOOTSTRAP)[2].partition(": ")[2] or text  # the servers are already in our sentence
    text = text[:SHOWN_CHARACTERS]
    if any(sign in text for sign in _REFUSED_SIGN_IN):
        text = f"{REFUSED_SIGN_IN} ({text})"
    return BrokerError(f"Kafka cannot be reached at {servers}: {text}")
