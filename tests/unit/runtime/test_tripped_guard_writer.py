# The orders of guards are written until Kafka has them, unless something newer is known of their scope.

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from tests.unit.runtime.fakes import until
from worker.domain.contract.control_records import ControlRecord, Order, OrderState, Scope
from worker.errors import BrokerError
from worker.runtime import tripped_guard_writer
from worker.runtime.tripped_guard_writer import TrippedGuardWriter

SCOPE = Scope(issuer="detector-7")
PAUSE = ControlRecord(
    SCOPE, Order(OrderState.PAUSED, "500 members within 60 s", "guard", "2026-11-28T03:00:00Z")
)
SHADOW = ControlRecord(
    SCOPE, Order(OrderState.SHADOW, "900 members within 60 s", "guard", "2026-11-28T03:01:00Z")
)
PATIENCE = 30.0


@dataclass
class Topic:
    """A control topic that takes nothing while it ``is_away``, nor the first ``failures`` writes."""

    failures: int = 0
    is_away: bool = False
    written: list[ControlRecord] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    fields: list[dict[str, object]] = field(default_factory=list)

    def write(self, record: ControlRecord) -> None:
        if self.is_away or len(self.lines) < self.failures:
            raise BrokerError("Kafka is away")
        self.written.append(record)

    def log(self, event: str, /, **fields: object) -> None:
        self.lines.append(event)
        self.fields.append(fields)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tripped_guard_writer, "BACKOFF", (0.001, 0.002))


def test_an_order_of_a_guard_is_written_until_kafka_has_it() -> None:
    """The other replicas learn of it from the topic alone."""
    topic = Topic(failures=3)
    writer = TrippedGuardWriter(topic.write, topic.log)

    asyncio.run(asyncio.wait_for(writer.write(PAUSE), PATIENCE))

    assert topic.written == [PAUSE]
    assert topic.lines == ["control.write_failed"] * 3
    assert repr(writer) == "<TrippedGuardWriter, 0 unwritten>"


def test_each_failure_is_logged_and_the_waits_after_them_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tripped_guard_writer, "BACKOFF", (0.01, 0.025))
    topic = Topic(failures=3)

    began = time.monotonic()
    asyncio.run(TrippedGuardWriter(topic.write, topic.log).write(PAUSE))

    assert time.monotonic() - began > 0.05
    assert topic.fields == [
        {"scope": str(SCOPE), "reason": "Kafka is away", "next_try_seconds": wait}
        for wait in (0.01, 0.02, 0.025)
    ]


@pytest.mark.parametrize("newer", [ControlRecord(SCOPE, None), SHADOW])
def test_what_is_read_back_for_the_scope_ends_the_attempts(newer: ControlRecord) -> None:
    """Whoever resumed the scope while the guard's record could not be written has decided later than the guard."""
    topic = Topic(is_away=True)
    writer = TrippedGuardWriter(topic.write, topic.log)

    async def scenario() -> None:
        writing = asyncio.create_task(writer.write(PAUSE))
        await until(lambda: bool(topic.lines))
        writer.read_back([newer])
        await asyncio.wait_for(writing, PATIENCE)

    asyncio.run(scenario())

    assert topic.written == []


def test_what_is_read_back_for_another_scope_ends_nothing() -> None:
    topic = Topic(is_away=True)
    writer = TrippedGuardWriter(topic.write, topic.log)

    async def scenario() -> None:
        writing = asyncio.create_task(writer.write(PAUSE))
        await until(lambda: bool(topic.lines))
        writer.read_back([ControlRecord(Scope(issuer="detector-8"), None)])
        topic.is_away = False
        await asyncio.wait_for(writing, PATIENCE)

    asyncio.run(scenario())

    assert topic.written == [PAUSE]


def test_of_two_orders_for_one_scope_the_later_is_written() -> None:
    topic = Topic(is_away=True)
    writer = TrippedGuardWriter(topic.write, topic.log)

    async def scenario() -> None:
        earlier = asyncio.create_task(writer.write(PAUSE))
        await until(lambda: bool(topic.lines))
        later = asyncio.create_task(writer.write(SHADOW))
        await asyncio.wait_for(earlier, PATIENCE)
        topic.is_away = False
        await asyncio.wait_for(later, PATIENCE)

    asyncio.run(scenario())

    assert topic.written == [SHADOW]
