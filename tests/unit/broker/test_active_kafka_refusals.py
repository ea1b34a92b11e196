# What Kafka refuses, by kind: the table, and what of it is an obstacle.

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kafka import errors
from kafka.future import Future

from worker.broker import active_kafka_refusals as module
from worker.broker.active_kafka_refusals import (
    FAILURES,
    LOG_SECONDS,
    SECONDS,
    STALE_SECONDS,
    ActiveKafkaRefusals,
)
from worker.broker.error_mapping import CredentialError, RecordRefusedError
from worker.broker.kafka_refusals import OTHER, ROWS, UNANSWERED, UNREACHABLE, refusal_from, refusal_of
from worker.broker.options import KafkaOptions
from worker.broker.producer_records import ProducerRecord
from worker.broker.publisher import culprit_of

if TYPE_CHECKING:
    from worker.broker.kafka_refusals import Refusal
    from worker.domain.effects import LogEvent

OPTIONS = KafkaOptions(
    "kafka", "workers", "commands", "outcomes", "letters", "pod-0", common={"sasl_plain_username": "mod"}
)


def refusal(kind: str, error: str = "x") -> Refusal:
    row = next(row for row in (*ROWS, OTHER, UNREACHABLE, UNANSWERED) if row.kind == kind)
    return refusal_from(row, error, OPTIONS)


def failed(topic: str, size: int, error: errors.KafkaError) -> tuple[ProducerRecord, Future]:
    return ProducerRecord(topic, 0, None, b"v" * size, [], "commands-0-1"), Future().failure(error)


def test_an_error_that_names_a_topic_is_the_fault_of_its_record_alone() -> None:
    """What the producer has not sent yet fails with the error of another topic, and may be larger."""
    error = errors.TopicAuthorizationFailedError({"letters"})
    sent = [failed("outcomes", 900, error), failed("letters", 200, error)]

    culprit = culprit_of(sent, OPTIONS)

    assert culprit is not None
    assert culprit.record.topic == "letters"
    assert refusal_of(culprit, OPTIONS) == refusal_of(error, OPTIONS)


def test_of_several_refused_records_the_largest_is_at_fault() -> None:
    error = errors.MessageSizeTooLargeError()
    unsent = Future()
    record, _ = failed("outcomes", 5000, error)
    sent = [failed("outcomes", 900, error), failed("outcomes", 1000, error), (record, unsent)]

    culprit = culprit_of(sent, OPTIONS)

    assert culprit is not None
    assert culprit.record.size == 1000
    assert culprit_of([failed("outcomes", 900, errors.KafkaTimeoutError("slow"))], OPTIONS) is None


def test_several_records_with_a_refused_time_are_reported_as_that() -> None:
    """Somebody looked for a policy or schema of the topic, and the clock was wrong. The text is Kafka 4.1's."""
    text = "Timestamp 4796000000000 of message with offset 0 is out of range. The timestamp should be within [1, 2]"
    culprit = culprit_of([failed("outcomes", 900, errors.InvalidRecordError(text))], OPTIONS)

    assert culprit is not None
    found = refusal_of(culprit, OPTIONS)
    assert found is not None
    assert found.kind == "timestamp_refused"
    other = refusal_of(errors.InvalidRecordError("One or more records have been rejected"), OPTIONS)
    assert other is not None
    assert other.kind == "record_refused"


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def events() -> list[LogEvent]:
    return []


@pytest.fixture
def refusals(clock: Clock, events: list[LogEvent]) -> ActiveKafkaRefusals:
    assert clock.now
    return ActiveKafkaRefusals(events.append)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.TopicAuthorizationFailedError({"outcomes"}), "topic_denied"),
        (errors.TransactionalIdAuthorizationFailedError(), "transactional_id_denied"),
        (errors.GroupAuthorizationFailedError("workers"), "group_denied"),
        (errors.ClusterAuthorizationFailedError(), "cluster_denied"),
        (errors.InvalidTimestampError(), "timestamp_refused"),
        (errors.UnknownTopicOrPartitionError("outcomes"), "topic_missing"),
        (errors.InvalidPartitionsError("outcomes"), "partition_missing"),
        (errors.PolicyViolationError(), "record_refused"),
        (errors.InvalidRecordError(), "record_refused"),
        (errors.RecordListTooLargeError(), "record_too_large"),
        (errors.UnsupportedForMessageFormatError(), "format_refused"),
        (errors.NotEnoughReplicasError(), "too_few_replicas"),
        (errors.SaslAuthenticationFailedError(), "sign_in"),
        (errors.InvalidTransactionTimeoutError(), "transaction_timeout_refused"),
        (errors.KafkaConnectionError("broker-3:9092: no route"), "unreachable"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_each_error_that_will_not_pass_has_its_kind(error: Exception, kind: str) -> None:
    found = refusal_of(error, OPTIONS)

    assert found is not None
    assert found.kind == kind
    assert "{" not in found.reason + found.remedy


@pytest.mark.parametrize(
    "error", [errors.KafkaTimeoutError("slow"), errors.RebalanceInProgressError(), ValueError("x")]
)
def test_what_passes_by_itself_is_no_refusal(error: Exception) -> None:
    assert refusal_of(error, OPTIONS) is None


def test_an_error_that_kafka_python_has_wrapped_is_known_by_its_name() -> None:
    wrapped = errors.KafkaError(
        "Unexpected error in TxnOffsetCommitResponse: [Error 29] TopicAuthorizationFailedError"
    )

    found = refusal_of(wrapped, OPTIONS)

    assert found is not None
    assert (found.kind, found.topic) == ("topic_denied", "commands")


def test_the_cause_tells_more_than_the_error_and_the_record_names_the_topic() -> None:
    error = RecordRefusedError(ProducerRecord("letters", None, None, b"", [], "commands-0-1"))
    error.__cause__ = errors.InvalidTimestampError("too old")

    found = refusal_of(error, OPTIONS)

    assert found is not None
    assert (found.kind, found.topic) == ("timestamp_refused", "letters")


def test_a_refused_sign_in_names_the_user_and_where_the_password_is() -> None:
    found = refusal("sign_in")

    assert "as mod" in found.reason
    assert "kafka.common.sasl_plain_password" in found.remedy


def test_every_kind_is_in_one_row_and_every_class_too() -> None:
    kinds = [row.kind for row in (*ROWS, UNREACHABLE, UNANSWERED, OTHER)]
    classes = [kind for row in ROWS for kind in row.classes]

    assert len(set(kinds)) == len(kinds)
    assert len(set(classes)) == len(classes)


def test_it_is_an_obstacle_after_some_failures_and_none_after_a_success(
    refusals: ActiveKafkaRefusals,
) -> None:
    for _ in range(FAILURES - 1):
        refusals.failed("publish", refusal("topic_denied"))
    before = refusals.lasting
    refusals.failed("publish", refusal("topic_denied"))
    after = refusals.lasting
    refusals.passed("publish")

    assert (before, [each.kind for each in after], refusals.lasting) == ([], ["topic_denied"], [])


def test_it_is_an_obstacle_after_some_seconds_too(refusals: ActiveKafkaRefusals, clock: Clock) -> None:
    refusals.failed("consume", refusal("group_denied"))
    clock.now += SECONDS

    assert [each.kind for each in refusals.lasting] == ["group_denied"]


@pytest.mark.parametrize("vague", ["unreachable", "other"])
def test_the_most_telling_reason_is_kept_and_not_the_last(
    refusals: ActiveKafkaRefusals, clock: Clock, vague: str
) -> None:
    """ "Socket disconnected" is what follows a refused sign-in."""
    refusals.failed("restore 3", refusal("sign_in"))
    for _ in range(FAILURES):
        refusals.failed("restore 3", refusal(vague))
        refusals.failed("restore 3", None)
    kept = refusals.lasting
    clock.now += LOG_SECONDS
    refusals.failed("restore 3", refusal(vague))

    assert [each.kind for each in kept] == ["sign_in"]
    assert [each.kind for each in refusals.lasting] == [vague]


@pytest.mark.parametrize(
    ("first", "then", "kept"),
    [
        ("sign_in", "unanswered", "sign_in"),
        ("unreachable", "unanswered", "unreachable"),
        ("unreachable", "other", "unreachable"),
        ("other", "unanswered", "unanswered"),
        ("unanswered", "other", "other"),
        ("other", "unreachable", "unreachable"),
    ],
)
def test_a_reason_is_replaced_only_by_one_that_tells_as_much(
    refusals: ActiveKafkaRefusals, first: str, then: str, kept: str
) -> None:
    refusals.failed("publish", refusal(first))
    for _ in range(FAILURES):
        refusals.failed("publish", refusal(then))

    assert [each.kind for each in refusals.lasting] == [kept]


def test_what_is_refused_again_and_again_stays_an_obstacle_with_its_reason(
    refusals: ActiveKafkaRefusals, clock: Clock
) -> None:
    for _ in range(5):
        clock.now += LOG_SECONDS - 1
        refusals.failed("publish", refusal("sign_in"))
    refusals.failed("publish", refusal("other"))

    assert [each.kind for each in refusals.lasting] == ["sign_in"]


def test_a_refusal_is_logged_with_who_and_what_since_when_and_its_remedy(
    refusals: ActiveKafkaRefusals, clock: Clock, events: list[LogEvent]
) -> None:
    denied = refusal_of(errors.TopicAuthorizationFailedError({"outcomes"}), OPTIONS)
    assert denied is not None
    refusals.failed("publish", denied)
    clock.now += LOG_SECONDS + 0.5
    refusals.failed("publish", denied)
    clock.now += 1
    refusals.passed("publish")

    said = {
        "party": "publish",
        "kind": "topic_denied",
        "topic": "outcomes",
        "error": denied.error,
        "reason": denied.reason,
        "remedy": denied.remedy,
    }
    assert [(each.event, each.level, each.fields) for each in events] == [
        ("kafka.refused", "error", {**said, "failures": 1, "seconds": 0.0}),
        ("kafka.refused", "error", {**said, "failures": 2, "seconds": LOG_SECONDS + 0.5}),
        (
            "kafka.accepted",
            "info",
            {"party": "publish", "kind": "topic_denied", "seconds": LOG_SECONDS + 1.5},
        ),
    ]


def test_a_token_that_cannot_be_had_is_the_refusal_that_its_server_gave() -> None:
    error = errors.KafkaConnectionError("no connection")
    error.__cause__ = CredentialError("token", "the server refuses the client", "put the right secret there")

    found = refusal_of(error, OPTIONS)

    assert found is not None
    assert (found.kind, found.reason) == ("token", "the server refuses the client")
    assert found.remedy == "put the right secret there"


@pytest.mark.parametrize("topic", ["eu.commands", "eu.outcomes", "eu.letters"])
def test_a_text_that_names_a_topic_of_ours_makes_it_the_refused_one(topic: str) -> None:
    options = replace(
        OPTIONS, command_topic="eu.commands", outcome_topic="eu.outcomes", dead_letter_topic="eu.letters"
    )

    found = refusal_of(errors.KafkaError(f"TopicAuthorizationFailedError: {{'{topic}'}}"), options)

    assert found is not None
    assert found.topic == topic
    assert topic in found.reason


def test_a_refusal_that_names_no_topic_may_be_of_any() -> None:
    found = refusal_of(errors.TopicAuthorizationFailedError(), OPTIONS)

    assert found is not None
    assert "of commands, outcomes or dead letters" in found.reason


def test_of_topics_of_which_one_contains_the_other_the_longest_is_meant() -> None:
    alike = replace(OPTIONS, command_topic="moderation", outcome_topic="eu.moderation")

    found = refusal_of(errors.TopicAuthorizationFailedError({"eu.moderation"}), alike)

    assert found is not None
    assert found.topic == "eu.moderation"


def test_what_a_refusal_led_to_tells_of_it_too() -> None:
    error = errors.KafkaTimeoutError("slow")
    error.__context__ = errors.SaslAuthenticationFailedError("no")

    found = refusal_of(error, OPTIONS)

    assert found is not None
    assert found.kind == "sign_in"


def test_it_is_logged_when_it_begins_when_it_changes_and_once_a_minute(
    refusals: ActiveKafkaRefusals, clock: Clock, events: list[LogEvent]
) -> None:
    for kind, seconds in (
        ("other", 0),
        ("other", 1),
        ("sign_in", 1),
        ("sign_in", 1),
        ("sign_in", LOG_SECONDS),
    ):
        clock.now += seconds
        refusals.failed("publish", refusal(kind))
    refusals.passed("publish")

    assert [(each.event, each.fields["kind"]) for each in events] == [
        ("kafka.refused", "other"),
        ("kafka.refused", "sign_in"),
        ("kafka.refused", "sign_in"),
        ("kafka.accepted", "sign_in"),
    ]


def test_one_refusal_of_several_parties_is_one_obstacle(refusals: ActiveKafkaRefusals, clock: Clock) -> None:
    for partition in range(6):
        refusals.failed(f"restore {partition}", refusal("sign_in"))
    clock.now += SECONDS

    assert len(refusals.lasting) == 1


def test_who_asks_no_more_is_forgotten(refusals: ActiveKafkaRefusals, clock: Clock) -> None:
    """A partition whose restoration failed may have gone to another replica."""
    refusals.failed("restore 3", refusal("sign_in"))
    clock.now += STALE_SECONDS

    assert refusals.lasting == []


def test_a_failure_without_a_known_reason_is_nobodys_trouble(
    refusals: ActiveKafkaRefusals, clock: Clock, events: list[Any]
) -> None:
    refusals.failed("consume", None)
    clock.now += SECONDS

    assert (refusals.lasting, events) == ([], [])
