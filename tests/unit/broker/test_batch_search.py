# Batches searched without taking them apart: the same records are found as by reading one after another.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder

from worker.broker import batch_search, bounded_record_batches
from worker.broker.batch_search import SearchedBatch, contains

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
SMALL = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.sampled_from([b"needle", b"hay needle hay", b"x" * 200, b"x" * 9_000]),
)
ROWS = st.lists(
    st.tuples(SMALL, SMALL, st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=9)), max_size=2)),
    min_size=1,
    max_size=20,
)
NEEDLES = st.lists(st.lists(st.sampled_from([b"needle", b"x", b"\x01"]), min_size=1, max_size=2), max_size=2)


BoundedRecordBatch: Any = bounded_record_batches.BoundedRecordBatch


TIMES: Any = st.lists(st.integers(-20_000, 10_000_000), min_size=20, max_size=20)


def batch_of(rows: list[Row], codec: int = 0, times: Sequence[int] = range(20)) -> Any:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 10_000_000)
    for place, (key, value, headers) in enumerate(rows):
        assert builder.append(place * 30, 100_000 + times[place], key, value, headers)
    return BoundedRecordBatch(builder.build())


def found_in(batch: Any, terms: list[list[bytes]]) -> list[tuple[int, int, bytes | None]]:
    (record,) = SearchedBatch(batch, terms)
    assert record.offset == batch.last_offset
    assert record.value.read == batch.records_count
    return list(record.value)


@given(ROWS, NEEDLES, st.sampled_from([0, 1, 3, 4]), TIMES)
def test_no_record_that_matches_is_missed_and_each_is_what_it_was(
    rows: list[Row], terms: list[list[bytes]], codec: int, times: list[int]
) -> None:
    """Lengths, times and offsets of any size; the time of a record may be before the one of its batch's first."""
    found = found_in(batch_of(rows, codec, times), terms)

    every = [(place * 30, 100_000 + times[place], value) for place, (_, value, _) in enumerate(rows)]
    assert set(found) <= set(every)
    assert [each for each in every if contains(each[2] or b"", terms)] == [
        each for each in found if contains(each[2] or b"", terms)
    ]
    if not terms:
        assert found == every


@pytest.mark.parametrize("codec", [0, 3])
def test_a_batch_that_is_too_large_to_be_unpacked_at_once_is_searched_as_well(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_search, "AT_ONCE", 100)
    rows: list[Row] = [(None, b"hay" * 100, []), (None, b"needle" + b"hay" * 100, [])]

    assert [offset for offset, _, _ in found_in(batch_of(rows, codec), [[b"needle"]])] == [30]


def test_a_malformed_batch_is_read_as_the_worker_reads_it() -> None:
    """One record replaces what no decoder can read; what comes before it is found."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000)
    for offset in range(3):
        builder.append(offset, 0, None, b"needle %d" % offset, [])
    broken = bytearray(builder.build())
    at = broken.index(b"needle 1") - 7
    broken[at] = 0x7F  # the second record's length: beyond the end

    found = found_in(BoundedRecordBatch(broken), [[b"needle"]])

    assert (0, 0, b"needle 0") in found
