# The record of a dead letter: the original, untouched, and beside it the reason; cut down only when it would not fit.
#
# Sizes are counted as Kafka's record format counts them, always rounded up. Sending it is the publisher's business.

from __future__ import annotations

import hashlib
from itertools import combinations
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from worker.domain.contract.outcomes import cut
from worker.domain.contract.raw_records import OmittedBytes, OmittedHeaders, Record

if TYPE_CHECKING:
    from collections.abc import Sequence


SMALLEST_LIMIT: Final = 4096
"""Bytes of a dead letter from which all parts of the original are left out, topics with long names included."""

BATCH_BYTES: Final = 61
"""The header of a record batch."""
RECORD_BYTES: Final = 21
"""Of one record: attributes, the largest length, time and offset differences, as the format allows them."""
LENGTH_BYTES: Final = 5
"""The longest form of one length or count."""


class DeadLetter(Struct, frozen=True):
    """A record that could not be carried out, and why."""

    record: Record
    topic: str
    outcome_id: str
    error_code: str
    error_message: str


class FittedDeadLetter(Struct, frozen=True):
    """A dead letter's record as it can be sent: no header is null, and key and value are not both null."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def fit(letter: DeadLetter, limit_bytes: int) -> FittedDeadLetter:
    """
    Return the record to send for a dead letter, at most ``limit_bytes`` long (the smaller of broker's and producer's limit).

    Key, value and headers are the original's, repeated header names included; ours come after them:

    - ``x-error-code``, ``x-error-message``, ``x-source-topic``, ``x-source-partition``, ``x-source-offset``,
      ``x-outcome-id``;
    - ``x-null-headers``: the names of the headers that were null and are written empty, in order, with commas between;
    - ``x-value-null: 1``: value and key were null, which cannot be sent, so the value is written empty.

    When that is too long, as few parts as possible are left out, the value first, then the headers, then the key. In place
    of each are ``x-<part>-omitted``, its size in bytes, and ``x-<part>-sha256``, in hexadecimal (``headers``: of each name and value
    in order, each preceded by its length in four bytes, big-endian; a null value is the length 0xffffffff alone).

    ``limit_bytes`` must be at least ``SMALLEST_LIMIT``: with less, the record may be longer than that.
    """
    for omitted in _OMISSIONS:
        fitted = _without(letter, omitted)
        if size_of(fitted) <= limit_bytes:
            break
    return fitted


_PARTS: Final = ("value", "headers", "key")
_OMISSIONS: Final = tuple(
    frozenset(parts) for count in range(len(_PARTS) + 1) for parts in combinations(_PARTS, count)
)
"""The parts that may be left out, in the order in which that is tried."""


def size_of(fitted: FittedDeadLetter) -> int:
    """Return the most bytes that a batch of this one record can take. Compression only shortens it: else it is sent as it is."""
    size = BATCH_BYTES + RECORD_BYTES + 3 * LENGTH_BYTES + len(fitted.key or b"") + len(fitted.value or b"")
    return size + sum(2 * LENGTH_BYTES + len(name.encode()) + len(value) for name, value in fitted.headers)


def _without(letter: DeadLetter, omitted: frozenset[str]) -> FittedDeadLetter:
    record = letter.record
    key, value, headers = record.key, record.value, record.headers
    added: list[tuple[str, bytes]] = [
        ("x-error-code", letter.error_code.encode()),
        ("x-error-message", cut(letter.error_message).encode("utf-8", "replace")),
        ("x-source-topic", letter.topic.encode()),
        ("x-source-partition", b"%d" % record.partition),
        ("x-source-offset", b"%d" % record.offset),
        ("x-outcome-id", letter.outcome_id.encode()),
    ]
    if isinstance(value, OmittedBytes):
        added += _omitted("value", value.size, value.sha256)
        value = b""
    if isinstance(key, OmittedBytes):
        added += _omitted("key", key.size, key.sha256)
        key = None
    if isinstance(headers, OmittedHeaders):
        added += _omitted("headers", headers.size, headers.sha256)
    if "value" in omitted and value:
        added += _omission("value", value, len(value))
        value = b""
    if "key" in omitted and key is not None:
        added += _omission("key", key, len(key))
        key = None
    if "headers" in omitted and headers:
        size = sum(len(name.encode()) + len(content or b"") for name, content in headers)
        added += _omission("headers", _canonical(headers), size)
        headers = ()
    if key is None and value is None:
        added.append(("x-value-null", b"1"))
        value = b""
    nulls = [name for name, content in headers if content is None]
    if nulls:
        added.append(("x-null-headers", ",".join(nulls).encode()))
    return FittedDeadLetter(key, value, [(name, content or b"") for name, content in headers] + added)


def _omission(part: str, content: bytes, size: int) -> list[tuple[str, bytes]]:
    return _omitted(part, size, hashlib.sha256(content).hexdigest())


def _omitted(part: str, size: int, digest: str) -> list[tuple[str, bytes]]:
    return [(f"x-{part}-omitted", b"%d" % size), (f"x-{part}-sha256", digest.encode())]


def _canonical(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    return b"".join(_counted(name.encode()) + _counted(content) for name, content in headers)


def _counted(content: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if content is None else len(content).to_bytes(4, "big") + content
