# What kafka-python's errors mean: the result of a failed transaction, and the sentence that an operator reads.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kafka import errors

from worker.broker.error_mapping import (
    CredentialError,
    RecordRefusedError,
    publish_failure,
    sentence,
    unreachable,
)
from worker.broker.producer_records import ProducerRecord
from worker.domain.effects import OffsetCommit, Transaction
from worker.domain.publish_results import Aborted, Fenced, MetadataRefused

if TYPE_CHECKING:
    from worker.domain.publish_results import PublishResult

TRANSACTION = Transaction(
    outcomes=[],
    dead_letters=[],
    commits={0: OffsetCommit(1, "xx"), 1: OffsetCommit(1, "xxx"), 2: OffsetCommit(1, "")},
)


def judged(error: Exception, cause: Exception | None = None, *, timed_out: bool = False) -> PublishResult:
    return publish_failure(TRANSACTION, error, cause or error, timed_out=timed_out)


@pytest.mark.parametrize("error", [errors.ProducerFencedError(), errors.InvalidProducerEpochError()])
def test_another_producer_of_the_same_id_differs_from_a_transaction_that_was_too_old(
    error: Exception,
) -> None:
    assert isinstance(judged(error), Fenced)
    assert isinstance(judged(error, timed_out=True), Aborted)


def test_another_process_with_the_static_member_id_fences_at_any_age() -> None:
    assert isinstance(judged(errors.FencedInstanceIdError(), timed_out=True), Fenced)


@pytest.mark.parametrize(
    "error",
    [
        errors.CommitFailedError("IllegalGenerationError"),
        errors.KafkaError("Unexpected error in TxnOffsetCommitResponse: [Error 27] RebalanceInProgressError"),
    ],
)
def test_a_rebalance_is_no_fault(error: Exception) -> None:
    hidden = errors.KafkaError("Cannot execute transactional method because we are in an error state")

    result = judged(hidden, error)

    assert isinstance(result, Aborted)
    assert result.retry_soon


def test_refused_metadata_names_the_partition_with_the_most() -> None:
    wrapped = errors.KafkaError(
        "Unexpected error in TxnOffsetCommitResponse: [Error 12] OffsetMetadataTooLargeError"
    )

    assert judged(wrapped) == MetadataRefused(1)


@pytest.mark.parametrize(
    ("cause", "for_its_size"),
    [(errors.MessageSizeTooLargeError(), True), (errors.InvalidRecordError(), False)],
)
def test_a_refused_record_says_whether_its_size_was_the_reason(cause: Exception, for_its_size: bool) -> None:
    error = RecordRefusedError(ProducerRecord("dead-letters", None, None, b"", [], "commands-0-7"))
    error.__cause__ = cause

    assert error.too_large is for_its_size
    assert isinstance(judged(error, errors.TransactionAbortedError()), Aborted)


def test_a_transaction_that_ran_out_of_time_is_said_to_be_aged() -> None:
    """The same size again would run out of time again."""
    result = judged(errors.KafkaTimeoutError("slow"), timed_out=True)

    assert isinstance(result, Aborted)
    assert result.took_too_long


def test_everything_else_is_tried_again() -> None:
    result = judged(errors.KafkaTimeoutError("slow"))

    assert isinstance(result, Aborted)
    assert not result.retry_soon
    assert "slow" in result.reason


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.TopicAuthorizationFailedError({"a"}), "the Kafka user may not do this with the topic"),
        (errors.KafkaError(f"response {'x' * 5_000}"), "KafkaError: response xxx"),
        (errors.UnknownError(), "UnknownError"),
        (errors.InvalidReplicationFactorError("a\nb"), "the replication factor is larger"),
    ],
)
def test_an_error_is_one_sentence_without_the_response_in_it(error: errors.KafkaError, expected: str) -> None:
    """kafka-python appends whole requests and responses."""
    said = sentence(error)

    assert expected in said
    assert "\n" not in said
    assert len(said) < 320


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unable to bootstrap from a:1,b:2: 111 ECONNREFUSED", "Kafka cannot be reached at a:1,b:2: 111 ECONNREFUSED"),
        ("Unable to bootstrap from a:1,b:2", "Kafka cannot be reached at a:1,b:2: KafkaTimeoutError: Unable"),
        ("x: SaslAuthenticationFailedError: no", "Kafka cannot be reached at a:1,b:2: Kafka refuses the sign-in with what kafka.common says"),
        ("x" * 5_000, "Kafka cannot be reached at a:1,b:2: KafkaTimeoutError: xxx"),
    ],
)  # fmt: skip
def test_that_kafka_cannot_be_reached_is_one_sentence_with_the_reason(text: str, expected: str) -> None:
    said = str(unreachable("a:1,b:2", errors.KafkaTimeoutError(text)))

    assert said.startswith(expected)
    assert len(said) < 500


def test_a_credential_that_cannot_be_used_is_shown_whole_for_its_end_is_the_remedy() -> None:
    error = errors.KafkaTimeoutError("Unable to bootstrap from a:1: …")
    error.__cause__ = CredentialError("token", "x" * 400, "put it there")

    assert str(unreachable("a:1", error)).endswith("x: put it there")
