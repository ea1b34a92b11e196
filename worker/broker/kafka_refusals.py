# What Kafka refuses until somebody changes something: one table from kafka-python's errors to a kind, a sentence and a remedy.
#
# An error in no row passes by itself or is handled elsewhere (error_mapping.py). Kafka is not called here, and how long a
# refusal lasts is not known here (active_kafka_refusals.py).

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kafka import errors
from msgspec import Struct

from worker.broker.error_mapping import CredentialError, RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.broker.options import KafkaOptions

RIGHTS: Final = "grant it what config/running.md lists under “What its Kafka user may do”"


class RefusalRow(Struct, frozen=True):
    """
    One kind of refusal.

    Attributes:
        kind: Its name in events and metrics.
        classes: kafka-python's errors of this kind.
        reason: A sentence; ``{what}`` is the topic that it concerns.
        remedy: What an operator can do about it.

    """

    kind: str
    classes: tuple[type[errors.KafkaError], ...]
    reason: str
    remedy: str


class Refusal(Struct, frozen=True):
    """
    One refusal, as it is logged and shown.

    Attributes:
        topic: The topic that it concerns, or None.
        error: The name of kafka-python's error.

    """

    kind: str
    reason: str
    remedy: str
    error: str
    topic: str | None = None


ROWS: Final = (
    RefusalRow(
        "sign_in",
        (
            errors.SaslAuthenticationFailedError,
            errors.IllegalSaslStateError,
            errors.UnsupportedSaslMechanismError,
            errors.UnacceptableCredentialError,
            errors.DelegationTokenExpiredError,
            errors.PrincipalDeserializationFailureError,
        ),
        "the broker refuses the sign-in{as_user}",
        "{sign_in_remedy}",
    ),
    RefusalRow(
        "topic_denied",
        (errors.TopicAuthorizationFailedError,),
        "the broker refuses this user the topic {what}",
        RIGHTS,
    ),
    RefusalRow(
        "transactional_id_denied",
        (errors.TransactionalIdAuthorizationFailedError,),
        "the broker refuses this user the transactional id {transactional_id}",
        RIGHTS,
    ),
    RefusalRow(
        "group_denied",
        (errors.GroupAuthorizationFailedError,),
        "the broker refuses this user the consumer group {group}",
        RIGHTS,
    ),
    RefusalRow(
        "cluster_denied",
        (errors.ClusterAuthorizationFailedError, errors.SecurityDisabledError),
        "the broker refuses this user to write with idempotence",
        f"allow it IdempotentWrite on the cluster, or {RIGHTS}",
    ),
    RefusalRow(
        "topic_missing",
        (errors.UnknownTopicOrPartitionError, errors.UnknownTopicIdError, errors.InvalidTopicError),
        "the topic {what} does not exist, or has lost partitions",
        "create it with `moderation-worker topics create`, with as many partitions as the command topic",
    ),
    RefusalRow(
        "partition_missing",
        (errors.InvalidPartitionsError,),
        "the topic {what} has fewer partitions than the command topic",
        "add partitions: kafka-topics --alter --partitions; an outcome goes to the partition of its command's number",
    ),
    RefusalRow(
        "timestamp_refused",
        (errors.InvalidTimestampError,),
        "the topic {what} refuses this machine's time",
        "set the clocks of the workers and the brokers, or change message.timestamp.before.max.ms and "
        "message.timestamp.after.max.ms of the topic",
    ),
    RefusalRow(
        "record_too_large",
        (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError),
        "the topic {what} does not accept even the smallest records",
        "raise its max.message.bytes; 1048588 is Kafka's default",
    ),
    RefusalRow(
        "record_refused",
        (errors.InvalidRecordError, errors.PolicyViolationError),
        "the topic {what} refuses the records",
        "remove what validates them (a policy, a schema, cleanup.policy=compact) from the topic",
    ),
    RefusalRow(
        "format_refused",
        (
            errors.UnsupportedForMessageFormatError,
            errors.UnsupportedCompressionTypeError,
            errors.UnsupportedVersionError,
        ),
        "the topic {what} does not accept this record format",
        "set kafka.producer.compression_type to one that it accepts, and use brokers of version 2.5 or later",
    ),
    RefusalRow(
        "transaction_timeout_refused",
        (errors.InvalidTransactionTimeoutError,),
        "the broker allows no transactions of {transaction_timeout:.0f} s",
        "raise its transaction.max.timeout.ms",
    ),
    RefusalRow(
        "session_timeout_refused",
        (errors.InvalidSessionTimeoutError,),
        "the broker does not allow the session timeout",
        "set kafka.consumer.session_timeout_ms between its group.min.session.timeout.ms and group.max.session.timeout.ms",
    ),
    RefusalRow(
        "group_refused",
        (
            errors.GroupMaxSizeReachedError,
            errors.InconsistentGroupProtocolError,
            errors.InvalidGroupIdError,
        ),
        "the consumer group {group} does not accept this member",
        "use a kafka.group_id that no other program has, and see group.max.size of the brokers",
    ),
    RefusalRow(
        "too_few_replicas",
        (errors.NotEnoughReplicasError, errors.NotEnoughReplicasAfterAppendError),
        "the topic {what} has fewer replicas in sync than its min.insync.replicas",
        "bring the brokers back; the worker continues by itself",
    ),
    RefusalRow(
        "storage_failed",
        (errors.KafkaStorageError, errors.LogDirNotFoundError),
        "a broker cannot write to its disk",
        "look at the disk of the leader of {what}",
    ),
    RefusalRow(
        "batch_damaged",
        (errors.CorruptRecordError,),
        "a batch of the topic {what} is damaged",
        "see the event's error: one that was read holds up its partition, so let a replica that is sound lead that, or delete the records "
        "up to its offset with kafka-delete-records, which loses these commands",
    ),
)
"""The first row that matches an error names the refusal."""

OTHER: Final = RefusalRow(
    "other", (), "publishing to Kafka fails: {error}", "look at the broker's log and at the event's error"
)
UNREACHABLE: Final = RefusalRow(
    "unreachable",
    (),
    "{error}",
    "check that the brokers run, and advertised.listeners: the workers must reach each host and port",
)
UNANSWERED: Final = RefusalRow(
    "unanswered",
    (),
    "Kafka does not answer, so outcomes wait",
    "look at the brokers that lead __transaction_state and the worker's topics: it goes on by itself when enough of their replicas "
    "are in sync",
)


def refusal_of(error: BaseException, options: KafkaOptions, topic: str | None = None) -> Refusal | None:
    """
    Return the refusal that an error of kafka-python or one of its causes means; None if no row matches.

    An unreachable broker is considered last, since a refusal is more specific.
    """
    for cause in map(_specific, _chain(error)):
        if isinstance(cause, RecordRefusedError):
            topic = cause.record.topic
        if isinstance(cause, CredentialError):
            return Refusal(cause.kind, cause.reason, cause.remedy, type(cause).__name__)
        for row in ROWS:
            named = next((kind for kind in row.classes if isinstance(cause, kind)), None)
            named = named or next((kind for kind in row.classes if kind.__name__ in str(cause)), None)
            if named is not None:
                return refusal_from(row, named.__name__, options, topic or _topic(cause, options))
    failure = next((cause for cause in _chain(error) if isinstance(cause, errors.KafkaConnectionError)), None)
    return None if failure is None else refusal_from(UNREACHABLE, str(failure), options)


def refusal_from(row: RefusalRow, error: str, options: KafkaOptions, topic: str | None = None) -> Refusal:
    """Return the refusal of a row, with its texts filled in."""
    user = options.common.get("sasl_plain_username")
    fields = {
        "what": topic or "of commands, outcomes or dead letters",
        "group": options.group_id,
        "transactional_id": options.transactional_id,
        "transaction_timeout": options.transaction_timeout,
        "as_user": f" as {user}" if user else "",
        "sign_in_remedy": options.sign_in_remedy,
        "error": error,
    }
    about = topic if "{what}" in row.reason else None
    return Refusal(row.kind, row.reason.format(**fields), row.remedy.format(**fields), error, about)


def _specific(error: BaseException) -> BaseException:
    """Return the error that the broker meant: of a batch with several refused records kafka-python keeps only its text."""
    said = str(error)
    if isinstance(error, errors.InvalidRecordError) and "Timestamp" in said and "out of range" in said:
        return errors.InvalidTimestampError(said)
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        yield at
        at = at.__cause__ or at.__context__


def _topic(error: BaseException, options: KafkaOptions) -> str | None:
    """Return the topic of ours that the error names, if any."""
    text = str(error)
    if "TxnOffsetCommit" in text:
        return options.command_topic
    topics = (options.command_topic, options.outcome_topic, options.dead_letter_topic)
    return max((topic for topic in topics if topic in text), key=len, default=None)
