# A range is read to its end and no further, and a broker that returns nothing is not awaited for ever.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from kafka import TopicPartition

from worker.broker import offset_range_reader
from worker.errors import BrokerError

PLACE = TopicPartition("moderation.outcomes", 2)


@dataclass(frozen=True)
class Written:
    offset: int


@dataclass
class Reader:
    """A consumer for which each poll brings the next of ``polls``; markers of transactions move it without a record."""

    polls: list[tuple[list[int], int]]
    at: int = 0
    assigned: list[Any] = field(default_factory=list)

    def assign(self, places: list[Any]) -> None:
        self.assigned = places

    def seek(self, _place: Any, offset: int) -> None:
        self.at = offset

    def position(self, _place: Any) -> int:
        return self.at

    def poll(self, timeout_ms: int, max_records: int) -> dict[Any, list[Written]]:
        assert timeout_ms > 0
        assert max_records > 0
        offsets, self.at = self.polls.pop(0) if self.polls else ([], self.at)
        return {PLACE: [Written(offset) for offset in offsets]} if offsets else {}


def read(reader: Any) -> list[list[int]]:
    return [[record.offset for record in batch] for batch in offset_range_reader.batches(reader, PLACE, 3, 8)]


def test_a_span_is_read_to_its_end_and_no_further() -> None:
    reader = Reader([([3, 4], 5), ([], 6), ([6, 7, 8], 9)])

    batches = read(reader)

    assert batches == [[3, 4], [], [6, 7]]
    assert reader.assigned == [PLACE]


def test_a_span_that_ends_with_markers_needs_no_further_record() -> None:
    reader = Reader([([3], 4), ([], 8)])

    batches = read(reader)

    assert batches == [[3], []]


def test_a_broker_that_gives_nothing_is_an_error_with_the_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_range_reader, "READ_SECONDS", 0.0)
    reader = Reader([([3], 4)])

    with pytest.raises(BrokerError, match=r"moderation\.outcomes\[2\] returns nothing from offset 4"):
        read(reader)
