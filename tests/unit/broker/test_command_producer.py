# What became of each command at an interrupt, with a client that never asks Kafka.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kafka import errors
from kafka.future import Future

from tests.unit.broker.test_client_config import options
from worker.broker import kafka_private_parts
from worker.broker.command_producer import (
    UNACKNOWLEDGED,
    CommandProducer,
    OutgoingCommand,
    UnconfirmedCommand,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Client:
    """Answers only the second command: Kafka refuses it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, *_: object, **__: object) -> Any:
        future: Any = Future()
        if self.sent:
            future.failure(errors.TopicAuthorizationFailedError())
        self.sent.append(future)
        return future


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> CommandProducer:
    monkeypatch.setattr(kafka_private_parts, "open_client", lambda *_: Client())
    monkeypatch.setattr(kafka_private_parts, "partition_count", lambda *_: 1)
    return CommandProducer(options())


def test_what_kafka_refused_before_an_interrupt_was_not_interrupted(producer: CommandProducer) -> None:
    """It was said that it may be in Kafka all the same, and the exit code was that of Ctrl-C."""

    def interrupted() -> Iterator[OutgoingCommand]:
        yield OutgoingCommand(b"1", b"g")
        yield OutgoingCommand(b"2", b"g")
        raise KeyboardInterrupt

    unknown, refused = producer.produce(interrupted())

    assert unknown == UnconfirmedCommand(UNACKNOWLEDGED, may_be_written=True, interrupted=True)
    assert isinstance(refused, UnconfirmedCommand)
    assert (refused.may_be_written, refused.interrupted) == (False, False)
    assert "commands" in refused.reason
