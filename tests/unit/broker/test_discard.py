# How long it may take to close a producer whose broker hangs.
#
# That a real one is closed in the middle of a transaction is checked in tests/contract/broker/test_kafka_private_parts.py.

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kafka import errors

from worker.broker import kafka_private_parts

if TYPE_CHECKING:
    import pytest


class HangingProducer:
    """A producer whose broker hangs: its flush takes all the time that it gets, and its thread does not end."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sender = SimpleNamespace(force_close=lambda: None, join=self._wait)

    def _wait(self, timeout: float) -> None:
        self.now += timeout

    def close(self, timeout: float) -> None:
        self._wait(timeout)
        raise errors.KafkaTimeoutError("Timeout waiting for future")


def test_a_producer_whose_flush_hangs_is_given_its_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    producer: Any = HangingProducer()
    monkeypatch.setattr(kafka_private_parts, "time", SimpleNamespace(monotonic=lambda: producer.now))

    kafka_private_parts.discard(producer, 2.0)

    assert producer.now == 102.0
