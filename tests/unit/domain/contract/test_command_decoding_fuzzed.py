# The decoder against records that nobody would write: it never raises, and its fast path and its careful one agree.
#
# Valid commands are damaged as bytes and as values, because noise alone never gets past the first bracket.

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from tests.unit.domain.samples import DECODER, EVERYTHING, KICK, ONE_OF_EACH, UPDATE, Record
from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.cloudevent_envelope import envelope_of
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.command_wire_format import WireCommand, is_plain
from worker.domain.contract.field_checks import FIELDS, REQUIRED
from worker.domain.contract.parameters import PARAMETERS
from worker.domain.contract.record_diagnosis import read
from worker.domain.contract.rejections import REJECTIONS, Rejected

if TYPE_CHECKING:
    from random import Random

    from tests.unit.domain.samples import Headers

TYPED = msgspec.json.Decoder(WireCommand)
METADATA = msgspec.json.Decoder(dict[str, Any])

SNIPPETS = [
    *(
        b'"',
        b":",
        b",",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b" ",
        b"\n",
        b"0",
        b"-",
        b".5",
        b"e9",
        b"null",
        b"true",
        b"NaN",
    ),
    *(b"\\u003a", b"\\u003A", b"\\u0000", b"\\u2028", b"\\ud83d\\ude00", b"\\ud800", b'\\"', b"\\\\u003a"),
    *(b"\x00", b"\x7f", b"\xff", b"\xc2\x85", "\u2028".encode(), "语".encode(), "😀".encode() * 9),
    *(b'"duration":1,', b'"x":1,', b'"metadata":{"a":1},', b'"issued_at":"12:00",', b'"reason":"a:b",'),
    *(b"1e999", b"-1e999", b"1e-999", b"1e15", b"9" * 4300, b"9" * 4301, b"-" + b"1" * 4301, b"1" * 25),
    *(b"[" * 40 + b"]" * 40, b'{"x":' * 33 + b"1" + b"}" * 33, b"[" * 2000, b"a" * 60),
]
VALID = [
    *(json.dumps(command).encode() for command in (*ONE_OF_EACH, EVERYTHING)),
    *(msgspec.json.encode(command) for command in (*ONE_OF_EACH, EVERYTHING)),
    json.dumps({**KICK, "reason": "垃圾信息: 😀", "issuer": "检测"}).encode(),
    json.dumps({**KICK, "reason": "垃圾信息: 😀", "user_ids": ["用户", "a:b"]}, ensure_ascii=False).encode(),
    json.dumps(
        {**UPDATE, "member_info": {"name_card": "语:", "custom_info": "\u00e9\n"}}, ensure_ascii=False
    ).encode(),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_id", "ce_time", "traceparent", "other"]), st.none() | st.binary(max_size=140)
    ),
    max_size=4,
).map(tuple)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid command after one to three cuts, insertions or repetitions."""
    value = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(value)))
        length = draw(st.sampled_from([0, 0, 1, 2, 5, 20]))
        other = draw(st.integers(0, len(value)))
        snippet = draw(st.sampled_from([*SNIPPETS, b"", value[other : other + 25]]) | st.binary(max_size=3))
        value = value[:place] + snippet + value[place + length :]
    return value


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """A valid command with up to three fields that are missing, new, or something else."""
    command = dict(draw(st.sampled_from([*ONE_OF_EACH, EVERYTHING])))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*FIELDS, "userids"]) | st.text(max_size=5))
        if draw(st.booleans()):
            command[name] = draw(JSON)
        else:
            command.pop(name, None)
    return json.dumps(command, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


RIGHT: dict[str, list[Any]] = {
    "command_id": ["c"],
    "action": [*ACTIONS, "group.mute"],
    "group_id": ["g"],
    "room_id": ["r"],
    "user_ids": [["u"], ["u", "v"], ["administrator"], ["u", "ROOT"], ["moderator"]],
    "duration": [0, 60],
    "banned_until": ["2030-01-01T00:00:00Z", "2200-01-01T00:00:00Z", "tomorrow"],
    "reason": ["", "r"],
    "member_info": [{}, {"role": "Admin"}],
    "app": ["main", "second", "third"],
    "not_after": ["2030-01-01T00:00:00Z", "2030-01-01"],
    "priority": ["urgent", "normal"],
    "issued_at": ["", "then"],
    "issuer": ["", "i"],
    "metadata": [{}, {"a": [1]}],
}
"""Values of each field that are right by themselves, though not each with each."""


@st.composite
def recombined(draw: st.DrawFn) -> dict[str, Any]:
    """A valid command with up to three fields that are missing, new or another, each of them right by itself."""
    command = dict(draw(st.sampled_from([*ONE_OF_EACH, EVERYTHING])))
    for name in draw(st.lists(st.sampled_from(list(RIGHT)), max_size=3, unique=True)):
        if draw(st.booleans()) or name in REQUIRED:
            command[name] = draw(st.sampled_from(RIGHT[name]))
        else:
            command.pop(name, None)
    return command


RECORDS = damaged() | altered() | st.binary() | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=600, deadline=None)
@given(RECORDS, HEADERS)
def test_no_record_makes_the_decoder_raise(value: bytes, headers: Headers) -> None:
    """And whatever it says of a record can be put into an outcome."""
    decoded = DECODER.decode(Record(value, headers=headers))

    msgspec.json.encode(
        [decoded.command_id, decoded.issuer, decoded.issued_at, decoded.metadata, decoded.traceparent]
    )
    if isinstance(decoded, Rejected):
        assert decoded.code in REJECTIONS
        assert len(decoded.message.encode()) <= 512
        assert decoded.message.isprintable()
        msgspec.json.encode(decoded)


@settings(max_examples=600, deadline=None)
@given(damaged() | altered())
def test_what_the_fast_path_takes_alone_the_careful_one_finds_right(value: bytes) -> None:
    """The other way round as well: what the typed decoder refuses, the careful one can explain."""
    reading = read(value)
    try:
        wire = TYPED.decode(value)
        if wire.metadata is not UNSET:
            METADATA.decode(wire.metadata)
    except (ValueError, RecursionError):
        assert reading.faults
        return

    if is_plain(value, wire):
        assert not reading.faults


@settings(max_examples=600, deadline=None)
@given(recombined(), st.sampled_from([(), (("ce_id", b"c"),)]))
def test_fields_are_taken_together_just_when_nothing_is_found_wrong_with_them(
    fields: dict[str, Any], headers: Headers
) -> None:
    """Each rule about fields together is there twice: ``_judge`` keeps it, ``_faults_together`` says what breaks it."""
    value = json.dumps(fields).encode()
    reading = read(value)
    assert not reading.faults
    faults = list(DECODER._faults_together(reading, envelope_of(headers)))

    decoded = DECODER.decode(Record(value, headers=headers))

    assert isinstance(decoded, Command) is not bool(faults)
    if isinstance(decoded, Rejected):
        assert (decoded.code, decoded.field) == (faults[0].code, faults[0].field)


def test_each_field_of_a_command_is_tried_together_with_the_others() -> None:
    assert set(RIGHT) == set(FIELDS)


@settings(max_examples=400, deadline=None)
@given(damaged() | altered())
def test_a_command_says_what_an_ordinary_parser_reads(value: bytes) -> None:
    decoded = DECODER.decode(Record(value))

    if isinstance(decoded, Command):
        fields = json.loads(value)
        assert decoded.command_id == fields["command_id"]
        assert decoded.action.name == fields["action"]
        assert decoded.target == fields[decoded.action.target]
        assert decoded.users == tuple(dict.fromkeys(fields["user_ids"]))
        for name in ("issuer", "issued_at", "metadata"):
            assert getattr(decoded, name) == fields.get(name)
        assert msgspec.to_builtins(decoded.parameters) == {
            name: value for name, value in fields.items() if name in PARAMETERS
        }
        assert set(fields) <= set(FIELDS)


def escaped(text: str, random: Random) -> str:
    """JSON with some of the characters of its strings written as escapes, as every encoder may."""

    def string(found: re.Match[str]) -> str:
        return "".join(
            f"\\u{ord(one):04x}" if one != '"' and random.random() < 0.2 else one for one in found[0]
        )

    return re.sub(r'"[^"\\]*"', string, text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*ONE_OF_EACH, EVERYTHING]), st.randoms())
def test_neither_escapes_nor_blanks_nor_order_change_a_command(
    command: dict[str, Any], random: Random
) -> None:
    names = list(command)
    random.shuffle(names)
    text = json.dumps({name: command[name] for name in names}, indent=random.choice([None, 1]))

    decoded = DECODER.decode(Record(escaped(text, random).encode()))

    assert isinstance(decoded, Command)
    assert decoded == DECODER.decode(Record(json.dumps(command).encode()))
