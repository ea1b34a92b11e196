# The worker's topics: how they are, what is wrong with them, and how they are created.
#
# `inspect` asks the cluster; `problems` judges its report without a connection, so that everything wrong is reported at once.
# How often the running worker looks, and what it does then, is not here (runtime/topic_watch.py).

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType

from worker.broker.client_config import admin_arguments
from worker.broker.error_mapping import SHOWN_CHARACTERS, sentence, unreachable
from worker.broker.kafka_private_parts import id_text, open_client
from worker.errors import BrokerError, SettingProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.broker.options import KafkaOptions

CONTROL: Final = "kafka.control_topic"
QUOTA_CONFIG: Final = {"cleanup.policy": "delete", "retention.ms": "600000", "segment.ms": "600000"}
"""The quota topic keeps its records for ten minutes: they are worth something for a second."""
CREATE: Final = "moderation-worker topics create --config …"
SMALLEST_RECORD: Final = 256 * 1024
"""The outcome of a command with 100 users, 100 calls and long error texts takes about half of this."""
BATCH_BYTES: Final = 1_024
"""What a batch of one record may take besides the record: its header, and what compression adds to incompressible data."""
REFUSALS: Final[dict[type[errors.KafkaError], str]] = {
    errors.InvalidReplicationFactorError: "the replication factor is larger than the number of brokers: give a smaller --replication-factor",
    errors.InvalidPartitionsError: "Kafka does not accept this number of partitions: give another --partitions",
    errors.InvalidTopicError: "Kafka does not accept this name for a topic: change it in the settings",
    errors.InvalidConfigurationError: "Kafka does not accept the configuration of a new topic",
    errors.PolicyViolationError: "a policy of the cluster forbids it: ask whoever runs Kafka, or have them create it",
    errors.TopicAuthorizationFailedError: "the Kafka user may not create it: grant Create on the topic, or have an administrator create it",
    errors.ClusterAuthorizationFailedError: "the Kafka user may not create it: grant Create on the topic, or have an administrator create it",
    errors.RequestTimedOutError: "Kafka did not finish in time: run the same command again, it creates only what is missing",
    errors.NotControllerError: "the cluster is changing its controller: run the same command again, it creates only what is missing",
    errors.ThrottlingQuotaExceededError: "Kafka's quota for such changes is used up: run the same command again later",
    errors.UnsupportedVersionError: "this Kafka is too old to choose the number of copies itself: give --replication-factor",
}
"""Why Kafka creates no topic, and what to do. Its own words, where it has some, follow in parentheses."""
CONTROL_FIX: Final = (
    "kafka-configs --alter --entity-type topics --entity-name {name} --add-config cleanup.policy=compact"
)
_KEPT_FOR_A_TIME: Final = {"cleanup.policy": "delete"}
COMPACTED: Final = "compact keeps one record a key, which is one a room: set cleanup.policy=delete"


@dataclass(frozen=True, slots=True)
class Topic:
    """
    One topic as the cluster describes it. Configuration that this worker may not read is None.

    Attributes:
        cleanup: ``delete``, ``compact`` or both.
        retention: Seconds; infinity if records are kept for ever.
        message_bytes: The largest batch that the brokers accept.
        topic_id: The cluster's id of it, as Kafka's own tools print it: a recreated topic has another one.

    """

    name: str
    partitions: int
    cleanup: frozenset[str] | None = None
    retention: float | None = None
    message_bytes: int | None = None
    topic_id: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerTopics:
    """
    The topics of one worker; None for one that does not exist.

    Attributes:
        control_denied: Whether the cluster does not tell this user if there is a control topic.

    """

    command: Topic | None
    outcome: Topic | None
    dead_letter: Topic | None
    control: Topic | None = None
    quota: Topic | None = None
    control_denied: bool = field(default=False, kw_only=True)


def inspect(options: KafkaOptions) -> WorkerTopics:
    """Return the topics as the cluster describes them. Raises BrokerError if it cannot be reached or refuses."""
    names = (options.command_topic, options.outcome_topic, options.dead_letter_topic)
    admin = _admin(options)
    try:
        topics = _topics(admin, names)
        try:
            control, denied = _control(admin, options), False
        except errors.TopicAuthorizationFailedError:
            control, denied = None, True
        with contextlib.suppress(errors.TopicAuthorizationFailedError):
            topics |= _topics(admin, _quota_names(options))
    except errors.KafkaError as exc:
        raise BrokerError(f"the topics cannot be inspected: {sentence(exc)}") from exc
    finally:
        admin.close()
    command, outcome, dead_letter = (topics.get(name) for name in names)
    quota = topics.get(options.quota_topic or "")
    return WorkerTopics(command, outcome, dead_letter, control, quota, control_denied=denied)


def inspect_control(options: KafkaOptions) -> Topic | None:
    """
    Return the control topic as the cluster describes it; None if it does not exist, or none is configured.

    Raises kafka-python's errors: the caller knows which of them are refusals.
    """
    admin = open_client(KafkaAdminClient, admin_arguments(options), options.secrets_for("common"))
    try:
        return _control(admin, options)
    finally:
        admin.close()


def _control(admin: KafkaAdminClient, options: KafkaOptions) -> Topic | None:
    name = options.control_topic
    return None if name is None else _topics(admin, (name,)).get(name)


def _quota_names(options: KafkaOptions) -> tuple[str, ...]:
    return () if options.quota_topic is None else (options.quota_topic,)


def message_bytes(options: KafkaOptions, topic: str) -> int | None:
    """Return the topic's current ``max.message.bytes``; None if this worker may not read it. Raises BrokerError."""
    admin = _admin(options)
    try:
        size = _configs(admin, [topic]).get(topic, {}).get("max.message.bytes")
    except errors.KafkaError as exc:
        raise BrokerError(f"the topic {topic} cannot be inspected: {sentence(exc)}") from exc
    finally:
        admin.close()
    return None if size is None else int(size)


def problems(report: WorkerTopics, options: KafkaOptions, *, dedupe_window: float) -> list[SettingProblem]:
    """Return what would break a promise. Outcomes must be kept for ``dedupe_window`` seconds, or repeats are not recognised."""
    return [
        *_missing_or_compacted(report, options),
        *_outcome_problems(report, dedupe_window),
        *control_problems(report.control),
        *_quota_problems(report.quota),
        *_size_problems(report, options.record_limit),
    ]


def _missing_or_compacted(report: WorkerTopics, options: KafkaOptions) -> Iterator[SettingProblem]:
    for setting, name, topic in (
        ("kafka.command_topics", options.command_topic, report.command),
        ("kafka.outcome_topic", options.outcome_topic, report.outcome),
        ("kafka.dead_letter_topic", options.dead_letter_topic, report.dead_letter),
    ):
        if topic is None:
            yield SettingProblem(setting, f"this topic does not exist: {CREATE} creates it", name)
        elif "compact" in (topic.cleanup or ()):
            policy = ",".join(sorted(topic.cleanup or ()))
            yield SettingProblem(setting, f"cleanup.policy is {policy}: {COMPACTED}", name)


def _outcome_problems(report: WorkerTopics, dedupe_window: float) -> Iterator[SettingProblem]:
    command, outcome = report.command, report.outcome
    if outcome is None:
        return
    if command is not None and outcome.partitions < command.partitions:
        remedy = (
            f"it has {outcome.partitions} partitions and the command topic {command.partitions}; an outcome goes to the "
            f"partition of its command's number: add partitions (kafka-topics --alter --partitions {command.partitions})"
        )
        yield SettingProblem("kafka.outcome_topic", remedy, outcome.name)
    if outcome.retention is not None and outcome.retention < dedupe_window:
        remedy = (
            f"retention.ms keeps outcomes for {outcome.retention:.0f} s, shorter than dedupe.window_seconds "
            f"({dedupe_window:.0f}): a repeated command would not be recognised after a restart"
        )
        yield SettingProblem("kafka.outcome_topic", remedy, outcome.name)


def _quota_problems(quota: Topic | None) -> Iterator[SettingProblem]:
    if quota is not None and "compact" in (quota.cleanup or ()):
        remedy = "a compacted topic takes no record without a key: set cleanup.policy=delete"
        yield SettingProblem("kafka.quota_topic", remedy, quota.name)


def _size_problems(report: WorkerTopics, limit: int) -> Iterator[SettingProblem]:
    if limit < SMALLEST_RECORD:
        remedy = f"the outcome of a large command would not fit: set {SMALLEST_RECORD} or more"
        yield SettingProblem("kafka.producer.max_request_size", remedy, limit)
    needed = limit + BATCH_BYTES
    for setting, topic in (
        ("kafka.outcome_topic", report.outcome),
        ("kafka.dead_letter_topic", report.dead_letter),
    ):
        if topic is not None and topic.message_bytes is not None and topic.message_bytes < needed:
            remedy = (
                f"max.message.bytes is {topic.message_bytes}, too small for the records of up to {limit} bytes that are sent: "
                f"set {needed} or more, or a smaller kafka.producer.max_request_size"
            )
            yield SettingProblem(setting, remedy, topic.name)


def control_problems(topic: Topic | None) -> list[SettingProblem]:
    """Return why the control topic cannot be followed. A topic that does not exist is no problem: the worker runs without."""
    if topic is None:
        return []
    found = []
    if topic.partitions != 1:
        remedy = (
            f"it has {topic.partitions} partitions, and orders are in order in one alone: delete it, and create it with "
            f"one partition ({CREATE})"
        )
        found.append(SettingProblem(CONTROL, remedy, topic.name))
    if topic.cleanup is not None and topic.cleanup != {"compact"}:
        fix = CONTROL_FIX.format(name=topic.name)
        remedy = f"cleanup.policy is {','.join(sorted(topic.cleanup))}, which deletes a pause that is still in force: {fix}"
        found.append(SettingProblem(CONTROL, remedy, topic.name))
    return found


def changes(
    first: WorkerTopics, now: WorkerTopics, options: KafkaOptions, *, dedupe_window: float
) -> tuple[str | None, list[SettingProblem], list[SettingProblem]]:
    """
    Compare the topics with what they were at the start.

    Returns why the worker must stop (another topic has the name), or None; what makes it not ready; and everything that is
    wrong. The last has more rows: the publisher copes with a smaller size, and too short a retention is only reported.
    """
    pairs = ((first.command, now.command), (first.outcome, now.outcome))
    faults = [
        recreated_message(before.name, before.topic_id, after.topic_id)
        for before, after in pairs
        if before is not None and after is not None and is_another_topic(before.topic_id, after.topic_id)
    ]
    if now.control is not None:  # its follower counts the partitions, and sooner
        now = replace(now, control=replace(now.control, partitions=1))
    lasting = WorkerTopics(
        *(_sizeless(topic) for topic in (now.command, now.outcome, now.dead_letter, now.control))
    )
    return (
        next(iter(faults), None),
        problems(lasting, options, dedupe_window=0.0),
        problems(now, options, dedupe_window=dedupe_window),
    )


def is_another_topic(before: str | None, after: str | None) -> bool:
    """Return whether both ids are known and differ."""
    return before is not None and after is not None and before != after


def recreated_message(name: str, before: str | None, after: str | None) -> str:
    """Return the sentence that says why the worker must not go on with a recreated topic."""
    return (
        f"topic {name} was deleted and recreated (its id was {before} and is {after}): stop all replicas, check what is lost, "
        "then start them again"
    )


def _sizeless(topic: Topic | None) -> Topic | None:
    return None if topic is None else replace(topic, message_bytes=None)


def create_missing(options: KafkaOptions, *, partitions: int, replication: int) -> tuple[str, ...]:
    """
    Create those of the topics that do not exist, and return their names. Raises BrokerError.

    The outcome topic gets at least as many partitions as an existing command topic has. The control and the quota topic, if
    they are configured, get one; the first is compacted, the other keeps its records for minutes.
    """
    names = (options.command_topic, options.outcome_topic, options.dead_letter_topic)
    admin = _admin(options)
    try:
        described = _described(admin, names)
        commands = described.get(options.command_topic)
        of_outcomes = max(partitions, 0 if commands is None else len(commands["partitions"]))
        wanted = {
            options.command_topic: _new_topic(partitions, replication),
            options.outcome_topic: _new_topic(of_outcomes, replication),
            options.dead_letter_topic: _new_topic(partitions, replication),
        }
        missing = {name: topic for name, topic in wanted.items() if name not in described}
        if options.control_topic is not None and _control(admin, options) is None:
            missing[options.control_topic] = _new_topic(1, replication, {"cleanup.policy": "compact"})
        for name in _quota_names(options):
            if not _described(admin, (name,)):
                missing[name] = _new_topic(1, replication, QUOTA_CONFIG)
        return _create(admin, missing)
    except errors.KafkaError as exc:
        raise BrokerError(f"the topics cannot be created: {sentence(exc)}") from exc
    finally:
        admin.close()


def _new_topic(
    partitions: int, replication: int, config: Mapping[str, str] = _KEPT_FOR_A_TIME
) -> dict[str, Any]:
    return {"num_partitions": partitions, "replication_factor": replication, "configs": dict(config)}


def _create(admin: KafkaAdminClient, topics: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Create them, and return those that nobody else has just created. Raises BrokerError with the reason of each refusal."""
    if not topics:
        return ()
    try:
        answers = admin.create_topics(dict(topics), raise_errors=False)["topics"]
    except errors.UnsupportedVersionError as exc:
        raise BrokerError(f"the topics cannot be created: {_refusal(exc, '')}") from exc
    except RuntimeError as exc:
        # kafka-python has asked two brokers, and neither was the controller.
        reason = _refusal(errors.NotControllerError(), "")
        raise BrokerError(f"the topics cannot be created: {reason}") from exc
    made: list[str] = []
    refused: dict[str, list[str]] = {}
    for answer in answers:
        error = errors.for_code(answer["error_code"])
        if error is errors.NoError:
            made.append(answer["name"])
        elif error is not errors.TopicAlreadyExistsError:
            reason = _refusal(error(), answer.get("error_message") or "")
            refused.setdefault(reason, []).append(answer["name"])
    created = f"{', '.join(made)} {'was' if len(made) == 1 else 'were'} created"
    if refused:
        done = f" ({created})" if made else ""
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in refused.items())
        raise BrokerError(f"the topics cannot be created{done}: {reasons}")
    try:
        admin.wait_for_topics(made)
    except errors.KafkaTimeoutError as exc:
        raise BrokerError(
            f"{created}, but Kafka does not serve all of it yet: run the same command again"
        ) from exc
    return tuple(made)


def _refusal(error: errors.KafkaError, kafkas_words: str) -> str:
    """Return why Kafka created no topic, in one sentence with what to do."""
    ours = next((text for kind, text in REFUSALS.items() if isinstance(error, kind)), None)
    if ours is None:
        return sentence(type(error)(kafkas_words) if kafkas_words else error)
    theirs = " ".join(kafkas_words.split()).rstrip(".")[:SHOWN_CHARACTERS]
    return f"{ours} ({theirs})" if theirs else ours


def _admin(options: KafkaOptions) -> KafkaAdminClient:
    try:
        return open_client(KafkaAdminClient, admin_arguments(options), options.secrets_for("common"))
    except errors.KafkaError as exc:
        raise unreachable(options.bootstrap_servers, exc) from exc


def _described(admin: KafkaAdminClient, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return those of the topics that exist, as kafka-python describes them."""
    found = {}
    for topic in admin.describe_topics(list(dict.fromkeys(names))):
        error = errors.for_code(topic["error_code"])
        if error is errors.NoError:
            found[topic["name"]] = topic
        elif error not in (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError):
            raise error(topic["name"])
    return found


def _topics(admin: KafkaAdminClient, names: tuple[str, ...]) -> dict[str, Topic]:
    described = _described(admin, names)
    configs = _configs(admin, list(described))
    return {name: _topic(topic, configs.get(name, {})) for name, topic in described.items()}


def _configs(admin: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    configs: dict[str, dict[str, Any]] = admin.describe_configs(resources, config_filter="all").get(
        "topic", {}
    )
    return {
        name: {key: entry["value"] for key, entry in entries.items()} for name, entries in configs.items()
    }


def _topic(described: Mapping[str, Any], config: Mapping[str, str]) -> Topic:
    cleanup, retention, size = (
        config.get(key) for key in ("cleanup.policy", "retention.ms", "max.message.bytes")
    )
    return Topic(
        name=described["name"],
        partitions=len(described["partitions"]),
        topic_id=id_text(described.get("topic_id")),
        cleanup=None if cleanup is None else frozenset(part.strip() for part in cleanup.split(",")),
        retention=None if retention is None else _seconds(int(retention)),
        message_bytes=None if size is None else int(size),
    )


def _seconds(milliseconds: int) -> float:
    """Return a retention as Kafka gives it in seconds: below 0 it has no end."""
    return float("inf") if milliseconds < 0 else milliseconds / 1000
