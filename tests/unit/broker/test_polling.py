# How the poll thread handles errors: what passes by itself is logged and retried, anything else ends the worker and is reported.

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors

from tests.unit.broker.test_client_config import options
from worker.broker import consumer as module
from worker.broker.consumer import Consumer


def polled(
    *ends: Exception | None, monkeypatch: pytest.MonkeyPatch, backoff: tuple[float, float] = (0.001, 0.002)
) -> list[str]:
    """Return the events logged while one poll after another fails like this; after the last one the consumer is asked to stop."""
    monkeypatch.setattr(module, "BACKOFF_SECONDS", backoff)
    logged: list[str] = []
    listener: Any = SimpleNamespace()
    consumer = Consumer(options(), listener, lambda notice: logged.append(notice.event))
    left = list(ends)

    def step(*_: object) -> None:
        error = left.pop(0)
        if not left:
            consumer.stop()
        if error is not None:
            raise error

    monkeypatch.setattr(consumer, "_step", step)
    nobody: Any = None
    consumer._poll_until_stopped(nobody, nobody)
    assert left == []
    return logged


def test_polls_that_fail_while_brokers_are_away_are_logged_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = (
        errors.NodeNotReadyError(),
        errors.BrokerNotAvailableError(),
        errors.UnknownBrokerIdError(),
        errors.UnknownError(),
        None,
    )

    assert polled(*ends, monkeypatch=monkeypatch) == ["kafka.poll_failed"] * 4


def test_a_right_that_was_revoked_is_logged_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending the worker would not bring it back, and would hide the reason behind restarts."""
    ends = (
        errors.TopicAuthorizationFailedError({"commands"}),
        errors.GroupAuthorizationFailedError("workers"),
        None,
    )

    logged = polled(*ends, monkeypatch=monkeypatch)

    assert logged == ["kafka.refused", "kafka.poll_failed"] * 2


def test_a_damaged_batch_is_logged_and_the_other_partitions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending the worker would hand the partition to the next owner, and end that too."""
    logged = polled(errors.CorruptRecordError("at offset 7"), None, monkeypatch=monkeypatch)

    assert logged == ["kafka.refused", "kafka.poll_failed"]


@pytest.mark.parametrize(
    ("error", "longest"),
    [
        (errors.CorruptRecordError("at offset 7"), module.PARTITION_BACKOFF_SECONDS),
        (errors.UnknownError("while fetching"), module.PARTITION_BACKOFF_SECONDS),
        (errors.NodeNotReadyError(), module.BACKOFF_SECONDS[1]),
    ],
    ids=["damaged", "unknown", "away"],
)
def test_beside_a_partition_that_cannot_be_read_the_others_wait_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch, error: Exception, longest: float
) -> None:
    """Idle ones end no wait: each poll fails, and the next command came up to five seconds late."""
    waits: list[float] = []
    back_off = Consumer._back_off

    def without_waiting(consumer: Consumer, wait: float) -> float:
        waits.append(wait)
        consumer._stopping = True
        after = back_off(consumer, wait)
        consumer._stopping = False
        return after

    monkeypatch.setattr(Consumer, "_back_off", without_waiting)
    polled(*[error] * 10, None, monkeypatch=monkeypatch, backoff=module.BACKOFF_SECONDS)

    assert waits[0] == module.BACKOFF_SECONDS[0]
    assert waits[-1] == longest


def test_an_error_that_does_not_pass_by_itself_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.IllegalStateError):
        polled(errors.IllegalStateError(), None, monkeypatch=monkeypatch)
