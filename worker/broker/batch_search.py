# Reads whole batches in search of a few records: a batch without the bytes that are looked for is never taken apart, and of a
# record that has them only what a search needs is read: its offset, its time and its value.
#
# kafka_private_parts.py lets a consumer return batches in this form (`scan`), topic_search.py reads a topic by it. What a value
# means is not known here. A batch that is too large or malformed is read record by record, as the worker reads it
# (bounded_record_batches.py).

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kafka.record.default_records import DefaultRecord
from kafka.record.util import decode_varint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.broker.bounded_record_batches import BoundedRecordBatch

    SearchTerms = Sequence[Sequence[bytes]]
    """A record matches if its bytes contain, of each group, at least one."""

LOW: Final = 0x7F
"""The bits of a varint's byte that are its value's: a larger byte is not the last one. Numbers are zigzag: a negative one is odd."""
AT_ONCE: Final = 16 * 1024 * 1024
"""The most bytes of records that are unpacked at once. A batch of ours holds some hundreds of kilobytes."""


class ScannedRecords(list[tuple[int, int, bytes | None]]):
    """
    What one batch has of the records that are looked for: offset, timestamp (milliseconds since 1970) and value of each.

    Attributes:
        read: How many records the batch has.

    """

    read: int = 0


class SearchedBatch:
    """A batch that yields one record in place of all: its value is a ``ScannedRecords``. In all else it is the batch itself."""

    def __init__(self, batch: BoundedRecordBatch, terms: SearchTerms) -> None:
        self._batch = batch
        self._terms = terms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[DefaultRecord]:
        batch = self._batch
        found = ScannedRecords(self._found())
        found.read = batch.records_count
        yield DefaultRecord(
            batch.size_in_bytes, batch.last_offset, batch.max_timestamp, batch.timestamp_type, None, found, []
        )

    def _found(self) -> list[tuple[int, int, bytes | None]]:
        batch = self._batch
        payload = batch.payload(AT_ONCE)
        found = None
        if payload is not None:
            base, first = batch.base_offset, batch.first_timestamp
            found = matching(payload, batch.records_count, self._terms, base, first)
        if found is None:
            return [
                (record.offset, record.timestamp, record.value)
                for record in batch
                if contains(record.value or b"", self._terms)
            ]
        if batch.timestamp_type == batch.LOG_APPEND_TIME:
            return [(offset, batch.max_timestamp, value) for offset, _, value in found]
        return found


def contains(value: bytes, terms: SearchTerms) -> bool:
    """Return whether a value has at least one of each group."""
    return all(any(needle in value for needle in group) for group in terms)


def matching(
    payload: bytes, count: int, terms: SearchTerms, base: int, first_time: int
) -> list[tuple[int, int, bytes | None]] | None:
    """
    Return offset, time and value of each record whose bytes match; None if the batch is malformed.

    ``payload`` has ``count`` records, whose offsets and times are relative to ``base`` and ``first_time``.
    """
    if not contains(payload, terms):
        return []
    try:
        return _matching(payload, count, terms, base, first_time)
    except (ValueError, IndexError):
        return None


def _matching(
    payload: bytes, count: int, terms: SearchTerms, base: int, first_time: int
) -> list[tuple[int, int, bytes | None]]:
    # A record, as it lies in its batch; all numbers but the attributes are varints:
    #
    #   length | attributes (1 byte) | time | offset | key's length | key | value's length | value | headers
    #          ^ begin                                                                                      ^ end
    found: list[tuple[int, int, bytes | None]] = []
    end = 0
    for _ in range(count):
        length, begin = _varint(payload, end)
        end = begin + length
        if length < 0 or end > len(payload):
            raise ValueError(f"a record of {length} bytes ends outside of its batch")
        if terms and not _has(payload, begin, end, terms):
            continue
        time, at = _varint(payload, begin + 1)
        offset, at = _varint(payload, at)
        key, at = _varint(payload, at)
        size, at = _varint(payload, at + max(key, 0))
        if at + size > end:
            raise ValueError(f"a value of {size} bytes ends outside of its record")
        found.append((base + offset, first_time + time, payload[at : at + size] if size >= 0 else None))
    return found


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """Return the number at that place, and what follows it: one or two bytes in place, which takes half of the time of a call."""
    first = payload[at]
    if first <= LOW:
        return first >> 1 ^ -(first & 1), at + 1
    second = payload[at + 1]
    if second <= LOW:
        number = first & LOW | second << 7
        return number >> 1 ^ -(number & 1), at + 2
    number, at = decode_varint(payload, at)
    return number, at


def _has(payload: bytes, begin: int, end: int, terms: SearchTerms) -> bool:
    for group in terms:
        for needle in group:
            if payload.find(needle, begin, end) >= 0:
                break
        else:
            return False
    return True
