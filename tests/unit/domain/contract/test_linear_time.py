# Whatever a record holds, four times the bytes take about four times as long to read: no shape of it stops the loop.
#
# CPU time of this thread, the least of some rounds, as a ratio: a slow or busy machine changes nothing. What is quadratic
# takes sixteen times as long, which is far from what is allowed here.

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.domain.samples import BAN, DECODER, Record, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 100_000
"""Bytes. Four times as much is what a producer sends by default at most, nearly."""
ALLOWED = 9.0
"""Times as long, for four times the bytes: linear is 4, quadratic 16."""
FLOOR = 0.002
"""Seconds, which reading may take whatever the ratio: what is not worth measuring."""

HEAD = encoded(BAN)[:-1]


def grown(head: bytes, unit: bytes, tail: bytes) -> Callable[[int], bytes]:
    """A shape that repeats a unit until it has this many bytes."""
    return lambda size: head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


def nested(head: bytes, opening: bytes, closing: bytes, tail: bytes) -> Callable[[int], bytes]:
    """A shape that is nested until it has this many bytes."""

    def shape(size: int) -> bytes:
        depth = (size - len(head) - len(tail)) // (len(opening) + len(closing))
        return head + opening * depth + closing * depth + tail

    return shape


def names(size: int) -> bytes:
    """As many fields as there is room for, each of its own name."""
    return encoded({f"{number:x}": 1 for number in range(size // 13)} | BAN)


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "a string of escaped quotes behind open brackets": grown(b"[" * 3000 + b'"', b'\\"', b""),
    "the same inside an object": grown(b'{"command_id":"c","x":' + b"[" * 3000 + b'"', b'\\"', b""),
    "the same, closed": grown(b'{"x":' + b"[" * 3000 + b'"', b'\\"', b'"' + b"]" * 3000 + b"}"),
    "quotes behind open brackets": grown(b'{"x":' + b"[" * 3000, b'"', b""),
    "backslashes behind open brackets": grown(b'{"x":' + b"[" * 3000 + b'"', b"\\", b""),
    "backslashes": grown(HEAD + b',"x":"', b"\\\\", b'"}'),
    "escaped quotes": grown(HEAD + b',"x":"', b'\\"', b'"}'),
    "escaped characters": grown(HEAD + b',"x":"', b"\\u00e9", b'"}'),
    "escaped pairs": grown(HEAD + b',"x":"', b"\\ud83d\\ude00", b'"}'),
    "halves of pairs": grown(HEAD + b',"reason":"', b"\\ud800", b'"}'),
    "an open string": grown(HEAD + b',"x":"', b"a", b""),
    "an open string of quotes and brackets": grown(HEAD + b',"x":"', b'["', b""),
    "open lists": grown(HEAD + b',"x":', b"[", b""),
    "open objects": grown(HEAD + b',"x":', b'{"a":', b""),
    "open objects and lists": grown(HEAD + b',"x":', b'[{"a":', b""),
    "closed brackets": grown(HEAD, b"]", b""),
    "nested lists": nested(HEAD + b',"x":', b"[", b"]", b"}"),
    "nested objects": nested(HEAD + b',"metadata":', b'{"a":', b"}", b"1}"),
    "nested lists and objects": nested(HEAD + b',"metadata":', b'{"a":[', b"]}", b"}"),
    "nested lists with strings between": nested(HEAD + b',"x":', b'["]\\"[",', b',"["]', b"}"),
    "lists beside each other": grown(HEAD + b',"x":[', b"[],", b"1]}"),
    "objects beside each other": grown(HEAD + b',"x":[', b"{},", b"1]}"),
    "small objects beside each other": grown(HEAD + b',"x":[', b'{"a":1},', b"1]}"),
    "lists beside each other, far down": grown(HEAD + b',"x":' + b"[" * 70, b"[]", b"]" * 70 + b"}"),
    "lists at the edge of what is deep": grown(HEAD + b',"x":' + b"[" * 64, b"[],", b"1" + b"]" * 64 + b"}"),
    "many deep fields": grown(HEAD, b',"x":' + b"[" * 80 + b"]" * 80, b"}"),
    "many shallow fields": grown(HEAD + b',"x":' + b"[" * 65 + b"]" * 65, b',"x":[]', b"}"),
    "metadata of lists": grown(HEAD + b',"metadata":{"a":[', b"[],", b"1]}}"),
    "metadata of numbers": grown(HEAD + b',"metadata":{"a":[', b"1,", b"1]}}"),
    "metadata of numbers, one of which is too long": grown(
        HEAD + b',"metadata":{"a":[' + b"9" * 5000 + b",", b"1,", b"1]}}"
    ),
    "metadata of large numbers": grown(HEAD + b',"metadata":{"a":[', b"1e300,", b"1]}}"),
    "metadata of names": lambda size: encoded(BAN | {"metadata": {f"{n:x}": 1 for n in range(size // 13)}}),
    "metadata of escapes": grown(HEAD + b',"metadata":{"a":"', b"\\u00e9", b'"}}'),
    "metadata of texts": grown(HEAD + b',"metadata":{"a":[', b'"",', b"1]}}"),
    "metadata of text": grown(HEAD + b',"metadata":{"a":"', b"a", b'"}}'),
    "metadata of blanks": grown(HEAD + b',"metadata":{"a":', b" ", b"1}}"),
    "member_info with many fields": grown(HEAD + b',"member_info":{"role":"Admin"', b',"x":1', b"}}"),
    "users": grown(b'{"command_id":"c","user_ids":[', b'"u",', b'"u"]}'),
    "users that are numbers": grown(b'{"command_id":"c","user_ids":[', b"1,", b'"u"]}'),
    "users that are lists": grown(b'{"command_id":"c","user_ids":[', b"[],", b'"u"]}'),
    "a user that is a text": grown(b'{"command_id":"c","user_ids":["', "é".encode(), b'"]}'),
    "blanks in a user": grown(HEAD + b',"user_ids":["', b" ", b'"]}'),
    "the same field": grown(HEAD, b',"duration":1', b"}"),
    "the same unknown field": grown(HEAD, b',"a":1', b"}"),
    "many fields": names,
    "a field with a long name": grown(HEAD + b',"', b"userIds", b'":1}'),
    "numbers that are too large": grown(HEAD + b',"x":[', b"1e999999,", b"1]}"),
    "integers that are too long": grown(HEAD + b',"x":[', b"9" * 4301 + b",", b"1]}"),
    "integers that are nearly too long": grown(HEAD + b',"x":[', b"9" * 4300 + b",", b"1]}"),
    "numbers beside an integer that is too long": grown(HEAD + b',"x":[' + b"9" * 5000, b",1", b"]}"),
    "one integer": grown(HEAD + b',"duration":', b"9", b"}"),
    "one number with a point": grown(HEAD + b',"duration":1.', b"9", b"}"),
    "one exponent": grown(HEAD + b',"duration":1e', b"9", b"}"),
    "zeros": grown(HEAD + b',"duration":0.', b"0", b"1}"),
    "minus signs": grown(HEAD + b',"duration":', b"-", b"}"),
    "NaN": grown(HEAD + b',"x":[', b"NaN,", b"1]}"),
    "Infinity in fields": grown(HEAD, b',"a":Infinity', b"}"),
    "blanks": grown(b"", b" ", encoded(BAN)),
    "line ends": grown(HEAD, b"\n", b"}"),
    "commas": grown(HEAD, b",", b"}"),
    "colons": grown(HEAD + b',"reason":"', b":", b'"}'),
    "NULs": grown(b"", b"\x00", b""),
    "NULs behind a command": grown(encoded(BAN), b"\x00", b""),
    "bytes that are not UTF-8": grown(HEAD + b',"x":"', b"a", b'\xff"}'),
    "nothing but such bytes": grown(b"", b"\xff", b""),
    "surrogates": grown(HEAD + b',"x":"', b"\xed\xa0\x80", b'"}'),
    "characters of four bytes": grown(HEAD + b',"reason":"', "😀".encode(), b'"}'),
    "characters that nobody sees": grown(HEAD + b',"issuer":"', "\u200b".encode(), b'"}'),
    "accents upon accents": grown(HEAD + b',"issuer":"', "\u0301\u0316".encode(), b'"}'),
    "a long action": grown(b'{"action":"', b"ban_", b'","user_ids":["u"]}'),
    "a long time": grown(HEAD + b',"not_after":"', b"9", b'"}'),
    "JSON Lines": grown(b"", encoded(BAN) + b"\n", b""),
    "a list of commands": grown(b"[", encoded(BAN) + b",", b"1]"),
    "JSON in JSON": grown(b'"', b'{\\"a\\":', b'"'),
    "base64": grown(b"", b"eyJhIjox", b""),
    "a form": grown(b"", b"a=b&", b""),
    "letters": grown(b"", b"a", b""),
    "an envelope of texts": grown(b'{"x":"{', b'\\"action', b'"}'),
    "an event": grown(b'{"specversion":"1.0","data":{"x":[', b"[],", b"1]}}"),
    "an event with many fields": grown(b'{"specversion":"1.0","data":{"x":1', b',"x":1', b"}}"),
}


def seconds(value: bytes, rounds: int = 3) -> float:
    """The CPU time that reading the record takes, at least."""
    record = Record(value)
    spent = []
    for _ in range(rounds):
        begin = time.thread_time()
        DECODER.decode(record)
        spent.append(time.thread_time() - begin)
    return min(spent)


def assert_linear(shape: Callable[[int], bytes]) -> None:
    small, large = shape(SIZE), shape(4 * SIZE)
    limit = max(ALLOWED * len(large) / len(small) / 4, 1.0)
    for _ in range(3):  # what only happened once was something else on the machine
        taken, first = seconds(large), seconds(small)
        if taken <= max(FLOOR, limit * first):
            return
    raise AssertionError(f"{len(large)} bytes take {taken:.4f} s, and {len(small)} bytes {first:.4f} s")


@pytest.mark.parametrize("shape", HOSTILE.values(), ids=list(HOSTILE))
def test_four_times_the_bytes_take_about_four_times_as_long(shape: Callable[[int], bytes]) -> None:
    assert_linear(shape)


PIECES = st.sampled_from([
    *(b"[", b"]", b"{", b"}", b'"', b"\\", b'\\"', b":", b",", b" ", b"\n", b"\x00", b"a", b"1", b"-", b".", b"e9", b"\xff"),
    *(b'{"a":', b'"a":1,', b"[],", b"\\u00e9", b"\\ud800", b"NaN", b"null,", b"9" * 50, "\u200b".encode(), "😀".encode()),
    *(b'"user_ids":["', b'"metadata":{', b'"command_id":"c",', b'"data":{', b'"specversion":"1",', b"[" * 70, b"]" * 70),
])  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([b"", b"{", HEAD + b",", HEAD + b',"x":', HEAD + b',"metadata":{"a":"', b"[" * 3000]),
    st.lists(PIECES, min_size=1, max_size=6).map(b"".join),
    st.lists(PIECES, max_size=3).map(b"".join),
)
def test_no_shape_that_is_repeated_takes_more_than_its_length(head: bytes, unit: bytes, tail: bytes) -> None:
    assert_linear(grown(head, unit, tail))


def test_what_is_read_of_the_longest_shapes_is_still_what_they_say() -> None:
    """Fast because it is read, and not because it is given up."""
    for shape in (HOSTILE["nested lists"], HOSTILE["lists beside each other"], HOSTILE["many fields"]):
        decoded = DECODER.decode(Record(shape(4 * SIZE)))

        assert decoded.command_id == BAN["command_id"]
        assert json.loads(encoded(BAN))["command_id"] == BAN["command_id"]
