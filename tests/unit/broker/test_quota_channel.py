# What the quota channel reports of hearing and sending, which fail apart from each other. All else needs a broker, and is in
# tests/contract/broker/test_quota_channel.py.

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kafka import errors
from kafka.future import Future

from tests.unit.broker.test_client_config import options
from worker.broker import quota_channel as module
from worker.broker.quota_channel import SEND, WAIT_SECONDS, QuotaChannel

if TYPE_CHECKING:
    from worker.domain.effects import LogEvent


class Kafka:
    """A channel without a thread, its clients, and what it has reported."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.reasons: list[object] = []
        self.now = 100.0
        self.pending: list[Any] = []
        self.polls = 0
        self.channel = QuotaChannel(options(quota_topic="quota"), lambda _: None, self._notice)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(module, "open_client", lambda *_: self)
        monkeypatch.setattr(module, "known_partitions", lambda *_: 1)
        monkeypatch.setattr(module, "discard", self._discard)

    def _notice(self, event: LogEvent) -> None:
        self.events.append(event.event)
        self.reasons.append(event.fields.get("reason"))

    # The producer

    def send(self, *_: object, **__: object) -> Any:
        if self.pending:
            raise errors.KafkaTimeoutError("no metadata")
        self.pending.append(Future())
        return self.pending[0]

    def _discard(self, *_: object) -> None:
        for future in self.pending:
            future.failure(errors.IllegalStateError("Producer is closed forcefully."))

    # The consumer

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    def assign(self, _: object) -> None:
        pass

    def seek_to_end(self, _: object) -> None:
        pass

    def poll(self, **_: object) -> dict[Any, Any]:
        self.channel._stopping.set()
        return {}

    def close(self, **_: object) -> None:
        pass


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    return Kafka(monkeypatch)


def test_why_sending_fails_is_not_hidden_by_what_that_does_to_other_messages(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = kafka.channel._stopping
    monkeypatch.setattr(stopping, "wait", lambda _: stopping.set())
    kafka.channel.is_open = True
    kafka.channel.send(b"pending")
    kafka.channel.send(b"fails")

    kafka.channel._retry_until_stopped(SEND, kafka.channel._send)

    assert kafka.events == ["quota.unavailable"]
    assert kafka.reasons == ["Kafka did not answer in time"]


def test_a_topic_that_takes_some_messages_is_reported_once_until_it_takes_all(kafka: Kafka) -> None:
    """Small ones passed and large ones did not: there were two lines for each pair, without end."""
    for _ in range(100):
        kafka.channel._refused(errors.MessageSizeTooLargeError())
        kafka.channel._taken(None)
    assert kafka.events == ["quota.unavailable"]

    kafka.now += WAIT_SECONDS
    kafka.channel._taken(None)
    kafka.channel._taken(None)

    assert kafka.events == ["quota.unavailable", "quota.lending"]


def test_a_channel_that_hears_again_says_not_that_it_lends_while_its_messages_are_refused(
    kafka: Kafka,
) -> None:
    kafka.channel._refused(errors.MessageSizeTooLargeError())

    kafka.channel._hear()

    assert kafka.events == ["quota.unavailable"]
