# What a dead letter carries: the record untouched, the reason, and as little left out as its size demands.

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder

from tests.unit.domain.samples import Record
from worker.domain.contract.dead_letter_encoding import (
    SMALLEST_LIMIT,
    DeadLetter,
    FittedDeadLetter,
    fit,
    size_of,
)
from worker.domain.contract.raw_records import OmittedBytes, OmittedHeaders

if TYPE_CHECKING:
    from tests.unit.domain.samples import Headers

MEGABYTE = 2**20
ALWAYS_THERE = [
    "x-error-code",
    "x-error-message",
    "x-source-topic",
    "x-source-partition",
    "x-source-offset",
    "x-outcome-id",
]


def letter(record: Record, message: str = "reason is missing", topic: str = "commands") -> DeadLetter:
    return DeadLetter(record, topic, f"{topic}-{record.partition}-{record.offset}", "missing_field", message)


def named(fitted: FittedDeadLetter) -> dict[str, bytes]:
    """The headers by name; of a repeated one the last, as readers take it."""
    return dict(fitted.headers)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def built_bytes(fitted: FittedDeadLetter, compression: int) -> int:
    """How long a batch of this one record really is, as kafka-python builds it."""
    builder = DefaultRecordBatchBuilder(2, compression, True, 2**40, 7, 2**30, 2**31 - 1)
    assert builder.append(0, 2**45, fitted.key, fitted.value, fitted.headers) is not None
    return len(builder.build())


def test_the_record_is_kept_untouched_and_the_reason_comes_after_it() -> None:
    headers: Headers = (("trace", b"1"), ("x-error-code", b"older"), ("trace", b"2"), ("empty", b""))

    fitted = fit(letter(Record(b"value\xff", b"\x00key", headers)), MEGABYTE)

    assert (fitted.key, fitted.value) == (b"\x00key", b"value\xff")
    assert fitted.headers == [
        *headers,
        ("x-error-code", b"missing_field"),
        ("x-error-message", b"reason is missing"),
        ("x-source-topic", b"commands"),
        ("x-source-partition", b"3"),
        ("x-source-offset", b"42"),
        ("x-outcome-id", b"commands-3-42"),
    ]


def test_a_message_is_cut_to_512_bytes_and_never_inside_a_character() -> None:
    message = named(fit(letter(Record(b"v"), "语" * 400), MEGABYTE))["x-error-message"]

    assert message.decode() == "语" * 170


def test_a_message_that_cannot_be_encoded_is_no_reason_to_fail() -> None:
    assert named(fit(letter(Record(b"v"), "a\ud800"), MEGABYTE))["x-error-message"] == b"a?"


def test_null_headers_are_written_empty_and_named() -> None:
    headers: Headers = (("a", None), ("b", b"1"), ("a", b"2"), ("c", None))

    fitted = fit(letter(Record(b"v", headers=headers)), MEGABYTE)

    assert fitted.headers[:4] == [("a", b""), ("b", b"1"), ("a", b"2"), ("c", b"")]
    assert named(fitted)["x-null-headers"] == b"a,c"


@pytest.mark.parametrize("headers", [(), (("a", b""),)])
def test_a_record_without_null_headers_says_nothing_of_them(headers: Headers) -> None:
    assert "x-null-headers" not in named(fit(letter(Record(b"v", headers=headers)), MEGABYTE))


def test_a_record_with_neither_key_nor_value_gets_an_empty_value_that_stands_for_null() -> None:
    fitted = fit(letter(Record(None, None)), MEGABYTE)

    assert (fitted.key, fitted.value, named(fitted)["x-value-null"]) == (None, b"", b"1")


@pytest.mark.parametrize(("value", "key"), [(None, b"k"), (b"", None), (b"", b""), (b"v", None), (None, b"")])
def test_a_record_that_can_be_sent_as_it_is_is_sent_as_it_is(value: bytes | None, key: bytes | None) -> None:
    fitted = fit(letter(Record(value, key)), MEGABYTE)

    assert (fitted.key, fitted.value) == (key, value)
    assert "x-value-null" not in named(fitted)


def test_a_value_that_does_not_fit_is_left_out_and_can_be_recognised() -> None:
    value = b"x" * MEGABYTE

    fitted = fit(letter(Record(value, b"k", (("a", b"1"),))), MEGABYTE)

    assert (fitted.key, fitted.value, fitted.headers[0]) == (b"k", b"", ("a", b"1"))
    assert named(fitted)["x-value-omitted"] == b"1048576"
    assert named(fitted)["x-value-sha256"] == sha256(value)


def test_what_was_never_read_is_noted_by_size_and_hash() -> None:
    """It would be hundreds of megabytes."""
    headers: Any = OmittedHeaders(7, "cc")
    unread = Record(OmittedBytes(9, "aa"), OmittedBytes(8, "bb"), headers)

    fitted = fit(letter(unread), MEGABYTE)

    assert (fitted.key, fitted.value) == (None, b"")
    assert fitted.headers[len(ALWAYS_THERE) :] == [
        ("x-value-omitted", b"9"),
        ("x-value-sha256", b"aa"),
        ("x-key-omitted", b"8"),
        ("x-key-sha256", b"bb"),
        ("x-headers-omitted", b"7"),
        ("x-headers-sha256", b"cc"),
    ]


def test_headers_that_do_not_fit_are_left_out_alone_when_that_is_enough() -> None:
    headers: Headers = (("ä", b"x" * 5000), ("n", None))

    fitted = fit(letter(Record(b"value", b"k", headers)), SMALLEST_LIMIT)

    assert (fitted.key, fitted.value) == (b"k", b"value")
    assert [name for name, _ in fitted.headers] == [*ALWAYS_THERE, "x-headers-omitted", "x-headers-sha256"]
    assert named(fitted)["x-headers-omitted"] == b"5003"
    canonical = (
        b"\x00\x00\x00\x02\xc3\xa4\x00\x00\x13\x88" + b"x" * 5000 + b"\x00\x00\x00\x01n\xff\xff\xff\xff"
    )
    assert named(fitted)["x-headers-sha256"] == sha256(canonical)


def test_a_key_that_does_not_fit_is_left_out() -> None:
    fitted = fit(letter(Record(b"value", b"k" * 5000)), SMALLEST_LIMIT)

    assert (fitted.key, fitted.value) == (None, b"value")
    assert (named(fitted)["x-key-omitted"], named(fitted)["x-key-sha256"]) == (b"5000", sha256(b"k" * 5000))


def test_a_tombstone_whose_key_does_not_fit_can_still_be_sent() -> None:
    fitted = fit(letter(Record(None, b"k" * 5000)), SMALLEST_LIMIT)

    assert (fitted.key, fitted.value) == (None, b"")
    assert named(fitted)["x-value-null"] == b"1"
    assert "x-value-omitted" not in named(fitted)


def test_the_value_goes_before_the_headers_and_these_before_the_key() -> None:
    """The key is the target: it is what a person looks for first."""
    part = b"x" * 3000
    record = Record(part, part, (("h", part),))

    whole, two, one = (fit(letter(record), limit) for limit in (12_000, 8_000, SMALLEST_LIMIT))

    assert (whole.value, whole.key, whole.headers[0]) == (part, part, ("h", part))
    assert (two.value, two.key, two.headers[0]) == (b"", part, ("h", part))
    assert (one.value, one.key, one.headers[0][0]) == (b"", part, "x-error-code")


def test_everything_may_be_left_out() -> None:
    record = Record(b"v" * 9000, b"k" * 9000, (("h", b"h" * 9000),))

    fitted = fit(letter(record), SMALLEST_LIMIT)

    assert (fitted.key, fitted.value) == (None, b"")
    omitted = [f"x-{part}-{what}" for part in ("value", "key", "headers") for what in ("omitted", "sha256")]
    assert [name for name, _ in fitted.headers] == [*ALWAYS_THERE, *omitted]


def test_below_the_smallest_limit_as_much_as_possible_is_left_out() -> None:
    fitted = fit(letter(Record(b"v" * 9000, b"k", (("h", b"h"),))), 10)

    assert (fitted.key, fitted.value) == (None, b"")


RECORDS: st.SearchStrategy[Any] = st.builds(
    Record,
    value=st.none() | st.binary(max_size=3000),
    key=st.none() | st.binary(max_size=3000),
    headers=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8"), max_size=9), st.none() | st.binary(max_size=900)),
        max_size=4,
    ).map(tuple),
    offset=st.integers(0, 2**63 - 1),
    partition=st.integers(0, 2**31 - 1),
)


@settings(deadline=None)
@given(RECORDS, st.text(max_size=600), st.integers(SMALLEST_LIMIT, 12_000), st.sampled_from([0, 1, 3, 4]))
def test_every_dead_letter_fits_and_is_something_that_kafka_takes(
    record: Record, message: str, limit: int, compression: int
) -> None:
    """The batch is really built, by kafka-python, with each compression; the topic's name is as long as Kafka allows."""
    fitted = fit(letter(record, message, "t" * 249), limit)

    assert fitted.key is not None or fitted.value is not None
    assert built_bytes(fitted, compression) <= size_of(fitted) <= limit


@settings(deadline=None)
@given(RECORDS)
def test_what_fits_is_never_touched(record: Record) -> None:
    fitted = fit(letter(record), MEGABYTE)

    assert fitted.key == record.key
    assert fitted.value == record.value or (record.value is None and record.key is None)
    assert fitted.headers[: len(record.headers)] == [(name, value or b"") for name, value in record.headers]


@pytest.mark.parametrize("compression", [0, 1, 3, 4])
def test_the_size_is_never_underrated_for_bytes_that_no_compressor_can_shorten(compression: int) -> None:
    noise = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(MEGABYTE // 32))
    fitted = FittedDeadLetter(b"k", noise, [("h", b"v")])

    assert built_bytes(fitted, compression) <= size_of(fitted)


def test_many_small_headers_are_not_underrated() -> None:
    fitted = FittedDeadLetter(b"k", b"v", [("h" * 64, b"v" * 64)] * 1000)

    assert built_bytes(fitted, 0) <= size_of(fitted)
