# What Kafka refuses of a restoration is an obstacle for as long as it is tried, and no longer. What is only logged is none.

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kafka import TopicPartition, errors

from tests.unit.broker.test_client_config import options
from worker.broker import offset_range_reader, partition_restore
from worker.broker.active_kafka_refusals import FAILURES, ActiveKafkaRefusals
from worker.broker.partition_restore import PartitionRestorer
from worker.errors import BrokerError, CommittedOffsetLostError

if TYPE_CHECKING:
    from worker.domain.effects import LogEvent
    from worker.errors import WorkerError


class Restorations:
    """A restorer that is refused the topic, and what was logged of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logged: list[LogEvent] = []
        self.error: Exception = errors.TopicAuthorizationFailedError({"outcomes"})
        self.refusals = ActiveKafkaRefusals(self.logged.append)
        self.restorer = PartitionRestorer(
            options(),
            lambda _: None,
            self.logged.append,
            self.refusals,
            command_id_of=lambda _: None,
            topic_id=None,
        )

        def fails(_: object) -> None:
            raise self.error

        monkeypatch.setattr(partition_restore, "_RestoreReader", fails)
        for _ in range(FAILURES):
            self.fail(BrokerError)
        assert self.refusals.lasting

    def fail(self, kind: type[WorkerError]) -> None:
        with pytest.raises(kind):
            self.restorer.restore(3)


def test_what_is_refused_of_a_partition_that_has_gone_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restorations = Restorations(monkeypatch)

    restorations.restorer.forget_refusals(2)
    assert restorations.refusals.lasting
    restorations.restorer.forget_refusals(3)

    assert restorations.refusals.lasting == []
    assert "kafka.accepted" not in [event.event for event in restorations.logged]


def test_a_doubt_about_a_commit_shows_that_nothing_is_refused_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restorations = Restorations(monkeypatch)
    restorations.error = CommittedOffsetLostError("partition 3 has no committed offset", "decide")
    restorations.fail(CommittedOffsetLostError)

    assert restorations.refusals.lasting == []


def test_a_first_record_that_does_not_come_is_only_of_unknown_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """The age is logged, and no more: a broker that did not return the record in time failed the restoration."""
    place = TopicPartition("commands", 3)
    reader: Any = SimpleNamespace(
        assign=lambda _: None,
        seek=lambda *_: None,
        position=lambda _: 5,
        poll=lambda **_: {},
        end_offsets=lambda _: {place: 9},
    )
    monkeypatch.setattr(partition_restore, "open_client", lambda *_: reader)
    monkeypatch.setattr(offset_range_reader, "READ_SECONDS", -1.0)

    assert partition_restore._RestoreReader(options()).rest(place, 5) == (4, None)
