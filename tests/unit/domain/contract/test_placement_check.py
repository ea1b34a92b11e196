# The hash by which producers place a key: it must be theirs, bit by bit.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as of_kafka_python

from worker.domain.contract.placement_check import murmur2


@given(st.binary(max_size=200))
def test_a_key_is_hashed_as_kafka_python_hashes_it(key: bytes) -> None:
    assert murmur2(key) == of_kafka_python(key) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"abc", 479470107),
    ],
)
def test_a_key_is_hashed_as_java_hashes_it(key: bytes, signed: int) -> None:
    """The values of Apache Kafka's own test of its hash."""
    assert murmur2(key) == signed & 0xFFFFFFFF
